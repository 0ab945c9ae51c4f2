//! The gateway through its routes, over a real fold of a log in memory.
//!
//! Not here: listeners, watchers (their facts are appended by hand), and what pure crates test themselves.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod accounts;
mod amounts;
mod checkout;
mod create;
mod doors;
mod events;
mod fresh;
mod keys;
mod listing;
mod page;
mod paid;
mod query;
mod rates;
mod secrets;
mod wallets;
mod world;
