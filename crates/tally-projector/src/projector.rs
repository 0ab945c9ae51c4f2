//! Follows the log: reads after its checkpoint, folds, commits, and tells how far it is.
//!
//! Not here: folding (`fold`), answers (`model`).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tally_events::Recorded;
use tally_order::Status;
use tally_ports::{EventLog, EventStream, PortError, ReadModel, Store};
use tally_types::Position;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::fold::{Committed, Fold};
use crate::model::blocking;
use crate::{Model, keys, rows};

/// The version of what the store holds. A store of another version is emptied and folded again.
pub const PROJECTOR_VERSION: u64 = 1;

/// How many facts are taken at once from a log that has more.
const FACTS_AT_ONCE: usize = 500;

/// The pause before a log that failed is read again: the first, and the longest.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);

/// How large commits may be: a commit makes every other user of the same embedded store and log wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Rows in a commit once the log is caught up with.
    pub rows_live: usize,
    /// Rows in a commit until then: few where others append meanwhile, more in a process of its own.
    pub rows_catching_up: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { rows_live: 500, rows_catching_up: 100 }
    }
}

/// Keeps a store folded up to the log's head.
pub struct Projector {
    log: Arc<dyn EventLog>,
    model: Arc<Model>,
    options: Options,
    /// What stood in the log when this began: what lies before is history and moves no counter.
    history: Position,
}

impl Projector {
    /// A projector that goes on where the store stands; a store of another projector version is emptied first.
    ///
    /// # Errors
    /// Those of log and store; persistent where the store is ahead of the log, which then has lost facts.
    pub async fn open(
        log: Arc<dyn EventLog>,
        store: Arc<dyn Store>,
        options: Options,
    ) -> Result<Self, PortError> {
        let opened = store.clone();
        let model = blocking(move || {
            if rows::number(&*opened, keys::VERSION)? != PROJECTOR_VERSION {
                Self::reset(&*opened)?;
            }
            Model::open(opened)
        })
        .await?;
        let head = log.head().await?;
        if model.position() > head {
            return Err(PortError::persistent(format!(
                "the read model is folded through position {} and the log ends at {head}: the log has lost \
                 facts, or is another one; restore it, or run `tally rebuild`",
                model.position()
            )));
        }
        Ok(Self { log, model: Arc::new(model), options, history: head })
    }

    /// Empties a store, so that the next start folds the whole log again.
    ///
    /// # Errors
    /// Those of the store.
    pub fn reset(store: &dyn Store) -> Result<(), PortError> {
        store.clear()?;
        let mut batch = tally_ports::WriteBatch::default();
        batch.put(keys::VERSION, PROJECTOR_VERSION.to_be_bytes());
        store.commit(batch)
    }

    /// The read model that this projector keeps up to date.
    pub fn model(&self) -> Arc<Model> {
        self.model.clone()
    }

    /// Follows the log until it fails for good. Dropping the future stops it: what is not committed is folded
    /// again at the next start.
    ///
    /// # Errors
    /// Persistent ones of log and store: a fact that cannot be read, a store that cannot be written.
    pub async fn run(&self) -> Result<Infallible, PortError> {
        self.report_orders().await?;
        let mut pause = RETRY_FIRST;
        loop {
            let before = self.model.position();
            let error = match self.log.read(before).await {
                Ok(facts) => self.follow(facts).await,
                Err(error) => error,
            };
            if !error.is_transient() {
                let position = self.model.position();
                tracing::error!(%position, %error, "the fold stops");
                return Err(PortError::persistent(format!(
                    "the fold stops after position {position}: {error}"
                ))
                .because(error));
            }
            pause = if self.model.position() > before { RETRY_FIRST } else { pause };
            tracing::warn!(%error, "the log is read again");
            sleep(pause).await;
            pause = pause.saturating_mul(2).min(RETRY_LAST);
        }
    }

    /// Folds what the log has now, and answers how far that is.
    ///
    /// # Errors
    /// Those of log and store.
    pub async fn catch_up(&self) -> Result<Position, PortError> {
        let head = self.log.head().await?;
        let mut facts = self.log.read(self.model.position()).await?.ready_chunks(FACTS_AT_ONCE);
        while self.model.position() < head {
            let Some(chunk) = facts.next().await else { break };
            self.fold(chunk.into_iter().collect::<Result<_, _>>()?).await?;
        }
        Ok(self.model.position())
    }

    /// Folds facts as they come, until the stream fails.
    async fn follow(&self, facts: EventStream) -> PortError {
        let mut facts = facts.ready_chunks(FACTS_AT_ONCE);
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                chunk = facts.next() => {
                    let Some(chunk) = chunk else {
                        return PortError::transient("the log's stream has ended");
                    };
                    if let Err(error) = self.fold_chunk(chunk).await {
                        return error;
                    }
                }
                _ = ticks.tick() => self.report_lag().await,
            }
        }
    }

    /// Folds facts up to the first that could not be read.
    async fn fold_chunk(&self, chunk: Vec<Result<Recorded, PortError>>) -> Result<(), PortError> {
        let mut facts = Vec::with_capacity(chunk.len());
        let mut failure = None;
        for item in chunk {
            match item {
                Ok(fact) => facts.push(fact),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        self.fold(facts).await?;
        failure.map_or(Ok(()), Err)
    }

    async fn fold(&self, facts: Vec<Recorded>) -> Result<(), PortError> {
        if facts.is_empty() {
            return Ok(());
        }
        let catching_up = self.model.position() < self.history;
        let rows_max = if catching_up { self.options.rows_catching_up } else { self.options.rows_live };
        let (model, history) = (self.model.clone(), self.history);
        blocking(move || {
            let store = model.store().clone();
            Fold::new(&*store, rows_max)?.run(&facts, |committed| {
                report(&committed, history);
                model.publish(&committed);
            })
        })
        .await
    }

    async fn report_lag(&self) {
        if let Ok(head) = self.log.head().await {
            let lag = head.get().saturating_sub(self.model.position().get());
            metrics::gauge!("tally_projector_lag_events").set(lag as f64);
        }
    }

    async fn report_orders(&self) -> Result<(), PortError> {
        let counts = self.model.read(|store| {
            let count = |status: Status| Ok((status, rows::number(store, &keys::count(status.as_str()))?));
            Status::ALL.into_iter().map(count).collect::<Result<Vec<_>, PortError>>()
        });
        for (status, count) in counts.await? {
            metrics::gauge!("tally_orders", "status" => status.as_str()).set(count as f64);
        }
        Ok(())
    }
}

/// Moves the metrics by a commit.
fn report(committed: &Committed, history: Position) {
    for (status, count) in &committed.counts {
        metrics::gauge!("tally_orders", "status" => status.as_str()).set(*count as f64);
    }
    if committed.position > history {
        for status in &committed.entered {
            metrics::counter!("tally_order_transitions_total", "status" => status.as_str()).increment(1);
        }
        for order in &committed.undone {
            tracing::error!(%order, "a reorg took the money of a complete order");
            metrics::counter!("tally_incidents_total", "kind" => "reorg_after_complete").increment(1);
        }
    }
}
