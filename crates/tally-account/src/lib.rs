//! *Pure.* Merchants with their settings, API keys and wallets, and the counters of extended public keys, as folds.
//!
//! `decide`-like methods turn a command into facts or a [`Refusal`]; `apply` folds a fact and cannot fail.
//! Not here: secrets in the clear, randomness, key derivation.

mod counter;
mod merchant;
mod policy;

pub use counter::KeyCounter;
pub use merchant::{ApiKey, Merchant, Refusal, Wallet};
pub use policy::{ChainDefaults, PolicyDefaults};
