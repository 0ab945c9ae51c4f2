//! What is to be delivered: a version that no delivery fact covers.
//!
//! Not here: sending, and when to try again (`tally-notifier` says so in its facts).

use tally_events::{DeliveryAttempted, DeliveryOutcome};
use tally_order::Order;
use tally_ports::PortError;
use tally_types::{OrderId, Position, Timestamp};

use super::Fold;
use super::at_hand::Notified;
use crate::rows::{BACKLOG, DeliveryState};
use crate::{codec, keys, rows};

/// The endpoint that stands for an order's own `notify_url`.
pub(crate) const NOTIFY: &str = "notify";

/// An endpoint's state as a row.
pub(super) fn row(order: &OrderId, state: &DeliveryState) -> Result<Vec<u8>, PortError> {
    codec::to_bytes(format_args!("the deliveries of order {order}"), state)
}

impl Fold<'_> {
    /// A new version is due at once, whatever became of the one before.
    pub(super) fn version_to_deliver(
        &mut self,
        order: &Order,
        notified: &mut Notified,
    ) -> Result<(), PortError> {
        if order.notify_url().is_none_or(str::is_empty) {
            return Ok(());
        }
        // Of a new order nothing was delivered yet: no need to look.
        let mut state = match notified.state.take() {
            Some(state) => state,
            None if order.version() == 1 => DeliveryState::default(),
            None => rows::delivery(&self.rows, order.id(), NOTIFY)?,
        };
        if state.covered < order.version() {
            self.reschedule(order.id(), NOTIFY, &mut state, Some(order.updated_at()))?;
            self.note(notified);
        }
        notified.state = Some(state);
        Ok(())
    }

    /// The state will differ from the store's row.
    fn note(&mut self, notified: &mut Notified) {
        self.changed = self.changed.saturating_add(usize::from(!notified.changed));
        notified.changed = true;
    }

    pub(super) fn delivery_attempted(
        &mut self,
        fact: &DeliveryAttempted,
        position: Position,
    ) -> Result<(), PortError> {
        let Some(entry) = self.order_entry(&fact.order)? else {
            return Ok(());
        };
        let current = entry.order.version();
        self.with_delivery(&fact.order, &fact.endpoint, |fold, state| {
            fold.attempted(fact, position, current, state)?;
            Ok(true)
        })
    }

    /// Works on an endpoint's state, wherever it is at hand: that of an order's own endpoint is kept with the order.
    /// `work` answers whether it changed anything.
    pub(super) fn with_delivery(
        &mut self,
        order: &OrderId,
        endpoint: &str,
        work: impl FnOnce(&mut Self, &mut DeliveryState) -> Result<bool, PortError>,
    ) -> Result<(), PortError> {
        if endpoint != NOTIFY {
            let mut state = rows::delivery(&self.rows, order, endpoint)?;
            if work(self, &mut state)? {
                self.rows.put(keys::delivery(order, endpoint), row(order, &state)?);
            }
            return Ok(());
        }
        let Some(entry) = self.order_entry(order)? else { return Ok(()) };
        let mut notified = std::mem::take(&mut entry.notified);
        let mut state = match notified.state.take() {
            Some(state) => state,
            None => rows::delivery(&self.rows, order, NOTIFY)?,
        };
        if work(self, &mut state)? {
            self.note(&mut notified);
        }
        notified.state = Some(state);
        if let Some(entry) = self.order_entry(order)? {
            entry.notified = notified;
        }
        Ok(())
    }

    fn attempted(
        &mut self,
        fact: &DeliveryAttempted,
        position: Position,
        current: u32,
        state: &mut DeliveryState,
    ) -> Result<(), PortError> {
        let mut due = state.due;
        match &fact.outcome {
            DeliveryOutcome::Acknowledged | DeliveryOutcome::Abandoned { .. } => {
                state.covered = state.covered.max(fact.version);
            }
            DeliveryOutcome::Failed { next_at, .. } if fact.version == current && due.is_some() => {
                due = Some(*next_at);
            }
            DeliveryOutcome::Failed { .. } => {}
        }
        if state.covered >= current {
            due = None;
        }
        state.last = Some(fact.clone());
        state.position = position;
        self.reschedule(&fact.order, &fact.endpoint, state, due)
    }

    fn reschedule(
        &mut self,
        order: &OrderId,
        endpoint: &str,
        state: &mut DeliveryState,
        due: Option<Timestamp>,
    ) -> Result<(), PortError> {
        if state.due == due {
            return Ok(());
        }
        let partition = order.partition();
        if let Some(old) = state.due {
            self.rows.remove(keys::undelivered(partition, old, order, endpoint));
        }
        if let Some(new) = due {
            let row = codec::to_bytes("a due delivery", &(order, endpoint))?;
            self.rows.put(keys::undelivered(partition, new, order, endpoint), row);
        }
        if due.is_some() != state.due.is_some() {
            self.count(BACKLOG, due.is_some().into(), state.due.is_some().into())?;
        }
        state.due = due;
        Ok(())
    }
}
