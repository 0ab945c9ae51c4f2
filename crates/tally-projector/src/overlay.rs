//! A store with changes that are not committed yet: what one batch has written, it reads.
//!
//! Not here: what is in the rows.

use std::collections::BTreeMap;

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

/// Changes over a store.
pub(crate) struct Overlay<'a> {
    store: &'a dyn Store,
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl<'a> Overlay<'a> {
    pub(crate) fn new(store: &'a dyn Store) -> Self {
        Self { store, rows: BTreeMap::new() }
    }

    pub(crate) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.rows.insert(key, Some(value));
    }

    pub(crate) fn remove(&mut self, key: Vec<u8>) {
        self.rows.insert(key, None);
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Commits the changes and forgets them.
    pub(crate) fn commit(&mut self) -> Result<(), PortError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        self.store.commit(WriteBatch { rows: std::mem::take(&mut self.rows).into_iter().collect() })
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
            Source::range(self.store, from, to)?.into_iter().collect();
        for (key, changed) in self.rows.range(from.to_vec()..to.to_vec()) {
            match changed {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        Ok(merged.into_iter().collect())
    }
}
