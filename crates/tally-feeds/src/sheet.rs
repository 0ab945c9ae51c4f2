//! What one poll has brought so far. Each pair stands for itself: one that cannot be read is a fault and
//! costs no other.

use std::collections::BTreeSet;

use rust_decimal::Decimal;
use serde_json::value::RawValue;
use tally_ports::Poll;
use tally_pricing::{FiatTick, Tick, TickPrice, Venue, parse_number};
use tally_types::{Currency, Span, Timestamp};

use crate::venue::{Pair, ReadError};

/// How many faults a poll names; a venue that has changed its format would name hundreds.
const FAULTS_MAX: usize = 50;
/// The hour, in UTC, at which a day's fiat rates are taken to be made: the European Central Bank publishes
/// at about 16:00 in Frankfurt, which is 14:00 or 15:00.
const FIAT_HOUR: Span = Span::from_secs(14 * 3600);

/// A number, or why it is none.
type Number = Result<Decimal, String>;

/// The ticks and faults of one poll.
pub(crate) struct Sheet {
    venue: Venue,
    pairs: &'static [Pair],
    now: Timestamp,
    heard: BTreeSet<&'static str>,
    poll: Poll,
}

impl Sheet {
    /// An empty sheet for answers that are dated `now`.
    pub(crate) fn new(venue: Venue, pairs: &'static [Pair], now: Timestamp) -> Self {
        Self { venue, pairs, now, heard: BTreeSet::new(), poll: Poll::default() }
    }

    /// The expected pair with this symbol.
    pub(crate) fn pair(&self, symbol: &str) -> Option<&'static Pair> {
        self.pairs.iter().find(|pair| pair.symbol == symbol)
    }

    /// Notes a book's best bid and ask. `made_at` only where the venue says when the book was made.
    pub(crate) fn book(&mut self, pair: &'static Pair, bid: Number, ask: Number, made_at: Option<Timestamp>) {
        let price = bid.and_then(|bid| Ok(TickPrice::Book { bid, ask: ask? }));
        self.tick(pair, price, made_at);
    }

    /// Notes a price without a book.
    pub(crate) fn last(&mut self, pair: &'static Pair, last: Number, made_at: Option<Timestamp>) {
        self.tick(pair, last.map(TickPrice::Last), made_at);
    }

    fn tick(&mut self, pair: &'static Pair, price: Result<TickPrice, String>, made_at: Option<Timestamp>) {
        self.heard.insert(pair.symbol);
        let names =
            pair.base.parse::<Currency>().and_then(|base| Ok((base, pair.quote.parse::<Currency>()?)));
        match names.map_err(|error| error.to_string()).and_then(|names| Ok((names, price?))) {
            Ok(((base, quote), price)) => self.poll.ticks.push(Tick {
                venue: self.venue.clone(),
                base,
                quote,
                price,
                venue_time: made_at,
                received_at: self.now,
            }),
            Err(fault) => self.fault(format!("{}: {fault}", pair.symbol)),
        }
    }

    /// Notes that a pair could not be had.
    pub(crate) fn without(&mut self, pair: &'static Pair, why: &str) {
        self.heard.insert(pair.symbol);
        self.fault(format!("{}: {why}", pair.symbol));
    }

    /// Notes the units of `quote` for one `base`, fixed on `day` (`2024-05-03`).
    pub(crate) fn fiat(&mut self, base: &Currency, quote: &str, rate: Number, day: Timestamp) {
        let quote_read = quote.parse::<Currency>().map_err(|error| error.to_string());
        match quote_read.and_then(|quote| Ok((quote, rate?))) {
            Ok((quote, rate)) => self.poll.fiat.push(FiatTick {
                venue: self.venue.clone(),
                base: base.clone(),
                quote,
                rate,
                as_of: day,
                received_at: self.now,
            }),
            Err(fault) => self.fault(format!("{quote:.12}: {fault}")),
        }
    }

    /// Notes how long the venue asks to be left alone.
    pub(crate) fn leave_alone(&mut self, span: Span) {
        self.poll.retry_after = Some(self.poll.retry_after.map_or(span, |other| other.max(span)));
    }

    /// Notes what went wrong.
    pub(crate) fn fault(&mut self, fault: String) {
        if self.poll.faults.len() < FAULTS_MAX {
            self.poll.faults.push(fault);
        }
    }

    /// Whether nothing came.
    pub(crate) fn is_empty(&self) -> bool {
        self.poll.ticks.is_empty() && self.poll.fiat.is_empty()
    }

    /// Notes which expected pairs the answers did not hold.
    pub(crate) fn note_missing(&mut self) {
        for pair in self.pairs {
            if !self.heard.contains(pair.symbol) {
                self.fault(format!("{}: missing in the answer", pair.symbol));
            }
        }
    }

    /// What came.
    pub(crate) fn into_poll(self) -> Poll {
        self.poll
    }
}

/// Reads an answer's frame; what stands in it is left as text.
pub(crate) fn json<'a, T: serde::Deserialize<'a>>(body: &'a str) -> Result<T, ReadError> {
    if body.trim_start().starts_with('<') {
        return Err(ReadError::WebPage);
    }
    Ok(serde_json::from_str(body)?)
}

/// A JSON number, or a number in a JSON string, from its text.
pub(crate) fn number(raw: Option<&RawValue>, field: &str) -> Number {
    let text = raw.ok_or_else(|| format!("no {field}"))?.get();
    let number = match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => parse_number(inner),
        None => parse_number(text),
    };
    number.map_err(|error| format!("{field}: {error}"))
}

/// A part of a frame; `None` where it has another shape.
pub(crate) fn row<'a, T: serde::Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

/// Unix time in milliseconds, as a number or in a string.
pub(crate) fn millis(raw: Option<&RawValue>) -> Option<Timestamp> {
    let text = raw?.get().trim_matches('"');
    text.parse().ok().map(Timestamp::from_millis)
}

/// The time at which the fiat rates of `day` (`2024-05-03`) are taken to be made.
pub(crate) fn fiat_day(day: &str) -> Option<Timestamp> {
    let midnight: Timestamp = format!("{day}T00:00:00Z").parse().ok()?;
    Some(midnight.plus(FIAT_HOUR))
}
