//! What stands between a watcher and the fakes: the time that questions and answers take, and death in between.
//!
//! Not here: the fakes (`tally-testkit`), and what is right (`judge`).

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, stream};
use tally_events::{NewEvent, Recorded, Subject};
use tally_ports::{
    AppendError, EventLog, EventStream, Expectation, Grant, Lease, PortError, Rows, Store, WriteBatch,
};
use tally_testkit::{FakeChain, Far, MemoryLease, MemoryLog, MemoryStore, Way};
use tally_types::{Position, Span};

use crate::judge::Judge;
use crate::tally::SharedTally;
use crate::timeline::{Lane, Life};

/// The node, as one watcher reaches it.
pub(crate) type Node = Far<FakeChain, Road>;

/// The way to the node.
pub(crate) struct Road {
    pub(crate) life: Arc<Life>,
    /// The node tells of new blocks; else it must be polled.
    pub(crate) wakes: bool,
    pub(crate) counts: SharedTally,
}

#[async_trait]
impl Way for Road {
    async fn there(&self) -> Result<(), PortError> {
        self.life.hop(Lane::Worker).await;
        Ok(())
    }

    async fn back(&self, answered: bool) {
        if !answered {
            self.counts.add("calls of the node failed");
        }
        self.life.hop(Lane::Worker).await;
    }

    fn wakes(&self) -> bool {
        self.wakes
    }
}

/// The log, as one watcher reaches it. Whatever is in it is judged at once.
pub(crate) struct Log {
    pub(crate) life: Arc<Life>,
    pub(crate) log: MemoryLog,
    pub(crate) judge: Arc<Mutex<Judge>>,
    pub(crate) counts: SharedTally,
    pub(crate) writers: Arc<Mutex<Writers>>,
}

/// Whose facts the log took.
#[derive(Default)]
pub(crate) struct Writers {
    /// The life that wrote last, and how many lives had begun by then.
    last: Option<(u64, u64)>,
    begun: u64,
}

impl Writers {
    /// A life begins.
    pub(crate) fn begin(&mut self, number: u64) {
        self.begun = self.begun.max(number);
    }

    /// A life has written: whether another had before, and whether this one stood by while it did.
    fn wrote(&mut self, number: u64) -> (bool, bool) {
        let before = self.last.replace((number, self.begun));
        let changed = before.is_some_and(|(other, _)| other != number);
        (changed, changed && before.is_some_and(|(_, begun)| number <= begun))
    }
}

impl Log {
    fn count(&self, taken: bool, result: &Result<Vec<Position>, AppendError>) {
        match (taken, result) {
            (true, Err(_)) => self.counts.add("answers of the log lost"),
            (false, Err(AppendError::Port(_))) => self.counts.add("appends failed"),
            (false, Err(AppendError::Stale { .. })) => self.counts.add("appends too late"),
            (false, Ok(_)) => self.counts.add("appends repeated"),
            _ => {}
        }
        if taken {
            let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
            let (changed, stood_by) = writers.wrote(self.life.number);
            if changed {
                self.counts.add("writers changed");
            }
            if stood_by {
                self.counts.add("standbys took over");
            }
        }
    }
}

#[async_trait]
impl EventLog for Log {
    async fn append(
        &self,
        expectations: Vec<Expectation>,
        batch: Vec<NewEvent>,
    ) -> Result<Vec<Position>, AppendError> {
        self.life.hop(Lane::Worker).await;
        let before = self.log.head().await?;
        let result = self.log.append(expectations, batch).await;
        self.count(self.log.head().await? > before, &result);
        self.judge.lock().unwrap_or_else(PoisonError::into_inner).look();
        self.life.hop(Lane::Worker).await;
        result
    }

    /// Facts come some at a time, after a while; now and then the stream breaks.
    async fn read(&self, after: Position) -> Result<EventStream, PortError> {
        self.life.hop(Lane::Follower).await;
        let facts = self.log.read(after).await?;
        let state = (facts, Arc::clone(&self.life));
        let batches = stream::unfold(Some(state), |state| async move {
            let (mut facts, life) = state?;
            let mut batch: Vec<Result<Recorded, PortError>> = vec![facts.next().await?];
            life.hop(Lane::Follower).await;
            if life.strikes(Lane::Follower, 200) {
                let broken = Err(PortError::transient("the log's stream broke"));
                return Some((stream::iter(vec![broken]), None));
            }
            while let Some(Some(next)) = facts.next().now_or_never() {
                batch.push(next);
            }
            Some((stream::iter(batch), Some((facts, life))))
        });
        Ok(batches.flatten().boxed())
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Recorded>, PortError> {
        self.life.hop(Lane::Worker).await;
        let last = self.log.last(subject).await;
        self.life.hop(Lane::Worker).await;
        last
    }

    async fn head(&self) -> Result<Position, PortError> {
        self.life.hop(Lane::Follower).await;
        self.log.head().await
    }
}

/// The leases, as one watcher reaches them.
pub(crate) struct Leases {
    pub(crate) life: Arc<Life>,
    pub(crate) lease: Arc<MemoryLease>,
}

#[async_trait]
impl Lease for Leases {
    async fn acquire(&self, name: &str, ttl: Span) -> Result<Option<Grant>, PortError> {
        self.life.hop(Lane::Lease).await;
        let grant = self.lease.acquire(name, ttl).await;
        self.life.hop(Lane::Lease).await;
        grant
    }

    async fn renew(&self, grant: &Grant, ttl: Span) -> Result<Option<Grant>, PortError> {
        self.life.hop(Lane::Lease).await;
        if self.life.strikes(Lane::Lease, 50) {
            return Err(PortError::transient("the lease is not reached"));
        }
        self.lease.renew(grant, ttl).await
    }

    async fn release(&self, grant: Grant) -> Result<(), PortError> {
        self.life.hop(Lane::Lease).await;
        self.lease.release(grant).await
    }
}

/// A watcher's own store: what its process no longer lives to commit is not in it.
pub(crate) struct Cache {
    pub(crate) life: Arc<Life>,
    pub(crate) store: Arc<MemoryStore>,
}

impl Store for Cache {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, PortError> {
        self.store.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError> {
        self.store.range(from, to, limit)
    }

    fn range_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError> {
        self.store.range_back(from, to, limit)
    }

    fn commit(&self, batch: WriteBatch) -> Result<(), PortError> {
        if self.life.is_dead() {
            return Err(PortError::persistent("the process is dead"));
        }
        self.store.commit(batch)
    }

    fn clear(&self) -> Result<(), PortError> {
        if self.life.is_dead() {
            return Err(PortError::persistent("the process is dead"));
        }
        self.store.clear()
    }
}
