//! Virtual time, cut so fine that no two causes meet in one instant; and the lives of processes in it.
//!
//! A run must repeat from its seed, but `tokio::select!` polls its branches in random order. So each cause (the
//! schedule; each service of each process, or each part of one) has milliseconds of its own, by the remainder of a
//! hundred, and only one branch of a `select!` ever has something to do: the services' own pauses are multiples of
//! fifty milliseconds, near enough.
//! Threads that may block are let through one by one, while the run itself has nothing to do (`gate`).
//!
//! Not here: what happens in those instants.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tally_ports::Clock;
use tally_types::{Span, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The remainders that instants are told apart by.
const DIGITS: u64 = 100;
/// Lanes of a process.
const LANES: u64 = 32;
const EPOCH_SECS: i64 = 1_750_000_000;

/// The clock that is right.
pub(crate) struct Timeline {
    start: Instant,
    /// Jumps of the clock: when, and by how much.
    jumps: Mutex<Vec<(u64, Span)>>,
    /// Every step of every process: to tell where two runs of one seed part.
    steps: Mutex<Vec<Step>>,
}

/// A step of a process: when, whose, and from when.
pub(crate) type Step = (u64, usize, Lane, u64);

impl Timeline {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), jumps: Mutex::default(), steps: Mutex::default() }
    }

    /// Milliseconds of virtual time since the run began.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn steps(&self) -> Vec<Step> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All clocks jump; timers do not.
    pub(crate) fn skip(&self, span: Span) {
        let now_ms = self.elapsed_ms();
        self.jumps.lock().unwrap_or_else(PoisonError::into_inner).push((now_ms, span));
    }

    /// The next instant that ends in `digit`, after `latency_ms` at least.
    fn next(&self, digit: u64, latency_ms: u64) -> u64 {
        let earliest = self.elapsed_ms() + 1 + latency_ms;
        earliest + (DIGITS + digit - earliest % DIGITS) % DIGITS
    }

    async fn until(&self, at_ms: u64) {
        tokio::time::sleep_until(self.start + Duration::from_millis(at_ms)).await;
    }

    /// Sleeps as the schedule: to an instant that is a multiple.
    pub(crate) async fn pass(&self, ms: u64) {
        self.until(self.next(0, ms.saturating_sub(1))).await;
    }
}

impl Clock for Timeline {
    fn now(&self) -> Timestamp {
        let jumps = self.jumps.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped_ms: u64 = jumps.iter().map(|(_, span)| span.millis()).sum();
        Timestamp::from_secs(EPOCH_SECS).plus(Span::from_millis(self.elapsed_ms() + skipped_ms))
    }
}

/// A clock that never jumps: what leases run by.
pub(crate) struct Uptime(pub(crate) Arc<Timeline>);

impl Clock for Uptime {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(EPOCH_SECS).plus(Span::from_millis(self.0.elapsed_ms()))
    }
}

/// A process's clock, which is not quite right.
pub(crate) struct Skewed {
    pub(crate) timeline: Arc<Timeline>,
    pub(crate) skew_ms: i64,
}

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.timeline.now().millis() + self.skew_ms)
    }
}

/// Who waits: a service of a process, or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// A watcher's worker, by the number of its chain; its follower and its lease are the next two.
    Watcher(u64),
    Follower(u64),
    WatcherLease(u64),
    /// The leases on parts of rescans, which a process asks for beside that.
    RescanLease(u64),
    Projector,
    ProjectorFacts,
    Duties,
    DeliverLease,
    Deliver,
    AnnounceLease,
    Announce,
    Rates,
    RateLog,
    RateAppend,
    RateLease,
    RateFollower,
    AnnounceRates,
    AnnounceRatesLease,
    /// Word of versions, on its way from the read model to the deliverer.
    Changes,
    /// A request, in turns.
    Request(u64),
}

impl Lane {
    fn number(self) -> u64 {
        match self {
            Self::Watcher(chain) => 3 * chain,
            Self::Follower(chain) => 3 * chain + 1,
            Self::WatcherLease(chain) => 3 * chain + 2,
            Self::Projector => 9,
            Self::Duties => 10,
            Self::DeliverLease => 11,
            Self::Deliver => 12,
            Self::AnnounceLease => 13,
            Self::Announce => 14,
            Self::Rates => 15,
            Self::RateFollower => 16,
            Self::ProjectorFacts => 17,
            Self::RateLog => 18,
            Self::RateAppend => 19,
            Self::RateLease => 20,
            Self::AnnounceRates => 21,
            Self::AnnounceRatesLease => 22,
            Self::Changes => 23,
            Self::RescanLease(chain) => 24 + chain,
            Self::Request(turn) => 27 + turn % 5,
        }
    }
}

impl Lane {
    /// What its numbers are drawn by: requests have numbers of their own.
    fn salt(self) -> u64 {
        match self {
            Self::Request(turn) => 100 + turn,
            other => other.number(),
        }
    }
}

