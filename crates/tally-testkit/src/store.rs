//! A store in memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Mutex;

use tally_ports::{PortError, Rows, Store, WriteBatch};

use crate::lock;

/// A [`Store`] that forgets everything with its last handle.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything in it, by key.
    pub fn rows(&self) -> Rows {
        lock(&self.0).iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The bounds of `from <= key < to`, or none where nothing lies between: a map panics on those.
fn between<'a>(from: &'a [u8], to: &'a [u8]) -> Option<Bounds<'a>> {
    (from < to).then_some((Bound::Included(from), Bound::Excluded(to)))
}

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, PortError> {
        Ok(lock(&self.0).get(key).cloned())
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError> {
        let Some(bounds) = between(from, to) else { return Ok(Rows::new()) };
        let rows = lock(&self.0);
        Ok(rows.range::<[u8], _>(bounds).take(limit).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    fn range_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError> {
        let Some(bounds) = between(from, to) else { return Ok(Rows::new()) };
        let rows = lock(&self.0);
        Ok(rows.range::<[u8], _>(bounds).rev().take(limit).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    fn commit(&self, batch: WriteBatch) -> Result<(), PortError> {
        if let Some((key, value)) = batch.rows.iter().find(|(key, value)| {
            key.len() > 512 || value.as_ref().is_some_and(|value| value.len() > 64 * 1024)
        }) {
            return Err(PortError::persistent(format!(
                "a key of {} bytes with a value of {} bytes is too large for the store",
                key.len(),
                value.as_ref().map_or(0, Vec::len)
            )));
        }
        let mut rows = lock(&self.0);
        for (key, value) in batch.rows {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
        Ok(())
    }

    fn clear(&self) -> Result<(), PortError> {
        lock(&self.0).clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn conforms() {
        let stores = Mutex::new(HashMap::new());
        crate::conformance::store_conformance(|name| {
            lock(&stores).entry(name).or_insert_with(|| Arc::new(MemoryStore::new())).clone()
                as Arc<dyn Store>
        });
    }
}
