//! The public subjects: where subscribers outside read.

use async_trait::async_trait;
use tally_types::Position;

use crate::PortError;

/// A public message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `tally.v1.status.…`, `tally.v1.deposit.…`, `tally.v1.rate.…`.
    pub subject: String,
    /// Stable: the same message again has the same id.
    pub id: String,
    /// The log position it follows from; none for rates.
    pub position: Option<Position>,
    /// The CloudEvents envelope as JSON.
    pub body: Vec<u8>,
}

/// Publishes for subscribers, at least once.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Publishes messages in order; stored when it answers.
    async fn publish(&self, messages: Vec<Message>) -> Result<(), PortError>;

    /// The log position of the last message published with one; where to go on after a restart or takeover.
    async fn last_position(&self) -> Result<Option<Position>, PortError>;
}
