//! The store itself.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

use tally_ports::{PortError, Row, Rows, Store, WriteBatch};

use crate::files::{self, Claim};
use crate::packed::{self, Ascending, Descending};
use crate::{leaf, rows};

/// Bytes of a key.
const KEY_BYTES_MAX: usize = 512;
/// Bytes of a value.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Rows removed in one commit while clearing.
const CLEAR_ROWS: usize = 500;
/// A commit of so many rows packs them into leaves.
const PACK_ROWS_MIN: usize = 5_000;

/// So many rows of their own go with a large commit into the leaf that they stand over.
const OVER_ROWS_MAX: usize = 1_000;

/// So many rows of their own are packed into leaves when there is time for it: see [`Store::tidy`].
const TIDY_ROWS_MIN: usize = 50_000;
/// As many more per so many bytes that the store has: what is packed is written again with each of its neighbours.
const TIDY_BYTES_PER_ROW: u64 = 10_000;
/// Rows that are packed at once, since commits wait meanwhile.
const TIDY_ROWS_AT_ONCE: usize = 100;

/// How many further pieces the values have that have any.
type Large = HashMap<Vec<u8>, u8>;

/// A [`Store`] in a directory of its own.
///
/// One commit at a time; readers never wait for its fsync.
#[derive(Debug)]
pub struct SledStore {
    dir: PathBuf,
    db: sled::Db,
    writer: Mutex<Writer>,
    /// Whoever reads or writes a value of several pieces holds this, so that none is seen half.
    large: RwLock<Large>,
    /// Whether there are leaves. Once there are, whoever looks for a row in both places holds `packing` meanwhile.
    packed: AtomicBool,
    /// Held by a commit that moves rows into leaves. Whoever needs both takes this before `large`.
    packing: RwLock<()>,
    /// Rows from which on a commit is packed.
    pack_rows_min: usize,
    /// Rows of their own from which on they are packed.
    tidy_rows_min: usize,
    _claim: Claim,
}

#[derive(Debug)]
struct Writer {
    file: File,
    /// A write failed: what is on the disk is not known, and nothing is written any more.
    failed: bool,
    /// Rows of their own, about: those found at the start, and those written since.
    loose: usize,
    /// While they are packed: the key to go on at.
    tidying: Option<Vec<u8>>,
}

impl SledStore {
    /// Opens the store in `dir`, which is made if need be and used by nothing else. sled keeps up to
    /// `cache_bytes` of it in memory (64 to 256 MiB are reasonable).
    ///
    /// # Errors
    /// Persistent: another process has it, or it is damaged; then the directory may be removed.
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<Self, PortError> {
        let claim = files::claim(dir)?;
        let (db, file) = files::open(dir, cache_bytes)?;
        let store = Self {
            dir: dir.to_owned(),
            db,
            writer: Mutex::new(Writer { file, failed: false, loose: 0, tidying: None }),
            large: RwLock::default(),
            packed: AtomicBool::new(false),
            packing: RwLock::default(),
            pack_rows_min: PACK_ROWS_MIN,
            tidy_rows_min: TIDY_ROWS_MIN,
            _claim: claim,
        };
        let leaf =
            store.db.scan_prefix(rows::LEAVES).next().transpose().map_err(|error| store.damaged(error))?;
        store.packed.store(leaf.is_some(), Ordering::SeqCst);
        let mut large = Large::new();
        for row in store.db.scan_prefix(rows::PIECES).keys() {
            let row = row.map_err(|error| store.damaged(error))?;
            if let Some((key, number)) = rows::key_of_piece(&row) {
                large.insert(key.to_vec(), number);
            }
        }
        *store.large_mut() = large;
        store.writer().loose = store.loose_rows(store.tidy_rows_min)?;
        if store.db.contains_key(rows::CLEARING).map_err(|error| store.damaged(error))? {
            store.clear()?;
        }
        Ok(store)
    }

