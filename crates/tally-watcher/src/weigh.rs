//! Which of two branches stands for more work.
//!
//! Only asked of a node that has not shown the log's branch as its own. Not here: what follows (`advance`, and `Loyalty`
//! of the tracker).

use tally_ports::Header;
use tally_tracker::Fork;
use tally_types::{BlockHash, BlockRef, Height};

use crate::trouble::Trouble;
use crate::worker::Worker;

/// So many blocks more than the log's branch has are weighed of the node's: they stand for more in any case, unless they
/// are all but free.
const MORE_MAX: u64 = 300;

/// Two tips, and whether the second has more work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Weighed {
    own: BlockHash,
    theirs: BlockHash,
    more: bool,
}

/// Work added up.
#[derive(Debug, Clone, Copy, Default)]
struct Scale {
    sum: u128,
    /// Blocks whose work nobody tells.
    unknown: u64,
    /// The most that a block stands for.
    most: u128,
}

impl Scale {
    fn add(&mut self, work: Option<u128>) {
        match work {
            Some(work) => {
                self.sum = self.sum.saturating_add(work);
                self.most = self.most.max(work);
            }
            None => self.unknown = self.unknown.saturating_add(1),
        }
    }
}

impl Worker {
    /// Whether the node's branch stands for more work than the log's, from the block on where they part. A block of the
    /// log's branch that the node does not have counts as the heaviest that is known. Where the chain does not measure
    /// work, height stands for it.
    pub(crate) async fn has_more_work(
        &mut self,
        fork: &Fork,
        own: BlockRef,
        tip: &Header,
    ) -> Result<bool, Trouble> {
        let theirs = tip.block.hash;
        if let Some(weighed) = self.weighed
            && weighed.own == own.hash
            && weighed.theirs == theirs
        {
            return Ok(weighed.more);
        }
        let more = match self.work(&fork.point.hash).await? {
            Some(work) => self.weigh(fork, own, tip, work).await?,
            None => tip.block.height > own.height,
        };
        self.weighed = Some(Weighed { own: own.hash, theirs, more });
        Ok(more)
    }

    async fn weigh(&self, fork: &Fork, own: BlockRef, tip: &Header, before: u128) -> Result<bool, Trouble> {
        let first = fork.point.height.next().get();
        let mut ours = Scale { most: before, ..Scale::default() };
        for height in first..=own.height.get() {
            let block = self.tracker.block_at(Height::new(height));
            ours.add(match block {
                Some(block) => self.work(&block.hash).await?,
                None => None,
            });
        }
        let mut theirs = Scale::default();
        for height in first..=tip.block.height.get().min(own.height.get().saturating_add(MORE_MAX)) {
            let known = fork.connect.iter().find(|header| header.block.height.get() == height);
            let hash = match known {
                Some(header) => Some(header.block.hash),
                None => {
                    let told = self.ports.source.at(Height::new(height)).await.map_err(Trouble::Source)?;
                    told.map(|header| header.block.hash)
                }
            };
            theirs.add(match hash {
                Some(hash) => self.work(&hash).await?,
                None => None,
            });
        }
        let missing = ours.most.max(theirs.most).saturating_mul(u128::from(ours.unknown));
        Ok(theirs.sum > ours.sum.saturating_add(missing))
    }

    async fn work(&self, block: &BlockHash) -> Result<Option<u128>, Trouble> {
        self.ports.source.work(block).await.map_err(Trouble::Source)
    }
}
