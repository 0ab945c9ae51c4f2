//! Venues whose book stands still while the market moves: a feed that answers but has died behind it.
//!
//! A book that stands still in a market that stands still is none.

use std::collections::BTreeSet;

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
    /// The lowest and highest price of each other venue meanwhile, at its place.
    others: Vec<Option<(Decimal, Decimal)>>,
    /// It was frozen already when this memory began.
    before: bool,
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
    /// Every venue that was ever seen. What is said of one stands at its place here.
    venues: Vec<(Venue, Still)>,
    /// Who was frozen when this memory began, and has not been seen since.
    before: BTreeSet<Venue>,
}

impl Stillness {
    /// Takes up that a venue was frozen: it stays so until its book moves.
    pub(crate) fn resume(&mut self, venue: Venue) {
        self.before.insert(venue);
    }

    /// Takes in one poll; answers the venues that are frozen.
    pub(crate) fn observe(&mut self, poll: &[Seen<'_>], now: Timestamp) -> Vec<Venue> {
        let placed: Vec<_> = poll.iter().map(|seen| (self.place(seen, now), seen)).collect();
        let mut frozen = Vec::new();
        for (place, seen) in &placed {
            let Some((venue, still)) = self.venues.get_mut(*place) else { continue };
            if still.price != seen.price || still.quote != *seen.quote {
                still.begin(seen, now);
            }
            still.watch(placed.iter().filter(|(other, _)| other != place));
            if still.is_frozen(now) {
                frozen.push(venue.clone());
            }
        }
        frozen
    }

    /// Where a venue's memory is, made if need be.
    fn place(&mut self, seen: &Seen<'_>, now: Timestamp) -> usize {
        let known = self.venues.iter().position(|(venue, _)| venue == seen.venue);
        known.unwrap_or_else(|| {
            let (price, quote) = (seen.price, seen.quote.clone());
            let before = self.before.remove(seen.venue);
            let still = Still { price, quote, since: now, others: Vec::new(), before };
            self.venues.push((seen.venue.clone(), still));
            self.venues.len() - 1
        })
    }
}

impl Still {
    /// The book has moved: what the others did before does not matter.
    fn begin(&mut self, seen: &Seen<'_>, now: Timestamp) {
        self.price = seen.price;
        self.quote.clone_from(seen.quote);
        self.since = now;
        self.others.clear();
        self.before = false;
    }

    /// Notes where the others are, each with its place.
    fn watch<'a>(&mut self, others: impl Iterator<Item = &'a (usize, &'a Seen<'a>)>) {
        for (place, other) in others {
            if self.others.len() <= *place {
                self.others.resize(*place + 1, None);
            }
            if let Some(range) = self.others.get_mut(*place) {
                let (low, high) = range.unwrap_or((other.usd, other.usd));
                *range = Some((low.min(other.usd), high.max(other.usd)));
            }
        }
    }

    fn is_frozen(&self, now: Timestamp) -> bool {
        let moved = |(low, high): &(Decimal, Decimal)| {
            let enough = low.checked_mul(MOVE_MIN);
            high.checked_sub(*low).zip(enough).is_some_and(|(moved, enough)| moved >= enough)
        };
        let market_moved = || self.others.iter().flatten().filter(|range| moved(range)).count() >= MOVERS_MIN;
        self.before || (now.since(self.since) >= STILL_MIN && market_moved())
    }
}
