//! The stage: one chain, one log, and watchers that come and go. Time is virtual.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use rust_decimal::Decimal;
use tally_events::{Counts, Event, Fact, LatePolicy, NewEvent, OrderQuoted, Policy, Recorded, Subject};
use tally_ports::{
    AppendError, BlockSource, Clock, EventLog, EventStream, Expectation, Header, MempoolDiff, PortError,
    ScannedBlock, SharedWatch,
};
use tally_testkit::{
    FakeChain, ManualClock, MemoryLease, MemoryLog, MemoryStore, chain_id, order_id, script,
};
use tally_tracker::{Settings, Tracker};
use tally_types::{
    BaseUnits, BlockHash, BlockRef, ChainId, Fingerprint, Height, Position, Script, Span, Timestamp, TxId,
    WalletId,
};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Part, Watcher, WatcherConfig, WatcherError, WatcherHandle, WatcherPorts};

pub(super) fn chain() -> ChainId {
    chain_id("btc")
}

pub(super) fn subject() -> Subject {
    Subject::chain(&chain(), 0, 0)
}

/// How many may pass the gate at once; who takes them all, closes it.
pub(super) const GATE: u32 = 1000;

/// Nodes of one chain, one of which answers, with faults.
pub(super) struct Nodes {
    pub(super) all: Vec<Arc<FakeChain>>,
    current: AtomicUsize,
    /// A block whose body cannot be read.
    pub(super) unreadable: Mutex<Option<Height>>,
    /// Blocks that were matched but whose answer is still on its way, while closed.
    pub(super) gate: Semaphore,
    /// Looks at the mempool whose answer is still on its way, while closed.
    pub(super) looks: Semaphore,
    /// What the log has for its readers and they have not heard of, while closed.
    pub(super) hearing: Arc<Semaphore>,
    pub(super) wrong_network: AtomicBool,
    /// The node takes questions and never answers.
    pub(super) hangs: AtomicBool,
    /// The mempool is told at another tip than the one that was asked for.
    pub(super) tip_moves: AtomicBool,
    /// How often it was.
    pub(super) asks_of_moving: AtomicUsize,
    /// What is read is told under another header than was asked for.
    pub(super) other_body: AtomicBool,
    /// After so many blocks asked for by their heights the node changes back to a branch.
    pub(super) changes_back: Mutex<Option<(usize, BlockHash)>>,
    pub(super) scans: AtomicUsize,
    pub(super) finalized: Mutex<Option<Height>>,
    /// What was recalled.
    pub(super) recalled: Mutex<Vec<Recalled>>,
}

/// A tip, and what was paid to scripts up to it.
pub(super) type Recalled = (BlockRef, Vec<(Script, BaseUnits)>);

impl Nodes {
    fn node(&self) -> &FakeChain {
        &self.all[self.current.load(Ordering::SeqCst)]
    }

    pub(super) fn switch_to(&self, node: usize) {
        self.current.store(node, Ordering::SeqCst);
    }
}

#[async_trait]
impl BlockSource for Nodes {
    async fn check(&self) -> Result<(), PortError> {
        if self.wrong_network.load(Ordering::SeqCst) {
            return Err(PortError::persistent("the node is of another network"));
        }
        self.node().check().await
    }

    async fn tip(&self) -> Result<Header, PortError> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.node().tip().await
    }

    async fn at(&self, height: Height) -> Result<Option<Header>, PortError> {
        let change = {
            let mut changes_back = self.changes_back.lock().unwrap();
            match changes_back.as_mut() {
                Some((0, _)) => changes_back.take(),
                Some((left, _)) => {
                    *left -= 1;
                    None
                }
                None => None,
            }
        };
        if let Some((_, hash)) = change {
            assert!(self.node().switch_to(&hash));
        }
        self.node().at(height).await
    }

    async fn header(&self, hash: &BlockHash) -> Result<Option<Header>, PortError> {
        self.node().header(hash).await
    }

    async fn scan(&self, block: &Header, watch: &SharedWatch) -> Result<ScannedBlock, PortError> {
        if *self.unreadable.lock().unwrap() == Some(block.block.height) {
            return Err(PortError::persistent("unknown transaction flag 0x08"));
        }
        self.scans.fetch_add(1, Ordering::SeqCst);
        let mut scanned = self.node().scan(block, watch).await;
        if let (Ok(scanned), true) = (&mut scanned, self.other_body.load(Ordering::SeqCst)) {
            scanned.header.time = Timestamp::EPOCH;
        }
        drop(self.gate.acquire().await);
        scanned
    }

    async fn mempool(
        &self,
        known: &HashSet<TxId>,
        watch: &SharedWatch,
    ) -> Result<Option<MempoolDiff>, PortError> {
        let mut seen = self.node().mempool(known, watch).await?;
        drop(self.looks.acquire().await);
        if let (Some(diff), true) = (&mut seen, self.tip_moves.load(Ordering::SeqCst)) {
            self.asks_of_moving.fetch_add(1, Ordering::SeqCst);
            diff.tip = BlockHash::from_display([7; 32]);
        }
        Ok(seen)
    }

    async fn wait(&self, tip: &BlockHash, at_most: Span) {
        self.node().wait(tip, at_most).await;
    }

    async fn finalized(&self) -> Result<Option<Height>, PortError> {
        Ok(*self.finalized.lock().unwrap())
    }

    async fn work(&self, block: &BlockHash) -> Result<Option<u128>, PortError> {
        self.node().work(block).await
    }

    fn recall(&self, through: BlockRef, _method: Option<&str>, paid: &[(Script, BaseUnits)]) {
        self.recalled.lock().unwrap().push((through, paid.to_vec()));
    }

    fn endpoint(&self) -> u64 {
        self.current.load(Ordering::SeqCst) as u64
    }
}

