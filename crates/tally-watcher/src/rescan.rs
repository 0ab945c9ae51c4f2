//! Rescans: asked for in the log, and matched part by part by whoever holds a part's lease.
//!
//! Any number of processes work at one; each shard's scripts are matched by those that have them in their watch
//! set, writers and standbys alike. Not here: what becomes of a find (`apply`).

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tally_events::{Deposit, Epoch, Event, Fact, FoundBlock, RescanReported, RescanRequested, Subject};
use tally_ports::{AppendError, EventLog, Expectation, Header, PortError, ScannedBlock};
use tally_tracker::{RescanPart, RescanProgress, Rescans, part_blocks};
use tally_types::{BlockRef, ChainId, Height, Position, Timestamp};

use crate::keeper::Keeper;
use crate::shared::Shared;
use crate::{WatcherConfig, WatcherPorts};

/// How often a rescan's subject is tried again where others write to it too.
const TRIES: u32 = 50;
/// How long a fact that is in the log may take to come.
const ARRIVAL: Duration = Duration::from_secs(5);
/// How long to wait before parts that others hold are asked for again.
const PAUSE: Duration = Duration::from_millis(500);
/// About the most bytes of what was found in one fact.
const REPORT_BYTES_MAX: usize = 300 * 1024;
/// A block with more payments than this is reported in several pieces.
const DEPOSITS_MAX: usize = 400;

/// Reads the open rescans of a chain, with the position of the last fact about one.
async fn open_rescans(log: &dyn EventLog, chain: &ChainId) -> Result<(Rescans, Position), PortError> {
    let subject = Subject::chain_rescan(chain);
    let mut rescans = Rescans::default();
    let Some(last) = log.last(&subject).await? else { return Ok((rescans, Position::START)) };
    let since = match &last.event.fact {
        Fact::RescanRequested(fact) if fact.since == Position::START => last.position,
        Fact::RescanRequested(fact) => fact.since,
        Fact::RescanReported(fact) => fact.since,
        Fact::RescanApplied(fact) => fact.since,
        _ => Position::START,
    };
    if since > Position::START && since < last.position {
        let mut stream = log.read(Position::new(since.get().saturating_sub(1))).await?;
        while let Some(recorded) = stream.next().await.transpose()? {
            if recorded.position >= last.position {
                break;
            }
            if recorded.event.subject == subject {
                rescans.apply(recorded.position, recorded.event.shard, &recorded.event.fact);
            }
        }
    }
    rescans.apply(last.position, last.event.shard, &last.event.fact);
    Ok((rescans, last.position))
}

/// Asks for a range of blocks to be matched again, against every watched script. Answers the rescan's number.
///
/// Watchers of the chain do it, as soon as there are any. Where the watch stands because of a reorg too deep to be
/// followed, it begins anew at `from`.
///
/// # Errors
/// Those of the log; persistent where `to` lies before `from`.
pub async fn request_rescan(
    log: &dyn EventLog,
    chain: &ChainId,
    from: Height,
    to: Height,
    now: Timestamp,
) -> Result<u32, PortError> {
    if to < from {
        return Err(PortError::persistent(format!("a rescan from {from} to {to} has no blocks")));
    }
    let subject = Subject::chain_rescan(chain);
    for _ in 0..TRIES {
        let (rescans, at) = open_rescans(log, chain).await?;
        let rescan = rescans.next_number();
        let (part_blocks, since) = (part_blocks(from, to), rescans.since());
        let fact = RescanRequested { chain: chain.clone(), rescan, from, to, part_blocks, since };
        let event = Event::new(subject.clone(), fact, now);
        match log.append(vec![Expectation::new(subject.clone(), at)], vec![event]).await {
            Ok(_) => return Ok(rescan),
            Err(AppendError::Stale { .. }) => {}
            Err(AppendError::Port(error)) => return Err(error),
            Err(invalid @ AppendError::Invalid(_)) => {
                return Err(PortError::persistent(invalid.to_string()));
            }
        }
    }
    Err(PortError::transient("too many others write about rescans"))
}