/// The first 64 bits that follow from a few others, by splitmix64.
pub(crate) fn mix(parts: [u64; 3]) -> u64 {
    parts.into_iter().fold(0x9e37_79b9_7f4a_7c15, |state, part| {
        let mut z = (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// One life of a process, from its start to its end: how long its questions and their answers take, at which step it
/// dies, and until when it is frozen.
pub(crate) struct Life {
    timeline: Arc<Timeline>,
    pub(crate) process: usize,
    seed: u64,
    steps: AtomicU64,
    commits: AtomicU64,
    dies_at: u64,
    /// The commit of its stores that it dies in.
    dies_in_commit: u64,
    dead: AtomicBool,
    frozen_until_ms: AtomicU64,
    /// The last instant of each lane that somebody waits for.
    booked_ms: Mutex<BTreeMap<u64, u64>>,
    /// Until when leases were granted to it.
    terms_ms: Mutex<BTreeMap<String, u64>>,
    /// Nothing goes wrong on its ways any more.
    pub(crate) calm: Arc<AtomicBool>,
    pub(crate) died: Notify,
}

/// When a life ends by itself; 0 for never.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fate {
    pub(crate) at_step: u64,
    pub(crate) in_commit: u64,
}

impl Life {
    pub(crate) fn new(
        timeline: &Arc<Timeline>,
        process: usize,
        seed: u64,
        fate: Fate,
        calm: &Arc<AtomicBool>,
    ) -> Self {
        Self {
            timeline: Arc::clone(timeline),
            process,
            seed,
            steps: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            dies_at: fate.at_step,
            dies_in_commit: fate.in_commit,
            dead: AtomicBool::new(false),
            frozen_until_ms: AtomicU64::new(0),
            booked_ms: Mutex::default(),
            terms_ms: Mutex::default(),
            calm: Arc::clone(calm),
            died: Notify::new(),
        }
    }

    /// A number below `bound`: of a lane and of this instant, so that nobody who asks moves what others get.
    pub(crate) fn below(&self, lane: Lane, bound: u64) -> u64 {
        mix([self.seed ^ bound, lane.salt(), self.timeline.elapsed_ms()]) % bound
    }

    /// Whether a fault strikes that strikes one time in `of`.
    pub(crate) fn strikes(&self, lane: Lane, of: u64) -> bool {
        self.below(lane, of) == 0 && !self.calm.load(Ordering::SeqCst)
    }

    /// The way of a question or of its answer. Each is a step at which the process may be killed, so that it never
    /// comes back from here, or be frozen, so that it does so late.
    pub(crate) async fn hop(&self, lane: Lane) {
        let since_ms = self.timeline.elapsed_ms();
        let latency_ms = if self.strikes(lane, 30) { self.below(lane, 400) } else { self.below(lane, 15) };
        self.wait(lane, latency_ms).await;
        loop {
            let (now, thaw) = (self.timeline.elapsed_ms(), self.frozen_until_ms.load(Ordering::SeqCst));
            if thaw <= now {
                break;
            }
            self.wait(lane, thaw - now).await;
        }
        let now_ms = self.timeline.elapsed_ms();
        let steps = &self.timeline.steps;
        steps.lock().unwrap_or_else(PoisonError::into_inner).push((now_ms, self.process, lane, since_ms));
        let step = self.steps.fetch_add(1, Ordering::SeqCst) + 1;
        if step == self.dies_at {
            self.die();
        }
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    /// Something takes long: a disk, another's turn.
    pub(crate) async fn dawdle(&self, lane: Lane) {
        self.wait(lane, self.below(lane, 4_000)).await;
    }

    /// Sleeps to an instant of the lane that nobody else waits for, `latency_ms` from now at least.
    async fn wait(&self, lane: Lane, latency_ms: u64) {
        let digit = 1 + LANES * self.process as u64 + lane.number();
        let at_ms = {
            let mut booked = self.booked_ms.lock().unwrap_or_else(PoisonError::into_inner);
            let last = booked.entry(lane.number()).or_default();
            *last = self.timeline.next(digit, latency_ms).max(*last + DIGITS);
            *last
        };
        self.timeline.until(at_ms).await;
    }

    /// Whether a commit fails: `Some(true)` where it is in the store all the same.
    pub(crate) fn fails_commit(&self) -> Option<bool> {
        let draw = mix([self.seed, self.commits.load(Ordering::SeqCst), 2]);
        let fails = draw.is_multiple_of(50) && !self.calm.load(Ordering::SeqCst);
        fails.then_some(!(draw / 50).is_multiple_of(3))
    }

    /// Whether the process dies in the commit that it makes now, and whether that is in the store then.
    pub(crate) fn dies_in_commit(&self) -> Option<bool> {
        let commit = self.commits.fetch_add(1, Ordering::SeqCst) + 1;
        (commit == self.dies_in_commit).then(|| {
            self.die();
            mix([self.seed, commit, 0]).is_multiple_of(2)
        })
    }

    /// A lease was granted to it, or renewed, from now on.
    pub(crate) fn granted(&self, name: &str, ttl: Span) {
        let until_ms = self.timeline.elapsed_ms() + ttl.millis();
        self.terms_ms.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), until_ms);
    }

    /// For how long it has held a lease beyond what was granted, if it has; none within a term.
    pub(crate) fn overdue_ms(&self, lease: &str) -> Option<u64> {
        let terms_ms = self.terms_ms.lock().unwrap_or_else(PoisonError::into_inner);
        let until_ms = terms_ms.get(lease).copied().unwrap_or(0);
        self.timeline.elapsed_ms().checked_sub(until_ms).filter(|overdue_ms| *overdue_ms > 0)
    }

    pub(crate) fn freeze(&self, ms: u64) {
        self.frozen_until_ms.store(self.timeline.elapsed_ms() + ms, Ordering::SeqCst);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.died.notify_one();
    }
}
