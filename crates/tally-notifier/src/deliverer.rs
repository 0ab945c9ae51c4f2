//! Notifications to merchants: every version of an order goes to its `notify_url` until it is acknowledged.
//!
//! Endpoints are isolated: each has its own queue and its own few places, and endpoints that do not answer soon
//! share a part of all places only. One order is never sent twice at a time, so nothing older follows a newer version. The
//! log's own last delivery fact decides what is still to be sent. Not here: the form (`form`), the schedule
//! (`schedule`), the places (`queue`), one attempt (`attempt`).

use std::collections::HashMap;
use std::sync::Arc;

use tally_events::Epoch;
use tally_ports::{Change, Clock, Courier, EventLog, Lease, PortError, ReadModel};
use tally_sign::MasterKey;
use tally_types::{Face, OrderId, Span, Timestamp};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use crate::duty::{Fold, Held, Keeper, Tenure, Term};

mod attempt;
mod form;
mod queue;
mod schedule;
#[cfg(test)]
mod tests;

use attempt::{Attempt, Done, Next};
use queue::{Limits, Queue};
use schedule::Plan;

/// The endpoint that stands for an order's own `notify_url`.
const NOTIFY: &str = "notify";
/// Leases that the 64 partitions are divided into.
const GROUPS: u8 = 8;
const PARTITIONS: u8 = 64;
/// How often the clock and the queue are looked at: under `tally dev` the clock may leap.
const TURN: Duration = Duration::from_millis(100);
/// How often the read model is asked for what is undelivered, should a change have been missed.
const REFILL: Duration = Duration::from_secs(5);
/// How far ahead of its time an attempt is put in the queue.
const AHEAD: Span = Span::from_secs(60);
/// Rows that a refill reads beyond what is known.
const PAGE: usize = 500;
/// Orders that wait in memory; more stay in the read model until there is room.
const WAITING_MAX: usize = 50_000;
/// How long deliveries under way are waited for in the end.
const DRAIN: Duration = Duration::from_secs(17);

/// What the deliverer works with.
#[derive(Clone)]
pub struct DelivererPorts {
    /// The folded state.
    pub model: Arc<dyn ReadModel>,
    /// Where outcomes go.
    pub log: Arc<dyn EventLog>,
    /// Who delivers which partitions.
    pub lease: Arc<dyn Lease>,
    /// Who brings parcels.
    pub courier: Arc<dyn Courier>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Bounds on deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelivererOptions {
    /// Deliveries under way at a time.
    pub in_flight_max: usize,
    /// Of those, to one endpoint (host and port).
    pub per_endpoint_max: usize,
    /// How long a lease lasts without renewal.
    pub lease_ttl: Span,
}

impl Default for DelivererOptions {
    fn default() -> Self {
        Self { in_flight_max: 256, per_endpoint_max: 4, lease_ttl: crate::duty::LEASE }
    }
}

/// Delivers notifications. See the module.
pub struct Deliverer {
    ports: DelivererPorts,
    master: Arc<MasterKey>,
    options: DelivererOptions,
}

/// What one run keeps in memory.
struct Run {
    ports: DelivererPorts,
    master: Arc<MasterKey>,
    queue: Queue,
    tasks: JoinSet<Done>,
    ids: HashMap<Id, OrderId>,
    held: Held,
    /// The same as it is at any moment, for attempts under way.
    tenures: watch::Receiver<Held>,
    refill_at: Instant,
    backlog_at: Instant,
}

impl Deliverer {
    /// A deliverer. `master` opens the merchants' API keys, with which notifications are signed.
    pub fn new(ports: DelivererPorts, master: MasterKey, options: DelivererOptions) -> Self {
        Self { ports, master: Arc::new(master), options }
    }

    /// Delivers until `stop`, then waits for what is under way and gives its leases back.
    pub async fn run(self, stop: CancellationToken) {
        let keeper = Keeper {
            lease: self.ports.lease.clone(),
            fold: Some(Fold { log: self.ports.log.clone(), model: self.ports.model.clone() }),
            names: (0..GROUPS).map(lease_name).collect(),
            ttl: self.options.lease_ttl,
        };
        let (sender, held) = watch::channel(Held::new());
        // Leases outlast the deliveries that run under them.
        let keeper_stop = CancellationToken::new();
        let stopped = keeper_stop.clone().drop_guard();
        let deliver = async {
            let limits =
                Limits { all: self.options.in_flight_max, per_endpoint: self.options.per_endpoint_max };
            let run = Run {
                queue: Queue::new(limits),
                tasks: JoinSet::new(),
                ids: HashMap::new(),
                held: Held::new(),
                tenures: held.clone(),
                refill_at: Instant::now(),
                backlog_at: Instant::now(),
                ports: self.ports.clone(),
                master: self.master.clone(),
            };
            run.run(held, stop).await;
            drop(stopped);
        };
        tokio::join!(keeper.run(sender, keeper_stop), deliver);
    }
}

fn lease_name(group: u8) -> String {
    format!("deliver-{group}")
}

impl Run {
    async fn run(mut self, mut held: watch::Receiver<Held>, stop: CancellationToken) {
        let mut changes = self.ports.model.changes();
        let mut turn = tokio::time::interval(TURN);
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = held.changed() => self.take_over(held.borrow_and_update().clone()),
                change = changes.recv() => self.changed(change, &mut changes).await,
                Some(done) = self.tasks.join_next_with_id() => self.finished(done),
                _ = turn.tick() => {}
            }
            self.refill().await;
            self.start();
            self.measure().await;
        }
        let drained = tokio::time::timeout(DRAIN, async { while self.tasks.join_next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::warn!(left = self.tasks.len(), "deliveries still under way are made again later");
        }
    }

