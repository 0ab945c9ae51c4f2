//! What was seen becomes facts.
//!
//! One decision is one append: a block with all its facts, `block_connected` last; in front of it, after a
//! reorg, what leaves the branch, descending.

use std::collections::{BTreeMap, HashSet};

use tally_events::{
    BlockConnected, CLOCK_SET_BACK_MIN, ChainFinalized, ChainObserved, DepositConfirmed, DepositMined,
    DepositReplaced, DepositSeen, DepositUnmined, DepositVanished, Fact,
};
use tally_types::{BlockHash, BlockRef, DepositKey, Height, Position, Span, Timestamp, TxId};

use crate::{Header, Scanned, Snapshot, Stage, Tracker};

mod block;
mod checkpoint;
mod draft;

use draft::Draft;

/// The depths at which a deposit's confirmation is a fact of its own, for subscribers.
pub const CONFIRMED_DEPTHS: [u32; 7] = [1, 2, 3, 6, 12, 15, 30];

/// How long a chain may be silent in the log before it reports that it is alive.
pub const SILENCE_MAX: Span = Span::from_secs(20);

/// Something was seen, or is due.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// A block that follows a block of the branch. What stands over that one leaves the branch.
    Block {
        /// The block.
        block: &'a Scanned,
        /// When the writer last looked at everything, the mempool too, and wrote down what it saw. What came since
        /// may still be unsaid when the block joins, so the block claims no more. `None` before the first look.
        looked_at: Option<Timestamp>,
        /// What is in the node's mempool at its tip, or in its blocks up to there, where that was looked at for
        /// this: what leaves a block and is in there is not lost.
        present: Option<&'a HashSet<TxId>>,
    },
    /// Blocks without a hit over the tip, far below the node's.
    Run {
        /// The height of the first.
        from: Height,
        /// The hash before the first.
        prev: BlockHash,
        /// The last.
        last: Header,
        /// As in [`Scanned`], of the first block.
        watched_through: Position,
        /// As in [`Scanned`].
        method: Option<&'a str>,
        /// As in [`Input::Block`].
        looked_at: Option<Timestamp>,
    },
    /// A block of the branch was matched again, for addresses that were learned later.
    Found(&'a Scanned),
    /// The mempool.
    Mempool(Snapshot<'a>),
    /// Tip and mempool were looked at and nothing is left to report.
    Observed {
        /// The clock before they were looked at.
        taken_at: Timestamp,
        /// As in [`Scanned`].
        watched_through: Position,
        /// Whether a deadline waits for the report.
        asked: bool,
    },
    /// The chain calls a block final.
    Finalized(BlockRef),
    /// The watch begins anew at a block: what is known of the branch from its height up leaves, and the block
    /// joins without the one before being known. After a reorg too deep to be followed, when a person says from
    /// where.
    Restart {
        /// The block.
        block: &'a Scanned,
        /// As in [`Input::Block`].
        present: Option<&'a HashSet<TxId>>,
    },
    /// Payments in blocks that were never connected, or have left, are taken back: a writer starts, or stands at the
    /// node's tip, and one before it was cut off in the middle of a block.
    Dangling {
        /// As in [`Input::Block`].
        present: Option<&'a HashSet<TxId>>,
    },
    /// The next start should not have to read further back than here.
    Checkpoint,
}

/// Why what was seen becomes no fact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The node's branch left the log's under the lowest header that is known. A person must see to it.
    #[error(
        "the node's branch leaves the log's below block {} at height {}, {blocks} blocks deep: \
         rescan with `tally rescan`",
        base.hash, base.height
    )]
    DeepReorg {
        /// The lowest block that is known.
        base: BlockRef,
        /// How many blocks are known over it.
        blocks: usize,
    },
    /// The block does not follow the branch: what was seen is outdated. Look again.
    #[error("block {} at height {} does not follow the branch", block.hash, block.height)]
    NotLinked {
        /// The block.
        block: BlockRef,
    },
    /// The block was matched against fewer addresses than the log says of the branch. Match it again.
    #[error("block {} at height {} was matched before the latest addresses were known", block.hash, block.height)]
    MatchedTooEarly {
        /// The block.
        block: BlockRef,
    },
    /// The mempool was seen at another tip. Look again.
    #[error("the mempool was seen at {found}, which is not the tip")]
    OtherTip {
        /// Where it was seen.
        found: BlockHash,
    },
}

impl Tracker {
    /// The facts that follow from what was seen; none where it is known already.
    ///
    /// `now` is the watcher's clock before it looked.
    ///
    /// # Errors
    /// [`Refusal`], by what the caller should do next.
    pub fn decide(&self, input: Input<'_>, now: Timestamp) -> Result<Vec<Fact>, Refusal> {
        match input {
            Input::Block { block, looked_at, present } => self.decide_block(block, looked_at, present, now),
            Input::Run { from, prev, last, watched_through, method, looked_at } => {
                let follows = self.tip().is_none_or(|tip| tip.height.next() == from && tip.hash == prev);
                if !follows || last.block.height < from {
                    return Err(Refusal::NotLinked { block: last.block });
                }
                if watched_through < self.watched_through() {
                    return Err(Refusal::MatchedTooEarly { block: last.block });
                }
                Ok(vec![self.connected_fact(from, prev, last, watched_through, method, looked_at)])
            }
            Input::Found(block) => self.decide_found(block, now),
            Input::Mempool(snapshot) => self.decide_mempool(snapshot, now),
            Input::Observed { taken_at, watched_through, asked } => {
                Ok(self.decide_observed(taken_at, watched_through, asked))
            }
            Input::Finalized(block) => Ok(self.decide_finalized(block)),
            Input::Restart { block, present } => self.decide_restart(block, present, now),
            Input::Dangling { present } => {
                let mut draft = Draft::new(self);
                draft.take_back_dangling(None, present);
                Ok(draft.into_facts())
            }
            Input::Checkpoint => Ok(self.checkpoint()),
        }
    }

