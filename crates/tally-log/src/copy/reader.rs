//! Reads a copy, and notices what is missing or damaged.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use tally_events::Recorded;
use tally_ports::PortError;
use tally_types::Position;

use super::{files, from_line};

/// The facts of a copy in log order. After the first error it ends.
#[derive(Debug)]
pub struct CopyReader {
    files: std::vec::IntoIter<(u64, PathBuf)>,
    current: Option<(PathBuf, BufReader<File>, u64)>,
    last: Position,
    ended: bool,
}

impl CopyReader {
    /// The copy in `dir`.
    ///
    /// # Errors
    /// Persistent: there is none.
    pub fn open(dir: &Path) -> Result<Self, PortError> {
        let files = files(dir)?;
        if files.is_empty() {
            return Err(PortError::persistent(format!(
                "there are no files facts-….jsonl in {}",
                dir.display()
            )));
        }
        Ok(Self { files: files.into_iter(), current: None, last: Position::START, ended: false })
    }

    fn next_fact(&mut self) -> Result<Option<Recorded>, PortError> {
        loop {
            let Some((path, lines, number)) = &mut self.current else {
                let Some((_, path)) = self.files.next() else { return Ok(None) };
                let file = File::open(&path).map_err(|error| {
                    PortError::persistent(format!("{} cannot be read", path.display())).because(error)
                })?;
                self.current = Some((path, BufReader::with_capacity(1024 * 1024, file), 0));
                continue;
            };
            let mut line = Vec::new();
            let read = lines.read_until(b'\n', &mut line).map_err(|error| {
                PortError::persistent(format!("{} cannot be read", path.display())).because(error)
            })?;
            if read == 0 {
                self.current = None;
                continue;
            }
            *number += 1;
            let fault =
                |fault: String| PortError::persistent(format!("line {number} of {} {fault}", path.display()));
            if line.pop() != Some(b'\n') {
                // A crash cut it off while it was written; whatever follows would say so.
                self.current = None;
                continue;
            }
            let (fact, after) = from_line(&line).map_err(fault)?;
            if after != self.last {
                return Err(fault(format!(
                    "follows position {after}, but {} came before: facts are missing",
                    self.last
                )));
            }
            self.last = fact.position;
            return Ok(Some(fact));
        }
    }
}

impl Iterator for CopyReader {
    type Item = Result<Recorded, PortError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_fact().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// Reads a whole copy and answers how many facts it has and where it ends.
///
/// # Errors
/// What is missing or damaged.
pub fn verify(dir: &Path) -> Result<(u64, Position), PortError> {
    let (mut count, mut last) = (0_u64, Position::START);
    for fact in CopyReader::open(dir)? {
        last = fact?.position;
        count = count.saturating_add(1);
    }
    Ok((count, last))
}
