//! Orders at hand: most facts are about an order that another fact was about a moment ago.
//!
//! Kept in two generations. Whatever is asked for moves to the younger one; once that is half of what is kept, the
//! older one goes and the younger takes its place. So memory does not grow with a commit's size, and what a fold works
//! on stays in the processor's cache.
//!
//! Not here: writing orders to their rows (`fold`).

use hashbrown::HashMap;
use tally_order::Order;
use tally_types::OrderId;

use super::orders::Facets;
use crate::rows::DeliveryState;

/// An order that was read or made by this fold.
pub(super) struct Entry {
    pub(super) order: Order,
    /// What became of its versions at its own `notify_url`, once that was asked for.
    pub(super) notified: Notified,
    /// What the indexes say of it.
    pub(super) facets: Facets,
    /// How many rows it takes in the store.
    pub(super) parts: u8,
    pub(super) changed: bool,
}

/// Deliveries to an order's own `notify_url`.
#[derive(Default)]
pub(super) struct Notified {
    pub(super) state: Option<DeliveryState>,
    /// Whether it differs from the store.
    pub(super) changed: bool,
}

type Generation = HashMap<OrderId, Option<Box<Entry>>>;

/// Orders that were read or made lately; none where there is no such order.
#[derive(Default)]
pub(super) struct AtHand {
    younger: Generation,
    older: Generation,
}

impl AtHand {
    /// What is at hand of an order, which counts as asking for it.
    pub(super) fn get_mut(&mut self, id: &OrderId) -> Option<&mut Option<Box<Entry>>> {
        if !self.younger.contains_key(id) {
            let (id, entry) = self.older.remove_entry(id)?;
            self.younger.insert(id, entry);
        }
        self.younger.get_mut(id)
    }

    /// Puts an order in, or that there is none.
    pub(super) fn put(&mut self, id: OrderId, entry: Option<Box<Entry>>) {
        self.younger.insert(id, entry);
    }

    /// Every order at hand.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        let all = self.younger.values_mut().chain(self.older.values_mut());
        all.filter_map(|entry| entry.as_deref_mut())
    }

    /// The orders that have to go so that no more than `orders_max` are at hand, about.
    pub(super) fn gone(&mut self, orders_max: usize) -> impl Iterator<Item = Box<Entry>> {
        let gone = match self.younger.len() >= (orders_max / 2).max(1) {
            true => std::mem::replace(&mut self.older, std::mem::take(&mut self.younger)),
            false => Generation::new(),
        };
        gone.into_values().flatten()
    }
}
