//! Follows the live log: an address that is named there is watched at once, whatever the worker is doing.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tally_ports::{EventLog, EventStream, PortError};
use tally_types::ChainId;
use tokio::sync::mpsc;

use crate::health::ShardHandle;
use crate::persist::{Entry, Note};
use crate::replay::is_first_part;
use crate::shared::Shared;

/// Facts taken before others get a turn.
const TURN_EVERY: u64 = 256;
/// How long to wait before the log is asked again.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) struct Follower {
    pub(crate) chain: ChainId,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) entries: mpsc::Sender<Note>,
    pub(crate) handle: ShardHandle,
}

impl Follower {
    /// Takes fact after fact, without end. A stream that breaks is made anew from the same position; meanwhile
    /// blocks are matched against the addresses that are known, and say so in `watched_through`.
    pub(crate) async fn run(self, mut stream: EventStream) {
        let mut count = 0_u64;
        loop {
            match stream.next().await {
                Some(Ok(recorded)) => {
                    let (position, id) = (recorded.position, recorded.event.id.clone());
                    let (change, own) = self.shared.take(recorded);
                    let checkpoint = own.as_ref().is_some_and(|own| is_first_part(&own.fact));
                    let is_own = own.is_some();
                    if let Some(own) = own {
                        self.shared.deliver(own);
                    }
                    let entry = Entry { position, id, change, checkpoint };
                    if entry.matters() {
                        // Only a watcher that is being stopped has no persister any more.
                        let _ = self.entries.send(Note::Entry(entry)).await;
                    }
                    if is_own {
                        self.shared.note(position);
                    }
                    count = count.wrapping_add(1);
                    if count.is_multiple_of(TURN_EVERY) {
                        tokio::task::yield_now().await;
                    }
                }
                Some(Err(error)) => stream = self.reopen(&error).await,
                None => stream = self.reopen(&PortError::transient("the log's stream ended")).await,
            }
        }
    }

    async fn reopen(&self, error: &PortError) -> EventStream {
        let mut said = error.to_string();
        tracing::warn!(chain = %self.chain, error = said, "the log's stream broke");
        if !error.is_transient() {
            self.handle.update(|view| view.log_unread = Some(said.clone()));
        }
        loop {
            tokio::time::sleep(PAUSE).await;
            match self.log.read(self.shared.position()).await {
                Ok(stream) => {
                    if error.is_transient() {
                        self.handle.update(|view| view.log_unread = None);
                    }
                    return stream;
                }
                Err(error) => said = error.to_string(),
            }
            self.handle.update(|view| view.log_unread = Some(said.clone()));
        }
    }
}
