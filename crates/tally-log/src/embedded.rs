//! The log in this process, on sled: for one machine, with nothing to install.
//!
//! One tree; one thread writes. It takes whatever waits (no timer), checks expectations against the heads and
//! against its own group, applies one batch, makes it durable, and only then tells anyone: callers, readers, head.
//!
//! sled's write lock is one static per process: while a batch of any sled runs here, every other one waits, this log
//! included. So the other stores of a process that serves should commit 500 rows at most, and 100 while catching up.

mod files;
mod group;
mod lease;
mod log;
mod reader;
mod record;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use tally_events::{Epoch, Recorded};
use tally_ports::{Clock, PortError};
use tokio::sync::{broadcast, mpsc, watch};

pub use lease::EmbeddedLease;
pub use log::EmbeddedLog;

use crate::LogName;
use files::{Claim, HighWater};
use record::{Reader, Tag};

/// Appends that may wait for the writer; more wait for a place.
const WAITING_MAX: usize = 4_096;
/// Groups of facts that a slow reader may be behind before it reads from the disk again.
const GROUPS_BEHIND_MAX: usize = 1_024;

/// The facts of one commit on one log, ascending, for live readers.
type LiveGroup = Arc<[Recorded]>;

/// The logs and leases of an installation, in one directory. Clones are handles on the same; when the last handle,
/// log, lease and reader is dropped, the directory is free again.
#[derive(Debug, Clone)]
pub struct Embedded(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    db: sled::Db,
    /// None once this is being dropped.
    requests: Option<mpsc::Sender<writer::Request>>,
    writer: Option<JoinHandle<()>>,
    main: Tail,
    rates: Tail,
    held: tokio::sync::Mutex<lease::Held>,
    /// Dropped after the database.
    _claim: Claim,
}

/// The end of one log, as readers may see it.
#[derive(Debug)]
struct Tail {
    /// The position of the last durable fact.
    durable: watch::Receiver<u64>,
    /// What becomes durable from now on. The writer holds the only strong one, so that readers notice its end.
    live: broadcast::WeakSender<LiveGroup>,
}

impl Embedded {
    /// Opens the logs in `dir`, which is made if need be and used by nothing else. sled keeps up to `cache_bytes` in
    /// memory (64 to 256 MiB are reasonable).
    ///
    /// # Errors
    /// Persistent: another process has it open, the directory cannot be used, or the log is damaged. The message
    /// says what to do.
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<Self, PortError> {
        let claim = files::claim(dir)?;
        let (db, file) = files::open(dir, cache_bytes)?;
        let high_water = HighWater::open(dir)?;
        let (main, main_end) = tail(dir, &db, Tag::Main, &high_water)?;
        let (rates, rates_end) = tail(dir, &db, Tag::Rates, &high_water)?;
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        let (main_dir, main_db) = (dir.to_owned(), db.clone());
        let writer =
            writer::Writer { dir: main_dir, db: main_db, file, high_water, main: main_end, rates: rates_end };
        let writer = std::thread::Builder::new()
            .name("tally-log".to_owned())
            .spawn(move || writer.run(waiting))
            .map_err(|error| PortError::persistent("the log's thread cannot be started").because(error))?;
        crate::note_durability(true);
        Ok(Self(Arc::new(Inner {
            dir: dir.to_owned(),
            db,
            requests: Some(requests),
            writer: Some(writer),
            main,
            rates,
            held: tokio::sync::Mutex::default(),
            _claim: claim,
        })))
    }

    /// One of the logs.
    pub fn log(&self, name: LogName) -> EmbeddedLog {
        EmbeddedLog::new(self.0.clone(), name)
    }

    /// Every lease has epochs above `floor` from now on: for a log that was restored, whose facts were written under
    /// epochs that no lease here knows of.
    ///
    /// # Errors
    /// Those of the log.
    pub async fn raise_epochs(&self, floor: Epoch) -> Result<(), PortError> {
        let (answer, raised) = tokio::sync::oneshot::channel();
        self.0.request(writer::Request::EpochsAbove(floor.get(), answer)).await?;
        raised.await.map_err(|_| stopped(&self.0.dir))?.map(drop)
    }

    /// Leases among the tasks of this process, by `clock`; they end with it, and their epochs grow for ever.
    pub fn lease(&self, clock: Arc<dyn Clock>) -> EmbeddedLease {
        EmbeddedLease::new(self.0.clone(), clock)
    }
}

/// Checks the end of one log and opens it, for readers and for the writer.
fn tail(
    dir: &Path,
    db: &sled::Db,
    tag: Tag,
    high_water: &HighWater,
) -> Result<(Tail, writer::End), PortError> {
    let bounds = record::check_end(Reader { dir, db, tag }, high_water.get(tag))?;
    let (durable, seen) = watch::channel(bounds.last);
    let live = broadcast::Sender::new(GROUPS_BEHIND_MAX);
    let tail = Tail { durable: seen, live: live.downgrade() };
    Ok((tail, writer::End { last: bounds.last, oldest: bounds.oldest, durable, live }))
}

impl Inner {
    fn tail(&self, name: LogName) -> &Tail {
        match name {
            LogName::Main => &self.main,
            LogName::Rates => &self.rates,
        }
    }

    /// Hands a request to the writer; waits for a place where too many wait.
    async fn request(&self, request: writer::Request) -> Result<(), PortError> {
        let stopped = || stopped(&self.dir);
        let requests = self.requests.as_ref().ok_or_else(stopped)?;
        requests.send(request).await.map_err(|_| stopped())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The writer ends when nobody can ask it any more. It holds the database, so the directory is not free before.
        drop(self.requests.take());
        if let Some(writer) = self.writer.take() {
            // A panic there was met by callers already.
            let _ = writer.join();
        }
    }
}

/// The writer is gone: a write failed, and nothing more may be promised.
fn stopped(dir: &Path) -> PortError {
    PortError::persistent(format!(
        "the log in {} has stopped after a failed write: see to the disk, then start this process again",
        dir.display()
    ))
}

/// A read did not end: sled panics on some damage, else the runtime is shutting down.
fn cut_off(dir: &Path, error: tokio::task::JoinError) -> PortError {
    if error.is_panic() {
        damaged(dir, "its database cannot be read").because(error)
    } else {
        PortError::transient("reading the log was cut off").because(error)
    }
}

/// What lies in the log is not what was written.
fn damaged(dir: &Path, what: &str) -> PortError {
    PortError::persistent(format!(
        "the log in {dir} is damaged: {what}. Stop everything, keep a copy of that directory, and restore the last \
         backup (`tally restore`); watchers find again on the chains what came after it",
        dir = dir.display()
    ))
}

#[cfg(test)]
mod tests;
