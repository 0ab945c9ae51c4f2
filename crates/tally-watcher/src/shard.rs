//! One shard, watched: read from the log, then followed by a worker beside the live log.
//!
//! Not here: which shards a process watches (`watcher`).

use std::sync::Arc;
use std::time::Duration;

use tally_events::{Shard, Subject};
use tally_ports::PortError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::follower::Follower;
use crate::health::ShardHandle;
use crate::persist::{Note, Persister, paid_in};
use crate::replay::{Replay, Replayed};
use crate::rescan::{Rescanner, learn_rescans};
use crate::shared::Shared;
use crate::trouble::pause_after;
use crate::worker::{Ended, Worker};
use crate::{WatcherConfig, WatcherError, WatcherPorts};

/// How long the rows of a start may take to be written down.
const FLUSH: Duration = Duration::from_secs(60);

/// A shard to be watched.
pub(crate) struct ShardRun {
    pub(crate) config: WatcherConfig,
    pub(crate) ports: WatcherPorts,
    pub(crate) handle: ShardHandle,
    pub(crate) shard: Shard,
    pub(crate) subject: Subject,
}

impl ShardRun {
    /// Watches until `stop`, or until other shards have taken over.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<Ended, WatcherError> {
        let (notes, persister) = Persister::new(Arc::clone(&self.ports.store), self.config.chain.clone());
        let writing_down = tokio::spawn(persister.run());
        let result = Box::pin(self.watch(notes, &stop)).await;
        // What is not written down in time is read from the log at the next start.
        let _ = tokio::time::timeout(Duration::from_secs(2), writing_down).await;
        result
    }

    async fn watch(
        &self,
        notes: mpsc::Sender<Note>,
        stop: &CancellationToken,
    ) -> Result<Ended, WatcherError> {
        let (chain, seed) = (self.config.chain.clone(), self.config.seed);
        let shared = Arc::new(Shared::new(chain, seed, self.shard, self.subject.clone()));
        let replay = Replay {
            chain: &self.config.chain,
            settings: self.config.settings,
            log: self.ports.log.as_ref(),
            store: &self.ports.store,
            shared: &shared,
            entries: &notes,
        };
        let replayed = tokio::select! {
            () = stop.cancelled() => return Ok(Ended::Stopped),
            replayed = Box::pin(self.replay(&replay)) => replayed?,
        };
        tracing::info!(
            chain = %self.config.chain,
            shard = %self.shard,
            tip = replayed.tracker.tip().map(|tip| tip.height.get()),
            scripts = shared.script_count(),
            deposits = replayed.tracker.deposit_count(),
            "folded the log"
        );
        let Replayed { tracker, last, checkpoint, retired, stream } = replayed;
        shared.note(last);
        if let Some(tip) = tracker.tip() {
            self.recall(tip, &notes).await;
        }
        let follower = Follower {
            chain: self.config.chain.clone(),
            log: Arc::clone(&self.ports.log),
            shared: Arc::clone(&shared),
            entries: notes.clone(),
            handle: self.handle.clone(),
        };
        let (config, ports) = (self.config.clone(), self.ports.clone());
        let rescanner =
            Rescanner { config: config.clone(), ports: ports.clone(), shared: Arc::clone(&shared) };
        let state = (tracker, last, checkpoint, retired);
        let worker = Worker::new(config, ports, self.handle.clone(), shared, notes, state);
        tokio::select! {
            // Each is asked every time, whatever the order; in this one a run can be repeated.
            biased;
            () = Box::pin(follower.run(stream)) => Ok(Ended::Stopped),
            () = Box::pin(rescanner.run()) => Ok(Ended::Stopped),
            ended = Box::pin(worker.run(stop)) => Ok(ended),
        }
    }

    async fn replay(&self, replay: &Replay<'_>) -> Result<Replayed, WatcherError> {
        let mut failures = 0_u32;
        loop {
            let learned = learn_rescans(replay.log, replay.chain, replay.shared).await;
            let replayed = match learned {
                Ok(()) => replay.run().await,
                Err(error) => Err(error),
            };
            match replayed {
                Ok(replayed) => {
                    self.handle.update(|view| view.stalled = None);
                    return Ok(replayed);
                }
                Err(error) if error.is_transient() => {
                    replay.shared.reset();
                    failures = failures.saturating_add(1);
                    let said = format!("the log does not answer: {error}");
                    tracing::warn!(chain = %self.config.chain, said, "waiting to start");
                    self.handle.update(|view| view.stalled = Some(said));
                    tokio::time::sleep(pause_after(failures)).await;
                }
                Err(error) => return Err(WatcherError::Log(error)),
            }
        }
    }

    /// Tells the node's adapter what was paid so far, where it may have to know. Without it the watch goes on.
    async fn recall(&self, tip: tally_types::BlockRef, notes: &mpsc::Sender<Note>) {
        let Some(native) = self.config.native.clone() else { return };
        let (done, written) = oneshot::channel();
        if notes.send(Note::Flush(done)).await.is_err() {
            return;
        }
        if !matches!(tokio::time::timeout(FLUSH, written).await, Ok(Ok(()))) {
            tracing::warn!(chain = %self.config.chain, "the store is not written: sums are not recalled");
            return;
        }
        let store = Arc::clone(&self.ports.store);
        let paid = tokio::task::spawn_blocking(move || paid_in(store.as_ref(), &native)).await;
        let paid =
            paid.map_err(|error| PortError::transient("a read of the store was cut short").because(error));
        match paid.and_then(std::convert::identity) {
            Ok(paid) => {
                let paid: Vec<_> = paid.into_iter().collect();
                self.ports.source.recall(tip, &paid);
            }
            Err(error) => {
                tracing::warn!(chain = %self.config.chain, %error, "sums are not recalled");
            }
        }
    }
}
