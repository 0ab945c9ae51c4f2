//! The start: the watch set from the store and the chain's state from the log.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tally_events::{Fact, Recorded};
use tally_ports::{EventLog, EventStream, PortError, Store};
use tally_tracker::{Settings, Tracker};
use tally_types::{ChainId, Position};
use tokio::sync::mpsc;

use crate::persist::{Entry, Note, Stored, each_address, stored};
use crate::shared::{OwnFact, Shared};

/// A log that has been silent for so long has nothing more up to the head it named: what stood there is
/// archived.
const SILENCE: Duration = Duration::from_secs(2);
/// A stream of history never waits; others must get a turn.
const TURN_EVERY: u64 = 256;

/// The chain's state as folded, and the log from there on.
pub(crate) struct Replayed {
    pub(crate) tracker: Tracker,
    /// The last fact of the chain.
    pub(crate) last: Position,
    /// The last checkpoint's first part.
    pub(crate) checkpoint: Position,
    /// Other shards have taken over: there is nothing to do.
    pub(crate) retired: bool,
    /// Live from here.
    pub(crate) stream: EventStream,
}

/// What is needed to read the log from the start.
pub(crate) struct Replay<'a> {
    pub(crate) chain: &'a ChainId,
    pub(crate) settings: Settings,
    pub(crate) log: &'a dyn EventLog,
    pub(crate) store: &'a Arc<dyn Store>,
    pub(crate) shared: &'a Shared,
    pub(crate) entries: &'a mpsc::Sender<Note>,
}

/// The store does not fit the log.
struct Misfit;

