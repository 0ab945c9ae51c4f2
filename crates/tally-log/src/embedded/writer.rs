//! The thread that writes: what waits becomes one group, one batch, one fsync.

use std::fs::File;
use std::path::PathBuf;

use tally_events::Subject;
use tally_ports::{AppendError, PortError};
use tally_types::{Position, Timestamp};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::files::{self, HighWater};
use super::group::{Answer, Group};
use super::record::{self, Reader, Tag};
use super::{LiveGroup, stopped};
use crate::RATES_KEPT;
use crate::check::Checked;

/// Appends in one commit.
const GROUP_APPENDS_MAX: usize = 250;
/// Rows in one commit, but for the last append's own: sled's write lock is the whole process's.
const GROUP_ROWS_MAX: usize = 500;
/// Old facts that one commit looks at, to remove those whose time is over.
const TRIM_MAX: usize = 16;

/// What an append is answered.
pub(super) type Appended = Result<Vec<Position>, AppendError>;

/// What the writer is asked for.
pub(super) enum Request {
    /// An append to a log.
    Append(Tag, Checked, oneshot::Sender<Appended>),
    /// The next epoch of the lease of this name.
    Epoch(String, oneshot::Sender<Result<u64, PortError>>),
    /// Positions without a fact, through this one: a few hundred at most.
    Skip(Tag, u64, oneshot::Sender<Result<u64, PortError>>),
    /// The facts of a subject through a position are taken out; answers how many.
    Purge(Tag, Subject, u64, oneshot::Sender<Result<u64, PortError>>),
    /// No lease has an epoch up to this one from now on.
    EpochsAbove(u64, oneshot::Sender<Result<u64, PortError>>),
}

/// The end of one log, which only the writer moves.
pub(super) struct End {
    /// The position of the last fact.
    pub(super) last: u64,
    /// The position of the oldest fact that is kept.
    pub(super) oldest: u64,
    /// The position of the last durable fact, for readers.
    pub(super) durable: watch::Sender<u64>,
    /// Facts as they become durable, for live readers.
    pub(super) live: broadcast::Sender<LiveGroup>,
}

/// Writes both logs.
pub(super) struct Writer {
    pub(super) dir: PathBuf,
    pub(super) db: sled::Db,
    pub(super) file: File,
    pub(super) high_water: HighWater,
    pub(super) main: End,
    pub(super) rates: End,
}

impl Writer {
    /// Writes until nobody can ask any more, or until a write fails.
    pub(super) fn run(mut self, mut waiting: mpsc::Receiver<Request>) {
        while let Some(first) = waiting.blocking_recv() {
            let reader = Reader { dir: &self.dir, db: &self.db, tag: Tag::Main };
            let mut group = Group::new(reader, self.main.last, self.rates.last);
            let mut next = Some(first);
            let mut taken = 0;
            while let Some(request) = next.take() {
                group.take(request);
                taken += 1;
                if taken < GROUP_APPENDS_MAX && group.rows() < GROUP_ROWS_MAX {
                    next = waiting.try_recv().ok();
                }
            }
            let Group { mut batch, facts, last, answers, .. } = group;
            let oldest = self.trim(&mut batch, &facts.1);
            match self.commit(batch, last) {
                Ok(()) => self.tell(facts, last, oldest, answers),
                Err(error) => {
                    // What is on the disk is not known now, and a second fsync would say that all is well: nothing is
                    // promised any more. Readers and callers see that this thread has ended.
                    tracing::error!(dir = %self.dir.display(), %error, "the log cannot be written; it stops here");
                    answers.into_iter().for_each(|answer| answer.fail(|| stopped(&self.dir)));
                    return;
                }
            }
        }
    }

    /// Applies the batch and waits until the disk has it.
    fn commit(
        &self,
        batch: Option<sled::Batch>,
        last: (u64, u64),
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let Some(mut batch) = batch else { return Ok(()) };
        for (tag, position) in [(Tag::Main, last.0), (Tag::Rates, last.1)] {
            batch.insert(&record::mark_key(tag)[..], &record::mark(tag, position)[..]);
        }
        self.db.apply_batch(batch)?;
        files::make_durable(&self.db, &self.file)?;
        self.high_water.set(Tag::Main, last.0)?;
        self.high_water.set(Tag::Rates, last.1)?;
        Ok(())
    }

    /// Moves the ends, then tells readers and callers.
    fn tell(
        &mut self,
        facts: (Vec<super::group::Fresh>, Vec<super::group::Fresh>),
        last: (u64, u64),
        oldest: u64,
        answers: Vec<Answer>,
    ) {
        self.rates.oldest = oldest;
        self.main.tell(facts.0, last.0);
        self.rates.tell(facts.1, last.1);
        answers.into_iter().for_each(Answer::send);
    }

    /// Removes some of the oldest rates whose time is over by the newest ones' clock; answers the oldest left.
    fn trim(&self, batch: &mut Option<sled::Batch>, new: &[super::group::Fresh]) -> u64 {
        let oldest = self.rates.oldest;
        let (Some(batch), Some(newest)) = (batch, new.last()) else { return oldest };
        let horizon = newest.recorded.event.time.minus(RATES_KEPT);
        let reader = Reader { dir: &self.dir, db: &self.db, tag: Tag::Rates };
        // What cannot be read stays: whoever reads that far will say so.
        let Ok(facts) = reader.facts(oldest, self.rates.last, TRIM_MAX) else { return oldest };
        let over = |time: Timestamp| time < horizon;
        let mut left = oldest;
        for fact in facts {
            if !fact.event(&self.dir).is_ok_and(|event| over(event.time)) {
                break;
            }
            record::remove_fact(batch, Tag::Rates, &fact);
            left = fact.position.saturating_add(1);
        }
        left
    }
}

impl End {
    fn tell(&mut self, facts: Vec<super::group::Fresh>, last: u64) {
        if last == self.last {
            return;
        }
        self.last = last;
        self.durable.send_replace(last);
        if facts.is_empty() {
            return;
        }
        // Nobody may be reading.
        let _ = self.live.send(facts.into_iter().map(|fact| fact.recorded).collect());
    }
}
