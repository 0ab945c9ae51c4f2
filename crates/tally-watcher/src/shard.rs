//! One shard, watched: read from the log, then followed by a worker beside the live log.
//!
//! Not here: which shards a process watches (`watcher`).

use std::sync::Arc;
use std::time::Duration;

use tally_events::{Shard, Subject};
use tally_ports::Reminder;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::follower::Follower;
use crate::health::ShardHandle;
use crate::persist::{Note, Persister};
use crate::replay::{Replay, Replayed};
use crate::rescan::{Rescanner, learn_rescans};
use crate::shared::Shared;
use crate::trouble::{LOUD_AFTER, pause_after};
use crate::worker::{Ended, Worker};
use crate::{WatcherConfig, WatcherError, WatcherPorts};

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
        let (mut failures, mut reminder) = (0_u32, Reminder::default());
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
                    if failures >= LOUD_AFTER && reminder.is_due("the log", self.ports.clock.now()) {
                        tracing::warn!(chain = %self.config.chain, said, "waiting to start");
                    }
                    self.handle.update(|view| view.stalled = Some(said));
                    tokio::time::sleep(pause_after(failures)).await;
                }
                Err(error) => return Err(WatcherError::Log(error)),
            }
        }
    }
}
