//! What the publisher shows of its rates to the operator.
//!
//! Not here: how long ago the last publication was, which every follower shows (`follow`).

use std::collections::{BTreeMap, BTreeSet};

use tally_events::RatesPublished;
use tally_pricing::{FIAT_AGE_WARNING, RateRules};
use tally_types::{Currency, Span, Timestamp};

/// Fiat rates and those of crypto assets differ in age by days: alerts tell them apart by this label.
const CRYPTO: &str = "crypto";
const FIAT: &str = "fiat";

/// A venue that is left out of an asset's rate, and why.
type Drop = (Currency, String, String);

/// Sets the gauges, and remembers what they need from before.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    /// The time of each asset's last rate, for its age while it has none.
    last: BTreeMap<Currency, (&'static str, Timestamp)>,
    /// Fiat rates that a warning was given for.
    old: BTreeSet<Currency>,
    /// What was left out last time.
    dropped: BTreeSet<Drop>,
}

impl Gauges {
    /// Shows how many sources each asset needs.
    pub(crate) fn show_rules(rules: &RateRules) {
        for rule in &rules.assets {
            let votes_min = rules.votes_min(&rule.asset).unwrap_or(1);
            metrics::gauge!("tally_rate_sources_min", "asset" => rule.asset.to_string())
                .set(count(votes_min));
        }
    }

    /// Shows what was published.
    pub(crate) fn show(&mut self, published: &RatesPublished) {
        for rate in &published.assets {
            let sources = if rate.usd.is_some() { rate.sources.len() } else { 0 };
            set_sources(&rate.asset, CRYPTO, count(sources));
            if rate.usd.is_some() {
                self.last.insert(rate.asset.clone(), (CRYPTO, rate.at));
            }
        }
        let has_rate = |asset: &Currency| published.fiat.iter().any(|rate| rate.currency == *asset);
        let fiat = self.last.iter().filter(|(_, (kind, _))| *kind == FIAT).map(|(asset, _)| asset);
        fiat.filter(|asset| !has_rate(asset)).for_each(|asset| set_sources(asset, FIAT, 0.0));
        for rate in &published.fiat {
            set_sources(&rate.currency, FIAT, count(rate.sources.len()));
            self.last.insert(rate.currency.clone(), (FIAT, rate.at));
            self.warn_of(&rate.currency, rate.at, published.at);
        }
        self.show_dropped(published);
        self.show_ages(published.at);
    }

    /// Shows how old the last rates are by now.
    pub(crate) fn show_ages(&self, now: Timestamp) {
        for (asset, (kind, at)) in &self.last {
            metrics::gauge!("tally_rate_age_seconds", "asset" => asset.to_string(), "kind" => *kind)
                .set(now.since(*at).to_duration());
        }
    }

    /// This instance publishes no more: what it last knew must not be taken for what holds.
    pub(crate) fn retire(&mut self) {
        for (asset, (kind, _)) in std::mem::take(&mut self.last) {
            set_sources(&asset, kind, f64::NAN);
            metrics::gauge!("tally_rate_age_seconds", "asset" => asset.to_string(), "kind" => kind)
                .set(f64::NAN);
        }
        std::mem::take(&mut self.dropped).iter().for_each(|drop| set_dropped(drop, 0.0));
    }

    fn warn_of(&mut self, currency: &Currency, at: Timestamp, now: Timestamp) {
        if now.since(at) < FIAT_AGE_WARNING {
            self.old.remove(currency);
        } else if self.old.insert(currency.clone()) {
            metrics::counter!("tally_incidents_total", "kind" => "fiat_rate_old").increment(1);
            tracing::warn!(%currency, since = %at, "a fiat rate is more than 100 hours old");
        }
    }

    fn show_dropped(&mut self, published: &RatesPublished) {
        let drops = published.assets.iter().flat_map(|rate| {
            let drop = |dropped: &tally_events::DroppedSource| {
                (rate.asset.clone(), dropped.venue.clone(), dropped.reason.clone())
            };
            rate.dropped.iter().map(drop)
        });
        let drops: BTreeSet<Drop> = drops.collect();
        self.dropped.difference(&drops).for_each(|drop| set_dropped(drop, 0.0));
        drops.iter().for_each(|drop| set_dropped(drop, 1.0));
        self.dropped = drops;
    }
}

fn set_sources(asset: &Currency, kind: &'static str, sources: f64) {
    metrics::gauge!("tally_rate_sources", "asset" => asset.to_string(), "kind" => kind).set(sources);
}

