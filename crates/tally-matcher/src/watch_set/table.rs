//! Ids by hash, in many small tables, so that growing and shrinking touches one or two of them at a
//! time and never all.
//!
//! A small table doubles its memory when it is full, and tables that share the hashes evenly are all
//! full at the same number of ids: just then the whole would take twice what it needs. So the
//! hashes are shared out over [`SHELVES`] shelves of unequal width, each a linear hash table of its
//! own, whose tables are full at other times than those of the next shelf.

use hashbrown::HashTable;

use super::store::Id;

/// Shelves: each has the hashes of a share 2^(1/8) times that of the one before.
const SHELVES: usize = 8;
/// Where the shelves end, in units of 1/8192: running sums of 2^(n/8), scaled.
const SHELF_ENDS: [u64; SHELVES - 1] = [741, 1550, 2432, 3393, 4442, 5585, 6832];
/// Bits that choose the shelf.
const SHELF_SHIFT: u32 = 44;
const SHELF_MASK: u64 = 8191;
/// Ids a table of a shelf has on average, when another is split off. Between one and two times as
/// many are in those not split yet.
const SPLIT_ABOVE: usize = 1240;
/// Two tables are made one below this average.
const MERGE_BELOW: usize = 868;
/// The twenty bits below those of the shelf. The lower ones and the highest seven are what a table
/// itself goes by.
const SEGMENT_SHIFT: u32 = 24;

#[derive(Debug)]
pub(super) struct Table {
    shelves: [Shelf; SHELVES],
    len: usize,
}

