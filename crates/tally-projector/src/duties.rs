//! Duties on orders: what a deadline or an order's policy asks for becomes a fact.
//!
//! Orders are divided by their partition into groups, and each group has a lease. The lease says who should act;
//! that no one else did, the expectation of each append ensures. Not here: deliveries (`tally-notifier`).

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use futures::{StreamExt, stream};
use tally_events::{Event, Fact};
use tally_order::{EXPIRY_GRACE, Observation, Order, QuoteState, Refusal};
use tally_ports::{
    AppendError, Clock, DeadlineKind, EventLog, Expectation, Grant, Lease, PortError, ReadModel,
};
use tally_types::{BaseUnits, ChainId, OrderId, Position, Span, Timestamp};
use tokio::time::{Instant, sleep};

use crate::Model;

/// How many deadlines one round looks at, and how many orders whose late money waits; the next goes on behind them, so
/// that orders whose watchers are down, or for whose currency there is no rate, hold nobody up.
const ROUND_MAX: usize = 2_000;

/// How many appends are under way at once.
const APPENDS_MAX: usize = 32;

/// How long a round waits until its facts are folded, so that the next does not decide them again.
const FOLD_WAIT: Span = Span::from_secs(1);

/// What an order costs at the rate of the moment, for late money that is to be priced anew.
pub trait Reprice: Send + Sync {
    /// What the whole price costs now in the quote's currency, in base units; `None` without a rate.
    fn full_price(&self, order: &Order, quote: &QuoteState) -> Option<BaseUnits>;
}

/// Asks a chain's watcher to report at once.
pub type AskForReport = Arc<dyn Fn(&ChainId) + Send + Sync>;

/// How duties are divided and how often they are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DutyOptions {
    /// Into how many groups the 64 partitions are divided, each under a lease of its own.
    pub groups: u8,
    /// How long a lease holds without being renewed.
    pub lease: Span,
    /// How long to rest between two rounds.
    pub rest: Span,
}

impl Default for DutyOptions {
    fn default() -> Self {
        Self { groups: 4, lease: Span::from_secs(3), rest: Span::from_millis(250) }
    }
}

/// A group of partitions that this process looks after.
struct Held {
    grant: Grant,
    renewed: Instant,
    /// The log's head when the lease was granted: what the holder before wrote is folded from there on.
    ready_at: Position,
}

/// Does what deadlines and policies ask for.
pub struct Duties {
    log: Arc<dyn EventLog>,
    lease: Arc<dyn Lease>,
    clock: Arc<dyn Clock>,
    model: Arc<Model>,
    reprice: Option<Arc<dyn Reprice>>,
    ask: Option<AskForReport>,
    options: DutyOptions,
    held: HashMap<u8, Held>,
    /// Where the next round goes on among the deadlines.
    cursor: Option<Vec<u8>>,
    /// Where it goes on among the orders whose late money waits.
    awaiting: Option<Vec<u8>>,
}

impl Duties {
    /// Duties over the orders of a read model. Without `reprice`, late money that is to be priced anew waits.
    pub fn new(
        log: Arc<dyn EventLog>,
        lease: Arc<dyn Lease>,
        clock: Arc<dyn Clock>,
        model: Arc<Model>,
        reprice: Option<Arc<dyn Reprice>>,
        options: DutyOptions,
    ) -> Self {
        let options = DutyOptions { groups: options.groups.clamp(1, 64), ..options };
        Self {
            log,
            lease,
            clock,
            model,
            reprice,
            ask: None,
            options,
            held: HashMap::new(),
            cursor: None,
            awaiting: None,
        }
    }

    /// With a way to the watchers of the same process: a deadline that has passed and only waits for a chain's
    /// report is not left to wait until the watcher says something by itself.
    #[must_use]
    pub fn asking(mut self, ask: AskForReport) -> Self {
        self.ask = Some(ask);
        self
    }

    /// Does its rounds for ever; what goes wrong in one is tried again in the next. Dropping the future stops
    /// it, and its leases run out.
    pub async fn run(&mut self) -> Infallible {
        loop {
            if let Err(error) = self.round().await {
                tracing::warn!(%error, "a round of duties was cut short");
            }
            sleep(self.options.rest.to_duration()).await;
        }
    }

    /// One round: leases, then what is due. Answers how many facts were appended.
    ///
    /// # Errors
    /// Those of lease, log and read model.
    pub async fn round(&mut self) -> Result<usize, PortError> {
        self.hold_leases().await?;
        let now = self.clock.now();
        let due = self.due(now).await?;
        if due.is_empty() {
            return Ok(0);
        }
        let appended: Vec<Position> = stream::iter(due)
            .map(|(order, fact)| self.append(order, fact, now))
            .buffer_unordered(APPENDS_MAX)
            .filter_map(std::future::ready)
            .collect()
            .await;
        if let Some(last) = appended.iter().max() {
            self.model.wait_for(*last, FOLD_WAIT).await;
        }
        Ok(appended.len())
    }

    /// Gives every lease back, so that another takes over at once.
    ///
    /// # Errors
    /// Those of the lease.
    pub async fn release(&mut self) -> Result<(), PortError> {
        for (_, held) in self.held.drain() {
            self.lease.release(held.grant).await?;
        }
        Ok(())
    }

