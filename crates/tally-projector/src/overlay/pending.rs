//! Rows that are not committed yet: their bytes side by side in one buffer, each row found by its key's hash.
//!
//! A commit may have a hundred thousand rows of some forty bytes. With memory of its own for each key and value, most
//! of a replay's time would go into getting and freeing that memory; here it is used again by the next commit.
//!
//! Not here: what the store has (`overlay`).

use std::hash::BuildHasher;
use std::ops::Range;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use tally_ports::Row;

/// Memory that is kept for the next commit, however little this one took of it.
const KEPT_BYTES: usize = 1 << 20;

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It has a value.
    Set,
    /// It goes.
    Removed,
    /// It went, and the store never had it: nothing needs to be said of it.
    Forgotten,
}

/// A row: where its key and its value lie.
struct Slot {
    key_at: usize,
    value_at: usize,
    key_len: u32,
    value_len: u32,
    /// The memory for the value.
    room: u32,
    fate: Fate,
}

/// Lengths of keys and values are far below this.
fn short(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn reach(at: usize, length: u32) -> Range<usize> {
    at..at.saturating_add(length as usize)
}

impl Slot {
    fn key(&self) -> Range<usize> {
        reach(self.key_at, self.key_len)
    }

    fn value(&self) -> Option<Range<usize>> {
        (self.fate == Fate::Set).then(|| reach(self.value_at, self.value_len))
    }

    /// Whether the store needs to hear of it.
    fn counts(&self) -> bool {
        self.fate != Fate::Forgotten
    }
}

/// Changes by key.
#[derive(Default)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    /// Where each key's slot is, with a part of the key's hash.
    places: HashTable<(u32, u32)>,
    hasher: DefaultHashBuilder,
    /// Slots that the store needs to hear of.
    count: usize,
    /// Slots in key order, while they are sorted: keys' beginnings, and which.
    order: Vec<(u128, u32)>,
}

/// A hash for the table, from the part of it that is kept.
fn spread(part: u32) -> u64 {
    u64::from(part).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Pending {
    /// How many rows the store will hear of.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn at(&self, slot: u32) -> Option<&Slot> {
        self.slots.get(slot as usize)
    }

    /// What becomes of a row, where that is known: a value, or none.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        let slot = self.at(self.find(key)?)?;
        Some(slot.value().and_then(|at| self.bytes.get(at)))
    }

    fn find(&self, key: &[u8]) -> Option<u32> {
        let part = self.hasher.hash_one(key) as u32;
        let same = |place: &(u32, u32)| {
            place.0 == part && self.at(place.1).is_some_and(|slot| self.bytes.get(slot.key()) == Some(key))
        };
        self.places.find(spread(part), same).map(|place| place.1)
    }

    /// The slot of a key, made if need be. Also whether it was made.
    fn slot(&mut self, key: &[u8]) -> (u32, bool) {
        let part = self.hasher.hash_one(key) as u32;
        let Self { bytes, slots, places, .. } = self;
        let same = |place: &(u32, u32)| {
            let key_at = slots.get(place.1 as usize).map(Slot::key);
            place.0 == part && key_at.is_some_and(|at| bytes.get(at) == Some(key))
        };
        match places.entry(spread(part), same, |place| spread(place.0)) {
            Entry::Occupied(known) => (known.get().1, false),
            Entry::Vacant(place) => {
                let at = short(slots.len());
                place.insert((part, at));
                let key_at = bytes.len();
                bytes.extend_from_slice(key);
                let (key_len, value_at) = (short(key.len()), bytes.len());
                slots.push(Slot { key_at, value_at, key_len, value_len: 0, room: 0, fate: Fate::Removed });
                (at, true)
            }
        }
    }

    /// Changes one slot, and counts it or not from then on.
    fn change(&mut self, at: u32, made: bool, change: impl FnOnce(&mut Slot, &mut Vec<u8>)) {
        let Some(slot) = self.slots.get_mut(at as usize) else { return };
        let before = !made && slot.counts();
        change(slot, &mut self.bytes);
        self.count = self.count.saturating_add(slot.counts().into()).saturating_sub(before.into());
    }

    /// Sets a row.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        let (at, made) = self.slot(key);
        self.change(at, made, |slot, bytes| {
            slot.fate = Fate::Set;
            slot.value_len = short(value.len());
            let fits = slot.value_len <= slot.room;
            match bytes.get_mut(reach(slot.value_at, slot.value_len)).filter(|_| fits) {
                Some(place) => place.copy_from_slice(value),
                None => {
                    (slot.value_at, slot.room) = (bytes.len(), slot.value_len);
                    bytes.extend_from_slice(value);
                }
            }
        });
    }

    /// Removes a row. Where the store has `never` had it, it need not hear of that.
    pub(super) fn remove(&mut self, key: &[u8], never: bool) {
        let (at, made) = self.slot(key);
        self.change(at, made, |slot, _| slot.fate = if never { Fate::Forgotten } else { Fate::Removed });
    }

    /// Adds to a row that has a value here, if no more than `bytes_max` comes of it; answers whether it did.
    pub(super) fn append(&mut self, key: &[u8], more: &[u8], bytes_max: usize) -> bool {
        let Some(slot) = self.find(key).and_then(|at| self.slots.get_mut(at as usize)) else { return false };
        let Some(value) = slot.value() else { return false };
        let length = value.len().saturating_add(more.len());
        if length > bytes_max {
            return false;
        }
        if (slot.room as usize) < length {
            // Twice the room, so that a row that grows is not moved each time.
            let room = length.saturating_mul(2);
            slot.value_at = self.bytes.len();
            self.bytes.extend_from_within(value.clone());
            self.bytes.resize(slot.value_at.saturating_add(room), 0);
            slot.room = short(room);
        }
        let end = slot.value_at.saturating_add(value.len());
        if let Some(place) = self.bytes.get_mut(end..end.saturating_add(more.len())) {
            place.copy_from_slice(more);
        }
        slot.value_len = short(length);
        true
    }

    fn row(&self, slot: &Slot) -> Row<'_> {
        let key = self.bytes.get(slot.key()).unwrap_or_default();
        (key, slot.value().and_then(|at| self.bytes.get(at)))
    }

    /// Every row the store needs to hear of, in no order.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.slots.iter().filter(|slot| slot.counts()).map(|slot| self.row(slot))
    }

    /// The same rows in key order. Compared by their keys' beginnings side by side first: to follow each key into
    /// memory costs more than all the rest.
    pub(super) fn sorted(&mut self) -> Vec<Row<'_>> {
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        let counted = self.slots.iter().enumerate().filter(|(_, slot)| slot.counts());
        order.extend(counted.map(|(at, slot)| (beginning(self.row(slot).0), short(at))));
        let key = |at: u32| self.at(at).map(|slot| self.row(slot).0);
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| key(a.1).cmp(&key(b.1))));
        self.order = order;
        self.order.iter().filter_map(|(_, at)| self.at(*at)).map(|slot| self.row(slot)).collect()
    }

    /// Forgets everything, and keeps the memory.
    pub(super) fn clear(&mut self) {
        let spare = self.bytes.len().saturating_mul(4).max(KEPT_BYTES);
        if self.bytes.capacity() > spare {
            *self = Self::default();
            return;
        }
        self.bytes.clear();
        self.slots.clear();
        self.places.clear();
        self.count = 0;
    }
}

