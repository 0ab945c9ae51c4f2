//! Writes a copy, day by day.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tally_events::Recorded;
use tally_ports::PortError;
use tally_types::{Position, Timestamp};

use super::{files, from_line, to_line};

/// A copy that is being written, by one writer.
#[derive(Debug)]
pub struct CopyWriter {
    dir: PathBuf,
    file: Option<File>,
    day: String,
    last: Position,
    unsynced: bool,
    _claim: File,
}

impl CopyWriter {
    /// Opens the copy in `dir`, which is made if need be, and goes on after its last whole line: what a crash or a loss
    /// of power left of others is removed, and written again.
    ///
    /// # Errors
    /// Persistent: the directory cannot be used, or another process writes there.
    pub fn open(dir: &Path) -> Result<Self, PortError> {
        let failed = |error: io::Error| Self::failed(dir, error);
        fs::create_dir_all(dir).map_err(failed)?;
        let claim = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join("tally.lock"));
        let claim = claim.map_err(failed)?;
        match claim.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("the copy in {} is written by another process", dir.display());
                return Err(PortError::persistent(message));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut writer = Self {
            dir: dir.to_owned(),
            file: None,
            day: String::new(),
            last: Position::START,
            unsynced: false,
            _claim: claim,
        };
        writer.find_end()?;
        Ok(writer)
    }

    fn failed(dir: &Path, error: io::Error) -> PortError {
        PortError::persistent(format!("the copy in {} cannot be written", dir.display())).because(error)
    }

    /// Opens the newest file with a whole line in it, at its end.
    fn find_end(&mut self) -> Result<(), PortError> {
        for (first, path) in files(&self.dir)?.into_iter().rev() {
            let mut file = OpenOptions::new()
                .read(true)
                .append(true)
                .open(&path)
                .map_err(|e| Self::failed(&self.dir, e))?;
            let (end, last) = last_line(&mut file).map_err(|error| Self::failed(&self.dir, error))?;
            file.set_len(end).map_err(|error| Self::failed(&self.dir, error))?;
            let Some(line) = last else {
                // Begun, and cut off in its first line: the fact is written anew, into a file of its own day.
                drop(file);
                fs::remove_file(&path).map_err(|error| Self::failed(&self.dir, error))?;
                continue;
            };
            let last = match from_line(&line) {
                Ok((fact, _)) => fact.position,
                Err(fault) => {
                    // A loss of power may leave a file's length and not all that was in it. The log has it.
                    let (end, last) = whole_lines(&path).map_err(|error| Self::failed(&self.dir, error))?;
                    let length = file.metadata().map_err(|error| Self::failed(&self.dir, error))?.len();
                    let lost = length.saturating_sub(end);
                    tracing::warn!(
                        file = %path.display(), bytes = lost,
                        "the last line {fault}: what is not whole is cut off, and written again from the log"
                    );
                    file.set_len(end).map_err(|error| Self::failed(&self.dir, error))?;
                    let Some(last) = last else {
                        drop(file);
                        fs::remove_file(&path).map_err(|error| Self::failed(&self.dir, error))?;
                        continue;
                    };
                    last
                }
            };
            self.last = last;
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            self.day = stem.strip_prefix(&format!("facts-{first:020}-")).unwrap_or_default().to_owned();
            self.file = Some(file);
            return Ok(());
        }
        Ok(())
    }

    /// The position of the last fact in it.
    pub fn last(&self) -> Position {
        self.last
    }

    /// Adds facts in log order, those that are there already left out; `now` says which day it is.
    ///
    /// # Errors
    /// Persistent where the disk does not take them.
    pub fn write(&mut self, facts: &[Recorded], now: Timestamp) -> Result<(), PortError> {
        let date = now.to_utc().date();
        let day = format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day());
        let mut lines = Vec::with_capacity(facts.len().saturating_mul(1_024));
        for fact in facts {
            if fact.position <= self.last {
                continue;
            }
            if self.file.is_none() || day != self.day {
                self.flush(&mut lines)?;
                self.begin(fact.position, &day)?;
            }
            lines.extend(to_line(fact, self.last)?);
            lines.push(b'\n');
            self.last = fact.position;
        }
        self.flush(&mut lines)
    }

    fn flush(&mut self, lines: &mut Vec<u8>) -> Result<(), PortError> {
        if let Some(file) = &mut self.file
            && !lines.is_empty()
        {
            file.write_all(lines).map_err(|error| Self::failed(&self.dir, error))?;
            self.unsynced = true;
            lines.clear();
        }
        Ok(())
    }

    /// Begins a file.
    fn begin(&mut self, first: Position, day: &str) -> Result<(), PortError> {
        self.sync()?;
        let path = self.dir.join(format!("facts-{:020}-{day}.jsonl", first.get()));
        let file = OpenOptions::new().create_new(true).append(true).open(path);
        self.file = Some(file.map_err(|error| Self::failed(&self.dir, error))?);
        self.day = day.to_owned();
        let synced = File::open(&self.dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| Self::failed(&self.dir, error))
    }

    /// Waits until the disk has everything that was written.
    ///
    /// # Errors
    /// Persistent where it does not.
    pub fn sync(&mut self) -> Result<(), PortError> {
        if let Some(file) = self.file.as_ref().filter(|_| self.unsynced) {
            file.sync_data().map_err(|error| Self::failed(&self.dir, error))?;
            self.unsynced = false;
        }
        Ok(())
    }
}

/// Where the lines end that are what was written, each behind the one before, and the position of the last of them.
fn whole_lines(path: &Path) -> io::Result<(u64, Option<Position>)> {
    let mut lines = io::BufReader::new(File::open(path)?);
    let (mut end, mut last, mut line) = (0_u64, None, Vec::new());
    loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Ok((end, last));
        }
        match from_line(&line) {
            Ok((fact, after)) if last.is_none_or(|last| last == after) => last = Some(fact.position),
            _ => return Ok((end, last)),
        }
        end = end.saturating_add(read as u64);
    }
}

/// Where a file's last whole line ends, and that line.
fn last_line(file: &mut File) -> io::Result<(u64, Option<Vec<u8>>)> {
    const PIECE: u64 = 64 * 1024;
    let mut from = file.metadata()?.len();
    let mut tail: Vec<u8> = Vec::new();
    loop {
        let piece = from.min(PIECE);
        from -= piece;
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = vec![0; usize::try_from(piece).unwrap_or(0)];
        file.read_exact(&mut bytes)?;
        bytes.append(&mut tail);
        tail = bytes;
        let ends: Vec<usize> =
            tail.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
        let begin = match ends[..] {
            [.., before, _] => Some(before + 1),
            _ if from == 0 => Some(0),
            _ => None,
        };
        if let Some(begin) = begin {
            return Ok(match ends.last() {
                Some(end) => (from + *end as u64 + 1, tail.get(begin..*end).map(<[u8]>::to_vec)),
                None => (0, None),
            });
        }
    }
}
