//! Rules 3 to 5: from one vote per venue to one rate, or to none.
//!
//! Not here: which votes there are (`ballot`), memory between polls (`aggregate`).

use rust_decimal::Decimal;
use tally_types::Timestamp;

use crate::sample::HALF;
use crate::tick::Venue;

/// Five deviations of a normal distribution, whose median absolute deviation is 1 / 1.4826 of one.
const TAU_PER_MAD: Decimal = Decimal::from_parts(7413, 0, 0, false, 3);
/// The outlier limit is at least this part of the median: 0.5 %.
const TAU_MIN: Decimal = Decimal::from_parts(5, 0, 0, false, 3);
/// The outlier limit is at most this part of the median: 5 %.
const TAU_MAX: Decimal = Decimal::from_parts(5, 0, 0, false, 2);
/// A confidence above this part of the rate is disagreement: 1 %.
const CONFIDENCE_MAX: Decimal = Decimal::from_parts(1, 0, 0, false, 2);
/// Votes within 0.5 % of their median lie within this factor of each other: 1.005 / 0.995, rounded up.
const MAJORITY_WIDTH: Decimal = Decimal::from_parts(1_010_051, 0, 0, false, 6);
/// With fewer votes than this, quartiles mean nothing and the extremes stand for them.
const VOTES_FOR_QUARTILES: usize = 4;
/// A quarter.
const QUARTER: Decimal = Decimal::from_parts(25, 0, 0, false, 2);

/// One venue's price of an asset in US dollars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vote {
    pub(crate) venue: Venue,
    pub(crate) usd: Decimal,
    /// Ask less bid, in US dollars.
    pub(crate) spread: Decimal,
    /// When the venue's own book was made.
    pub(crate) sampled_at: Timestamp,
    /// The same, or the time of what it was priced through, if that is older.
    pub(crate) at: Timestamp,
}

/// Where the votes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Center {
    /// Their median.
    pub(crate) median: Decimal,
    /// How far from it a vote may be.
    pub(crate) tau: Decimal,
    /// The least the rate can be without leaving the range of some majority that agrees.
    low: Decimal,
    /// The most.
    high: Decimal,
}

impl Center {
    /// The center of votes; `None` where there are none, or numbers too large to reckon with.
    pub(crate) fn of(votes: &[Vote]) -> Option<Self> {
        let prices = sorted(votes.iter().map(|vote| vote.usd));
        let median = median(&prices)?;
        let deviations = votes.iter().map(|vote| distance(vote.usd, median));
        let deviations = sorted(deviations.collect::<Option<Vec<_>>>()?);
        let mad = self::median(&deviations)?;
        let (least, most) = (median.checked_mul(TAU_MIN)?, median.checked_mul(TAU_MAX)?);
        let tau = mad.checked_mul(TAU_PER_MAD)?.max(least).min(most);
        let (low, high) = agreeing(&prices, median)?;
        Some(Self { median, tau, low, high })
    }

    /// How far a price lies from the median.
    pub(crate) fn distance(&self, price: Decimal) -> Option<Decimal> {
        distance(price, self.median)
    }
}

/// A rate, and half the width of the band it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Consensus {
    pub(crate) usd: Decimal,
    pub(crate) confidence: Decimal,
    /// The oldest vote's time.
    pub(crate) at: Timestamp,
    /// The youngest vote's time.
    pub(crate) youngest: Timestamp,
}

/// Why there is no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoConsensus {
    /// Not enough venues said anything.
    TooFew,
    /// Those that did say different things.
    Inconsistent,
}

/// The rate that `survivors`, the votes near `center`, stand for. `cast` is how many votes there were, and
/// `spoken` how many with those whose books stand still: who makes a market move that stands still is believed
/// only as a majority of all.
pub(crate) fn agree(
    survivors: &[Vote],
    cast: usize,
    spoken: usize,
    votes_min: usize,
    center: Center,
) -> Result<Consensus, NoConsensus> {
    if cast < votes_min.max(1) {
        return Err(NoConsensus::TooFew);
    }
    if survivors.len() < votes_min || survivors.len().saturating_mul(2) <= spoken.max(cast) {
        return Err(NoConsensus::Inconsistent);
    }
    let consensus = reckon(survivors, center).ok_or(NoConsensus::TooFew)?;
    let limit = consensus.usd.checked_mul(CONFIDENCE_MAX).ok_or(NoConsensus::TooFew)?;
    if consensus.confidence > limit { Err(NoConsensus::Inconsistent) } else { Ok(consensus) }
}

fn reckon(survivors: &[Vote], center: Center) -> Option<Consensus> {
    let prices = sorted(survivors.iter().map(|vote| vote.usd));
    let spreads = sorted(survivors.iter().map(|vote| vote.spread));
    let usd = median(&prices)?.max(center.low).min(center.high);
    let (low, high) = if prices.len() < VOTES_FOR_QUARTILES {
        (*prices.first()?, *prices.last()?)
    } else {
        (quartile(&prices, 1)?, quartile(&prices, 3)?)
    };
    let band = distance(usd, low)?.max(distance(usd, high)?);
    let confidence = band.max(median(&spreads)?.checked_mul(HALF)?);
    let at = survivors.iter().map(|vote| vote.at).min()?;
    let youngest = survivors.iter().map(|vote| vote.sampled_at).max()?;
    Some(Consensus { usd, confidence, at, youngest })
}

/// What is common to all majorities whose prices lie within 0.5 % of their own median.
///
/// The honest venues may be any of these, so a rate within all of them is within theirs. Dropping outliers
/// alone does not ensure that: of 99.5, 100, 100.5 and two liars at 100.567, the 99.5 is dropped and the
/// liars are half of what remains. The median of all votes is always within.
fn agreeing(sorted: &[Decimal], median: Decimal) -> Option<(Decimal, Decimal)> {
    let majority = sorted.len() / 2 + 1;
    let (mut low, mut high) = (sorted.first()?.min(&median), sorted.last()?.max(&median));
    for window in sorted.windows(majority) {
        let (first, last) = (window.first()?, window.last()?);
        if *last <= first.checked_mul(MAJORITY_WIDTH)? {
            low = low.max(first);
            high = high.min(last);
        }
    }
    Some((*low, *high))
}

fn distance(a: Decimal, b: Decimal) -> Option<Decimal> {
    a.checked_sub(b).map(|difference| difference.abs())
}

fn sorted(values: impl IntoIterator<Item = Decimal>) -> Vec<Decimal> {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_unstable();
    values
}

/// The median of any values.
pub(crate) fn median_of(values: impl IntoIterator<Item = Decimal>) -> Option<Decimal> {
    median(&sorted(values))
}

fn median(sorted: &[Decimal]) -> Option<Decimal> {
    let upper = sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(*upper);
    }
    let lower = sorted.get((sorted.len() / 2).checked_sub(1)?)?;
    lower.checked_add(*upper)?.checked_mul(HALF)
}

/// The value `quarters` quarters of the way through, between neighbours in proportion.
fn quartile(sorted: &[Decimal], quarters: usize) -> Option<Decimal> {
    let place = sorted.len().checked_sub(1)?.checked_mul(quarters)?;
    let below = *sorted.get(place / 4)?;
    let Some(above) = sorted.get(place / 4 + 1) else { return Some(below) };
    let part = Decimal::from(place % 4).checked_mul(QUARTER)?;
    below.checked_add(above.checked_sub(below)?.checked_mul(part)?)
}

#[cfg(test)]
mod tests;
