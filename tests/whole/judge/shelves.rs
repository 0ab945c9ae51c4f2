//! Rules on read models: each order is what the pure fold of the facts makes of it, up to the model's own checkpoint.
//!
//! Not here: facts.

use tally_order::Order;
use tally_ports::ReadModel;
use tally_projector::Model;
use tally_types::{OrderId, Position};

use super::{Judge, Verdict, broken};

/// An order as one read model has it.
pub(crate) struct Read {
    position: Position,
    orders: Vec<(OrderId, Option<Order>)>,
}

/// Reads every order that the judge knows. Nothing is folded meanwhile: this instant is the schedule's.
pub(crate) async fn read(model: &Model, ids: Vec<OrderId>) -> Read {
    let mut orders = Vec::new();
    for id in ids {
        if let Ok(order) = model.order(&id).await {
            orders.push((id, order));
        }
    }
    Read { position: model.position(), orders }
}

impl Judge {
    /// Every order as a process has it, against the facts.
    pub(crate) fn check_read(&mut self, process: usize, read: Read) {
        let verdict = self.compare(process, read);
        self.keep(verdict);
    }

    fn compare(&mut self, process: usize, read: Read) -> Verdict {
        let at = read.position;
        for (id, found) in read.orders {
            let folded = self.order_at(&id, at).cloned();
            let folded = folded.map(|order| self.shown(self.shown(order, at, false), at, true));
            // What an order without deposits knows of a tip is shown to nobody.
            let found = found.map(|order| self.shown(order, at, true));
            if folded == found {
                continue;
            }
            // Of a large block that is committed in parts the orders come first, and the checkpoint with the last.
            let next = at.next();
            if self.is_block(next) {
                let ahead = self.order_at(&id, next).cloned();
                let ahead = ahead.map(|order| self.shown(self.shown(order, at, false), at, true));
                let found = found.clone().map(|order| self.shown(order, at, false));
                if ahead == found {
                    continue;
                }
            }
            let words = |order: &Option<Order>| {
                order
                    .as_ref()
                    .map(|order| (order.version(), order.status(), order.current().received.clone()))
            };
            let (folded_words, found_words) = (words(&folded), words(&found));
            let text = if folded_words == found_words {
                format!("{folded:?}\n  is not\n  {found:?}")
            } else {
                format!("{folded_words:?} is not {found_words:?}")
            };
            return broken("fold", format!("process {process} at {at}, order {id}: {text}"));
        }
        self.applies("fold");
        Ok(())
    }

    /// With the tips of a position, as read models show an order: on chains where it has deposits, by `all` elsewhere too.
    fn shown(&self, mut order: Order, at: Position, all: bool) -> Order {
        for (chain, branch) in &self.branches {
            let has_deposits = order.deposits().iter().any(|deposit| deposit.chain() == chain);
            for (shard, tip) in branch.tips_at(at).into_iter().filter(|_| has_deposits != all) {
                order.show_tip(chain, shard, tip);
            }
        }
        order
    }

    /// Whether the fact at a position joins a block to the branch, or takes one off.
    fn is_block(&self, position: Position) -> bool {
        let before = Position::new(position.get().saturating_sub(1));
        let fact = self.log.facts_after(before).into_iter().next().map(|recorded| recorded.event.fact);
        matches!(fact, Some(tally_events::Fact::BlockConnected(_) | tally_events::Fact::BlockDisconnected(_)))
    }

    /// The orders there are.
    pub(crate) fn ids(&self) -> Vec<OrderId> {
        self.orders.keys().cloned().collect()
    }
}
