//! Orders: their states and every index that follows from one.
//!
//! Not here: what a fact does to an order (`tally-order`).

use tally_events::{Deposit, OrderCreated, OrderQuoted, Place, Recorded};
use tally_order::{DeadlineKind, Exception, Order, Status, Version};
use tally_ports::{Change, PortError};
use tally_types::{BlockRef, ChainId, DepositKey, Height, OrderId, Position, Timestamp};

use super::at_hand::{Entry, Notified};
use super::{Fold, orphan};
use crate::overlay::Source;
use crate::{keys, rows};

/// What the indexes say of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facets {
    status: Status,
    version: u32,
    deadline: Option<(Timestamp, u8)>,
    closed: Option<Timestamp>,
    thresholds: Vec<(ChainId, Place, Height)>,
    finality: Vec<(ChainId, Place, Height)>,
    awaits_acceptance: bool,
}

impl Facets {
    pub(super) fn of(order: &Order) -> Self {
        Self {
            status: order.status(),
            version: order.version(),
            deadline: order.next_deadline().map(|next| (next.at, kind_byte(next.kind))),
            closed: order.closed_since(),
            thresholds: order.thresholds(),
            finality: order.awaited_finality(),
            awaits_acceptance: order.awaits_acceptance(),
        }
    }
}

/// A deadline's kind as it stands in keys.
pub(crate) const fn kind_byte(kind: DeadlineKind) -> u8 {
    match kind {
        DeadlineKind::Expiry => 1,
        DeadlineKind::Invalidation => 2,
        DeadlineKind::Unwatch => 3,
    }
}

