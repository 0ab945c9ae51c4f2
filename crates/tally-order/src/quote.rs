//! One quote of an order as the fold keeps it.
//!
//! Not here: how a quote is made (`order/command.rs`).

use serde::{Deserialize, Serialize};
use tally_events::OrderQuoted;
use tally_types::{Position, Timestamp};

/// A quote, with what the fold knows beside its fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteState {
    pub(crate) terms: OrderQuoted,
    pub(crate) position: Position,
    pub(crate) extended_until: Option<Timestamp>,
}

impl QuoteState {
    /// The quote as it was made.
    pub fn terms(&self) -> &OrderQuoted {
        &self.terms
    }

    /// Where it stands in the log: a watcher that has matched through here knows its address.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Until when a payment is in time: as quoted, or later where a reorg threw the order back.
    pub fn expires_at(&self) -> Timestamp {
        self.extended_until.map_or(self.terms.expires_at, |until| until.max(self.terms.expires_at))
    }

    /// Whether a payment made now would be in time.
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires_at()
    }

    /// Confirmations that make this quote's deposits count for `confirmed`, at its amount.
    pub fn confirmed_count(&self) -> u32 {
        self.effective(|counts| counts.0)
    }

    /// Confirmations that make this quote's deposits count for `complete`, at its amount.
    pub fn complete_count(&self) -> u32 {
        self.effective(|counts| counts.1)
    }

    fn effective(&self, pick: impl Fn((u32, u32)) -> u32) -> u32 {
        let counts = &self.terms.counts;
        let reached = counts.thresholds.iter().rev().find(|from| from.at_least <= self.terms.full);
        pick(reached.map_or((counts.confirmed, counts.complete), |from| (from.confirmed, from.complete)))
            .max(1)
    }
}
