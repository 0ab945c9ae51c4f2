//! Venues whose book stands still while the market moves: a feed that answers but has died behind it.
//!
//! A book that stands still in a market that stands still is none.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use tally_types::{Currency, Span, Timestamp};

use crate::tick::{TickPrice, Venue};

/// How long a book must stand still.
const STILL_MIN: Span = Span::from_secs(300);
/// How far others must have moved meanwhile, as a part of their price: 0.25 %.
const MOVE_MIN: Decimal = Decimal::from_parts(25, 0, 0, false, 4);
/// How many others.
const MOVERS_MIN: usize = 2;

/// What one venue showed and what the others did since.
#[derive(Debug, Clone)]
struct Still {
    price: TickPrice,
    quote: Currency,
    since: Timestamp,
    /// The lowest and highest price of each other venue meanwhile.
    others: BTreeMap<Venue, (Decimal, Decimal)>,
}

/// A venue's book in this poll, with its price in US dollars.
#[derive(Debug, Clone)]
pub(crate) struct Seen<'a> {
    pub(crate) venue: &'a Venue,
    pub(crate) quote: &'a Currency,
    pub(crate) price: TickPrice,
    pub(crate) usd: Decimal,
}

/// The memory of one asset.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stillness {
    venues: BTreeMap<Venue, Still>,
}

impl Stillness {
    /// Takes in one poll; answers the venues that are frozen.
    pub(crate) fn observe(&mut self, poll: &[Seen<'_>], now: Timestamp) -> Vec<Venue> {
        for seen in poll {
            let fresh = || Still {
                price: seen.price,
                quote: seen.quote.clone(),
                since: now,
                others: BTreeMap::new(),
            };
            let still = self.venues.entry(seen.venue.clone()).or_insert_with(fresh);
            if still.price != seen.price || still.quote != *seen.quote {
                *still = fresh();
            }
            for other in poll.iter().filter(|other| other.venue != seen.venue) {
                let range = still.others.entry(other.venue.clone()).or_insert((other.usd, other.usd));
                range.0 = range.0.min(other.usd);
                range.1 = range.1.max(other.usd);
            }
        }
        let frozen = |seen: &&Seen<'_>| self.venues.get(seen.venue).is_some_and(|still| still.frozen(now));
        poll.iter().filter(frozen).map(|seen| seen.venue.clone()).collect()
    }
}

impl Still {
    fn frozen(&self, now: Timestamp) -> bool {
        let moved = |(low, high): &(Decimal, Decimal)| {
            let enough = low.checked_mul(MOVE_MIN);
            high.checked_sub(*low).zip(enough).is_some_and(|(moved, enough)| moved >= enough)
        };
        now.since(self.since) >= STILL_MIN
            && self.others.values().filter(|range| moved(range)).count() >= MOVERS_MIN
    }
}
