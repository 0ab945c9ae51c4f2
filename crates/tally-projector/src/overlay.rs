//! A store with changes that are not committed yet: what one batch has written, it reads.
//!
//! Not here: what is in the rows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Deref};
use std::sync::Arc;

use tally_ports::{PortError, Row, Rows, Store};

use crate::filter::Filter;
use crate::keys;

mod pending;

use pending::Pending;

/// How many rows are read from the store at once.
const PAGE: usize = 1_000;

/// Where rows are read from: a store, or a store under uncommitted changes.
pub(crate) trait Source {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, PortError>;

    /// Every row with `from <= key < to`, ascending.
    fn range(&self, from: &[u8], to: &[u8]) -> Result<Rows, PortError>;
}

impl Source for dyn Store + '_ {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, PortError> {
        Store::get(self, key)
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Result<Rows, PortError> {
        let mut all = Rows::new();
        let mut from = keys::Key::from(from.to_vec());
        loop {
            let page = Store::range(self, &from, to, PAGE)?;
            let full = page.len() == PAGE;
            all.extend(page);
            match all.last() {
                Some((last, _)) if full => from = keys::following(last),
                _ => return Ok(all),
            }
        }
    }
}

/// A store that is lent or shared.
pub(crate) enum Base<'a> {
    Lent(&'a dyn Store),
    Shared(Arc<dyn Store>),
}

impl<'a> Deref for Base<'a> {
    type Target = dyn Store + 'a;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Lent(store) => *store,
            Self::Shared(store) => &**store,
        }
    }
}

impl<'a> From<&'a dyn Store> for Base<'a> {
    fn from(store: &'a dyn Store) -> Self {
        Self::Lent(store)
    }
}

impl From<Arc<dyn Store>> for Base<'static> {
    fn from(store: Arc<dyn Store>) -> Self {
        Self::Shared(store)
    }
}

/// Rows with what becomes of each: another value, or none.
pub(crate) type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Changes over a store.
///
/// Kept by hash: a commit may have a hundred thousand rows, and most are looked up one by one. Only kinds of rows
/// that are read as ranges while facts are folded are kept in order as well.
pub(crate) struct Overlay<'a> {
    store: Base<'a>,
    pending: Pending,
    /// Rows that come in no order, put aside while a store is filled in bulk: to write each commit's among all that are
    /// there would write nearly all of them again each time.
    aside: Option<Pending>,
    ordered: BTreeSet<Vec<u8>>,
    /// What the store can hold; none where it held something before this.
    written: Option<Filter>,
}

impl<'a> Overlay<'a> {
    pub(crate) fn new(store: impl Into<Base<'a>>) -> Self {
        let (pending, ordered) = (Pending::default(), BTreeSet::new());
        Self { store: store.into(), pending, aside: None, ordered, written: None }
    }

    /// The same over a store that holds no row but those of `keys`: whatever nobody wrote need not be looked for.
    pub(crate) fn over_empty(mut self, keys: &[&[u8]]) -> Self {
        let filter = self.written.insert(Filter::new());
        keys.iter().for_each(|key| filter.add(key));
        self
    }

    /// Whether the store has no row but perhaps that of `key`, and nothing is changed.
    pub(crate) fn is_empty_but(&self, key: &[u8]) -> Result<bool, PortError> {
        let rows = Store::range(&*self.store, &[], &keys::beyond(), 2)?;
        Ok(self.pending.len() == 0 && rows.iter().all(|(other, _)| other == key))
    }

    /// Fills an empty store in bulk, until [`Self::finish_bulk`].
    pub(crate) fn begin_bulk(&mut self) {
        self.aside = Some(Pending::default());
        self.put(keys::UNFINISHED, []);
    }

    /// Whether rows are put aside.
    pub(crate) fn is_bulk(&self) -> bool {
        self.aside.is_some()
    }

    /// How many rows are put aside.
    pub(crate) fn len_aside(&self) -> usize {
        self.aside.as_ref().map_or(0, Pending::len)
    }

    /// Where changes of a row are noted.
    fn place(&mut self, key: &[u8]) -> &mut Pending {
        match &mut self.aside {
            Some(aside) if keys::is_scattered(key) => aside,
            _ => &mut self.pending,
        }
    }

    /// What becomes of a row, where that is known.
    fn noted(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        match &self.aside {
            Some(aside) if keys::is_scattered(key) => aside.get(key),
            _ => self.pending.get(key),
        }
    }

