//! A venue's prices.

use async_trait::async_trait;
use tally_pricing::{FiatTick, Tick};
use tally_types::{Span, Timestamp};

use crate::PortError;

/// What one poll brought. A pair that could not be read costs only itself and is named in `faults`.
#[derive(Debug, Clone, Default)]
pub struct Poll {
    /// Crypto prices.
    pub ticks: Vec<Tick>,
    /// Fiat rates.
    pub fiat: Vec<FiatTick>,
    /// Pairs that could not be read, and why.
    pub faults: Vec<String>,
    /// How long the venue asks to be left alone.
    pub retry_after: Option<Span>,
}

/// One venue.
#[async_trait]
pub trait PriceFeed: Send + Sync {
    /// Its name in metrics and answers.
    fn venue(&self) -> &str;

    /// Asks for all its pairs; `now` is the time the answer is dated with.
    async fn poll(&self, now: Timestamp) -> Result<Poll, PortError>;
}
