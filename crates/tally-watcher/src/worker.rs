//! The worker of a chain: stands by until it has the lease, then goes round: tip, mempool, late addresses, report.
//!
//! Not here: the steps of a round (`advance`, `mempool`, `late`, `apply`) and appending (`writer`).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tally_events::Epoch;
use tally_ports::{Header, Reminder};
use tally_tracker::{Input, Loyalty, MempoolMemory, Refusal, Tracker};
use tally_types::{BlockRef, Height, Position, Timestamp, TxId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::advance::Reached;
use crate::gauge::Gauges;
use crate::health::ShardHandle;
use crate::keeper::Keeper;
use crate::late::Rescan;
use crate::persist::Note;
use crate::shared::Shared;
use crate::trouble::{Trouble, pause_after};
use crate::weigh::Weighed;
use crate::{WatcherConfig, WatcherPorts};

/// How often a standby folds what the writer wrote and asks for the lease.
const STANDBY: Duration = Duration::from_millis(250);
/// How long the store may take to hold what is to be recalled of it: at a start, all that was read of the log.
pub(crate) const RECALL: Duration = Duration::from_secs(60);
/// The shortest round: a node that keeps saying "news" is not asked more often.
const ROUND_MIN: Duration = Duration::from_millis(10);

pub(crate) struct Worker {
    pub(crate) config: WatcherConfig,
    pub(crate) ports: WatcherPorts,
    pub(crate) handle: ShardHandle,
    pub(crate) shared: Arc<Shared>,
    /// To the store, by which it is asked to catch up.
    pub(crate) notes: mpsc::Sender<Note>,
    pub(crate) gauges: Gauges,
    /// The chain as the log has it, up to `last`.
    pub(crate) tracker: Tracker,
    pub(crate) last: Position,
    /// The last of it that came from the log, and not from our own append.
    pub(crate) arrived: Position,
    /// The last checkpoint's first part.
    pub(crate) checkpoint: Position,
    pub(crate) epoch: Epoch,
    /// The lease under which it wrote last.
    pub(crate) wrote: Epoch,
    /// What this node has shown; forgotten when another answers.
    pub(crate) memory: MempoolMemory,
    pub(crate) loyalty: Loyalty,
    /// The last branch that was weighed against the log's.
    pub(crate) weighed: Option<Weighed>,
    endpoint: u64,
    /// When tip and mempool were last looked at and all that was there was written down, by this writer at this node.
    pub(crate) looked_at: Option<Timestamp>,
    /// The mempool as last looked at, and when each of it was first held.
    pub(crate) known: HashSet<TxId>,
    pub(crate) first_held: HashMap<TxId, Timestamp>,
    /// The log position that recent blocks were matched against, ascending.
    pub(crate) matched: VecDeque<(Height, Position)>,
    pub(crate) rescan: Option<Rescan>,
    /// No rescan before, so that they take a tenth of the time at most.
    pub(crate) next_rescan: Timestamp,
    /// Other shards have taken over: nothing more is to be written.
    pub(crate) retired: bool,
    /// Somebody waits for a report.
    asked: bool,
    pub(crate) failures: u32,
    /// The last incident that was counted, so that one that lasts counts once.
    incident: Option<&'static str>,
    /// The trouble that was told of last.
    reminder: Reminder,
}

/// Why a worker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to.
    Stopped,
    /// Other shards have taken over.
    Retired,
}

/// What to do after a round.
enum Next {
    /// There is more at once.
    Again,
    /// Wait for the node.
    Rest,
}

impl Worker {
    pub(crate) fn new(
        config: WatcherConfig,
        ports: WatcherPorts,
        handle: ShardHandle,
        shared: Arc<Shared>,
        notes: mpsc::Sender<Note>,
        (tracker, last, checkpoint, retired): (Tracker, Position, Position, bool),
    ) -> Self {
        Self {
            gauges: Gauges::new(&config.chain, shared.shard),
            endpoint: ports.source.endpoint(),
            config,
            ports,
            handle,
            shared,
            notes,
            tracker,
            last,
            arrived: last,
            checkpoint,
            epoch: Epoch::NONE,
            wrote: Epoch::NONE,
            memory: MempoolMemory::default(),
            loyalty: Loyalty::default(),
            weighed: None,
            looked_at: None,
            known: HashSet::new(),
            first_held: HashMap::new(),
            matched: VecDeque::new(),
            rescan: None,
            next_rescan: Timestamp::EPOCH,
            retired,
            asked: false,
            failures: 0,
            incident: None,
            reminder: Reminder::default(),
        }
    }

