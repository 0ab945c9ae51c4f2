//! What sled 0.34 leaves to its user: the process's lock, the remains of a crash, and fsync.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use tally_ports::PortError;

/// The file whose lock says that a process has the store.
const LOCK: &str = "tally.lock";

/// sled's file, under a lock of sled's own.
const DATA: &str = "db";
/// So often, and so long after each other, that lock is asked for.
const LOCK_PAUSES: usize = 1_000;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A directory that this process alone has open. Dropped last, it frees the directory.
#[derive(Debug)]
pub(crate) struct Claim(#[expect(dead_code, reason = "held for its lock")] File);

/// Takes the directory for this process.
pub(crate) fn claim(dir: &Path) -> Result<Claim, PortError> {
    let failed = |error: io::Error| unusable(dir, error);
    fs::create_dir_all(dir).map_err(failed)?;
    let path = dir.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Claim(file)),
        Err(TryLockError::WouldBlock) => Err(in_use(dir)),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn in_use(dir: &Path) -> PortError {
    let dir = dir.display();
    PortError::persistent(format!("the store in {dir} is in use by another process: stop that one first"))
}

/// Waits until sled's own lock is free, since sled does not.
///
/// Whoever had the directory before has given it up, but sled's threads write what is left a little after its last
/// handle is gone, and hold that lock until then.
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

/// A file that says that the store beside it is damaged.
const DAMAGED: &str = "tally.damaged";

/// Notes that the store is damaged, as well as that can be done.
pub(crate) fn mark(dir: &Path) {
    // Without the note the next start meets the same damage, and says so again.
    let _ = File::create(dir.join(DAMAGED));
}

/// Whether damage was noted.
pub(crate) fn is_marked(dir: &Path) -> bool {
    dir.join(DAMAGED).exists()
}

/// Whether what kept a store from being opened lies in its files, and not in who may use them.
pub(crate) fn is_damage(error: &PortError) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        match error.downcast_ref::<sled::Error>() {
            Some(sled::Error::Io(io)) => return is_of_the_contents(io.kind()),
            Some(_) => return true,
            None if error.is::<Stopped>() => return true,
            None => cause = error.source(),
        }
    }
    false
}

/// Removes everything in a store's directory that no process has open.
pub(crate) fn empty(dir: &Path) -> Result<(), PortError> {
    let _claim = claim(dir)?;
    let remove = || -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == LOCK || name == DAMAGED {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        // The note goes last: what was removed by half is not taken for whole.
        match fs::remove_file(dir.join(DAMAGED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => File::open(dir)?.sync_all(),
        }
    };
    mark(dir);
    remove().map_err(|error| {
        let message =
            format!("the damaged store in {} cannot be removed: remove that directory", dir.display());
        PortError::persistent(message).because(error)
    })
}

/// sled panicked on what it read.
#[derive(Debug, thiserror::Error)]
#[error("sled stopped on damage")]
struct Stopped;

/// The disk is full, or someone else's, or does not answer: nothing is wrong with what lies there.
fn unusable(dir: &Path, error: io::Error) -> PortError {
    PortError::persistent(format!("the store's directory {} cannot be used", dir.display())).because(error)
}

/// What sled says of bytes that are not what it wrote.
fn is_of_the_contents(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// Opens sled in a claimed directory.
///
/// A crash while sled writes a snapshot leaves `snap.*.generating`, on which it would fail to open; a snapshot is
/// a cache, so that one goes. sled panics on some damage: that is an error here.
pub(crate) fn open(dir: &Path, cache_bytes: u64) -> Result<(sled::Db, File), PortError> {
    let failed = |cause: Box<dyn std::error::Error + Send + Sync>| {
        PortError::persistent(format!(
            "the store in {dir} cannot be opened: remove that directory, and it is made again from the log",
            dir = dir.display()
        ))
        .because(cause)
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
        Err(_) => return Err(failed(Stopped.into())),
    };
    let file = File::open(dir.join(DATA)).map_err(|error| unusable(dir, error))?;
    // The new names in the directory, too, must outlive a loss of power.
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| unusable(dir, error))?;
    Ok((db, file))
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
pub(crate) fn make_durable(
    db: &sled::Db,
    file: &File,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    db.flush()?;
    file.sync_data()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sled_still_writes_of_a_store_that_was_closed_is_waited_for() {
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
