//! Asks the feeds that are due, all at once, and leaves those alone that wish it or that keep failing.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use tally_ports::{Poll, PortError, PriceFeed, Reminder};
use tally_pricing::{FiatTick, Tick};
use tally_types::{Span, Timestamp};

use crate::gauges::count_poll;

/// A venue that keeps failing is asked in every second poll: rarely enough for a venue in trouble, and often
/// enough that the rates are back two polls after it is.
const BACKOFF_POLLS: u64 = 2;
/// A venue may fail so often in a row before it is asked more rarely.
const FAILURES_FREE: u32 = 3;
/// Fiat rates change once a day: their sources are asked only in every twentieth poll.
const FIAT_POLLS: u64 = 20;

/// One feed and when to ask it next.
struct Source {
    feed: Arc<dyn PriceFeed>,
    /// How often it is asked at most, where that is set.
    interval: Option<Span>,
    failures: u32,
    /// The trouble that was told of last.
    reminder: Reminder,
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
    /// How long a feed may take.
    timeout: Span,
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
    /// A poller of `feeds`, to be asked every `poll`, or as `intervals` says for a venue.
    pub(crate) fn new(
        feeds: Vec<Arc<dyn PriceFeed>>,
        intervals: &BTreeMap<String, Span>,
        poll: Span,
        timeout: Span,
    ) -> Self {
        let fresh = |feed: Arc<dyn PriceFeed>| Source {
            interval: intervals.get(feed.venue()).copied(),
            feed,
            failures: 0,
            reminder: Reminder::default(),
            asked_at: Timestamp::EPOCH,
            not_before: Timestamp::EPOCH,
            rests_until: Timestamp::EPOCH,
        };
        Self { sources: feeds.into_iter().map(fresh).collect(), poll, timeout }
    }

    /// Asks the feeds that are due; `all` asks those too that have nothing new, but none that wishes to be
    /// left alone.
    pub(crate) async fn ask(&mut self, now: Timestamp, all: bool) -> Heard {
        let timeout = self.timeout.to_duration();
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
                if self.reminder.is_over() {
                    tracing::info!(venue, "prices again");
                }
                if let Some(span) = answer.retry_after {
                    count_poll(venue, "limited");
                    tracing::warn!(venue, seconds = span.secs(), "the venue asks to be left alone");
                    self.not_before = now.plus(span.max(poll));
                } else {
                    count_poll(venue, if answer.faults.is_empty() { "ok" } else { "partial" });
                    let fiat_only = answer.ticks.is_empty() && !answer.fiat.is_empty();
                    let usual = poll.millis().saturating_mul(if fiat_only { FIAT_POLLS } else { 0 });
                    let rest = self.interval.unwrap_or(Span::from_millis(usual));
                    self.rests_until = now.plus(rest);
                }
                return Some(answer);
            }
            Outcome::Failed(error) => {
                count_poll(venue, "error");
                if self.reminder.is_due("error", now) {
                    tracing::warn!(venue, error = error.in_full(), "no prices");
                }
            }
            Outcome::TimedOut => {
                count_poll(venue, "timeout");
                if self.reminder.is_due("timeout", now) {
                    tracing::warn!(venue, "no prices in time");
                }
            }
        }
        self.failures = self.failures.saturating_add(1);
        let polls = if self.failures > FAILURES_FREE { BACKOFF_POLLS } else { 0 };
        // From the moment of asking, so a pause that a poll just misses does not last another one.
        self.not_before = now.plus(Span::from_millis(poll.millis().saturating_mul(polls)));
        None
    }
}
