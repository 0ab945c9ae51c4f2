//! What is looked for: scripts and outpoints. A lookup costs one cache line where the answer is
//! no, which it nearly always is; where the line says maybe, the whole script is compared.
//!
//! Scripts and outpoints each have an index of three parts: a blocked bloom filter (`bloom`; in
//! generations, `filter`), a table of 32-bit ids by hash (`table`), and the bytes behind the ids
//! (`store`). All grow and shrink in small steps. What a script is for is the caller's knowledge
//! and not kept here.

mod bloom;
mod filter;
mod index;
mod item;
mod pages;
mod prefetch;
mod store;
mod table;

use thiserror::Error;

pub(crate) use self::bloom::View;
use self::index::Index;
pub(crate) use self::item::{Item, Secret};
use crate::OutPoint;

/// No more scripts of this shape fit: a quarter of a billion are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the watch set is full at {held} entries")]
pub struct WatchSetFull {
    /// Scripts and outpoints held.
    pub held: usize,
}

/// A mutable set of scripts and outpoints, built for blocks in which almost nothing is in it.
///
/// Scripts have any length and any bytes. At ten million entries a script takes some 32 bytes of
/// memory if it names a 20-byte hash and 44 bytes if it names a 32-byte one. No insertion or removal
/// takes longer than a few milliseconds, however many are held, and what is removed is memory given
/// back.
#[derive(Debug)]
pub struct WatchSet {
    secret: Secret,
    scripts: Index,
    outpoints: Index,
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

    /// An empty set that expects this many scripts.
    #[must_use]
    pub fn with_capacity(seed: u64, scripts: usize) -> Self {
        let secret = Secret::from_seed(seed);
        let (scripts, outpoints) = (Index::with_capacity(secret, scripts), Index::with_capacity(secret, 0));
        Self { secret, scripts, outpoints }
    }

    /// Watches a script; `false` if it was watched already.
    ///
    /// # Errors
    /// [`WatchSetFull`] beyond some 250 million entries of one shape; the set is as it was.
    pub fn insert_script(&mut self, script: &[u8]) -> Result<bool, WatchSetFull> {
        let held = self.len();
        self.scripts.insert(Item::script(script)).ok_or(WatchSetFull { held })
    }

    /// Stops watching a script; `false` if it was not watched.
    pub fn remove_script(&mut self, script: &[u8]) -> bool {
        self.scripts.remove(Item::script(script))
    }

    /// Whether exactly this script is watched.
    #[must_use]
    pub fn contains_script(&self, script: &[u8]) -> bool {
        self.scripts.contains(Item::script(script))
    }

    /// Every script watched, in no order.
    pub fn scripts(&self) -> impl Iterator<Item = Vec<u8>> {
        self.scripts.iter().map(Item::to_bytes)
    }

    /// Number of scripts watched.
    #[must_use]
    pub const fn script_count(&self) -> usize {
        self.scripts.len()
    }

    /// Watches an outpoint, so that what spends it is reported; `false` if it was watched already.
    ///
    /// # Errors
    /// As [`WatchSet::insert_script`].
    pub fn insert_outpoint(&mut self, outpoint: &OutPoint) -> Result<bool, WatchSetFull> {
        let held = self.len();
        self.outpoints.insert(Item::outpoint(&outpoint.to_bytes())).ok_or(WatchSetFull { held })
    }

    /// Stops watching an outpoint; `false` if it was not watched.
    pub fn remove_outpoint(&mut self, outpoint: &OutPoint) -> bool {
        self.outpoints.remove(Item::outpoint(&outpoint.to_bytes()))
    }

    /// Whether this outpoint is watched.
    #[must_use]
    pub fn contains_outpoint(&self, outpoint: &OutPoint) -> bool {
        self.outpoints.contains(Item::outpoint(&outpoint.to_bytes()))
    }

    /// Number of outpoints watched.
    #[must_use]
    pub const fn outpoint_count(&self) -> usize {
        self.outpoints.len()
    }

    /// Number of scripts and outpoints watched.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.scripts.len().saturating_add(self.outpoints.len())
    }

    /// Whether nothing is watched.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that the set has taken, all in.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            .saturating_add(self.scripts.memory_bytes())
            .saturating_add(self.outpoints.memory_bytes())
    }

    /// What the keys of this set are made with.
    pub(crate) const fn secret(&self) -> Secret {
        self.secret
    }

    /// The filter to pass the keys of scripts through.
    pub(crate) fn script_filter(&self) -> View<'_> {
        self.scripts.filter()
    }

    /// The filter to pass the keys of outpoints through.
    pub(crate) fn outpoint_filter(&self) -> View<'_> {
        self.outpoints.filter()
    }

    /// Whether this outpoint is watched; as the block has it.
    pub(crate) fn contains_raw_outpoint(&self, outpoint: &[u8; 36]) -> bool {
        self.outpoints.contains(Item::outpoint(outpoint))
    }
}

#[cfg(test)]
mod tests;
