//! What is looked for: scripts and outpoints. A lookup costs one cache line where the answer is
//! no, which it nearly always is; where the line says maybe, the whole script is compared.
//!
//! Three parts: a blocked bloom filter (`bloom`), a table of 32-bit ids by hash, and the bytes
//! behind the ids (`store`). What a script is for is the caller's knowledge and not kept here.

mod bloom;
mod item;
mod prefetch;
mod store;

use hashbrown::HashTable;
use thiserror::Error;

use self::bloom::Bloom;
pub(crate) use self::item::Item;
use self::item::{KIND_COUNT, Kind, Secret};
use self::store::{Id, Store};
use crate::OutPoint;

/// Fewest keys the filter is sized for (6 KiB).
const BLOOM_CAPACITY_MIN: usize = 4096;

/// No more scripts of this length fit: half a billion are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the watch set is full at {held} entries")]
pub struct WatchSetFull {
    /// Scripts and outpoints held.
    pub held: usize,
}

/// A mutable set of scripts and outpoints, built for blocks in which almost nothing is in it.
///
/// Scripts have any length and any bytes. At ten million entries a script takes 31 bytes of memory
/// if it names a 20-byte hash and 43 bytes if it names a 32-byte one.
#[derive(Debug)]
pub struct WatchSet {
    secret: Secret,
    bloom: Bloom,
    table: HashTable<Id>,
    store: Store,
    /// Entries held of each kind: outputs of a kind that is not watched are passed over.
    live: [usize; KIND_COUNT],
}

impl WatchSet {
    /// An empty set.
    ///
    /// `seed` keys its hashes. It should be random and secret: who knows it can make scripts that
    /// cost a comparison each. It can never change what is found.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_capacity(seed, 0)
    }

    /// An empty set with room for `entries`, so that filling it never pauses to grow.
    #[must_use]
    pub fn with_capacity(seed: u64, entries: usize) -> Self {
        Self {
            secret: Secret::from_seed(seed),
            bloom: Bloom::with_capacity(entries.max(BLOOM_CAPACITY_MIN)),
            table: HashTable::with_capacity(entries),
            store: Store::default(),
            live: [0; KIND_COUNT],
        }
    }

    /// Watches a script; `false` if it was watched already.
    ///
    /// # Errors
    /// [`WatchSetFull`] beyond some 500 million entries of one shape; the set is as it was.
    pub fn insert_script(&mut self, script: &[u8]) -> Result<bool, WatchSetFull> {
        self.insert(Item::script(script))
    }

    /// Stops watching a script; `false` if it was not watched.
    pub fn remove_script(&mut self, script: &[u8]) -> bool {
        self.remove(Item::script(script))
    }

    /// Whether exactly this script is watched.
    #[must_use]
    pub fn contains_script(&self, script: &[u8]) -> bool {
        self.contains(Item::script(script))
    }

    /// Every script watched, in no order.
    pub fn scripts(&self) -> impl Iterator<Item = Vec<u8>> {
        let items = self.table.iter().filter_map(|id| self.store.get(*id));
        items.filter(|item| item.kind() != Kind::OutPoint).map(Item::to_bytes)
    }

    /// Number of scripts watched.
    #[must_use]
    pub fn script_count(&self) -> usize {
        self.len().saturating_sub(self.outpoint_count())
    }

    /// Watches an outpoint, so that what spends it is reported; `false` if it was watched already.
    ///
    /// # Errors
    /// As [`WatchSet::insert_script`].
    pub fn insert_outpoint(&mut self, outpoint: &OutPoint) -> Result<bool, WatchSetFull> {
        self.insert(Item::outpoint(&outpoint.to_bytes()))
    }

    /// Stops watching an outpoint; `false` if it was not watched.
    pub fn remove_outpoint(&mut self, outpoint: &OutPoint) -> bool {
        self.remove(Item::outpoint(&outpoint.to_bytes()))
    }

    /// Whether this outpoint is watched.
    #[must_use]
    pub fn contains_outpoint(&self, outpoint: &OutPoint) -> bool {
        self.contains(Item::outpoint(&outpoint.to_bytes()))
    }

    /// Number of outpoints watched.
    #[must_use]
    pub fn outpoint_count(&self) -> usize {
        self.live_of(Kind::OutPoint)
    }

    /// Number of scripts and outpoints watched.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether nothing is watched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Bytes of memory that the set has taken, all in.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            .saturating_add(self.bloom.memory_bytes())
            .saturating_add(self.table.allocation_size())
            .saturating_add(self.store.memory_bytes())
    }

    /// The key to look an item up by, or `None` if nothing of its kind is watched.
    #[inline(always)]
    pub(crate) fn key_of(&self, item: Item<'_>) -> Option<u64> {
        if self.live_of(item.kind()) == 0 { None } else { Some(self.secret.key(item)) }
    }

    /// Has the line that [`WatchSet::may_contain`] reads fetched into the cache.
    #[inline(always)]
    pub(crate) fn prefetch(&self, key: u64) {
        self.bloom.prefetch(key);
    }

    /// Whether the item with this key may be watched; `false` is certain.
    #[inline(always)]
    pub(crate) fn may_contain(&self, key: u64) -> bool {
        self.bloom.contains(key)
    }

    /// Whether exactly this item is watched; `key` is the item's.
    pub(crate) fn contains_with_key(&self, item: Item<'_>, key: u64) -> bool {
        self.table.find(key, |id| self.store.is(*id, item)).is_some()
    }

    fn contains(&self, item: Item<'_>) -> bool {
        self.contains_with_key(item, self.secret.key(item))
    }

    #[inline(always)]
    fn live_of(&self, kind: Kind) -> usize {
        self.live.get(kind as usize).copied().unwrap_or_default()
    }

    fn insert(&mut self, item: Item<'_>) -> Result<bool, WatchSetFull> {
        let key = self.secret.key(item);
        if self.contains_with_key(item, key) {
            return Ok(false);
        }
        let id = self.store.insert(item).ok_or(WatchSetFull { held: self.len() })?;
        let (secret, store) = (&self.secret, &self.store);
        self.table.insert_unique(key, id, |id| store.get(*id).map_or(0, |item| secret.key(item)));
        if let Some(live) = self.live.get_mut(item.kind() as usize) {
            *live = live.saturating_add(1);
        }
        self.bloom.insert(key);
        if self.bloom.is_full() {
            self.grow_bloom();
        }
        Ok(true)
    }

    fn remove(&mut self, item: Item<'_>) -> bool {
        let key = self.secret.key(item);
        let Ok(entry) = self.table.find_entry(key, |id| self.store.is(*id, item)) else {
            return false;
        };
        let (id, _) = entry.remove();
        self.store.remove(id);
        if let Some(live) = self.live.get_mut(item.kind() as usize) {
            *live = live.saturating_sub(1);
        }
        true
    }

    /// Starts a new generation of the filter with room for as many again. Removed keys are not in
    /// it, so a set that only turns over keeps its size.
    fn grow_bloom(&mut self) {
        let capacity = self.len().saturating_mul(2).max(BLOOM_CAPACITY_MIN);
        let mut bloom = Bloom::with_capacity(capacity);
        for id in &self.table {
            if let Some(item) = self.store.get(*id) {
                bloom.insert(self.secret.key(item));
            }
        }
        self.bloom = bloom;
    }
}

#[cfg(test)]
mod tests;
