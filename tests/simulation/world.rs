//! One run's world: a chain, a log, leases, and up to three watchers that come and go.
//!
//! Not here: what happens when (`schedule`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tally_events::{Counts, Event, LatePolicy, OrderQuoted, OrderUnwatched, Policy, Subject};
use tally_testkit::{
    FakeChain, MemoryLease, MemoryLog, MemoryStore, SeededEntropy, chain_id, order_id, script,
};
use tally_types::{BaseUnits, ChainId, Height, Span, WalletId};
use tally_watcher::{Watcher, WatcherConfig, WatcherError, WatcherHandle, WatcherPorts};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::judge::{Judge, say};
use crate::ports::{Cache, Leases, Log, Node, Road, Writers};
use crate::tally::{SharedTally, Tally};
use crate::timeline::{Life, Timeline};
use crate::truth::Truth;

/// Watchers at a time.
pub(crate) const SLOTS: usize = 3;

/// A watcher that runs.
struct Running {
    life: Arc<Life>,
    handle: WatcherHandle,
    stop: CancellationToken,
    task: JoinHandle<Result<(), WatcherError>>,
}

/// A place for a watcher, with its store, which outlives it.
struct Slot {
    running: Option<Running>,
    store: Arc<MemoryStore>,
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) random: SeededEntropy,
    pub(crate) timeline: Arc<Timeline>,
    pub(crate) chain: Arc<FakeChain>,
    pub(crate) log: MemoryLog,
    pub(crate) lease: Arc<MemoryLease>,
    pub(crate) counts: SharedTally,
    writers: Arc<Mutex<Writers>>,
    truth: Arc<Mutex<Truth>>,
    judge: Arc<Mutex<Judge>>,
    config: WatcherConfig,
    wakes: bool,
    slots: [Slot; SLOTS],
    lives: u64,
    orders: u64,
    /// What happened, in words, each with its time.
    pub(crate) story: Vec<String>,
}

