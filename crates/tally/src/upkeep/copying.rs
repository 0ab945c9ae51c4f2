//! The daily copy: every fact as a line of JSON, soon after it is in the log, in a file a day.

use std::path::PathBuf;
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

/// Keeps the copy in `dir` until told to stop.
pub(crate) async fn keep_copy(
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut writer = tokio::task::spawn_blocking(move || CopyWriter::open(&dir)).await??;
    loop {
        let kept = tokio::select! {
            kept = follow(&*log, &*clock, &mut writer) => kept,
            () = stop.cancelled() => {
                tokio::task::block_in_place(|| writer.sync())?;
                return Ok(());
            }
        };
        match kept {
            Err(error) if error.is_transient() => tracing::warn!(%error, "the copy reads the log again"),
            Err(error) => return Err(anyhow::Error::from(error).context("the daily copy cannot go on")),
            Ok(()) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN_AFTER) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

async fn follow(log: &dyn EventLog, clock: &dyn Clock, writer: &mut CopyWriter) -> Result<(), PortError> {
    let mut facts = log.read(writer.last()).await?.ready_chunks(FACTS_AT_ONCE);
    let mut turns = tokio::time::interval(SYNC_EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            chunk = facts.next() => {
                let Some(chunk) = chunk else { return Ok(()) };
                let chunk = chunk.into_iter().collect::<Result<Vec<_>, _>>()?;
                // A write into the page cache; what waits for the disk is below.
                writer.write(&chunk, clock.now())?;
            }
            _ = turns.tick() => tokio::task::block_in_place(|| writer.sync())?,
        }
    }
}
