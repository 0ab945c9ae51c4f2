//! The only place that reads the system's clock and its randomness.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tally_ports::{Clock, Entropy};
use tally_types::{Span, Timestamp};

/// The wall clock plus an offset that only grows, and only under `tally dev`.
#[derive(Debug, Default)]
pub(crate) struct WallClock {
    offset_millis: AtomicU64,
}

impl WallClock {
    /// Moves the clock ahead for everything that reads it; answers by how much it is ahead now.
    pub(crate) fn advance(&self, by: Span) -> Span {
        let before = self.offset_millis.fetch_add(by.millis(), Ordering::SeqCst);
        Span::from_millis(before.saturating_add(by.millis()))
    }
}

impl Clock for WallClock {
    #[allow(clippy::disallowed_methods, reason = "the composition root's clock")]
    fn now(&self) -> Timestamp {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = i64::try_from(wall.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(millis).plus(Span::from_millis(self.offset_millis.load(Ordering::SeqCst)))
    }
}

/// The operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[allow(clippy::disallowed_methods, reason = "the composition root's randomness")]
    #[allow(clippy::expect_used, reason = "a system without randomness must not make keys or ids")]
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system gives randomness");
    }
}
