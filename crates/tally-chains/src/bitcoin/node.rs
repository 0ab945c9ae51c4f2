//! A node of the family on async ground: its sessions block, so they run on threads of their own, a few at a
//! time.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tally_ports::{Header, MempoolDiff, PortError, ScannedBlock, SharedWatch};
use tally_types::{BlockHash, Height, Span, TxId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

use super::network::Network;
use super::session::Session;
use crate::endpoint::Endpoint;
use crate::pool::Node;

/// Sessions at a time: the nodes have four threads for all their clients.
const SESSIONS_MAX: usize = 3;
/// One long poll. Short, since a thread that waits cannot be called off, and so that a block that came between
/// two polls is not missed for long.
const LONG_POLL: Duration = Duration::from_secs(2);
/// Between two questions for the tip, for a node on this machine and for one elsewhere.
const POLL_NEAR: Duration = Duration::from_millis(500);
const POLL_FAR: Duration = Duration::from_secs(1);

/// One node.
pub(crate) struct BitcoinNode {
    endpoint: Arc<Endpoint>,
    network: &'static Network,
    sessions: Arc<Semaphore>,
    /// The one long poll.
    long_poll: Arc<Semaphore>,
    /// The node has no `waitfornewblock`.
    must_poll: AtomicBool,
}

impl BitcoinNode {
    pub(crate) fn new(endpoint: Endpoint, network: &'static Network) -> Self {
        Self {
            endpoint: Arc::new(endpoint),
            network,
            sessions: Arc::new(Semaphore::new(SESSIONS_MAX)),
            long_poll: Arc::new(Semaphore::new(1)),
            must_poll: AtomicBool::new(false),
        }
    }

    pub(crate) async fn tip(&self) -> Result<Header, PortError> {
        self.ask(|session| session.tip()).await
    }

    pub(crate) async fn at(&self, height: Height) -> Result<Option<Header>, PortError> {
        self.ask(move |session| session.at(height)).await
    }

    pub(crate) async fn header(&self, hash: BlockHash) -> Result<Option<Header>, PortError> {
        self.ask(move |session| session.header(&hash)).await
    }

    pub(crate) async fn scan(&self, block: Header, watch: SharedWatch) -> Result<ScannedBlock, PortError> {
        self.ask(move |session| session.scan(&block, &watch)).await
    }

    pub(crate) async fn mempool(
        &self,
        known: &HashSet<TxId>,
        watch: &SharedWatch,
    ) -> Result<Option<MempoolDiff>, PortError> {
        let Some((tip, ids)) = self.ask(|session| session.snapshot()).await? else { return Ok(None) };
        let unknown: Vec<TxId> = ids.iter().filter(|id| !known.contains(*id)).copied().collect();
        let mut present: HashSet<TxId> = ids.into_iter().collect();
        if unknown.is_empty() {
            return Ok(Some(MempoolDiff { tip, present, credits: Vec::new(), spends: Vec::new() }));
        }
        let watch = Arc::clone(watch);
        let fetched = self.ask(move |session| session.fetch(&unknown, &watch)).await?;
        // Not told as present, so that it is asked for again if it is still there next time.
        fetched.gone.iter().for_each(|id| {
            present.remove(id);
        });
        Ok(Some(MempoolDiff { tip, present, credits: fetched.credits, spends: fetched.spends }))
    }

    /// Returns when the tip is another, or after `at_most`.
    pub(crate) async fn wait(&self, tip: BlockHash, at_most: Span) {
        let end = Instant::now() + Duration::from_millis(at_most.millis());
        // Out of time is as good an answer as any.
        let _ = timeout_at(end, self.changed(tip, end)).await;
    }

    async fn changed(&self, tip: BlockHash, end: Instant) {
        while self.ask(|session| session.best()).await.ok().is_none_or(|best| best == tip) {
            match self.long_poll(end).await {
                Some(best) if best != tip => return,
                Some(_) => {}
                None => sleep(if self.endpoint.is_loopback() { POLL_NEAR } else { POLL_FAR }).await,
            }
        }
    }

    /// The best block after a long poll; `None` where that cannot be done.
    async fn long_poll(&self, end: Instant) -> Option<BlockHash> {
        if self.must_poll.load(Ordering::Relaxed) {
            return None;
        }
        let permit = Arc::clone(&self.long_poll).try_acquire_owned().ok()?;
        let patience = LONG_POLL.min(end.saturating_duration_since(Instant::now()));
        let outcome = self.blocking(permit, move |session| session.wait_for_block(patience)).await;
        match outcome {
            Ok(Some(best)) => Some(best),
            Ok(None) => {
                self.must_poll.store(true, Ordering::Relaxed);
                None
            }
            Err(_) => None,
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Session<'_>) -> Result<T, PortError> + Send + 'static,
    ) -> Result<T, PortError> {
        let permit = Arc::clone(&self.sessions).acquire_owned().await;
        let permit = permit.map_err(|error| self.broken().because(error))?;
        self.blocking(permit, question).await
    }

    /// Runs a session on a thread that may block. The permit goes with it, for dropping the future does not
    /// end the thread.
    async fn blocking<T: Send + 'static>(
        &self,
        permit: OwnedSemaphorePermit,
        question: impl FnOnce(&Session<'_>) -> Result<T, PortError> + Send + 'static,
    ) -> Result<T, PortError> {
        let (endpoint, network) = (Arc::clone(&self.endpoint), self.network);
        let work = move || {
            let _permit = permit;
            question(&Session::open(&endpoint, network)?)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| self.broken().because(error))?
    }

    fn broken(&self) -> PortError {
        PortError::transient(format!("{}: the thread that asked it failed", self.endpoint.label()))
    }
}

#[async_trait]
impl Node for BitcoinNode {
    fn label(&self) -> &str {
        self.endpoint.label()
    }

    async fn verify(&self) -> Result<(), PortError> {
        self.must_poll.store(false, Ordering::Relaxed);
        self.ask(|session| session.verify()).await
    }
}
