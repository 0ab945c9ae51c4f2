//! Addresses that were learned when a payment may have gone by: from their birth on, blocks are matched again
//! for them alone, and the mempool.
//!
//! Every quote is such an address for a moment, since its fact and a block may cross. So many are looked for at
//! once, a job after the other, and jobs take a tenth of the time at most.

use futures::StreamExt;
use tally_ports::{Header, PortError, SharedWatch};
use tally_tracker::Scanned;
use tally_types::{BlockRef, Height, Position, Span};

use crate::convert;
use crate::trouble::Trouble;
use crate::worker::Worker;

/// The most blocks matched again in one round.
const STEP_MAX: usize = 64;
/// The longest pause between two jobs.
const PAUSE_MAX: Span = Span::from_secs(30);
/// For each millisecond a job took, the next waits this many.
const PAUSE_FACTOR: u64 = 9;

/// Matching again what went by.
pub(crate) struct Rescan {
    /// The addresses, the last of them named at `through`.
    watch: SharedWatch,
    through: Position,
    birth: Height,
    next: Height,
    /// The last block that was matched by this job.
    prev: Option<BlockRef>,
    took: Span,
}

impl Worker {
    /// Goes on with the job at hand, or begins one. True if there is more to do at once.
    pub(crate) async fn match_late(&mut self) -> Result<bool, Trouble> {
        let started = self.ports.clock.now();
        let Some(mut job) = self.rescan.take().or_else(|| self.new_rescan()) else { return Ok(false) };
        let result = self.rescan_step(&mut job).await;
        job.took = Span::from_millis(
            job.took.millis().saturating_add(self.ports.clock.now().since(started).millis()),
        );
        if matches!(result, Ok(true)) {
            self.shared.settle(job.through);
            let pause = Span::from_millis(job.took.millis().saturating_mul(PAUSE_FACTOR)).min(PAUSE_MAX);
            self.next_rescan = self.ports.clock.now().plus(pause);
        } else {
            self.rescan = Some(job);
        }
        result.map(|done| !done)
    }

    fn new_rescan(&self) -> Option<Rescan> {
        let now = self.ports.clock.now();
        // A clock that was set back must not hold a job up for long.
        let paused = now < self.next_rescan && self.next_rescan.since(now) <= PAUSE_MAX;
        if paused {
            return None;
        }
        let late = self.shared.late();
        let through = late.last()?.position;
        let birth = late.iter().map(|address| address.birth).min()?;
        let watch = self.shared.watch_only(&late);
        Some(Rescan { watch, through, birth, next: birth, prev: None, took: Span::default() })
    }

    /// One step of a job; true when it is done.
    async fn rescan_step(&mut self, job: &mut Rescan) -> Result<bool, Trouble> {
        let Some(tip) = self.tracker.tip() else { return Ok(true) };
        // What a reorg put in the place of blocks was matched with the addresses, or is matched now.
        if job.next > tip.height {
            return self.look_again(&job.watch).await;
        }
        let heights: Vec<Height> =
            (job.next.get()..=tip.height.get()).take(STEP_MAX).map(Height::new).collect();
        let unmatched: Vec<Height> =
            heights.iter().copied().filter(|height| !self.was_matched(*height, job.through)).collect();
        let mut headers = Vec::new();
        for height in &unmatched {
            headers.push(self.header_on_branch(*height).await?);
        }
        if !self.are_linked(&headers, job.prev).await? {
            tracing::warn!(chain = %self.config.chain, "the node changed its branch: matching again from the start");
            (job.next, job.prev) = (job.birth, None);
            return Ok(false);
        }
        let found = self.find_again(&headers, job).await?;
        for block in found {
            self.find(block).await?;
        }
        job.prev = headers.last().map(|header| header.block).or(job.prev);
        job.next = heights.last().map_or(job.next, |last| last.next());
        Ok(false)
    }

    /// Matches blocks against the job's addresses alone; those with a hit.
    async fn find_again(&self, headers: &[Header], job: &Rescan) -> Result<Vec<Scanned>, Trouble> {
        let (source, watch) = (&self.ports.source, &job.watch);
        let scans: Vec<_> = headers.iter().map(|header| source.scan(header, watch)).collect();
        let mut scans = futures::stream::iter(scans).buffered(self.config.prefetch.max(1));
        let mut found = Vec::new();
        for header in headers {
            let Some(block) = scans.next().await else { break };
            let height = header.block.height;
            let block = block.map_err(|error| Trouble::Block { height, error })?;
            if block.header != *header {
                let other = format!("block {} instead of {}", block.header.block.hash, header.block.hash);
                return Err(Trouble::Block { height, error: PortError::transient(other) });
            }
            if !block.credits.is_empty() {
                found.push(convert::scanned(block, job.through));
            }
        }
        Ok(found)
    }

    /// Whether a block was matched with all addresses up to `through` when it was connected.
    fn was_matched(&self, height: Height, through: Position) -> bool {
        self.matched.iter().any(|(known, matched)| *known == height && *matched >= through)
    }

    /// The header of the log's branch at a height; below what is known of it, the node's.
    pub(crate) async fn header_on_branch(&self, height: Height) -> Result<Header, Trouble> {
        let header = match self.tracker.block_at(height) {
            Some(block) => self.ports.source.header(&block.hash).await.map_err(Trouble::Source)?,
            None => self.ports.source.at(height).await.map_err(Trouble::Source)?,
        };
        header.ok_or_else(|| {
            Trouble::Source(PortError::transient(format!("the node has no block at height {height}")))
        })
    }

    /// Headers below what is known of the branch must lead up to it: they follow each other, and the node has
    /// the lowest known one on its own branch.
    async fn are_linked(&self, headers: &[Header], before: Option<BlockRef>) -> Result<bool, Trouble> {
        let Some(base) = self.tracker.base() else { return Ok(true) };
        if headers.first().is_none_or(|first| first.block.height >= base.height) {
            return Ok(true);
        }
        let mut before = before;
        for header in headers {
            let follows =
                |prev: BlockRef| prev.height.next() != header.block.height || prev.hash == header.prev;
            if !before.is_none_or(follows) {
                return Ok(false);
            }
            before = Some(header.block);
        }
        let there = self.ports.source.at(base.height).await.map_err(Trouble::Source)?;
        Ok(there.is_some_and(|there| there.block == base))
    }
}
