//! The loop of the publisher: hold the lease, poll, aggregate, publish.
//!
//! That only one publishes is ensured by the expectation of every append; the lease keeps others from asking
//! the venues too.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tally_events::{Event, RatesPublished, Subject};
use tally_ports::{AppendError, Clock, EventLog, Expectation, Grant, Lease, PortError, PriceFeed};
use tally_pricing::{Aggregator, RateRules};
use tally_types::{Position, Span, Timestamp};
use tokio::sync::{mpsc, oneshot};

use crate::gauges::Gauges;
use crate::poller::Poller;

/// The name of the lease.
const LEASE: &str = "rates";
/// The shortest lease; shorter ones would be lost to a pause of the machine.
const TTL_MIN: Span = Span::from_millis(1_500);
/// How often the clock is looked at: it may be advanced by hand.
const TURN: Duration = Duration::from_millis(100);
/// Every venue has at least this long to answer.
const TIMEOUT_MIN: Span = Span::from_secs(1);
/// How many callers may wait for a poll.
const CALLERS_MAX: usize = 16;

/// How the service is set up.
#[derive(Debug, Clone)]
pub struct RateSettings {
    /// The time between two polls.
    pub poll: Span,
    /// What is priced.
    pub rules: RateRules,
    /// How often single venues are asked, by name, where that is not the usual: exchanges in every poll,
    /// sources of fiat in every twentieth. They are asked in the first poll after that time.
    pub intervals: BTreeMap<String, Span>,
    /// How long a venue may take to answer.
    pub timeout: Span,
}

impl RateSettings {
    /// How long a venue is waited for: none may hold up the others for longer than a poll.
    pub fn venue_timeout(&self) -> Span {
        self.timeout.min(self.poll.max(TIMEOUT_MIN))
    }
}

impl Default for RateSettings {
    fn default() -> Self {
        Self {
            poll: Span::from_secs(15),
            rules: RateRules::default(),
            intervals: BTreeMap::new(),
            timeout: Span::from_secs(10),
        }
    }
}

/// Asks the publisher of the same process to poll now: for simulated prices that have just been set.
#[derive(Debug, Clone)]
pub struct PollNow {
    calls: mpsc::Sender<oneshot::Sender<()>>,
}

impl PollNow {
    /// Polls all feeds and publishes. False if this process does not hold the lease, or could not publish.
    pub async fn poll(&self) -> bool {
        let (done, published) = oneshot::channel();
        self.calls.send(done).await.is_ok() && published.await.is_ok()
    }

    /// Polls twice, since a jump counts only when a second poll agrees.
    pub async fn settle(&self) -> bool {
        self.poll().await && self.poll().await
    }
}

/// The rate service.
pub struct RateService {
    feeds: Vec<Arc<dyn PriceFeed>>,
    log: Arc<dyn EventLog>,
    lease: Arc<dyn Lease>,
    clock: Arc<dyn Clock>,
    settings: RateSettings,
    calls: mpsc::Receiver<oneshot::Sender<()>>,
}

/// Why the publisher stopped publishing.
enum Stopped {
    /// It was told to.
    ByRequest,
    /// Someone else holds the lease, or publishes.
    Ousted,
}

/// What the publisher knows in its term.
struct Term {
    grant: Grant,
    aggregator: Aggregator,
    poller: Poller,
    gauges: Gauges,
    position: Position,
    polled_at: Option<Timestamp>,
}

impl RateService {
    /// A service that publishes on `log`, the stream of rates, and a handle to have it poll at once.
    pub fn new(
        feeds: Vec<Arc<dyn PriceFeed>>,
        log: Arc<dyn EventLog>,
        lease: Arc<dyn Lease>,
        clock: Arc<dyn Clock>,
        settings: RateSettings,
    ) -> (Self, PollNow) {
        let (sender, calls) = mpsc::channel(CALLERS_MAX);
        (Self { feeds, log, lease, clock, settings, calls }, PollNow { calls: sender })
    }

