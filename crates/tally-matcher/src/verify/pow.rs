//! Proof of work of one header.

use thiserror::Error;

use super::Printed;
use crate::{Header, sha256d};

/// The function whose result must not exceed the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pow {
    /// Double SHA-256: Bitcoin, Bitcoin Cash.
    Sha256d,
    /// scrypt with N = 1024, r = 1, p = 1: Litecoin. About a tenth of a millisecond.
    Scrypt,
}

/// The header's proof of work does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PowError {
    /// The compact target is zero, negative or more than 256 bits.
    #[error("compact target {bits:#010x} is zero, negative or too large")]
    InvalidTarget {
        /// As in the header.
        bits: u32,
    },
    /// The hash is above the target.
    #[error("proof-of-work hash {} is above the target of {bits:#010x}", Printed(hash))]
    AboveTarget {
        /// Internal byte order.
        hash: [u8; 32],
        /// As in the header.
        bits: u32,
    },
    /// The parameters of scrypt were refused; they are constants, so this does not happen.
    #[error("scrypt refuses its parameters")]
    Scrypt,
}

/// Checks that the header's hash does not exceed the target that the header itself names.
///
/// A liar may name an easy one: compare [`Target`] with what the chain demands.
///
/// # Errors
/// [`PowError`].
pub fn check_pow(header: &[u8; 80], pow: Pow) -> Result<(), PowError> {
    let bits = Header::new(*header).bits();
    let target = Target::from_compact(bits)?;
    let hash = match pow {
        Pow::Sha256d => sha256d(header),
        Pow::Scrypt => scrypt_hash(header)?,
    };
    let mut number = hash;
    number.reverse();
    if number <= target.0 { Ok(()) } else { Err(PowError::AboveTarget { hash, bits }) }
}

fn scrypt_hash(header: &[u8; 80]) -> Result<[u8; 32], PowError> {
    let mut hash = [0; 32];
    let params = scrypt::Params::new(10, 1, 1, hash.len()).map_err(|_| PowError::Scrypt)?;
    scrypt::scrypt(header, header, &params, &mut hash).map_err(|_| PowError::Scrypt)?;
    Ok(hash)
}

/// The number that a proof-of-work hash must not exceed; the smaller, the more work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target([u8; 32]);

impl Target {
    /// From the compact form of the header: one byte of length, three of mantissa with a sign.
    ///
    /// # Errors
    /// [`PowError::InvalidTarget`] where nodes refuse it: zero, negative, above 256 bits.
    pub fn from_compact(bits: u32) -> Result<Self, PowError> {
        let invalid = PowError::InvalidTarget { bits };
        let [len, high, middle, low] = bits.to_be_bytes();
        if high & 0x80 != 0 {
            return Err(invalid);
        }
        let mut target = [0; 32];
        // The mantissa's bytes, highest first, are the number's from the `len`-th on, counted from
        // the low end; what lies below the first is cut off.
        for (back, byte) in [high, middle, low].into_iter().enumerate() {
            let Some(place) = usize::from(len).checked_sub(back) else { continue };
            if place == 0 || byte == 0 {
                continue;
            }
            let slot = target.len().checked_sub(place).and_then(|at| target.get_mut(at));
            *slot.ok_or(invalid)? = byte;
        }
        if target == [0; 32] { Err(invalid) } else { Ok(Self(target)) }
    }

    /// Big-endian.
    #[must_use]
    pub const fn to_be_bytes(&self) -> [u8; 32] {
        self.0
    }

    /// The expected number of hashes for one at or below this target: 2^256 / (target + 1),
    /// rounded down, as nodes add up chain work. At most `u128::MAX`.
    #[must_use]
    pub fn work(&self) -> u128 {
        let (high, low) = self.halves();
        // 2^256 / (t + 1) = (2^256 − 1 − t) / (t + 1) + 1, in 256 bits.
        let Some(divisor) = plus_one(high, low) else { return 1 };
        divide((!high, !low), divisor).saturating_add(1)
    }

    fn halves(&self) -> (u128, u128) {
        let half = |bytes: Option<&[u8; 16]>| bytes.map_or(0, |bytes| u128::from_be_bytes(*bytes));
        (half(self.0.first_chunk()), half(self.0.last_chunk()))
    }
}

fn plus_one(high: u128, low: u128) -> Option<(u128, u128)> {
    match low.checked_add(1) {
        Some(low) => Some((high, low)),
        None => high.checked_add(1).map(|high| (high, 0)),
    }
}

/// Long division of 256-bit numbers, bit by bit; the quotient stops at `u128::MAX`. The divisor is
/// not zero.
fn divide(number: (u128, u128), divisor: (u128, u128)) -> u128 {
    let (mut remainder, mut quotient) = ((0_u128, 0_u128), 0_u128);
    for bit in (0..256_u32).rev() {
        let word = if bit >= 128 { number.0 } else { number.1 };
        let next = (word >> (bit % 128)) & 1;
        // A bit shifted out makes the remainder greater than any divisor.
        let carry = remainder.0 >> 127 == 1;
        remainder = ((remainder.0 << 1) | (remainder.1 >> 127), (remainder.1 << 1) | next);
        let fits = carry || remainder >= divisor;
        if fits {
            let (low, borrow) = remainder.1.overflowing_sub(divisor.1);
            let high = remainder.0.wrapping_sub(divisor.0).wrapping_sub(u128::from(borrow));
            remainder = (high, low);
        }
        if quotient >> 127 == 1 {
            return u128::MAX;
        }
        quotient = (quotient << 1) | u128::from(fits);
    }
    quotient
}
