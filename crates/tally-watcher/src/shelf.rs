//! A part of a store under a prefix of its own, for processes that watch several shards.

use std::sync::Arc;

use tally_ports::{PortError, Rows, Store, WriteBatch};

/// Rows removed in one commit.
const REMOVE_MAX: usize = 500;

/// The rows of a store whose keys begin with a prefix, without it.
pub(crate) struct Shelf {
    store: Arc<dyn Store>,
    prefix: Vec<u8>,
}

impl Shelf {
    /// The whole store where the prefix is empty.
    pub(crate) fn new(store: Arc<dyn Store>, prefix: &str) -> Self {
        Self { store, prefix: prefix.as_bytes().to_vec() }
    }

    fn key(&self, key: &[u8]) -> Vec<u8> {
        [self.prefix.as_slice(), key].concat()
    }

    fn bare(&self, rows: Rows) -> Rows {
        let bare = |key: Vec<u8>| key.get(self.prefix.len()..).unwrap_or_default().to_vec();
        rows.into_iter().map(|(key, value)| (bare(key), value)).collect()
    }
}

impl Store for Shelf {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, PortError> {
        self.store.get(&self.key(key))
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError> {
        Ok(self.bare(self.store.range(&self.key(from), &self.key(to), limit)?))
    }

    fn range_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError> {
        Ok(self.bare(self.store.range_back(&self.key(from), &self.key(to), limit)?))
    }

    fn commit(&self, batch: WriteBatch) -> Result<(), PortError> {
        let rows = batch.rows.into_iter().map(|(key, value)| (self.key(&key), value)).collect();
        self.store.commit(WriteBatch { rows })
    }

    fn clear(&self) -> Result<(), PortError> {
        if self.prefix.is_empty() {
            return self.store.clear();
        }
        loop {
            // No key of ours begins with a byte as high as this.
            let rows = self.range(&[], &[0xff], REMOVE_MAX)?;
            if rows.is_empty() {
                return Ok(());
            }
            let mut batch = WriteBatch::default();
            rows.into_iter().for_each(|(key, _)| batch.remove(key));
            self.commit(batch)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use tally_testkit::MemoryStore;

    use super::*;

    #[test]
    fn shelves_know_nothing_of_each_other() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (one, two) = (Shelf::new(store.clone(), "1/2:"), Shelf::new(store.clone(), "2/2:"));
        for (shelf, value) in [(&one, b"one"), (&two, b"two")] {
            let mut batch = WriteBatch::default();
            (0..1200_u16).for_each(|number| batch.put(number.to_be_bytes(), value.to_vec()));
            shelf.commit(batch).unwrap();
        }
        assert_eq!(one.get(&[0, 7]).unwrap(), Some(b"one".to_vec()));
        let page = two.range(&[0, 5], &[0, 9], 2).unwrap();
        assert_eq!(page, [(vec![0, 5], b"two".to_vec()), (vec![0, 6], b"two".to_vec())]);
        assert_eq!(two.range_back(&[0, 5], &[0, 9], 1).unwrap(), [(vec![0, 8], b"two".to_vec())]);
        one.clear().unwrap();
        assert_eq!(one.get(&[0, 7]).unwrap(), None);
        assert_eq!(two.get(&[4, 175]).unwrap(), Some(b"two".to_vec()));
    }
}
