//! The archive of closed orders, and the log they are moved out of.

use async_trait::async_trait;
use tally_events::{OrdersArchived, Recorded, Subject};
use tally_types::Position;

use crate::{EventLog, PortError};

/// A log whose facts can be taken out for good.
///
/// A subject of which nothing is left is as one that never had a fact: `last` finds none, and an append expects 0.
/// Positions are not given out again, and other facts stay where they stand.
#[async_trait]
pub trait Purge: EventLog {
    /// Every fact on a subject, in log order.
    async fn all_on(&self, subject: &Subject) -> Result<Vec<Recorded>, PortError>;

    /// Takes out every fact on `subject` through `through`, all or none of them. What is gone already is no error.
    async fn purge(&self, subject: &Subject, through: Position) -> Result<(), PortError>;
}

/// Where orders go that leave the log, in numbered segments. What was stored never changes.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Stores a segment, durably; `facts` in log order. Where one of that number is there already, that one stays.
    /// Answers which one is there.
    async fn store(&self, index: OrdersArchived, facts: Vec<Recorded>) -> Result<OrdersArchived, PortError>;

    /// A segment, read whole and found to be what was written. `None` where there is none of that number.
    async fn segment(&self, number: u64) -> Result<Option<OrdersArchived>, PortError>;

    /// Through which segment facts are known to be out of the log.
    async fn purged(&self) -> Result<u64, PortError>;

    /// Notes that the facts of the segments through this one are out of the log.
    async fn note_purged(&self, number: u64) -> Result<(), PortError>;
}
