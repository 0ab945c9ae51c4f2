//! Ticks to rates, and rates to quotes: pure, in decimals only.
//!
//! Venues' ticks go into the [`Aggregator`], which says what holds now as a `RatesPublished` fact. Every
//! instance folds those facts into a [`RateTable`] and answers rates and quotes from it.
//!
//! Not here: polling (`tally-rates`), venues' formats (`tally-feeds`), a clock, a float.

mod aggregate;
mod ballot;
mod consensus;
mod fiat;
mod frozen;
mod history;
mod number;
mod quote;
mod ratio;
mod rules;
mod sample;
mod table;
mod tick;

pub use aggregate::Aggregator;
pub use history::{HISTORY_SPAN, HISTORY_STEP, PricePoint};
pub use number::{NumberError, format_significant, parse_number};
pub use quote::{QuoteError, QuoteRequest, Quoted, full_due, quote};
pub use rules::{
    ALIASES, AssetRule, FIAT_AGE_MAX, FIAT_AGE_WARNING, RATES_AGE_MAX, RETRY_AFTER, RateRules, TICK_AGE_MAX,
    TICK_FRESH, VENUE_AHEAD_MAX, canonical,
};
pub use table::{RateAnswer, RateError, RateLeg, RateTable};
pub use tick::{FiatTick, Tick, TickPrice, Venue, VenueError};
