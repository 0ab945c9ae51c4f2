//! Fakes of every port, builders of facts, and the conformance suites that every implementation of a port runs.
//!
//! For tests only: never a normal dependency. Not here: anything a test of one crate alone needs.

mod chain;
mod clock;
mod courier;
mod facts;
mod far;
mod feed;
mod lease;
mod log;
mod meters;
mod publisher;
mod store;

pub mod conformance;

pub use chain::{FakeChain, Finding, Payment};
pub use clock::{ManualClock, SeededEntropy};
pub use courier::{RecordingCourier, RecordingMailer};
pub use facts::{canceled, chain_id, claimed, currency, expired, order_id, script};
pub use far::{Far, Way};
pub use feed::ScriptedFeed;
pub use lease::MemoryLease;
pub use log::MemoryLog;
pub use meters::Meters;
pub use publisher::RecordingPublisher;
pub use store::MemoryStore;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The lock, whatever became of the thread that held it before: a failed test must not hide behind another.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