    pub(crate) fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let key = key.as_ref();
        self.place(key).put(key, value.as_ref());
        if keys::is_ordered(key) {
            self.ordered.insert(key.to_vec());
        }
    }

    pub(crate) fn remove(&mut self, key: impl AsRef<[u8]>) {
        let key = key.as_ref();
        let never = self.never_had(key);
        self.place(key).remove(key, never);
        if keys::is_ordered(key) {
            // A removal is found in a range, too: it hides what the store has.
            if never {
                self.ordered.remove(key);
            } else {
                self.ordered.insert(key.to_vec());
            }
        }
    }

    /// Whether a store that holds only what was written to it has never had such a row.
    fn never_had(&self, key: &[u8]) -> bool {
        self.written.as_ref().is_some_and(|written| !written.may_have(key))
    }

    /// Adds to a row's value if no more than `bytes_max` comes of it; answers whether it did. A row that is not there
    /// is made.
    pub(crate) fn append(&mut self, key: &[u8], more: &[u8], bytes_max: usize) -> Result<bool, PortError> {
        if self.noted(key).flatten().is_none() {
            let value = self.get(key)?.unwrap_or_default();
            self.put(key, value);
        }
        Ok(self.place(key).append(key, more, bytes_max))
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Commits the changes and forgets them. `seen` gets them once readers see them, if `keep` says so; else it gets
    /// none.
    pub(crate) fn commit(&mut self, keep: bool, seen: impl FnOnce(Changes)) -> Result<(), PortError> {
        self.ordered.clear();
        if let Some(written) = &mut self.written {
            self.pending.rows().filter(|(_, value)| value.is_some()).for_each(|(key, _)| written.add(key));
        }
        let rows = self.pending.sorted();
        let owned = |(key, value): &Row<'_>| (key.to_vec(), value.map(<[u8]>::to_vec));
        let mut kept = Some((seen, if keep { rows.iter().map(owned).collect() } else { Changes::new() }));
        let done = self.store.commit_sorted(&rows, &mut || {
            if let Some((seen, kept)) = kept.take() {
                seen(kept);
            }
        });
        drop(rows);
        self.pending.clear();
        done
    }

    /// Writes what was put aside, in commits of `rows_max`.
    pub(crate) fn write_aside(&mut self, rows_max: usize) -> Result<(), PortError> {
        let Some(aside) = &mut self.aside else { return Ok(()) };
        if let Some(written) = &mut self.written {
            aside.rows().filter(|(_, value)| value.is_some()).for_each(|(key, _)| written.add(key));
        }
        for rows in aside.sorted().chunks(rows_max.max(1)) {
            self.store.commit_sorted(rows, &mut || {})?;
        }
        aside.clear();
        Ok(())
    }

    /// Writes what was put aside; from the next commit on, the store is whole.
    pub(crate) fn finish_bulk(&mut self, rows_max: usize) -> Result<(), PortError> {
        self.write_aside(rows_max)?;
        self.aside = None;
        self.remove(keys::UNFINISHED);
        Ok(())
    }

    /// Changed rows with `from <= key < to`.
    fn changed<'b>(&'b self, from: &'b [u8], to: &'b [u8]) -> Vec<Row<'b>> {
        if keys::is_ordered(from) && from.first() == to.first() {
            let keys = self.ordered.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
            return keys
                .filter_map(|key| self.pending.get(key).map(|value| (key.as_slice(), value)))
                .collect();
        }
        // There may be millions aside.
        let aside = self.aside.iter().filter(|_| keys::has_scattered(from, to));
        let all = self.pending.rows().chain(aside.flat_map(Pending::rows));
        all.filter(|(key, _)| *key >= from && *key < to).collect()
    }
}

impl Source for Overlay<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, PortError> {
        match self.noted(key) {
            Some(changed) => Ok(changed.map(<[u8]>::to_vec)),
            None if self.never_had(key) => Ok(None),
            None => self.store.get(key),
        }
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Result<Rows, PortError> {
        if from >= to {
            return Ok(Rows::new());
        }
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> =
            Source::range(&*self.store, from, to)?.into_iter().collect();
        for (key, changed) in self.changed(from, to) {
            match changed {
                Some(value) => merged.insert(key.to_vec(), value.to_vec()),
                None => merged.remove(key),
            };
        }
        Ok(merged.into_iter().collect())
    }
}
