//! Follows the log: reads after its checkpoint, folds, commits, and tells how far it is.
//!
//! Not here: folding (`fold`), answers (`model`).

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use tally_events::Recorded;
use tally_order::Status;
use tally_ports::{EventLog, EventStream, PortError, ReadModel, Store};
use tally_types::Position;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::fold::{Aside, Committed, Fold, Limits};
use crate::model::blocking;
use crate::{Model, keys, rows};

/// The version of what the store holds. A store of another version is emptied and folded again.
pub const PROJECTOR_VERSION: u64 = 6;

/// How many facts are taken at once from a log that has more.
const FACTS_AT_ONCE: usize = 500;

/// Orders that are kept at hand: most facts are about a recent one.
const ORDERS_AT_HAND: usize = 4_000;

/// Rows that are put aside while an empty store is filled in bulk: about 300 MB.
const ROWS_ASIDE: usize = 2_000_000;

/// The pause before a log that failed is read again: the first, and the longest.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);

/// How often the store is asked whether it has something to tidy, and the pause between two steps of that while facts
/// come in.
const TIDY_EVERY: Duration = Duration::from_secs(5);
const TIDY_PAUSE: Duration = Duration::from_millis(20);

/// How large commits may be: a commit makes every other user of the same embedded store and log wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Rows in a commit once the log is caught up with.
    pub rows_live: usize,
    /// Rows in a commit until then: few where others append meanwhile, more in a process of its own.
    pub rows_catching_up: usize,
    /// The pause after each commit until then, so that whoever appends meanwhile gets a turn.
    pub pause_catching_up: Duration,
    /// Whether an empty store is filled in bulk: faster and smaller, but after a crash filled anew.
    pub bulk: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { rows_live: 500, rows_catching_up: 100, pause_catching_up: Duration::ZERO, bulk: false }
    }
}

impl Options {
    /// For a process that folds what the log has before it does anything else: large commits until then.
    pub fn before_serving() -> Self {
        Self { rows_catching_up: 50_000, bulk: true, ..Self::default() }
    }

    /// For a process that does nothing else: commits as large as memory allows.
    pub fn alone() -> Self {
        Self { rows_catching_up: 200_000, bulk: true, ..Self::default() }
    }

    /// Beside a read model that serves: small commits, and a pause after each.
    pub fn beside() -> Self {
        Self { pause_catching_up: Duration::from_millis(1), ..Self::default() }
    }

    fn limits(&self, catching_up: bool) -> Limits {
        Limits {
            rows_max: if catching_up { self.rows_catching_up } else { self.rows_live }.max(1),
            orders_max: ORDERS_AT_HAND,
            keep_rows: !catching_up,
            aside: self.bulk.then_some(Aside { rows_max: ROWS_ASIDE, at_once: self.rows_catching_up.max(1) }),
        }
    }
}

/// What is kept between facts.
#[derive(Default)]
struct Kept {
    fold: Option<Fold<'static>>,
    /// A commit that failed: the store may have taken it all the same.
    unsure: Option<Committed>,
}

impl Kept {
    /// A fold that goes on where the store stands. Where that is further than was told, readers are told now: the store
    /// took a commit, and failed all the same.
    fn begin(
        &mut self,
        model: &Model,
        limits: Limits,
        publish: &mut dyn FnMut(Committed),
    ) -> Result<Fold<'static>, PortError> {
        let fold = Fold::new(model.store(), limits)?;
        let taken = match &self.unsure {
            Some(unsure) => fold.has(unsure, model.position())?,
            None => false,
        };
        let told = self.unsure.take().filter(|_| taken).unwrap_or_default();
        publish(Committed { position: fold.position(), ..told });
        Ok(fold)
    }
}

