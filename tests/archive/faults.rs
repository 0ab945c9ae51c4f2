//! A log and an archive whose user dies at a chosen step: before it, or after it was done and before it was answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tally_events::{NewEvent, OrdersArchived, Recorded, Subject};
use tally_ports::{AppendError, Archive, EventLog, EventStream, Expectation, PortError, Purge};
use tally_types::Position;

/// When to die.
#[derive(Debug, Default)]
pub(crate) struct Death {
    steps: AtomicU64,
    /// The step at which; none where 0.
    at: u64,
    /// Whether the step itself is still done.
    after: bool,
}

impl Death {
    pub(crate) fn at(step: u64, after: bool) -> Arc<Self> {
        Arc::new(Self { steps: AtomicU64::new(0), at: step, after })
    }

    /// How many steps were taken.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::SeqCst)
    }

    async fn step<T, E: From<PortError>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let step = self.steps.fetch_add(1, Ordering::SeqCst) + 1;
        let dead = || Err(PortError::transient("killed").into());
        if self.at != 0 && (step > self.at || (step == self.at && !self.after)) {
            return dead();
        }
        let done = work.await;
        if step == self.at { dead() } else { done }
    }
}

pub(crate) struct MortalLog(pub(crate) Arc<dyn Purge>, pub(crate) Arc<Death>);

#[async_trait]
impl EventLog for MortalLog {
    async fn append(
        &self,
        expect: Vec<Expectation>,
        batch: Vec<NewEvent>,
    ) -> Result<Vec<Position>, AppendError> {
        self.1.step(self.0.append(expect, batch)).await
    }

    async fn read(&self, after: Position) -> Result<EventStream, PortError> {
        self.0.read(after).await
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Recorded>, PortError> {
        self.0.last(subject).await
    }

    async fn head(&self) -> Result<Position, PortError> {
        self.0.head().await
    }
}

#[async_trait]
impl Purge for MortalLog {
    async fn all_on(&self, subject: &Subject) -> Result<Vec<Recorded>, PortError> {
        self.0.all_on(subject).await
    }

    async fn purge(&self, subject: &Subject, through: Position) -> Result<(), PortError> {
        self.1.step(self.0.purge(subject, through)).await
    }
}

pub(crate) struct MortalArchive(pub(crate) Arc<dyn Archive>, pub(crate) Arc<Death>);

#[async_trait]
impl Archive for MortalArchive {
    async fn store(&self, index: OrdersArchived, facts: Vec<Recorded>) -> Result<OrdersArchived, PortError> {
        self.1.step(self.0.store(index, facts)).await
    }

    async fn segment(&self, number: u64) -> Result<Option<OrdersArchived>, PortError> {
        self.0.segment(number).await
    }

    async fn purged(&self) -> Result<u64, PortError> {
        self.0.purged().await
    }

    async fn note_purged(&self, number: u64) -> Result<(), PortError> {
        self.1.step(self.0.note_purged(number)).await
    }
}
