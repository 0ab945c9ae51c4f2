//! The rate service: polls the feeds, and publishes what they come to on the stream of rates. One instance
//! does so at a time, by lease; every instance answers from what was published.
//!
//! Not here: what the rates are (`tally-pricing`), venues (`tally-feeds`), answers over HTTP (`tally-gateway`).

mod follow;
mod gauges;
mod poller;
mod service;

pub use follow::follow;
pub use service::{PollNow, RateService, RateSettings};