    async fn hold_leases(&mut self) -> Result<(), PortError> {
        for group in 0..self.options.groups {
            match self.held.remove(&group) {
                Some(held) if held.renewed.elapsed() * 3 < self.options.lease.to_duration() => {
                    self.held.insert(group, held);
                }
                Some(held) => {
                    let renewed = Instant::now();
                    match self.lease.renew(&held.grant, self.options.lease).await {
                        Ok(Some(grant)) => {
                            self.held.insert(group, Held { grant, renewed, ready_at: held.ready_at });
                        }
                        Ok(None) => tracing::info!(group, "the duties of a group passed to another instance"),
                        Err(error) => {
                            self.held.insert(group, held);
                            return Err(error);
                        }
                    }
                }
                None => self.acquire(group).await?,
            }
        }
        Ok(())
    }

    async fn acquire(&mut self, group: u8) -> Result<(), PortError> {
        let renewed = Instant::now();
        let name = format!("duties-{group}");
        if let Some(grant) = self.lease.acquire(&name, self.options.lease).await? {
            let ready_at = self.log.head().await?;
            tracing::info!(group, epoch = grant.epoch.get(), "holds the duties of a group");
            self.held.insert(group, Held { grant, renewed, ready_at });
        }
        Ok(())
    }

    /// The lease that an order falls under, if it is held here and what was before is folded.
    fn holder(&self, order: &OrderId) -> Option<&Held> {
        let held = self.held.get(&(order.partition() % self.options.groups))?;
        let holds = held.renewed.elapsed() < self.options.lease.to_duration();
        (holds && self.model.position() >= held.ready_at).then_some(held)
    }

    /// What orders under leases held here are due for.
    async fn due(&mut self, now: Timestamp) -> Result<Vec<(Order, Fact)>, PortError> {
        let (deadlines, next) = self.model.due_after(self.cursor.take(), now, ROUND_MAX).await?;
        self.cursor = next;
        let mut due = Vec::new();
        let mut seen: HashMap<ChainId, Option<Observation>> = HashMap::new();
        for deadline in deadlines.iter().filter(|deadline| self.holder(&deadline.order).is_some()) {
            let Some(order) = self.model.order(&deadline.order).await? else { continue };
            self.look(&order, &mut seen).await?;
            match decide(&order, deadline.kind, now, &seen) {
                Ok(fact) => due.push((order, fact)),
                Err(Refusal::Unobserved(chain)) if now >= deadline.at.plus(EXPIRY_GRACE) => {
                    if let Some(ask) = &self.ask {
                        ask(&chain);
                    }
                }
                Err(_) => {}
            }
        }
        let (awaiting, next) = self.model.awaiting(self.awaiting.take(), ROUND_MAX).await?;
        self.awaiting = next;
        for order in awaiting {
            let full = |quote: &QuoteState| self.reprice.as_ref()?.full_price(&order, quote);
            if self.holder(order.id()).is_some()
                && !due.iter().any(|(other, _)| other.id() == order.id())
                && let Ok(accepted) = order.accept_by_policy(full)
            {
                due.push((order, accepted.into()));
            }
        }
        Ok(due)
    }

    /// What the watchers of an order's chains reported last.
    async fn look(
        &self,
        order: &Order,
        seen: &mut HashMap<ChainId, Option<Observation>>,
    ) -> Result<(), PortError> {
        for quote in order.quotes() {
            let chain = &quote.terms().chain;
            if !seen.contains_key(chain) {
                let view = self.model.chain(chain).await?;
                let seen_at = view.map(|view| Observation {
                    observed_at: view.observed_at,
                    watched_through: view.watched_through,
                });
                seen.insert(chain.clone(), seen_at);
            }
        }
        Ok(())
    }

    /// Appends a fact to an order as it was decided; `None` where someone was faster or the log failed.
    async fn append(&self, order: Order, fact: Fact, now: Timestamp) -> Option<Position> {
        let epoch = self.holder(order.id())?.grant.epoch;
        let subject = order.subject();
        let expectation = Expectation::new(subject.clone(), order.own_position());
        let kind = fact.kind();
        let event = Event::new(subject, fact, now).under(epoch);
        match self.log.append(vec![expectation], vec![event]).await {
            Ok(positions) => {
                tracing::info!(order = %order.id(), kind, "a duty is done");
                positions.into_iter().max()
            }
            Err(AppendError::Stale { .. }) => None,
            Err(error) => {
                tracing::warn!(order = %order.id(), kind, %error, "a duty is tried again");
                None
            }
        }
    }
}

/// What a deadline asks for.
///
/// # Errors
/// Why nothing is to be done, or not yet.
fn decide(
    order: &Order,
    kind: DeadlineKind,
    now: Timestamp,
    seen: &HashMap<ChainId, Option<Observation>>,
) -> Result<Fact, Refusal> {
    let observed = |chain: &ChainId| seen.get(chain).copied().flatten();
    match kind {
        DeadlineKind::Expiry => order.expire(now, observed).map(Fact::from),
        DeadlineKind::Invalidation => order.invalidate(now, observed).map(Fact::from),
        DeadlineKind::Unwatch => order.unwatch(now).map(Fact::from),
    }
}
