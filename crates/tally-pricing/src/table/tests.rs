//! Rates between any two currencies.

use proptest::prelude::*;
use tally_types::BaseUnits;

use super::*;
use crate::quote::{QuoteRequest, full_due, quote};

fn c(name: &str) -> Currency {
    name.parse().unwrap()
}

fn asset(name: &str, usd: &str) -> AssetRate {
    AssetRate {
        asset: c(name),
        usd: Some(usd.parse().unwrap()),
        confidence: Some("1".parse().unwrap()),
        inconsistent: false,
        at: Timestamp::from_secs(999_995),
        sources: vec!["kraken".to_owned(), "okx".to_owned()],
        dropped: vec![DroppedSource { venue: "gemini".to_owned(), reason: "stale".to_owned() }],
    }
}

fn fiat(name: &str, per_eur: &str) -> FiatRate {
    FiatRate {
        currency: c(name),
        per_eur: per_eur.parse().unwrap(),
        at: Timestamp::from_secs(900_000),
        sources: vec!["ecb".to_owned()],
    }
}

fn table() -> RateTable {
    let mut table = RateTable::new(&RateRules::default());
    let mut litecoin = asset("LTC", "1");
    (litecoin.usd, litecoin.inconsistent) = (None, true);
    let mut cash = asset("BCH", "1");
    cash.usd = None;
    table.apply(&RatesPublished {
        assets: vec![asset("BTC", "6612.41"), asset("ETH", "225.135"), litecoin, cash],
        fiat: vec![fiat("USD", "1.1506"), fiat("CNY", "7.9009")],
        at: Timestamp::from_secs(1_000_000),
    });
    table
}

const NOW: Timestamp = Timestamp::from_secs(1_000_010);

#[test]
fn vectors() {
    let table = table();
    for (from, to, text) in [
        ("BTC", "CNY", "45405.86665"),
        ("USD", "CNY", "6.866765166"),
        ("USD", "BTC", "0.0001512307918"),
        ("ETH", "BTC", "0.03404734431"),
        ("BTC", "USD", "6612.41"),
        ("EUR", "USD", "1.1506"),
        ("EUR", "CNY", "7.9009"),
        ("xbt", "rmb", "45405.86665"),
        ("BTC", "BTC", "1"),
        ("xbt", "btc", "1"),
        ("LTC", "LTC", "1"),
        ("BCC", "bchabc", "1"),
    ] {
        assert_eq!(table.rate_named(from, to, NOW).unwrap().text, text, "{from}/{to}");
    }
}

#[test]
fn no_rate_is_said_with_its_reason() {
    let table = table();
    let kind = |from: &str, to: &str, now: i64| match table.rate_named(from, to, Timestamp::from_secs(now)) {
        Ok(_) => "ok",
        Err(RateError::UnknownCurrency(_)) => "unknown",
        Err(RateError::Unavailable { .. }) => "unavailable",
        Err(RateError::Inconsistent { .. }) => "inconsistent",
    };
    for (name, from, to, now, expected) in [
        ("unknown", "DOGE", "USD", 1_000_010, "unknown"),
        ("unknown with itself", "DOGE", "DOGE", 1_000_010, "unknown"),
        ("no symbol", "a.b", "USD", 1_000_010, "unknown"),
        ("known from the rules, no source", "BTC", "JPY", 1_000_010, "unavailable"),
        ("sources disagree", "LTC", "USD", 1_000_010, "inconsistent"),
        ("sources disagree about the other", "BTC", "LTC", 1_000_010, "inconsistent"),
        ("no votes", "BCH", "CNY", 1_000_010, "unavailable"),
        ("60 s old", "BTC", "USD", 1_000_060, "ok"),
        ("61 s old", "BTC", "USD", 1_000_061, "unavailable"),
        ("fiat does not need the crypto part", "EUR", "CNY", 1_000_061, "ok"),
        ("fiat 7 days old", "USD", "CNY", 900_000 + 7 * 86_400, "ok"),
        ("fiat older", "USD", "CNY", 900_001 + 7 * 86_400, "unavailable"),
        ("published by a clock far ahead", "BTC", "USD", 999_939, "unavailable"),
        ("with itself, at any time", "BTC", "BTC", 2_000_000, "ok"),
    ] {
        assert_eq!(kind(from, to, now), expected, "{name}");
    }
    let empty = RateTable::new(&RateRules::default());
    assert!(matches!(empty.rate_named("BTC", "USD", NOW), Err(RateError::Unavailable { .. })));
    assert!(matches!(empty.rate_named("NIL", "USD", NOW), Err(RateError::UnknownCurrency(_))));
}

