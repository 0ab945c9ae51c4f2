//! What every implementation of a port must do, as suites that each of them runs.
//!
//! A suite panics at the first thing that is not as it must be. Each works on what the caller's `open` gives:
//! the same name again, after everything of the first was dropped, must give what was left behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these are tests that live in a library: to panic is their answer"
)]

mod event_log;
mod lease;
mod publisher;
mod purge;
mod store;

pub use event_log::event_log_conformance;
pub use lease::lease_conformance;
pub use publisher::publisher_conformance;
pub use purge::purge_conformance;
pub use store::store_conformance;
