//! *Service.* Folds the whole log into a store that faces and duties read, and does what deadlines ask for.
//!
//! - [`Projector`] follows the log and commits states, indexes and its checkpoint together.
//! - [`Model`] answers from the store: the [`ReadModel`](tally_ports::ReadModel) port.
//! - [`Duties`] expires, invalidates, unwatches and accepts late money, under leases.
//! - [`Archiver`] moves orders that were closed long ago out of the log, under a lease.
//!
//! Not here: what facts mean for an order (`tally-order`), deliveries themselves (`tally-notifier`), any
//! particular store or log.

mod archiver;
mod cache;
mod codec;
mod duties;
mod filter;
mod fold;
mod keys;
mod model;
mod overlay;
mod projector;
mod rows;

#[cfg(test)]
mod tests;

pub use archiver::{Archiver, ArchiverOptions, ArchiverPorts};
pub use duties::{AskForReport, Duties, DutyOptions, Reprice};
pub use model::Model;
pub use projector::{Options, PROJECTOR_VERSION, Projector};
