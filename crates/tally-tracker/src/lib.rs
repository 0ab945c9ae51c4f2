//! *Pure.* Follows one chain through reorgs and the mempool: what a watcher saw goes in, facts come out.
//!
//! [`Tracker::apply`] folds the chain's own facts and cannot fail; [`Tracker::decide`] turns what was seen into
//! facts. The state is a function of the facts alone, so a watcher that starts again continues where the log
//! ends. What only concerns the node being asked now stands beside it and is forgotten with it:
//! [`MempoolMemory`] (what this node has held) and [`Loyalty`] (when to leave the log's branch for its branch).
//!
//! Not here: fetching and matching (`tally-watcher`, `tally-chains`), orders, clocks. No chain is named.

mod branch;
mod decide;
mod deposits;
mod handover;
mod loyalty;
mod memory;
mod rescans;
mod seen;
#[cfg(test)]
mod testing;
mod told;
mod tracker;

pub use branch::{Fork, Step};
pub use decide::{CONFIRMED_DEPTHS, Input, Refusal, SILENCE_MAX};
pub use deposits::{Followed, Stage};
pub use handover::Handover;
pub use loyalty::{ABSENCE_MAX, Loyalty};
pub use memory::{GONE_AFTER, MempoolMemory, UNKNOWN_GONE_AFTER};
pub use rescans::{RescanPart, RescanProgress, Rescans, part_blocks};
pub use seen::{Credit, Header, Scanned, Snapshot, Spend};
pub use told::{Told, untold};
pub use tracker::{Settings, Tracker};
