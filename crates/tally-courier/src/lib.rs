//! *Adapter.* Deliveries over HTTP with reqwest, and mail over SMTP with lettre.
//!
//! Where a URL leads is decided by whoever gave it to us, so it is checked at each connect and never before.
//! Not here: what is sent, and when (`tally-notifier`).

mod http;
mod mail;
mod public;

pub use http::{CourierOptions, HttpCourier};
pub use mail::{SmtpMailer, SmtpOptions, SmtpTls};
pub use public::is_public;
