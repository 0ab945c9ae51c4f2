//! Leases among the tasks of one process.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tally_events::Epoch;
use tally_ports::{Clock, Grant, Lease, PortError};
use tally_types::{Span, Timestamp};
use tokio::sync::oneshot;

use super::writer::Request;
use super::{Inner, stopped};

/// Who holds what, by name.
pub(super) type Held = HashMap<String, Term>;

/// A lease that is held.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    epoch: Epoch,
    until: Timestamp,
    /// For how long it was asked for.
    ttl: Span,
}

/// Leases of the embedded mode. No other process can have the log open, so they are kept in memory and end with this
/// process; only their epochs are in the log's database, durable before they are granted.
#[derive(Clone)]
pub struct EmbeddedLease {
    inner: Arc<Inner>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for EmbeddedLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedLease").field("dir", &self.inner.dir).finish_non_exhaustive()
    }
}

impl EmbeddedLease {
    pub(super) fn new(inner: Arc<Inner>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, clock }
    }
}

#[async_trait]
impl Lease for EmbeddedLease {
    async fn acquire(&self, name: &str, ttl: Span) -> Result<Option<Grant>, PortError> {
        // Held over the wait for the disk: two who ask at once are one after the other.
        let mut held = self.inner.held.lock().await;
        let now = self.clock.now();
        if let Some(term) = held.get_mut(name).filter(|term| term.until > now) {
            // A clock that was set back makes no term longer than it was asked for.
            term.until = term.until.min(now.plus(term.ttl));
            return Ok(None);
        }
        let (answer, epoch) = oneshot::channel();
        self.inner.request(Request::Epoch(name.to_owned(), answer)).await?;
        let epoch = epoch.await.map_err(|_| stopped(&self.inner.dir))??;
        let until = self.clock.now().plus(ttl);
        held.insert(name.to_owned(), Term { epoch: Epoch::new(epoch), until, ttl });
        Ok(Some(Grant { name: name.to_owned(), epoch: Epoch::new(epoch), revision: epoch }))
    }

    async fn renew(&self, grant: &Grant, ttl: Span) -> Result<Option<Grant>, PortError> {
        let mut held = self.inner.held.lock().await;
        match held.get_mut(&grant.name) {
            // Late, but nobody else has it: then it goes on. A clock that was advanced takes no duty away.
            Some(term) if term.epoch == grant.epoch => {
                (term.until, term.ttl) = (self.clock.now().plus(ttl), ttl);
                Ok(Some(grant.clone()))
            }
            _ => Ok(None),
        }
    }

    async fn release(&self, grant: Grant) -> Result<(), PortError> {
        let mut held = self.inner.held.lock().await;
        if held.get(&grant.name).is_some_and(|term| term.epoch == grant.epoch) {
            held.remove(&grant.name);
        }
        Ok(())
    }
}
