//! The daily copy: every fact as a line of JSON, soon after it is in the log, in a file a day.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tally_log::copy::CopyWriter;
use tally_ports::{Clock, EventLog, PortError};
use tokio_util::sync::CancellationToken;

/// Facts that are written at once.
const FACTS_AT_ONCE: usize = 500;
/// How often the disk is waited for.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// The pause before a log that failed is read again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What stopped the copy.
enum Fault {
    /// The log, or its end.
    Log(PortError),
    /// The copy's disk. What is in its files is not known then.
    Disk(PortError),
}

/// Keeps the copy in `dir` until told to stop. A disk that does not take it stops the copy and nothing else: the facts
/// are in the log, and are copied once it does.
///
/// # Errors
/// The directory cannot be used at the start, or the log cannot be read.
pub(crate) async fn keep_copy(
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut writer = Some(open(&dir).await?);
    loop {
        let kept = tokio::select! {
            kept = keep_on(&*log, &*clock, &dir, &mut writer) => kept,
            () = stop.cancelled() => {
                return Ok(writer.as_mut().map_or(Ok(()), |writer| tokio::task::block_in_place(|| writer.sync()))?);
            }
        };
        match kept {
            Err(Fault::Log(error)) if error.is_transient() => {
                tracing::warn!(%error, "the copy reads the log again")
            }
            Err(Fault::Log(error)) => {
                return Err(anyhow::Error::from(error).context("the daily copy cannot go on"));
            }
            Err(Fault::Disk(error)) => {
                writer = None;
                let error = anyhow::Error::from(error);
                tracing::error!("facts are not copied, which is tried again: {error:#}");
                metrics::counter!("tally_incidents_total", "kind" => "copy_stopped").increment(1);
            }
            Ok(()) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN_AFTER) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

async fn open(dir: &Path) -> anyhow::Result<CopyWriter> {
    let dir = dir.to_owned();
    Ok(tokio::task::spawn_blocking(move || CopyWriter::open(&dir)).await??)
}

/// Goes on with the copy, which is opened again where its disk failed before.
async fn keep_on(
    log: &dyn EventLog,
    clock: &dyn Clock,
    dir: &Path,
    writer: &mut Option<CopyWriter>,
) -> Result<(), Fault> {
    let writer = match writer {
        Some(writer) => writer,
        None => {
            let failed = |error: anyhow::Error| {
                Fault::Disk(PortError::persistent("the copy cannot be opened again").because(error))
            };
            writer.insert(open(dir).await.map_err(failed)?)
        }
    };
    follow(log, clock, writer).await
}

async fn follow(log: &dyn EventLog, clock: &dyn Clock, writer: &mut CopyWriter) -> Result<(), Fault> {
    let facts = log.read(writer.last()).await.map_err(Fault::Log)?;
    let mut facts = facts.ready_chunks(FACTS_AT_ONCE);
    let mut turns = tokio::time::interval(SYNC_EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            chunk = facts.next() => {
                let Some(chunk) = chunk else { return Ok(()) };
                let chunk = chunk.into_iter().collect::<Result<Vec<_>, _>>().map_err(Fault::Log)?;
                // A write into the page cache; what waits for the disk is below.
                writer.write(&chunk, clock.now()).map_err(Fault::Disk)?;
            }
            _ = turns.tick() => tokio::task::block_in_place(|| writer.sync()).map_err(Fault::Disk)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use tally_log::copy::CopyReader;
    use tally_testkit::{ManualClock, MemoryLog, expired};
    use tally_types::{Span, Timestamp};

    use super::*;

    const NOON: Timestamp = Timestamp::from_secs(1_750_032_000);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_disk_that_fails_stops_the_copy_only_until_it_takes_it_again() {
        let dir = tempfile::tempdir().unwrap();
        let (log, clock, stop) =
            (MemoryLog::new(), Arc::new(ManualClock::at(NOON)), CancellationToken::new());
        log.seed((0..3).map(|n| expired(1, n)).collect());
        let path = dir.path().to_owned();
        let keeping = tokio::spawn(keep_copy(Arc::new(log.clone()), clock.clone(), path, stop.clone()));
        let copied = async |count: usize| {
            for _ in 0..200 {
                let all = CopyReader::open(dir.path()).map(|copy| copy.filter_map(Result::ok).count());
                if all.is_ok_and(|all| all == count) {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            false
        };
        assert!(copied(3).await);
        // The next day's file cannot be made: something else has its name.
        let taken = dir.path().join("facts-00000000000000000004-2025-06-17.jsonl");
        std::fs::create_dir(&taken).unwrap();
        clock.advance(Span::from_secs(86_400));
        log.seed(vec![expired(1, 3)]);
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert!(!keeping.is_finished());
        std::fs::remove_dir(&taken).unwrap();
        log.seed(vec![expired(1, 4)]);
        assert!(copied(5).await, "it goes on, and nothing is missing");
        stop.cancel();
        keeping.await.unwrap().unwrap();
    }
}
