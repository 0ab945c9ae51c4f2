//! Rule 2: one vote per venue and asset, in US dollars, by the best way each venue offers.
//!
//! Not here: what the votes come to (`consensus`).

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use tally_types::{Currency, Timestamp};

use crate::consensus::Vote;
use crate::rules::{RateRules, TICK_FRESH};
use crate::sample::{Reason, Sample};
use crate::tick::{Tick, TickPrice, Venue};

/// A dollar token further than this from a dollar has lost its peg: 2 %.
const PEG_MAX: Decimal = Decimal::from_parts(2, 0, 0, false, 2);
/// How many fresh votes must stand beside one that is not.
const FRESH_BESIDE: usize = 2;

/// A way from a venue's quote currency to US dollars.
#[derive(Debug, Clone)]
pub(crate) struct Leg {
    /// What the venue's price is in.
    pub(crate) quote: Currency,
    /// One of it in US dollars; `None` while it has no rate.
    pub(crate) usd: Option<Decimal>,
    /// When that rate was made, where it is a crypto asset's.
    pub(crate) at: Option<Timestamp>,
    /// A dollar token's, whose own price may have left the dollar.
    pub(crate) token: bool,
}

impl Leg {
    fn is_direct(&self) -> bool {
        self.quote.as_str() == "USD"
    }

    fn lost_its_peg(&self) -> bool {
        let off = self.usd.and_then(|usd| usd.checked_sub(Decimal::ONE));
        self.token && off.is_some_and(|off| off.abs() > PEG_MAX)
    }
}

/// The ways an asset may be priced, best first: dollars, dollar tokens, euro, the pivot. Only what has been
/// aggregated before the asset itself is among them.
pub(crate) fn legs(
    asset: &Currency,
    rules: &RateRules,
    done: &BTreeMap<Currency, (Decimal, Timestamp)>,
    usd_per_eur: Option<Decimal>,
) -> Vec<Leg> {
    let fiat = |name: &str, usd| name.parse().ok().map(|quote| Leg { quote, usd, at: None, token: false });
    let crypto = |quote: &Currency, token| {
        let known = done.get(quote);
        Leg { quote: quote.clone(), usd: known.map(|known| known.0), at: known.map(|known| known.1), token }
    };
    let tokens = rules.dollar_tokens.iter();
    let earlier: Vec<_> =
        tokens.take_while(|token| *token != asset).map(|token| crypto(token, true)).collect();
    let is_token = rules.dollar_tokens.contains(asset);
    let pivot = rules.pivot.iter().filter(|pivot| *pivot != asset && !is_token);
    let mut legs: Vec<_> = fiat("USD", Some(Decimal::ONE)).into_iter().chain(earlier).collect();
    legs.extend(fiat("EUR", usd_per_eur));
    legs.extend(pivot.map(|pivot| crypto(pivot, false)));
    legs
}

/// A vote, and the book it was read from.
#[derive(Debug, Clone)]
pub(crate) struct Cast {
    pub(crate) vote: Vote,
    pub(crate) quote: Currency,
    pub(crate) price: TickPrice,
}

/// The votes on one asset, by venue, and the venues that have none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ballot {
    pub(crate) cast: Vec<Cast>,
    pub(crate) dropped: Vec<(Venue, Reason)>,
}

impl Ballot {
    /// Collects the votes on `asset`. Legs through a token that lost its peg count only where direct votes
    /// alone are too few.
    pub(crate) fn collect(
        venues: &BTreeMap<Venue, BTreeMap<Currency, Tick>>,
        legs: &[Leg],
        votes_min: usize,
        now: Timestamp,
    ) -> Self {
        let ballot = Self::through(venues, legs, false, now);
        let direct = ballot
            .cast
            .iter()
            .filter(|cast| cast.quote.as_str() == "USD" && now.since(cast.vote.sampled_at) <= TICK_FRESH);
        if direct.count() >= votes_min || !legs.iter().any(Leg::lost_its_peg) {
            ballot
        } else {
            Self::through(venues, legs, true, now)
        }
    }

    fn through(
        venues: &BTreeMap<Venue, BTreeMap<Currency, Tick>>,
        legs: &[Leg],
        without_peg: bool,
        now: Timestamp,
    ) -> Self {
        let mut ballot = Self::default();
        for (venue, books) in venues {
            match vote(books, legs, without_peg, now) {
                Ok(cast) => ballot.cast.push(cast),
                Err(Some(reason)) => ballot.dropped.push((venue.clone(), reason)),
                Err(None) => {}
            }
        }
        ballot
    }

    /// Takes out the votes of `venues`.
    pub(crate) fn drop_all(&mut self, venues: &[Venue], reason: Reason) {
        self.cast.retain(|cast| !venues.contains(&cast.vote.venue));
        self.dropped.extend(venues.iter().map(|venue| (venue.clone(), reason)));
    }

    /// Takes out votes that are no longer fresh, unless two fresh ones stand beside them.
    pub(crate) fn drop_stale(&mut self, now: Timestamp) {
        let fresh = |cast: &Cast| now.since(cast.vote.sampled_at) <= TICK_FRESH;
        if self.cast.iter().filter(|cast| fresh(cast)).count() < FRESH_BESIDE {
            let stale = self.cast.iter().filter(|cast| !fresh(cast)).map(|cast| cast.vote.venue.clone());
            let stale: Vec<_> = stale.collect();
            self.drop_all(&stale, Reason::Stale);
        }
    }
}

/// A venue's vote by its best way: a fresh one where there is one, else the best that counts at all. Without
/// any: why its best way does not count, or nothing if it does not price the asset.
fn vote(
    books: &BTreeMap<Currency, Tick>,
    legs: &[Leg],
    without_peg: bool,
    now: Timestamp,
) -> Result<Cast, Option<Reason>> {
    let mut older = None;
    let mut reason = None;
    for leg in legs {
        let Some(tick) = books.get(&leg.quote) else { continue };
        match through(tick, leg, without_peg, now) {
            Ok(cast) if now.since(cast.vote.sampled_at) <= TICK_FRESH => return Ok(cast),
            Ok(cast) => older = older.or(Some(cast)),
            Err(why) => reason = reason.or(Some(why)),
        }
    }
    older.ok_or(reason)
}

fn through(tick: &Tick, leg: &Leg, without_peg: bool, now: Timestamp) -> Result<Cast, Reason> {
    let sample = Sample::of(tick, now)?;
    let factor = leg.usd.ok_or(Reason::NoLeg)?;
    if leg.lost_its_peg() && !without_peg {
        return Err(Reason::Depeg);
    }
    let (usd, spread) = if leg.is_direct() {
        (sample.mid, sample.spread)
    } else {
        let times = |value: Decimal| value.checked_mul(factor).ok_or(Reason::Range);
        (times(sample.mid)?, times(sample.spread)?)
    };
    if usd.is_zero() {
        return Err(Reason::Range);
    }
    let at = leg.at.map_or(sample.at, |leg_at| leg_at.min(sample.at));
    let vote = Vote { venue: tick.venue.clone(), usd, spread, sampled_at: sample.at, at };
    Ok(Cast { vote, quote: leg.quote.clone(), price: tick.price })
}
