//! The watcher as the composition root sees it: which shards it watches, by the log's plan.
//!
//! Not here: watching one shard (`shard`).

use std::sync::Arc;
use std::time::Duration;

use tally_events::Shard;
use tally_ports::{BlockSource, Clock, EventLog, Lease, PortError, Reminder, Store};
use tally_types::{BlockRef, Timestamp};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Part;
use crate::gauge::Gauges;
use crate::health::{SILENCE_ALARM, ShardHandle};
use crate::plan::{Plan, Role};
use crate::reshard::Resharder;
use crate::shard::ShardRun;
use crate::shelf::Shelf;
use crate::trouble::{LOUD_AFTER, pause_after};
use crate::worker::Ended;
use crate::{WatcherConfig, WatcherError, WatcherHandle};

/// How often a watcher without shards of its own looks whether that has changed.
const IDLE: Duration = Duration::from_secs(1);
/// How often the metrics are brought up to date that move when nothing happens.
const SHOW_EVERY: Duration = Duration::from_secs(5);

/// The outside world of a watcher.
#[derive(Clone)]
pub struct WatcherPorts {
    /// The chain's node, or several.
    pub source: Arc<dyn BlockSource>,
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// Who may write.
    pub lease: Arc<dyn Lease>,
    /// The watcher's own store, of nobody else's use.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Watches one chain, or a part of its scripts.
pub struct Watcher {
    config: WatcherConfig,
    ports: WatcherPorts,
    handle: WatcherHandle,
}

type Ending = Result<Ended, WatcherError>;

impl Watcher {
    /// A watcher that does nothing yet.
    pub fn new(config: WatcherConfig, ports: WatcherPorts) -> Self {
        let handle = WatcherHandle::new(config.chain.clone());
        Self { config, ports, handle }
    }

    /// Its health, and the way to ask for a report.
    pub fn handle(&self) -> WatcherHandle {
        self.handle.clone()
    }

    /// Watches until `stop`. Several watchers of one chain may run, of the same shard too; of each shard one writes
    /// and the others stand by.
    ///
    /// What may pass by itself is waited for and shown in the health; so is a block that cannot be read, at
    /// which the watch stands until it can.
    ///
    /// # Errors
    /// [`WatcherError`], where a person must change something before a start can succeed.
    pub async fn run(self, stop: CancellationToken) -> Result<(), WatcherError> {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            checked = self.check() => checked?,
        }
        tokio::select! {
            never = self.show() => match never {},
            ended = Box::pin(self.follow_plan(&stop)) => ended,
        }
    }

    /// Says how things are also while nothing happens: a node that hangs is asked, and that is all.
    async fn show(&self) -> std::convert::Infallible {
        let gauges = Gauges::new(&self.config.chain, Shard::WHOLE);
        let mut moved: (Option<BlockRef>, Timestamp) = (None, self.ports.clock.now());
        loop {
            tokio::time::sleep(SHOW_EVERY).await;
            let (health, now) = (self.handle.health(), self.ports.clock.now());
            if !health.writing {
                continue;
            }
            if moved.0 != health.own_tip {
                moved = (health.own_tip, now);
            }
            let heard = health.last_success.map_or(moved.1, |at| at.max(moved.1));
            let silence = now.since(heard);
            gauges.silence(silence);
            let tip = health.own_tip.map_or(0, |tip| tip.height.get());
            if silence < SILENCE_ALARM {
                gauges.tip(tip, health.lag_blocks());
                continue;
            }
            // How far the chain has gone on meanwhile nobody can say.
            gauges.tip(tip, health.lag_blocks().max(1));
            let said = format!("nothing was heard of the node for {} s", silence.secs());
            self.handle.update(|view| {
                view.stalled.get_or_insert_with(|| said.clone());
            });
        }
    }