/// Keeps a store folded up to the log's head.
pub struct Projector {
    log: Arc<dyn EventLog>,
    model: Arc<Model>,
    options: Options,
    /// What stood in the log when this began: what lies before is history and moves no counter.
    history: Position,
    /// What is folded and not committed yet; none before the first fact and after a failure.
    fold: Arc<Mutex<Kept>>,
    /// Held while facts are folded.
    folding: tokio::sync::Mutex<()>,
    /// Whether it moves no metric: another one does.
    quiet: bool,
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
        let model = blocking(move || Model::open(Self::prepare(opened)?)).await?;
        let head = log.head().await?;
        if model.position() > head {
            return Err(PortError::persistent(format!(
                "the read model is folded through position {} and the log ends at {head}: the log has lost \
                 facts, or is another one; restore it, or run `tally rebuild`",
                model.position()
            )));
        }
        let (fold, folding) = (Arc::default(), tokio::sync::Mutex::default());
        Ok(Self { log, model: Arc::new(model), options, history: head, fold, folding, quiet: false })
    }

    /// Empties a store of another version, and one that was not filled to the end.
    fn prepare(store: Arc<dyn Store>) -> Result<Arc<dyn Store>, PortError> {
        let unfinished = store.get(keys::UNFINISHED)?.is_some();
        if unfinished || rows::number(&*store, keys::VERSION)? != PROJECTOR_VERSION {
            Self::reset(&*store)?;
        }
        Ok(store)
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
        tokio::select! {
            ended = self.keep_up() => ended,
            never = self.keep_tidy() => match never {},
        }
    }

    /// Lets the store do what it can do now and then, in small steps between which others get their turn.
    async fn keep_tidy(&self) -> Infallible {
        loop {
            sleep(TIDY_EVERY).await;
            loop {
                let (store, position) = (self.model.store(), self.model.position());
                match blocking(move || store.tidy()).await {
                    Ok(true) if self.model.position() == position => {}
                    Ok(true) => sleep(TIDY_PAUSE).await,
                    Ok(false) => break,
                    Err(error) => {
                        tracing::warn!(%error, "the read model could not be tidied");
                        break;
                    }
                }
            }
        }
    }

    async fn keep_up(&self) -> Result<Infallible, PortError> {
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
        let _turn = self.folding.lock().await;
        self.advance(head).await
    }

    /// Folds through `to`, and no further. Whoever calls has the turn to fold.
    async fn advance(&self, to: Position) -> Result<Position, PortError> {
        let mut folded = self.model.position();
        if folded < to {
            let mut facts = self.log.read(folded).await?.ready_chunks(FACTS_AT_ONCE);
            while folded < to {
                let Some(chunk) = facts.next().await else { break };
                let mut chunk: Vec<Recorded> = chunk.into_iter().collect::<Result<_, _>>()?;
                chunk.retain(|fact| fact.position <= to);
                folded = self.fold_now(chunk).await?;
            }
            self.flush_now().await?;
        }
        Ok(self.model.position())
    }

    /// Folds the whole log into `store` beside the read model that serves, then puts it in that one's place: from
    /// then on every answer comes from it. `store` must be empty, or hold an earlier part of the same log.
    ///
    /// Facts are folded by the same code from the same log, so the rows are the same as before, and what is still
    /// to be delivered is, too: nothing is sent again.
    ///
    /// # Errors
    /// Those of log and store; then the old one goes on.
    pub async fn rebuild(&self, store: Arc<dyn Store>, options: Options) -> Result<Position, PortError> {
        let mut beside = Self::open(self.log.clone(), store.clone(), options).await?;
        beside.quiet = true;
        beside.catch_up().await?;
        // What came meanwhile is little. Both stand at the same place when one takes the other's.
        let _turn = self.folding.lock().await;
        let head = self.log.head().await?;
        let reached = (self.advance(head).await?, beside.advance(head).await?);
        if reached.0 != reached.1 {
            return Err(PortError::transient(format!(
                "the new read model stands at {}, the old one at {}",
                reached.1, reached.0
            )));
        }
        *unpoisoned(&self.fold) = Kept::default();
        self.model.replace(store);
        Ok(reached.0)
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
                _ = ticks.tick() => {
                    // Where the log's last positions hold no fact, what was folded before them is not kept waiting.
                    if let Err(error) = self.flush().await {
                        return error;
                    }
                    self.report_lag().await;
                }
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
        match failure {
            None => Ok(()),
            Some(error) => {
                self.flush().await?;
                Err(error)
            }
        }
    }

    async fn fold(&self, facts: Vec<Recorded>) -> Result<(), PortError> {
        let _turn = self.folding.lock().await;
        self.fold_now(facts).await.map(drop)
    }

    /// Folds facts; commits them at once but while the log is caught up with. Answers how far is folded.
    async fn fold_now(&self, mut facts: Vec<Recorded>) -> Result<Position, PortError> {
        let new = facts.split_off(facts.partition_point(|fact| fact.position <= self.history));
        let folded = self.fold_part(facts).await?;
        if new.is_empty() {
            return Ok(folded);
        }
        // What stood in the log at the start moves no counter: nothing of it is left to be committed with what came since.
        if self.model.position() < self.history {
            self.flush_now().await?;
        }
        self.fold_part(new).await
    }

    /// Folds facts that all stood in the log at the start, or all came since.
    async fn fold_part(&self, facts: Vec<Recorded>) -> Result<Position, PortError> {
        let Some(last) = facts.last() else { return Ok(self.model.position()) };
        let catching_up = last.position < self.history;
        let before = self.model.position();
        let folded = self.with_fold(catching_up, move |fold, publish| {
            let taken = if catching_up { fold.take(&facts, publish) } else { fold.run(&facts, publish) };
            taken.map(|()| fold.position())
        });
        let folded = folded.await?;
        if catching_up && !self.options.pause_catching_up.is_zero() && self.model.position() > before {
            sleep(self.options.pause_catching_up).await;
        }
        Ok(folded)
    }

    /// Commits what is folded.
    async fn flush(&self) -> Result<(), PortError> {
        let _turn = self.folding.lock().await;
        self.flush_now().await
    }

    async fn flush_now(&self) -> Result<(), PortError> {
        self.with_fold(true, |fold, publish| fold.run(&[], publish)).await
    }

    /// Runs work on the fold, on a thread that may block. After a failure it begins anew where the store stands.
    async fn with_fold<T: Send + 'static>(
        &self,
        catching_up: bool,
        work: impl FnOnce(&mut Fold<'static>, &mut dyn FnMut(Committed)) -> Result<T, PortError> + Send + 'static,
    ) -> Result<T, PortError> {
        let (model, history, kept) = (self.model.clone(), self.history, self.fold.clone());
        let (limits, quiet) = (self.options.limits(catching_up), self.quiet);
        blocking(move || {
            let mut kept = unpoisoned(&kept);
            let mut publish = |committed: Committed| {
                if !quiet {
                    report(&committed, history);
                }
                model.publish(committed);
            };
            let mut fold = match kept.fold.take() {
                Some(fold) => fold,
                None => kept.begin(&model, limits, &mut publish)?,
            };
            fold.limit(limits);
            let done = work(&mut fold, &mut publish);
            if done.is_ok() {
                kept.fold = Some(fold);
            } else {
                kept.unsure = fold.into_unsure();
                match kept.begin(&model, limits, &mut publish) {
                    Ok(fold) => kept.fold = Some(fold),
                    // It is done before anything else is folded.
                    Err(error) if error.is_transient() => {}
                    // Whatever failed, asking again does not help.
                    Err(error) => return Err(error),
                }
            }
            done
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

/// The lock, whatever became of the thread that held it: a fold that broke off was taken out before.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        if committed.left_out > 0 {
            tracing::error!(
                deposits = committed.left_out,
                "deposits were left out of orders that have too many: they stand in the log alone"
            );
            metrics::counter!("tally_incidents_total", "kind" => "deposits_left_out")
                .increment(committed.left_out);
        }
        for order in &committed.undone {
            tracing::error!(%order, "a reorg took the money of a complete order");
            metrics::counter!("tally_incidents_total", "kind" => "reorg_after_complete").increment(1);
        }
    }
}