pub(crate) fn watched_chain() -> ChainId {
    chain_id("btc")
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let random = SeededEntropy::new(seed);
        let height = match random.below(4) {
            0 => random.below(6),
            1 => 20 + random.below(20),
            _ => 100 + random.below(150),
        };
        let timeline = Arc::new(Timeline::new());
        let chain = Arc::new(FakeChain::with_height(height));
        let log = MemoryLog::new();
        let truth = Arc::new(Mutex::new(Truth::default()));
        let subject = Subject::chain(&watched_chain(), 0, 0);
        let counts = SharedTally::default();
        let judge = Judge::new(&chain, &log, subject, &timeline, &truth, &counts);
        let config = config(&random, height);
        let world = Self {
            seed,
            lease: Arc::new(MemoryLease::new(timeline.clone())),
            timeline,
            chain,
            log,
            counts,
            writers: Arc::default(),
            truth,
            judge: Arc::new(Mutex::new(judge)),
            config,
            wakes: random.below(3) > 0,
            slots: [0; SLOTS].map(|_| Slot { running: None, store: Arc::new(MemoryStore::new()) }),
            lives: 0,
            orders: 0,
            story: Vec::new(),
            random,
        };
        world.record();
        world
    }

    /// A number below `bound`.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    /// True one time in `of`.
    pub(crate) fn chance(&self, of: u64) -> bool {
        self.below(of) == 0
    }

    pub(crate) fn tell(&mut self, what: impl Into<String>) {
        let at_ms = self.timeline.elapsed_ms();
        let after = self.log.facts_after(tally_types::Position::START).len();
        self.story.push(format!("{at_ms:>7} ms, log {after:>4}: {}", what.into()));
    }

    pub(crate) fn judge(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down how the node stands after a change.
    pub(crate) fn record(&self) {
        let mut truth = self.truth.lock().unwrap_or_else(PoisonError::into_inner);
        truth.record(self.timeline.elapsed_ms(), &self.chain);
    }

    pub(crate) fn is_running(&self, slot: usize) -> bool {
        self.slots[slot].running.is_some()
    }

    /// Starts a watcher that dies at its step `dies_at`, if that is not 0.
    pub(crate) fn start(&mut self, slot: usize, dies_at: u64, forget: bool) {
        self.tell(format!("start {slot}, dies at step {dies_at}, forgetful {forget}"));
        self.lives += 1;
        let seed = self.seed.wrapping_mul(1_000_003).wrapping_add(self.lives);
        let life = Arc::new(Life::new(&self.timeline, (slot as u64, self.lives), seed, dies_at));
        if forget {
            self.counts.add("stores lost");
            self.slots[slot].store = Arc::new(MemoryStore::new());
        }
        let ports = WatcherPorts {
            source: Arc::new(Node {
                source: self.chain.clone(),
                way: Road { life: life.clone(), wakes: self.wakes, counts: self.counts.clone() },
            }),
            log: Arc::new(Log {
                life: life.clone(),
                log: self.log.clone(),
                judge: self.judge.clone(),
                counts: self.counts.clone(),
                writers: self.writers.clone(),
            }),
            lease: Arc::new(Leases { life: life.clone(), lease: self.lease.clone() }),
            store: Arc::new(Cache { life: life.clone(), store: self.slots[slot].store.clone() }),
            clock: self.timeline.clone(),
        };
        let watcher = Watcher::new(self.config.clone(), ports);
        self.writers.lock().unwrap_or_else(PoisonError::into_inner).begin(self.lives);
        let (handle, stop) = (watcher.handle(), CancellationToken::new());
        let task = tokio::spawn(watcher.run(stop.clone()));
        self.slots[slot].running = Some(Running { life, handle, stop, task });
    }

    /// As SIGKILL: nothing is finished, the lease is left to run out.
    pub(crate) async fn kill(&mut self, slot: usize) {
        let Some(running) = self.slots[slot].running.take() else { return };
        self.tell(format!("kill {slot}"));
        self.counts.add("processes killed");
        if running.life.is_dead() {
            self.counts.lock().died_at(running.life.dies_at());
        }
        running.life.die();
        running.task.abort();
        assert!(running.task.await.is_err_and(|error| error.is_cancelled()), "{}", self.report());
    }

    /// As SIGTERM; a process that is killed on its way out is cleared away.
    pub(crate) async fn stop(&mut self, slot: usize) {
        let Some(mut running) = self.slots[slot].running.take() else { return };
        self.tell(format!("stop {slot}"));
        running.stop.cancel();
        tokio::select! {
            biased;
            () = running.life.died.notified() => running.task.abort(),
            ended = &mut running.task => assert!(matches!(ended, Ok(Ok(()))), "{ended:?}\n{}", self.report()),
        }
    }

    /// Lets time pass. Watchers that reach their last step meanwhile are cleared away.
    pub(crate) async fn pass(&mut self, ms: u64) {
        let timeline = Arc::clone(&self.timeline);
        let mut time = std::pin::pin!(timeline.pass(ms));
        loop {
            let lives: Vec<_> =
                self.slots.iter().map(|slot| slot.running.as_ref().map(|r| r.life.clone())).collect();
            let deaths = lives.iter().enumerate().map(|(slot, life)| {
                Box::pin(async move {
                    match life {
                        Some(life) => life.died.notified().await,
                        None => std::future::pending().await,
                    }
                    slot
                })
            });
            tokio::select! {
                biased;
                (slot, _, _) = futures::future::select_all(deaths) => self.kill(slot).await,
                () = &mut time => return,
            }
        }
    }

    pub(crate) fn report_soon(&self) {
        for running in self.slots.iter().filter_map(|slot| slot.running.as_ref()) {
            running.handle.report_soon();
        }
    }

    /// An order's address, named in the log now.
    pub(crate) fn quote(&mut self, number: u64, birth: Height) {
        self.orders += 1;
        self.tell(format!("quote {number} from {birth}"));
        let now = tally_ports::Clock::now(self.timeline.as_ref());
        let order = order_id(self.orders);
        let event = Event::new(Subject::order(&order), quoted(self.orders, number, birth, now), now);
        self.log.seed(vec![event]);
        self.judge().look();
    }

    /// An order is closed for long.
    pub(crate) fn unwatch(&mut self, number: u64) {
        self.tell(format!("unwatch {number}"));
        let order = order_id(self.orders.max(1));
        let fact = OrderUnwatched { order: order.clone(), scripts: vec![(watched_chain(), script(number))] };
        let now = tally_ports::Clock::now(self.timeline.as_ref());
        self.log.seed(vec![Event::new(Subject::order(&order), fact, now)]);
        self.judge().look();
    }

    /// The story and the log, for a failure.
    pub(crate) fn report(&self) -> String {
        let facts: Vec<String> = self.log.facts().iter().map(say).collect();
        let health: Vec<String> = self
            .slots
            .iter()
            .filter_map(|slot| slot.running.as_ref())
            .map(|running| format!("{:?}", running.handle.health()))
            .collect();
        format!(
            "seed {}: repeat with TALLY_SIM_SEED={}\n{}\nlog: {}\nhealth: {}\n",
            self.seed,
            self.seed,
            self.story.join("\n"),
            facts.join(" "),
            health.join("\n")
        )
    }

    /// How often what happened.
    pub(crate) fn counted(&self) -> Tally {
        self.counts.lock().clone()
    }

    /// Stops the run where the log is wrong.
    pub(crate) fn check(&self) {
        let fault = self.judge().fault.clone();
        assert!(fault.is_none(), "{}{}", self.report(), fault.unwrap_or_default());
    }
}

fn config(random: &SeededEntropy, height: u64) -> WatcherConfig {
    let mut config = WatcherConfig::new(watched_chain(), 7);
    config.start = (random.below(2) == 0).then(|| Height::new(random.below(height + 1)));
    config.poll = Span::from_millis([200, 500, 1000][random.below(3) as usize]);
    config.lease = Span::from_secs(3);
    config.prefetch = 1 + random.below(8) as usize;
    config.run_max = [3, 20, 1000][random.below(3) as usize];
    config.checkpoint_every = [15, 60, 50_000][random.below(3) as usize];
    config
}

fn quoted(order: u64, number: u64, birth: Height, now: tally_types::Timestamp) -> OrderQuoted {
    OrderQuoted {
        order: order_id(order),
        quote: 1,
        currency: tally_testkit::currency("BTC"),
        chain: watched_chain(),
        decimals: 8,
        payable_unit: BaseUnits::from_units(1),
        full: BaseUnits::from_units(1000),
        due: BaseUnits::from_units(1000),
        rate: None,
        script: script(number),
        addresses: vec!["an address".to_owned()],
        wallet: WalletId::new(1),
        key: "0123456789abcdef".parse().unwrap(),
        index: 0,
        birth_height: birth,
        counts: Counts { confirmed: 1, complete: 6, thresholds: Vec::new(), finalized: false },
        policy: Policy {
            quote: Span::from_secs(1200),
            new_order: Span::from_secs(86_400),
            first_confirmation: Span::from_secs(86_400),
            tolerance_percent: rust_decimal::Decimal::ZERO,
            tolerance_absolute: rust_decimal::Decimal::ZERO,
            spread_percent: rust_decimal::Decimal::ZERO,
            late: LatePolicy::Hold,
            reopen: false,
        },
        quoted_at: now,
        expires_at: now.plus(Span::from_secs(1200)),
    }
}
