//! Venues' prices over HTTP, a module per venue: its calls and its format, nothing else.
//!
//! To add a venue: a module in `venues/` with its [`VenueSpec`](venue::VenueSpec), a line in the registry,
//! and fixtures of what it answers. Numbers are read as decimals from their text, never through a float.
//!
//! Not here: whether a price counts (`tally-pricing`), when to ask (`tally-rates`).

mod feed;
mod http;
mod registry;
mod sheet;
mod simulated;
mod venue;
mod venues;

pub use registry::{FeedError, Feeds};
pub use simulated::{SimulatedPriceError, SimulatedPrices};
