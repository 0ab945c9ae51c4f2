//! The announcer: every version of every order, and what happens to every deposit, for subscribers.
//!
//! It follows the log from the position of the last message that was published, in log order, behind the read
//! model; what it was at when it stopped is published again, under the same ids. Rates have their own stream
//! and their own announcer. Not here: where messages go.

use std::sync::Arc;

use futures::StreamExt;
use tally_events::{Fact, Recorded};
use tally_order::Order;
use tally_ports::{EventLog, Lease, Message, PortError, Publisher, ReadModel};
use tally_types::{ChainId, DepositKey, Position, Span};
use tokio::sync::watch;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use crate::duty::{Fold, Held, Keeper, Term};

mod messages;
mod rates;
#[cfg(test)]
mod tests;

pub use rates::RateAnnouncer;

const LEASE: &str = "announce";
/// Facts that are looked at together.
const FACTS_MAX: usize = 256;
/// Versions that are read together.
const VERSIONS_MAX: usize = 256;
/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// How long one wait for the read model lasts.
const WAIT: Span = Span::from_millis(500);

/// What the announcer works with.
#[derive(Clone)]
pub struct AnnouncerPorts {
    /// The folded state.
    pub model: Arc<dyn ReadModel>,
    /// The facts.
    pub log: Arc<dyn EventLog>,
    /// Who announces.
    pub lease: Arc<dyn Lease>,
    /// Where messages go.
    pub publisher: Arc<dyn Publisher>,
}

/// Publishes status and deposit messages. See the module.
pub struct Announcer {
    ports: AnnouncerPorts,
}

impl Announcer {
    /// An announcer.
    pub fn new(ports: AnnouncerPorts) -> Self {
        Self { ports }
    }

    /// Publishes until `stop`, while it holds the lease.
    pub async fn run(self, stop: CancellationToken) {
        let Self { ports } = self;
        let fold = Fold { log: ports.log.clone(), model: ports.model.clone() };
        while_held(LEASE, ports.lease.clone(), Some(fold), stop, || session(&ports)).await;
    }
}

/// Does `work` again and again while the lease `name` is held, and stops it at once when the lease is lost.
async fn while_held<W, F>(
    name: &str,
    lease: Arc<dyn Lease>,
    fold: Option<Fold>,
    stop: CancellationToken,
    work: W,
) where
    W: Fn() -> F,
    F: Future<Output = Result<(), PortError>>,
{
    let keeper = Keeper { lease, fold, names: vec![name.to_owned()], ttl: crate::duty::LEASE };
    let (sender, mut held) = watch::channel(Held::new());
    let worker = async {
        loop {
            let lasts = |held: &Held| held.get(name).is_some_and(Term::lasts);
            if held.wait_for(lasts).await.is_err() {
                // The keeper has ended, and ends this.
                std::future::pending::<()>().await;
            }
            // First of all: a process that was frozen does not go on with what another does now.
            let result = tokio::select! {
                biased;
                () = lost(&mut held, name) => Ok(()),
                result = work() => result,
            };
            if let Err(error) = result {
                tracing::warn!(%error, duty = name, "interrupted; it goes on from what was published");
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    tokio::select! {
        () = keeper.run(sender, stop) => {}
        () = worker => {}
    }
}

/// Returns when a duty is no longer held, or its term has run out before it was renewed.
async fn lost(held: &mut watch::Receiver<Held>, name: &str) {
    loop {
        let Some(until) = held.borrow().get(name).map(|term| term.until) else { return };
        if Instant::now() >= until {
            return;
        }
        // Either way it is looked at again.
        let _ = tokio::time::timeout_at(until, held.wait_for(|held| !held.contains_key(name))).await;
    }
}

/// Publishes from where the last session stopped, until something fails.
async fn session(ports: &AnnouncerPorts) -> Result<(), PortError> {
    // Not all messages of the last position need have got through: it is published again.
    let last = ports.publisher.last_position().await?.unwrap_or(Position::START);
    let mut after = Position::new(last.get().saturating_sub(1));
    let mut facts = ports.log.read(after).await?.ready_chunks(FACTS_MAX);
    while let Some(chunk) = facts.next().await {
        let chunk = chunk.into_iter().collect::<Result<Vec<_>, _>>()?;
        let Some(through) = chunk.last().map(|recorded| recorded.position) else { continue };
        while !ports.model.wait_for(through, WAIT).await {}
        announce(ports, &chunk, after, through).await?;
        after = through;
    }
    Err(PortError::transient("the stream of facts ended"))
}

/// Publishes what follows from the facts after one position through another, in order.
async fn announce(
    ports: &AnnouncerPorts,
    facts: &[Recorded],
    after: Position,
    through: Position,
) -> Result<(), PortError> {
    let mut deposits = Vec::new();
    for recorded in facts {
        deposits.extend(deposit_message(ports, recorded).await?);
    }
    let mut deposits = deposits.into_iter().peekable();
    let mut after = after;
    let mut limit = VERSIONS_MAX;
    loop {
        let versions = ports.model.versions(after, limit).await?;
        let (first, last) = (versions.first(), versions.last());
        let (first, last) = (first.map(|row| row.position), last.map(|row| row.position));
        if versions.len() >= limit && first == last {
            // All of one fact: there may be more of it than was read.
            limit = limit.saturating_mul(2);
            continue;
        }
        // A short page is not the end: what one fact made is not divided.
        let more = last.filter(|last| *last < through);
        let mut messages = Vec::new();
        for reached in versions.iter().filter(|reached| reached.position <= through) {
            // Of one fact, the deposit comes before what it made of the order.
            while let Some(message) = deposits.next_if(|message| message.position <= Some(reached.position)) {
                messages.push(message);
            }
            messages.push(messages::status(reached)?);
        }
        if more.is_none() {
            messages.extend(deposits.by_ref());
        }
        publish(&*ports.publisher, messages).await?;
        match more {
            Some(last) => after = last,
            None => return Ok(()),
        }
        limit = VERSIONS_MAX;
    }
}

async fn publish(publisher: &dyn Publisher, messages: Vec<Message>) -> Result<(), PortError> {
    if messages.is_empty() { Ok(()) } else { publisher.publish(messages).await }
}

/// The message of a deposit's fact, where the deposit pays an order.
async fn deposit_message(ports: &AnnouncerPorts, recorded: &Recorded) -> Result<Option<Message>, PortError> {
    let Some((chain, key)) = deposit_of(&recorded.event.fact) else { return Ok(None) };
    let Some(order) = order_of(ports, chain, key).await? else { return Ok(None) };
    messages::deposit(recorded, &order)
}

/// The chain and identity of the deposit that a fact is about.
fn deposit_of(fact: &Fact) -> Option<(&ChainId, &DepositKey)> {
    match fact {
        Fact::DepositSeen(fact) => Some((&fact.chain, &fact.deposit.key)),
        Fact::DepositMined(fact) => Some((&fact.chain, &fact.deposit.key)),
        Fact::DepositUnmined(fact) => Some((&fact.chain, &fact.deposit)),
        Fact::DepositReplaced(fact) => Some((&fact.chain, &fact.deposit)),
        Fact::DepositVanished(fact) => Some((&fact.chain, &fact.deposit)),
        Fact::DepositConfirmed(fact) => Some((&fact.chain, &fact.deposit)),
        _ => None,
    }
}

async fn order_of(
    ports: &AnnouncerPorts,
    chain: &ChainId,
    key: &DepositKey,
) -> Result<Option<Order>, PortError> {
    match ports.model.order_by_deposit(chain, key).await? {
        Some(order) => ports.model.order(&order).await,
        None => Ok(None),
    }
}
