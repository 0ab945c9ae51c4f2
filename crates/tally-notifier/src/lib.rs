//! *Service.* Tells the world what became of orders: notifications to merchants, messages to subscribers.
//!
//! What is to be delivered is derived from the read model, and only a fact in the log clears it. Both duties run
//! under leases, so any number of instances may run. Not here: HTTP and NATS themselves, which are ports.

mod announcer;
mod deliverer;
mod duty;
#[cfg(test)]
mod world;

pub use announcer::{Announcer, AnnouncerPorts, RateAnnouncer};
pub use deliverer::{Deliverer, DelivererOptions, DelivererPorts};
