//! One quote of an order as the fold keeps it.
//!
//! Not here: how a quote is made (`order/command.rs`).

use serde::{Deserialize, Serialize};
use tally_events::{OrderQuoted, Place, Shard};
use tally_types::{ChainId, Height, Position, Timestamp};

/// What the confirmations of a final deposit are told as, where being final is what counts.
const FINALIZED_TARGET: u32 = 64;

/// A quote, with what the fold knows beside its fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuoteState {
    pub(crate) terms: OrderQuoted,
    pub(crate) position: Position,
    pub(crate) extended_until: Option<Timestamp>,
    /// Where its script stands among all: by this a shard of the chain has it.
    pub(crate) place: Place,
    /// The tip that was last shown of the chain, by the shard that its script is in.
    pub(crate) tip: Height,
    /// The last final block of the chain, by that shard; 0 where none is known.
    pub(crate) finalized: Height,
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

    /// Confirmations that make this quote's deposits count for `complete`, at its amount. Where being final is
    /// what counts, 64 stand for it.
    pub fn complete_count(&self) -> u32 {
        if self.needs_finality() { FINALIZED_TARGET } else { self.effective(|counts| counts.1) }
    }

    /// Whether its deposits count for `complete` once their blocks are final, whatever their depth.
    pub fn needs_finality(&self) -> bool {
        self.terms.counts.finalized
    }

    /// Whether a shard of a chain speaks of this quote's script.
    pub(crate) fn is_on(&self, chain: &ChainId, shard: Shard) -> bool {
        self.terms.chain == *chain && shard.has_place(self.place)
    }

    /// A deposit's confirmations, given those under the tip. Where being final is what counts they stay under
    /// the target until the block is final, and then are at least that.
    pub(crate) fn told_confirmations(&self, depth: u64, mined_at: Option<Height>) -> u64 {
        let target = u64::from(FINALIZED_TARGET);
        match mined_at {
            Some(height) if self.needs_finality() => {
                let is_final = self.finalized > Height::new(0) && height <= self.finalized;
                if is_final { depth.max(target) } else { depth.min(target.saturating_sub(1)) }
            }
            _ => depth,
        }
    }

    fn effective(&self, pick: impl Fn((u32, u32)) -> u32) -> u32 {
        let counts = &self.terms.counts;
        let reached = counts.thresholds.iter().rev().find(|from| from.at_least <= self.terms.full);
        pick(reached.map_or((counts.confirmed, counts.complete), |from| (from.confirmed, from.complete)))
            .max(1)
    }
}
