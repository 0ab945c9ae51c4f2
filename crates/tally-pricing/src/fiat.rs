//! Rule 6: fiat currencies in euro, from sources that may be days old.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use tally_events::FiatRate;
use tally_types::{Currency, Span, Timestamp};

use crate::consensus::median_of;
use crate::ratio::Ratio;
use crate::rules::FIAT_AGE_MAX;
use crate::tick::{FiatTick, Venue};

/// How far ahead a source may date its rates: it names a day, and days begin at different hours.
const AHEAD_MAX: Span = Span::from_secs(86_400);
/// A source further than this part from the median of all is mistaken: 5 %. In days, no currency here moves so
/// far, and a shifted point is ten times off.
const APART_MAX: Decimal = Decimal::from_parts(5, 0, 0, false, 2);
/// How many currencies one source may name.
const CURRENCIES_MAX: usize = 400;

/// Units for one euro, of one source.
#[derive(Debug, Clone, Copy)]
struct PerEuro {
    units: Decimal,
    at: Timestamp,
}

/// The latest rates of each source.
#[derive(Debug, Clone, Default)]
pub(crate) struct FiatBook {
    sources: BTreeMap<Venue, BTreeMap<Currency, PerEuro>>,
}

impl FiatBook {
    /// Takes in what sources said. Sources with another base than the euro must say what the euro is in it.
    pub(crate) fn observe(&mut self, ticks: &[FiatTick], now: Timestamp) {
        for tick in ticks {
            if tick.rate <= Decimal::ZERO || tick.as_of.since(now) > AHEAD_MAX {
                continue;
            }
            let at = tick.as_of.min(tick.received_at);
            let table = self.sources.entry(tick.venue.clone()).or_default();
            for (currency, ratio) in per_euro(tick, ticks) {
                let Some(units) = ratio.to_decimal() else { continue };
                let known = table.get(&currency);
                let room = known.is_some() || table.len() < CURRENCIES_MAX;
                if room && known.is_none_or(|known| known.at <= at) {
                    table.insert(currency, PerEuro { units, at });
                }
            }
        }
    }

    /// Takes up what was published before a restart, until the sources are heard again.
    pub(crate) fn resume(&mut self, published: &[FiatRate]) {
        for rate in published {
            for source in rate.sources.iter().filter_map(|source| source.parse::<Venue>().ok()) {
                let table = self.sources.entry(source).or_default();
                table.entry(rate.currency.clone()).or_insert(PerEuro { units: rate.per_eur, at: rate.at });
            }
        }
    }

    /// The median of the sources that are not too old, for each currency. Where less than a majority is near
    /// it, nobody knows who is mistaken, and there is no rate.
    pub(crate) fn rates(&self, now: Timestamp) -> Vec<FiatRate> {
        let mut heard: BTreeMap<&Currency, Vec<(&Venue, PerEuro)>> = BTreeMap::new();
        for (source, table) in &self.sources {
            for (currency, rate) in table {
                if now.since(rate.at) <= FIAT_AGE_MAX {
                    heard.entry(currency).or_default().push((source, *rate));
                }
            }
        }
        heard.into_iter().filter_map(|(currency, rates)| combined(currency, &rates)).collect()
    }
}

fn combined(currency: &Currency, rates: &[(&Venue, PerEuro)]) -> Option<FiatRate> {
    let median = median_of(rates.iter().map(|(_, rate)| rate.units))?;
    let room = median.checked_mul(APART_MAX)?;
    let near = |rate: &PerEuro| rate.units.checked_sub(median).is_some_and(|off| off.abs() <= room);
    let agreed: Vec<_> = rates.iter().filter(|(_, rate)| near(rate)).collect();
    if agreed.len().saturating_mul(2) <= rates.len() {
        return None;
    }
    Some(FiatRate {
        currency: currency.clone(),
        per_eur: median_of(agreed.iter().map(|(_, rate)| rate.units))?.normalize(),
        at: agreed.iter().map(|(_, rate)| rate.at).min()?,
        sources: agreed.iter().map(|(source, _)| source.to_string()).collect(),
    })
}

