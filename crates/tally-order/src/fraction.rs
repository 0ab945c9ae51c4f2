//! Exact fractions of a price: nothing near money is rounded before it is compared.
//!
//! Not here: which deposits count (`order/standing.rs`).

use std::cmp::Ordering;

use num_bigint::BigUint;
use num_integer::Integer;
use num_traits::{One, ToPrimitive, Zero};
use rust_decimal::Decimal;
use tally_types::BaseUnits;

/// A fraction that is zero or more, in lowest terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fraction {
    num: BigUint,
    den: BigUint,
}

impl Fraction {
    pub(crate) fn zero() -> Self {
        Self { num: BigUint::zero(), den: BigUint::one() }
    }

    pub(crate) fn one() -> Self {
        Self { num: BigUint::one(), den: BigUint::one() }
    }

    /// `part` of `whole`; nothing where there is no whole.
    pub(crate) fn of(part: BaseUnits, whole: BaseUnits) -> Self {
        Self::reduced(part.units().into(), whole.units().into())
    }

    /// The value of a decimal; nothing where it is negative.
    pub(crate) fn from_decimal(value: Decimal) -> Self {
        let num = u128::try_from(value.mantissa()).unwrap_or(0);
        Self::reduced(num.into(), ten_to(value.scale()))
    }

    /// An amount of an asset with `decimals` fraction digits, in whole coins.
    pub(crate) fn from_units(units: BaseUnits, decimals: u8) -> Self {
        Self::reduced(units.units().into(), ten_to(decimals.into()))
    }

    fn reduced(num: BigUint, den: BigUint) -> Self {
        if den.is_zero() {
            return Self::zero();
        }
        // Nearly all fit, and then this is far cheaper.
        if let (Some(num), Some(den)) = (num.to_u128(), den.to_u128()) {
            let divisor = num.gcd(&den);
            return Self { num: (num / divisor).into(), den: (den / divisor).into() };
        }
        let divisor = num.gcd(&den);
        Self { num: num / &divisor, den: den / divisor }
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.num.is_zero()
    }

    pub(crate) fn plus(&self, other: &Self) -> Self {
        Self::reduced(&self.num * &other.den + &other.num * &self.den, &self.den * &other.den)
    }

    /// The difference, not below zero.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        let (from, take) = (&self.num * &other.den, &other.num * &self.den);
        if from <= take { Self::zero() } else { Self::reduced(from - take, &self.den * &other.den) }
    }

    pub(crate) fn times(&self, other: &Self) -> Self {
        Self::reduced(&self.num * &other.num, &self.den * &other.den)
    }

    /// The quotient; nothing where `other` is zero.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self::reduced(&self.num * &other.den, &self.den * &other.num)
    }

    /// This part of `whole`, rounded up to a multiple of `step`; `None` past 2^128.
    pub(crate) fn share_of(&self, whole: BaseUnits, step: BaseUnits) -> Option<BaseUnits> {
        let step = BigUint::from(step.units().max(1));
        let steps = (&self.num * whole.units()).div_ceil(&(&self.den * &step));
        (steps * step).to_u128().map(BaseUnits::from_units)
    }

    /// As a decimal with at most `scale` fraction digits, rounded down; the largest decimal where it is larger.
    pub(crate) fn to_decimal(&self, scale: u32) -> Decimal {
        for scale in (0..=scale.min(28)).rev() {
            let digits = (&self.num * ten_to(scale)) / &self.den;
            if let Some(value) =
                digits.to_i128().and_then(|digits| Decimal::try_from_i128_with_scale(digits, scale).ok())
            {
                return value.normalize();
            }
        }
        Decimal::MAX
    }
}

fn ten_to(exponent: u32) -> BigUint {
    BigUint::from(10_u8).pow(exponent)
}

impl PartialOrd for Fraction {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Fraction {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.num * &other.den).cmp(&(&other.num * &self.den))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(units: u128) -> BaseUnits {
        BaseUnits::from_units(units)
    }

    #[test]
    fn thirds_add_up_to_one() {
        let third = Fraction::of(units(1), units(3));
        assert_eq!(third.plus(&third).plus(&third), Fraction::one());
        assert_eq!(Fraction::one().minus(&third).plus(&third), Fraction::one());
        assert!(third.minus(&Fraction::one()).is_zero());
    }

    #[test]
    fn the_largest_amounts_do_not_overflow() {
        let most = Fraction::of(units(u128::MAX), units(1));
        assert_eq!(most.times(&most).over(&most), most);
        assert_eq!(most.to_decimal(8), Decimal::MAX);
        assert_eq!(most.share_of(units(2), units(1)), None);
        assert!(Fraction::of(units(1), units(0)).is_zero());
    }

    #[test]
    fn shares_round_up_to_the_step() {
        let third = Fraction::of(units(1), units(3));
        for (whole, step, share) in [(9, 1, 3), (10, 1, 4), (100, 10, 40), (0, 1, 0), (7, 0, 3)] {
            assert_eq!(third.share_of(units(whole), units(step)), Some(units(share)), "{whole} by {step}");
        }
    }

    #[test]
    fn decimals_round_down() {
        let two_thirds = Fraction::of(units(2), units(3));
        assert_eq!(two_thirds.to_decimal(4).to_string(), "0.6666");
        assert_eq!(Fraction::from_decimal(Decimal::new(-5, 1)), Fraction::zero());
        assert_eq!(Fraction::from_decimal(Decimal::new(150, 2)).to_decimal(8).to_string(), "1.5");
    }
}
