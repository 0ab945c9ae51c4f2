//! What is to be delivered: a version that no delivery fact covers.
//!
//! Not here: sending, and when to try again (`tally-notifier` says so in its facts).

use tally_events::{DeliveryAttempted, DeliveryOutcome};
use tally_order::Order;
use tally_ports::PortError;
use tally_types::{OrderId, Position, Timestamp};

use super::Fold;
use crate::rows::{BACKLOG, DeliveryState};
use crate::{codec, keys, rows};

/// The endpoint that stands for an order's own `notify_url`.
pub(crate) const NOTIFY: &str = "notify";

impl Fold<'_> {
    /// A new version is due at once, whatever became of the one before.
    pub(super) fn version_to_deliver(&mut self, order: &Order) -> Result<(), PortError> {
        if order.notify_url().is_none_or(str::is_empty) {
            return Ok(());
        }
        // Of a new order nothing was delivered yet: no need to look.
        let state = match order.version() {
            1 => DeliveryState::default(),
            _ => rows::delivery(&self.rows, order.id(), NOTIFY)?,
        };
        if state.covered >= order.version() {
            return Ok(());
        }
        self.reschedule(order.id(), NOTIFY, state, Some(order.updated_at()))
    }

    pub(super) fn delivery_attempted(
        &mut self,
        fact: &DeliveryAttempted,
        position: Position,
    ) -> Result<(), PortError> {
        let Some(current) = self.current_version(&fact.order)? else {
            return Ok(());
        };
        let mut state = rows::delivery(&self.rows, &fact.order, &fact.endpoint)?;
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

    fn current_version(&mut self, order: &OrderId) -> Result<Option<u32>, PortError> {
        Ok(self.order_entry(order)?.map(|entry| entry.order.version()))
    }

    fn reschedule(
        &mut self,
        order: &OrderId,
        endpoint: &str,
        mut state: DeliveryState,
        due: Option<Timestamp>,
    ) -> Result<(), PortError> {
        if state.due != due {
            let partition = order.partition();
            if let Some(old) = state.due {
                self.rows.remove(keys::undelivered(partition, old, order, endpoint));
            }
            if let Some(new) = due {
                let row = codec::to_bytes("a due delivery", &(order, endpoint))?;
                self.rows.put(keys::undelivered(partition, new, order, endpoint), row);
            }
            let change = (u64::from(due.is_some()), u64::from(state.due.is_some()));
            if change.0 != change.1 {
                self.count(BACKLOG, change.0, change.1)?;
            }
            state.due = due;
        }
        self.rows.put(
            keys::delivery(order, endpoint),
            codec::to_bytes(&format!("the deliveries of order {order}"), &state)?,
        );
        Ok(())
    }
}
