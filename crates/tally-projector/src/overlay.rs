//! A store with changes that are not committed yet: what one batch has written, it reads.
//!
//! Not here: what is in the rows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Deref};
use std::sync::Arc;

use hashbrown::HashMap;
use tally_ports::{PortError, Rows, Store, WriteBatch};

use crate::keys;

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
        let mut from = from.to_vec();
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
    rows: HashMap<Vec<u8>, Option<Vec<u8>>>,
    ordered: BTreeSet<Vec<u8>>,
}

impl<'a> Overlay<'a> {
    pub(crate) fn new(store: impl Into<Base<'a>>) -> Self {
        Self { store: store.into(), rows: HashMap::new(), ordered: BTreeSet::new() }
    }

    pub(crate) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.change(key, Some(value));
    }

    pub(crate) fn remove(&mut self, key: Vec<u8>) {
        self.change(key, None);
    }

    fn change(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        if keys::is_ordered(&key) {
            self.ordered.insert(key.clone());
        }
        self.rows.insert(key, value);
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Commits the changes, forgets and answers them. Where `keep` says so; else they are moved into the store.
    pub(crate) fn commit(&mut self, keep: bool) -> Result<Changes, PortError> {
        if self.rows.is_empty() {
            return Ok(Changes::new());
        }
        self.ordered.clear();
        let mut rows: Changes = self.rows.drain().collect();
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let kept = if keep { rows.clone() } else { Changes::new() };
        self.store.commit(WriteBatch { rows })?;
        Ok(kept)
    }

    /// Changed rows with `from <= key < to`.
    fn changed(&self, from: &[u8], to: &[u8]) -> Vec<(&Vec<u8>, &Option<Vec<u8>>)> {
        if keys::is_ordered(from) && from.first() == to.first() {
            let keys = self.ordered.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
            return keys.filter_map(|key| self.rows.get_key_value(key)).collect();
        }
        self.rows.iter().filter(|(key, _)| key.as_slice() >= from && key.as_slice() < to).collect()
    }
}

impl Source for Overlay<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, PortError> {
        match self.rows.get(key) {
            Some(changed) => Ok(changed.clone()),
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
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        Ok(merged.into_iter().collect())
    }
}
