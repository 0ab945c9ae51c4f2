//! The whole product as processes that die, freeze and come back: what was acknowledged is there, nothing twice.
//!
//! Needs the binary: `TALLY_BIN`, else it is built. `TALLY_CHAOS_ROUNDS` rounds of SIGKILL (20 unless set; 10 on
//! NATS), `TALLY_CHAOS_SEED` chooses the instants. What needs NATS is behind the feature `real-nodes`, and takes
//! `nats-server` 2.12 or later from the path, or from where `NATS_SERVER_BIN` points.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests are configured by the environment and measure time")]

mod archive;
mod kill;
#[cfg(feature = "real-nodes")]
mod nats;
mod recovery;
mod secrets;
mod shop;
mod stand;
