//! The [`Store`](tally_ports::Store) on sled: read models and watch sets, durable with each commit.
//!
//! What is kept here can be folded again from the log; a damaged store is thrown away. No type of sled leaves
//! this crate. sled's write lock is one static per process: while a commit runs here, every other sled in the
//! process waits, so commits should have 500 rows at most, and 100 while catching up beside live appends. Commits of
//! 5,000 rows and more, which only a process of its own should make, are packed: neighbours share a row of sled.

mod files;
mod leaf;
mod packed;
mod rows;
mod store;

pub use store::SledStore;
