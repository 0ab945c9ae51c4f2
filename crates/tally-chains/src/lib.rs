//! Chains over the JSON-RPC of their nodes: a module per chain family and one registry.
//!
//! [`open`] makes a `BlockSource` of plain [`ChainSettings`]; [`facts`] answers what the rest of the system must
//! know of the chain. A new family is a module beside `bitcoin` and `ethereum` and one line in the registry.
//!
//! Not here: following a chain (reorgs, confirmations, what is known already), addresses, and configuration
//! files. No type of `bitcoincore-rpc`, `ethers-core` or `reqwest` leaves this crate.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod bitcoin;
mod endpoint;
mod ethereum;
mod fault;
mod http;
mod pool;
mod registry;
mod settings;
#[cfg(test)]
mod testing;
mod wake;

pub use registry::{ChainFacts, CurrencyFacts, facts, open};
pub use settings::{ChainSettings, EndpointSettings, Secret, TokenSettings};