    /// Runs until `stop`, then gives the lease back. Failures of the log, the lease and the feeds are waited
    /// out.
    pub async fn run(mut self, stop: impl Future<Output = ()> + Send) {
        let mut stop = pin!(stop);
        loop {
            let grant = tokio::select! {
                () = &mut stop => return,
                grant = self.acquire() => grant,
            };
            let mut term = tokio::select! {
                () = &mut stop => return self.release(grant).await,
                term = self.begin(grant.clone()) => match term {
                    Ok(term) => term,
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "cannot read the rates");
                        self.release(grant).await;
                        tokio::time::sleep(self.step()).await;
                        continue;
                    }
                },
            };
            let stopped = self.serve(&mut term, stop.as_mut()).await;
            term.gauges.retire();
            match stopped {
                Stopped::ByRequest => return self.release(term.grant).await,
                Stopped::Ousted => tracing::warn!("another instance publishes the rates"),
            }
        }
    }

    /// One and a half polls, so that a standby, which asks every quarter, takes over within two.
    fn ttl(&self) -> Span {
        let polls = self.settings.poll.millis().saturating_mul(3) / 2;
        Span::from_millis(polls.max(TTL_MIN.millis()))
    }

    fn step(&self) -> Duration {
        Span::from_millis((self.ttl().millis() / 6).clamp(50, 5_000)).to_duration()
    }

    async fn acquire(&mut self) -> Grant {
        loop {
            match self.lease.acquire(LEASE, self.ttl()).await {
                Ok(Some(grant)) => return grant,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot ask for the lease of rates"
                    );
                }
            }
            // Nobody polls here meanwhile: callers are told so.
            while self.calls.try_recv().is_ok() {}
            tokio::time::sleep(self.step()).await;
        }
    }

    async fn release(&self, grant: Grant) {
        if let Err(error) = self.lease.release(grant).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the lease of rates runs out by itself");
        }
    }

    async fn begin(&self, grant: Grant) -> Result<Term, PortError> {
        let mut aggregator = Aggregator::new(self.settings.rules.clone());
        let position = resume(&*self.log, &mut aggregator).await?;
        let settings = &self.settings;
        let poller =
            Poller::new(self.feeds.clone(), &settings.intervals, settings.poll, settings.venue_timeout());
        Gauges::show_rules(&settings.rules);
        tracing::info!(epoch = grant.epoch.get(), "publishing rates");
        Ok(Term { grant, aggregator, poller, gauges: Gauges::default(), position, polled_at: None })
    }

    /// Polls and publishes while the lease holds.
    async fn serve(
        &mut self,
        term: &mut Term,
        mut stop: std::pin::Pin<&mut impl Future<Output = ()>>,
    ) -> Stopped {
        let renew = Span::from_millis(self.ttl().millis() / 3).to_duration();
        let (poll, clock, log, lease, ttl) =
            (self.settings.poll, &*self.clock, &*self.log, &*self.lease, self.ttl());
        let mut held =
            Held { grant: term.grant.clone(), until: tokio::time::Instant::now() + ttl.to_duration() };
        let outcome = {
            let calls = &mut self.calls;
            let mut work = pin!(publish_on(term, calls, log, clock, poll));
            loop {
                tokio::select! {
                    () = stop.as_mut() => break Stopped::ByRequest,
                    stopped = &mut work => break stopped,
                    () = tokio::time::sleep(renew) => {
                        if !held.renew(lease, ttl).await {
                            break Stopped::Ousted;
                        }
                    }
                }
            }
        };
        term.grant = held.grant;
        outcome
    }
}

/// The lease, and until when it certainly holds.
struct Held {
    grant: Grant,
    until: tokio::time::Instant,
}

impl Held {
    /// False when it was lost, or could not be renewed before its end.
    async fn renew(&mut self, lease: &dyn Lease, ttl: Span) -> bool {
        let until = tokio::time::Instant::now() + ttl.to_duration();
        match tokio::time::timeout_at(self.until, lease.renew(&self.grant, ttl)).await {
            Ok(Ok(Some(grant))) => {
                *self = Self { grant, until };
                true
            }
            Ok(Ok(None)) => false,
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot renew the lease of rates");
                tokio::time::Instant::now() < self.until
            }
            Err(_) => false,
        }
    }
}

/// Takes up where the last publisher left off; answers the position of its last fact.
async fn resume(log: &dyn EventLog, aggregator: &mut Aggregator) -> Result<Position, PortError> {
    let Some(last) = log.last(&Subject::rates()).await? else { return Ok(Position::START) };
    if let tally_events::Fact::RatesPublished(published) = &last.event.fact {
        aggregator.resume(published);
    }
    Ok(last.position)
}

/// Polls when it is time or someone asks, and publishes. Ends when someone else publishes.
async fn publish_on(
    term: &mut Term,
    calls: &mut mpsc::Receiver<oneshot::Sender<()>>,
    log: &dyn EventLog,
    clock: &dyn Clock,
    poll: Span,
) -> Stopped {
    loop {
        let caller = tokio::select! {
            Some(caller) = calls.recv() => Some(caller),
            () = tokio::time::sleep(TURN) => None,
        };
        let now = clock.now();
        // A clock that was set back must not make us wait until it has caught up.
        let due = term.polled_at.is_none_or(|last| now >= last.plus(poll) || last > now);
        if caller.is_none() && !due {
            continue;
        }
        let now = match term.polled_at {
            Some(last) if last == now => now.plus(Span::from_millis(1)),
            _ => now,
        };
        term.polled_at = Some(now);
        let heard = term.poller.ask(now, caller.is_some()).await;
        let published = term.aggregator.aggregate(&heard.ticks, &heard.fiat, clock.now().max(now));
        match publish(term, log, &published).await {
            Ok(true) => {
                term.gauges.show(&published);
                if let Some(caller) = caller {
                    // A caller who no longer waits is none of our business.
                    let _ = caller.send(());
                }
            }
            Ok(false) => return Stopped::Ousted,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the rates could not be published");
                term.gauges.show_ages(published.at);
            }
        }
    }
}

/// Publishes; false if another instance with a later lease does so too.
async fn publish(
    term: &mut Term,
    log: &dyn EventLog,
    published: &RatesPublished,
) -> Result<bool, AppendError> {
    let subject = Subject::rates();
    let at = published.at;
    let event = Event::new(subject.clone(), published.clone(), at).under(term.grant.epoch);
    let append = |position| {
        let expectation = Expectation::new(subject.clone(), position);
        log.append(vec![expectation], vec![event.clone()])
    };
    let positions = match append(term.position).await {
        Ok(positions) => positions,
        // Our last append whose answer got lost, or a late one of an earlier lease.
        Err(AppendError::Stale { .. }) => {
            let last = log.last(&subject).await?;
            if last.as_ref().is_some_and(|last| last.event.epoch > term.grant.epoch) {
                return Ok(false);
            }
            term.position = last.map_or(Position::START, |last| last.position);
            append(term.position).await?
        }
        Err(error) => return Err(error),
    };
    term.position = positions.last().copied().unwrap_or(term.position);
    Ok(true)
}

#[cfg(test)]
mod tests;
