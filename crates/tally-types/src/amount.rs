//! Amounts: integers in a coin's base units, and the decimal prices merchants name.
//!
//! Not here: rates and conversions (`tally-pricing`).

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not a plain decimal number.
    #[error("{0:?} is not a plain decimal number")]
    NotANumber(String),
    /// Zero or negative where a positive amount is needed.
    #[error("{0:?} is not greater than zero")]
    NotPositive(String),
    /// More digits than can be held exactly.
    #[error("{0:?} has more digits than can be held exactly")]
    TooPrecise(String),
    /// Larger than the type holds.
    #[error("{0:?} is too large")]
    TooLarge(String),
}

/// An amount in the base units of some asset: satoshi, litoshi, wei, a token's smallest unit.
///
/// Serialised as a decimal string, since JSON readers lose integers above 2^53.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BaseUnits(u128);

impl BaseUnits {
    /// No units.
    pub const ZERO: Self = Self(0);

    /// An amount of `units` base units.
    pub const fn from_units(units: u128) -> Self {
        Self(units)
    }

    /// The number of base units.
    pub const fn units(self) -> u128 {
        self.0
    }

    /// Whether there are none.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` past 2^128.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The sum, held at the largest value: for totals of amounts that a chain already bounds.
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or `None` below zero.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }

    /// Reads a plain decimal such as `0.0016` of an asset with `decimals` fraction digits.
    ///
    /// # Errors
    /// [`AmountError`] when the text is no plain decimal, has more fraction digits than the asset, or is too large.
    pub fn from_decimal_str(text: &str, decimals: u8) -> Result<Self, AmountError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || text.ends_with('.') {
            return Err(AmountError::NotANumber(clip(text)));
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > usize::from(decimals) {
            return Err(AmountError::TooPrecise(clip(text)));
        }
        let padded = format!("{whole}{fraction:0<width$}", width = usize::from(decimals));
        let units = padded.parse::<u128>().map_err(|_| AmountError::TooLarge(clip(text)))?;
        Ok(Self(units))
    }

    /// The amount as a plain decimal of an asset with `decimals` fraction digits, trailing zeros trimmed.
    pub fn to_decimal_string(self, decimals: u8) -> String {
        let width = usize::from(decimals);
        let digits = format!("{:0>width$}", self.0, width = width + 1);
        let (whole, fraction) = digits.split_at(digits.len() - width);
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
    }
}

impl fmt::Display for BaseUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for BaseUnits {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        Self::from_decimal_str(text, 0)
    }
}

impl Serialize for BaseUnits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.collect_str(&self.0),
            false => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for BaseUnits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.is_human_readable() {
            true => crate::wire::text(deserializer),
            false => Ok(Self(u128::deserialize(deserializer)?)),
        }
    }
}

/// A positive price in some currency, at most 28 significant digits, as a merchant wrote it.
///
/// Two prices are equal by value: `10` is `10.0000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PriceAmount(Decimal);

impl PriceAmount {
    /// A price from a decimal that was read exactly.
    ///
    /// # Errors
    /// [`AmountError::NotPositive`] for zero and below.
    pub fn from_decimal(value: Decimal) -> Result<Self, AmountError> {
        if value > Decimal::ZERO { Ok(Self(value)) } else { Err(AmountError::NotPositive(value.to_string())) }
    }

    /// The value.
    pub const fn decimal(self) -> Decimal {
        self.0
    }
}

impl FromStr for PriceAmount {
    type Err = AmountError;

    /// Reads a plain decimal, or one with an exponent, exactly: what would have to be rounded is refused.
    fn from_str(text: &str) -> Result<Self, AmountError> {
        let number = || AmountError::NotANumber(clip(text));
        if text.len() > 64 || !text.bytes().next().is_some_and(|b| b.is_ascii_digit() || b == b'-') {
            return Err(number());
        }
        let value = match text.find(['e', 'E']) {
            Some(_) => exact_scientific(text).ok_or_else(number)?,
            None if text.contains('_') => return Err(number()),
            None => Decimal::from_str_exact(text).map_err(|error| match error {
                rust_decimal::Error::Underflow | rust_decimal::Error::ExceedsMaximumPossibleValue => {
                    AmountError::TooPrecise(clip(text))
                }
                _ => number(),
            })?,
        };
        if value.mantissa().unsigned_abs() >= 10_u128.pow(28) {
            return Err(AmountError::TooPrecise(clip(text)));
        }
        Self::from_decimal(value)
    }
}

/// Reads `1.5e2` without rounding; `None` where it cannot be held exactly.
fn exact_scientific(text: &str) -> Option<Decimal> {
    let (mantissa, exponent) = text.split_once(['e', 'E'])?;
    let mut value = Decimal::from_str_exact(mantissa).ok()?.normalize();
    let exponent: i32 = exponent.parse().ok()?;
    if !(-28..=28).contains(&exponent) {
        return None;
    }
    let scale = i64::from(value.scale()) - i64::from(exponent);
    if scale >= 0 {
        value.set_scale(u32::try_from(scale).ok().filter(|scale| *scale <= 28)?).ok()?;
        Some(value)
    } else {
        value.set_scale(0).ok()?;
        value.checked_mul(Decimal::from_i128_with_scale(10_i128.checked_pow(u32::try_from(-scale).ok()?)?, 0))
    }
}

impl fmt::Display for PriceAmount {
    /// Plain decimal, no exponent, trailing zeros trimmed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.normalize().fmt(f)
    }
}

impl Serialize for PriceAmount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.collect_str(self),
            false => self.0.normalize().serialize().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for PriceAmount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.is_human_readable() {
            true => crate::wire::text(deserializer),
            false => {
                let value = Decimal::deserialize(<[u8; 16]>::deserialize(deserializer)?);
                Self::from_decimal(value).map_err(serde::de::Error::custom)
            }
        }
    }
}

/// The offending text, short enough for a message.
fn clip(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_units_read_and_print_decimals() {
        for (text, decimals, units, printed) in [
            ("0.0016", 8, 160_000, "0.0016"),
            ("1", 8, 100_000_000, "1"),
            ("1.00000000", 8, 100_000_000, "1"),
            ("0", 0, 0, "0"),
            ("12", 0, 12, "12"),
            ("0.000000000000000001", 18, 1, "0.000000000000000001"),
        ] {
            let amount = BaseUnits::from_decimal_str(text, decimals).unwrap();
            assert_eq!((amount.units(), amount.to_decimal_string(decimals)), (units, printed.to_owned()));
        }
    }

    #[test]
    fn what_is_not_an_amount_is_refused() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "0x1", " 1", "1_0", "1.123456789"] {
            assert!(BaseUnits::from_decimal_str(text, 8).is_err(), "{text}");
        }
        assert!(matches!(BaseUnits::from_decimal_str(&"9".repeat(60), 0), Err(AmountError::TooLarge(_))));
    }

    #[test]
    fn prices_are_exact_or_refused() {
        for (text, printed) in [("10.0000", "10"), ("0.10", "0.1"), ("1e2", "100"), ("1.5e-3", "0.0015")] {
            assert_eq!(text.parse::<PriceAmount>().unwrap().to_string(), printed);
        }
        for text in ["0", "-1", "", "NaN", "inf", "1e99", "1_000", " 1", "+1", "0x10", "1,5", "0.00"] {
            assert!(text.parse::<PriceAmount>().is_err(), "{text}");
        }
        let long = "1.2345678901234567890123456789";
        assert!(matches!(long.parse::<PriceAmount>(), Err(AmountError::TooPrecise(_))));
        assert!("79228162514264337593543950336".parse::<PriceAmount>().is_err());
    }
}
