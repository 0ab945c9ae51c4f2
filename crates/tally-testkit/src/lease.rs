//! Leases in memory, by a clock that tests move.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tally_events::Epoch;
use tally_ports::{Clock, Grant, Lease, PortError};
use tally_types::{Span, Timestamp};

use crate::lock;

/// A [`Lease`] for the tasks of one test.
pub struct MemoryLease {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The highest epoch granted so far, over all names.
    epoch: u64,
    held: HashMap<String, Held>,
}

struct Held {
    epoch: u64,
    until: Timestamp,
}

impl MemoryLease {
    /// Leases that run by `clock`; none is held.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// Takes a lease away from whoever holds it, as an expiry would.
    pub fn revoke(&self, name: &str) {
        lock(&self.state).held.remove(name);
    }
}

#[async_trait]
impl Lease for MemoryLease {
    async fn acquire(&self, name: &str, ttl: Span) -> Result<Option<Grant>, PortError> {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        if state.held.get(name).is_some_and(|held| held.until > now) {
            return Ok(None);
        }
        state.epoch = state.epoch.saturating_add(1);
        let epoch = state.epoch;
        state.held.insert(name.to_owned(), Held { epoch, until: now.plus(ttl) });
        Ok(Some(Grant { name: name.to_owned(), epoch: Epoch::new(epoch), revision: epoch }))
    }

    async fn renew(&self, grant: &Grant, ttl: Span) -> Result<Option<Grant>, PortError> {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        match state.held.get_mut(&grant.name) {
            Some(held) if held.epoch == grant.epoch.get() && held.until > now => {
                held.until = now.plus(ttl);
                Ok(Some(grant.clone()))
            }
            _ => Ok(None),
        }
    }

    async fn release(&self, grant: Grant) -> Result<(), PortError> {
        let mut state = lock(&self.state);
        if state.held.get(&grant.name).is_some_and(|held| held.epoch == grant.epoch.get()) {
            state.held.remove(&grant.name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManualClock;
    use crate::conformance::lease_conformance;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn conforms() {
        let clock = Arc::new(ManualClock::default());
        let leases = Mutex::new(HashMap::new());
        let open = |name: &'static str| {
            let fresh = || Arc::new(MemoryLease::new(clock.clone()));
            let lease = lock(&leases).entry(name).or_insert_with(fresh).clone() as Arc<dyn Lease>;
            async move { lease }
        };
        let elapse = |span| {
            clock.advance(span);
            std::future::ready(())
        };
        lease_conformance(open, elapse).await;
    }
}
