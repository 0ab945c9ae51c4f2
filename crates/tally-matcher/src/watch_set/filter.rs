//! The filter while its set grows and shrinks. A new generation is filled a few keys at a time, with
//! each change of the set, so that no change waits for all of them; meanwhile the old one answers.

use super::bloom::{Bloom, View};
use super::item::Secret;
use super::store::{Cursor, Store};

/// Fewest keys a filter is sized for (8 KiB).
const CAPACITY_MIN: usize = 4096;
/// Keys carried over with each change of the set. A generation is made for half as many again as
/// are held, and is whole when an eighth of that has changed.
const CARRIED: usize = 8;
/// A filter made for so many times what is held is too large.
const OVERSIZED: usize = 3;

#[derive(Debug)]
pub(super) struct Filter {
    now: Bloom,
    next: Option<Next>,
}

/// A generation on its way: it has every key inserted since it began and those before the cursor.
#[derive(Debug)]
struct Next {
    bloom: Bloom,
    cursor: Cursor,
}

impl Filter {
    pub(super) fn with_capacity(keys: usize) -> Self {
        Self { now: Bloom::with_capacity(keys.max(CAPACITY_MIN)), next: None }
    }

    pub(super) fn view(&self) -> View<'_> {
        self.now.view()
    }

    /// Takes the key of an item that is in the store now, be it new or moved to another place.
    pub(super) fn insert(&mut self, key: u64) {
        self.now.insert(key);
        self.carry(key);
    }

    /// Takes the key of an item that was moved to another place in the store: the cursor may have
    /// passed that place already.
    pub(super) fn carry(&mut self, key: u64) {
        if let Some(next) = &mut self.next {
            next.bloom.insert(key);
        }
    }

    /// Begins a new generation if this one is overfull, or goes on with the one begun.
    pub(super) fn advance(&mut self, store: &Store, secret: Secret) {
        match &self.next {
            Some(_) => self.carry_on(store, secret),
            None if self.now.is_overfull() => self.begin(store.len()),
            None => {}
        }
    }

    /// Begins a new generation if this one is far too large since an item was removed, or goes on
    /// with the one begun. (A set that was announced is too large until it is filled.)
    pub(super) fn advance_shrinking(&mut self, store: &Store, secret: Secret) {
        let too_large =
            self.now.capacity() > CAPACITY_MIN && store.len().saturating_mul(OVERSIZED) < self.now.capacity();
        if self.next.is_none() && too_large {
            self.begin(store.len());
        } else {
            self.advance(store, secret);
        }
    }

    fn begin(&mut self, held: usize) {
        let bloom = Bloom::with_capacity(held.saturating_add(held / 2).max(CAPACITY_MIN));
        self.next = Some(Next { bloom, cursor: Cursor::default() });
    }

    fn carry_on(&mut self, store: &Store, secret: Secret) {
        let Some(next) = &mut self.next else { return };
        for _ in 0..CARRIED {
            match store.next(&mut next.cursor) {
                Some(item) => next.bloom.insert(secret.key(item)),
                None => {
                    if let Some(next) = self.next.take() {
                        self.now = next.bloom;
                    }
                    return;
                }
            }
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let next = self.next.as_ref().map_or(0, |next| next.bloom.memory_bytes());
        self.now.memory_bytes().saturating_add(next)
    }
}
