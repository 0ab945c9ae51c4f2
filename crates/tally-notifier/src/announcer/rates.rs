//! Announces rates as they are published on their own stream.
//!
//! Old rates interest nobody: a start publishes the latest and goes on from there. Not here: making rates.

use std::sync::Arc;

use futures::StreamExt;
use tally_events::Subject;
use tally_ports::{EventLog, Lease, PortError, Publisher};
use tally_types::Position;
use tokio_util::sync::CancellationToken;

use super::{FACTS_MAX, messages, publish, while_held};

const LEASE: &str = "announce-rates";

/// Publishes rate messages while it holds the lease.
pub struct RateAnnouncer {
    rates: Arc<dyn EventLog>,
    lease: Arc<dyn Lease>,
    publisher: Arc<dyn Publisher>,
}

impl RateAnnouncer {
    /// An announcer of the facts in `rates`, the stream of rates.
    pub fn new(rates: Arc<dyn EventLog>, lease: Arc<dyn Lease>, publisher: Arc<dyn Publisher>) -> Self {
        Self { rates, lease, publisher }
    }

    /// Publishes until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let Self { rates, lease, publisher } = self;
        while_held(LEASE, lease, None, stop, || session(&*rates, &*publisher)).await;
    }
}

async fn session(rates: &dyn EventLog, publisher: &dyn Publisher) -> Result<(), PortError> {
    let last = rates.last(&Subject::rates()).await?;
    let mut after = Position::START;
    if let Some(last) = last {
        after = last.position;
        publish(publisher, messages::rates(&last)?).await?;
    }
    let mut facts = rates.read(after).await?.ready_chunks(FACTS_MAX);
    while let Some(chunk) = facts.next().await {
        let mut messages = Vec::new();
        for recorded in chunk {
            messages.extend(messages::rates(&recorded?)?);
        }
        publish(publisher, messages).await?;
    }
    Err(PortError::transient("the stream of rates ended"))
}
