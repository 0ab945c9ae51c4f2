//! The rates as they were last published, for whoever answers from them.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tally_events::{Fact, Recorded, Subject};
use tally_ports::{EventLog, PortError};
use tally_pricing::{RateRules, RateTable};
use tally_types::Position;
use tokio::sync::watch;

/// How long to wait before asking a log again that failed.
const PAUSE: Duration = Duration::from_millis(500);

/// Follows the stream of rates. The table begins with what was published last, so a restart answers at once
/// while that is fresh; the receiver sees each later publication. A log that cannot be reached is asked
/// again without end: meanwhile the table ages, and says so when asked. Ends with its last receiver.
pub fn follow(log: Arc<dyn EventLog>, rules: RateRules) -> watch::Receiver<Arc<RateTable>> {
    let (sender, receiver) = watch::channel(Arc::new(RateTable::new(&rules)));
    tokio::spawn(async move {
        let mut position = None;
        loop {
            let followed = tokio::select! {
                () = sender.closed() => return,
                followed = run(&*log, &rules, &sender, &mut position) => followed,
            };
            if let Err(error) = followed {
                tracing::warn!(error = &error as &dyn std::error::Error, "the stream of rates broke off");
            }
            tokio::select! {
                () = sender.closed() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    });
    receiver
}

/// Reads until the stream ends or fails. Only the last fact matters: each replaces all before it.
async fn run(
    log: &dyn EventLog,
    rules: &RateRules,
    sender: &watch::Sender<Arc<RateTable>>,
    position: &mut Option<Position>,
) -> Result<(), PortError> {
    if let Some(last) = log.last(&Subject::rates()).await?
        && position.is_none_or(|position| position < last.position)
    {
        take(&last, rules, sender);
        *position = Some(last.position);
    }
    let mut facts = log.read(position.unwrap_or(Position::START)).await?;
    while let Some(fact) = facts.next().await {
        let fact = fact?;
        take(&fact, rules, sender);
        *position = Some(fact.position);
    }
    Ok(())
}

fn take(recorded: &Recorded, rules: &RateRules, sender: &watch::Sender<Arc<RateTable>>) {
    if let Fact::RatesPublished(published) = &recorded.event.fact {
        let mut table = RateTable::new(rules);
        table.apply(published);
        sender.send_replace(Arc::new(table));
    }
}
