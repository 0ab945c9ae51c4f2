//! The aggregation of ticks to rates, with all it must remember from poll to poll.
//!
//! Rules, in the order in which they apply: what counts (`sample`), one vote per venue (`ballot`), frozen
//! books (`frozen`), outliers and their return, the rate (`consensus`), jumps. Fiat: `fiat`.
//!
//! Not here: when to poll, and who publishes.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use tally_events::{AssetRate, DroppedSource, RatesPublished};
use tally_types::{Currency, Span, Timestamp};

use crate::ballot::{Ballot, legs};
use crate::consensus::{Center, Consensus, NoConsensus, Vote, agree};
use crate::fiat::FiatBook;
use crate::frozen::{Seen, Stillness};
use crate::rules::{RateRules, VENUE_AHEAD_MAX, canonical};
use crate::sample::{HALF, Reason};
use crate::tick::{FiatTick, Tick, Venue};

/// A change of the rate by more than this part is a jump: 15 %.
const JUMP_MIN: Decimal = Decimal::from_parts(15, 0, 0, false, 2);
/// … if it happens within this time.
const JUMP_WITHIN: Span = Span::from_secs(60);
/// Two polls agree on a jump if their rates differ by at most this part: 5 %, as far as two votes may.
const JUMP_AGREES: Decimal = Decimal::from_parts(5, 0, 0, false, 2);
/// How many polls an outlier must be near the others before it counts again.
const POLLS_TO_RETURN: u8 = 2;
/// A venue that has not been heard for so long is forgotten.
const FORGET_AFTER: Span = Span::from_secs(3600);
/// How many venues may price one asset.
const VENUES_MAX: usize = 64;

/// A venue that was an outlier: in how many polls since it has been near, and the last of them.
#[derive(Debug, Clone, Copy)]
struct Held {
    near: u8,
    counted: Timestamp,
}

/// The last rate that was published, and one that differs too much to be believed at once.
#[derive(Debug, Clone)]
struct Last {
    usd: Decimal,
    confidence: Decimal,
    /// The oldest vote's time.
    at: Timestamp,
    /// When it was put together.
    made_at: Timestamp,
    sources: Vec<String>,
    jump: Option<Jump>,
}

/// A rate that differs too much to be believed before a second poll says the same.
#[derive(Debug, Clone, Copy)]
struct Jump {
    usd: Decimal,
    /// The youngest vote's time: a poll that brings nothing younger confirms nothing.
    youngest: Timestamp,
}

impl Jump {
    /// It still waits for a second poll, though the rate before it may be too old to be shown.
    fn waits(&self, now: Timestamp) -> bool {
        now.since(self.youngest) <= JUMP_WITHIN
    }
}

/// What is remembered of one asset.
#[derive(Debug, Clone, Default)]
struct Memory {
    venues: BTreeMap<Venue, BTreeMap<Currency, Tick>>,
    stillness: Stillness,
    held: BTreeMap<Venue, Held>,
    last: Option<Last>,
}

/// Turns polls into rates.
#[derive(Debug, Clone)]
pub struct Aggregator {
    rules: RateRules,
    order: Vec<Currency>,
    assets: BTreeMap<Currency, Memory>,
    fiat: FiatBook,
}

impl Aggregator {
    /// One that has heard nothing yet.
    pub fn new(rules: RateRules) -> Self {
        let order = rules.in_order();
        let assets = order.iter().map(|asset| (asset.clone(), Memory::default())).collect();
        Self { rules, order, assets, fiat: FiatBook::default() }
    }

    /// The rules it goes by.
    pub fn rules(&self) -> &RateRules {
        &self.rules
    }

    /// Takes up where another left off: jumps are measured from what was published last, and fiat rates hold
    /// until their sources are heard again. Venues that were left out for what they had said before are not
    /// believed at once either.
    pub fn resume(&mut self, published: &RatesPublished) {
        self.fiat.resume(&published.fiat);
        for rate in &published.assets {
            let Some(memory) = self.assets.get_mut(&rate.asset) else { continue };
            memory.resume_dropped(&rate.dropped, published.at);
            if let Some(usd) = rate.usd {
                memory.last = Some(Last {
                    usd,
                    confidence: rate.confidence.unwrap_or_default(),
                    at: rate.at,
                    made_at: published.at,
                    sources: rate.sources.clone(),
                    jump: None,
                });
            }
        }
    }

