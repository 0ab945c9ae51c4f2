//! A publisher that remembers what it published.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tally_ports::{Message, PortError, Publisher};
use tally_types::Position;

use crate::lock;

/// A [`Publisher`] for the tasks of one test.
#[derive(Debug, Default)]
pub struct RecordingPublisher {
    published: Mutex<Vec<Message>>,
    failures: AtomicUsize,
}

impl RecordingPublisher {
    /// Nothing was published yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was published, in order, repeats included.
    pub fn published(&self) -> Vec<Message> {
        lock(&self.published).clone()
    }

    /// The next `calls` calls of `publish` fail and publish nothing.
    pub fn fail_next(&self, calls: usize) {
        self.failures.store(calls, Ordering::SeqCst);
    }
}

#[async_trait]
impl Publisher for RecordingPublisher {
    async fn publish(&self, messages: Vec<Message>) -> Result<(), PortError> {
        let fail = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if fail.is_ok() {
            return Err(PortError::transient("the server of the public subjects is not reached"));
        }
        lock(&self.published).extend(messages);
        Ok(())
    }

    async fn last_position(&self) -> Result<Option<Position>, PortError> {
        Ok(lock(&self.published).iter().filter_map(|message| message.position).max())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn conforms() {
        let publisher = Arc::new(RecordingPublisher::new());
        crate::conformance::publisher_conformance(|_| {
            let publisher = publisher.clone() as Arc<dyn Publisher>;
            async move { publisher }
        })
        .await;
    }
}
