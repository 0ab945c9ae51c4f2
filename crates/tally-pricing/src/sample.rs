//! Rule 1 for one tick alone: whether its price can count, what it is, and how old.

use rust_decimal::Decimal;
use tally_types::Timestamp;

use crate::rules::{TICK_AGE_MAX, VENUE_AHEAD_MAX};
use crate::tick::{Tick, TickPrice};

/// A book's spread may be this part of its mid: 5 %.
const SPREAD_MAX: Decimal = Decimal::from_parts(5, 0, 0, false, 2);
/// Where there is no book, the last price stands for one this part below and above it: 0.1 %.
const LAST_HALF_SPREAD: Decimal = Decimal::from_parts(1, 0, 0, false, 3);
/// A half.
pub(crate) const HALF: Decimal = Decimal::from_parts(5, 0, 0, false, 1);

/// Why a venue's price does not count; the names stand in facts and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// No bid or no ask.
    Empty,
    /// The ask is below the bid.
    Crossed,
    /// Bid and ask are too far apart.
    Spread,
    /// Too old.
    Stale,
    /// Dated in the future.
    Clock,
    /// Its book stands still while others move.
    Frozen,
    /// Too far from the others.
    Outlier,
    /// Was too far from the others and is not back long enough.
    Returning,
    /// Priced in a dollar token that has lost its peg.
    Depeg,
    /// What it is priced in has no rate itself.
    NoLeg,
    /// A number too large to reckon with.
    Range,
}

impl Reason {
    /// The name in facts and answers.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Crossed => "crossed",
            Self::Spread => "spread",
            Self::Stale => "stale",
            Self::Clock => "clock",
            Self::Frozen => "frozen",
            Self::Outlier => "outlier",
            Self::Returning => "returning",
            Self::Depeg => "depeg",
            Self::NoLeg => "no_leg",
            Self::Range => "range",
        }
    }
}

/// A tick that can count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    /// The middle of bid and ask.
    pub(crate) mid: Decimal,
    /// Ask less bid.
    pub(crate) spread: Decimal,
    /// When the book was made, as far as we know: never after we received it.
    pub(crate) at: Timestamp,
}

impl Sample {
    /// Judges one tick.
    pub(crate) fn of(tick: &Tick, now: Timestamp) -> Result<Self, Reason> {
        let at = tick.venue_time.unwrap_or(tick.received_at);
        let ahead = at.max(tick.received_at).since(now);
        if ahead > VENUE_AHEAD_MAX {
            return Err(Reason::Clock);
        }
        let at = at.min(tick.received_at);
        if now.since(at) > TICK_AGE_MAX {
            return Err(Reason::Stale);
        }
        let (mid, spread) = mid_and_spread(tick.price)?;
        Ok(Self { mid, spread, at })
    }
}

fn mid_and_spread(price: TickPrice) -> Result<(Decimal, Decimal), Reason> {
    let range = |value: Option<Decimal>| value.ok_or(Reason::Range);
    match price {
        TickPrice::Book { bid, ask } => {
            if bid <= Decimal::ZERO || ask <= Decimal::ZERO {
                return Err(Reason::Empty);
            }
            if ask < bid {
                return Err(Reason::Crossed);
            }
            let mid = range(range(bid.checked_add(ask))?.checked_mul(HALF))?;
            let spread = range(ask.checked_sub(bid))?;
            if spread > range(mid.checked_mul(SPREAD_MAX))? {
                return Err(Reason::Spread);
            }
            Ok((mid, spread))
        }
        TickPrice::Last(last) => {
            if last <= Decimal::ZERO {
                return Err(Reason::Empty);
            }
            let half = range(last.checked_mul(LAST_HALF_SPREAD))?;
            Ok((last, range(half.checked_add(half))?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tick::Venue;

    #[test]
    fn a_tick_counts_or_says_why_not() {
        let now = Timestamp::from_secs(1_000_000);
        let d = |text: &str| text.parse::<Decimal>().unwrap();
        let book = |bid: &str, ask: &str| TickPrice::Book { bid: d(bid), ask: d(ask) };
        let huge = Decimal::MAX;
        for (name, price, made, received, expected) in [
            ("a book", book("99", "101"), None, 0, Ok(("100", "2"))),
            ("bid is ask", book("100", "100"), None, 0, Ok(("100", "0"))),
            ("no bid", book("0", "101"), None, 0, Err(Reason::Empty)),
            ("a negative bid", book("-1", "101"), None, 0, Err(Reason::Empty)),
            ("no ask", book("100", "0"), None, 0, Err(Reason::Empty)),
            ("crossed", book("101", "100"), None, 0, Err(Reason::Crossed)),
            ("5 % exactly", book("97.5", "102.5"), None, 0, Ok(("100", "5"))),
            ("over 5 %", book("97.4", "102.6"), None, 0, Err(Reason::Spread)),
            ("last only", TickPrice::Last(d("1000")), None, 0, Ok(("1000", "2"))),
            ("last zero", TickPrice::Last(d("0")), None, 0, Err(Reason::Empty)),
            ("180 s old", book("99", "101"), None, -180, Ok(("100", "2"))),
            ("181 s old", book("99", "101"), None, -181, Err(Reason::Stale)),
            ("made 181 s ago, received now", book("99", "101"), Some(-181), 0, Err(Reason::Stale)),
            ("venue 60 s ahead", book("99", "101"), Some(60), 0, Ok(("100", "2"))),
            ("venue 61 s ahead", book("99", "101"), Some(61), 0, Err(Reason::Clock)),
            ("a clock of ours set back", book("99", "101"), None, 61, Err(Reason::Clock)),
            ("too large", TickPrice::Book { bid: huge, ask: huge }, None, 0, Err(Reason::Range)),
        ] {
            let second = |offset: i64| Timestamp::from_secs(1_000_000 + offset);
            let tick = Tick {
                venue: Venue::named("kraken"),
                base: "BTC".parse().unwrap(),
                quote: "USD".parse().unwrap(),
                price,
                venue_time: made.map(second),
                received_at: second(received),
            };
            let judged = Sample::of(&tick, now);
            let expected = expected.map(|(mid, spread)| (d(mid), d(spread)));
            assert_eq!(judged.map(|sample| (sample.mid, sample.spread)), expected, "{name}");
            if let Ok(sample) = judged {
                assert!(sample.at <= tick.received_at, "{name}: a venue's clock makes nothing younger");
            }
        }
    }
}