    /// Takes in one poll's ticks, of any venues and in any order, and says what holds at `now`. Venues that
    /// said nothing this time still count with what they said last, until that is too old.
    pub fn aggregate(&mut self, ticks: &[Tick], fiat: &[FiatTick], now: Timestamp) -> RatesPublished {
        self.assets.values_mut().for_each(|memory| memory.forget(now));
        for tick in ticks {
            self.remember(tick);
        }
        self.fiat.observe(fiat, now);
        let fiat = self.fiat.rates(now);
        let usd_per_eur = fiat.iter().find(|rate| rate.currency.as_str() == "USD").map(|rate| rate.per_eur);
        let mut done = BTreeMap::new();
        let mut assets = Vec::with_capacity(self.order.len());
        for asset in &self.order {
            let (Some(memory), Some(votes_min)) = (self.assets.get_mut(asset), self.rules.votes_min(asset))
            else {
                continue;
            };
            let legs = legs(asset, &self.rules, &done, usd_per_eur);
            let ballot = Ballot::collect(&memory.venues, &legs, votes_min, now);
            let rate = memory.decide(asset, ballot, votes_min, now);
            if let Some(usd) = rate.usd {
                done.insert(asset.clone(), (usd, rate.at));
            }
            assets.push(rate);
        }
        RatesPublished { assets, fiat, at: now }
    }

    fn remember(&mut self, tick: &Tick) {
        let quote = canonical(&tick.quote);
        let known = self.rules.dollar_tokens.contains(&quote)
            || self.rules.pivot.as_ref() == Some(&quote)
            || matches!(quote.as_str(), "USD" | "EUR");
        let Some(memory) = self.assets.get_mut(&canonical(&tick.base)).filter(|_| known) else { return };
        if memory.venues.len() >= VENUES_MAX && !memory.venues.contains_key(&tick.venue) {
            return;
        }
        let key = |tick: &Tick| (tick.received_at, tick.venue_time, tick.price);
        let books = memory.venues.entry(tick.venue.clone()).or_default();
        if books.get(&quote).is_none_or(|earlier| key(earlier) < key(tick)) {
            books.insert(quote, tick.clone());
        }
    }
}

impl Memory {
    /// Takes up why venues did not count: outliers have two polls to go, and a frozen book must move first.
    fn resume_dropped(&mut self, dropped: &[DroppedSource], at: Timestamp) {
        for dropped in dropped {
            let Ok(venue) = dropped.venue.parse::<Venue>() else { continue };
            if [Reason::Outlier, Reason::Returning].iter().any(|reason| reason.as_str() == dropped.reason) {
                self.held.insert(venue, Held { near: 0, counted: at });
            } else if dropped.reason == Reason::Frozen.as_str() {
                self.stillness.resume(venue);
            }
        }
    }

    /// Forgets what is long past, and what came before our clock was set back: newer ticks must replace it.
    fn forget(&mut self, now: Timestamp) {
        let ahead = |tick: &Tick| tick.received_at.since(now) > VENUE_AHEAD_MAX;
        for books in self.venues.values_mut() {
            books.retain(|_, tick| now.since(tick.received_at) <= FORGET_AFTER && !ahead(tick));
        }
        self.venues.retain(|_, books| !books.is_empty());
    }