/// What one tick says about units for one euro: of its quote, and of its base where it prices the euro.
fn per_euro(tick: &FiatTick, all: &[FiatTick]) -> Vec<(Currency, Ratio)> {
    let euro = |currency: &Currency| currency.as_str() == "EUR";
    let Some(rate) = Ratio::from_decimal(tick.rate) else { return Vec::new() };
    if euro(&tick.base) {
        return vec![(tick.quote.clone(), rate)];
    }
    if euro(&tick.quote) {
        return vec![(tick.base.clone(), Ratio::one().over(&rate))];
    }
    let same = |other: &&FiatTick| {
        other.venue == tick.venue
            && other.base == tick.base
            && euro(&other.quote)
            && other.as_of == tick.as_of
    };
    let euros = all.iter().find(same).and_then(|other| Ratio::from_decimal(other.rate));
    euros.map(|euros| (tick.quote.clone(), rate.over(&euros))).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(venue: &'static str, base: &str, quote: &str, rate: &str, as_of: i64) -> FiatTick {
        FiatTick {
            venue: Venue::named(venue),
            base: base.parse().unwrap(),
            quote: quote.parse().unwrap(),
            rate: rate.parse().unwrap(),
            as_of: Timestamp::from_secs(as_of),
            received_at: Timestamp::from_secs(as_of.max(1_000_000)),
        }
    }

    fn rates(book: &FiatBook, now: i64) -> Vec<String> {
        let rates = book.rates(Timestamp::from_secs(now));
        rates
            .iter()
            .map(|rate| format!("{} {} {}", rate.currency, rate.per_eur, rate.sources.join("+")))
            .collect()
    }

    #[test]
    fn sources_of_either_base_meet_in_euro() {
        let now = Timestamp::from_secs(1_000_000);
        let mut book = FiatBook::default();
        book.observe(
            &[tick("ecb", "EUR", "USD", "1.25", 990_000), tick("ecb", "EUR", "CNY", "8", 990_000)],
            now,
        );
        book.observe(
            &[
                tick("frankfurter", "USD", "CNY", "6.8", 990_000),
                tick("frankfurter", "USD", "EUR", "0.8", 990_000),
                tick("frankfurter", "USD", "GBP", "0", 990_000),
            ],
            now,
        );
        assert_eq!(rates(&book, 1_000_000), ["CNY 8.25 ecb+frankfurter", "USD 1.25 ecb+frankfurter"]);
    }

    #[test]
    fn rates_live_seven_days_and_survive_a_restart() {
        let now = Timestamp::from_secs(1_000_000);
        let mut book = FiatBook::default();
        book.observe(&[tick("ecb", "EUR", "USD", "1.25", 1_000_000)], now);
        let mut restarted = FiatBook::default();
        restarted.resume(&book.rates(now));
        for book in [&book, &restarted] {
            assert_eq!(rates(book, 1_000_000 + 7 * 86_400), ["USD 1.25 ecb"]);
            assert!(rates(book, 1_000_001 + 7 * 86_400).is_empty());
        }
        restarted.observe(&[tick("ecb", "EUR", "USD", "1.30", 1_086_400)], Timestamp::from_secs(1_086_400));
        assert_eq!(rates(&restarted, 1_086_400), ["USD 1.3 ecb"], "the source itself is heard again");
        restarted.observe(&[tick("ecb", "EUR", "USD", "1.10", 1_000_000)], Timestamp::from_secs(1_086_400));
        assert_eq!(rates(&restarted, 1_086_400), ["USD 1.3 ecb"], "nothing older replaces it");
    }

    #[test]
    fn a_typo_of_one_source_is_no_rate() {
        let now = Timestamp::from_secs(1_000_000);
        let said = |others: &[(&'static str, &str)]| {
            let mut book = FiatBook::default();
            for (venue, rate) in others {
                book.observe(&[tick(venue, "EUR", "USD", rate, 990_000)], now);
            }
            rates(&book, 1_000_000).join(", ")
        };
        assert_eq!(said(&[("a", "1.10"), ("b", "1.20")]), "USD 1.15 a+b");
        assert_eq!(
            said(&[("a", "1.08"), ("b", "10.8")]),
            "",
            "one of them is mistaken, and nobody knows which"
        );
        assert_eq!(said(&[("a", "1.08"), ("b", "10.8"), ("c", "1.09")]), "USD 1.085 a+c");
    }

    #[test]
    fn a_source_without_the_euro_or_from_the_future_says_nothing() {
        let now = Timestamp::from_secs(1_000_000);
        let mut book = FiatBook::default();
        book.observe(&[tick("a", "USD", "CNY", "7", 990_000), tick("b", "EUR", "USD", "1", 1_086_401)], now);
        assert!(rates(&book, 1_000_000).is_empty());
    }
}
