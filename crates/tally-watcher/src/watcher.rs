//! The watcher as the composition root sees it.

use std::sync::Arc;
use std::time::Duration;

use tally_ports::{BlockSource, Clock, EventLog, Lease, PortError, Store};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::follower::Follower;
use crate::persist::{Entry, Persister};
use crate::replay::{Replay, Replayed};
use crate::shared::Shared;
use crate::trouble::pause_after;
use crate::worker::Worker;
use crate::{WatcherConfig, WatcherError, WatcherHandle};

/// The outside world of a watcher.
#[derive(Clone)]
pub struct WatcherPorts {
    /// The chain's node, or several.
    pub source: Arc<dyn BlockSource>,
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// Who may write.
    pub lease: Arc<dyn Lease>,
    /// The watcher's own store, of nobody else's use.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Watches one chain.
pub struct Watcher {
    config: WatcherConfig,
    ports: WatcherPorts,
    handle: WatcherHandle,
}

impl Watcher {
    /// A watcher that does nothing yet.
    pub fn new(config: WatcherConfig, ports: WatcherPorts) -> Self {
        Self { config, ports, handle: WatcherHandle::default() }
    }

    /// Its health, and the way to ask for a report.
    pub fn handle(&self) -> WatcherHandle {
        self.handle.clone()
    }

    /// Watches until `stop`. Several watchers of one chain may run; one of them writes.
    ///
    /// What may pass by itself is waited for and shown in the health; so is a block that cannot be read, at
    /// which the watch stands until it can.
    ///
    /// # Errors
    /// [`WatcherError`], where a person must change something before a start can succeed.
    pub async fn run(self, stop: CancellationToken) -> Result<(), WatcherError> {
        let (entries, persister) = Persister::new(Arc::clone(&self.ports.store), self.config.chain.clone());
        let writing_down = tokio::spawn(persister.run());
        let result = Box::pin(self.check_and_watch(entries, &stop)).await;
        // What is not written down in time is read from the log at the next start.
        let _ = tokio::time::timeout(Duration::from_secs(2), writing_down).await;
        result
    }

    async fn check_and_watch(
        &self,
        entries: mpsc::Sender<Entry>,
        stop: &CancellationToken,
    ) -> Result<(), WatcherError> {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            checked = self.check() => checked?,
        }
        self.watch(entries, stop).await
    }

    async fn check(&self) -> Result<(), WatcherError> {
        let mut failures = 0_u32;
        loop {
            match self.ports.source.check().await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_transient() => {
                    failures = failures.saturating_add(1);
                    self.wait_for("the node", &error, failures).await;
                }
                Err(error) => return Err(WatcherError::Source(error)),
            }
        }
    }

    async fn watch(
        &self,
        entries: mpsc::Sender<Entry>,
        stop: &CancellationToken,
    ) -> Result<(), WatcherError> {
        let shared = Arc::new(Shared::new(self.config.chain.clone(), self.config.seed));
        let replay = Replay {
            chain: &self.config.chain,
            settings: self.config.settings,
            log: self.ports.log.as_ref(),
            store: &self.ports.store,
            shared: &shared,
            entries: &entries,
        };
        let replayed = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            replayed = Box::pin(self.replay(&replay)) => replayed?,
        };
        tracing::info!(
            chain = %self.config.chain,
            tip = replayed.tracker.tip().map(|tip| tip.height.get()),
            scripts = shared.script_count(),
            deposits = replayed.tracker.deposit_count(),
            "folded the log"
        );
        let Replayed { tracker, last, checkpoint, stream } = replayed;
        let follower = Follower {
            chain: self.config.chain.clone(),
            log: Arc::clone(&self.ports.log),
            shared: Arc::clone(&shared),
            entries,
            handle: self.handle.clone(),
        };
        let worker = Worker::new(
            self.config.clone(),
            self.ports.clone(),
            self.handle.clone(),
            shared,
            (tracker, last, checkpoint),
        );
        tokio::select! {
            () = Box::pin(follower.run(stream)) => Ok(()),
            () = Box::pin(worker.run(stop)) => Ok(()),
        }
    }

    async fn replay(&self, replay: &Replay<'_>) -> Result<Replayed, WatcherError> {
        let mut failures = 0_u32;
        loop {
            match replay.run().await {
                Ok(replayed) => {
                    self.handle.update(|view| view.stalled = None);
                    return Ok(replayed);
                }
                Err(error) if error.is_transient() => {
                    replay.shared.reset();
                    failures = failures.saturating_add(1);
                    self.wait_for("the log", &error, failures).await;
                }
                Err(error) => return Err(WatcherError::Log(error)),
            }
        }
    }

    async fn wait_for(&self, what: &str, error: &PortError, failures: u32) {
        let said = format!("{what} does not answer: {error}");
        tracing::warn!(chain = %self.config.chain, said, "waiting to start");
        self.handle.update(|view| view.stalled = Some(said));
        tokio::time::sleep(pause_after(failures)).await;
    }
}
