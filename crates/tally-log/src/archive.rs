//! The archive of closed orders: files of JSON lines that any tool reads, and a log that reads on through them.
//!
//! A segment is a file. Its first line says what is in it, with the final state of each order; the others are facts
//! in log order, a line each as in a [copy](crate::copy). Every line has its own sum, and the digest in the first one
//! is also in the log's fact about the segment. A segment that stands under its name is never written again.
//!
//! Not here: which orders go there, and when (`tally-projector`).

mod reader;
mod segment;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tally_events::{OrdersArchived, Recorded};
use tally_ports::{Archive, PortError};

pub use reader::ArchivedLog;

/// The file that says through which segment the log was purged.
const PURGED: &str = "purged";

/// An archive in a folder. Clones are handles on the same.
#[derive(Debug, Clone)]
pub struct FileArchive {
    dir: Arc<PathBuf>,
}

/// What a whole archive holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Segments.
    pub segments: u64,
    /// Orders in them.
    pub orders: u64,
    /// Facts in them.
    pub facts: u64,
}

impl FileArchive {
    /// The archive in `dir`, which is made with the first segment.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: Arc::new(dir.into()) }
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("segment-{number:08}.jsonl"))
    }

    /// Whether there is a segment of this number.
    fn has(&self, number: u64) -> Result<bool, PortError> {
        let path = self.path(number);
        path.try_exists().map_err(|error| segment::unreadable(&path, error))
    }

    /// What a segment says of itself; its facts are not read. `None` where there is none of that number.
    ///
    /// # Errors
    /// Persistent where it is damaged.
    pub fn index(&self, number: u64) -> Result<Option<OrdersArchived>, PortError> {
        if !self.has(number)? {
            return Ok(None);
        }
        segment::index(&self.path(number), number).map(Some)
    }

    /// A segment, whole. `None` where there is none of that number.
    ///
    /// # Errors
    /// Persistent where it is damaged.
    pub fn load(&self, number: u64) -> Result<Option<(OrdersArchived, Vec<Recorded>)>, PortError> {
        if !self.has(number)? {
            return Ok(None);
        }
        segment::load(&self.path(number), number).map(Some)
    }

    /// Reads everything, and answers how much that is.
    ///
    /// # Errors
    /// Persistent where anything is damaged or missing.
    pub fn verify(&self) -> Result<Inventory, PortError> {
        let mut found = Inventory::default();
        for number in 1.. {
            let Some((index, _)) = self.load(number)? else { break };
            found.segments = number;
            found.orders = found.orders.saturating_add(index.orders.len() as u64);
            found.facts = found.facts.saturating_add(index.facts);
        }
        Ok(found)
    }

    /// Stores a segment; where one of its number is there already, that one stays and is answered.
    ///
    /// # Errors
    /// Persistent where the disk does not take it.
    pub fn write(&self, index: OrdersArchived, facts: &[Recorded]) -> Result<OrdersArchived, PortError> {
        let text = segment::text(&index, facts)?;
        let path = self.path(index.segment);
        let failed = |error: io::Error| unwritable(&path, error);
        fs::create_dir_all(&*self.dir).map_err(failed)?;
        // Another process may be at the same: each has a file of its own until it is whole and on the disk.
        let draft = self.dir.join(format!(".segment-{:08}-{}", index.segment, std::process::id()));
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).open(&draft).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        // A link, not a rename: it fails where that name is taken.
        let linked = fs::hard_link(&draft, &path);
        fs::remove_file(&draft).map_err(failed)?;
        let taken = match linked {
            Ok(()) => false,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => true,
            Err(error) => return Err(failed(error)),
        };
        self.sync_names()?;
        if taken { segment::load(&path, index.segment).map(|(there, _)| there) } else { Ok(index) }
    }

    fn sync_names(&self) -> Result<(), PortError> {
        File::open(&*self.dir).and_then(|dir| dir.sync_all()).map_err(|error| unwritable(&self.dir, error))
    }

    fn purged_now(&self) -> Result<u64, PortError> {
        let path = self.dir.join(PURGED);
        match fs::read_to_string(&path) {
            // What cannot be read is purged again: that changes nothing.
            Ok(text) => Ok(text.trim().parse().unwrap_or(0)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(segment::unreadable(&path, error)),
        }
    }

    fn note(&self, number: u64) -> Result<(), PortError> {
        let path = self.dir.join(PURGED);
        let draft = self.dir.join(format!(".purged-{}", std::process::id()));
        let write = || {
            let mut file = File::create(&draft)?;
            file.write_all(number.to_string().as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &path)
        };
        write().map_err(|error| unwritable(&path, error))?;
        self.sync_names()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, PortError> + Send + 'static,
    ) -> Result<T, PortError> {
        let archive = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&archive)).await;
        done.map_err(|error| PortError::transient("work on the archive was cut off").because(error))?
    }
}

#[async_trait]
impl Archive for FileArchive {
    async fn store(&self, index: OrdersArchived, facts: Vec<Recorded>) -> Result<OrdersArchived, PortError> {
        self.blocking(move |archive| archive.write(index, &facts)).await
    }

    async fn segment(&self, number: u64) -> Result<Option<OrdersArchived>, PortError> {
        self.blocking(move |archive| Ok(archive.load(number)?.map(|(index, _)| index))).await
    }

    async fn purged(&self) -> Result<u64, PortError> {
        self.blocking(Self::purged_now).await
    }

    async fn note_purged(&self, number: u64) -> Result<(), PortError> {
        self.blocking(move |archive| archive.note(number)).await
    }
}

fn unwritable(path: &Path, error: io::Error) -> PortError {
    PortError::persistent(format!("the archive cannot be written: {}", path.display())).because(error)
}

#[cfg(test)]
mod tests;
