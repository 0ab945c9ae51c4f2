//! What a venue said: its prices as they came, before anyone has judged them.
//!
//! Not here: whether a tick counts (`sample`).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use tally_types::{Currency, Timestamp};

/// Why a text is not the name of a venue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a venue (1 to 32 of a-z, 0-9, - and _)")]
pub struct VenueError(String);

/// The name of a source of prices, as it stands in facts, metrics and answers: `kraken`, `ecb`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Venue(Cow<'static, str>);

impl Venue {
    /// A venue by a name that stands in the source code; names from outside are parsed.
    pub const fn named(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Venue {
    type Err = VenueError;

    fn from_str(text: &str) -> Result<Self, VenueError> {
        let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if (1..=32).contains(&text.len()) && text.bytes().all(letter) {
            Ok(Self(Cow::Owned(text.to_owned())))
        } else {
            Err(VenueError(text.chars().take(40).collect()))
        }
    }
}

impl fmt::Display for Venue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The price in a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TickPrice {
    /// The best bid and ask of a book.
    Book {
        /// The highest price someone buys at.
        bid: Decimal,
        /// The lowest price someone sells at.
        ask: Decimal,
    },
    /// The last price, of a venue that shows no book.
    Last(Decimal),
}

/// The price of one whole `base` in `quote` at one venue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// Where.
    pub venue: Venue,
    /// What is priced.
    pub base: Currency,
    /// What it is priced in.
    pub quote: Currency,
    /// The price.
    pub price: TickPrice,
    /// The venue's time, only where that says when the book was made. The time of a last trade does not: in
    /// a quiet market it is old though the book is of now.
    pub venue_time: Option<Timestamp>,
    /// Our clock when it arrived.
    pub received_at: Timestamp,
}

/// How many units of `quote` a source gives for one `base`, both fiat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FiatTick {
    /// The source.
    pub venue: Venue,
    /// One unit of this …
    pub base: Currency,
    /// … in units of this.
    pub quote: Currency,
    /// The rate.
    pub rate: Decimal,
    /// The time the source fixed it at; sources that name a day only: that day at 14:00 UTC, the earliest
    /// the European Central Bank publishes.
    pub as_of: Timestamp,
    /// Our clock when it arrived.
    pub received_at: Timestamp,
}
