//! The fold of one chain's facts.
//!
//! Not here: decisions (`decide`).

use std::collections::BTreeMap;

use tally_events::{
    BlockConnected, BlockDisconnected, ChainCheckpointed, CheckpointStage, DepositSeen, Fact,
};
use tally_types::{BlockHash, BlockRef, ChainId, DepositKey, Height, OutPoint, Position, Timestamp};

use crate::branch::Branch;
use crate::deposits::Deposits;
use crate::{Followed, Header, Refusal, Stage, Step};

/// What a tracker can be told beside its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How many blocks over the lowest known header are kept: the deepest reorg that can be followed.
    window: usize,
}

impl Settings {
    /// The fewest blocks that are kept: deposits are followed to this depth at least.
    pub const WINDOW_MIN: usize = 100;

    /// Keeps `window` blocks, at least [`Settings::WINDOW_MIN`].
    pub fn with_window(window: usize) -> Self {
        Self { window: window.max(Self::WINDOW_MIN) }
    }

    /// The deepest reorg that can be followed.
    pub const fn window(self) -> usize {
        self.window
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { window: 144 }
    }
}

/// One chain as the log has it: the branch, the deposits on it and in the mempool, and how far it was watched.
///
/// A deposit in a block is followed until the block is deeper than the window, which no reorg that can be
/// followed reaches. One that is gone is remembered for as many blocks, so that it keeps its first sighting
/// should it come back.
#[derive(Debug, Clone)]
pub struct Tracker {
    chain: ChainId,
    settings: Settings,
    pub(crate) branch: Branch,
    pub(crate) deposits: Deposits,
    watched_through: Position,
    observed_at: Timestamp,
    /// The height of the last final block; 0 where none is known.
    pub(crate) finalized: Height,
    /// How payments were found in blocks of the branch, where the chain has more than one way.
    pub(crate) methods: BTreeMap<Height, String>,
}

/// Two trackers are equal that follow the same branch and deposits in the same way.
impl PartialEq for Tracker {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain
            && self.branch == other.branch
            && self.deposits == other.deposits
            && self.watched_through == other.watched_through
            && self.observed_at == other.observed_at
            && self.finalized == other.finalized
            && self.methods == other.methods
    }
}

impl Tracker {
    /// A chain of which nothing is known.
    pub fn new(chain: ChainId, settings: Settings) -> Self {
        Self {
            chain,
            settings,
            branch: Branch::default(),
            deposits: Deposits::default(),
            watched_through: Position::START,
            observed_at: Timestamp::EPOCH,
            finalized: Height::default(),
            methods: BTreeMap::new(),
        }
    }

    /// The chain.
    pub fn chain(&self) -> &ChainId {
        &self.chain
    }

    /// What it was told.
    pub(crate) fn settings(&self) -> Settings {
        self.settings
    }

    /// The tip of the log's branch; `None` before the first block.
    pub fn tip(&self) -> Option<BlockRef> {
        self.branch.tip()
    }

    /// The lowest header that is known: a reorg can go back to it, not under it.
    pub fn base(&self) -> Option<BlockRef> {
        self.branch.base()
    }

    /// The block at `height`, between base and tip.
    pub fn block_at(&self, height: Height) -> Option<BlockRef> {
        self.branch.at(height)
    }

    /// How payments were found in the block at `height`, where that is known.
    pub fn method_at(&self, height: Height) -> Option<&str> {
        self.methods.get(&height).map(String::as_str)
    }

    /// The log position whose addresses the whole branch was matched against, from their birth on.
    pub fn watched_through(&self) -> Position {
        self.watched_through
    }

    /// The last report: the watcher's clock, up to which everything on the chain has been looked at.
    pub fn observed_at(&self) -> Timestamp {
        self.observed_at
    }

    /// A followed deposit.
    pub fn deposit(&self, key: &DepositKey) -> Option<&Followed> {
        self.deposits.get(key)
    }

    /// Followed deposits, in the order of their keys.
    pub fn deposits(&self) -> impl Iterator<Item = &Followed> {
        self.deposits.iter()
    }

    /// How many deposits are followed.
    pub fn deposit_count(&self) -> usize {
        self.deposits.len()
    }

    /// Every outpoint whose spending by another transaction would replace a followed deposit.
    pub fn watched_inputs(&self) -> impl Iterator<Item = &OutPoint> {
        self.deposits.inputs()
    }

    /// What has become of [`Tracker::watched_inputs`] since this was last asked, in order: an outpoint is now
    /// to be watched (`true`) or no longer.
    pub fn take_input_changes(&mut self) -> Vec<(OutPoint, bool)> {
        self.deposits.take_changes()
    }

    /// Whether no deposit is about to reach a depth that subscribers are told of, so that blocks without a hit
    /// may be put into one fact.
    pub fn is_quiet(&self) -> bool {
        let deepest = crate::CONFIRMED_DEPTHS.last().copied().map(u64::from).unwrap_or_default();
        self.tip().is_none_or(|tip| {
            let shallow = tip.height.next().next().below(deepest);
            self.deposits.mined_from(shallow).next().is_none()
        })
    }

    /// Compares the log's branch with headers of a node's branch, descending, the first at most one over the
    /// log's tip: a node that is further ahead is asked for its block at the tip's height.
    ///
    /// # Errors
    /// [`Refusal::DeepReorg`] when the hashes do not meet within the window, [`Refusal::NotLinked`] when the
    /// headers do not follow each other.
    pub fn compare(&self, theirs: &[Header]) -> Result<Step, Refusal> {
        self.branch.compare(theirs)
    }

