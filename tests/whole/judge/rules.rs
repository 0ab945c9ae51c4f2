//! Rules on single facts: addresses, own ids, terms of leases, deadlines, attempts.
//!
//! Not here: what follows from facts.

use tally_events::{DeliveryAttempted, DeliveryOutcome, Fact, OrderExpired, Recorded};
use tally_order::EXPIRY_GRACE;
use tally_types::{Position, Span};

use super::{Given, Judge, SKEW_MAX_MS, Verdict, broken};

impl Judge {
    /// A fact against all before it.
    pub(super) fn check_fact(&mut self, recorded: &Recorded) -> Verdict {
        self.check_epoch(recorded)?;
        match &recorded.event.fact {
            Fact::OrderClaimed(fact) => {
                self.applies("own ids");
                let own = (fact.merchant.get(), fact.own_id.clone());
                match self.own_ids.insert(own, fact.order.clone()) {
                    Some(other) => {
                        broken("own ids", format!("{} is {other} and {}", fact.own_id, fact.order))
                    }
                    None => Ok(()),
                }
            }
            Fact::OrderCreated(fact) => {
                let own = (fact.merchant.get(), fact.own_id.clone());
                let claimed = self.own_ids.get(&own) == Some(&fact.order);
                if claimed && !self.orders.contains_key(&fact.order) {
                    return Ok(());
                }
                broken("own ids", format!("{} was created without a claim, or twice", fact.order))
            }
            Fact::KeyAllocated(fact) => {
                if self.allocated.insert((fact.fingerprint.clone(), fact.index)) {
                    return Ok(());
                }
                broken(
                    "addresses",
                    format!("index {} of {} is given out twice", fact.index, fact.fingerprint),
                )
            }
            Fact::OrderQuoted(fact) => {
                self.applies("addresses");
                if !self.allocated.contains(&(fact.key.clone(), fact.index)) {
                    return broken("addresses", format!("index {} was never allocated", fact.index));
                }
                let given = Given {
                    order: fact.order.clone(),
                    quote: fact.quote,
                    since: recorded.position,
                    birth: fact.birth_height,
                    address: fact.addresses.first().cloned().unwrap_or_default(),
                    due: fact.due.units(),
                };
                match self.given.insert((fact.chain.clone(), fact.script.clone()), given) {
                    Some(other) => {
                        broken("addresses", format!("{} has the address of {}", fact.order, other.order))
                    }
                    None => Ok(()),
                }
            }
            Fact::OrderExpired(fact) => {
                self.once(fact.order.clone(), "expired", format!("{}", fact.deadline))?;
                self.check_looked(fact)
            }
            Fact::OrderInvalidated(fact) => {
                self.once(fact.order.clone(), "invalidated", format!("{}", fact.deadline))
            }
            Fact::OrderCanceled(fact) => self.once(fact.order.clone(), "canceled", String::new()),
            Fact::OrderUnwatched(fact) => self.once(fact.order.clone(), "unwatched", String::new()),
            // Again only after the order was declared invalid meanwhile.
            Fact::OrderAccepted(fact) => fact.deposits.iter().try_for_each(|accepted| {
                let invalidated = |done: &&(tally_types::OrderId, &str, String)| {
                    done.0 == fact.order && done.1 == "invalidated"
                };
                let times = self.done.iter().filter(invalidated).count();
                self.once(fact.order.clone(), "accepted", format!("{} {times}", accepted.deposit))
            }),
            Fact::DeliveryAttempted(fact) => self.check_attempt(fact),
            _ => Ok(()),
        }
    }

    /// Nobody writes after the next holder of the same duty has written.
    fn check_epoch(&mut self, recorded: &Recorded) -> Verdict {
        let epoch = recorded.event.epoch.get();
        if epoch == 0 {
            return Ok(());
        }
        self.applies("epochs");
        // Rescans are of many duties, on one subject.
        let shard = recorded.event.shard;
        let duty = match &recorded.event.fact {
            Fact::RescanReported(fact) => format!("{} {} {shard}", fact.rescan, fact.part),
            Fact::RescanApplied(_) => shard.to_string(),
            _ => String::new(),
        };
        let last = self.epochs.entry((recorded.event.subject.clone(), duty)).or_default();
        if epoch < *last {
            return broken("epochs", format!("term {epoch} writes after term {last}"));
        }
        *last = epoch;
        Ok(())
    }

    /// What a duty has done is not done again.
    fn once(&mut self, order: tally_types::OrderId, what: &'static str, which: String) -> Verdict {
        self.applies("once");
        let text = format!("{order} is {what} twice");
        if self.done.insert((order, what, which)) { Ok(()) } else { broken("once", text) }
    }

    /// No order expires while a watcher of its chains is silent: each has reported from after the deadline, by the log,
    /// and really.
    fn check_looked(&mut self, fact: &OrderExpired) -> Verdict {
        let Some(order) = self.order(&fact.order) else { return Ok(()) };
        let since = fact.deadline.plus(EXPIRY_GRACE);
        let really = since.minus(Span::from_millis(2 * SKEW_MAX_MS));
        let mut quoted = 0;
        for quote in order.quotes() {
            let Some(branch) = self.branches.get(&quote.terms().chain) else { continue };
            let script = &quote.terms().script;
            let looked = branch.reports.iter().any(|(shard, report)| {
                let late = report.observed_at >= since && report.at >= really;
                late && report.through >= quote.position() && shard.has(script)
            });
            if !looked {
                let last = branch.reports.iter().rfind(|(shard, _)| shard.has(script));
                return broken(
                    "silence",
                    format!("{} expires at {}, but its watcher said {last:?}", fact.order, fact.deadline),
                );
            }
            quoted += 1;
        }
        if quoted > 0 {
            self.applies("silence");
        }
        Ok(())
    }

    /// Attempts are counted on, and none follows one that was acknowledged or was the last.
    fn check_attempt(&mut self, fact: &DeliveryAttempted) -> Verdict {
        self.applies("attempts");
        let known = self.order(&fact.order).map_or(0, tally_order::Order::version);
        if fact.version > known {
            return broken("attempts", format!("version {} is told, the log has {known}", fact.version));
        }
        let last = self.deliveries.insert(fact.order.clone(), fact.clone());
        let expected = match last {
            None => Some(1),
            Some(last) if last.version < fact.version => Some(1),
            Some(last) if last.version == fact.version => match last.outcome {
                DeliveryOutcome::Failed { .. } => Some(last.attempt + 1),
                DeliveryOutcome::Acknowledged | DeliveryOutcome::Abandoned { .. } => None,
            },
            Some(_) => None,
        };
        if expected == Some(fact.attempt) {
            return Ok(());
        }
        broken(
            "attempts",
            format!("attempt {} at version {} where {expected:?} follows", fact.attempt, fact.version),
        )
    }

    /// Whether every order that wants it was told of its last version, or given up by the schedule.
    pub(crate) fn untold(&self) -> Vec<String> {
        let told = |order: &tally_order::Order| {
            self.deliveries.get(order.id()).is_some_and(|last| {
                last.version == order.version() && !matches!(last.outcome, DeliveryOutcome::Failed { .. })
            })
        };
        let last = self.orders.values().filter_map(|history| history.last());
        last.filter(|(_, order)| !told(order))
            .map(|(_, order)| format!("{} v{}", order.id(), order.version()))
            .collect()
    }

    /// Where the log ends, as far as it was judged.
    pub(crate) fn checked(&self) -> Position {
        self.checked
    }
}
