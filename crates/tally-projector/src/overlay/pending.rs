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
struct Slot {
    key: Range<usize>,
    value: Option<Range<usize>>,
    /// Where the memory for the value ends.
    room: usize,
    /// Removed, and the store never had it: nothing needs to be said of it.
    forgotten: bool,
}

impl Slot {
    /// Whether the store needs to hear of it.
    fn counts(&self) -> bool {
        self.value.is_some() || !self.forgotten
    }
}

/// Changes by key.
#[derive(Default)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    /// Where each key's slot is, with the key's hash.
    places: HashTable<(u64, usize)>,
    hasher: DefaultHashBuilder,
    /// Slots that the store needs to hear of.
    count: usize,
    /// Slots in key order, while they are sorted: keys' beginnings, and which.
    order: Vec<(u128, usize)>,
}

impl Pending {
    /// How many rows the store will hear of.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// What becomes of a row, where that is known: a value, or none.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        let slot = self.slots.get(self.find(key)?)?;
        Some(slot.value.clone().and_then(|at| self.bytes.get(at)))
    }

    fn find(&self, key: &[u8]) -> Option<usize> {
        let hash = self.hasher.hash_one(key);
        let found = self.places.find(hash, |place| place.0 == hash && self.has_key(place.1, key));
        found.map(|place| place.1)
    }

    fn has_key(&self, slot: usize, key: &[u8]) -> bool {
        self.slots.get(slot).is_some_and(|slot| self.bytes.get(slot.key.clone()) == Some(key))
    }

    /// The slot of a key, made if need be. Also whether it was made.
    fn slot(&mut self, key: &[u8]) -> (usize, bool) {
        let hash = self.hasher.hash_one(key);
        let Self { bytes, slots, places, .. } = self;
        let same = |place: &(u64, usize)| {
            let key_at = slots.get(place.1).map(|slot| slot.key.clone());
            place.0 == hash && key_at.is_some_and(|at| bytes.get(at) == Some(key))
        };
        match places.entry(hash, same, |place| place.0) {
            Entry::Occupied(known) => (known.get().1, false),
            Entry::Vacant(place) => {
                let at = slots.len();
                place.insert((hash, at));
                let start = bytes.len();
                bytes.extend_from_slice(key);
                let end = bytes.len();
                slots.push(Slot { key: start..end, value: None, room: end, forgotten: false });
                (at, true)
            }
        }
    }

    /// Changes one slot, and counts it or not from then on.
    fn change(&mut self, at: usize, made: bool, change: impl FnOnce(&mut Slot, &mut Vec<u8>)) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        let before = !made && slot.counts();
        change(slot, &mut self.bytes);
        self.count = self.count.saturating_add(slot.counts().into()).saturating_sub(before.into());
    }

    /// Sets a row.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        let (at, made) = self.slot(key);
        self.change(at, made, |slot, bytes| {
            let old = slot.value.take().map_or(slot.room, |old| old.start);
            slot.value =
                Some(match bytes.get_mut(old..slot.room).and_then(|room| room.get_mut(..value.len())) {
                    Some(place) => {
                        place.copy_from_slice(value);
                        old..old.saturating_add(value.len())
                    }
                    None => {
                        let start = bytes.len();
                        bytes.extend_from_slice(value);
                        slot.room = bytes.len();
                        start..slot.room
                    }
                });
        });
    }

    /// Removes a row. Where the store has `never` had it, it need not hear of that.
    pub(super) fn remove(&mut self, key: &[u8], never: bool) {
        let (at, made) = self.slot(key);
        self.change(at, made, |slot, _| {
            slot.value = None;
            slot.forgotten = never;
        });
    }

    /// Adds to a row that has a value here, if no more than `bytes_max` comes of it; answers whether it did.
    pub(super) fn append(&mut self, key: &[u8], more: &[u8], bytes_max: usize) -> bool {
        let Some(slot) = self.find(key).and_then(|at| self.slots.get_mut(at)) else { return false };
        let Some(value) = slot.value.clone() else { return false };
        let length = value.len().saturating_add(more.len());
        if length > bytes_max {
            return false;
        }
        let mut start = value.start;
        if slot.room.saturating_sub(start) < length {
            // Twice the room, so that a row that grows is not moved each time.
            let room = length.saturating_mul(2);
            start = self.bytes.len();
            self.bytes.extend_from_within(value.clone());
            self.bytes.resize(start.saturating_add(room), 0);
            slot.room = self.bytes.len();
        }
        let end = start.saturating_add(value.len());
        let to = end.saturating_add(more.len());
        if let Some(place) = self.bytes.get_mut(end..to) {
            place.copy_from_slice(more);
        }
        slot.value = Some(start..to);
        true
    }

    fn row(&self, slot: &Slot) -> Row<'_> {
        let key = self.bytes.get(slot.key.clone()).unwrap_or_default();
        (key, slot.value.clone().and_then(|at| self.bytes.get(at)))
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
        order.extend(counted.map(|(at, slot)| (beginning(self.row(slot).0), at)));
        let key = |at: usize| self.slots.get(at).map(|slot| self.row(slot).0);
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| key(a.1).cmp(&key(b.1))));
        self.order = order;
        self.order.iter().filter_map(|(_, at)| self.slots.get(*at)).map(|slot| self.row(slot)).collect()
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