#[test]
fn the_particulars_are_those_of_both_legs() {
    let answer = table().rate_named("BTC", "CNY", NOW).unwrap();
    assert_eq!(answer.at, Timestamp::from_secs(900_000), "the older leg's");
    assert_eq!(answer.sources, ["ecb", "kraken", "okx"]);
    assert_eq!(answer.dropped.len(), 1);
    assert_eq!(answer.legs.len(), 2);
    assert_eq!(crate::format_significant(answer.confidence), "6.866765166");
    assert_eq!(table().rate_named("BTC", "USD", NOW).unwrap().at, Timestamp::from_secs(999_995));
}

#[test]
fn a_quote_can_be_checked_from_the_rate_it_locks() {
    let (price, pay) = (c("CNY"), c("BTC"));
    let request = QuoteRequest {
        price: "100".parse().unwrap(),
        price_currency: &price,
        pay_currency: &pay,
        spread_percent: Decimal::ZERO,
        decimals: 8,
        payable_unit: BaseUnits::from_units(1),
    };
    let quoted = quote(&request, &table(), NOW).unwrap();
    assert_eq!(quoted.full, BaseUnits::from_units(220_236), "100 / 45405.86665 = 0.0022023585…");
    assert_eq!(full_due(&request, quoted.lock.rate).unwrap(), quoted.full);
    assert_eq!(quoted.lock.sources, ["ecb", "kraken", "okx"]);

    let same = QuoteRequest { price_currency: &pay, ..request };
    let quoted = quote(&same, &table(), NOW).unwrap();
    assert_eq!((quoted.full, quoted.lock.rate), (BaseUnits::from_units(10_000_000_000), Decimal::ONE));
}

#[test]
fn all_pairs_are_the_same_as_each() {
    let table = table();
    let pairs = table.pairs(NOW);
    let names: Vec<_> = pairs.iter().map(|(from, _)| from.as_str()).collect();
    assert_eq!(names, ["BTC", "CNY", "ETH", "EUR", "USD"]);
    for (from, row) in &pairs {
        assert_eq!(row.len(), names.len());
        for (to, text) in row {
            assert_eq!(table.rate(from, to, NOW).unwrap().text, *text, "{from}/{to}");
        }
    }
}

#[test]
fn an_answer_says_how_long_it_holds() {
    let table = table();
    let seconds = |from: &str, to: &str| {
        let answer = table.rate_named(from, to, NOW).unwrap();
        (answer.since.secs() - 1_000_000, answer.until.secs() - 1_000_000)
    };
    assert_eq!(seconds("BTC", "ETH"), (-60, 60));
    assert_eq!(seconds("BTC", "USD"), (-5, 60), "before the book's time that would not be the answer's");
    assert_eq!(seconds("BTC", "CNY"), (-60, 60));
    assert_eq!(seconds("EUR", "CNY"), (-1_000_000, 7 * 86_400 - 100_000));
    assert_eq!(seconds("BTC", "BTC"), (10, 10));
}

#[test]
fn the_history_is_of_what_was_published() {
    let mut table = RateTable::new(&RateRules::default());
    let published = |price: &str, at| RatesPublished {
        assets: vec![asset("BTC", price)],
        fiat: Vec::new(),
        at: Timestamp::from_secs(at),
    };
    table.recall(&published("99", 1_000_000));
    assert!(table.rate_named("BTC", "USD", Timestamp::from_secs(1_000_010)).is_err());
    table.apply(&published("100", 1_000_200));
    let earlier = table.clone();
    table.apply(&published("101", 1_000_400));
    let prices =
        |table: &RateTable| table.history(&c("BTC")).map(|point| point.usd.to_string()).collect::<Vec<_>>();
    assert_eq!(prices(&earlier), ["99", "100"]);
    assert_eq!(prices(&table), ["99", "100", "101"]);
}