impl Replay<'_> {
    /// Reads the store and the log up to its head. A store that does not fit the log is emptied, and the log
    /// read from its beginning.
    pub(crate) async fn run(&self) -> Result<Replayed, PortError> {
        let known = self.blocking(|store, chain| stored(store, &chain)).await?;
        if let Ok(replayed) = self.from(known).await? {
            return Ok(replayed);
        }
        tracing::warn!(chain = %self.chain, "the stored watch set is of another log: reading the log instead");
        self.shared.reset();
        self.blocking(|store, chain| {
            store.clear()?;
            stored(store, &chain)
        })
        .await?;
        match self.from(Stored::default()).await? {
            Ok(replayed) => Ok(replayed),
            Err(Misfit) => Err(PortError::transient("the log changed while it was read")),
        }
    }

    async fn from(&self, known: Stored) -> Result<Result<Replayed, Misfit>, PortError> {
        let head = self.log.head().await?;
        let cursor = known.cursor.as_ref().map_or(Position::START, |(at, _)| *at);
        if cursor > head {
            return Ok(Err(Misfit));
        }
        let checkpoint = match known.checkpoint {
            Some(before) if before < head && self.is_checkpoint_after(before).await? => before,
            _ => Position::START,
        };
        self.load(cursor).await?;
        let mut tracker = Tracker::new(self.chain.clone(), self.settings);
        let mut folded = Folded { last: Position::START, checkpoint: Position::START, retired: false };
        let before_cursor = Position::new(cursor.get().saturating_sub(1));
        let mut stream = self.log.read(checkpoint.min(before_cursor)).await?;
        let mut at = checkpoint.min(before_cursor);
        let mut count = 0_u64;
        while at < head {
            let next = match tokio::time::timeout(SILENCE, stream.next()).await {
                Ok(Some(next)) => next?,
                Ok(None) => return Err(PortError::transient("the log's stream ended while it was read")),
                Err(_) => break,
            };
            let skipped_cursor = at < cursor && next.position > cursor;
            at = next.position;
            let other =
                known.cursor.as_ref().is_some_and(|(at, id)| *at == next.position && *id != next.event.id);
            if other || skipped_cursor {
                return Ok(Err(Misfit));
            }
            self.fold(next, cursor, checkpoint, &mut tracker, &mut folded).await;
            count = count.wrapping_add(1);
            if count.is_multiple_of(TURN_EVERY) {
                tokio::task::yield_now().await;
            }
        }
        if at < cursor {
            return Ok(Err(Misfit));
        }
        self.finish(cursor, &mut tracker).await?;
        let Folded { last, checkpoint, retired } = folded;
        Ok(Ok(Replayed { tracker, last, checkpoint, retired, stream }))
    }

    /// Puts the stored addresses into the watch set.
    async fn load(&self, cursor: Position) -> Result<(), PortError> {
        if cursor > Position::START {
            let watch = Arc::clone(&self.shared.watch);
            self.blocking(move |store, chain| {
                each_address(store, |address| {
                    let mut watch = watch.write().unwrap_or_else(std::sync::PoisonError::into_inner);
                    if let Err(full) = watch.insert_script(address.script.as_bytes()) {
                        tracing::error!(%chain, %full, "an address cannot be watched: add shards");
                    }
                })
            })
            .await?;
        }
        self.shared.set_position(cursor);
        Ok(())
    }

    async fn fold(
        &self,
        next: Recorded,
        cursor: Position,
        checkpoint: Position,
        tracker: &mut Tracker,
        folded: &mut Folded,
    ) {
        let (position, id) = (next.position, next.event.id.clone());
        let own = if position > cursor {
            let (change, own) = self.shared.take(next);
            let checkpoint = own.as_ref().is_some_and(|own| is_first_part(&own.fact));
            let entry = Entry { position, id, change, checkpoint };
            if entry.matters() {
                // Only a watcher that is being stopped has no persister any more.
                let _ = self.entries.send(Note::Entry(entry)).await;
            }
            own
        } else {
            let ours = next.event.subject == self.shared.subject;
            ours.then_some(OwnFact { position, epoch: next.event.epoch, fact: next.event.fact })
        };
        let Some(own) = own.filter(|own| own.position > checkpoint) else { return };
        if is_first_part(&own.fact) {
            folded.checkpoint = own.position;
        }
        folded.last = own.position;
        folded.retired |= matches!(own.fact, Fact::ChainSharded(_));
        tracker.apply(&own.fact);
        self.shared.settle(tracker.watched_through());
    }

    /// Whether the first fact behind a position is a checkpoint of this chain.
    async fn is_checkpoint_after(&self, before: Position) -> Result<bool, PortError> {
        let mut stream = self.log.read(before).await?;
        match tokio::time::timeout(SILENCE, stream.next()).await {
            Ok(Some(next)) => {
                let next = next?;
                Ok(next.event.subject == self.shared.subject && is_first_part(&next.event.fact))
            }
            Ok(None) | Err(_) => Ok(false),
        }
    }

    /// Addresses of the store that are younger than what the chain was watched through are late ones too.
    async fn finish(&self, cursor: Position, tracker: &mut Tracker) -> Result<(), PortError> {
        self.shared.settle(tracker.watched_through());
        self.shared.watch_inputs(&tracker.take_input_changes());
        let through = tracker.watched_through();
        if cursor > through {
            let young = self
                .blocking(move |store, _| {
                    let mut young = Vec::new();
                    each_address(store, |address| {
                        if address.position > through && address.position <= cursor {
                            young.push(address);
                        }
                    })?;
                    Ok(young)
                })
                .await?;
            self.shared.add_late(young.into_iter().filter(|one| self.shared.watches(&one.script)).collect());
        }
        Ok(())
    }

    /// Calls of the store block, so they run apart.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Store, ChainId) -> Result<T, PortError> + Send + 'static,
    ) -> Result<T, PortError> {
        let (store, chain) = (Arc::clone(self.store), self.chain.clone());
        tokio::task::spawn_blocking(move || call(store.as_ref(), chain))
            .await
            .map_err(|error| PortError::transient("reading the store was cut short").because(error))?
    }
}

pub(crate) fn is_first_part(fact: &Fact) -> bool {
    matches!(fact, Fact::ChainCheckpointed(fact) if fact.part == 0)
}

/// Where the chain's facts stand.
struct Folded {
    last: Position,
    checkpoint: Position,
    retired: bool,
}
