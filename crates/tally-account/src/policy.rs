//! The rules an order is made under: the installation's defaults under the merchant's settings.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tally_events::{Counts, LatePolicy, Policy};
use tally_types::{ChainId, Span};

use crate::Merchant;

/// What holds for merchants who set nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyDefaults {
    /// How long a quote holds (20 minutes).
    pub quote: Span,
    /// How long a new order waits for a checkout (1 day).
    pub new_order: Span,
    /// How long a paid order waits for its first confirmation (1 day).
    pub first_confirmation: Span,
    /// What becomes of late money.
    pub late: LatePolicy,
    /// Whether an expired order without money may be checked out again.
    pub reopen: bool,
}

impl Default for PolicyDefaults {
    fn default() -> Self {
        Self {
            quote: Span::from_secs(20 * 60),
            new_order: Span::from_secs(24 * 3600),
            first_confirmation: Span::from_secs(24 * 3600),
            late: LatePolicy::Hold,
            reopen: false,
        }
    }
}

/// A chain's confirmation counts for merchants who set none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainDefaults {
    /// The chain.
    pub chain: ChainId,
    /// Its counts.
    pub counts: Counts,
}

impl Merchant {
    /// The whole policy for an order of this merchant made now.
    pub fn policy(&self, defaults: &PolicyDefaults) -> Policy {
        let own = self.settings();
        Policy {
            quote: own.quote.unwrap_or(defaults.quote),
            new_order: own.new_order.unwrap_or(defaults.new_order),
            first_confirmation: defaults.first_confirmation,
            tolerance_percent: own.tolerance_percent.unwrap_or(Decimal::ZERO),
            tolerance_absolute: own.tolerance_absolute.unwrap_or(Decimal::ZERO),
            spread_percent: own.spread_percent.unwrap_or(Decimal::ZERO),
            late: own.late.unwrap_or(defaults.late),
            reopen: own.reopen.unwrap_or(defaults.reopen),
        }
    }

    /// The confirmation counts for a quote on a chain made now.
    pub fn counts(&self, defaults: &ChainDefaults) -> Counts {
        let own = self.settings().counts.iter().find(|(chain, _)| *chain == defaults.chain);
        own.map_or_else(|| defaults.counts.clone(), |(_, counts)| counts.clone())
    }
}
