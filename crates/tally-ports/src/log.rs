//! The event log: one total order of facts, with optimistic concurrency by subject.

use async_trait::async_trait;
use futures::stream::BoxStream;
use tally_events::{NewEvent, Recorded, Subject};
use tally_types::Position;

use crate::PortError;

/// What an append takes for granted: the last fact on `subject` stands at `at` (0: there is none).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// The literal subject.
    pub subject: Subject,
    /// The position of its last fact.
    pub at: Position,
}

impl Expectation {
    /// The last fact on `subject` stands at `at`.
    pub fn new(subject: Subject, at: Position) -> Self {
        Self { subject, at }
    }

    /// There is no fact on `subject`.
    pub fn none(subject: Subject) -> Self {
        Self { subject, at: Position::START }
    }
}

/// Why an append was not acknowledged. Stale or invalid: nothing of its batch is in the log.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Someone else was faster: fold what is there and decide again.
    #[error("{subject} has moved on: its last fact stands at {actual}, not at {expected}")]
    Stale {
        /// The subject.
        subject: Subject,
        /// The expected position.
        expected: Position,
        /// Where its last fact really stands.
        actual: Position,
    },
    /// A fact on a subject without an expectation, or a batch that no log takes: the caller's mistake.
    #[error("the append is not possible: {0}")]
    Invalid(String),
    /// The log could not be reached, or failed. The batch is in the log whole or not at all, and which of the two is
    /// not known: an answer may have got lost. The same append again finds out, and happens at most once.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Facts in order, history first, then live without end. Items are only ever facts that are durable.
pub type EventStream = BoxStream<'static, Result<Recorded, PortError>>;

/// A log of facts. Positions grow by commit order and are never reused; gaps are allowed.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Appends `batch`, all or nothing and in order, if every expectation holds; durable when it answers.
    ///
    /// Each subject in the batch needs one expectation; further ones guard on aggregates that the batch
    /// does not write. The same append again, after an answer that got lost, answers as the first did.
    /// Up to 1,000 facts, each of at most 512 KiB.
    async fn append(
        &self,
        expectations: Vec<Expectation>,
        batch: Vec<NewEvent>,
    ) -> Result<Vec<Position>, AppendError>;

    /// Every fact after `after`: history, then live.
    async fn read(&self, after: Position) -> Result<EventStream, PortError>;

    /// The last fact on a subject, as the log's leader knows it.
    async fn last(&self, subject: &Subject) -> Result<Option<Recorded>, PortError>;

    /// The position of the last durable fact.
    async fn head(&self) -> Result<Position, PortError>;
}
