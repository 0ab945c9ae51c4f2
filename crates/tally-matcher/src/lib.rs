//! Raw block bytes and a watch set in, hits and spends out: the hot path of the watchers.
//!
//! Pure: no I/O, no async, no clock, and no panic on any bytes. What is deliberately **not** here:
//! addresses, amounts as types, chains by name, reorgs, confirmations. Ids and hashes are
//! `[u8; 32]` in *internal* byte order, as they are serialised in blocks (the reverse of what
//! nodes print).
//!
//! - [`walk()`] and [`walk_tx`] read a Bitcoin-family block or transaction in place;
//! - [`WatchSet`] holds the scripts and outpoints that are looked for;
//! - [`match_block`] and [`match_tx`] put the two together;
//! - [`verify_merkle_root`] and [`check_pow`] prove that a block is what its header says.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod error;
mod ids;
mod matching;
mod reader;
#[cfg(test)]
mod testing;
mod token;
mod verify;
mod walk;
mod watch_set;

pub use error::WalkError;
pub use ids::{Header, OutPoint, sha256d};
pub use matching::{BlockMatch, Hit, Options, Spend, TxMatch, match_block, match_tx};
pub use token::strip_token_prefix;
pub use verify::{MerkleError, Pow, PowError, Target, check_pow, verify_merkle_root};
pub use walk::{Mweb, RawTx, Visitor, Walked, walk, walk_tx};
pub use watch_set::{WatchSet, WatchSetFull};
