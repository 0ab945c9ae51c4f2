//! Facts of the rate service, on the stream of rates.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tally_types::{Currency, Timestamp};

/// The rates that hold from now on, all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RatesPublished {
    /// Crypto assets, in US dollars.
    pub assets: Vec<AssetRate>,
    /// Fiat currencies, per euro.
    pub fiat: Vec<FiatRate>,
    /// When they were put together.
    pub at: Timestamp,
}

/// One asset's aggregated rate, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetRate {
    /// The asset.
    pub asset: Currency,
    /// US dollars for one whole coin; absent while there is no usable rate.
    #[serde(default)]
    pub usd: Option<Decimal>,
    /// Half the width of the band the rate lies in, in US dollars.
    #[serde(default)]
    pub confidence: Option<Decimal>,
    /// Whether sources disagreed, where there is no rate.
    #[serde(default)]
    pub inconsistent: bool,
    /// The oldest vote's time.
    pub at: Timestamp,
    /// The venues that counted.
    pub sources: Vec<String>,
    /// The venues that did not, and why.
    #[serde(default)]
    pub dropped: Vec<DroppedSource>,
}

/// A venue that did not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedSource {
    /// The venue.
    pub venue: String,
    /// Why: `stale`, `frozen`, `outlier`, `spread`, …
    pub reason: String,
}

/// Units of a fiat currency for one euro.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FiatRate {
    /// The currency.
    pub currency: Currency,
    /// Units for one euro.
    pub per_eur: Decimal,
    /// The source's own time.
    pub at: Timestamp,
    /// The sources that counted.
    pub sources: Vec<String>,
}
