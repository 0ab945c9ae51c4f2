//! Proof that a block is what its header says and that the header cost work. Whether the header
//! belongs to the chain, and whether its target is the one that the chain's rules demand, is for
//! who knows the chain.

mod merkle;
mod pow;

pub use merkle::{MerkleError, verify_merkle_root};
pub use pow::{Pow, PowError, Target, check_pow};

/// A hash as nodes print it: reversed, in hexadecimal.
struct Printed<'a>(&'a [u8; 32]);

impl core::fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().rev().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests;
