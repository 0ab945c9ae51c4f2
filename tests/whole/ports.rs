//! What stands between a process and the outside: the time that questions and answers take, what gets lost on the way,
//! and death in between.
//!
//! Not here: the fakes (`tally-testkit`), what is right (`judge`), the shops (`shop`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, stream};
use tally_events::{Fact, NewEvent, Recorded, Subject};
use tally_ports::{
    AppendError, EventLog, EventStream, Expectation, Grant, Lease, Message, PortError, Publisher, Rows,
    Store, WriteBatch,
};
use tally_testkit::{FakeChain, Far, MemoryLease, MemoryLog, MemoryStore, Way};
use tally_types::{Position, Span};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::gate::Gate;
use crate::judge::Judge;
use crate::mutation::Mutation;
use crate::timeline::{Lane, Life, Timeline};

tokio::task_local! {
    /// The lane of the request that is being answered.
    pub(crate) static REQUEST: Lane;
}

/// Facts that a reader gets at once.
const READ_MAX: usize = 40;

/// The log's server: where facts are, and whether it can be reached.
pub(crate) struct Server {
    pub(crate) log: MemoryLog,
    timeline: Arc<Timeline>,
    judge: Option<Arc<Mutex<Judge>>>,
    mutation: Mutation,
    /// Counts its crashes: what was not synced then is lost.
    boots: AtomicU64,
    down_until_ms: AtomicU64,
}

impl Server {
    /// A server whose log is judged after every append, if there is a judge.
    pub(crate) fn new(
        log: MemoryLog,
        timeline: &Arc<Timeline>,
        judge: Option<&Arc<Mutex<Judge>>>,
        mutation: Mutation,
    ) -> Self {
        Self {
            log,
            timeline: Arc::clone(timeline),
            judge: judge.cloned(),
            mutation,
            boots: AtomicU64::new(0),
            down_until_ms: AtomicU64::new(0),
        }
    }

    /// It loses power, and is back after a while.
    pub(crate) fn crash(&self, down_ms: u64) {
        self.boots.fetch_add(1, Ordering::SeqCst);
        self.down_until_ms.store(self.timeline.elapsed_ms() + down_ms, Ordering::SeqCst);
    }

    fn boot(&self) -> u64 {
        self.boots.load(Ordering::SeqCst)
    }

    fn reached(&self) -> Result<(), PortError> {
        if self.timeline.elapsed_ms() < self.down_until_ms.load(Ordering::SeqCst) {
            return Err(PortError::transient("the log is down"));
        }
        Ok(())
    }

