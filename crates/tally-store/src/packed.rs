//! Where leaves lie, and how a large commit puts its rows into them.
//!
//! The leaf of a key is the last one whose first key is not above it. A row of its own over it goes first; where a
//! row was removed, a mark stands in its place.
//!
//! Not here: a leaf's bytes (`leaf`), rows of their own (`rows`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use sled::{Batch, Db, IVec};
use tally_ports::Row as Change;

use crate::leaf::{self, Reader, Row, Writer};
use crate::rows;

/// What cannot be read: sled's own error, or a leaf that is damaged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// sled's.
    #[error(transparent)]
    Sled(#[from] sled::Error),
    /// A leaf is not what was written.
    #[error("the sum of the leaf at {0:02x?} is wrong")]
    Leaf(Vec<u8>),
    /// A row is not what was written.
    #[error("the sum of {0:02x?} is wrong")]
    Row(Vec<u8>),
}

/// A leaf as it was found.
pub(crate) struct Found {
    /// Its first key.
    pub(crate) first: Vec<u8>,
    bytes: IVec,
}

impl Found {
    fn from(row: sled::Result<(IVec, IVec)>) -> Result<Self, Fault> {
        let (key, bytes) = row?;
        Ok(Self { first: rows::key_of_leaf(&key).unwrap_or_default().to_vec(), bytes })
    }

    /// Its rows, as one reads them.
    fn open(&self) -> Result<Cow<'_, [u8]>, Fault> {
        leaf::open(&self.first, &self.bytes).ok_or_else(|| Fault::Leaf(self.first.clone()))
    }

    /// Its rows.
    fn rows(&self) -> Result<Vec<Row>, Fault> {
        Ok(Reader::over(&self.open()?).rows())
    }
}

/// The leaf that holds `key`, if any does.
pub(crate) fn leaf_of(db: &Db, key: &[u8]) -> Result<Option<Found>, Fault> {
    let mut before = db.range(rows::leaf_key(&[])..=rows::leaf_key(key));
    before.next_back().map(Found::from).transpose()
}

/// The first leaf whose first key is above `key`.
fn leaf_after(db: &Db, key: &[u8]) -> Result<Option<Found>, Fault> {
    let from = [&rows::leaf_key(key)[..], &[0]].concat();
    db.range(from..rows::leaves_end()).next().map(Found::from).transpose()
}

/// The value that leaves have for a key.
pub(crate) fn get(db: &Db, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
    match leaf_of(db, key)? {
        Some(leaf) => Ok(Reader::over(&leaf.open()?).find(key).map(<[u8]>::to_vec)),
        None => Ok(None),
    }
}

/// Rows of leaves with `from <= key < to`, ascending, leaf by leaf.
pub(crate) struct Ascending<'a> {
    db: &'a Db,
    from: Vec<u8>,
    to: Vec<u8>,
    leaves: Option<sled::Iter>,
    page: std::vec::IntoIter<Row>,
}

impl<'a> Ascending<'a> {
    pub(crate) fn new(db: &'a Db, from: &[u8], to: &[u8]) -> Self {
        let page = Vec::new().into_iter();
        Self { db, from: from.to_vec(), to: to.to_vec(), leaves: None, page }
    }