    fn decide(
        &mut self,
        asset: &Currency,
        mut ballot: Ballot,
        votes_min: usize,
        now: Timestamp,
    ) -> AssetRate {
        let frozen = self.frozen(&ballot, now);
        ballot.drop_all(&frozen, Reason::Frozen);
        ballot.drop_stale(now);
        // Books that stand still have said something too: the rest must be more than half of all.
        let spoken = ballot.cast.len().saturating_add(frozen.len());
        let votes: Vec<Vote> = ballot.cast.into_iter().map(|cast| cast.vote).collect();
        let mut dropped = ballot.dropped;
        let judged = match Center::of(&votes) {
            None => Err((NoConsensus::TooFew, Vec::new())),
            Some(center) => {
                let survivors = self.survivors(&votes, center, &mut dropped);
                let agreed = agree(&survivors, votes.len(), spoken, votes_min, center);
                let sources: Vec<_> = survivors.iter().map(|vote| vote.venue.to_string()).collect();
                agreed.map(|rate| (rate, sources.clone())).map_err(|why| (why, sources))
            }
        };
        dropped.sort_by(|a, b| a.0.cmp(&b.0));
        let dropped = dropped.into_iter().map(|(venue, reason)| DroppedSource {
            venue: venue.to_string(),
            reason: reason.as_str().to_owned(),
        });
        let dropped = dropped.collect();
        let asset = asset.clone();
        let shown = match judged {
            Ok((consensus, sources)) => self.without_jump(consensus, &sources, now).ok_or((false, sources)),
            Err((why, sources)) => Err((why == NoConsensus::Inconsistent, sources)),
        };
        match shown {
            Ok(shown) => AssetRate {
                asset,
                usd: Some(shown.usd),
                confidence: Some(shown.confidence),
                inconsistent: false,
                at: shown.at,
                sources: shown.sources,
                dropped,
            },
            Err((inconsistent, sources)) => {
                AssetRate { asset, usd: None, confidence: None, inconsistent, at: now, sources, dropped }
            }
        }
    }

    fn frozen(&mut self, ballot: &Ballot, now: Timestamp) -> Vec<Venue> {
        let seen = ballot.cast.iter().map(|cast| Seen {
            venue: &cast.vote.venue,
            quote: &cast.quote,
            price: cast.price,
            usd: cast.vote.usd,
        });
        self.stillness.observe(&seen.collect::<Vec<_>>(), now)
    }

    /// The votes near the center. One that was further off comes back only after it has been within half the
    /// limit for two polls, each with something new to say.
    fn survivors(&mut self, votes: &[Vote], center: Center, dropped: &mut Vec<(Venue, Reason)>) -> Vec<Vote> {
        let near = center.tau.checked_mul(HALF).unwrap_or_default();
        let mut survivors = Vec::with_capacity(votes.len());
        for vote in votes {
            let off = center.distance(vote.usd).unwrap_or(Decimal::MAX);
            if off > center.tau {
                self.held.insert(vote.venue.clone(), Held { near: 0, counted: vote.sampled_at });
                dropped.push((vote.venue.clone(), Reason::Outlier));
                continue;
            }
            if let Some(held) = self.held.get_mut(&vote.venue) {
                if off > near {
                    held.near = 0;
                } else if vote.sampled_at > held.counted {
                    held.near = held.near.saturating_add(1);
                }
                held.counted = vote.sampled_at;
                if held.near < POLLS_TO_RETURN {
                    dropped.push((vote.venue.clone(), Reason::Returning));
                    continue;
                }
                self.held.remove(&vote.venue);
            }
            survivors.push(vote.clone());
        }
        survivors
    }

    /// The rate to publish: the new one, or the last while the new one is a jump that only one poll has seen;
    /// none once that last one is too old.
    fn without_jump(&mut self, new: Consensus, sources: &[String], now: Timestamp) -> Option<Last> {
        let differs = |from: Decimal, part: Decimal| {
            let limit = from.checked_mul(part);
            new.usd.checked_sub(from).zip(limit).is_none_or(|(by, limit)| by.abs() > limit)
        };
        let recent = |last: &Last| now.since(last.made_at) <= JUMP_WITHIN;
        let waits = |last: &Last| last.jump.is_some_and(|jump| jump.waits(now));
        let jumped = |last: &Last| (recent(last) || waits(last)) && differs(last.usd, JUMP_MIN);
        if let Some(last) = self.last.as_mut().filter(|last| jumped(last)) {
            let seen_before = last.jump.filter(|jump| !differs(jump.usd, JUMP_AGREES));
            if seen_before.is_none_or(|jump| new.youngest <= jump.youngest) {
                last.jump = seen_before.or(Some(Jump { usd: new.usd, youngest: new.youngest }));
                return Some(last.clone()).filter(recent);
            }
        }
        let sources = sources.to_vec();
        let shown =
            Last { usd: new.usd, confidence: new.confidence, at: new.at, made_at: now, sources, jump: None };
        self.last = Some(shown.clone());
        Some(shown)
    }
}

#[cfg(test)]
mod tests;