    fn look(&self) {
        if let Some(judge) = &self.judge {
            lock(judge).look();
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The log, as one service of a process reaches it.
pub(crate) struct Line {
    pub(crate) life: Arc<Life>,
    pub(crate) server: Arc<Server>,
    /// Who appends and asks; none for requests, each of which has its own.
    pub(crate) work: Option<Lane>,
    /// Who gets the answers of appends, where that is another.
    pub(crate) append: Option<Lane>,
    /// Who begins to read, where that is another.
    pub(crate) open: Option<Lane>,
    /// Who reads on.
    pub(crate) read: Lane,
}

impl Line {
    fn lane(&self) -> Lane {
        self.work.or_else(|| REQUEST.try_get().ok()).unwrap_or(self.read)
    }

    /// Asks: the question takes its way, then the answer.
    async fn ask<T>(&self, answer: impl Future<Output = Result<T, PortError>>) -> Result<T, PortError> {
        let lane = self.lane();
        self.life.hop(lane).await;
        self.server.reached()?;
        let answer = answer.await;
        self.life.hop(lane).await;
        answer
    }
}

#[async_trait]
impl EventLog for Line {
    async fn append(
        &self,
        expectations: Vec<Expectation>,
        batch: Vec<NewEvent>,
    ) -> Result<Vec<Position>, AppendError> {
        let (life, server, lane) = (&self.life, &self.server, self.lane());
        life.hop(lane).await;
        server.reached()?;
        if life.strikes(lane, 60) {
            return Err(PortError::transient("the append got lost").into());
        }
        let boot = server.boot();
        let batch = server.mutation.batch(batch);
        if batch.is_empty() || server.mutation.forgets(&batch) {
            life.hop(lane).await;
            return Ok(vec![server.log.head().await?]);
        }
        // It is written, and not synced: power that fails now takes it along.
        life.hop(lane).await;
        if server.boot() != boot {
            return Err(PortError::transient("the log went down before it had synced").into());
        }
        let result = if server.mutation.ignores_expectations(&batch) {
            Ok(server.log.seed(batch))
        } else {
            server.log.append(expectations, batch).await
        };
        server.look();
        if life.strikes(lane, 60) {
            return Err(PortError::transient("the log's answer got lost").into());
        }
        life.hop(self.append.unwrap_or(lane)).await;
        result
    }

    /// Facts come some at a time, after a while; now and then the stream breaks.
    async fn read(&self, after: Position) -> Result<EventStream, PortError> {
        self.life.hop(self.open.unwrap_or(self.read)).await;
        self.server.reached()?;
        let facts = self.server.log.read(after).await?;
        let (sender, receiver) = mpsc::unbounded_channel();
        let pump = Pump { life: self.life.clone(), server: self.server.clone(), lane: self.read, sender };
        // On the way whether or not anybody looks; gone with the stream.
        let mut pumps = JoinSet::new();
        pumps.spawn(pump.run(facts));
        let state = (receiver, pumps);
        Ok(stream::unfold(state, |(mut receiver, pumps)| async move {
            receiver.recv().await.map(|fact| (fact, (receiver, pumps)))
        })
        .boxed())
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Recorded>, PortError> {
        let last = self.ask(self.server.log.last(subject)).await?;
        Ok(last.filter(|_| !self.server.mutation.withholds(self.work.is_none(), subject)))
    }

    async fn head(&self) -> Result<Position, PortError> {
        // The projector folds nothing while it asks for its gauge: that takes no time, or facts and its next turn would
        // meet after a freeze.
        if self.work == Some(Lane::Projector) {
            self.server.reached()?;
            return self.server.log.head().await;
        }
        let head = self.ask(self.server.log.head()).await?;
        Ok(self.server.mutation.head(self.work.is_none(), head))
    }
}

/// The way of facts from the log to a reader.
struct Pump {
    life: Arc<Life>,
    server: Arc<Server>,
    lane: Lane,
    sender: mpsc::UnboundedSender<Result<Recorded, PortError>>,
}

impl Pump {
    async fn run(self, mut facts: EventStream) {
        let boot = self.server.boot();
        while let Some(first) = facts.next().await {
            self.life.hop(self.lane).await;
            if self.life.strikes(self.lane, 200) || self.server.boot() != boot {
                // Nobody may listen any more.
                let _ = self.sender.send(Err(PortError::transient("the log's stream broke")));
                return;
            }
            if self.life.strikes(self.lane, 40) {
                self.life.dawdle(self.lane).await;
            }
            let mut batch = vec![first];
            while batch.len() < READ_MAX
                && let Some(Some(next)) = facts.next().now_or_never()
            {
                batch.push(next);
            }
            let (process, mutation) = (self.life.process, self.server.mutation);
            batch.retain(|fact| !fact.as_ref().is_ok_and(|fact| mutation.hides(process, self.lane, fact)));
            for fact in batch {
                let fact = fact.and_then(|fact| mutation.read(process, self.lane, fact));
                let _ = self.sender.send(fact);
            }
        }
    }
}

/// The leases, as one service reaches them.
pub(crate) struct Leases {
    pub(crate) life: Arc<Life>,
    pub(crate) lane: Lane,
    pub(crate) lease: Arc<MemoryLease>,
    pub(crate) mutation: Mutation,
}

impl Leases {
    /// Who asks for a lease, by its name.
    fn lane(&self, name: &str) -> Lane {
        match self.lane {
            Lane::WatcherLease(chain) if name.starts_with("rescan.") => Lane::RescanLease(chain),
            lane => lane,
        }
    }

    /// The server knows until when it has granted what.
    fn note(&self, grant: &Result<Option<Grant>, PortError>, ttl: Span) {
        if let Ok(Some(grant)) = grant {
            self.life.granted(&grant.name, ttl);
        }
    }
}

#[async_trait]
impl Lease for Leases {
    async fn acquire(&self, name: &str, ttl: Span) -> Result<Option<Grant>, PortError> {
        let lane = self.lane(name);
        self.life.hop(lane).await;
        let ttl = self.mutation.term(ttl);
        let grant = self.lease.acquire(name, ttl).await;
        self.note(&grant, ttl);
        if self.life.strikes(lane, 50) {
            return Err(PortError::transient("the lease's answer got lost"));
        }
        self.life.hop(lane).await;
        grant
    }

    async fn renew(&self, grant: &Grant, ttl: Span) -> Result<Option<Grant>, PortError> {
        // The rate service polls nothing while it renews: that takes no time, or the two would meet.
        let lane = self.lane(&grant.name);
        if lane != Lane::RateLease {
            self.life.hop(lane).await;
        }
        if self.life.strikes(lane, 50) {
            return Err(PortError::transient("the lease is not reached"));
        }
        let ttl = self.mutation.term(ttl);
        let renewed = self.lease.renew(grant, ttl).await;
        self.note(&renewed, ttl);
        renewed
    }

    async fn release(&self, grant: Grant) -> Result<(), PortError> {
        self.life.hop(self.lane(&grant.name)).await;
        self.lease.release(grant).await
    }
}

/// The node of a chain, as one watcher reaches it.
pub(crate) type Node = Far<FakeChain, Road>;

/// The way to a chain's node.
pub(crate) struct Road {
    pub(crate) life: Arc<Life>,
    pub(crate) lane: Lane,
    /// Nobody reaches it: its watchers are silent.
    pub(crate) cut: Arc<AtomicBool>,
}

#[async_trait]
impl Way for Road {
    async fn there(&self) -> Result<(), PortError> {
        self.life.hop(self.lane).await;
        if self.cut.load(Ordering::SeqCst) || self.life.strikes(self.lane, 300) {
            return Err(PortError::transient("the node is not reached"));
        }
        Ok(())
    }

    async fn back(&self, _answered: bool) {
        self.life.hop(self.lane).await;
    }
}

/// A process's store: commits are whole and durable when they answer, and what its process no longer lives to commit
/// is in it whole or not at all. So is what fails by itself.
pub(crate) struct Shelf {
    pub(crate) life: Arc<Life>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) judge: Arc<Mutex<Judge>>,
    pub(crate) of_watcher: bool,
    pub(crate) mutation: Mutation,
}

impl Store for Shelf {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, PortError> {
        self.gate.pass();
        self.store.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError> {
        self.gate.pass();
        self.store.range(from, to, limit)
    }

    fn range_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError> {
        self.gate.pass();
        self.store.range_back(from, to, limit)
    }

    fn commit(&self, batch: WriteBatch) -> Result<(), PortError> {
        self.gate.pass();
        if self.life.is_dead() {
            return Err(PortError::persistent("the process is dead"));
        }
        if let Some(written) = self.life.dies_in_commit() {
            if written {
                self.store.commit(batch)?;
            }
            return Err(PortError::persistent("the process died in a commit"));
        }
        let batch = self.mutation.rows(self.life.process, self.of_watcher, batch);
        match self.life.fails_commit() {
            None => self.store.commit(batch),
            Some(written) => {
                if written {
                    lock(&self.judge).happened("commits unsure");
                    self.store.commit(batch)?;
                }
                Err(PortError::transient("the disk does not answer"))
            }
        }
    }

    fn clear(&self) -> Result<(), PortError> {
        self.gate.pass();
        if self.life.is_dead() {
            return Err(PortError::persistent("the process is dead"));
        }
        self.store.clear()
    }
}

/// The public subjects, as an announcer reaches them.
pub(crate) struct Board {
    pub(crate) life: Arc<Life>,
    pub(crate) lane: Lane,
    pub(crate) judge: Arc<Mutex<Judge>>,
    pub(crate) mutation: Mutation,
}

#[async_trait]
impl Publisher for Board {
    async fn publish(&self, messages: Vec<Message>) -> Result<(), PortError> {
        if self.lane == Lane::Announce {
            lock(&self.judge).left(&self.life, "announce");
        }
        self.life.hop(self.lane).await;
        if self.life.strikes(self.lane, 40) {
            return Err(PortError::transient("the public subjects are not reached"));
        }
        let messages = self.mutation.messages(messages);
        // An answer that gets lost may have been that of a part.
        let lost = self.life.strikes(self.lane, 40);
        let stored = if lost {
            self.life.below(self.lane, messages.len() as u64 + 1) as usize
        } else {
            messages.len()
        };
        lock(&self.judge).published(messages.get(..stored).unwrap_or_default());
        if lost {
            return Err(PortError::transient("the answer of the public subjects got lost"));
        }
        self.life.hop(self.lane).await;
        Ok(())
    }

    async fn last_position(&self) -> Result<Option<Position>, PortError> {
        self.life.hop(self.lane).await;
        let last = lock(&self.judge).last_published();
        self.life.hop(self.lane).await;
        Ok(last)
    }
}

/// Whether a fact stands on an aggregate of this kind.
pub(crate) fn is_on(event: &NewEvent, aggregate: &str) -> bool {
    event.subject.aggregate() == aggregate
}

/// Whether a fact is about a payment.
pub(crate) fn is_mined(fact: &Fact) -> bool {
    matches!(fact, Fact::DepositMined(_))
}