/// How far a rescan is; `None` once it is done.
///
/// # Errors
/// Those of the log; persistent where there never was a rescan of that number.
pub async fn rescan_progress(
    log: &dyn EventLog,
    chain: &ChainId,
    rescan: u32,
) -> Result<Option<RescanProgress>, PortError> {
    let (rescans, _) = open_rescans(log, chain).await?;
    if rescan == 0 || rescan >= rescans.next_number() {
        return Err(PortError::persistent(format!("chain {chain} has no rescan {rescan}")));
    }
    Ok(rescans.progress(rescan))
}

/// Lets a shard know of rescans that are open already.
pub(crate) async fn learn_rescans(
    log: &dyn EventLog,
    chain: &ChainId,
    shared: &Shared,
) -> Result<(), PortError> {
    let (rescans, position) = open_rescans(log, chain).await?;
    shared.set_rescans(rescans, position);
    Ok(())
}

/// Appends what follows from the open rescans as they are known, and waits until that is known too. False where
/// nothing follows (any more).
pub(crate) async fn append_to_rescans(
    ports: &WatcherPorts,
    shared: &Shared,
    epoch: Epoch,
    make: impl Fn(&Rescans) -> Option<Fact>,
) -> Result<bool, PortError> {
    let subject = &shared.rescan_subject;
    for _ in 0..TRIES {
        let (fact, at) = shared.with_rescans(|rescans, at| (make(rescans), at));
        let Some(fact) = fact else { return Ok(false) };
        let event = Event::new(subject.clone(), fact, ports.clock.now()).under(epoch).of_shard(shared.shard);
        let expected = vec![Expectation::new(subject.clone(), at)];
        let (position, done) = match ports.log.append(expected, vec![event]).await {
            Ok(positions) => (positions.last().copied().unwrap_or(at), true),
            Err(AppendError::Stale { actual, .. }) => (actual, false),
            Err(AppendError::Port(error)) => return Err(error),
            Err(invalid @ AppendError::Invalid(_)) => {
                return Err(PortError::persistent(invalid.to_string()));
            }
        };
        if tokio::time::timeout(ARRIVAL, shared.wait_for_rescans(position)).await.is_err() {
            return Err(PortError::transient(format!("the fact at position {position} has not come")));
        }
        if done {
            return Ok(true);
        }
    }
    Err(PortError::transient("too many others write about rescans"))
}

/// Matches parts of rescans.
pub(crate) struct Rescanner {
    pub(crate) config: WatcherConfig,
    pub(crate) ports: WatcherPorts,
    pub(crate) shared: Arc<Shared>,
}

