//! A plain copy of a log: files of JSON lines that any tool reads, and from which everything can be restored.
//!
//! One line a fact, in log order: `{"position":7,"after":6,"crc32":"89abcdef","event":{…}}`, where `after` is the
//! position of the fact before, so that a lost line or file is noticed, and `crc32` is that of the two numbers and
//! the event as it is written. A file is named by its first position and the day it was begun.
//!
//! Not here: when copies are made, and what is done after a log was restored (the binary's part).

mod reader;
mod writer;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tally_events::{Event, Recorded};
use tally_ports::{AppendError, EventLog, Expectation, PortError};
use tally_types::Position;

pub use reader::{CopyReader, verify};
pub use writer::CopyWriter;

/// Facts in one append while a log is restored.
const APPEND: usize = 400;

/// A line.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    position: u64,
    after: u64,
    #[serde(borrow)]
    crc32: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    event: &'a RawValue,
}

fn checksum(position: u64, after: u64, event: &str) -> String {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(format!("{position}:{after}:").as_bytes());
    hasher.update(event.as_bytes());
    format!("{:08x}", hasher.finalize())
}

/// A fact as its line, without the line's end.
///
/// # Errors
/// Persistent where the fact cannot be written as JSON.
pub fn to_line(fact: &Recorded, after: Position) -> Result<Vec<u8>, PortError> {
    let unwritable = |error: serde_json::Error| {
        PortError::persistent(format!("the fact at position {} cannot be written", fact.position))
            .because(error)
    };
    let json = fact.event.to_json().map_err(unwritable)?;
    let event: &RawValue = serde_json::from_slice(&json).map_err(unwritable)?;
    let (position, after) = (fact.position.get(), after.get());
    let crc32 = checksum(position, after, event.get()).into();
    serde_json::to_vec(&Line { position, after, crc32, event }).map_err(unwritable)
}

/// What a line says: the fact, and where the one before stands.
///
/// # Errors
/// What is wrong with the line, to be put behind its name.
pub fn from_line(line: &[u8]) -> Result<(Recorded, Position), String> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| format!("is no fact ({error})"))?;
    if checksum(line.position, line.after, line.event.get()) != line.crc32 {
        return Err("is not what was written: its sum is wrong".to_owned());
    }
    let event = Event::from_json(line.event.get().as_bytes()).map_err(|error| error.to_string())?;
    Ok((Recorded { position: Position::new(line.position), event }, Position::new(line.after)))
}

/// A file's first position, by its name.
fn first_position(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix("facts-")?.strip_suffix(".jsonl")?.split('-').next()?.parse().ok()
}

/// The files of a copy, in log order.
fn files(dir: &Path) -> Result<Vec<(u64, PathBuf)>, PortError> {
    let failed = |error: std::io::Error| {
        PortError::persistent(format!("the copy in {} cannot be read", dir.display())).because(error)
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if let Some(first) = first_position(&path) {
            found.push((first, path));
        }
    }
    found.sort();
    Ok(found)
}

/// A log that can be filled again, at the positions where its facts stood.
#[async_trait::async_trait]
pub trait Restorable: EventLog {
    /// Makes the next fact stand right after `position`, of a log that ends before.
    ///
    /// # Errors
    /// Those of the log.
    async fn skip_to(&self, position: Position) -> Result<(), PortError>;
}

/// Fills an empty log from a copy; answers the last position.
///
/// # Errors
/// Persistent where the log is not empty, or the copy is damaged or has a gap; else those of the log. What was
/// written until then stays.
pub async fn restore(log: &dyn Restorable, from: CopyReader) -> Result<Position, PortError> {
    let head = log.head().await?;
    if head != Position::START {
        return Err(PortError::persistent(format!(
            "the log has facts through position {head}: a copy is restored into an empty one only"
        )));
    }
    let mut heads = std::collections::HashMap::new();
    let mut batch: Vec<Recorded> = Vec::with_capacity(APPEND);
    let mut last = Position::START;
    for fact in from {
        let fact = fact?;
        let follows = batch.last().map_or(last, |fact| fact.position).next() == fact.position;
        if batch.len() >= APPEND || !follows {
            last = put(log, &mut heads, std::mem::take(&mut batch), last).await?;
        }
        if !follows {
            last = Position::new(fact.position.get().saturating_sub(1));
            log.skip_to(last).await?;
        }
        batch.push(fact);
    }
    put(log, &mut heads, batch, last).await
}

type Heads = std::collections::HashMap<tally_events::Subject, Position>;

/// Appends facts that follow each other; answers where the last one stands.
async fn put(
    log: &dyn Restorable,
    heads: &mut Heads,
    facts: Vec<Recorded>,
    last: Position,
) -> Result<Position, PortError> {
    let wanted: Vec<Position> = facts.iter().map(|fact| fact.position).collect();
    let Some(end) = wanted.last().copied() else { return Ok(last) };
    let mut expectations: Vec<Expectation> = Vec::new();
    for fact in &facts {
        let subject = &fact.event.subject;
        if !expectations.iter().any(|known| known.subject == *subject) {
            let at = heads.get(subject).copied().unwrap_or(Position::START);
            expectations.push(Expectation::new(subject.clone(), at));
        }
    }
    for fact in &facts {
        heads.insert(fact.event.subject.clone(), fact.position);
    }
    let batch = facts.into_iter().map(|fact| fact.event).collect();
    let positions = log.append(expectations, batch).await.map_err(|error| match error {
        AppendError::Port(error) => error,
        other => PortError::persistent("the copy does not fit this log").because(other),
    })?;
    if positions != wanted {
        return Err(PortError::persistent(format!(
            "the fact of position {end} came to stand elsewhere: something else writes to this log"
        )));
    }
    Ok(end)
}

#[cfg(test)]
mod tests;
