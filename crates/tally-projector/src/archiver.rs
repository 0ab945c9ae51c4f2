//! The duty of archiving: orders that have been closed for long go, whole, into the archive and leave the log.
//!
//! A segment of orders takes four steps, each durable before the next: its file, the fact in the log that says so,
//! the purge of its facts, and the note that this is done. Whoever holds the duty goes on with what was begun, from
//! what is there: a segment without a fact gets its fact, a segment with one is purged (again). Each step done twice
//! is as if done once, so that one who lost the lease unawares does no harm either.
//!
//! Claims stay in the log: that a merchant's own id is taken is what its expectation says, also on an instance whose
//! read model is behind. Not here: files (`tally-log`), and what an archived order is for a fold (`fold/archive`).

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tally_events::{ArchivedOrder, Event, Fact, OrdersArchived, Recorded, Subject};
use tally_order::Order;
use tally_ports::{AppendError, Archive, Clock, Expectation, Grant, Lease, PortError, Purge, ReadModel};
use tally_types::{OrderId, Position, Span};
use tokio::time::{Instant, sleep};

use crate::Model;

/// The name of the lease.
const LEASE: &str = "archive";

/// Facts of one segment, about; one order more may go over it.
const FACTS_MAX: usize = 10_000;

/// Reads of the log at a time.
const READS: usize = 8;

/// When orders are archived, and how fast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiverOptions {
    /// How long an order must have been closed.
    pub after: Span,
    /// Orders in one segment, at most.
    pub orders: usize,
    /// The pause after each order that is purged.
    pub pace: Duration,
    /// How long a lease holds without being renewed.
    pub lease: Span,
    /// How long to rest when there is nothing to do, or something went wrong.
    pub rest: Span,
}

impl Default for ArchiverOptions {
    fn default() -> Self {
        Self {
            after: Span::from_secs(180 * 86_400),
            orders: 250,
            pace: Duration::from_micros(300),
            lease: Span::from_secs(4),
            rest: Span::from_secs(10),
        }
    }
}

/// What the archiver works with.
pub struct ArchiverPorts {
    /// The log itself, not together with its archive.
    pub log: Arc<dyn Purge>,
    /// Where orders go.
    pub archive: Arc<dyn Archive>,
    /// Who holds the duty.
    pub lease: Arc<dyn Lease>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The orders.
    pub model: Arc<Model>,
}

struct Held {
    grant: Grant,
    renewed: Instant,
    ready_at: Position,
}

/// Moves closed orders into the archive.
pub struct Archiver {
    ports: ArchiverPorts,
    options: ArchiverOptions,
    held: Option<Held>,
}

impl Archiver {
    /// An archiver that holds no lease yet.
    pub fn new(ports: ArchiverPorts, options: ArchiverOptions) -> Self {
        Self { ports, options, held: None }
    }

    /// Does its rounds for ever; what goes wrong in one is tried again in the next.
    pub async fn run(&mut self) -> Infallible {
        loop {
            match self.round().await {
                Ok(0) => {}
                Ok(_) => continue,
                Err(error) => {
                    tracing::warn!(%error, "a round of archiving was cut short");
                    metrics::counter!("tally_archive_failures_total").increment(1);
                }
            }
            // The lease is for the rounds; between them anyone may have it.
            if let Some(held) = self.held.take()
                && let Err(error) = self.ports.lease.release(held.grant).await
            {
                tracing::debug!(%error, "the lease could not be given back; it runs out by itself");
            }
            sleep(self.options.rest.to_duration()).await;
        }
    }

    /// One round, if the lease is to be had: what was begun is ended, then one more segment. Answers how many orders
    /// left the log.
    ///
    /// # Errors
    /// Those of log, lease, archive and read model.
    pub async fn round(&mut self) -> Result<usize, PortError> {
        if !self.hold().await? {
            return Ok(0);
        }
        let done = self.finish().await?;
        let Some((index, facts)) = self.gather().await? else { return Ok(done) };
        let stored = self.ports.archive.store(index, facts).await?;
        Ok(done.saturating_add(self.conclude(stored).await?))
    }