impl Rescanner {
    /// Works without end.
    pub(crate) async fn run(self) {
        loop {
            let (parts, known) = self
                .shared
                .with_rescans(|rescans, at| (rescans.to_match(self.shared.shard).collect::<Vec<_>>(), at));
            if parts.is_empty() {
                self.shared.wait_for_another_rescan(known).await;
                continue;
            }
            let mut worked = false;
            for part in parts {
                match self.try_part(&part).await {
                    Ok(done) => worked |= done,
                    Err(error) => {
                        let (chain, shard) = (&self.config.chain, self.shared.shard);
                        tracing::warn!(%chain, %shard, part = part.part, %error, "a part of a rescan is tried again");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
            if !worked {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Matches and reports a part, if nobody else does.
    async fn try_part(&self, part: &RescanPart) -> Result<bool, PortError> {
        if !self.is_open(part) {
            return Ok(false);
        }
        let tip = self.ports.source.tip().await?;
        if part.to > tip.block.height {
            return Ok(false);
        }
        let shard = self.shared.shard;
        let name = format!(
            "rescan.{}.{}.{}-{}.{}",
            self.config.chain,
            part.rescan,
            shard.index(),
            shard.count(),
            part.part
        );
        let Some(grant) = self.ports.lease.acquire(&name, self.config.lease).await? else { return Ok(false) };
        let keeper = Keeper::new(self.ports.lease.as_ref(), self.config.lease, grant);
        let done = tokio::select! {
            () = keeper.keep() => Ok(false),
            done = self.match_part(part, keeper.epoch()) => done,
        };
        keeper.release().await;
        done
    }

    fn is_open(&self, part: &RescanPart) -> bool {
        let shard = self.shared.shard;
        self.shared.with_rescans(|rescans, _| rescans.to_match(shard).any(|open| open == *part))
    }

    async fn match_part(&self, part: &RescanPart, epoch: Epoch) -> Result<bool, PortError> {
        // Who held the lease before may have reported it.
        if let Some(last) = self.ports.log.last(&self.shared.rescan_subject).await? {
            let known = self.shared.wait_for_rescans(last.position);
            if tokio::time::timeout(ARRIVAL, known).await.is_err() || !self.is_open(part) {
                return Ok(false);
            }
        }
        let (found, last) = self.find(part).await?;
        let pieces = pieces(found);
        let count = pieces.len();
        for (number, found) in pieces.into_iter().enumerate() {
            let more = number.saturating_add(1) < count;
            let appended = append_to_rescans(&self.ports, &self.shared, epoch, |rescans| {
                rescans.to_match(self.shared.shard).any(|open| open == *part).then(|| {
                    Fact::from(RescanReported {
                        chain: self.config.chain.clone(),
                        rescan: part.rescan,
                        part: part.part,
                        last,
                        found: found.clone(),
                        more,
                        since: rescans.since(),
                    })
                })
            });
            if !appended.await? {
                return Ok(false);
            }
        }
        tracing::info!(
            chain = %self.config.chain, shard = %self.shared.shard, rescan = part.rescan,
            from = part.from.get(), to = part.to.get(), "matched a part of a rescan"
        );
        Ok(true)
    }

    /// The blocks of a part with payments to watched scripts, and its last block. They follow each other, so they
    /// are of one branch.
    async fn find(&self, part: &RescanPart) -> Result<(Vec<FoundBlock>, BlockRef), PortError> {
        let now = self.ports.clock.now();
        let blocks = (part.from.get()..=part.to.get()).map(|height| self.scan(Height::new(height)));
        let blocks: Vec<_> = blocks.collect();
        let mut blocks = futures::stream::iter(blocks).buffered(self.config.prefetch.max(1));
        let (mut found, mut before) = (Vec::new(), None);
        while let Some(block) = blocks.next().await.transpose()? {
            let header = block.header;
            if before.is_some_and(|before: BlockRef| before.hash != header.prev) {
                return Err(PortError::transient("the node changed its branch meanwhile"));
            }
            before = Some(header.block);
            found.extend(found_in(block, now));
        }
        let last = before.ok_or_else(|| PortError::persistent("a part without blocks"))?;
        Ok((found, last))
    }

    async fn scan(&self, height: Height) -> Result<ScannedBlock, PortError> {
        let header: Option<Header> = self.ports.source.at(height).await?;
        let header = header
            .ok_or_else(|| PortError::transient(format!("the node has no block at height {height}")))?;
        self.ports.source.scan(&header, &self.shared.watch).await
    }
}

fn found_in(block: ScannedBlock, now: Timestamp) -> Option<FoundBlock> {
    let header = block.header;
    let first_seen = now.min(header.time);
    let credits = block.credits.into_iter().filter(|credit| !credit.amount.is_zero());
    let deposit = |credit: tally_ports::Credit| Deposit {
        key: credit.key,
        currency: credit.currency,
        amount: credit.amount,
        script: credit.script,
        first_seen,
        inputs: credit.inputs,
        difference: credit.difference,
    };
    let deposits: Vec<Deposit> = credits.map(deposit).collect();
    (!deposits.is_empty()).then_some(FoundBlock {
        block: header.block,
        prev: header.prev,
        time: header.time,
        deposits,
    })
}

/// What was found, in pieces that fit into facts; at least one.
fn pieces(found: Vec<FoundBlock>) -> Vec<Vec<FoundBlock>> {
    let mut pieces: Vec<Vec<FoundBlock>> = vec![Vec::new()];
    let mut bytes = 0_usize;
    for block in found {
        for deposits in block.deposits.chunks(DEPOSITS_MAX) {
            let part = FoundBlock { deposits: deposits.to_vec(), ..block.clone() };
            let size = serde_json::to_vec(&part).map_or(0, |json| json.len());
            bytes = bytes.saturating_add(size);
            if bytes > REPORT_BYTES_MAX && pieces.last().is_some_and(|piece| !piece.is_empty()) {
                pieces.push(Vec::new());
                bytes = size;
            }
            if let Some(piece) = pieces.last_mut() {
                piece.push(part);
            }
        }
    }
    pieces
}