/// A log that a writer loses for good at its n-th append, before it or after.
pub(super) struct CutLog {
    log: MemoryLog,
    left: AtomicI64,
    after: bool,
    cut: AtomicBool,
    reads: Mutex<Vec<Position>>,
    hearing: Arc<Semaphore>,
}

#[async_trait]
impl EventLog for CutLog {
    async fn append(
        &self,
        expectations: Vec<Expectation>,
        batch: Vec<NewEvent>,
    ) -> Result<Vec<Position>, AppendError> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        if left == 1 {
            if self.after {
                self.log.append(expectations, batch).await?;
            }
            self.cut.store(true, Ordering::SeqCst);
            std::future::pending::<()>().await;
            unreachable!("nobody waits so long");
        }
        self.log.append(expectations, batch).await
    }

    async fn read(&self, after: Position) -> Result<EventStream, PortError> {
        self.reads.lock().unwrap().push(after);
        let (stream, hearing) = (self.log.read(after).await?, Arc::clone(&self.hearing));
        let heard = stream.then(move |next| {
            let hearing = Arc::clone(&hearing);
            async move {
                drop(hearing.acquire().await);
                next
            }
        });
        Ok(heard.boxed())
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Recorded>, PortError> {
        self.log.last(subject).await
    }

    async fn head(&self) -> Result<Position, PortError> {
        self.log.head().await
    }
}

/// A watcher that runs.
pub(super) struct Running {
    pub(super) handle: WatcherHandle,
    stop: CancellationToken,
    task: JoinHandle<Result<(), WatcherError>>,
    cut: Arc<CutLog>,
}

impl Running {
    /// The positions after which the log was read.
    pub(super) fn reads(&self) -> Vec<Position> {
        self.cut.reads.lock().unwrap().clone()
    }

    /// How often it has appended.
    pub(super) fn appends(&self) -> i64 {
        -self.cut.left.load(Ordering::SeqCst)
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// As SIGKILL: its leases run out by themselves.
    pub(super) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.cut.load(Ordering::SeqCst)
    }

    /// Waits until it ends by itself.
    pub(super) async fn ended(self) -> Result<(), WatcherError> {
        self.task.await.unwrap()
    }
}

pub(super) struct Scene {
    pub(super) nodes: Arc<Nodes>,
    pub(super) log: MemoryLog,
    pub(super) clock: Arc<ManualClock>,
    pub(super) lease: Arc<MemoryLease>,
    pub(super) store: Arc<MemoryStore>,
    pub(super) config: WatcherConfig,
    pub(super) running: Option<Running>,
    quotes: u64,
}

impl Scene {
    /// A chain of that height, watched from its first block on.
    pub(super) fn with_height(height: u64) -> Self {
        let clock = Arc::new(ManualClock::default());
        let nodes = Nodes {
            all: vec![Arc::new(FakeChain::with_height(height)), Arc::new(FakeChain::with_height(height))],
            current: AtomicUsize::new(0),
            unreadable: Mutex::new(None),
            gate: Semaphore::new(GATE as usize),
            looks: Semaphore::new(GATE as usize),
            hearing: Arc::new(Semaphore::new(GATE as usize)),
            wrong_network: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
            tip_moves: AtomicBool::new(false),
            other_body: AtomicBool::new(false),
            changes_back: Mutex::default(),
            asks_of_moving: AtomicUsize::new(0),
            scans: AtomicUsize::new(0),
            finalized: Mutex::default(),
            recalled: Mutex::default(),
        };
        let mut config = WatcherConfig::new(chain(), 7);
        config.start = Some(Height::new(0));
        Self {
            nodes: Arc::new(nodes),
            log: MemoryLog::new(),
            lease: Arc::new(MemoryLease::new(clock.clone())),
            clock,
            store: Arc::new(MemoryStore::new()),
            config,
            running: None,
            quotes: 0,
        }
    }