    async fn check(&self) -> Result<(), WatcherError> {
        let (mut failures, mut reminder) = (0_u32, Reminder::default());
        loop {
            match self.ports.source.check().await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_transient() => {
                    failures = failures.saturating_add(1);
                    self.wait_for("the node", &error, failures, &mut reminder).await;
                }
                Err(error) => return Err(WatcherError::Source(error)),
            }
        }
    }

    async fn follow_plan(&self, stop: &CancellationToken) -> Result<(), WatcherError> {
        let mut may_change = true;
        while !stop.is_cancelled() {
            let plan = self.plan().await?;
            match Role::of(self.config.part, &plan, may_change) {
                Role::Serve(shards) => {
                    may_change = false;
                    self.serve(&plan, shards, stop).await?;
                }
                Role::Change(count) => {
                    may_change = false;
                    let resharder = Resharder {
                        chain: self.config.chain.clone(),
                        log: Arc::clone(&self.ports.log),
                        clock: Arc::clone(&self.ports.clock),
                        settings: self.config.settings,
                        plan,
                        count,
                    };
                    tokio::select! {
                        served = self.serve(&plan, plan.shards().collect(), stop) => served?,
                        changed = resharder.run() => changed.map_err(WatcherError::Log)?,
                    }
                }
                Role::Idle => {
                    self.say_idle(&plan);
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(IDLE) => {}
                    }
                }
            }
        }
        Ok(())
    }

    async fn plan(&self) -> Result<Plan, WatcherError> {
        let (mut failures, mut reminder) = (0_u32, Reminder::default());
        loop {
            match Plan::read(self.ports.log.as_ref(), &self.config.chain).await {
                Ok(plan) => return Ok(plan),
                Err(error) if error.is_transient() => {
                    failures = failures.saturating_add(1);
                    self.wait_for("the log", &error, failures, &mut reminder).await;
                }
                Err(error) => return Err(WatcherError::Log(error)),
            }
        }
    }

    fn say_idle(&self, plan: &Plan) {
        let Part::One(shard) = self.config.part else { return };
        let said = format!(
            "the chain has {} shards now, and this watcher is {shard}: start it anew to change that",
            plan.count
        );
        let handle = ShardHandle::default();
        handle.update(|view| view.stalled = Some(said));
        self.handle.set_shards(vec![handle]);
    }

    /// Watches shards until one of them ends, by `stop` or because other shards have taken over; then so do the
    /// rest.
    async fn serve(
        &self,
        plan: &Plan,
        shards: Vec<Shard>,
        stop: &CancellationToken,
    ) -> Result<(), WatcherError> {
        let together = stop.child_token();
        let mut tasks: JoinSet<Ending> = JoinSet::new();
        let mut handles = Vec::new();
        for shard in shards {
            let handle = ShardHandle::default();
            handles.push(handle.clone());
            let run = ShardRun {
                config: self.config.clone(),
                ports: self.ports_of(shard),
                handle,
                shard,
                subject: plan.subject(&self.config.chain, shard),
            };
            tasks.spawn(run.run(together.clone()));
        }
        self.handle.set_shards(handles);
        let mut result = Ok(());
        while let Some(ended) = tasks.join_next().await {
            together.cancel();
            match ended {
                Ok(Ok(Ended::Stopped | Ended::Retired)) => {}
                Ok(Err(error)) => result = Err(error),
                Err(broken) => {
                    let error = PortError::persistent("a shard's task broke down").because(broken);
                    result = Err(WatcherError::Log(error));
                }
            }
        }
        result
    }

    /// Shards of one process share its store, each under its own name.
    fn ports_of(&self, shard: Shard) -> WatcherPorts {
        let prefix = if shard.is_whole() { String::new() } else { format!("{shard}:") };
        let store = Arc::new(Shelf::new(Arc::clone(&self.ports.store), &prefix));
        WatcherPorts { store, ..self.ports.clone() }
    }

    async fn wait_for(&self, what: &str, error: &PortError, failures: u32, reminder: &mut Reminder) {
        let said = format!("{what} does not answer: {error}");
        if failures >= LOUD_AFTER && reminder.is_due(what, self.ports.clock.now()) {
            tracing::warn!(chain = %self.config.chain, said, "waiting to start");
        }
        self.handle.update(|view| view.stalled = Some(said.clone()));
        tokio::time::sleep(pause_after(failures)).await;
    }
}
