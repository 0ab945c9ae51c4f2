//! What sled 0.34 leaves to its user: the process's lock, the remains of a crash, and fsync.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use tally_ports::PortError;

use super::damaged;
use super::record::{Mark, Tag};

/// sled's file, under a lock of sled's own.
const DATA: &str = "db";
/// So often, and so long after each other, that lock is asked for.
const LOCK_PAUSES: usize = 1_000;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A directory that this process alone has open. Dropped last, it frees the directory.
#[derive(Debug)]
pub(super) struct Claim(#[expect(dead_code, reason = "held for its lock")] File);

/// Takes the directory for this process.
pub(super) fn claim(dir: &Path) -> Result<Claim, PortError> {
    let failed = |error: io::Error| unusable(dir, error);
    fs::create_dir_all(dir).map_err(failed)?;
    let path = dir.join("tally.lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Claim(file)),
        Err(TryLockError::WouldBlock) => Err(in_use(dir)),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn in_use(dir: &Path) -> PortError {
    PortError::persistent(format!(
        "the log in {} is in use by another process: stop that one first, or ask it over its admin listener",
        dir.display()
    ))
}

/// Waits until sled's own lock is free, since sled does not.
///
/// Whoever had the directory before has given it up, but sled's threads write what is left a little after its last
/// handle is gone, and hold that lock until then. That is no damage.
fn wait_for_sled(dir: &Path, pauses: usize) -> Result<(), PortError> {
    let Ok(file) = File::open(dir.join(DATA)) else { return Ok(()) };
    for pause in 0..=pauses {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if pause < pauses => sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => break,
            // What else is wrong with the file, sled says when it opens it.
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(()),
        }
    }
    Err(in_use(dir))
}

/// The disk is full, or someone else's, or does not answer: nothing is wrong with what lies there.
fn unusable(dir: &Path, error: io::Error) -> PortError {
    PortError::persistent(format!("the log's directory {} cannot be used", dir.display())).because(error)
}

/// Opens sled in a claimed directory.
///
/// A crash while sled writes a snapshot leaves `snap.*.generating`, on which it would fail to open; a snapshot is
/// a cache, so that one goes. sled panics on some damage: that is an error here.
pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<(sled::Db, File), PortError> {
    let failed = |cause: Box<dyn std::error::Error + Send + Sync>| {
        damaged(dir, &format!("its database cannot be opened ({cause})")).because(cause)
    };
    wait_for_sled(dir, LOCK_PAUSES)?;
    remove_unfinished_snapshots(dir).map_err(|error| unusable(dir, error))?;
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(cache_bytes)
        .mode(sled::Mode::HighThroughput)
        .flush_every_ms(Some(500));
    let db = match catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(Ok(db)) => db,
        Ok(Err(sled::Error::Io(error))) if !is_of_the_contents(error.kind()) => {
            return Err(unusable(dir, error));
        }
        Ok(Err(error)) => return Err(failed(error.into())),
        Err(_) => return Err(failed("sled stopped on damage".into())),
    };
    let file = File::open(dir.join(DATA)).map_err(|error| unusable(dir, error))?;
    // The new names in the directory, too, must outlive a loss of power.
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| unusable(dir, error))?;
    Ok((db, file))
}

/// What sled says of bytes that are not what it wrote.
fn is_of_the_contents(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

fn remove_unfinished_snapshots(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes what was written durable: sled's own flush is `sync_file_range` on Linux, which is no fsync.
pub(super) fn make_durable(
    db: &sled::Db,
    file: &File,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    db.flush()?;
    file.sync_data()?;
    Ok(())
}

/// Beside the database, the last position of each log that was ever answered for. Written without waiting for the
/// disk, so it may be behind; never ahead. Where it is ahead of the database, facts were lost that sled did not miss.
#[derive(Debug)]
pub(super) struct HighWater(File);

impl HighWater {
    /// Opens it.
    pub(super) fn open(dir: &Path) -> Result<Self, PortError> {
        let path = dir.join("tally.mark");
        let opened = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        opened.map(Self).map_err(|error| {
            PortError::persistent(format!("{} cannot be used", path.display())).because(error)
        })
    }

    /// The position noted for a log; 0 where none is.
    pub(super) fn get(&self, tag: Tag) -> u64 {
        let mut bytes = Mark::default();
        match self.0.read_exact_at(&mut bytes, Self::offset(tag)) {
            Ok(()) => super::record::read_mark(tag, &bytes).unwrap_or(0),
            Err(_) => 0,
        }
    }

    /// Notes a position.
    pub(super) fn set(&self, tag: Tag, position: u64) -> io::Result<()> {
        self.0.write_all_at(&super::record::mark(tag, position), Self::offset(tag))
    }

    fn offset(tag: Tag) -> u64 {
        match tag {
            Tag::Main => 0,
            Tag::Rates => 64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sled_still_writes_of_a_log_that_was_closed_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path(), 1 << 20).unwrap());
        wait_for_sled(dir.path(), LOCK_PAUSES).unwrap();
        let held = File::open(dir.path().join(DATA)).unwrap();
        held.lock().unwrap();
        let error = wait_for_sled(dir.path(), 2).unwrap_err().to_string();
        assert!(error.contains("in use"), "{error}");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                sleep(Duration::from_millis(200));
                drop(held);
            });
            open(dir.path(), 1 << 20).unwrap();
        });
    }
}