/// A key's first 16 bytes as a number that sorts as they do.
fn beginning(key: &[u8]) -> u128 {
    match key.first_chunk() {
        Some(bytes) => u128::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 16];
            bytes.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
            u128::from_be_bytes(bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Put(u8, usize),
        Remove(u8),
        Append(u8, usize),
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..40_u8, 0..60_usize).prop_map(|(key, length)| Step::Put(key, length)),
            3 => (0..40_u8).prop_map(Step::Remove),
            3 => (0..40_u8, 0..60_usize).prop_map(|(key, length)| Step::Append(key, length)),
            1 => Just(Step::Clear),
        ];
        prop::collection::vec(step, 1..200)
    }

    /// Keys of several lengths; of some, one is the beginning of another.
    fn key(number: u8) -> Vec<u8> {
        b"a key of some length/0123456789"[..usize::from(number) % 25 + 1]
            .iter()
            .chain([&number])
            .copied()
            .collect()
    }

    proptest! {
        #[test]
        fn it_is_a_map_of_changes(steps in steps(), stored in prop::collection::vec(any::<bool>(), 40)) {
            let mut pending = Pending::default();
            let mut model: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
            let new = |number: u8| !stored[usize::from(number)];
            for (round, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Put(number, length) => {
                        let value = vec![round as u8; length];
                        pending.put(&key(number), &value);
                        model.insert(key(number), Some(value));
                    }
                    Step::Remove(number) => {
                        pending.remove(&key(number), new(number));
                        model.insert(key(number), None);
                    }
                    Step::Append(number, length) => {
                        let more = vec![round as u8; length];
                        let fits = match model.get_mut(&key(number)) {
                            Some(Some(value)) if value.len() + length <= 100 => {
                                value.extend_from_slice(&more);
                                true
                            }
                            _ => false,
                        };
                        prop_assert_eq!(pending.append(&key(number), &more, 100), fits);
                    }
                    Step::Clear => {
                        pending.clear();
                        model.clear();
                    }
                }
                for number in 0..40 {
                    let want = model.get(&key(number)).map(|value| value.as_deref());
                    prop_assert_eq!(pending.get(&key(number)), want);
                }
                let heard = |key: &[u8], value: &Option<Vec<u8>>| value.is_some() || !new(*key.last().unwrap());
                let want: Vec<_> = model.iter().filter(|(key, value)| heard(key, value)).collect();
                prop_assert_eq!(pending.len(), want.len());
                let mut rows: Vec<_> = pending.rows().map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect();
                rows.sort();
                prop_assert_eq!(rows.iter().map(|(key, value)| (key, value)).collect::<Vec<_>>(), want);
                let sorted: Vec<_> = pending.sorted().into_iter().map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect();
                prop_assert_eq!(sorted, rows);
            }
        }
    }

    #[test]
    fn a_large_commits_memory_is_not_kept_for_small_ones() {
        let mut pending = Pending::default();
        for number in 0..100_000_u32 {
            pending.put(&number.to_be_bytes(), &[7; 30]);
        }
        pending.clear();
        assert!(pending.bytes.capacity() > KEPT_BYTES, "the next one is as large");
        pending.put(b"a", b"b");
        pending.clear();
        assert!(pending.bytes.capacity() <= KEPT_BYTES && pending.slots.capacity() < 1_000);
    }
}
