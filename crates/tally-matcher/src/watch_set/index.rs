//! Items of some kinds with all that finds them: the filter, the table, the bytes.

use super::bloom::View;
use super::filter::Filter;
use super::item::{Item, Secret};
use super::store::{Id, Store};
use super::table::Table;

#[derive(Debug)]
pub(super) struct Index {
    secret: Secret,
    filter: Filter,
    table: Table,
    store: Store,
}

impl Index {
    pub(super) fn with_capacity(secret: Secret, entries: usize) -> Self {
        Self {
            secret,
            filter: Filter::with_capacity(entries),
            table: Table::with_capacity(entries),
            store: Store::default(),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn filter(&self) -> View<'_> {
        self.filter.view()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Item<'_>> {
        self.store.iter()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.filter
            .memory_bytes()
            .saturating_add(self.table.memory_bytes())
            .saturating_add(self.store.memory_bytes())
    }

    pub(super) fn contains(&self, item: Item<'_>) -> bool {
        self.id_of(item, self.secret.hash(item)).is_some()
    }

    /// `Some(false)` if it is in already, `None` if no room is left.
    pub(super) fn insert(&mut self, item: Item<'_>) -> Option<bool> {
        let hash = self.secret.hash(item);
        if self.id_of(item, hash).is_some() {
            return Some(false);
        }
        let id = self.store.insert(item)?;
        self.table.insert(hash, id, hash_by(&self.store, self.secret));
        self.filter.insert(self.secret.key(item));
        self.filter.advance(&self.store, self.secret);
        Some(true)
    }

    /// `false` if it was not in.
    pub(super) fn remove(&mut self, item: Item<'_>) -> bool {
        let hash = self.secret.hash(item);
        let Some(id) = self.id_of(item, hash) else { return false };
        // The bytes stay until the table has done with them.
        self.table.remove(hash, id, hash_by(&self.store, self.secret));
        if let Some(old) = self.store.remove(id)
            && let Some(moved) = self.store.get(id)
        {
            self.table.rename(self.secret.hash(moved), old, id);
            self.filter.carry(self.secret.key(moved));
        }
        self.filter.advance_shrinking(&self.store, self.secret);
        true
    }

    fn id_of(&self, item: Item<'_>, hash: u64) -> Option<Id> {
        self.table.find(hash, |id| self.store.is(*id, item))
    }
}

fn hash_by(store: &Store, secret: Secret) -> impl Fn(&Id) -> u64 {
    move |id| store.get(*id).map_or(0, |item| secret.hash(item))
}
