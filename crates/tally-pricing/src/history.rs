//! How the prices moved in the last hours, for people to look at.
//!
//! It is folded from what was published, so every instance shows the same, and it is bounded. Not here: any
//! rate that someone is answered or quoted.

use std::collections::{BTreeMap, VecDeque};

use rust_decimal::Decimal;
use tally_events::RatesPublished;
use tally_types::{Currency, Span, Timestamp};

/// How far back the history goes: 6 hours.
pub const HISTORY_SPAN: Span = Span::from_secs(6 * 3600);
/// One point stands for this long; the last price in it counts.
pub const HISTORY_STEP: Span = Span::from_secs(120);
/// How many points one asset has at most.
const POINTS_MAX: usize = 181;

/// The price of an asset at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PricePoint {
    /// When it was published.
    pub at: Timestamp,
    /// US dollars for one whole coin.
    pub usd: Decimal,
}

/// The last hours of every asset.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    assets: BTreeMap<Currency, VecDeque<PricePoint>>,
}

impl History {
    /// Takes in what was published. An asset without a rate leaves a gap.
    pub(crate) fn record(&mut self, published: &RatesPublished) {
        let now = published.at;
        self.assets.retain(|asset, _| published.assets.iter().any(|rate| rate.asset == *asset));
        for rate in &published.assets {
            let points = self.assets.entry(rate.asset.clone()).or_default();
            while points.front().is_some_and(|point| now.since(point.at) > HISTORY_SPAN) {
                points.pop_front();
            }
            // A clock that was set back: what it showed before has not happened yet.
            while points.back().is_some_and(|point| point.at > now) {
                points.pop_back();
            }
            if let Some(usd) = rate.usd {
                points.pop_back_if(|point| step(point.at) == step(now));
                points.push_back(PricePoint { at: now, usd });
            }
            while points.len() > POINTS_MAX {
                points.pop_front();
            }
        }
    }

    /// The points of one asset, oldest first.
    pub(crate) fn of(&self, asset: &Currency) -> impl Iterator<Item = PricePoint> + '_ {
        self.assets.get(asset).into_iter().flatten().copied()
    }
}

fn step(at: Timestamp) -> u64 {
    at.since(Timestamp::EPOCH).millis() / HISTORY_STEP.millis()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_events::AssetRate;

    const START: i64 = 1_700_000_040;

    fn published(secs: i64, usd: Option<i64>) -> RatesPublished {
        let at = Timestamp::from_secs(START + secs);
        let rate = AssetRate {
            asset: "BTC".parse().unwrap(),
            usd: usd.map(Decimal::from),
            confidence: None,
            inconsistent: false,
            at,
            sources: Vec::new(),
            dropped: Vec::new(),
        };
        RatesPublished { assets: vec![rate], fiat: Vec::new(), at }
    }

    fn show(history: &History) -> String {
        let point = |point: PricePoint| format!("{}@{}", point.usd, point.at.secs() - START);
        history.of(&"BTC".parse().unwrap()).map(point).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_point_for_every_step_and_none_too_old() {
        let mut history = History::default();
        for (secs, usd) in
            [(0, Some(1)), (60, Some(2)), (120, Some(3)), (150, None), (240, None), (360, Some(4))]
        {
            history.record(&published(secs, usd));
        }
        assert_eq!(show(&history), "2@60 3@120 4@360");
        history.record(&published(6 * 3600 + 100, Some(5)));
        assert_eq!(show(&history), "3@120 4@360 5@21700");
        history.record(&published(200, Some(6)));
        assert_eq!(show(&history), "6@200", "the clock was set back");
    }

    #[test]
    fn it_is_bounded() {
        let mut history = History::default();
        for poll in 0..10_000 {
            history.record(&published(poll * 15, Some(poll)));
        }
        let points = history.of(&"BTC".parse().unwrap()).count();
        assert!((180..=POINTS_MAX).contains(&points), "{points}");
        let none = RatesPublished { assets: Vec::new(), fiat: Vec::new(), at: Timestamp::EPOCH };
        history.record(&none);
        assert_eq!(show(&history), "", "an asset that is priced no more is forgotten");
    }
}
