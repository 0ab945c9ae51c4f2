//! To the node's tip: through a fork where there is one, block after block, in runs where it is far.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use futures::StreamExt;
use tally_events::Fact;
use tally_ports::{BlockSource, Header, PortError};
use tally_tracker::{Fork, Input, Scanned, Step};
use tally_types::{BlockHash, BlockRef, Height, Position, Timestamp, TxId};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::convert;
use crate::shared::Shared;
use crate::trouble::Trouble;
use crate::worker::{RECALL, Worker};

/// Runs end this far below the node's tip: above, every block is a fact of its own and can be taken back.
const RUN_MARGIN: u64 = 100;
/// The most blocks in one go, so that what else there is to do gets its turn.
const GO_MAX: u64 = 2000;
/// After a reorg, so many blocks over the last that was known are looked into before the first is connected.
const LOOK_AHEAD: usize = 8;
/// So many rounds in a row may find the mempool at another tip; then a reorg is followed without it.
const MOVED_MAX: u32 = 4;
/// Recent blocks whose matching position is remembered.
const MATCHED_MAX: usize = 512;

/// Where the log's branch stands to the node's after a step.
pub(crate) enum Reached {
    /// At its tip.
    Tip,
    /// There are more blocks.
    More,
    /// The node is behind, or on a branch that is not followed yet: nothing can be said.
    Apart,
}

/// The way to the node's tip.
struct Way {
    /// The first block to connect.
    first: Height,
    /// Headers from there on, as far as they are known.
    headers: Vec<Header>,
    /// The node's mempool at its tip, where blocks leave the branch and it could be had.
    present: Option<HashSet<TxId>>,
}

impl Way {
    fn up_from(first: Height) -> Self {
        Self { first, headers: Vec::new(), present: None }
    }
}

/// A block that was fetched and matched.
struct Fetched {
    block: Scanned,
    since: Instant,
}

/// Blocks without a hit that go into one fact.
struct Run {
    from: Height,
    prev: BlockHash,
    last: Scanned,
    watched_through: Position,
}

impl Worker {
    pub(crate) async fn advance(&mut self, tip: &Header, now: Timestamp) -> Result<Reached, Trouble> {
        let Some(own) = self.tracker.tip() else {
            let start = self.config.start.unwrap_or(tip.block.height.below(self.config.start_below_tip));
            if start > tip.block.height {
                return Ok(Reached::Apart);
            }
            return self.connect(Way::up_from(start), tip, now).await;
        };
        if own == tip.block {
            self.loyalty.agrees();
            return Ok(Reached::Tip);
        }
        let behind = self.tracker.base().is_some_and(|base| tip.block.height < base.height);
        if behind || self.tracker.block_at(tip.block.height) == Some(tip.block) {
            tracing::debug!(chain = %self.config.chain, node = tip.block.height.get(), "the node is behind");
            return Ok(Reached::Apart);
        }
        let fork = self.find_fork(own, tip).await?;
        match fork {
            None => {
                self.loyalty.agrees();
                let present = match self.tracker.is_dangling() {
                    true => self.mempool_at(tip).await?,
                    false => None,
                };
                self.connect(Way { present, ..Way::up_from(own.height.next()) }, tip, now).await
            }
            Some(fork) => {
                let more = self.loyalty.is_shown() || self.has_more_work(&fork, own, tip).await?;
                if !self.loyalty.may_leave(more, now) {
                    tracing::warn!(chain = %self.config.chain, node = %tip.block.hash, "not followed yet");
                    return Ok(Reached::Apart);
                }
                self.recall(fork.point, RECALL).await?;
                let headers = fork.connect.iter().map(convert::to_port).collect();
                let present = self.mempool_at(tip).await?;
                self.connect(Way { first: fork.point.height.next(), headers, present }, tip, now).await
            }
        }
    }

