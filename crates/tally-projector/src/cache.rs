//! Rows at hand: what was written last, so that most reads of single rows never touch the store.
//!
//! A row in here is what the store holds, or holds in a moment. Reading a row of the store may have to wait for a
//! commit, so it is done off the async threads; what is at hand is answered at once.
//!
//! Not here: what is in the rows.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tally_ports::{PortError, Rows, Store};

use crate::overlay::{Changes, Source};

/// Bytes of keys and values in each of the two halves; the older one goes when the newer is full.
const HALF_BYTES_MAX: usize = 24 * 1024 * 1024;

/// What a row costs beside its bytes, about.
const ROW_BYTES: usize = 96;

type Half = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// Rows at hand, none included: that a row is not there is known of those that were removed or looked for.
#[derive(Default)]
pub(crate) struct Cache(RwLock<Halves>);

#[derive(Default)]
struct Halves {
    newer: Half,
    newer_bytes: usize,
    older: Half,
    /// Counts changes: what was read from the store before one is not put in after it.
    changes: u64,
    /// Counts stores: what is read from an earlier one is not put in.
    stores: u64,
}

impl Cache {
    fn read(&self) -> RwLockReadGuard<'_, Halves> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Halves> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a commit wrote.
    pub(crate) fn take(&self, rows: Changes) {
        let mut halves = self.write();
        halves.changes = halves.changes.wrapping_add(1);
        for (key, value) in rows {
            halves.put(key, value);
        }
    }

    /// Forgets everything: the store was changed without telling.
    pub(crate) fn clear(&self) {
        let mut halves = self.write();
        let (changes, stores) = (halves.changes.wrapping_add(1), halves.stores);
        *halves = Halves { changes, stores, ..Halves::default() };
    }

    /// Forgets everything, once the store is another one.
    pub(crate) fn renew(&self) {
        let mut halves = self.write();
        let (changes, stores) = (halves.changes.wrapping_add(1), halves.stores.wrapping_add(1));
        *halves = Halves { changes, stores, ..Halves::default() };
    }

    /// Which store it is of: to be asked before that store is.
    pub(crate) fn store(&self) -> u64 {
        self.read().stores
    }
}

impl Halves {
    fn get(&self, key: &[u8]) -> Option<&Option<Vec<u8>>> {
        self.newer.get(key).or_else(|| self.older.get(key))
    }

    fn put(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        let bytes = key.len().saturating_add(value.as_ref().map_or(0, Vec::len)).saturating_add(ROW_BYTES);
        self.newer_bytes = self.newer_bytes.saturating_add(bytes);
        self.newer.insert(key, value);
        if self.newer_bytes > HALF_BYTES_MAX {
            self.older = std::mem::take(&mut self.newer);
            self.newer_bytes = 0;
        }
    }
}

/// Only what is at hand. Anything else is noted as missing, and whatever was made of it is not to be used.
pub(crate) struct AtHand<'a> {
    halves: RwLockReadGuard<'a, Halves>,
    missing: Cell<bool>,
}

impl<'a> AtHand<'a> {
    pub(crate) fn new(cache: &'a Cache) -> Self {
        Self { halves: cache.read(), missing: Cell::new(false) }
    }

    /// Whether everything that was read was there.
    pub(crate) fn was_enough(&self) -> bool {
        !self.missing.get()
    }
}

impl Source for AtHand<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, PortError> {
        match self.halves.get(key) {
            Some(row) => Ok(row.clone()),
            None => {
                self.missing.set(true);
                Ok(None)
            }
        }
    }

    fn range(&self, _from: &[u8], _to: &[u8]) -> Result<Rows, PortError> {
        self.missing.set(true);
        Ok(Rows::new())
    }
}

/// The store, with what is read of it put in the cache.
pub(crate) struct Through<'a> {
    pub(crate) cache: &'a Cache,
    pub(crate) store: &'a dyn Store,
    /// What [`Cache::store`] said before the store was asked for.
    pub(crate) of: u64,
}

impl Source for Through<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, PortError> {
        let halves = self.cache.read();
        if let Some(row) = halves.get(key) {
            return Ok(row.clone());
        }
        let changes = halves.changes;
        drop(halves);
        let row = self.store.get(key)?;
        let mut halves = self.cache.write();
        if halves.changes == changes && halves.stores == self.of {
            halves.put(key.to_vec(), row.clone());
        }
        Ok(row)
    }

    fn range(&self, from: &[u8], to: &[u8]) -> Result<Rows, PortError> {
        Source::range(self.store, from, to)
    }
}

#[cfg(test)]
mod tests {
    use tally_ports::WriteBatch;
    use tally_testkit::MemoryStore;

    use super::*;

    #[test]
    fn what_is_read_late_of_an_earlier_store_is_not_kept() {
        let stores = ["old", "new"].map(|value| {
            let (store, mut batch) = (MemoryStore::new(), WriteBatch::default());
            batch.put("k", value);
            store.commit(batch).unwrap();
            store
        });
        let cache = Cache::default();
        let late = Through { cache: &cache, store: &stores[0], of: cache.store() };
        cache.renew();
        late.get(b"k").unwrap();
        let now = Through { cache: &cache, store: &stores[1], of: cache.store() };
        assert_eq!(now.get(b"k").unwrap(), Some(b"new".to_vec()));
        assert_eq!(AtHand::new(&cache).get(b"k").unwrap(), Some(b"new".to_vec()));
    }
}