    /// Works until `stop`, or until other shards have taken over.
    pub(crate) async fn run(mut self, stop: &CancellationToken) -> Ended {
        let lease = Arc::clone(&self.ports.lease);
        let name = self.lease_name();
        while !stop.is_cancelled() {
            self.fold_arrived();
            self.show();
            if self.retired {
                tracing::info!(chain = %self.config.chain, shard = %self.shared.shard, "other shards have taken over");
                return Ended::Retired;
            }
            match lease.acquire(&name, self.config.lease).await {
                Ok(Some(grant)) => {
                    let keeper = Keeper::new(lease.as_ref(), self.config.lease, grant);
                    self.epoch = keeper.epoch();
                    self.handle.update(|view| view.writing = true);
                    tracing::info!(chain = %self.config.chain, epoch = self.epoch.get(), "writing");
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = keeper.keep() => tracing::warn!(chain = %self.config.chain, "the lease was lost"),
                        () = Box::pin(self.write()) => pause(stop, STANDBY).await,
                    }
                    keeper.release().await;
                    self.handle.update(|view| view.writing = false);
                }
                Ok(None) => pause(stop, STANDBY).await,
                Err(error) => {
                    tracing::warn!(chain = %self.config.chain, %error, "the lease cannot be asked for");
                    pause(stop, STANDBY).await;
                }
            }
        }
        Ended::Stopped
    }

    /// Of the shard's own subject, `tally.v1.chain.<chain>.<generation>-<shard>`.
    fn lease_name(&self) -> String {
        let subject = self.shared.subject.as_str();
        format!("watch.{}", subject.strip_prefix("tally.v1.chain.").unwrap_or(subject))
    }

    /// Goes round until another writer has a later lease.
    async fn write(&mut self) {
        let mut started = false;
        loop {
            let result = match started {
                true => self.round().await,
                false => self.begin().await,
            };
            match result {
                Ok(next) => {
                    started = true;
                    self.failures = 0;
                    self.incident = None;
                    if self.reminder.is_over() {
                        tracing::info!(chain = %self.config.chain, "the watch goes on");
                    }
                    self.handle.update(|view| view.stalled = None);
                    if let Next::Rest = next {
                        self.rest().await;
                    }
                }
                Err(Trouble::Retired) => return,
                Err(Trouble::Deposed) => {
                    self.trouble(&Trouble::Deposed);
                    return;
                }
                Err(trouble) => {
                    self.trouble(&trouble);
                    tokio::time::sleep(pause_after(self.failures)).await;
                }
            }
            self.show();
        }
    }

    /// Folds everything the chain's subject holds and takes back what an earlier writer left unfinished.
    async fn begin(&mut self) -> Result<Next, Trouble> {
        let last = self.ports.log.last(&self.shared.subject).await.map_err(Trouble::Log)?;
        let wrote = last.as_ref().map(|last| last.event.epoch);
        if let Some(last) = last {
            self.fold_up_to(last.position).await?;
        }
        self.looked_at = None;
        if wrote.is_some_and(|epoch| epoch != self.wrote) {
            // Another has written meanwhile, by what another node may have shown.
            self.loyalty.forget();
            self.memory.lapse();
            if let Some(tip) = self.tracker.tip()
                && let Err(trouble) = self.recall(tip, RECALL).await
            {
                // The watch goes on without it.
                tracing::warn!(chain = %self.config.chain, %trouble, "sums are not recalled");
            }
        }
        if self.tracker.is_dangling() {
            let tip = self.ports.source.tip().await.map_err(Trouble::Source)?;
            self.take_back_dangling(&tip).await?;
        }
        Ok(Next::Again)
    }

    async fn round(&mut self) -> Result<Next, Trouble> {
        let overtaken = self.fold_arrived();
        if self.retired {
            return Err(Trouble::Retired);
        }
        if overtaken {
            return Err(Trouble::Deposed);
        }
        let taken_at = self.ports.clock.now();
        let matched = self.shared.position();
        self.asked |= self.handle.take_asked();
        self.notice_endpoint();
        let tip = self.ports.source.tip().await.map_err(Trouble::Source)?;
        self.handle.update(|view| view.node_tip = Some(tip.block));
        let reached = match self.advance(&tip, taken_at).await {
            Err(Trouble::Refused(Refusal::DeepReorg { base, blocks })) => {
                self.begin_anew(base, blocks, &tip, taken_at).await?
            }
            reached => reached?,
        };
        match reached {
            Reached::Tip => self.take_back_dangling(&tip).await?,
            Reached::More => return Ok(Next::Again),
            Reached::Apart => return Ok(Next::Rest),
        }
        let looked = self.look_at_mempool().await?;
        self.note_finality().await?;
        let more = self.match_late().await?;
        let more = self.apply_rescan().await? || more;
        self.checkpoint_if_due().await?;
        if looked && self.ports.source.endpoint() == self.endpoint {
            let (asked, watched_through) = (self.asked, self.shared.watched_through(matched));
            self.say(Input::Observed { taken_at, watched_through, asked }, taken_at).await?;
            self.looked_at = Some(taken_at);
            // A block that came in this round is a report too.
            self.asked &= self.tracker.observed_at() < taken_at;
            self.handle.update(|view| view.last_success = Some(taken_at));
        }
        Ok(if more { Next::Again } else { Next::Rest })
    }

    /// What the chain itself calls final. At the node's tip the log's branch is the node's.
    async fn note_finality(&mut self) -> Result<(), Trouble> {
        let height = self.ports.source.finalized().await.map_err(Trouble::Source)?;
        match height.and_then(|height| self.tracker.block_at(height)) {
            Some(block) => self.say(Input::Finalized(block), self.ports.clock.now()).await,
            None => Ok(()),
        }
    }

    /// After a fork too deep to be followed: begins anew from where a person said, who has asked for a rescan
    /// since the log last heard of this shard.
    async fn begin_anew(
        &mut self,
        base: BlockRef,
        blocks: usize,
        tip: &Header,
        now: Timestamp,
    ) -> Result<Reached, Trouble> {
        let asked = self.shared.with_rescans(|rescans, _| rescans.lowest_requested_after(self.last));
        match asked {
            Some(from) if from.min(base.height) <= tip.block.height => {
                self.restart_at(from.min(base.height), tip, now).await?;
                Ok(Reached::More)
            }
            _ => Err(Trouble::Refused(Refusal::DeepReorg { base, blocks })),
        }
    }

    /// What one node showed says nothing of another.
    fn notice_endpoint(&mut self) {
        let endpoint = self.ports.source.endpoint();
        if endpoint != self.endpoint {
            tracing::warn!(chain = %self.config.chain, endpoint, "another endpoint answers");
            self.endpoint = endpoint;
            self.memory.forget();
            self.loyalty.forget();
            self.weighed = None;
            self.looked_at = None;
            self.known.clear();
        }
    }

    /// Waits for the node, for somebody who asks, or for the next look at the mempool.
    async fn rest(&self) {
        let wait = async {
            match self.tracker.tip() {
                Some(tip) => self.ports.source.wait(&tip.hash, self.config.poll).await,
                None => tokio::time::sleep(self.config.poll.to_duration()).await,
            }
        };
        let news = async {
            tokio::select! {
                () = wait => {}
                () = self.handle.asked() => {}
            }
        };
        tokio::join!(news, tokio::time::sleep(ROUND_MIN));
    }

    fn trouble(&mut self, trouble: &Trouble) {
        self.failures = self.failures.saturating_add(1);
        if !trouble.is_loud(self.failures) {
            tracing::debug!(chain = %self.config.chain, %trouble, failures = self.failures, "once more");
            return;
        }
        if self.reminder.is_due(trouble.kind(), self.ports.clock.now()) {
            tracing::error!(chain = %self.config.chain, %trouble, failures = self.failures, "the watch stands");
        }
        self.handle.update(|view| view.stalled = Some(trouble.to_string()));
        if let Some(kind) = trouble.incident()
            && self.incident != Some(kind)
        {
            self.incident = Some(kind);
            self.gauges.incident(kind);
        }
    }

    /// Shows how things are, in health and metrics.
    fn show(&self) {
        let scripts = self.shared.script_count();
        self.handle.update(|view| {
            view.own_tip = self.tracker.tip();
            view.watched_through = self.tracker.watched_through();
            view.scripts = scripts;
        });
        let lag = self.handle.health().lag_blocks();
        self.gauges.tip(self.tracker.tip().map_or(0, |tip| tip.height.get()), lag);
        self.gauges.scripts(scripts);
    }
}

async fn pause(stop: &CancellationToken, span: Duration) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(span) => {}
    }
}
