//! What the node that is asked now has held in its mempool: one absence is not yet a disappearance.
//!
//! Not derived from facts and not folded: another node, or another writer, starts without it.

use std::collections::{HashMap, HashSet};

use tally_events::Fact;
use tally_types::{Span, Timestamp, TxId};

use crate::Tracker;

/// How far apart two snapshots without a transaction must be for it to be gone.
pub const GONE_AFTER: Span = Span::from_secs(60);

/// The same for a transaction that this node has never held: it is unknown, not gone, until any node would
/// have dropped it (336 hours, Bitcoin Core's default `-mempoolexpiry`).
pub const UNKNOWN_GONE_AFTER: Span = Span::from_secs(336 * 3600);

/// Which followed transactions the node has held, and since when it has not.
#[derive(Debug, Clone, Default)]
pub struct MempoolMemory {
    held: HashSet<TxId>,
    missing_since: HashMap<TxId, Timestamp>,
}

impl MempoolMemory {
    /// Another node answers from now on.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Nobody has looked for a while: what was missing then may have been there since.
    pub fn lapse(&mut self) {
        self.missing_since.clear();
    }

    /// A fact that was decided from what this node showed: what it had in its mempool, or in a block that it
    /// left, it holds.
    pub fn note(&mut self, fact: &Fact) {
        match fact {
            Fact::DepositSeen(fact) => {
                self.held.insert(fact.deposit.key.txid);
            }
            Fact::DepositUnmined(fact) if fact.in_mempool => {
                self.held.insert(fact.deposit.txid);
            }
            _ => {}
        }
    }

    /// Takes note of a snapshot, and says which followed transactions are gone by it: those that were missing
    /// in an earlier one too, at least [`GONE_AFTER`] ago, and in all between.
    pub fn observe(&mut self, tracker: &Tracker, present: &HashSet<TxId>, now: Timestamp) -> Vec<TxId> {
        let followed: HashSet<TxId> =
            tracker.deposits.in_mempool().map(|followed| followed.deposit.key.txid).collect();
        self.held.retain(|txid| followed.contains(txid));
        self.held.extend(followed.intersection(present));
        self.missing_since.retain(|txid, _| followed.contains(txid) && !present.contains(txid));
        let mut gone = Vec::new();
        for txid in followed.difference(present) {
            let since = *self.missing_since.entry(*txid).or_insert(now);
            let patience = if self.held.contains(txid) { GONE_AFTER } else { UNKNOWN_GONE_AFTER };
            if now.since(since) >= patience {
                gone.push(*txid);
            }
        }
        gone.sort_unstable();
        gone
    }
}