    /// The same, where a damaged store is emptied: what it held is made again from the log. Also one in which damage
    /// was met while it was open. Answers whether that was so, and what was wrong.
    ///
    /// # Errors
    /// Persistent: another process has it, or the disk cannot be used.
    pub fn open_or_anew(dir: &Path, cache_bytes: u64) -> Result<(Self, Option<PortError>), PortError> {
        let damage = if files::is_marked(dir) {
            PortError::persistent(format!("the store in {} was found damaged", dir.display()))
        } else {
            match Self::open(dir, cache_bytes) {
                Ok(store) => return Ok((store, None)),
                Err(error) if files::is_damage(&error) => error,
                Err(error) => return Err(error),
            }
        };
        files::empty(dir)?;
        Ok((Self::open(dir, cache_bytes)?, Some(damage)))
    }

    fn large_mut(&self) -> RwLockWriteGuard<'_, Large> {
        self.large.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows of their own; no more than `count_max` are counted.
    fn loose_rows(&self, count_max: usize) -> Result<usize, PortError> {
        let rows = self.db.range(rows::row_key(&[])..rows::rows_end()).take(count_max);
        rows.map(|row| row.map(|_| 1)).sum::<sled::Result<usize>>().map_err(|error| self.damaged(error))
    }

    /// Damage, which the next start does away with, whether or not it meets it again.
    fn damaged(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> PortError {
        files::mark(&self.dir);
        PortError::persistent(format!(
            "the store in {dir} is damaged: the next start makes it again from the log",
            dir = self.dir.display()
        ))
        .because(cause)
    }

    /// The value in a row as sled gave it; `None` where the row says that there is none.
    fn value(&self, key: &[u8], row: &[u8]) -> Result<Option<Vec<u8>>, PortError> {
        match rows::kind(row) {
            rows::Kind::Whole => {
                let value = rows::decode(key, row, &[]);
                value.map(Some).ok_or_else(|| self.damaged(format!("the sum of {key:02x?} is wrong")))
            }
            rows::Kind::Removed if row == rows::removed(key) => Ok(None),
            rows::Kind::Removed => Err(self.damaged(format!("the sum of {key:02x?} is wrong"))),
            rows::Kind::Large => self.large_value(key),
        }
    }

    /// Reads a value of several pieces, anew, while nobody changes one.
    fn large_value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, PortError> {
        let _unchanged = self.large.read().unwrap_or_else(PoisonError::into_inner);
        let read = |key: Vec<u8>| self.db.get(key).map_err(|error| self.damaged(error));
        let Some(row) = read(rows::row_key(key))? else { return Ok(None) };
        if rows::kind(&row) == rows::Kind::Removed {
            return Ok(None);
        }
        let mut further = Vec::new();
        for number in 1..=rows::further_pieces(&row).unwrap_or(0) {
            further.extend(read(rows::piece_key(key, number))?);
        }
        let value = rows::decode(key, &row, &further);
        value.map(Some).ok_or_else(|| self.damaged(format!("the sum of {key:02x?} is wrong")))
    }

    fn is_packed(&self) -> bool {
        self.packed.load(Ordering::SeqCst)
    }

    /// Reads a row where it stands by itself, else from its leaf.
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, PortError> {
        match self.db.get(rows::row_key(key)).map_err(|error| self.damaged(error))? {
            Some(row) => self.value(key, &row),
            None if self.is_packed() => packed::get(&self.db, key).map_err(|error| self.damaged(error)),
            None => Ok(None),
        }
    }

    /// Rows of their own as `found`, and those of leaves as `leaves` answers them, both in the same order.
    fn merge(
        &self,
        found: impl Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>>,
        mut leaves: impl FnMut() -> Result<Option<(Vec<u8>, Vec<u8>)>, packed::Fault>,
        is_before: impl Fn(&[u8], &[u8]) -> bool,
        limit: usize,
    ) -> Result<Rows, PortError> {
        let mut result = Rows::new();
        let mut from_leaf = leaves().map_err(|error| self.damaged(error))?;
        for row in found {
            if result.len() >= limit {
                return Ok(result);
            }
            let (row, bytes) = row.map_err(|error| self.damaged(error))?;
            let Some(key) = rows::key_of_row(&row) else { continue };
            while let Some(first) = from_leaf.take_if(|(first, _)| is_before(first, key)) {
                result.push(first);
                if result.len() >= limit {
                    return Ok(result);
                }
                from_leaf = leaves().map_err(|error| self.damaged(error))?;
            }
            if from_leaf.take_if(|(first, _)| first == key).is_some() {
                from_leaf = leaves().map_err(|error| self.damaged(error))?;
            }
            // A value of several pieces may have gone since.
            if let Some(value) = self.value(key, &bytes)? {
                result.push((key.to_vec(), value));
            }
        }
        while result.len() < limit
            && let Some(row) = from_leaf.take()
        {
            result.push(row);
            from_leaf = leaves().map_err(|error| self.damaged(error))?;
        }
        Ok(result)
    }

    /// Applies one batch of sled: readers see it, and [`Self::make_durable`] has to follow.
    fn apply(&self, writer: &mut Writer, batch: sled::Batch) -> Result<(), PortError> {
        if writer.failed {
            return Err(PortError::persistent(format!(
                "an earlier write to the store in {} failed: start again",
                self.dir.display()
            )));
        }
        let applied = self.db.apply_batch(batch);
        applied.map_err(|error| self.failed(writer, error))
    }

    /// Waits until the disk has what was applied.
    fn make_durable(&self, writer: &mut Writer) -> Result<(), PortError> {
        let durable = files::make_durable(&self.db, &writer.file);
        durable.map_err(|error| self.failed(writer, error))
    }

    /// Applies one batch of sled, durable when it answers.
    fn write(&self, writer: &mut Writer, batch: sled::Batch) -> Result<(), PortError> {
        self.apply(writer, batch)?;
        self.make_durable(writer)
    }

    /// After a failed write or fsync nobody knows what is on the disk; asking again would say that all is well.
    fn failed(
        &self,
        writer: &mut Writer,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> PortError {
        writer.failed = true;
        PortError::persistent(format!("the store in {} cannot be written", self.dir.display())).because(cause)
    }
}

/// The changes in key order, of each key the last one.
fn final_changes(batch: &WriteBatch) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> =
        batch.rows.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
    if !rows.is_sorted_by(|a, b| a.0 < b.0) {
        // Of changes of one key the last one holds: a stable sort keeps them in their order.
        rows.sort_by(|a, b| a.0.cmp(b.0));
        rows.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1 = later.1;
            }
            same
        });
    }
    rows
}