    /// Where the node's branch leaves the log's; `None` if it goes on from the log's tip.
    async fn find_fork(&self, own: BlockRef, tip: &Header) -> Result<Option<Fork>, Trouble> {
        let source = &self.ports.source;
        let meet = match tip.block.height > own.height {
            true => source.at(own.height).await.map_err(Trouble::Source)?,
            false => Some(*tip),
        };
        let Some(meet) = meet else { return Err(missing(format!("no block at height {}", own.height))) };
        let mut theirs = vec![convert::header(&meet)];
        loop {
            match self.tracker.compare(&theirs)? {
                Step::Common => return Ok(None),
                Step::Met(fork) => return Ok(Some(fork)),
                Step::Ask(hash) => {
                    let header = source.header(&hash).await.map_err(Trouble::Source)?;
                    let Some(header) = header else { return Err(missing(format!("no header {hash}"))) };
                    if header.block.hash != hash {
                        return Err(missing(format!("header {} instead of {hash}", header.block.hash)));
                    }
                    theirs.push(convert::header(&header));
                }
            }
        }
    }

    /// Leaves the log's branch for the node's at a height, whatever is in between.
    pub(crate) async fn restart_at(
        &mut self,
        from: Height,
        tip: &Header,
        now: Timestamp,
    ) -> Result<(), Trouble> {
        tracing::warn!(chain = %self.config.chain, from = from.get(), "begins anew, as asked for");
        let present = self.mempool_at(tip).await?;
        let first = fetch(Arc::clone(&self.ports.source), Arc::clone(&self.shared), from).await?;
        let mut block = first.block;
        let matched = block.watched_through;
        block.watched_through = self.shared.watched_through(matched);
        self.take_off_told(&mut block).await?;
        self.say(Input::Restart { block: &block, present: present.as_ref() }, now).await?;
        self.matched.clear();
        self.remember(from, matched);
        self.loyalty.agrees();
        self.show_progress();
        Ok(())
    }

    /// What is in the node's mempool at its tip: where blocks leave the branch, this says which of their
    /// payments are back there. `None` where the chain has no mempool stage, or its node keeps answering at other tips.
    ///
    /// What is absent now and there again a moment later is new then, whatever was looked at before.
    async fn mempool_at(&mut self, tip: &Header) -> Result<Option<HashSet<TxId>>, Trouble> {
        let seen = self.ports.source.mempool(&self.known, &self.shared.watch).await;
        let moved = match seen.map_err(Trouble::Source)? {
            Some(diff) if diff.tip == tip.block.hash => {
                self.known.retain(|txid| diff.present.contains(txid));
                return Ok(Some(diff.present));
            }
            Some(_) => true,
            None => self.ports.source.tip().await.map_err(Trouble::Source)?.block != tip.block,
        };
        match moved && self.failures < MOVED_MAX {
            true => Err(Trouble::Moved),
            false => Ok(None),
        }
    }

    /// Takes back the payments of blocks that were announced and are not connected, or were left, where a writer was
    /// cut off in the middle: they are in the mempool, in one of the node's next blocks, or nowhere.
    pub(crate) async fn take_back_dangling(&mut self, tip: &Header) -> Result<(), Trouble> {
        if !self.tracker.is_dangling() {
            return Ok(());
        }
        let mut present = self.mempool_at(tip).await?;
        if let (Some(present), Some(own)) = (&mut present, self.tracker.tip()) {
            for height in (own.height.next().get()..=tip.block.height.get()).take(LOOK_AHEAD) {
                let (source, shared) = (Arc::clone(&self.ports.source), Arc::clone(&self.shared));
                let next = fetch(source, shared, Height::new(height)).await?;
                present.extend(next.block.credits.iter().map(|credit| credit.key.txid));
            }
        }
        self.say(Input::Dangling { present: present.as_ref() }, self.ports.clock.now()).await
    }