    fn take_over(&mut self, held: Held) {
        if held.keys().any(|name| !self.held.contains_key(name)) {
            self.refill_at = Instant::now();
        }
        self.held = held;
        let held = &self.held;
        self.queue.retain(|order| held.contains_key(&lease_name(order.partition() % GROUPS)));
    }

    fn epoch(&self, order: &OrderId) -> Option<Epoch> {
        self.held.get(&lease_name(order.partition() % GROUPS)).map(|term: &Term| term.epoch)
    }

    /// Puts an order that reached a version in the queue, and those that did so meanwhile.
    async fn changed(
        &mut self,
        change: Result<Change, RecvError>,
        changes: &mut broadcast::Receiver<Change>,
    ) {
        match change {
            Ok(change) => self.enqueue_changed(change).await,
            Err(RecvError::Lagged(_)) => self.refill_at = Instant::now(),
            // The read model is gone; the turn goes on by refills, and says so.
            Err(RecvError::Closed) => tokio::time::sleep(TURN).await,
        }
        for _ in 0..PAGE {
            let Ok(change) = changes.try_recv() else { break };
            self.enqueue_changed(change).await;
        }
    }

    async fn enqueue_changed(&mut self, change: Change) {
        if self.epoch(&change.order).is_none() || self.queue.len() >= WAITING_MAX {
            return;
        }
        match self.ports.model.order(&change.order).await {
            Ok(Some(order)) if order.face() == Face::Deepay => {
                if let Some(url) = order.notify_url() {
                    self.queue.enqueue(change.order, endpoint_of(url), self.ports.clock.now());
                }
            }
            Ok(_) => {}
            Err(error) => self.unreadable(&error),
        }
    }

    /// Asks the read model for what is to be sent: at the start, after a takeover, and now and then.
    async fn refill(&mut self) {
        if Instant::now() < self.refill_at || self.queue.len() >= WAITING_MAX {
            return;
        }
        self.refill_at = Instant::now() + REFILL;
        let partitions: Vec<u8> = (0..PARTITIONS)
            .filter(|partition| self.held.contains_key(&lease_name(partition % GROUPS)))
            .collect();
        if partitions.is_empty() {
            return;
        }
        let now = self.ports.clock.now();
        let limit = self.queue.len().saturating_add(PAGE);
        match self.ports.model.undelivered(&partitions, now.plus(AHEAD), limit).await {
            Ok(rows) => {
                if rows.len() >= limit {
                    self.refill_at = Instant::now() + TURN;
                }
                for row in rows.iter().filter(|row| row.endpoint == NOTIFY) {
                    let plan = schedule::plan(row.order.version(), row.last.as_ref(), now);
                    if let (Some(url), Plan::Send { at, .. }) = (row.order.notify_url(), plan) {
                        self.queue.enqueue(row.order.id().clone(), endpoint_of(url), at);
                    }
                }
            }
            Err(error) => self.unreadable(&error),
        }
    }

    /// Starts as many attempts as there are due orders and free places.
    fn start(&mut self) {
        let now = self.ports.clock.now();
        while let Some(order) = self.queue.next(now) {
            let Some(epoch) = self.epoch(&order) else {
                self.queue.finish(&order, None);
                continue;
            };
            let name = lease_name(order.partition() % GROUPS);
            let attempt = Attempt {
                order: order.clone(),
                tenure: Tenure { name, epoch, held: self.tenures.clone() },
                ports: self.ports.clone(),
                master: self.master.clone(),
            };
            let handle = self.tasks.spawn(attempt.make());
            self.ids.insert(handle.id(), order);
        }
    }

    fn finished(&mut self, done: Result<(Id, Done), tokio::task::JoinError>) {
        let (id, done) = match done {
            Ok((id, done)) => (id, Some(done)),
            Err(error) => {
                tracing::error!(%error, "a delivery ended abnormally");
                (error.id(), None)
            }
        };
        let Some(order) = self.ids.remove(&id) else { return };
        let healthy = done.as_ref().and_then(|done| done.healthy);
        let Some((endpoint, again)) = self.queue.finish(&order, healthy) else { return };
        let now = self.ports.clock.now();
        let at = match done.map(|done| done.next) {
            _ if again => Some(now),
            Some(Next::Nothing) => None,
            Some(Next::At(at)) => Some(at),
            None => Some(now.plus(schedule::FIRST_DELAY)),
        };
        if let Some(at) = at.filter(|_| self.epoch(&order).is_some()) {
            self.queue.enqueue(order, endpoint, at);
        }
    }

    async fn measure(&mut self) {
        if Instant::now() < self.backlog_at {
            return;
        }
        self.backlog_at = Instant::now() + REFILL;
        match self.ports.model.backlog().await {
            Ok(backlog) => metrics::gauge!("tally_delivery_backlog").set(backlog as f64),
            Err(error) => self.unreadable(&error),
        }
    }

    fn unreadable(&self, error: &PortError) {
        tracing::warn!(%error, "the read model cannot be read");
    }
}

/// Who shares places: the host and port of a URL.
fn endpoint_of(url: &str) -> String {
    let parsed = url::Url::parse(url).ok();
    let host = parsed.as_ref().and_then(|url| Some((url.host_str()?, url.port_or_known_default()?)));
    host.map_or_else(String::new, |(host, port)| format!("{host}:{port}"))
}

/// Whether a time has come; a place for the one comparison.
fn is_due(at: Timestamp, now: Timestamp) -> bool {
    at <= now
}
