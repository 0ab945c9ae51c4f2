//! Which currencies there are and how many votes each needs: configuration. And the limits of age.
//!
//! Not here: the thresholds of the statistics, which are no setting (`consensus`).

use std::collections::BTreeSet;

use tally_types::{Currency, Span};

/// Up to this age a tick is a full vote.
pub const TICK_FRESH: Span = Span::from_secs(60);
/// Up to this age a tick votes if two fresh ones stand beside it; older ones are dropped.
pub const TICK_AGE_MAX: Span = Span::from_secs(180);
/// A venue's clock may be this far ahead of ours.
pub const VENUE_AHEAD_MAX: Span = Span::from_secs(60);
/// Published crypto rates answer up to this age. It equals [`TICK_FRESH`]: past it not one of the votes
/// behind them would count alone, so nobody could publish them again.
pub const RATES_AGE_MAX: Span = TICK_FRESH;
/// Fiat rates answer up to this age: over Easter the European Central Bank publishes nothing for five days.
pub const FIAT_AGE_MAX: Span = Span::from_secs(7 * 86_400);
/// From this age on the operator is warned of a fiat rate: longer than any usual weekend.
pub const FIAT_AGE_WARNING: Span = Span::from_secs(100 * 3600);
/// When to ask again for a rate that is not there: the usual time between two polls.
pub const RETRY_AFTER: Span = Span::from_secs(15);

/// One asset that is priced from venues' votes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssetRule {
    /// The asset.
    pub asset: Currency,
    /// How many votes it needs.
    pub votes_min: usize,
}

/// What is priced, and through what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateRules {
    /// The assets, bridges among them.
    pub assets: Vec<AssetRule>,
    /// Dollar tokens that other assets may be priced through, each at its own aggregated price; in order of
    /// preference.
    pub dollar_tokens: Vec<Currency>,
    /// The asset that others are priced through where nothing else is left.
    pub pivot: Option<Currency>,
    /// Fiat currencies that are known even before a source has named them.
    pub fiat: Vec<Currency>,
    /// One vote is enough. For places where only one venue can be reached.
    pub allow_single_source: bool,
}

impl RateRules {
    /// How many votes `asset` needs; `None` for one that is not priced here.
    pub fn votes_min(&self, asset: &Currency) -> Option<usize> {
        let rule = self.assets.iter().find(|rule| rule.asset == *asset)?;
        Some(if self.allow_single_source { 1 } else { rule.votes_min.max(1) })
    }

    /// The assets in an order in which each comes after all it may be priced through.
    pub(crate) fn in_order(&self) -> Vec<Currency> {
        let tokens = self.dollar_tokens.iter().chain(&self.pivot);
        let mut seen = BTreeSet::new();
        tokens
            .chain(self.assets.iter().map(|rule| &rule.asset))
            .filter(|asset| self.votes_min(asset).is_some() && seen.insert((*asset).clone()))
            .cloned()
            .collect()
    }
}

impl Default for RateRules {
    /// Bitcoin, Ether, Litecoin, Bitcoin Cash and two dollar tokens; the currencies of the European Central
    /// Bank.
    fn default() -> Self {
        let assets = [("BTC", 3), ("ETH", 3), ("LTC", 2), ("BCH", 2), ("USDT", 3), ("USDC", 3)];
        let rule =
            |(name, votes_min): (&str, usize)| Some(AssetRule { asset: name.parse().ok()?, votes_min });
        Self {
            assets: assets.into_iter().filter_map(rule).collect(),
            dollar_tokens: currencies(&["USDT", "USDC"]),
            pivot: "BTC".parse().ok(),
            fiat: currencies(&[
                "EUR", "USD", "CNY", "JPY", "GBP", "CHF", "AUD", "CAD", "HKD", "SGD", "KRW", "INR", "NZD",
                "SEK", "NOK", "DKK", "CZK", "HUF", "PLN", "RON", "ISK", "TRY", "BRL", "IDR", "ILS", "MXN",
                "MYR", "PHP", "THB", "ZAR",
            ]),
            allow_single_source: false,
        }
    }
}

fn currencies(names: &[&str]) -> Vec<Currency> {
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

/// Other names that some currencies go by, each with the name it has here.
pub const ALIASES: [(&str, &str); 4] = [("XBT", "BTC"), ("BCC", "BCH"), ("BCHABC", "BCH"), ("RMB", "CNY")];

/// The name a currency goes by here: other names of the same one are replaced.
pub fn canonical(currency: &Currency) -> Currency {
    let alias = ALIASES.iter().find(|(alias, _)| *alias == currency.as_str());
    alias.and_then(|(_, name)| name.parse().ok()).unwrap_or_else(|| currency.clone())
}
