//! Which order is sent next: a queue for each endpoint, and places for all of them.
//!
//! An endpoint that did not answer soon the last time is a suspect: it gets one place, and all suspects together at most half,
//! so that any number of endpoints that hang leave the other half to those that answer. Pure. Not here: why
//! an order is due.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use tally_types::{OrderId, Timestamp};

use super::is_due;

/// How many places there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// In all.
    pub(super) all: usize,
    /// For one endpoint that answers.
    pub(super) per_endpoint: usize,
}

#[derive(Debug, Default)]
struct Endpoint {
    waiting: BTreeSet<(Timestamp, OrderId)>,
    in_flight: usize,
    suspect: bool,
}

#[derive(Debug)]
enum Place {
    Waiting {
        endpoint: String,
        due: Timestamp,
    },
    /// `again`: it was put in line meanwhile. `suspect`: it took one of the suspects' places.
    InFlight {
        endpoint: String,
        again: bool,
        suspect: bool,
    },
}

/// Orders by endpoint and time. An order is in it once at most.
#[derive(Debug)]
pub(super) struct Queue {
    limits: Limits,
    endpoints: BTreeMap<String, Endpoint>,
    orders: HashMap<OrderId, Place>,
    in_flight: usize,
    suspects_in_flight: usize,
    /// The endpoint served last; the next one after it has its turn.
    served: String,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            endpoints: BTreeMap::new(),
            orders: HashMap::new(),
            in_flight: 0,
            suspects_in_flight: 0,
            served: String::new(),
        }
    }

    /// Orders waiting or in flight.
    pub(super) fn len(&self) -> usize {
        self.orders.len()
    }

    /// Puts an order in line; of two times the earlier counts. One in flight is looked at again afterwards.
    pub(super) fn enqueue(&mut self, order: OrderId, endpoint: String, due: Timestamp) {
        match self.orders.get_mut(&order) {
            Some(Place::InFlight { again, .. }) => {
                *again = true;
                return;
            }
            Some(Place::Waiting { due: known, .. }) if *known <= due => return,
            Some(Place::Waiting { endpoint: line, due: known }) => {
                if let Some(line) = self.endpoints.get_mut(line) {
                    line.waiting.remove(&(*known, order.clone()));
                }
            }
            None => {}
        }
        self.endpoints.entry(endpoint.clone()).or_default().waiting.insert((due, order.clone()));
        self.orders.insert(order, Place::Waiting { endpoint, due });
    }

    /// Takes the next order that is due and has a place; the caller says when it is finished.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<OrderId> {
        if self.in_flight >= self.limits.all {
            return None;
        }
        let after = (Bound::Excluded(self.served.as_str()), Bound::Unbounded);
        let upto = (Bound::Unbounded, Bound::Included(self.served.as_str()));
        let lines = self.endpoints.range::<str, _>(after).chain(self.endpoints.range::<str, _>(upto));
        let ready = |(name, line): (&String, &Endpoint)| {
            let (due, _) = line.waiting.first()?;
            (is_due(*due, now) && self.has_place(line)).then(|| name.clone())
        };
        let name = lines.filter_map(ready).next()?;
        let line = self.endpoints.get_mut(&name)?;
        let (_, order) = line.waiting.pop_first()?;
        line.in_flight += 1;
        self.in_flight += 1;
        self.suspects_in_flight += usize::from(line.suspect);
        let place = Place::InFlight { endpoint: name.clone(), again: false, suspect: line.suspect };
        self.orders.insert(order.clone(), place);
        self.served = name;
        Some(order)
    }

    fn has_place(&self, line: &Endpoint) -> bool {
        if line.suspect {
            line.in_flight == 0 && self.suspects_in_flight < (self.limits.all / 2).max(1)
        } else {
            line.in_flight < self.limits.per_endpoint
        }
    }

    /// Gives an order's place back, with how its endpoint did, if it was asked. Answers the endpoint, and
    /// whether the order was put in line meanwhile.
    pub(super) fn finish(&mut self, order: &OrderId, healthy: Option<bool>) -> Option<(String, bool)> {
        let Some(Place::InFlight { endpoint, again, suspect }) = self.orders.remove(order) else {
            return None;
        };
        self.in_flight = self.in_flight.saturating_sub(1);
        self.suspects_in_flight = self.suspects_in_flight.saturating_sub(usize::from(suspect));
        if let Some(line) = self.endpoints.get_mut(&endpoint) {
            line.in_flight = line.in_flight.saturating_sub(1);
            line.suspect = healthy.map_or(line.suspect, |healthy| !healthy);
            if line.in_flight == 0 && line.waiting.is_empty() && !line.suspect {
                self.endpoints.remove(&endpoint);
            }
        }
        self.forget_idle();
        Some((endpoint, again))
    }

    /// Drops the waiting orders that are somebody else's now.
    pub(super) fn retain(&mut self, keep: impl Fn(&OrderId) -> bool) {
        for line in self.endpoints.values_mut() {
            line.waiting.retain(|(_, order)| keep(order));
        }
        self.orders.retain(|order, place| matches!(place, Place::InFlight { .. }) || keep(order));
    }

    /// A suspect with nothing to send is remembered only while there are few of them.
    fn forget_idle(&mut self) {
        const REMEMBERED_MAX: usize = 10_000;
        if self.endpoints.len() > REMEMBERED_MAX {
            self.endpoints.retain(|_, line| line.in_flight > 0 || !line.waiting.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1000);
    const LATER: Timestamp = Timestamp::from_secs(2000);

    fn queue() -> Queue {
        Queue::new(Limits { all: 6, per_endpoint: 2 })
    }

    fn order(number: u32) -> OrderId {
        number.to_string().parse().unwrap()
    }

    fn take(queue: &mut Queue, now: Timestamp) -> Vec<String> {
        std::iter::from_fn(|| queue.next(now)).map(|order| order.to_string()).collect()
    }

    #[test]
    fn endpoints_take_turns_within_their_places() {
        let mut queue = queue();
        for (number, endpoint) in [(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "c")] {
            queue.enqueue(order(number), endpoint.into(), NOW);
        }
        assert_eq!(take(&mut queue, NOW), ["1", "4", "5", "2"], "3 waits for a place of a");
        queue.finish(&order(1), Some(true));
        assert_eq!(take(&mut queue, NOW), ["3"]);
    }

    #[test]
    fn endpoints_that_fail_leave_half_of_the_places() {
        let mut queue = queue();
        for number in 0..20 {
            queue.enqueue(order(number), format!("bad{number}"), NOW);
            assert_eq!(queue.next(NOW), Some(order(number)));
            queue.finish(&order(number), Some(false));
            queue.enqueue(order(number), format!("bad{number}"), LATER);
        }
        assert_eq!(take(&mut queue, LATER).len(), 3);
        for number in 100..110 {
            queue.enqueue(order(number), format!("good{number}"), NOW);
        }
        assert_eq!(take(&mut queue, LATER).len(), 3, "the other half is theirs");
    }

    #[test]
    fn a_suspect_has_one_place_until_it_answers() {
        let mut queue = queue();
        queue.enqueue(order(1), "a".into(), NOW);
        take(&mut queue, NOW);
        queue.finish(&order(1), Some(false));
        for number in 1..=3 {
            queue.enqueue(order(number), "a".into(), NOW);
        }
        assert_eq!(take(&mut queue, NOW), ["1"]);
        queue.finish(&order(1), Some(true));
        assert_eq!(take(&mut queue, NOW), ["2", "3"]);
    }

    #[test]
    fn an_order_is_in_it_once() {
        let mut queue = queue();
        queue.enqueue(order(1), "a".into(), LATER);
        queue.enqueue(order(1), "a".into(), NOW);
        queue.enqueue(order(1), "a".into(), LATER);
        assert_eq!((queue.len(), take(&mut queue, NOW)), (1, vec!["1".to_owned()]));
        queue.enqueue(order(1), "a".into(), NOW);
        assert_eq!(take(&mut queue, NOW), [""; 0], "it is in flight");
        assert_eq!(queue.finish(&order(1), Some(true)), Some(("a".into(), true)));
        assert_eq!((queue.len(), queue.finish(&order(1), Some(true))), (0, None));
    }

    #[test]
    fn what_is_not_due_or_not_ours_stays_behind() {
        let mut queue = queue();
        queue.enqueue(order(1), "a".into(), LATER);
        queue.enqueue(order(2), "a".into(), NOW);
        assert_eq!(take(&mut queue, NOW), ["2"]);
        queue.retain(|_| false);
        assert_eq!(take(&mut queue, LATER), [""; 0]);
        assert_eq!(queue.len(), 1, "what is in flight is finished");
    }
}