    pub(super) fn node(&self) -> &FakeChain {
        &self.nodes.all[0]
    }

    pub(super) fn spawn(&self, cut_at: i64, after: bool) -> Running {
        self.spawn_with(self.config.clone(), self.store.clone(), cut_at, after)
    }

    /// Another process, of a shard or of all (`""`), with a store of its own.
    pub(super) fn spawn_part(&self, shard: &str) -> Running {
        self.spawn_part_cut_at(shard, 0, false)
    }

    pub(super) fn spawn_part_cut_at(&self, shard: &str, cut_at: i64, after: bool) -> Running {
        let part = shard.parse().map_or(Part::All, Part::One);
        let config = WatcherConfig { part, ..self.config.clone() };
        self.spawn_with(config, Arc::new(MemoryStore::new()), cut_at, after)
    }

    fn spawn_with(
        &self,
        config: WatcherConfig,
        store: Arc<MemoryStore>,
        cut_at: i64,
        after: bool,
    ) -> Running {
        let cut = Arc::new(CutLog {
            log: self.log.clone(),
            left: AtomicI64::new(cut_at),
            after,
            cut: AtomicBool::new(false),
            reads: Mutex::default(),
            hearing: Arc::clone(&self.nodes.hearing),
        });
        let ports = WatcherPorts {
            source: self.nodes.clone(),
            log: cut.clone(),
            lease: self.lease.clone(),
            store,
            clock: self.clock.clone(),
        };
        let watcher = Watcher::new(config, ports);
        let (handle, stop) = (watcher.handle(), CancellationToken::new());
        let task = tokio::spawn(watcher.run(stop.clone()));
        Running { handle, stop, task, cut }
    }

    pub(super) fn start(&mut self) {
        self.running = Some(self.spawn(0, false));
    }

    pub(super) fn start_cut_at(&mut self, append: i64, after: bool) {
        self.running = Some(self.spawn(append, after));
    }

