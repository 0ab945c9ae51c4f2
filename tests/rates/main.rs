//! Rates from venues on loopback to answers over HTTP: the real feeds, aggregation, service and gateway, in
//! incidents.
//!
//! Not here: single rules (`tally-pricing`), single formats (`tally-feeds`), leases (`tally-rates`).

mod hour;
mod market;
mod pollers;
mod restart;
mod stand;
