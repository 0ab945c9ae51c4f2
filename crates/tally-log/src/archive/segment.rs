//! A segment as bytes, and bytes as a segment.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tally_events::{OrdersArchived, Recorded};
use tally_ports::PortError;
use tally_types::Position;

use crate::copy;

/// The layout of a segment.
const FORMAT: u32 = 1;

/// Bytes of a first line: far more than one that names every order may have.
const HEAD_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct Head<'a> {
    archive: u32,
    #[serde(borrow)]
    crc32: Cow<'a, str>,
    #[serde(borrow)]
    index: &'a RawValue,
}

fn sum(text: &str) -> String {
    format!("{:08x}", crc32fast::hash(text.as_bytes()))
}

pub(super) fn unreadable(path: &Path, error: std::io::Error) -> PortError {
    PortError::persistent(format!("the archive cannot be read: {}", path.display())).because(error)
}

/// What lies there is not what was written.
fn damaged(path: &Path, what: &str) -> PortError {
    PortError::persistent(format!(
        "the archive is damaged: {} {what}. Put that file back from a copy of the archive's folder, or restore the \
         last backup (`tally restore`)",
        path.display()
    ))
}

/// A segment's bytes.
pub(super) fn text(index: &OrdersArchived, facts: &[Recorded]) -> Result<Vec<u8>, PortError> {
    let unwritable = |error: serde_json::Error| {
        PortError::persistent(format!("segment {} of the archive cannot be written", index.segment))
            .because(error)
    };
    let json = serde_json::value::to_raw_value(index).map_err(unwritable)?;
    let head = Head { archive: FORMAT, crc32: sum(json.get()).into(), index: &json };
    let mut text = serde_json::to_vec(&head).map_err(unwritable)?;
    text.push(b'\n');
    let mut after = Position::START;
    for fact in facts {
        text.extend(copy::to_line(fact, after)?);
        text.push(b'\n');
        after = fact.position;
    }
    Ok(text)
}

fn open(path: &Path) -> Result<BufReader<File>, PortError> {
    File::open(path).map(BufReader::new).map_err(|error| unreadable(path, error))
}

fn first_line(path: &Path, number: u64, lines: &mut BufReader<File>) -> Result<OrdersArchived, PortError> {
    let mut line = Vec::new();
    lines.take(HEAD_BYTES_MAX).read_until(b'\n', &mut line).map_err(|error| unreadable(path, error))?;
    let wrong = |error: serde_json::Error| damaged(path, &format!("does not say what is in it ({error})"));
    let head: Head<'_> = serde_json::from_slice(&line).map_err(wrong)?;
    if head.archive != FORMAT {
        return Err(PortError::persistent(format!(
            "{} has format {}, which this release does not know: upgrade this process",
            path.display(),
            head.archive
        )));
    }
    if sum(head.index.get()) != head.crc32 {
        return Err(damaged(path, "says of itself what was not written: the sum of its first line is wrong"));
    }
    let index: OrdersArchived = serde_json::from_str(head.index.get()).map_err(wrong)?;
    if index.segment != number {
        return Err(damaged(path, &format!("is segment {}, under another's name", index.segment)));
    }
    Ok(index)
}

/// What a segment says of itself.
pub(super) fn index(path: &Path, number: u64) -> Result<OrdersArchived, PortError> {
    first_line(path, number, &mut open(path)?)
}

/// A whole segment.
pub(super) fn load(path: &Path, number: u64) -> Result<(OrdersArchived, Vec<Recorded>), PortError> {
    let mut lines = open(path)?;
    let index = first_line(path, number, &mut lines)?;
    let mut facts: Vec<Recorded> = Vec::new();
    let (mut last, mut row) = (Position::START, 1_u64);
    for line in lines.split(b'\n') {
        row = row.saturating_add(1);
        let line = line.map_err(|error| unreadable(path, error))?;
        let (fact, after) =
            copy::from_line(&line).map_err(|fault| damaged(path, &format!("in line {row} {fault}")))?;
        if after != last || fact.position <= last {
            return Err(damaged(path, &format!("in line {row} does not follow position {last}")));
        }
        last = fact.position;
        facts.push(fact);
    }
    if facts.len() as u64 != index.facts || OrdersArchived::digest_of(&facts) != index.digest {
        let what = format!("holds {} facts through {last}, not the {} it says", facts.len(), index.facts);
        return Err(damaged(path, &what));
    }
    Ok((index, facts))
}
