//! The headers of the branch that the log follows, and how it compares with a node's branch.
//!
//! Not here: deposits, and the decision whether to follow the node (`loyalty`).

use std::collections::VecDeque;

use tally_types::{BlockHash, BlockRef, Height};

use crate::{Header, Refusal};

/// Consecutive headers, ascending. The lowest is only ever a fork point: what lies under it is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Branch {
    blocks: VecDeque<BlockRef>,
}

impl Branch {
    pub(crate) fn from_headers(blocks: impl IntoIterator<Item = BlockRef>) -> Self {
        Self { blocks: blocks.into_iter().collect() }
    }

    pub(crate) fn tip(&self) -> Option<BlockRef> {
        self.blocks.back().copied()
    }

    pub(crate) fn base(&self) -> Option<BlockRef> {
        self.blocks.front().copied()
    }

    pub(crate) fn blocks(&self) -> impl DoubleEndedIterator<Item = BlockRef> + '_ {
        self.blocks.iter().copied()
    }

    /// The block at a height; `None` above the tip and under the lowest known.
    pub(crate) fn at(&self, height: Height) -> Option<BlockRef> {
        let base = self.base()?;
        let above = height.get().checked_sub(base.height.get())?;
        self.blocks.get(usize::try_from(above).ok()?).copied()
    }

    pub(crate) fn contains(&self, block: BlockRef) -> bool {
        self.at(block.height) == Some(block)
    }

    /// Adds the block, or the run of blocks from `from`, over the tip. Of a run only the last is known, so it
    /// becomes the lowest. At most `window` blocks over the lowest are kept.
    pub(crate) fn connect(&mut self, from: Height, prev: BlockHash, block: BlockRef, window: usize) {
        let follows = self.tip().is_none_or(|tip| tip.height.next() == from && tip.hash == prev);
        if from != block.height || !follows {
            self.blocks.clear();
        }
        if self.blocks.is_empty() && from == block.height && from > Height::default() {
            self.blocks.push_back(BlockRef { height: from.below(1), hash: prev });
        }
        self.blocks.push_back(block);
        while self.blocks.len() > window.saturating_add(1) {
            self.blocks.pop_front();
        }
    }

    /// Takes the tip off, if it is this block; the lowest stays.
    pub(crate) fn disconnect(&mut self, block: BlockRef) {
        if self.tip() == Some(block) && self.blocks.len() > 1 {
            self.blocks.pop_back();
        }
    }
}

/// Where a node's branch leaves the log's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The last block that both have.
    pub point: BlockRef,
    /// The node's blocks over it, ascending, as far as they were asked for.
    pub connect: Vec<Header>,
}

/// The next step of comparing two branches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The node's block is on the log's branch.
    Common,
    /// Ask the node for the header of this block, which comes before the lowest known of its branch.
    Ask(BlockHash),
    /// The hashes met.
    Met(Fork),
}

impl Branch {
    /// Compares with headers of the node's branch, descending, the first at most one over the log's tip.
    ///
    /// The header diff: the higher side steps back, both if equal, until the hashes meet. The log's side is in
    /// memory, so only the node's side takes steps.
    pub(crate) fn compare(&self, theirs: &[Header]) -> Result<Step, Refusal> {
        let (Some(base), Some(lowest)) = (self.base(), theirs.last()) else { return Ok(Step::Common) };
        let linked = theirs.windows(2).all(|pair| match pair {
            [upper, lower] => {
                upper.prev == lower.block.hash && upper.block.height == lower.block.height.next()
            }
            _ => true,
        });
        if !linked {
            return Err(Refusal::NotLinked { block: lowest.block });
        }
        if self.contains(lowest.block) {
            return Ok(Step::Common);
        }
        if lowest.block.height <= base.height {
            let blocks = self.blocks.len().saturating_sub(1);
            return Err(Refusal::DeepReorg { base, blocks });
        }
        match self.at(lowest.block.height.below(1)) {
            Some(point) if point.hash == lowest.prev => {
                Ok(Step::Met(Fork { point, connect: theirs.iter().rev().copied().collect() }))
            }
            _ => Ok(Step::Ask(lowest.prev)),
        }
    }
}
