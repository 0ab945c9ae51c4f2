//! Hints that there is news: they end a wait early and are never a source of anything else.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// Rung by a task that listens to a node; the task ends with the bell.
#[derive(Default)]
pub(crate) struct Bell {
    ringer: Ringer,
    task: Mutex<Option<AbortHandle>>,
}

/// Rings a bell.
#[derive(Clone, Default)]
pub(crate) struct Ringer {
    news: Arc<Notify>,
    live: Arc<AtomicBool>,
}

impl Bell {
    /// Starts a listener, unless one is at it.
    pub(crate) fn hang<F>(&self, listen: impl FnOnce(Ringer) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(AbortHandle::is_finished) {
            *task = Some(tokio::spawn(listen(self.ringer.clone())).abort_handle());
        }
    }

    /// Returns when the bell rings, or at once if it rang since the last time.
    pub(crate) async fn rung(&self) {
        self.ringer.news.notified().await;
    }

    /// Whether the listener hears the node now.
    pub(crate) fn is_live(&self) -> bool {
        self.ringer.live.load(Ordering::Relaxed)
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.take() {
            task.abort();
        }
    }
}

impl Ringer {
    /// There is news.
    pub(crate) fn ring(&self) {
        self.news.notify_one();
    }

    /// The node is heard, or no longer.
    pub(crate) fn set_live(&self, live: bool) {
        self.live.store(live, Ordering::Relaxed);
    }
}