    /// Connects the blocks from `first` to the node's tip. Several are on their way at once; the log gets them
    /// one after the other.
    async fn connect(&mut self, way: Way, tip: &Header, now: Timestamp) -> Result<Reached, Trouble> {
        let Way { first, headers, mut present } = way;
        let target = tip.block.height.get().min(first.get().saturating_add(GO_MAX));
        let (source, shared) = (Arc::clone(&self.ports.source), Arc::clone(&self.shared));
        let wanted = (first.get()..=target).map(|height| {
            let known = height.checked_sub(first.get()).and_then(|at| usize::try_from(at).ok());
            let known = known.and_then(|at| headers.get(at)).copied();
            apart(header_at(Arc::clone(&source), Height::new(height), known))
        });
        let wanted: Vec<_> = wanted.collect();
        let prefetch = self.config.prefetch.max(1);
        // Headers go ahead of the bodies, so that as many bodies as may be are always on their way.
        let mut fetched = futures::stream::iter(wanted)
            .buffered(prefetch.saturating_mul(2))
            .map(|header| apart(body(Arc::clone(&source), Arc::clone(&shared), header)))
            .buffered(prefetch);
        let run_to = tip.block.height.below(RUN_MARGIN);
        let mut run: Option<Run> = None;
        let mut ahead = VecDeque::new();
        if let Some(present) = &mut present {
            look_ahead(&mut fetched, present, &mut ahead, headers.len().saturating_add(LOOK_AHEAD)).await;
        }
        loop {
            let next = match ahead.pop_front() {
                Some(next) => Some(next),
                None => fetched.next().await,
            };
            let Some(next) = next else { break };
            let next = match next {
                Ok(next) => next,
                Err(trouble) => {
                    self.end_run(run.take(), now).await?;
                    return Err(trouble);
                }
            };
            let height = next.block.header.block.height;
            let barren = next.block.credits.is_empty() && next.block.spends.is_empty();
            if barren && height <= run_to && self.may_run(run.as_ref(), &next.block) {
                run = Some(extended(run.take(), next.block));
                if run.as_ref().is_some_and(|run| is_long(run, self.config.run_max)) {
                    self.end_run(run.take(), now).await?;
                }
                continue;
            }
            self.end_run(run.take(), now).await?;
            self.connect_one(next, present.as_ref(), now).await?;
        }
        self.end_run(run, now).await?;
        Ok(match self.tracker.tip() {
            Some(own) if own == tip.block => {
                self.loyalty.agrees();
                Reached::Tip
            }
            _ => Reached::More,
        })
    }

    /// Whether a block without a hit may go into a run: it follows, no reorg is under way, and no deposit is
    /// about to reach a depth that is told.
    fn may_run(&self, run: Option<&Run>, block: &Scanned) -> bool {
        let before = run.map(|run| run.last.header.block).or(self.tracker.tip());
        let follows = before.is_some_and(|before| {
            before.hash == block.header.prev && before.height.next() == block.header.block.height
        });
        follows && self.tracker.is_quiet() && run.is_none_or(|run| run.last.method == block.method)
    }

    async fn end_run(&mut self, run: Option<Run>, now: Timestamp) -> Result<(), Trouble> {
        let Some(run) = run else { return Ok(()) };
        let header = run.last.header;
        let input = Input::Run {
            from: run.from,
            prev: run.prev,
            last: header,
            watched_through: self.shared.watched_through(run.watched_through),
            method: run.last.method.as_deref(),
            looked_at: self.looked_at,
        };
        self.say(input, now).await?;
        self.remember(header.block.height, run.watched_through);
        self.show_progress();
        Ok(())
    }

    async fn connect_one(
        &mut self,
        next: Fetched,
        present: Option<&HashSet<TxId>>,
        now: Timestamp,
    ) -> Result<(), Trouble> {
        let Fetched { mut block, since } = next;
        let matched = block.watched_through;
        block.watched_through = self.shared.watched_through(matched);
        let height = block.header.block.height;
        self.take_off_told(&mut block).await?;
        let input = Input::Block { block: &block, looked_at: self.looked_at, present };
        let facts = self.tracker.decide(input, now)?;
        let left = facts.iter().filter(|fact| matches!(fact, Fact::BlockDisconnected(_))).count();
        if left > 0 {
            tracing::warn!(chain = %self.config.chain, depth = left, to = %block.header.block.hash, "reorg");
        }
        self.append(facts).await?;
        self.matched.retain(|(known, _)| *known < height);
        self.remember(height, matched);
        self.gauges.block(since.elapsed());
        self.show_progress();
        Ok(())
    }

