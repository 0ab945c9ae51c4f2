//! Time and randomness, so that the rest can be given both.

use tally_types::Timestamp;

/// The time. Under `tally dev` it is the wall clock plus an offset that tests may advance, so services look
/// at it in short turns instead of sleeping through to a deadline.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// Randomness that nobody can guess.
pub trait Entropy: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}
