//! Asks all feeds at once, and leaves those alone that wish it or that keep failing.

use std::sync::Arc;

use futures::future::join_all;
use tally_ports::{Poll, PortError, PriceFeed};
use tally_pricing::{FiatTick, Tick};
use tally_types::{Span, Timestamp};

use crate::gauges::count_poll;

/// A feed may take this long, or the time between two polls if that is less.
const TIMEOUT_MAX: Span = Span::from_secs(10);
/// A venue that fails is asked more rarely, but at least this often.
const BACKOFF_MAX: Span = Span::from_secs(60);
/// A venue may fail so often in a row before it is asked more rarely.
const FAILURES_FREE: u32 = 3;
/// Fiat rates change once a day: their sources are asked only in every twentieth poll.
const FIAT_POLLS: u64 = 20;

/// One feed and when to ask it next.
struct Source {
    feed: Arc<dyn PriceFeed>,
    failures: u32,
    asked_at: Timestamp,
    /// It wishes to be left alone until then, or keeps failing.
    not_before: Timestamp,
    /// It has nothing new before then.
    rests_until: Timestamp,
}

/// All feeds.
pub(crate) struct Poller {
    sources: Vec<Source>,
    poll: Span,
}

/// What the feeds said.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) ticks: Vec<Tick>,
    pub(crate) fiat: Vec<FiatTick>,
}

/// What came of asking one feed.
enum Outcome {
    Heard(Poll),
    Failed(PortError),
    TimedOut,
}

impl Poller {
    /// A poller of `feeds`, to be asked every `poll`.
    pub(crate) fn new(feeds: Vec<Arc<dyn PriceFeed>>, poll: Span) -> Self {
        let fresh = |feed| Source {
            feed,
            failures: 0,
            asked_at: Timestamp::EPOCH,
            not_before: Timestamp::EPOCH,
            rests_until: Timestamp::EPOCH,
        };
        Self { sources: feeds.into_iter().map(fresh).collect(), poll }
    }

    /// Asks the feeds that are due; `all` asks those too that have nothing new, but none that wishes to be
    /// left alone.
    pub(crate) async fn ask(&mut self, now: Timestamp, all: bool) -> Heard {
        let timeout = Span::from_millis(self.poll.millis().clamp(1_000, TIMEOUT_MAX.millis())).to_duration();
        let poll = self.poll;
        let due = self.sources.iter_mut().filter(|source| source.is_due(now, all));
        let asked = due.map(async |source| {
            source.asked_at = now;
            let outcome = match tokio::time::timeout(timeout, source.feed.poll(now)).await {
                Ok(Ok(answer)) => Outcome::Heard(answer),
                Ok(Err(error)) => Outcome::Failed(error),
                Err(_) => Outcome::TimedOut,
            };
            source.note(outcome, now, poll)
        });
        let mut heard = Heard::default();
        for answer in join_all(asked).await.into_iter().flatten() {
            heard.ticks.extend(answer.ticks);
            heard.fiat.extend(answer.fiat);
        }
        heard
    }
}

impl Source {
    fn is_due(&self, now: Timestamp, all: bool) -> bool {
        // A clock that was set back says nothing about how long it has been.
        now < self.asked_at || now >= self.not_before && (all || now >= self.rests_until)
    }

    fn note(&mut self, outcome: Outcome, now: Timestamp, poll: Span) -> Option<Poll> {
        let venue = self.feed.venue();
        match outcome {
            Outcome::Heard(answer) => {
                for fault in &answer.faults {
                    tracing::debug!(venue, fault, "a pair could not be read");
                }
                self.failures = 0;
                if let Some(span) = answer.retry_after {
                    count_poll(venue, "limited");
                    tracing::warn!(venue, seconds = span.secs(), "the venue asks to be left alone");
                    self.not_before = now.plus(span.max(poll));
                } else {
                    count_poll(venue, if answer.faults.is_empty() { "ok" } else { "partial" });
                    let fiat_only = answer.ticks.is_empty() && !answer.fiat.is_empty();
                    let rest = poll.millis().saturating_mul(if fiat_only { FIAT_POLLS } else { 0 });
                    self.rests_until = now.plus(Span::from_millis(rest));
                }
                return Some(answer);
            }
            Outcome::Failed(error) => {
                count_poll(venue, "error");
                tracing::warn!(venue, error = &error as &dyn std::error::Error, "no prices");
            }
            Outcome::TimedOut => {
                count_poll(venue, "timeout");
                tracing::warn!(venue, "no prices in time");
            }
        }
        self.failures = self.failures.saturating_add(1);
        let doublings = self.failures.saturating_sub(FAILURES_FREE).min(10);
        let pause = if doublings == 0 { 0 } else { poll.millis().saturating_mul(1 << doublings) };
        // From the moment of asking, so a pause that a poll just misses does not last another one.
        self.not_before = now.plus(Span::from_millis(pause.min(BACKOFF_MAX.millis())));
        None
    }
}