    fn remember(&mut self, height: Height, matched: Position) {
        self.matched.push_back((height, matched));
        while self.matched.len() > MATCHED_MAX {
            self.matched.pop_front();
        }
    }

    fn show_progress(&self) {
        self.handle.update(|view| view.own_tip = self.tracker.tip());
    }
}

/// Matches the first blocks of a new branch before the log hears of any: what left a block and is in one of them
/// is as present as what is in the mempool, so that nobody takes it for lost in between.
async fn look_ahead(
    fetched: &mut (impl futures::Stream<Item = Result<Fetched, Trouble>> + Unpin),
    present: &mut HashSet<TxId>,
    ahead: &mut VecDeque<Result<Fetched, Trouble>>,
    at_most: usize,
) {
    while ahead.len() < at_most
        && let Some(next) = fetched.next().await
    {
        let failed = next.is_err();
        if let Ok(next) = &next {
            present.extend(next.block.credits.iter().map(|credit| credit.key.txid));
        }
        ahead.push_back(next);
        if failed {
            return;
        }
    }
}

fn is_long(run: &Run, run_max: u64) -> bool {
    run.last.header.block.height.get().saturating_sub(run.from.get()) >= run_max.saturating_sub(1)
}

fn extended(run: Option<Run>, block: Scanned) -> Run {
    match run {
        Some(run) => {
            let watched_through = run.watched_through.min(block.watched_through);
            Run { last: block, watched_through, ..run }
        }
        None => Run {
            from: block.header.block.height,
            prev: block.header.prev,
            watched_through: block.watched_through,
            last: block,
        },
    }
}

fn missing(what: String) -> Trouble {
    Trouble::Source(PortError::transient(format!("{what}, which the node just had")))
}

/// Runs a fetch as a task of its own, so that blocks come in while an append is on its way. It ends with its future.
async fn apart<T: Send + 'static>(
    fetch: impl Future<Output = Result<T, Trouble>> + Send + 'static,
) -> Result<T, Trouble> {
    match AbortOnDropHandle::new(tokio::spawn(fetch)).await {
        Ok(fetched) => fetched,
        Err(error) => Err(Trouble::Source(PortError::persistent(format!("a block was not read: {error}")))),
    }
}

/// Fetches and matches the block at a height.
async fn fetch(
    source: Arc<dyn BlockSource>,
    shared: Arc<Shared>,
    height: Height,
) -> Result<Fetched, Trouble> {
    let header = header_at(Arc::clone(&source), height, None).await;
    body(source, shared, header).await
}

async fn header_at(
    source: Arc<dyn BlockSource>,
    height: Height,
    known: Option<Header>,
) -> Result<Header, Trouble> {
    let header = match known {
        Some(header) => Some(header),
        None => source.at(height).await.map_err(Trouble::Source)?,
    };
    header.ok_or_else(|| missing(format!("no block at height {height}")))
}

/// Fetches and matches a block. The position is taken before the matching, so that it is never too high.
async fn body(
    source: Arc<dyn BlockSource>,
    shared: Arc<Shared>,
    header: Result<Header, Trouble>,
) -> Result<Fetched, Trouble> {
    let since = Instant::now();
    let header = header?;
    let height = header.block.height;
    let matched = shared.position();
    let block = source.scan(&header, &shared.watch).await;
    let block = block.map_err(|error| Trouble::Block { height, error })?;
    if block.header != header {
        let other = format!("block {} instead of {}", block.header.block.hash, header.block.hash);
        return Err(Trouble::Block { height, error: PortError::transient(other) });
    }
    Ok(Fetched { block: convert::scanned(block, matched), since })
}
