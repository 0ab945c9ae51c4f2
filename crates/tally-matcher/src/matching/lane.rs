//! Keys on their way through a filter.
//!
//! A lookup in a large filter is a cache miss. So the processor is told of each key's line as soon
//! as the key is known, and the key is looked up when that line has come: the misses overlap, and
//! the walk goes on meanwhile. Lookups are made 32 at a time, in one run without branches: one by
//! one between the steps of the walk they cost more, for the walk is all branches and its
//! predictor loses its thread.

use crate::watch_set::View;

/// Keys looked up in one run. As many again are on their way while these are looked up.
const RUN: usize = 32;
const SLOTS: usize = 2 * RUN;

/// Keys and what the caller knows them by.
pub(super) struct Lane<'s> {
    filter: View<'s>,
    keys: [u64; SLOTS],
    places: [Place; SLOTS],
    pushed: usize,
    passed: Vec<Place>,
}

/// Bytes of a block.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    pub(super) offset: u32,
    pub(super) len: u32,
}

impl<'s> Lane<'s> {
    pub(super) const fn new(filter: View<'s>) -> Self {
        let nowhere = Place { offset: 0, len: 0 };
        Self { filter, keys: [0; SLOTS], places: [nowhere; SLOTS], pushed: 0, passed: Vec::new() }
    }

    #[inline(always)]
    pub(super) fn push(&mut self, key: u64, place: Place) {
        self.filter.prefetch(key);
        let slot = self.pushed % SLOTS;
        if let (Some(to_key), Some(to_place)) = (self.keys.get_mut(slot), self.places.get_mut(slot)) {
            *to_key = key;
            *to_place = place;
        }
        self.pushed = self.pushed.wrapping_add(1);
        if self.pushed.is_multiple_of(RUN) {
            self.look_up_older_run();
        }
    }

    /// What the filter let through, in the order it was pushed.
    pub(super) fn finish(mut self) -> Vec<Place> {
        let looked_up = (self.pushed / RUN).saturating_sub(1).saturating_mul(RUN);
        for number in looked_up..self.pushed {
            let slot = number % SLOTS;
            if let (Some(key), Some(place)) = (self.keys.get(slot), self.places.get(slot))
                && self.filter.may_contain(*key)
            {
                self.passed.push(*place);
            }
        }
        self.passed
    }

    /// Looks up the run before the one that was just filled.
    #[inline(never)]
    fn look_up_older_run(&mut self) {
        if self.pushed < SLOTS {
            return;
        }
        let (first, second) = (self.keys.as_chunks::<RUN>().0, self.places.as_chunks::<RUN>().0);
        let older = usize::from(self.pushed.is_multiple_of(SLOTS)) ^ 1;
        let (Some(keys), Some(places)) = (first.get(older), second.get(older)) else { return };
        let filter = self.filter;
        let (mut passed, mut count) = ([0_u8; RUN], 0_usize);
        for (slot, key) in (0..).zip(keys) {
            if let Some(to) = passed.get_mut(count % RUN) {
                *to = slot;
            }
            count = count.wrapping_add(usize::from(filter.may_contain(*key)));
        }
        for slot in passed.iter().take(count) {
            if let Some(place) = places.get(usize::from(*slot)) {
                self.passed.push(*place);
            }
        }
    }
}
