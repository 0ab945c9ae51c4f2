//! A bound on the live status streams that payers' pages hold open.
//!
//! A page without one asks every 15 seconds instead.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tally_types::OrderId;

use crate::problem::Problem;

/// Streams at once: each is woken by every change of any order.
const ALL_MAX: usize = 2_048;

/// Streams of one order, so that whoever has one order's link cannot take them all.
const ORDER_MAX: usize = 16;

#[derive(Default)]
pub(crate) struct Streams(Mutex<Open>);

#[derive(Default)]
struct Open {
    all: usize,
    by_order: HashMap<OrderId, usize>,
}

/// A stream's place, given back when it is dropped.
pub(crate) struct StreamPermit {
    streams: Arc<Streams>,
    order: OrderId,
}

impl Streams {
    /// A place for a stream of an order.
    pub(crate) fn open(self: &Arc<Self>, order: &OrderId) -> Result<StreamPermit, Problem> {
        let mut open = self.lock();
        if open.all >= ALL_MAX {
            return Err(Problem::busy());
        }
        let of_order = open.by_order.entry(order.clone()).or_default();
        if *of_order >= ORDER_MAX {
            return Err(Problem::too_many(format!("this order has {ORDER_MAX} live streams already")));
        }
        *of_order += 1;
        open.all += 1;
        Ok(StreamPermit { streams: self.clone(), order: order.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut open = self.streams.lock();
        open.all = open.all.saturating_sub(1);
        if let Some(of_order) = open.by_order.get_mut(&self.order) {
            *of_order = of_order.saturating_sub(1);
            if *of_order == 0 {
                open.by_order.remove(&self.order);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(number: usize) -> OrderId {
        number.to_string().parse().unwrap()
    }

    #[test]
    fn one_order_cannot_take_all_places_and_places_come_back() {
        let streams = Arc::new(Streams::default());
        let held: Vec<_> = (0..ORDER_MAX).map(|_| streams.open(&order(1)).ok().unwrap()).collect();
        assert_eq!(streams.open(&order(1)).err().unwrap().status.as_u16(), 429);
        assert!(streams.open(&order(2)).is_ok());
        drop(held);
        assert!(streams.open(&order(1)).is_ok());
        assert!(streams.lock().by_order.is_empty());
    }

    #[test]
    fn there_is_an_end_to_all_streams() {
        let streams = Arc::new(Streams::default());
        let held: Vec<_> = (0..ALL_MAX).map(|number| streams.open(&order(number)).ok().unwrap()).collect();
        let problem = streams.open(&order(ALL_MAX)).err().unwrap();
        assert_eq!((problem.status.as_u16(), problem.retry_after_secs.is_some()), (503, true));
        drop(held);
        assert_eq!(streams.lock().all, 0);
    }
}
