//! Leases with epochs: who holds a duty now.

use async_trait::async_trait;
use tally_events::Epoch;
use tally_types::Span;

use crate::PortError;

/// A lease that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The duty's name: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The term: higher than that of every grant before it of the same name.
    pub epoch: Epoch,
    /// The implementation's own handle on it.
    pub revision: u64,
}

/// Leases. They tell who should act; that no one else does, the epoch in the facts and the expectations of
/// the log ensure.
#[async_trait]
pub trait Lease: Send + Sync {
    /// Asks for `name`, for `ttl` from now. `None` while someone else holds it.
    async fn acquire(&self, name: &str, ttl: Span) -> Result<Option<Grant>, PortError>;

    /// Holds on to it for another `ttl`. `None` when it was lost.
    async fn renew(&self, grant: &Grant, ttl: Span) -> Result<Option<Grant>, PortError>;

    /// Gives it back at once.
    async fn release(&self, grant: Grant) -> Result<(), PortError>;
}