    pub(super) async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.stop.cancel();
        running.task.await.unwrap().unwrap();
    }

    /// As SIGKILL: nothing is finished, the lease is left to run out.
    pub(super) async fn kill(&mut self) {
        let running = self.running.take().unwrap();
        running.task.abort();
        assert!(running.task.await.unwrap_err().is_cancelled());
        self.lease.revoke("watch.btc.0-0");
    }

    pub(super) fn handle(&self) -> &WatcherHandle {
        &self.running.as_ref().unwrap().handle
    }

    /// An order's address, named in the log now.
    pub(super) fn quote(&mut self, number: u64, birth: u64) -> Position {
        self.quotes += 1;
        let event = quoted(self.quotes, number, birth);
        self.log.seed(vec![event])[0]
    }

    /// Waits until `ready`; a writer that was cut off is killed and another started.
    pub(super) async fn until(&mut self, what: &str, ready: impl Fn(&Self) -> bool) {
        for _ in 0..4000 {
            if ready(self) {
                return;
            }
            if self.running.as_ref().is_some_and(|running| running.cut.cut.load(Ordering::SeqCst)) {
                self.kill().await;
                self.start();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{what} did not happen: {}\n{:?}", self.trace(), self.handle().health());
    }

    /// Waits until the log's branch has the node's tip, and what is to be said of it is said.
    pub(super) async fn settled(&mut self) {
        self.until("the tip", |scene| {
            let node = &scene.nodes.all[scene.nodes.current.load(Ordering::SeqCst)];
            scene.folded().tip() == Some(node.tip_block())
        })
        .await;
        self.rounds().await;
    }

    /// A few rounds more.
    pub(super) async fn rounds(&mut self) {
        for _ in 0..5 {
            self.until("a round", |_| true).await;
            tokio::time::sleep(Duration::from_millis(1100)).await;
        }
        self.until("a round", |_| true).await;
    }

    pub(super) async fn said(&mut self, word: &str) {
        self.until(word, |scene| scene.trace().contains(word)).await;
    }

    pub(super) fn advance(&self, secs: u64) {
        self.clock.advance(Span::from_secs(secs));
    }

    pub(super) fn facts(&self) -> Vec<Recorded> {
        self.log.facts_on(&subject())
    }

    pub(super) fn folded(&self) -> Tracker {
        let mut tracker = Tracker::new(chain(), Settings::default());
        self.facts().iter().for_each(|recorded| tracker.apply(&recorded.event.fact));
        tracker
    }

    /// The chain's facts in shorthand, but for reports.
    pub(super) fn trace(&self) -> String {
        let mut names = Names::default();
        let words: Vec<String> =
            self.facts().iter().filter_map(|recorded| names.word(&recorded.event.fact)).collect();
        words.join(" ")
    }

    /// What the chain's facts say from this word on.
    pub(super) fn trace_from(&self, word: &str) -> String {
        let whole = self.trace();
        let at = whole.find(word).unwrap_or_else(|| panic!("no {word} in {whole}"));
        whole[at..].to_owned()
    }

    pub(super) fn first_seen(&self, number: u64) -> Timestamp {
        let tracker = self.folded();
        let mut to = tracker.deposits().filter(|followed| followed.deposit.script == script(number));
        to.next().unwrap().deposit.first_seen
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Letters for deposits and ticks for branches, in the order in which they are met.
#[derive(Default)]
struct Names {
    blocks: BTreeMap<Height, Vec<BlockHash>>,
    deposits: HashMap<TxId, char>,
}

impl Names {
    fn block(&mut self, block: &BlockRef) -> String {
        let met = self.blocks.entry(block.height).or_default();
        let at = met.iter().position(|hash| *hash == block.hash).unwrap_or_else(|| {
            met.push(block.hash);
            met.len() - 1
        });
        format!("{}{}", block.height, "'".repeat(at))
    }

    fn deposit(&mut self, txid: &TxId) -> char {
        let next = (b'a' + u8::try_from(self.deposits.len()).unwrap()) as char;
        *self.deposits.entry(*txid).or_insert(next)
    }

    fn word(&mut self, fact: &Fact) -> Option<String> {
        Some(match fact {
            Fact::BlockConnected(fact) if fact.from == fact.block.height => {
                format!("+{}", self.block(&fact.block))
            }
            Fact::BlockConnected(fact) => format!("+{}..{}", fact.from, self.block(&fact.block)),
            Fact::BlockDisconnected(fact) => format!("-{}", self.block(&fact.block)),
            Fact::DepositSeen(fact) => format!("seen({})", self.deposit(&fact.deposit.key.txid)),
            Fact::DepositMined(fact) => {
                format!("mined({}@{})", self.deposit(&fact.deposit.key.txid), self.block(&fact.block))
            }
            Fact::DepositUnmined(fact) => {
                let back = if fact.in_mempool { "" } else { " gone" };
                format!("unmined({}@{}{back})", self.deposit(&fact.deposit.txid), self.block(&fact.block))
            }
            Fact::DepositReplaced(fact) => format!("replaced({})", self.deposit(&fact.deposit.txid)),
            Fact::DepositVanished(fact) => format!("vanished({})", self.deposit(&fact.deposit.txid)),
            Fact::DepositConfirmed(fact) if fact.finalized => {
                format!("final({})", self.deposit(&fact.deposit.txid))
            }
            Fact::DepositConfirmed(fact) => {
                format!("confirmed({} {})", self.deposit(&fact.deposit.txid), fact.depth)
            }
            Fact::ChainFinalized(fact) => format!("final({})", self.block(&fact.block)),
            Fact::ChainObserved(_) => return None,
            Fact::ChainCheckpointed(fact) => format!("checkpoint({}/{})", fact.part + 1, fact.parts),
            other => other.kind().to_owned(),
        })
    }
}

/// `order.quoted`: order `order` is to be paid to script `number`.
pub(super) fn quoted(order: u64, number: u64, birth: u64) -> Event {
    let now = Timestamp::from_secs(1_749_999_000);
    let fact = OrderQuoted {
        order: order_id(order),
        quote: 1,
        currency: "BTC".parse().unwrap(),
        chain: chain(),
        decimals: 8,
        payable_unit: BaseUnits::from_units(1),
        full: BaseUnits::from_units(1000),
        due: BaseUnits::from_units(1000),
        rate: None,
        script: script(number),
        addresses: vec!["an address".to_owned()],
        wallet: WalletId::new(1),
        key: fingerprint(),
        index: 0,
        birth_height: Height::new(birth),
        counts: Counts { confirmed: 1, complete: 6, thresholds: Vec::new(), finalized: false },
        policy: Policy {
            quote: Span::from_secs(1200),
            new_order: Span::from_secs(86_400),
            first_confirmation: Span::from_secs(86_400),
            tolerance_percent: Decimal::ZERO,
            tolerance_absolute: Decimal::ZERO,
            spread_percent: Decimal::ZERO,
            late: LatePolicy::Hold,
            reopen: false,
        },
        quoted_at: now,
        expires_at: now.plus(Span::from_secs(1200)),
    };
    Event::new(Subject::order(&order_id(order)), fact, now)
}

fn fingerprint() -> Fingerprint {
    "0123456789abcdef".parse().unwrap()
}