    /// What was not known to be final before. A block off the branch, or over the tip, says nothing yet.
    fn decide_finalized(&self, block: BlockRef) -> Vec<Fact> {
        let Some(tip) = self.tip() else { return Vec::new() };
        if block.height <= self.finalized || !self.is_on_branch(block) {
            return Vec::new();
        }
        let chain = self.chain();
        let mut facts = vec![Fact::from(ChainFinalized { chain: chain.clone(), block })];
        for followed in self.deposits.mined_from(self.finalized.next()) {
            if let Stage::Mined(at) = followed.stage
                && at.height <= block.height
            {
                let (deposit, depth) = (followed.deposit.key.clone(), at.height.depth_under(tip.height));
                let depth = u32::try_from(depth).unwrap_or(u32::MAX);
                let chain = chain.clone();
                facts.push(Fact::from(DepositConfirmed { chain, deposit, depth, tip, finalized: true }));
            }
        }
        facts
    }

    fn decide_observed(&self, taken_at: Timestamp, watched_through: Position, asked: bool) -> Vec<Fact> {
        // What was said last was said by a clock that was ahead: from here on the right one holds.
        let set_back = self.observed_at().since(taken_at) >= CLOCK_SET_BACK_MIN;
        let due = asked || set_back || taken_at.since(self.observed_at()) >= SILENCE_MAX;
        let news = set_back || taken_at > self.observed_at() || watched_through > self.watched_through();
        let in_order = set_back || taken_at >= self.observed_at();
        let holds = in_order && watched_through >= self.watched_through();
        match self.tip() {
            Some(tip) if due && news && holds => vec![Fact::from(ChainObserved {
                chain: self.chain().clone(),
                tip,
                watched_through,
                observed_at: taken_at,
            })],
            _ => Vec::new(),
        }
    }

    fn decide_mempool(&self, snapshot: Snapshot<'_>, now: Timestamp) -> Result<Vec<Fact>, Refusal> {
        if self.tip().is_none_or(|tip| tip.hash != snapshot.tip) {
            return Err(Refusal::OtherTip { found: snapshot.tip });
        }
        let mut draft = Draft::new(self);
        let conflicts = draft.conflicts(snapshot.credits, snapshot.spends);
        for credit in snapshot.credits.iter().filter(|credit| !credit.amount.is_zero()) {
            if draft.stage(&credit.key).is_some_and(Stage::is_live) {
                continue;
            }
            let held = snapshot.first_held.get(&credit.key.txid).copied();
            let (deposit, replaces) =
                draft.deposit_of(credit, &conflicts, held.map_or(now, |at| at.min(now)));
            draft.set(&deposit.key, Stage::Mempool);
            draft.push(DepositSeen { chain: self.chain().clone(), deposit, replaces });
        }
        draft.replace(&conflicts);
        for followed in self.deposits.in_mempool() {
            let key = &followed.deposit.key;
            if snapshot.gone.contains(&key.txid) && draft.stage(key) == Some(Stage::Mempool) {
                draft.push(DepositVanished { chain: self.chain().clone(), deposit: key.clone() });
            }
        }
        Ok(draft.into_facts())
    }

    fn connected_fact(
        &self,
        from: Height,
        prev: BlockHash,
        last: Header,
        watched_through: Position,
        method: Option<&str>,
        looked_at: Option<Timestamp>,
    ) -> Fact {
        Fact::from(BlockConnected {
            chain: self.chain().clone(),
            block: last.block,
            prev,
            from,
            time: last.time,
            watched_through,
            observed_at: looked_at.unwrap_or(Timestamp::EPOCH).max(self.observed_at()),
            method: method.map(str::to_owned),
        })
    }
}

/// Deposits whose inputs another transaction spends, with that transaction.
type Conflicts = BTreeMap<DepositKey, TxId>;

impl Draft<'_> {
    fn replaced_fact(&self, deposit: &DepositKey, by: TxId) -> Fact {
        Fact::from(DepositReplaced { chain: self.chain().clone(), deposit: deposit.clone(), by })
    }

    fn unmined_fact(&self, deposit: &DepositKey, block: BlockRef, in_mempool: bool) -> Fact {
        Fact::from(DepositUnmined {
            chain: self.chain().clone(),
            deposit: deposit.clone(),
            block,
            in_mempool,
        })
    }

    fn mined_fact(
        &self,
        deposit: tally_events::Deposit,
        block: BlockRef,
        replaces: Option<DepositKey>,
    ) -> Fact {
        Fact::from(DepositMined { chain: self.chain().clone(), deposit, block, replaces })
    }
}

#[cfg(test)]
mod tests;
