//! What the publisher shows of its rates to the operator.

use std::collections::{BTreeMap, BTreeSet};

use tally_events::RatesPublished;
use tally_pricing::FIAT_AGE_WARNING;
use tally_types::{Currency, Span, Timestamp};

/// Sets the gauges, and remembers what they need from before.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    /// The time of each asset's last rate, for its age while it has none.
    last: BTreeMap<Currency, Timestamp>,
    /// Fiat rates that a warning was given for.
    old: BTreeSet<Currency>,
}

impl Gauges {
    /// Shows what was published.
    pub(crate) fn show(&mut self, published: &RatesPublished) {
        let now = published.at;
        for rate in &published.assets {
            let sources = if rate.usd.is_some() { rate.sources.len() } else { 0 };
            set_sources(&rate.asset, sources);
            if rate.usd.is_some() {
                self.last.insert(rate.asset.clone(), rate.at);
            }
            if let Some(last) = self.last.get(&rate.asset) {
                set_age(&rate.asset, now.since(*last));
            }
        }
        for rate in &published.fiat {
            let age = now.since(rate.at);
            set_sources(&rate.currency, rate.sources.len());
            set_age(&rate.currency, age);
            if age < FIAT_AGE_WARNING {
                self.old.remove(&rate.currency);
            } else if self.old.insert(rate.currency.clone()) {
                metrics::counter!("tally_incidents_total", "kind" => "fiat_rate_old").increment(1);
                tracing::warn!(currency = %rate.currency, since = %rate.at, "a fiat rate is more than 100 hours old");
            }
        }
    }
}

fn set_sources(asset: &Currency, count: usize) {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    metrics::gauge!("tally_rate_sources", "asset" => asset.to_string()).set(f64::from(count));
}

fn set_age(asset: &Currency, age: Span) {
    metrics::gauge!("tally_rate_age_seconds", "asset" => asset.to_string()).set(age.to_duration());
}

/// Counts one poll of one venue.
pub(crate) fn count_poll(venue: &str, outcome: &'static str) {
    metrics::counter!("tally_feed_polls_total", "venue" => venue.to_owned(), "outcome" => outcome)
        .increment(1);
}
