//! Virtual time, cut so fine that no two causes meet in one instant.
//!
//! A run must repeat from its seed, but `tokio::select!` polls its branches in random order. So each cause (the
//! schedule; a watcher's worker, its follower, its lease) has milliseconds of its own, by the last digit, and only one
//! branch of a `select!` ever has something to do. The watcher's own pauses are multiples of 10 ms.
//!
//! Not here: what happens in those instants.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tally_ports::Clock;
use tally_testkit::SeededEntropy;
use tally_types::{Span, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Digits: 0 for the schedule, three for each watcher.
const DIGITS: u64 = 10;
const EPOCH_SECS: i64 = 1_750_000_000;

/// The clock of a run.
pub(crate) struct Timeline {
    start: Instant,
    /// Jumps of the clock: when, and by how much.
    jumps: Mutex<Vec<(u64, Span)>>,
}

impl Timeline {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), jumps: Mutex::default() }
    }

    /// Milliseconds of virtual time since the run began.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The clock jumps; timers do not.
    pub(crate) fn skip(&self, span: Span) {
        let now_ms = self.elapsed_ms();
        self.jumps.lock().unwrap_or_else(PoisonError::into_inner).push((now_ms, span));
    }

    /// What the clock showed at a moment of the run.
    pub(crate) fn at(&self, elapsed_ms: u64) -> Timestamp {
        let jumps = self.jumps.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = jumps.iter().filter(|(at_ms, _)| *at_ms <= elapsed_ms);
        let skipped_ms: u64 = skipped.map(|(_, span)| span.millis()).sum();
        Timestamp::from_secs(EPOCH_SECS).plus(Span::from_millis(elapsed_ms + skipped_ms))
    }

    /// The last moment of the run at which the clock showed `time` or less.
    pub(crate) fn moment(&self, time: Timestamp) -> u64 {
        let (mut low, mut high) = (0, self.elapsed_ms());
        while low < high {
            let middle = (low + high).div_ceil(2);
            if self.at(middle) <= time {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }

    /// Sleeps `latency_ms` at least, to the next instant that ends in `digit`.
    async fn until_digit(&self, digit: u64, latency_ms: u64) {
        let earliest = self.elapsed_ms() + 1 + latency_ms;
        let at = earliest + (DIGITS + digit - earliest % DIGITS) % DIGITS;
        tokio::time::sleep_until(self.start + std::time::Duration::from_millis(at)).await;
    }

    /// Sleeps as the schedule: to an instant that ends in 0.
    pub(crate) async fn pass(&self, ms: u64) {
        if ms > 0 {
            self.until_digit(0, ms - 1).await;
        }
    }
}

impl Clock for Timeline {
    fn now(&self) -> Timestamp {
        self.at(self.elapsed_ms())
    }
}

/// Who waits.
#[derive(Clone, Copy)]
pub(crate) enum Lane {
    Worker,
    Follower,
    Lease,
}

/// One life of a watcher, from its start to its end: how long it waits for answers, and at which step it dies.
pub(crate) struct Life {
    timeline: Arc<Timeline>,
    slot: u64,
    /// Which of all lives this is, counted from 1.
    pub(crate) number: u64,
    latencies: [SeededEntropy; 3],
    steps: AtomicU64,
    dies_at: u64,
    dead: AtomicBool,
    pub(crate) died: Notify,
}

impl Life {
    /// A life in `slot` (0 to 2) that ends at its step `dies_at`; 0 for never.
    pub(crate) fn new(timeline: &Arc<Timeline>, (slot, number): (u64, u64), seed: u64, dies_at: u64) -> Self {
        Self {
            timeline: Arc::clone(timeline),
            slot,
            number,
            latencies: [1, 2, 3].map(|lane| SeededEntropy::new(seed.wrapping_mul(31).wrapping_add(lane))),
            steps: AtomicU64::new(0),
            dies_at,
            dead: AtomicBool::new(false),
            died: Notify::new(),
        }
    }

    /// The way of a question or of its answer. Each is a step at which the process may be killed, so that it
    /// never comes back from here.
    pub(crate) async fn hop(&self, lane: Lane) {
        let random = &self.latencies[lane as usize];
        let latency_ms = if random.below(30) == 0 { random.below(400) } else { random.below(15) };
        self.timeline.until_digit(1 + 3 * self.slot + lane as u64, latency_ms).await;
        let step = self.steps.fetch_add(1, Ordering::SeqCst) + 1;
        if step == self.dies_at {
            self.dead.store(true, Ordering::SeqCst);
            self.died.notify_one();
        }
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether a fault strikes that strikes one time in `of`.
    pub(crate) fn strikes(&self, lane: Lane, of: u64) -> bool {
        self.latencies[lane as usize].below(of) == 0
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    pub(crate) fn dies_at(&self) -> u64 {
        self.dies_at
    }

    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }
}