/// Refuses what does not fit.
fn check_sizes(rows: &[Row<'_>]) -> Result<(), PortError> {
    for (key, value) in rows {
        let bytes = value.map_or(0, <[u8]>::len);
        if key.len() > KEY_BYTES_MAX || bytes > VALUE_BYTES_MAX {
            return Err(PortError::persistent(format!(
                "a key of {} bytes with a value of {bytes} bytes is too large for the store \
                 ({KEY_BYTES_MAX} and {VALUE_BYTES_MAX} at most)",
                key.len()
            )));
        }
    }
    Ok(())
}

impl SledStore {
    /// Puts changes into a batch as rows of their own; answers how many further pieces values have or had.
    fn put_rows<'a>(
        &self,
        changes: impl IntoIterator<Item = Row<'a>>,
        batch: &mut sled::Batch,
    ) -> Result<Vec<(Vec<u8>, u8)>, PortError> {
        let packed = self.is_packed();
        // Only this thread changes it, under the writer's lock.
        let large = self.large.read().unwrap_or_else(PoisonError::into_inner);
        let mut larger = Vec::new();
        for (key, value) in changes {
            let before = large.get(key).copied().unwrap_or(0);
            let mut after = 0;
            match value {
                Some(value) => {
                    let pieces = rows::encode(key, value);
                    batch.insert(rows::row_key(key), pieces.row);
                    for piece in pieces.further {
                        after += 1;
                        batch.insert(rows::piece_key(key, after), piece);
                    }
                }
                None if packed
                    && packed::get(&self.db, key).map_err(|error| self.damaged(error))?.is_some() =>
                {
                    batch.insert(rows::row_key(key), rows::removed(key));
                }
                None => batch.remove(rows::row_key(key)),
            }
            for number in after.saturating_add(1)..=before {
                batch.remove(rows::piece_key(key, number));
            }
            if before > 0 || after > 0 {
                larger.push((key.to_vec(), after));
            }
        }
        Ok(larger)
    }

    /// A small commit: each row by itself.
    fn apply_rows(&self, writer: &mut Writer, changes: &[Row<'_>]) -> Result<(), PortError> {
        let mut batch = sled::Batch::default();
        let larger = self.put_rows(changes.iter().copied(), &mut batch)?;
        if larger.is_empty() {
            return self.apply(writer, batch);
        }
        let mut large = self.large_mut();
        self.apply(writer, batch)?;
        note_pieces(&mut large, larger);
        Ok(())
    }

    /// A large commit: small rows go into leaves.
    fn apply_packed(&self, writer: &mut Writer, changes: &[Row<'_>]) -> Result<(), PortError> {
        let mut batch = sled::Batch::default();
        let large = self.large.read().unwrap_or_else(PoisonError::into_inner).clone();
        let is_small = |(key, value): &Row<'_>| {
            let bytes = value.map_or(0, <[u8]>::len);
            key.len().saturating_add(bytes).saturating_add(rows::HEAD_BYTES) <= leaf::ROW_BYTES_MAX
                && (large.is_empty() || !large.contains_key(*key))
        };
        let (mut small, mut others) = (Cow::Borrowed(changes), Vec::new());
        if !changes.iter().all(is_small) {
            let (fit, rest) = changes.iter().copied().partition(is_small);
            (small, others) = (Cow::Owned(fit), rest);
        }
        let apart: Vec<&[u8]> = others.iter().map(|(key, _)| *key).collect();
        let larger = self.put_rows(others.iter().copied(), &mut batch)?;
        packed::pack(&self.db, &small, &apart, OVER_ROWS_MAX, &mut batch)
            .map_err(|error| self.damaged(error))?;
        // In this order, as readers do: they hold the first when they ask for the second.
        let _packing = self.packing.write().unwrap_or_else(PoisonError::into_inner);
        let mut large = self.large_mut();
        self.apply(writer, batch)?;
        self.packed.store(true, Ordering::SeqCst);
        note_pieces(&mut large, larger);
        Ok(())
    }
}

impl SledStore {
    /// Packs rows of their own from a key on; answers the key to go on at, if there are more.
    fn pack_loose(&self, writer: &mut Writer, from: &[u8]) -> Result<Option<Vec<u8>>, PortError> {
        let mut rows: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
        let mut next = None;
        for row in self.db.range(rows::row_key(from)..rows::rows_end()) {
            let (row, bytes) = row.map_err(|error| self.damaged(error))?;
            let Some(key) = rows::key_of_row(&row) else { continue };
            if rows.len() >= TIDY_ROWS_AT_ONCE {
                next = Some(key.to_vec());
                break;
            }
            if packed::fits(key, &bytes) {
                rows.push((key.to_vec(), self.value(key, &bytes)?));
            }
        }
        let changes: Vec<Row<'_>> =
            rows.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
        let mut batch = sled::Batch::default();
        packed::pack(&self.db, &changes, &[], 0, &mut batch).map_err(|error| self.damaged(error))?;
        if !changes.is_empty() {
            let _packing = self.packing.write().unwrap_or_else(PoisonError::into_inner);
            self.apply(writer, batch)?;
            self.packed.store(true, Ordering::SeqCst);
        }
        self.make_durable(writer)?;
        Ok(next)
    }
}

fn note_pieces(large: &mut Large, changed: Vec<(Vec<u8>, u8)>) {
    for (key, pieces) in changed {
        if pieces > 0 {
            large.insert(key, pieces);
        } else {
            large.remove(&key);
        }
    }
}

impl Store for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, PortError> {
        let _unmoved = self.packing.read().unwrap_or_else(PoisonError::into_inner);
        self.read(key)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError> {
        if from >= to {
            return Ok(Rows::new());
        }
        let _unmoved = self.packing.read().unwrap_or_else(PoisonError::into_inner);
        let found = self.db.range(rows::row_key(from)..rows::row_key(to));
        if !self.is_packed() {
            return self.merge(found, || Ok(None), |_, _| false, limit);
        }
        let mut leaves = Ascending::new(&self.db, from, to);
        self.merge(found, || leaves.next(), |leaf, row| leaf < row, limit)
    }

    fn range_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError> {
        if from >= to {
            return Ok(Rows::new());
        }
        let _unmoved = self.packing.read().unwrap_or_else(PoisonError::into_inner);
        let found = self.db.range(rows::row_key(from)..rows::row_key(to)).rev();
        if !self.is_packed() {
            return self.merge(found, || Ok(None), |_, _| false, limit);
        }
        let mut leaves = Descending::new(&self.db, from, to);
        self.merge(found, || leaves.next(), |leaf, row| leaf > row, limit)
    }

    fn commit(&self, batch: WriteBatch) -> Result<(), PortError> {
        self.commit_seen(batch, &mut || {})
    }

    fn commit_seen(&self, batch: WriteBatch, seen: &mut dyn FnMut()) -> Result<(), PortError> {
        self.commit_sorted(&final_changes(&batch), seen)
    }

    fn commit_sorted(&self, rows: &[Row<'_>], seen: &mut dyn FnMut()) -> Result<(), PortError> {
        if rows.is_empty() {
            return Ok(());
        }
        check_sizes(rows)?;
        let mut writer = self.writer();
        if rows.len() >= self.pack_rows_min {
            self.apply_packed(&mut writer, rows)?;
        } else {
            self.apply_rows(&mut writer, rows)?;
            writer.loose = writer.loose.saturating_add(rows.len());
        }
        seen();
        self.make_durable(&mut writer)
    }

    fn tidy(&self) -> Result<bool, PortError> {
        let mut writer = self.writer();
        if writer.tidying.is_none() {
            // It looks at files by their names: what goes wrong there says nothing of what is in them.
            let unknown = |error| {
                let dir = self.dir.display();
                PortError::transient(format!("how large the store in {dir} is cannot be found out"))
                    .because(error)
            };
            let bytes = self.db.size_on_disk().map_err(unknown)?;
            let more = usize::try_from(bytes / TIDY_BYTES_PER_ROW).unwrap_or(usize::MAX);
            if writer.failed || writer.loose < self.tidy_rows_min.saturating_add(more) {
                return Ok(false);
            }
            writer.loose = 0;
        }
        let from = writer.tidying.take().unwrap_or_default();
        writer.tidying = self.pack_loose(&mut writer, &from)?;
        Ok(writer.tidying.is_some())
    }

    fn clear(&self) -> Result<(), PortError> {
        let mut writer = self.writer();
        let mut large = self.large_mut();
        // Half a store would be worse than none: the mark makes the next start finish what this one began.
        let mut mark = sled::Batch::default();
        mark.insert(rows::CLEARING, &[]);
        self.write(&mut writer, mark)?;
        loop {
            let mut batch = sled::Batch::default();
            let mut count = 0_usize;
            let keys =
                self.db.iter().keys().filter(|key| !key.as_ref().is_ok_and(|key| key == rows::CLEARING));
            for key in keys.take(CLEAR_ROWS) {
                batch.remove(key.map_err(|error| self.damaged(error))?);
                count += 1;
            }
            if count == 0 {
                break;
            }
            self.write(&mut writer, batch)?;
        }
        large.clear();
        (writer.loose, writer.tidying) = (0, None);
        self.packed.store(false, Ordering::SeqCst);
        let mut unmark = sled::Batch::default();
        unmark.remove(rows::CLEARING);
        self.write(&mut writer, unmark)
    }
}

#[cfg(test)]
mod tests;