proptest! {
    /// There and back is one, and a detour is the direct way, to 1e-9 of what is printed.
    #[test]
    fn inverse_and_cross_agree(
        btc in 1_u64..100_000_000_000, eth in 1_u64..100_000_000_000,
        dollar in 1_u64..1_000_000_000, yuan in 1_u64..1_000_000_000,
    ) {
        let usd = |units: u64| Decimal::new(i64::try_from(units).unwrap(), 5).to_string();
        let mut table = RateTable::new(&RateRules::default());
        table.apply(&RatesPublished {
            assets: vec![asset("BTC", &usd(btc)), asset("ETH", &usd(eth))],
            fiat: vec![fiat("USD", &usd(dollar)), fiat("CNY", &usd(yuan))],
            at: NOW,
        });
        let answer = |from: &str, to: &str| table.rate_named(from, to, NOW).unwrap();
        let printed = |from: &str, to: &str| answer(from, to).text.parse::<Decimal>().unwrap();
        let ratio = |value: Decimal| Ratio::from_decimal(value).unwrap();
        let close = |product: Ratio, to: Decimal| {
            let off = product.over(&ratio(to)).to_decimal().unwrap() - Decimal::ONE;
            off.abs() <= Decimal::new(1, 9)
        };
        for (from, to) in [("BTC", "ETH"), ("BTC", "CNY"), ("USD", "CNY"), ("EUR", "ETH")] {
            let product = ratio(printed(from, to)).times(&ratio(printed(to, from)));
            prop_assert!(close(product, Decimal::ONE), "{}/{}", from, to);
        }
        for (from, over, to) in [("BTC", "USD", "CNY"), ("BTC", "CNY", "ETH"), ("EUR", "BTC", "CNY")] {
            let product = ratio(answer(from, over).rate).times(&ratio(answer(over, to).rate));
            prop_assert!(close(product, answer(from, to).rate), "{}/{}", from, to);
        }
    }

    /// Whenever an answer says that it holds, it is what one gets.
    #[test]
    fn what_holds_is_what_is_answered(
        published in 0_i64..200, made in 0_i64..260, asked in 0_i64..300, again in 0_i64..300,
        old in 0_i64..8, pair in 0_usize..4,
    ) {
        let mut table = RateTable::new(&RateRules::default());
        let day = Timestamp::from_secs(10 * 86_400);
        let at = |secs: i64| day.plus(tally_types::Span::from_secs(u64::try_from(secs).unwrap()));
        let made_at = at(made);
        let days_ago = day.minus(tally_types::Span::from_secs(u64::try_from(old * 86_400).unwrap()));
        let rate = |name, usd| AssetRate { at: made_at, ..asset(name, usd) };
        let per_euro = |name, units| FiatRate { at: days_ago, ..fiat(name, units) };
        table.apply(&RatesPublished {
            assets: vec![rate("BTC", "6612.41"), rate("ETH", "225.135")],
            fiat: vec![per_euro("USD", "1.1506"), per_euro("CNY", "7.9009")],
            at: at(published),
        });
        let (from, to) = [("BTC", "USD"), ("BTC", "ETH"), ("CNY", "BTC"), ("USD", "CNY")][pair];
        let Ok(answer) = table.rate_named(from, to, at(asked)) else { return Ok(()) };
        prop_assert!(answer.since <= at(asked) && at(asked) <= answer.until);
        if answer.since <= at(again) && at(again) <= answer.until {
            let other = table.rate_named(from, to, at(again)).unwrap();
            prop_assert_eq!((other.text, other.at), (answer.text, answer.at));
            prop_assert_eq!((other.sources, other.confidence), (answer.sources, answer.confidence));
        }
    }
}
