//! A store with changes that are not committed yet: what one batch has written, it reads.
//!
//! Not here: what is in the rows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Deref};
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tally_ports::{PortError, Rows, Store, WriteBatch};

use crate::filter::Filter;
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

/// What becomes of a row.
struct Pending {
    value: Option<Vec<u8>>,
    /// Whether the store has no such row: then nothing needs to be said of it once it is removed again.
    new: bool,
}

/// Changes over a store.
///
/// Kept by hash: a commit may have a hundred thousand rows, and most are looked up one by one. Only kinds of rows
/// that are read as ranges while facts are folded are kept in order as well.
pub(crate) struct Overlay<'a> {
    store: Base<'a>,
    rows: HashMap<Vec<u8>, Pending>,
    ordered: BTreeSet<Vec<u8>>,
    /// What the store can hold; none where it held something before this.
    written: Option<Filter>,
}

impl<'a> Overlay<'a> {
    pub(crate) fn new(store: impl Into<Base<'a>>) -> Self {
        Self { store: store.into(), rows: HashMap::new(), ordered: BTreeSet::new(), written: None }
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
        Ok(self.rows.is_empty() && rows.iter().all(|(other, _)| other == key))
    }

    pub(crate) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        let is_ordered = keys::is_ordered(&key);
        match self.rows.entry(key) {
            Entry::Occupied(mut known) => known.get_mut().value = Some(value),
            Entry::Vacant(place) => {
                if is_ordered {
                    self.ordered.insert(place.key().clone());
                }
                let new = self.written.as_ref().is_some_and(|written| !written.may_have(place.key()));
                place.insert(Pending { value: Some(value), new });
            }
        }
    }

    pub(crate) fn remove(&mut self, key: Vec<u8>) {
        let new = match self.rows.get(&key) {
            Some(known) => known.new,
            None => self.written.as_ref().is_some_and(|written| !written.may_have(&key)),
        };
        let is_ordered = keys::is_ordered(&key);
        if new {
            if is_ordered {
                self.ordered.remove(&key);
            }
            self.rows.remove(&key);
            return;
        }
        if is_ordered {
            self.ordered.insert(key.clone());
        }
        self.rows.insert(key, Pending { value: None, new });
    }

    /// The value of a row, for adding to it; an empty one where there is none.
    pub(crate) fn value_mut(&mut self, key: &[u8]) -> Result<&mut Vec<u8>, PortError> {
        if self.rows.get(key).is_none_or(|known| known.value.is_none()) {
            let value = self.get(key)?.unwrap_or_default();
            self.put(key.to_vec(), value);
        }
        let pending = self.rows.entry_ref(key).or_insert_with(|| Pending { value: None, new: false });
        Ok(pending.value.get_or_insert_default())
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Commits the changes and forgets them. `seen` gets them once readers see them, if `keep` says so; else they are
    /// moved into the store, and it gets none.
    pub(crate) fn commit(&mut self, keep: bool, seen: impl FnOnce(Changes)) -> Result<(), PortError> {
        self.ordered.clear();
        if let Some(written) = &mut self.written {
            self.rows.iter().filter(|(_, pending)| pending.new).for_each(|(key, _)| written.add(key));
        }
        let rows = sorted(self.rows.drain().map(|(key, pending)| (key, pending.value)).collect());
        let mut kept = Some((seen, if keep { rows.clone() } else { Changes::new() }));
        self.store.commit_seen(WriteBatch { rows }, &mut || {
            if let Some((seen, kept)) = kept.take() {
                seen(kept);
            }
        })
    }

    /// Changed rows with `from <= key < to`.
    fn changed(&self, from: &[u8], to: &[u8]) -> Vec<(&Vec<u8>, &Option<Vec<u8>>)> {
        if keys::is_ordered(from) && from.first() == to.first() {
            let keys = self.ordered.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
            let found = keys.filter_map(|key| self.rows.get_key_value(key));
            return found.map(|(key, pending)| (key, &pending.value)).collect();
        }
        let within = |key: &[u8]| key >= from && key < to;
        let found = self.rows.iter().filter(|(key, _)| within(key));
        found.map(|(key, pending)| (key, &pending.value)).collect()
    }
}

/// Rows in key order. Compared by their keys' beginnings side by side first: to follow each key into memory costs
/// more than all the rest.
fn sorted(mut rows: Changes) -> Changes {
    let beginning = |key: &[u8]| {
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
        u128::from_be_bytes(bytes)
    };
    let order = {
        let mut order: Vec<(u128, &[u8], usize)> =
            rows.iter().enumerate().map(|(at, (key, _))| (beginning(key), key.as_slice(), at)).collect();
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.cmp(b.1)));
        order.into_iter().map(|(_, _, at)| at).collect::<Vec<_>>()
    };
    let take = |at| rows.get_mut(at).map(std::mem::take);
    order.into_iter().filter_map(take).collect()
}

impl Source for Overlay<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, PortError> {
        match self.rows.get(key) {
            Some(changed) => Ok(changed.value.clone()),
            None if self.written.as_ref().is_some_and(|written| !written.may_have(key)) => Ok(None),
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
