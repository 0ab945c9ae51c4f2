//! Exact fractions of whole numbers: everything is multiplied first, and divided once, at the end.

use num_bigint::BigUint;
use num_integer::Integer;
use num_traits::{One, ToPrimitive};
use rust_decimal::Decimal;

/// How many digits a rate is printed with.
const DIGITS_PRINTED: u32 = 10;
/// How many digits a decimal holds whatever they are.
const DIGITS_HELD: u32 = 28;

/// A positive fraction, exact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ratio {
    numerator: BigUint,
    denominator: BigUint,
}

impl Ratio {
    /// One.
    pub(crate) fn one() -> Self {
        Self { numerator: BigUint::one(), denominator: BigUint::one() }
    }

    /// The value of a positive decimal; `None` for zero and below.
    pub(crate) fn from_decimal(value: Decimal) -> Option<Self> {
        Self::from_parts(u128::try_from(value.mantissa()).ok()?, value.scale())
    }

    /// `mantissa` with `scale` of its digits behind the point; `None` for zero.
    pub(crate) fn from_parts(mantissa: u128, scale: u32) -> Option<Self> {
        let numerator = BigUint::from(mantissa);
        (mantissa > 0).then(|| Self { numerator, denominator: power_of_ten(scale) })
    }

    /// This times ten to the power of `exponent`.
    pub(crate) fn shifted_left(&self, exponent: u8) -> Self {
        let (numerator, denominator) = self.shifted(i64::from(exponent));
        Self { numerator, denominator }
    }

    /// The product.
    pub(crate) fn times(&self, other: &Self) -> Self {
        Self {
            numerator: &self.numerator * &other.numerator,
            denominator: &self.denominator * &other.denominator,
        }
    }

    /// The quotient; the other is positive as every one is.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self {
            numerator: &self.numerator * &other.denominator,
            denominator: &self.denominator * &other.numerator,
        }
    }

    /// The least multiple of `step` that is no less than this; `None` past 2^128 or where `step` is zero.
    pub(crate) fn ceil_to_multiple(&self, step: u128) -> Option<u128> {
        let step = Some(step).filter(|step| *step > 0).map(BigUint::from)?;
        let steps = self.numerator.div_ceil(&(&self.denominator * &step));
        (steps * step).to_u128()
    }

    /// The nearest decimal of up to 28 significant digits, half-even; `None` where it would be zero or is too
    /// large.
    pub(crate) fn to_decimal(&self) -> Option<Decimal> {
        let places = i64::from(DIGITS_HELD) - 1 - self.exponent();
        let scale = u32::try_from(places.clamp(0, 28)).ok()?;
        let mantissa = i128::try_from(self.scaled(i64::from(scale)).to_u128()?).ok()?;
        let value = Decimal::try_from_i128_with_scale(mantissa, scale).ok()?;
        (!value.is_zero()).then(|| value.normalize())
    }

    /// At most ten significant digits, half-even, no exponent, trailing zeros trimmed.
    pub(crate) fn to_significant(&self) -> String {
        let places = i64::from(DIGITS_PRINTED) - 1 - self.exponent();
        let digits = self.scaled(places).to_string();
        match usize::try_from(places) {
            Ok(0) => digits,
            Ok(places) => {
                let digits = format!("{digits:0>width$}", width = places + 1);
                let (whole, fraction) = digits.split_at(digits.len() - places);
                let fraction = fraction.trim_end_matches('0');
                if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
            }
            Err(_) => digits + &"0".repeat(usize::try_from(places.unsigned_abs()).unwrap_or(0)),
        }
    }

    /// The power of ten of the first significant digit.
    fn exponent(&self) -> i64 {
        let length = |number: &BigUint| i64::try_from(number.to_string().len()).unwrap_or(i64::MAX);
        let guess = length(&self.numerator).saturating_sub(length(&self.denominator));
        let (left, right) = self.shifted(guess.saturating_neg());
        if left >= right { guess } else { guess - 1 }
    }

    /// This times ten to the power of `places`, to the nearest whole number, half-even.
    fn scaled(&self, places: i64) -> BigUint {
        let (numerator, denominator) = self.shifted(places);
        let (quotient, rest) = numerator.div_rem(&denominator);
        let doubled = rest * 2_u32;
        let up = doubled > denominator || (doubled == denominator && quotient.is_odd());
        if up { quotient + 1_u32 } else { quotient }
    }

    /// Numerator and denominator of this times ten to the power of `places`.
    fn shifted(&self, places: i64) -> (BigUint, BigUint) {
        let power = power_of_ten(u32::try_from(places.unsigned_abs()).unwrap_or(0));
        if places >= 0 {
            (&self.numerator * power, self.denominator.clone())
        } else {
            (self.numerator.clone(), &self.denominator * power)
        }
    }
}

/// Ten to the power of `exponent`.
fn power_of_ten(exponent: u32) -> BigUint {
    BigUint::from(10_u32).pow(exponent)
}