    /// Whether the lease is held and the fold has all that stood in the log when it was granted.
    async fn hold(&mut self) -> Result<bool, PortError> {
        let ports = &self.ports;
        let asked = Instant::now();
        let held = match self.held.take() {
            Some(held) if held.renewed.elapsed() * 3 < self.options.lease.to_duration() => Some(held),
            Some(Held { grant, ready_at, .. }) => {
                let grant = ports.lease.renew(&grant, self.options.lease).await?;
                grant.map(|grant| Held { grant, renewed: asked, ready_at })
            }
            None => match ports.lease.acquire(LEASE, self.options.lease).await? {
                Some(grant) => {
                    let ready_at = ports.log.head().await?;
                    Some(Held { grant, renewed: asked, ready_at })
                }
                None => None,
            },
        };
        let ready = held.as_ref().is_some_and(|held| ports.model.position() >= held.ready_at);
        self.held = held;
        Ok(ready)
    }

    /// The last segment that the log knows of, and where it says so.
    async fn sealed(&self) -> Result<(Option<OrdersArchived>, Position), PortError> {
        Ok(match self.ports.log.last(&Subject::archive()).await? {
            Some(Recorded { position, event: Event { fact: Fact::OrdersArchived(last), .. } }) => {
                (Some(last), position)
            }
            Some(other) => (None, other.position),
            None => (None, Position::START),
        })
    }

    /// Ends what was begun.
    async fn finish(&mut self) -> Result<usize, PortError> {
        let sealed = self.sealed().await?.0.map_or(0, |last| last.segment);
        let mut done = 0_usize;
        let purged = self.ports.archive.purged().await?;
        for number in purged.min(sealed).saturating_add(1)..=sealed {
            let Some(index) = self.ports.archive.segment(number).await? else {
                return Err(PortError::persistent(format!(
                    "the archive lacks segment {number}, and the log says that there are {sealed}: put the archive's \
                     folder in its place"
                )));
            };
            done = done.saturating_add(self.purge(&index).await?);
        }
        match self.ports.archive.segment(sealed.saturating_add(1)).await? {
            Some(stored) => Ok(done.saturating_add(self.conclude(stored).await?)),
            None => Ok(done),
        }
    }

    /// Appends the fact about a segment that is in the archive, and purges.
    async fn conclude(&mut self, index: OrdersArchived) -> Result<usize, PortError> {
        let (last, at) = self.sealed().await?;
        if last.map_or(0, |last| last.segment).saturating_add(1) != index.segment {
            return Err(PortError::transient(format!(
                "segment {} of the archive is another instance's",
                index.segment
            )));
        }
        let Some(epoch) = self.held.as_ref().map(|held| held.grant.epoch) else { return Ok(0) };
        let now = self.ports.clock.now();
        let event = Event::new(Subject::archive(), index.clone(), now).under(epoch);
        let expectation = Expectation::new(Subject::archive(), at);
        match self.ports.log.append(vec![expectation], vec![event]).await {
            Ok(_) => self.purge(&index).await,
            // Another instance was faster, and goes on.
            Err(AppendError::Stale { .. }) => Ok(0),
            Err(AppendError::Port(error)) => Err(error),
            Err(error @ AppendError::Invalid(_)) => {
                Err(PortError::persistent("a segment of the archive does not fit the log").because(error))
            }
        }
    }

    /// Takes a segment's facts out of the log, order by order.
    async fn purge(&mut self, index: &OrdersArchived) -> Result<usize, PortError> {
        for archived in &index.orders {
            if !self.hold().await? && self.held.is_none() {
                return Err(PortError::transient("the lease of archiving was lost"));
            }
            let log = &self.ports.log;
            if archived.delivered > Position::START {
                log.purge(&Subject::delivery(&archived.order), archived.delivered).await?;
            }
            log.purge(&Subject::order(&archived.order), archived.last).await?;
            sleep(self.options.pace).await;
        }
        self.ports.archive.note_purged(index.segment).await?;
        metrics::counter!("tally_archived_orders_total").increment(index.orders.len() as u64);
        metrics::gauge!("tally_archive_segments").set(index.segment as f64);
        tracing::info!(segment = index.segment, orders = index.orders.len(), facts = index.facts, "archived");
        Ok(index.orders.len())
    }

