//! How a watcher is, for readiness and answers, and the way to ask it for a report.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tally_types::{BlockRef, Position, Span, Timestamp};
use tokio::sync::Notify;

/// How a watcher is at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthView {
    /// The node's tip, as last heard.
    pub node_tip: Option<BlockRef>,
    /// The tip of the log's branch.
    pub own_tip: Option<BlockRef>,
    /// Whether this process holds the chain's lease. One that does not folds along and takes over.
    pub writing: bool,
    /// The clock when everything was last looked at and written down.
    pub last_success: Option<Timestamp>,
    /// Addresses up to this log position are matched against all that came after their birth.
    pub watched_through: Position,
    /// Scripts watched.
    pub scripts: usize,
    /// Why nothing goes on, if so: names the block, the node or the log, and what it said.
    pub stalled: Option<String>,
    /// Why the log is not followed, if so: newer addresses are not known.
    pub log_unread: Option<String>,
}

impl HealthView {
    /// Blocks the node has and the log has not.
    pub fn lag_blocks(&self) -> u64 {
        let height = |tip: Option<BlockRef>| tip.map_or(0, |tip| tip.height.get());
        height(self.node_tip).saturating_sub(height(self.own_tip))
    }

    /// Whether the chain is followed: not stalled, and as a writer successful within `age_max`.
    pub fn is_ready(&self, now: Timestamp, age_max: Span) -> bool {
        let fresh = self.last_success.is_some_and(|at| now.since(at) <= age_max);
        self.stalled.is_none()
            && self.log_unread.is_none()
            && (fresh || !self.writing && self.own_tip.is_some())
    }
}

/// A handle on a running watcher. Clones are the same handle.
#[derive(Debug, Clone, Default)]
pub struct WatcherHandle(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    view: Mutex<HealthView>,
    asked: AtomicBool,
    wake: Notify,
}

impl WatcherHandle {
    /// How the watcher is now.
    pub fn health(&self) -> HealthView {
        self.lock().clone()
    }

    /// A deadline waits for this chain: report at once that tip and mempool were looked at, not only after
    /// 20 s of silence.
    pub fn report_soon(&self) {
        self.0.asked.store(true, Ordering::SeqCst);
        self.0.wake.notify_one();
    }

    pub(crate) fn take_asked(&self) -> bool {
        self.0.asked.swap(false, Ordering::SeqCst)
    }

    /// Returns when somebody has asked for a report.
    pub(crate) async fn asked(&self) {
        self.0.wake.notified().await;
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut HealthView)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, HealthView> {
        self.0.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
