//! The whole product as processes that die, freeze and come back: what was acknowledged is there, nothing twice.
//!
//! Needs the binary: `TALLY_BIN`, else it is built. `TALLY_CHAOS_ROUNDS` rounds of SIGKILL (20 unless set),
//! `TALLY_CHAOS_SEED` chooses the instants.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests are configured by the environment and measure time")]

mod kill;
mod recovery;
mod secrets;
mod shop;
mod stand;
