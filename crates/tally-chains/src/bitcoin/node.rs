//! A node of the family on async ground. Blocks come over connections that are kept (`bodies`); sessions block, so
//! they run on threads of their own, a few at a time.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tally_ports::{Header, MempoolDiff, PortError, ScannedBlock, SharedWatch};
use tally_types::{BlockHash, Currency, Height, Span, TxId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

use super::ahead::Ahead;
use super::bodies::Bodies;
use super::network::Network;
use super::scan::{self, Work};
use super::session::Session;
use super::zmq;
use crate::endpoint::Endpoint;
use crate::fault::{Fault, FaultKind};
use crate::pool::Node;
use crate::wake::Bell;

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
    currency: Currency,
    work: Arc<Work>,
    bodies: Bodies,
    ahead: Ahead,
    sessions: Arc<Semaphore>,
    /// The one long poll.
    long_poll: Arc<Semaphore>,
    /// The node has no `waitfornewblock`.
    must_poll: AtomicBool,
    /// Rings with the blocks that the node publishes.
    bell: Bell,
}

impl BitcoinNode {
    pub(crate) fn new(endpoint: Endpoint, network: &'static Network) -> Result<Self, PortError> {
        let endpoint = Arc::new(endpoint);
        Ok(Self {
            currency: network.currency()?,
            work: Arc::new(Work::new(network)),
            bodies: Bodies::new(&endpoint, network)?,
            endpoint,
            ahead: Ahead::default(),
            sessions: Arc::new(Semaphore::new(SESSIONS_MAX)),
            long_poll: Arc::new(Semaphore::new(1)),
            must_poll: AtomicBool::new(false),
            bell: Bell::default(),
        })
    }

    /// A whole block, matched, and how many bytes it had.
    pub(crate) async fn scan(
        &self,
        block: Header,
        watch: SharedWatch,
    ) -> Result<(ScannedBlock, usize), Fault> {
        let body = self.bodies.block(&block.block.hash).await;
        let body = body.map_err(|error| error.fault(&self.endpoint, "getblock"))?;
        let (work, currency) = (Arc::clone(&self.work), self.currency.clone());
        let len = body.bytes.len();
        let matched =
            tokio::task::spawn_blocking(move || scan::block(&body.bytes, &block, &work, &currency, &watch));
        let matched = matched.await.map_err(|error| self.broken().because(error))?;
        matched.map(|block| (block, len)).map_err(|error| error.fault(&self.endpoint))
    }

    pub(crate) async fn mempool(
        &self,
        known: &HashSet<TxId>,
        watch: &SharedWatch,
    ) -> Result<Option<MempoolDiff>, Fault> {
        let Some((tip, ids)) = self.ask(|session| session.snapshot()).await? else { return Ok(None) };
        let unknown: Vec<TxId> = ids.iter().filter(|id| !known.contains(*id)).copied().collect();
        let mut present: HashSet<TxId> = ids.into_iter().collect();
        if unknown.is_empty() {
            return Ok(Some(MempoolDiff { tip, present, credits: Vec::new(), spends: Vec::new() }));
        }
        let (watch, currency) = (Arc::clone(watch), self.currency.clone());
        let fetched = self.ask(move |session| session.fetch(&unknown, &currency, &watch)).await?;
        // Not told as present, so that it is asked for again if it is still there next time.
        fetched.gone.iter().for_each(|id| {
            present.remove(id);
        });
        Ok(Some(MempoolDiff { tip, present, credits: fetched.credits, spends: fetched.spends }))
    }

    /// The work of a block of any branch.
    pub(crate) async fn work(&self, hash: BlockHash) -> Result<Option<u128>, Fault> {
        self.ask(move |session| session.work(&hash)).await
    }

    /// Returns when the tip may be another, or after `at_most`.
    pub(crate) async fn wait(&self, tip: BlockHash, at_most: Span) {
        let end = Instant::now() + Duration::from_millis(at_most.millis());
        let news = async {
            tokio::select! {
                () = self.changed(tip, end) => {}
                () = self.bell.rung() => {}
            }
        };
        // Out of time is as good an answer as any.
        let _ = timeout_at(end, news).await;
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

    /// A header that was read ahead with others.
    async fn read_ahead(&self, height: Height) -> Option<Header> {
        let check = async |told: Vec<(Height, BlockHash, Vec<u8>)>| {
            let work = Arc::clone(&self.work);
            let read = move || {
                let header = |(height, hash, bytes): &(Height, BlockHash, Vec<u8>)| {
                    scan::header(bytes, *hash, *height, &work).ok()
                };
                told.iter().map(header).collect::<Option<Vec<_>>>()
            };
            tokio::task::spawn_blocking(read).await.ok().flatten()
        };
        self.ahead.at(height, &self.bodies, check).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Session<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let permit = Arc::clone(&self.sessions).acquire_owned().await;
        let permit = permit.map_err(|error| self.broken().because(error))?;
        self.blocking(permit, question).await
    }

    /// Runs a session on a thread that may block. The permit goes with it, for dropping the future does not
    /// end the thread.
    async fn blocking<T: Send + 'static>(
        &self,
        permit: OwnedSemaphorePermit,
        question: impl FnOnce(&Session<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let (endpoint, work) = (Arc::clone(&self.endpoint), Arc::clone(&self.work));
        let work = move || {
            let _permit = permit;
            question(&Session::open(&endpoint, &work)?)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| self.broken().because(error))?
    }

    fn broken(&self) -> Fault {
        let what = format!("{}: the thread that asked it failed", self.endpoint.label());
        Fault::new(FaultKind::Internal, what)
    }
}

#[async_trait]
impl Node for BitcoinNode {
    fn label(&self) -> &str {
        self.endpoint.label()
    }

    fn authority(&self) -> &str {
        self.endpoint.authority()
    }

    async fn verify(&self) -> Result<(), Fault> {
        self.must_poll.store(false, Ordering::Relaxed);
        let address = self
            .ask(|session| {
                session.verify()?;
                Ok(session.zmq_blocks())
            })
            .await?;
        self.bodies.probe().await;
        if let Some(address) = address.and_then(|address| zmq::reachable(&address, &self.endpoint)) {
            self.bell.hang(|ringer| zmq::listen(address, ringer));
        }
        Ok(())
    }

    async fn tip(&self) -> Result<Header, Fault> {
        let tip = self.ask(|session| session.tip()).await?;
        self.ahead.set_tip(tip.block.height);
        Ok(tip)
    }

    async fn at(&self, height: Height) -> Result<Option<Header>, Fault> {
        if let Some(header) = self.read_ahead(height).await {
            return Ok(Some(header));
        }
        self.ask(move |session| session.at(height)).await
    }

    async fn header(&self, hash: BlockHash) -> Result<Option<Header>, Fault> {
        self.ask(move |session| session.header(&hash)).await
    }
}
