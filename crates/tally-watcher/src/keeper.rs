//! The writer's lease: taken, kept while the writer works, given back.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tally_events::Epoch;
use tally_ports::{Grant, Lease};
use tally_types::Span;

/// A lease while it is held.
pub(crate) struct Keeper<'a> {
    lease: &'a dyn Lease,
    ttl: Span,
    grant: Mutex<Grant>,
}

impl<'a> Keeper<'a> {
    pub(crate) fn new(lease: &'a dyn Lease, ttl: Span, grant: Grant) -> Self {
        Self { lease, ttl, grant: Mutex::new(grant) }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.grant().epoch
    }

    fn grant(&self) -> Grant {
        self.grant.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Renews three times as often as needed; returns when the lease is lost.
    pub(crate) async fn keep(&self) {
        let third = self.ttl.to_duration() / 3;
        let mut failures = 0_u32;
        loop {
            tokio::time::sleep(third).await;
            match self.lease.renew(&self.grant(), self.ttl).await {
                Ok(Some(renewed)) => {
                    *self.grant.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
                    failures = 0;
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "the lease could not be renewed");
                    failures = failures.saturating_add(1);
                    if failures >= 3 {
                        return;
                    }
                }
            }
        }
    }

    /// Gives it back, so that another need not wait for its end.
    pub(crate) async fn release(&self) {
        let released = tokio::time::timeout(Duration::from_secs(1), self.lease.release(self.grant())).await;
        if !matches!(released, Ok(Ok(()))) {
            tracing::info!("the lease was not given back; it ends by itself");
        }
    }
}
