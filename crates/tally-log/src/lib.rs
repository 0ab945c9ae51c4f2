//! The event log, its leases and the public subjects: [`embedded`] on sled, [`nats`] on JetStream.
//!
//! Both pass one conformance suite. Beside them [`copy`]: plain files from which either can be restored, and
//! [`archive`]: files of the orders that were moved out of one.
//! No type of sled or async-nats leaves this crate. Not here: what facts mean.

pub mod archive;
mod check;
pub mod copy;
pub mod embedded;
pub mod nats;

/// Which of an installation's logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogName {
    /// Every fact that a fold reads; kept.
    Main,
    /// The rates as they were published; kept for seven days.
    Rates,
}

/// How long rates are kept.
const RATES_KEPT: tally_types::Span = tally_types::Span::from_secs(7 * 24 * 3600);

/// Notes how long an append took that began at `since`.
fn note_append(since: tokio::time::Instant) {
    metrics::histogram!("tally_log_append_seconds").record(since.elapsed());
}

/// Says whether "appended" is known to mean "on disk".
fn note_durability(verified: bool) {
    for (label, is) in [("1", verified), ("0", !verified)] {
        metrics::gauge!("tally_log_durability", "verified" => label).set(if is { 1.0 } else { 0.0 });
    }
}