    /// Folds a fact. Facts of other chains and other aggregates are none of its business and change nothing.
    pub fn apply(&mut self, fact: &Fact) {
        match fact {
            Fact::BlockConnected(fact) if fact.chain == self.chain => self.connected(fact),
            Fact::BlockDisconnected(fact) if fact.chain == self.chain => self.disconnected(fact),
            Fact::ChainObserved(fact) if fact.chain == self.chain => {
                self.watched_through = self.watched_through.max(fact.watched_through);
                // Only the writer of the moment tells it, and at once.
                self.observed_at = fact.last_look(self.observed_at, fact.observed_at);
            }
            Fact::ChainCheckpointed(fact) if fact.chain == self.chain => self.checkpointed(fact),
            Fact::ChainFinalized(fact) if fact.chain == self.chain => {
                self.finalized = self.finalized.max(fact.block.height);
            }
            Fact::DepositSeen(fact) if fact.chain == self.chain => self.seen(fact),
            Fact::DepositMined(fact) if fact.chain == self.chain => {
                self.make_room(fact.replaces.as_ref());
                self.deposits.put(&fact.deposit, Stage::Mined(fact.block));
            }
            Fact::DepositUnmined(fact) if fact.chain == self.chain => {
                let stage = if fact.in_mempool { Stage::Mempool } else { self.gone() };
                self.deposits.set_stage(&fact.deposit, stage);
            }
            Fact::DepositReplaced(fact) if fact.chain == self.chain => {
                self.deposits.set_stage(&fact.deposit, self.gone());
            }
            Fact::DepositVanished(fact) if fact.chain == self.chain => {
                self.deposits.set_stage(&fact.deposit, self.gone());
            }
            _ => {}
        }
    }

    pub(crate) fn gone(&self) -> Stage {
        Stage::Gone(self.tip().map(|tip| tip.height).unwrap_or_default())
    }

    fn seen(&mut self, fact: &DepositSeen) {
        self.make_room(fact.replaces.as_ref());
        let mined = self.deposits.get(&fact.deposit.key).is_some_and(|f| matches!(f.stage, Stage::Mined(_)));
        if !mined {
            self.deposits.put(&fact.deposit, Stage::Mempool);
        }
    }

    /// A deposit that another took the place of is gone.
    fn make_room(&mut self, replaced: Option<&DepositKey>) {
        if let Some(key) = replaced
            && self.deposits.get(key).is_some_and(|followed| followed.stage == Stage::Mempool)
        {
            self.deposits.set_stage(key, self.gone());
        }
    }

    fn connected(&mut self, fact: &BlockConnected) {
        self.branch.connect(fact.from, fact.prev, fact.block, self.settings.window);
        self.methods.retain(|height, _| *height < fact.from);
        self.methods.extend(fact.method.iter().map(|method| (fact.block.height, method.clone())));
        self.forget_methods();
        self.reported(fact.watched_through, fact.observed_at);
        let oldest = fact.block.height.below(self.settings.window as u64);
        self.deposits.forget_below(oldest.next());
    }

    fn disconnected(&mut self, fact: &BlockDisconnected) {
        self.branch.disconnect(fact.block);
        self.methods.retain(|height, _| *height < fact.block.height);
    }

    /// What lies under the branch is not asked for again.
    fn forget_methods(&mut self) {
        if let Some(base) = self.branch.base() {
            self.methods = self.methods.split_off(&base.height);
        }
    }

    pub(crate) fn reported(&mut self, watched_through: Position, observed_at: Timestamp) {
        self.watched_through = self.watched_through.max(watched_through);
        self.observed_at = self.observed_at.max(observed_at);
    }

    /// Starts over from a checkpoint: its first part resets, the others add.
    fn checkpointed(&mut self, fact: &ChainCheckpointed) {
        if fact.part == 0 {
            let changes_of = std::mem::take(&mut self.deposits);
            self.deposits.supersede(changes_of);
            self.branch = Branch::from_headers(fact.headers.iter().copied());
            self.finalized = fact.finalized.unwrap_or_default();
            self.methods = fact.methods.iter().cloned().collect();
        }
        self.reported(fact.watched_through, fact.observed_at);
        for item in &fact.deposits {
            let stage = match item.stage {
                CheckpointStage::Mempool => Stage::Mempool,
                CheckpointStage::Mined(block) => Stage::Mined(block),
                CheckpointStage::Gone => self.gone(),
            };
            self.deposits.put(&item.deposit, stage);
        }
    }

    /// Whether a block belongs to the branch, as far as is known: under the lowest header everything does.
    pub(crate) fn is_on_branch(&self, block: BlockRef) -> bool {
        match (self.branch.base(), self.branch.at(block.height)) {
            (_, Some(known)) => known == block,
            (Some(base), None) => block.height < base.height,
            (None, None) => false,
        }
    }

    /// The hash under the tip, of the block at `height` on the branch.
    pub(crate) fn prev_of(&self, block: BlockRef) -> BlockHash {
        let zero = BlockHash::from_display([0; 32]);
        match block.height.get() {
            0 => zero,
            _ => self.branch.at(block.height.below(1)).map_or(zero, |prev| prev.hash),
        }
    }
}

#[cfg(test)]
mod tests;