fn set_dropped((asset, venue, reason): &Drop, dropped: f64) {
    metrics::gauge!(
        "tally_rate_dropped",
        "asset" => asset.to_string(), "venue" => venue.clone(), "reason" => reason.clone(),
    )
    .set(dropped);
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// The length of a time since 1970, for what was published at it.
pub(crate) fn set_published(at: Timestamp) {
    let since: Span = at.since(Timestamp::EPOCH);
    metrics::gauge!("tally_rates_published_timestamp_seconds").set(since.to_duration());
}

/// Counts one poll of one venue.
pub(crate) fn count_poll(venue: &str, outcome: &'static str) {
    metrics::counter!("tally_feed_polls_total", "venue" => venue.to_owned(), "outcome" => outcome)
        .increment(1);
}

#[cfg(test)]
mod tests {
    use tally_events::{AssetRate, DroppedSource, FiatRate};
    use tally_testkit::Meters;

    use super::*;

    const HOUR: i64 = 3_600;

    /// Bitcoin by two venues while `usd`, and the dollar in euro, fixed at 0, while `fiat`.
    fn published(secs: i64, usd: bool, fiat: bool) -> RatesPublished {
        let at = Timestamp::from_secs(secs);
        let drop =
            |venue: &str, reason: &str| DroppedSource { venue: venue.to_owned(), reason: reason.to_owned() };
        let rate = AssetRate {
            asset: "BTC".parse().unwrap(),
            usd: usd.then(|| 100.into()),
            confidence: usd.then(|| 1.into()),
            inconsistent: false,
            at: Timestamp::from_secs(secs - 5),
            sources: vec!["a".to_owned(), "b".to_owned()],
            dropped: vec![drop("c", if usd { "outlier" } else { "stale" })],
        };
        let dollar = FiatRate {
            currency: "USD".parse().unwrap(),
            per_eur: 1.into(),
            at: Timestamp::EPOCH,
            sources: vec!["ecb".to_owned()],
        };
        RatesPublished { assets: vec![rate], fiat: fiat.then_some(dollar).into_iter().collect(), at }
    }

    #[test]
    #[allow(clippy::float_cmp, reason = "whole numbers, as they were set")]
    fn what_is_shown_is_what_holds() {
        let shown = Meters::default();
        let _guard = shown.begin();
        Gauges::show_rules(&RateRules::default());
        assert_eq!(shown.gauge("tally_rate_sources_min", "asset=LTC"), Some(2.0));

        let mut gauges = Gauges::default();
        gauges.show(&published(HOUR, true, true));
        assert_eq!(shown.gauge("tally_rate_sources", "asset=BTC kind=crypto"), Some(2.0));
        assert_eq!(shown.gauge("tally_rate_age_seconds", "asset=BTC kind=crypto"), Some(5.0));
        assert_eq!(shown.gauge("tally_rate_age_seconds", "asset=USD kind=fiat"), Some(3_600.0));
        assert_eq!(shown.gauge("tally_rate_dropped", "asset=BTC venue=c reason=outlier"), Some(1.0));

        gauges.show(&published(HOUR + 90, false, true));
        assert_eq!(shown.gauge("tally_rate_sources", "asset=BTC kind=crypto"), Some(0.0), "no rate");
        assert_eq!(
            shown.gauge("tally_rate_age_seconds", "asset=BTC kind=crypto"),
            Some(95.0),
            "the last one grows old"
        );
        assert_eq!(shown.gauge("tally_rate_dropped", "asset=BTC venue=c reason=outlier"), Some(0.0));
        assert_eq!(shown.gauge("tally_rate_dropped", "asset=BTC venue=c reason=stale"), Some(1.0));

        gauges.show(&published(8 * 24 * HOUR, true, false));
        assert_eq!(
            shown.gauge("tally_rate_sources", "asset=USD kind=fiat"),
            Some(0.0),
            "a fiat rate that has ended"
        );
        gauges.retire();
        assert!(shown.gauge("tally_rate_sources", "asset=BTC kind=crypto").unwrap().is_nan());
        assert!(shown.gauge("tally_rate_age_seconds", "asset=USD kind=fiat").unwrap().is_nan());
        assert_eq!(shown.gauge("tally_rate_dropped", "asset=BTC venue=c reason=outlier"), Some(0.0));
    }

    #[test]
    fn old_fiat_is_told_once_from_a_hundred_hours_on() {
        let shown = Meters::default();
        let _guard = shown.begin();
        let mut gauges = Gauges::default();
        gauges.show(&published(100 * HOUR - 1, true, true));
        assert_eq!(shown.count("tally_incidents_total", "kind=fiat_rate_old"), 0);
        for secs in [0, 15, 30] {
            gauges.show(&published(100 * HOUR + secs, true, true));
        }
        assert_eq!(shown.count("tally_incidents_total", "kind=fiat_rate_old"), 1);
    }
}
