//! What was done to the chains, in a file, so that a sandbox started again has them as they were.
//!
//! The chains are functions of the seed and of what was done to them at which time: the file holds these and no
//! block. Not here: faults, which end with the process.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tally_types::{Timestamp, TxId};

use crate::error::SandboxError;
use crate::sandbox::Pay;

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Entry {
    /// The first line: what the chains began with.
    Begun { seed: u64, at: Timestamp, blocks: u32 },
    /// A payment.
    Paid(Pay),
    /// One block.
    Mined { chain: String, at: Timestamp },
    /// A reorg.
    Reorged { chain: String, depth: u64, drop: Vec<TxId>, at: Timestamp },
    /// A replacement.
    Replaced { chain: String, txid: TxId },
}

/// The file; without one, nothing is kept.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    file: Mutex<Option<File>>,
}

/// Holds off everything else that changes a chain, so that the file has the order in which it happened.
pub(crate) struct Turn<'a>(MutexGuard<'a, Option<File>>);

impl Journal {
    /// Opens a file; answers what it holds, which is nothing for a new one. A last line that was cut off while
    /// it was written is passed over.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<Entry>), SandboxError> {
        let failed = |error| SandboxError::Journal { path: path.to_owned(), error };
        let mut entries = Vec::new();
        if let Ok(file) = File::open(path) {
            for line in BufReader::new(file).lines() {
                match serde_json::from_str(&line.map_err(failed)?) {
                    Ok(entry) => entries.push(entry),
                    Err(_) => break,
                }
            }
        }
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(true).open(path).map_err(failed)?;
        for entry in &entries {
            write(&mut file, entry, path)?;
        }
        Ok((Self { file: Mutex::new(Some(file)) }, entries))
    }

    /// Waits for this one's turn to change a chain.
    pub(crate) fn turn(&self) -> Turn<'_> {
        Turn(self.file.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Turn<'_> {
    /// Writes down what has just been done. A file that can no longer be written is given up, with a word.
    pub(crate) fn done(&mut self, entry: &Entry) {
        if let Some(file) = self.0.as_mut()
            && let Err(error) = write(file, entry, &PathBuf::new())
        {
            tracing::error!(%error, "the sandbox can no longer be kept: a later start will have other chains");
            *self.0 = None;
        }
    }
}

fn write(file: &mut File, entry: &Entry, path: &Path) -> Result<(), SandboxError> {
    let failed = |error| SandboxError::Journal { path: path.to_owned(), error };
    let mut line = serde_json::to_vec(entry).map_err(|error| failed(error.into()))?;
    line.push(b'\n');
    file.write_all(&line).map_err(failed)
}