impl Fold<'_> {
    pub(super) fn order_created(
        &mut self,
        fact: &OrderCreated,
        recorded: &Recorded,
    ) -> Result<(), PortError> {
        if self.order_entry(&fact.order)?.is_some() {
            return self.order_fact(&fact.order, recorded);
        }
        let Some(order) = Order::from_created(recorded) else { return Ok(()) };
        let created = order.created_at();
        self.rows.put(keys::by_merchant(order.merchant(), created, order.id()), []);
        self.rows.put(keys::by_creation(created, order.id()), []);
        let facets = Facets::of(&order);
        let mut notified = Notified::default();
        self.index(None, &facets, &order, &mut notified)?;
        self.changed = self.changed.saturating_add(1);
        let entry = Entry { order, notified, facets, parts: 0, changed: true };
        self.orders.put(fact.order.clone(), Some(Box::new(entry)));
        Ok(())
    }

    pub(super) fn order_quoted(&mut self, fact: &OrderQuoted, recorded: &Recorded) -> Result<(), PortError> {
        self.rows.put(keys::script(&fact.chain, &fact.script), rows::of_owner(&fact.order, fact.quote));
        self.order_fact(&fact.order, recorded)
    }

    /// A fact of an order's own subject.
    pub(super) fn order_fact(&mut self, order: &OrderId, recorded: &Recorded) -> Result<(), PortError> {
        if !self.touch(order, |order| order.apply(recorded))? {
            orphan(recorded);
        }
        Ok(())
    }

    /// A sighting of a deposit, in the mempool or in a block: one of ours if its script is.
    pub(super) fn deposit_met(
        &mut self,
        chain: &ChainId,
        deposit: &Deposit,
        block: Option<BlockRef>,
        recorded: &Recorded,
    ) -> Result<(), PortError> {
        let Some((order, _)) = rows::script_owner(self.rows.get(&keys::script(chain, &deposit.script))?)?
        else {
            return Ok(());
        };
        let Some(entry) = self.order_entry(&order)? else { return Ok(()) };
        if !entry.order.takes(chain, deposit) {
            self.done.left_out = self.done.left_out.saturating_add(1);
            return Ok(());
        }
        let shard = recorded.event.shard;
        let state = rows::shard(&self.rows, chain, shard)?;
        let connected = match (block, state.tip) {
            (Some(block), Some(tip)) if rows::is_connected(&self.rows, chain, shard, tip.height, block)? => {
                Some((block, (tip.height, state.finalized)))
            }
            _ => None,
        };
        let key = keys::deposit(chain, &deposit.key);
        if self.rows.get(&key)?.is_none() {
            self.rows.put(key, rows::of_order(&order));
        }
        self.touch(&order, |order| {
            order.apply(recorded);
            if let Some((block, tip)) = connected {
                order.connect(chain, shard, block, tip, recorded);
            }
        })?;
        Ok(())
    }

    /// A later fact of a deposit.
    pub(super) fn deposit_fact(
        &mut self,
        chain: &ChainId,
        deposit: &DepositKey,
        recorded: &Recorded,
    ) -> Result<(), PortError> {
        if let Some(order) = rows::order_id(self.rows.get(&keys::deposit(chain, deposit))?) {
            self.touch(&order, |order| order.apply(recorded))?;
        }
        Ok(())
    }

    pub(super) fn order_entry(&mut self, id: &OrderId) -> Result<Option<&mut Entry>, PortError> {
        if self.orders.get_mut(id).is_none() {
            let entry = self.read_entry(id)?;
            self.orders.put(id.clone(), entry);
        }
        Ok(self.orders.get_mut(id).and_then(Option::as_deref_mut))
    }

    fn read_entry(&self, id: &OrderId) -> Result<Option<Box<Entry>>, PortError> {
        let known = rows::order(&self.rows, id)?;
        Ok(known.map(|(order, parts)| {
            let facets = Facets::of(&order);
            Box::new(Entry { order, notified: Notified::default(), facets, parts, changed: false })
        }))
    }

    /// Changes an order and everything that follows; false where there is no such order.
    pub(super) fn touch(&mut self, id: &OrderId, change: impl FnOnce(&mut Order)) -> Result<bool, PortError> {
        let at_hand = match self.orders.get_mut(id) {
            Some(known) => known.take(),
            None => self.read_entry(id)?,
        };
        let Some(mut entry) = at_hand else {
            self.orders.put(id.clone(), None);
            return Ok(false);
        };
        change(&mut entry.order);
        // A fact that says nothing new leaves the same bytes: to find that out costs more than to write them.
        self.changed = self.changed.saturating_add(usize::from(!entry.changed));
        entry.changed = true;
        let now = Facets::of(&entry.order);
        let before = std::mem::replace(&mut entry.facets, now);
        if before != entry.facets {
            let Entry { order, notified, facets, .. } = &mut *entry;
            self.index(Some(&before), facets, order, notified)?;
        }
        self.orders.put(id.clone(), Some(entry));
        Ok(true)
    }

    /// Brings every index from what held before to what holds now.
    fn index(
        &mut self,
        before: Option<&Facets>,
        now: &Facets,
        order: &Order,
        notified: &mut Notified,
    ) -> Result<(), PortError> {
        let id = order.id();
        let old_deadline = before.and_then(|before| before.deadline);
        if old_deadline != now.deadline {
            if let Some((at, kind)) = old_deadline {
                self.rows.remove(keys::deadline(at, kind, id));
            }
            if let Some((at, kind)) = now.deadline {
                self.rows.put(keys::deadline(at, kind, id), []);
            }
        }
        let old_closed = before.and_then(|before| before.closed);
        if old_closed != now.closed {
            if let Some(at) = old_closed {
                self.rows.remove(keys::closed(at, id));
            }
            if let Some(at) = now.closed {
                self.rows.put(keys::closed(at, id), []);
            }
        }
        let old_thresholds = before.map_or(&[] as &[_], |before| before.thresholds.as_slice());
        for (chain, place, height) in old_thresholds.iter().filter(|old| !now.thresholds.contains(old)) {
            self.rows.remove(keys::threshold(chain, *height, *place, id));
        }
        for (chain, place, height) in now.thresholds.iter().filter(|new| !old_thresholds.contains(new)) {
            self.rows.put(keys::threshold(chain, *height, *place, id), []);
        }
        let old_finality = before.map_or(&[] as &[_], |before| before.finality.as_slice());
        for (chain, place, height) in old_finality.iter().filter(|old| !now.finality.contains(old)) {
            self.rows.remove(keys::finality(chain, *height, *place, id));
        }
        for (chain, place, height) in now.finality.iter().filter(|new| !old_finality.contains(new)) {
            self.rows.put(keys::finality(chain, *height, *place, id), []);
        }
        if before.is_some_and(|before| before.awaits_acceptance) != now.awaits_acceptance {
            if now.awaits_acceptance {
                self.rows.put(keys::awaiting(id), []);
            } else {
                self.rows.remove(keys::awaiting(id));
            }
        }
        self.count_status(before.map(|before| before.status), now.status)?;
        let before = before.map_or(0, |before| before.version);
        self.versions_reached(before, order)?;
        if order.version() > before { self.version_to_deliver(order, notified) } else { Ok(()) }
    }

    fn count_status(&mut self, before: Option<Status>, now: Status) -> Result<(), PortError> {
        if before == Some(now) {
            return Ok(());
        }
        if let Some(before) = before {
            let left = self.count(before.as_str(), 0, 1)?;
            self.done.counts.insert(before, left);
        }
        let standing = self.count(now.as_str(), 1, 0)?;
        self.done.counts.insert(now, standing);
        Ok(())
    }

    fn versions_reached(&mut self, before: u32, order: &Order) -> Result<(), PortError> {
        let undone = |version: &Version| {
            version.status == Status::Complete && version.exceptions.contains(Exception::Reorged)
        };
        let mut last: Option<&Version> = None;
        for version in order.versions() {
            if version.number > before {
                self.add_reached(version.position, version.number, order.id())?;
                self.done.changes.push(Change {
                    order: order.id().clone(),
                    version: version.number,
                    position: version.position,
                });
                if last.is_none_or(|last| last.status != version.status) {
                    self.done.entered.push(version.status);
                }
                if undone(version) && !last.is_some_and(undone) {
                    self.done.undone.push(order.id().clone());
                }
            }
            last = Some(version);
        }
        Ok(())
    }

    /// Adds a version to the last row of those for its position, or to a new one where that is full.
    fn add_reached(&mut self, position: Position, version: u32, order: &OrderId) -> Result<(), PortError> {
        let first = position.get() / keys::REACHED_POSITIONS;
        let mut at = match self.reached {
            Some((known, at)) if known == first => at,
            Some((known, _)) if known < first => 0,
            _ => {
                let (from, to) = keys::reached_at(position);
                let last = self.rows.range(&from, &to)?.pop().and_then(|(key, _)| keys::number_at(&key, 9));
                last.and_then(|last| u32::try_from(last).ok()).unwrap_or(0)
            }
        };
        let reached = rows::of_reached(position, version, order);
        while !self.rows.append(&keys::reached(position, at), &reached, rows::REACHED_MAX)? {
            at = at.saturating_add(1);
        }
        self.reached = Some((first, at));
        Ok(())
    }
}
