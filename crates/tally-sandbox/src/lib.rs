//! Simulated nodes of BTC, LTC, BCH and Ethereum that speak the real JSON-RPC on loopback: for `tally dev`, for
//! merchants' own tests, for simulation.
//!
//! [`Sandbox::start`] makes the chains and listens; its methods, and the routes of [`router`], pay, mine, reorg,
//! replace, and make nodes misbehave. The chains are state machines without I/O behind that: blocks and
//! transactions are serialised, hashed and mined as the real ones, scripts and contracts are not run.
//!
//! Not here: clients of these nodes, and the wall clock: time comes from the `Clock` port.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod account;
mod error;
mod face;
mod journal;
mod node;
mod rpc;
mod sandbox;
mod seeded;
mod settings;
mod utxo;

pub use error::SandboxError;
pub use face::{Advance, Controls, SetRate, router};
pub use node::{FaultKind, FaultKindError};
pub use sandbox::{BLOCKS_MAX, Pay, Reorg, Sandbox, SandboxNode};
pub use settings::{ChainKind, ChainSettings, Coin, SandboxSettings, TokenSettings, USDT_CONTRACT};
