//! The rates as they were last published, and how they moved, for whoever answers from them.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tally_events::{Fact, RatesPublished, Recorded, Subject};
use tally_ports::{EventLog, PortError};
use tally_pricing::{RateRules, RateTable};
use tally_types::Position;
use tokio::sync::watch;

use crate::gauges::set_published;

/// How long to wait before asking a log again that failed.
const PAUSE: Duration = Duration::from_millis(500);
/// How many of the latest facts are read for the history: 6 hours at 15 s and some.
const HISTORY_FACTS_MAX: u64 = 2_000;

/// Follows the stream of rates. The table begins with what was published last, so a restart answers at once
/// while that is fresh; the receiver sees each later publication. The history is filled from what the stream
/// still holds. A log that cannot be reached is asked again without end: meanwhile the table ages, and says
/// so when asked. Ends with its last receiver.
pub fn follow(log: Arc<dyn EventLog>, rules: RateRules) -> watch::Receiver<Arc<RateTable>> {
    let (sender, receiver) = watch::channel(Arc::new(RateTable::new(&rules)));
    tokio::spawn(async move {
        let mut follower = Follower { table: RateTable::new(&rules), rules, position: None, sender };
        loop {
            let closed = follower.sender.clone();
            let followed = tokio::select! {
                () = closed.closed() => return,
                followed = follower.run(&*log) => followed,
            };
            if let Err(error) = followed {
                tracing::warn!(error = &error as &dyn std::error::Error, "the stream of rates broke off");
            }
            tokio::select! {
                () = closed.closed() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    });
    receiver
}

struct Follower {
    rules: RateRules,
    /// The table with all that was read so far.
    table: RateTable,
    /// Where the last fact of the table stands; none before the first.
    position: Option<Position>,
    sender: watch::Sender<Arc<RateTable>>,
}

impl Follower {
    /// Reads until the stream ends or fails.
    async fn run(&mut self, log: &dyn EventLog) -> Result<(), PortError> {
        if self.position.is_none()
            && let Some(last) = log.last(&Subject::rates()).await?
        {
            self.begin_with(&last);
            self.recall(log, &last).await?;
            self.position = Some(last.position);
        }
        let mut facts = log.read(self.position.unwrap_or(Position::START)).await?;
        while let Some(fact) = facts.next().await {
            let fact = fact?;
            if let Some(published) = rates(&fact) {
                self.table.apply(published);
                self.send(published);
            }
            self.position = Some(fact.position);
        }
        Ok(())
    }

    /// Answers from the last fact at once: the history may take a moment.
    fn begin_with(&self, last: &Recorded) {
        if let Some(published) = rates(last) {
            let mut table = RateTable::new(&self.rules);
            table.apply(published);
            set_published(published.at);
            self.sender.send_replace(Arc::new(table));
        }
    }

    /// Reads what the stream still has of the last hours, through `last`.
    async fn recall(&mut self, log: &dyn EventLog, last: &Recorded) -> Result<(), PortError> {
        self.table = RateTable::new(&self.rules);
        let after = Position::new(last.position.get().saturating_sub(HISTORY_FACTS_MAX));
        let mut facts = log.read(after).await?;
        while let Some(fact) = facts.next().await {
            let fact = fact?;
            if fact.position >= last.position {
                break;
            }
            if let Some(published) = rates(&fact) {
                self.table.recall(published);
            }
        }
        if let Some(published) = rates(last) {
            self.table.apply(published);
            self.send(published);
        }
        Ok(())
    }

    fn send(&self, published: &RatesPublished) {
        set_published(published.at);
        self.sender.send_replace(Arc::new(self.table.clone()));
    }
}

fn rates(recorded: &Recorded) -> Option<&RatesPublished> {
    match &recorded.event.fact {
        Fact::RatesPublished(published) => Some(published),
        _ => None,
    }
}