impl Table {
    pub(super) fn with_capacity(entries: usize) -> Self {
        Self { shelves: std::array::from_fn(|_| Shelf::with_capacity(entries / SHELVES)), len: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The id with this hash that `is` the one wanted.
    pub(super) fn find(&self, hash: u64, is: impl FnMut(&Id) -> bool) -> Option<Id> {
        self.shelves.get(shelf_of(hash))?.find(hash, is)
    }

    /// Adds an id that is not in; `hash_of` is asked for the hashes of others, where they move.
    pub(super) fn insert(&mut self, hash: u64, id: Id, hash_of: impl Fn(&Id) -> u64) {
        if let Some(shelf) = self.shelves.get_mut(shelf_of(hash)) {
            shelf.insert(hash, id, hash_of);
            self.len = self.len.saturating_add(1);
        }
    }

    /// Takes an id out; `false` if it was not in.
    pub(super) fn remove(&mut self, hash: u64, id: Id, hash_of: impl Fn(&Id) -> u64) -> bool {
        let removed = self.shelves.get_mut(shelf_of(hash)).is_some_and(|s| s.remove(hash, id, hash_of));
        self.len = self.len.saturating_sub(usize::from(removed));
        removed
    }

    /// Puts `new` in the place of `old`, which has this hash too.
    pub(super) fn rename(&mut self, hash: u64, old: Id, new: Id) {
        if let Some(shelf) = self.shelves.get_mut(shelf_of(hash)) {
            shelf.rename(hash, old, new);
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.shelves.iter().map(Shelf::memory_bytes).fold(0, usize::saturating_add)
    }
}

fn shelf_of(hash: u64) -> usize {
    let place = (hash >> SHELF_SHIFT) & SHELF_MASK;
    SHELF_ENDS.iter().map(|end| usize::from(place >= *end)).sum()
}

/// A linear hash table: table `n` is split off from the one whose number lacks the highest bit of
/// `n`.
#[derive(Debug)]
struct Shelf {
    /// At least one.
    segments: Vec<HashTable<Id>>,
    len: usize,
}

impl Shelf {
    fn with_capacity(entries: usize) -> Self {
        let mut segments = Vec::new();
        segments.resize_with((entries / SPLIT_ABOVE).max(1), HashTable::new);
        Self { segments, len: 0 }
    }

    fn find(&self, hash: u64, is: impl FnMut(&Id) -> bool) -> Option<Id> {
        self.segments.get(self.segment_of(hash))?.find(hash, is).copied()
    }

    fn insert(&mut self, hash: u64, id: Id, hash_of: impl Fn(&Id) -> u64) {
        if self.len >= self.segments.len().saturating_mul(SPLIT_ABOVE) {
            self.split(&hash_of);
        }
        let segment = self.segment_of(hash);
        if let Some(segment) = self.segments.get_mut(segment) {
            segment.insert_unique(hash, id, hash_of);
            self.len = self.len.saturating_add(1);
        }
    }

    fn remove(&mut self, hash: u64, id: Id, hash_of: impl Fn(&Id) -> u64) -> bool {
        let segment = self.segment_of(hash);
        let Some(segment) = self.segments.get_mut(segment) else { return false };
        let Ok(entry) = segment.find_entry(hash, |held| *held == id) else { return false };
        entry.remove();
        self.len = self.len.saturating_sub(1);
        if self.len < self.segments.len().saturating_mul(MERGE_BELOW) {
            self.merge(hash_of);
        }
        true
    }

    fn rename(&mut self, hash: u64, old: Id, new: Id) {
        let segment = self.segment_of(hash);
        let held = self.segments.get_mut(segment).and_then(|s| s.find_mut(hash, |held| *held == old));
        if let Some(held) = held {
            *held = new;
        }
    }

    fn memory_bytes(&self) -> usize {
        let list = self.segments.capacity().saturating_mul(size_of::<HashTable<Id>>());
        self.segments.iter().map(HashTable::allocation_size).fold(list, usize::saturating_add)
    }

    fn segment_of(&self, hash: u64) -> usize {
        let number = (hash >> SEGMENT_SHIFT) as usize;
        let count = self.segments.len();
        let mask = count.next_power_of_two().wrapping_sub(1);
        if number & mask < count { number & mask } else { number & (mask >> 1) }
    }

    /// Adds a table and moves to it what belongs there now.
    fn split(&mut self, hash_of: &impl Fn(&Id) -> u64) {
        let new = self.segments.len();
        let Some(old) = self.segments.get_mut(without_highest_bit(new)) else { return };
        let old = std::mem::take(old);
        self.segments.push(HashTable::new());
        let hashed: Vec<(u64, Id)> = old.iter().map(|id| (hash_of(id), *id)).collect();
        let moving = hashed.iter().filter(|(hash, _)| self.segment_of(*hash) == new).count();
        let staying = hashed.len().saturating_sub(moving);
        for (at, len) in [(without_highest_bit(new), staying), (new, moving)] {
            if let Some(segment) = self.segments.get_mut(at) {
                *segment = HashTable::with_capacity(len);
            }
        }
        for (hash, id) in hashed {
            let at = self.segment_of(hash);
            if let Some(segment) = self.segments.get_mut(at) {
                segment.insert_unique(hash, id, hash_of);
            }
        }
    }

    /// Takes the last table away and puts what it has where it was split off from.
    fn merge(&mut self, hash_of: impl Fn(&Id) -> u64) {
        if self.segments.len() < 2 {
            return;
        }
        let Some(last) = self.segments.pop() else { return };
        let home = without_highest_bit(self.segments.len());
        if let Some(home) = self.segments.get_mut(home) {
            let room = home.len().saturating_add(last.len());
            home.shrink_to(room, &hash_of);
            for id in last {
                home.insert_unique(hash_of(&id), id, &hash_of);
            }
        }
        if self.segments.len() < self.segments.capacity() / 4 {
            self.segments.shrink_to(self.segments.len().saturating_mul(2));
        }
    }
}

/// Where table `n` was split off from.
const fn without_highest_bit(n: usize) -> usize {
    match n.checked_ilog2() {
        Some(bit) => n & !(1 << bit),
        None => 0,
    }
}