    fn next_leaf(&mut self) -> Result<Option<Found>, Fault> {
        if let Some(leaves) = &mut self.leaves {
            return leaves.next().map(Found::from).transpose();
        }
        let first = leaf_of(self.db, &self.from)?;
        let start = [&rows::leaf_key(&self.from)[..], &[0]].concat();
        let end = rows::leaf_key(&self.to).max(start.clone());
        let leaves = self.leaves.insert(self.db.range(start..end));
        match first {
            Some(leaf) => Ok(Some(leaf)),
            None => leaves.next().map(Found::from).transpose(),
        }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Row>, Fault> {
        loop {
            if let Some(row) = self.page.next() {
                return Ok(Some(row));
            }
            let Some(leaf) = self.next_leaf()? else { return Ok(None) };
            let mut page = leaf.rows()?;
            page.retain(|(key, _)| *key >= self.from && *key < self.to);
            self.page = page.into_iter();
        }
    }
}

/// Rows of leaves with `from <= key < to`, descending, leaf by leaf.
pub(crate) struct Descending {
    from: Vec<u8>,
    to: Vec<u8>,
    leaves: sled::Iter,
    page: Vec<Row>,
    over: bool,
}

impl Descending {
    pub(crate) fn new(db: &Db, from: &[u8], to: &[u8]) -> Self {
        let leaves = db.range(rows::leaf_key(&[])..rows::leaf_key(to));
        Self { from: from.to_vec(), to: to.to_vec(), leaves, page: Vec::new(), over: false }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Row>, Fault> {
        loop {
            if let Some(row) = self.page.pop() {
                return Ok(Some(row));
            }
            if self.over {
                return Ok(None);
            }
            let Some(leaf) = self.leaves.next_back().map(Found::from).transpose()? else { return Ok(None) };
            // Leaves before this one are all below `from`.
            self.over = leaf.first <= self.from;
            self.page = leaf.rows()?;
            self.page.retain(|(key, _)| *key >= self.from && *key < self.to);
        }
    }
}

/// Puts the changes, in key order and each key once, into leaves, and with them what stood over those leaves as rows of
/// their own: of each leaf `over_max` at most. However many there are, what this takes of memory is bounded.
///
/// Rows that are too large for a leaf are not among the changes; the batch has their own rows already, under the keys
/// in `apart`, which are in order.
pub(crate) fn pack(
    db: &Db,
    mut changes: &[Change<'_>],
    apart: &[&[u8]],
    over_max: usize,
    batch: &mut Batch,
) -> Result<(), Fault> {
    // A store that is written in bulk from the start has no rows of their own.
    let has_rows = db.range(rows::row_key(&[])..rows::rows_end()).next().transpose()?.is_some();
    let (mut writer, mut keys) = (Writer::new(leaf::ROWS_BYTES), Vec::new());
    while let Some((first, _)) = changes.first() {
        let leaf = leaf_of(db, first)?;
        let next = leaf_after(db, first)?.map(|leaf| leaf.first);
        // What lies below the first of all leaves goes into a new one before it.
        let low = leaf.as_ref().map_or(&[] as &[u8], |leaf| &leaf.first);
        let count = match &next {
            Some(next) => changes.partition_point(|(key, _)| *key < next.as_slice()),
            None => changes.len(),
        };
        let (mine, later) = changes.split_at(count);
        changes = later;
        let over = match has_rows {
            true => {
                let end = next.as_deref().map_or_else(rows::rows_end, rows::row_key);
                // Where none but those that change are wanted, no other is looked at.
                let (low, end) = match (over_max, mine) {
                    (0, [(first, _), .., (last, _)] | [(first @ last, _)]) => (*first, after(last)),
                    _ => (low, end),
                };
                rows_over(db, (rows::row_key(low), end), mine, apart, over_max, batch)?
            }
            false => BTreeMap::new(),
        };
        let mine = with_rows_over(mine, &over);
        let opened = leaf.as_ref().map(Found::open).transpose()?.unwrap_or_default();
        keys.clear();
        let old = Reader::over(&opened).index(&mut keys);
        let old: Vec<(&[u8], &[u8])> =
            old.into_iter().map(|(key, value)| (keys.get(key).unwrap_or_default(), value)).collect();
        rewrite(leaf.as_ref().map(|leaf| leaf.first.as_slice()), &old, &mine, &mut writer, batch);
    }
    Ok(())
}

/// Whether a row of its own can go into a leaf.
pub(crate) fn fits(key: &[u8], row: &[u8]) -> bool {
    match rows::kind(row) {
        rows::Kind::Large => false,
        rows::Kind::Removed => true,
        rows::Kind::Whole => key.len() + row.len() <= leaf::ROW_BYTES_MAX,
    }
}

/// Where a row of its own would lie that comes right after `key`.
fn after(key: &[u8]) -> Vec<u8> {
    [&rows::row_key(key)[..], &[0]].concat()
}

/// Rows of their own over a leaf, by key: what each says of its key.
type Over = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The rows of their own over a leaf's keys, `over_max` at most, but those that change there and those that stay. The
/// batch removes them, and those that change.
fn rows_over(
    db: &Db,
    (from, to): (Vec<u8>, Vec<u8>),
    changes: &[Change<'_>],
    apart: &[&[u8]],
    over_max: usize,
    batch: &mut Batch,
) -> Result<Over, Fault> {
    let mut over = Over::new();
    for row in db.range(from..to) {
        let (row, bytes) = row?;
        let Some(key) = rows::key_of_row(&row) else { continue };
        if apart.binary_search(&key).is_ok() {
            continue;
        }
        if changes.binary_search_by(|(changed, _)| (*changed).cmp(key)).is_err() {
            if over.len() >= over_max || !fits(key, &bytes) {
                continue;
            }
            let value = match rows::kind(&bytes) {
                rows::Kind::Removed => None,
                _ => Some(rows::decode(key, &bytes, &[]).ok_or_else(|| Fault::Row(key.to_vec()))?),
            };
            over.insert(key.to_vec(), value);
        }
        batch.remove(&row);
    }
    Ok(over)
}

/// The changes with the rows over their leaf, in key order; no key is in both.
fn with_rows_over<'a>(changes: &'a [Change<'a>], over: &'a Over) -> Cow<'a, [Change<'a>]> {
    if over.is_empty() {
        return Cow::Borrowed(changes);
    }
    let over = over.iter().map(|(key, value)| (key.as_slice(), value.as_deref()));
    let mut all: Vec<Change<'a>> = changes.iter().copied().chain(over).collect();
    all.sort_unstable_by_key(|(key, _)| *key);
    Cow::Owned(all)
}

/// Writes a leaf's old rows with the changes as leaves; the one in its old place goes if no new one takes that.
fn rewrite(
    old_first: Option<&[u8]>,
    old: &[(&[u8], &[u8])],
    changes: &[Change<'_>],
    writer: &mut Writer,
    batch: &mut Batch,
) {
    let appended = old.last().zip(changes.first()).is_none_or(|((last, _), (first, _))| last < first);
    let mut rows: Vec<(&[u8], &[u8])> = Vec::with_capacity(old.len() + changes.len());
    let mut old = old.iter().copied().peekable();
    for (key, value) in changes {
        while let Some(kept) = old.next_if(|(kept, _)| kept < key) {
            rows.push(kept);
        }
        let _ = old.next_if(|(kept, _)| kept == key);
        rows.extend(value.map(|value| (*key, value)));
    }
    rows.extend(old);
    let mut leaves = leaves_of(&rows, leaf::ROWS_BYTES, writer);
    if leaves.len() > 1 && !appended {
        // In the middle more comes in later: halves that are alike leave room for it in both.
        let bytes: usize = rows.iter().map(|(key, value)| key.len() + value.len()).sum();
        leaves = leaves_of(&rows, bytes / leaves.len() + 64, writer);
    }
    let mut taken = false;
    for (first, leaf) in leaves {
        taken |= old_first == Some(&first);
        batch.insert(rows::leaf_key(&first), leaf);
    }
    if let Some(first) = old_first.filter(|_| !taken) {
        batch.remove(rows::leaf_key(first));
    }
}

fn leaves_of(rows: &[(&[u8], &[u8])], bytes_max: usize, writer: &mut Writer) -> Vec<Row> {
    writer.limit(bytes_max.min(leaf::ROWS_BYTES));
    rows.iter().for_each(|(key, value)| writer.push(key, value));
    writer.finish()
}
