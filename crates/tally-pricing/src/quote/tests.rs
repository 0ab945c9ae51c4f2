//! Amounts due.

use num_bigint::BigInt;
use proptest::prelude::*;

use super::*;

fn request<'a>(price: &str, usd: &'a Currency, spread: &str, decimals: u8, unit: u128) -> QuoteRequest<'a> {
    QuoteRequest {
        price: price.parse().unwrap(),
        price_currency: usd,
        pay_currency: usd,
        spread_percent: spread.parse().unwrap(),
        decimals,
        payable_unit: BaseUnits::from_units(unit),
    }
}

#[test]
fn the_due_is_rounded_up_once() {
    let usd = "USD".parse().unwrap();
    for (name, price, spread, rate, decimals, unit, due) in [
        ("even", "100", "0", "50000", 8, 1, Some(200_000)),
        ("rounded up", "10", "0", "3", 8, 1, Some(333_333_334)),
        ("one base unit above nothing", "0.0000000001", "0", "65000", 8, 1, Some(1)),
        ("spread", "100", "1.5", "50000", 8, 1, Some(203_000)),
        ("a discount", "100", "-2", "50000", 8, 1, Some(196_000)),
        ("ether to 8 digits", "10", "0", "3", 18, 10_000_000_000, Some(3_333_333_340_000_000_000)),
        ("ether, even", "10", "0", "2.5", 18, 10_000_000_000, Some(4_000_000_000_000_000_000)),
        ("a token", "9.999999", "0", "0.9999", 6, 1, Some(10_001_000)),
        ("beyond a decimal", "200000000000", "0", "1", 18, 10_000_000_000, Some(2 * 10_u128.pow(29))),
        ("no rate", "1", "0", "0", 8, 1, None),
        ("a negative rate", "1", "0", "-1", 8, 1, None),
        ("no step", "1", "0", "1", 8, 0, None),
        ("spread of -100", "1", "-100", "1", 8, 1, None),
        ("too much", "9999999999999999999999999999", "0", "0.0000000001", 18, 1, None),
    ] {
        let due = due.map(BaseUnits::from_units);
        let rate = rate.parse().unwrap();
        assert_eq!(full_due(&request(price, &usd, spread, decimals, unit), rate).ok(), due, "{name}");
    }
}

proptest! {
    /// The due covers the price, and one step less would not.
    #[test]
    fn the_due_is_the_least_that_covers(
        price in 1_i64..i64::MAX, price_scale in 0_u32..12,
        rate in 1_i64..i64::MAX, rate_scale in 0_u32..18,
        spread in -5000_i64..5000, decimals in 0_u8..19, unit in prop_oneof![Just(1_u64), Just(10_000_000_000)],
    ) {
        let usd = "USD".parse().unwrap();
        let (price, rate) = (Decimal::new(price, price_scale), Decimal::new(rate, rate_scale));
        let request = QuoteRequest {
            price: PriceAmount::from_decimal(price).unwrap(),
            spread_percent: Decimal::new(spread, 2),
            decimals,
            payable_unit: BaseUnits::from_units(u128::from(unit)),
            ..request("1", &usd, "0", 8, 1)
        };
        let Ok(due) = full_due(&request, rate) else { return Ok(()) };
        // due ÷ 10^decimals × rate ≥ price × (10000 + spread) ÷ 10000, all in whole numbers.
        let ten = |power: u32| BigInt::from(10).pow(power);
        let owed = BigInt::from(price.mantissa()) * (10_000 + spread)
            * ten(rate.scale()) * ten(u32::from(decimals));
        let paid = |units: u128| BigInt::from(units) * rate.mantissa() * ten(price.scale()) * 10_000;
        prop_assert_eq!(due.units() % u128::from(unit), 0);
        prop_assert!(paid(due.units()) >= owed);
        prop_assert!(paid(due.units() - u128::from(unit)) < owed);
    }
}
