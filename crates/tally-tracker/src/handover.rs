//! From one set of shards to another: what each of the new ones starts from.
//!
//! Not here: who says so, and the append (`tally-watcher`).

use tally_events::{ChainSharded, Fact, Shard};
use tally_types::BlockRef;

use crate::branch::Branch;
use crate::{Stage, Tracker};

/// A change of the number of shards, ready to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// Stands on the chain's plan and ends each shard there was.
    pub sharded: ChainSharded,
    /// What each new shard starts from, on its own subject.
    pub starts: Vec<(Shard, Vec<Fact>)>,
}

impl Handover {
    /// From `old` shards, all of them, to `count` new ones; `None` while the old ones do not stand at one common
    /// block, or one of them is in the middle of a block.
    pub fn from(old: &[&Tracker], generation: u32, count: u32) -> Option<Self> {
        let first = old.first()?;
        let at = first.tip();
        let stands = |tracker: &&Tracker| tracker.tip() == at && !tracker.is_dangling();
        if !old.iter().all(stands) {
            return None;
        }
        let watched_through = old.iter().map(|tracker| tracker.watched_through()).min()?;
        let observed_at = old.iter().map(|tracker| tracker.observed_at()).min()?;
        let chain = first.chain().clone();
        let sharded = ChainSharded { chain, generation, count, at, watched_through, observed_at };
        let longest = old.iter().max_by_key(|tracker| tracker.branch.blocks().count())?;
        let starts = Shard::all(count)
            .map(|shard| (shard, longest.part_of(old, shard, &sharded).checkpoint()))
            .collect();
        Some(Self { sharded, starts })
    }
}

impl Tracker {
    /// Whether there are payments in blocks that were announced and are not connected, or were left.
    pub fn is_dangling(&self) -> bool {
        let above = self.tip().map_or_else(Default::default, |tip: BlockRef| tip.height.next());
        self.deposits.mined_from(above).next().is_some()
    }

    /// The part of all `old` shards that is a new shard's: the branch as far as this one, which knows most of it,
    /// has it, and the deposits to its scripts.
    fn part_of(&self, old: &[&Self], shard: Shard, sharded: &ChainSharded) -> Self {
        let mut part = Self::new(self.chain().clone(), self.settings());
        part.branch = Branch::from_headers(self.branch.blocks());
        part.methods = self.methods.clone();
        part.finalized = old.iter().map(|tracker| tracker.finalized).min().unwrap_or_default();
        for followed in old.iter().flat_map(|tracker| tracker.deposits()) {
            if shard.has(&followed.deposit.script) {
                let stage = match followed.stage {
                    Stage::Gone(_) => part.gone(),
                    live => live,
                };
                part.deposits.put(&followed.deposit, stage);
            }
        }
        part.reported(sharded.watched_through, sharded.observed_at);
        part
    }
}