    /// The next segment, if any order has been closed for long enough.
    async fn gather(&self) -> Result<Option<(OrdersArchived, Vec<Recorded>)>, PortError> {
        let horizon = self.ports.clock.now().minus(self.options.after);
        let (last, _) = self.sealed().await?;
        let mut taken: Vec<(ArchivedOrder, Vec<Recorded>)> = Vec::new();
        let mut seen: HashSet<OrderId> = HashSet::new();
        let (mut place, mut count) = (None, 0_usize);
        while taken.len() < self.options.orders && count < FACTS_MAX {
            let wanted = self.options.orders.saturating_sub(taken.len());
            let (ids, next) = self.ports.model.closed_until(place.take(), horizon, wanted).await?;
            let new: Vec<OrderId> = ids.into_iter().filter(|id| seen.insert(id.clone())).collect();
            let whole: Vec<Option<(ArchivedOrder, Vec<Recorded>)>> =
                stream::iter(new).map(|id| self.whole(id)).buffered(READS).try_collect().await?;
            for found in whole.into_iter().flatten() {
                if count >= FACTS_MAX {
                    break;
                }
                count = count.saturating_add(found.1.len());
                taken.push(found);
            }
            match next {
                Some(next) => place = Some(next),
                None => break,
            }
        }
        Ok(segment(taken, last.as_ref()))
    }

    /// An order with all its facts, unless something about it is still to be done or just happening.
    async fn whole(&self, id: OrderId) -> Result<Option<(ArchivedOrder, Vec<Recorded>)>, PortError> {
        let model = &self.ports.model;
        let Some(order) = model.order(&id).await? else { return Ok(None) };
        let deliveries = model.deliveries(&id).await?;
        if order.closed_since().is_none() || deliveries.iter().any(|delivery| delivery.due) {
            return Ok(None);
        }
        let mut facts = self.ports.log.all_on(&order.subject()).await?;
        let delivered = self.ports.log.all_on(&Subject::delivery(&id)).await?;
        let end = |facts: &[Recorded]| facts.last().map_or(Position::START, |fact| fact.position);
        let folded = deliveries.iter().map(|delivery| delivery.position).max().unwrap_or(Position::START);
        if end(&facts) != order.own_position() || end(&delivered) != folded {
            return Ok(None);
        }
        let endpoints = deliveries.into_iter().map(|delivery| delivery.endpoint).collect();
        let ends = (end(&facts), end(&delivered));
        facts.extend(delivered);
        let first = facts.iter().map(|fact| fact.position).min().unwrap_or(ends.0);
        Ok(Some((final_state(&order, first, ends, endpoints), facts)))
    }
}

fn final_state(
    order: &Order,
    first: Position,
    (last, delivered): (Position, Position),
    endpoints: Vec<String>,
) -> ArchivedOrder {
    ArchivedOrder {
        order: order.id().clone(),
        status: order.status().as_str().to_owned(),
        exceptions: order.exceptions().iter().map(|exception| exception.as_str().to_owned()).collect(),
        version: order.version(),
        first,
        last,
        delivered,
        endpoints,
    }
}

/// Orders as a segment, in log order; none without an order.
fn segment(
    mut orders: Vec<(ArchivedOrder, Vec<Recorded>)>,
    before: Option<&OrdersArchived>,
) -> Option<(OrdersArchived, Vec<Recorded>)> {
    orders.sort_by_key(|(archived, _)| archived.first);
    let (orders, facts): (Vec<_>, Vec<_>) = orders.into_iter().unzip();
    let mut facts: Vec<Recorded> = facts.into_iter().flatten().collect();
    facts.sort_by_key(|fact| fact.position);
    let (first, last) = (facts.first()?.position, facts.last()?.position);
    let index = OrdersArchived {
        segment: before.map_or(0, |before| before.segment).saturating_add(1),
        facts: facts.len() as u64,
        first,
        last,
        through: before.map_or(last, |before| before.through.max(last)),
        digest: OrdersArchived::digest_of(&facts),
        orders,
    };
    Some((index, facts))
}
