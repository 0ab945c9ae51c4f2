//! How a watcher is, for readiness and answers, and the way to ask it for a report.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tally_types::{BlockRef, ChainId, Position, Span, Timestamp};
use tokio::sync::Notify;

/// A watcher that has not looked at everything for so long is not ready: at the tip it looks every second.
pub const SILENCE_ALARM: Span = Span::from_secs(45);

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
    /// How many blocks the node and the log are apart: the log has not taken them in yet, or the node has fallen
    /// behind it.
    pub fn lag_blocks(&self) -> u64 {
        match (self.node_tip, self.own_tip) {
            (Some(node), Some(own)) => node.height.get().abs_diff(own.height.get()),
            (Some(node), None) => node.height.get(),
            (None, _) => 0,
        }
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
#[derive(Debug, Clone)]
pub struct WatcherHandle {
    chain: ChainId,
    shards: Arc<Mutex<Vec<ShardHandle>>>,
}

impl WatcherHandle {
    pub(crate) fn new(chain: ChainId) -> Self {
        Self { chain, shards: Arc::new(Mutex::new(vec![ShardHandle::default()])) }
    }

    /// The chain that is watched.
    pub fn chain(&self) -> &ChainId {
        &self.chain
    }

    /// How the watcher is now: of several shards, what all of them have reached, and the first fault.
    pub fn health(&self) -> HealthView {
        let views = self.all().into_iter().map(|shard| shard.health());
        views.reduce(HealthView::beside).unwrap_or_default()
    }

    /// How each of its shards is.
    pub fn shards(&self) -> Vec<HealthView> {
        self.all().into_iter().map(|shard| shard.health()).collect()
    }

    /// A deadline waits for this chain: report at once that tip and mempool were looked at, not only after
    /// 20 s of silence.
    pub fn report_soon(&self) {
        self.all().iter().for_each(ShardHandle::report_soon);
    }

    /// From now on it is these that are watched. At least one, to say how things are.
    pub(crate) fn set_shards(&self, shards: Vec<ShardHandle>) {
        *self.shards.lock().unwrap_or_else(PoisonError::into_inner) = shards;
    }

    /// Says something about the watcher where it has no shards of its own.
    pub(crate) fn update(&self, change: impl Fn(&mut HealthView)) {
        self.all().iter().for_each(|shard| shard.update(&change));
    }

    fn all(&self) -> Vec<ShardHandle> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl HealthView {
    /// Two shards as one.
    fn beside(self, other: Self) -> Self {
        let height = |tip: &Option<BlockRef>| tip.map(|tip| tip.height);
        let own_tip = match (self.own_tip, other.own_tip) {
            (Some(one), Some(other)) if other.height < one.height => Some(other),
            (Some(one), Some(_)) => Some(one),
            _ => None,
        };
        Self {
            node_tip: if height(&other.node_tip) > height(&self.node_tip) {
                other.node_tip
            } else {
                self.node_tip
            },
            own_tip,
            writing: self.writing && other.writing,
            last_success: self.last_success.min(other.last_success),
            watched_through: self.watched_through.min(other.watched_through),
            scripts: self.scripts.saturating_add(other.scripts),
            stalled: self.stalled.or(other.stalled),
            log_unread: self.log_unread.or(other.log_unread),
        }
    }
}

/// A handle on one shard of a running watcher.
#[derive(Debug, Clone, Default)]
pub(crate) struct ShardHandle(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    view: Mutex<HealthView>,
    asked: AtomicBool,
    wake: Notify,
}

impl ShardHandle {
    pub(crate) fn health(&self) -> HealthView {
        self.lock().clone()
    }

    fn report_soon(&self) {
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

#[cfg(test)]
mod tests {
    use tally_types::{BlockHash, Height};

    use super::*;

    #[test]
    fn who_is_ready() {
        let block = BlockRef { height: Height::new(7), hash: BlockHash::from_display([0; 32]) };
        let writer = HealthView {
            own_tip: Some(block),
            writing: true,
            last_success: Some(Timestamp::from_secs(40)),
            ..HealthView::default()
        };
        let standby = HealthView { writing: false, last_success: None, ..writer.clone() };
        let why = || Some("for a reason".to_owned());
        for (name, view, ready) in [
            ("a writer that has just looked", writer.clone(), true),
            ("a writer that stands", HealthView { stalled: why(), ..writer.clone() }, false),
            ("a log that is not followed", HealthView { log_unread: why(), ..writer.clone() }, false),
            (
                "long ago",
                HealthView { last_success: Some(Timestamp::from_secs(39)), ..writer.clone() },
                false,
            ),
            ("a writer that never looked", HealthView { last_success: None, ..writer }, false),
            ("a standby that folds along", standby.clone(), true),
            ("a standby without the log", HealthView { log_unread: why(), ..standby.clone() }, false),
            ("a standby that knows nothing yet", HealthView { own_tip: None, ..standby }, false),
        ] {
            assert_eq!(view.is_ready(Timestamp::from_secs(100), Span::from_secs(60)), ready, "{name}");
        }
    }

    #[test]
    fn of_several_shards_the_slowest_counts() {
        let tip =
            |height| Some(BlockRef { height: Height::new(height), hash: BlockHash::from_display([0; 32]) });
        let at = |secs| Some(Timestamp::from_secs(secs));
        let fast = HealthView {
            node_tip: tip(9),
            own_tip: tip(9),
            writing: true,
            last_success: at(100),
            watched_through: Position::new(9),
            scripts: 2,
            ..HealthView::default()
        };
        let slow = HealthView {
            own_tip: tip(7),
            last_success: at(40),
            watched_through: Position::new(5),
            scripts: 3,
            ..fast.clone()
        };
        let handle = WatcherHandle::new("btc".parse().unwrap());
        let shards = [fast.clone(), slow].map(|view| {
            let shard = ShardHandle::default();
            shard.update(|shown| *shown = view);
            shard
        });
        handle.set_shards(shards.to_vec());
        let whole = handle.health();
        assert_eq!((whole.lag_blocks(), whole.scripts, whole.last_success), (2, 5, at(40)));
        let (now, minute) = (Timestamp::from_secs(101), Span::from_secs(60));
        assert!(fast.is_ready(now, minute) && !whole.is_ready(now, minute));
        shards[0].update(|view| view.stalled = Some("the node does not answer".into()));
        assert_eq!(handle.health().stalled.as_deref(), Some("the node does not answer"));
        handle.report_soon();
        assert!(shards.iter().all(ShardHandle::take_asked));
    }
}
