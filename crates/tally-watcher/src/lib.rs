//! *Service.* Watches one chain: follows the log for addresses, the node for blocks and the mempool, and appends
//! what the tracker makes of it.
//!
//! The log is the watcher's only memory: killed between any two appends it continues from what is there. Its
//! store is a cache of the watch set and may be lost. What decides is in `tally-tracker`; what finds payments in
//! bytes is in `tally-matcher`, behind the `BlockSource` port.
//!
//! Not here: orders, addresses as text, any node's protocol, and the choice of adapters (the binary).

mod addresses;
mod advance;
mod config;
mod convert;
mod follower;
mod gauge;
mod health;
mod keeper;
mod late;
mod mempool;
mod persist;
mod replay;
mod shared;
mod trouble;
mod watcher;
mod worker;
mod writer;

#[cfg(test)]
mod tests;

pub use config::WatcherConfig;
pub use health::{HealthView, WatcherHandle};
pub use trouble::WatcherError;
pub use watcher::{Watcher, WatcherPorts};
