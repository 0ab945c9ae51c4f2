//! One run's world: two chains, a log, leases, shops, and three processes that come and go.
//!
//! Not here: what happens when (`schedule`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tally_account::PolicyDefaults;
use tally_events::{LatePolicy, Shard};
use tally_ports::Clock;
use tally_testkit::{FakeChain, MemoryLease, MemoryLog, MemoryStore, SeededEntropy, chain_id, currency};
use tally_types::{ChainId, Height, Script, Span};
use tally_watcher::{Part, request_rescan, rescan_progress};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::gate::Gate;
use crate::judge::{Fault, Judge, SKEW_MAX_MS, Verdict, say, shelves};
use crate::mutation::Mutation;
use crate::ports::{Server, lock};
use crate::process::{Disk, Net, Outside, Start};
use crate::shop::{Door, Shops};
use crate::timeline::{Fate, Life, Timeline, Uptime, mix};

/// Processes at a time.
pub(crate) const PROCESSES: usize = 3;
/// How long the schedule looks away at most.
const SLICE_MS: u64 = 250;
/// How long a process that is told to stop may take before it is killed.
const STOP_MAX_MS: u64 = 20_000;

/// Account keys of the mnemonic that BIP 39 prints as its first test vector, on test networks: of each merchant in turn,
/// for Ethereum that of the BIP 39 mnemonic and one that BIP 86 prints.
const WALLETS: [(&str, &str, &str); 6] = [
    (
        "btc",
        "p2wpkh",
        "tpubDC8msFGeGuwnKG9Upg7DM2b4DaRqg3CUZa5g8v2SRQ6K4NSkxUgd7HsL2XVWbVm39yBA4LAxysQAm397zwQSQoQgewGiYZqrA9DsP4zbQ1M",
    ),
    (
        "ltc",
        "p2wpkh",
        "tpubDC8msFGeGuwnP2xwTZBBZSie1BLgRAkJhgzpFYTdpGgZNzguXQhNDVWp7mJbHJUjQQvV2myLU9dkx67a7VAUnzY7yT7nvhHj7FgS4oNivvq",
    ),
    (
        "eth",
        "",
        "xpub6DCoCpSuQZB2jawqnGMEPS63ePKWkwWPH4TU45Q7LPXWuNd8TMtVxRrgjtEshuqpK3mdhaWHPFsBngh5GFZaM6si3yZdUsT8ddYM3PwnATt",
    ),
    (
        "btc",
        "p2pkh",
        "tpubDC5FSnBiZDMmhiuCmWAYsLwgLYrrT9rAqvTySfuCCrgsWz8wxMXUS9Tb9iVMvcRbvFcAHGkMD5Kx8koh4GquNGNTfohfk7pgjhaPCdXpoba",
    ),
    (
        "ltc",
        "p2pkh",
        "tpubDC5FSnBiZDMmhiuCmWAYsLwgLYrrT9rAqvTySfuCCrgsWz8wxMXUS9Tb9iVMvcRbvFcAHGkMD5Kx8koh4GquNGNTfohfk7pgjhaPCdXpoba",
    ),
    (
        "eth",
        "",
        "xpub6BgBgsespWvERF3LHQu6CnqdvfEvtMcQjYrcRzx53QJjSxarj2afYWcLteoGVky7D3UKDP9QyrLprQ3VCECoY49yfdDEHGCtMMj92pReUsQ",
    ),
];

/// A process that runs.
struct Running {
    life: Arc<Life>,
    stop: CancellationToken,
    stopped_at_ms: Option<u64>,
    task: JoinHandle<Result<&'static str, String>>,
}

/// A place for a process, with its disk, which outlives it.
struct Slot {
    running: Option<Running>,
    model: Arc<MemoryStore>,
    watch: Vec<Arc<MemoryStore>>,
}

pub(crate) struct World {
    seed: u64,
    pub(crate) random: SeededEntropy,
    pub(crate) outside: Arc<Outside>,
    pub(crate) log: MemoryLog,
    pub(crate) calm: Arc<AtomicBool>,
    slots: Vec<Slot>,
    lives: u64,
    /// How many shards the first chain is to have, as those say who start processes.
    pub(crate) shards: u32,
    /// Rescans that were asked for.
    pub(crate) rescans: Vec<(ChainId, u32)>,
    pub(crate) merchants: Vec<u64>,
    pub(crate) requests: JoinSet<()>,
    /// What happened, in words, each with its time.
    story: Vec<String>,
}

impl World {
    pub(crate) fn new(seed: u64, gate: Arc<Gate>, mutation: Mutation) -> Self {
        let random = SeededEntropy::new(seed);
        let timeline = Arc::new(Timeline::new());
        let log = MemoryLog::new();
        let net = |id: &str| {
            let chain = Arc::new(FakeChain::new(currency(&id.to_uppercase())));
            chain.mine(30 + random.below(20));
            Net { id: chain_id(id), chain, cut: Arc::default() }
        };
        let eth = Arc::new(FakeChain::accounts(currency("ETH")));
        eth.mine(30);
        let eth = Net { id: chain_id("eth"), chain: eth, cut: Arc::default() };
        let nets = vec![net("btc"), net("ltc"), eth];
        // No transaction of one chain has the id of another's.
        (0..).zip(&nets).for_each(|(number, net)| net.chain.skip_numbers(10_000 * number));
        let chains: Vec<_> = nets.iter().map(|net| (net.id.clone(), net.chain.clone())).collect();
        let judge = Arc::new(Mutex::new(Judge::new(&log, &timeline, &chains)));
        let calm = Arc::new(AtomicBool::new(true));
        let late = [LatePolicy::Hold, LatePolicy::Accept][random.below(2) as usize];
        let policy = PolicyDefaults { late, reopen: random.below(2) == 0, ..PolicyDefaults::default() };
        let outside = Outside {
            gate,
            main: Arc::new(Server::new(log.clone(), &timeline, Some(&judge), mutation)),
            rates: Arc::new(Server::new(MemoryLog::new(), &timeline, None, Mutation::None)),
            lease: Arc::new(MemoryLease::new(Arc::new(Uptime(timeline.clone())))),
            nets,
            shops: Arc::new(Shops::new(seed, &judge, PROCESSES, &calm, mutation)),
            judge,
            mutation,
            policy,
            timeline,
        };
        let store = || Arc::new(MemoryStore::new());
        let slot = |_| Slot { running: None, model: store(), watch: vec![store(), store(), store()] };
        Self {
            seed,
            random,
            outside: Arc::new(outside),
            log,
            calm,
            slots: (0..PROCESSES).map(slot).collect(),
            lives: 0,
            shards: 1,
            rescans: Vec::new(),
            merchants: Vec::new(),
            requests: JoinSet::new(),
            story: Vec::new(),
        }
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
        let at_ms = self.outside.timeline.elapsed_ms();
        let head = self.judge().checked();
        self.story.push(format!("{at_ms:>7} ms, log {head:>4}: {}", what.into()));
    }

    pub(crate) fn judge(&self) -> MutexGuard<'_, Judge> {
        lock(&self.outside.judge)
    }

    pub(crate) fn shops(&self) -> Arc<Shops> {
        self.outside.shops.clone()
    }

    /// Some process that answers, if there is one.
    pub(crate) fn door(&self) -> Option<Door> {
        self.outside.shops.door(self.below(97))
    }

    pub(crate) fn is_running(&self, slot: usize) -> bool {
        self.slots[slot].running.is_some()
    }

    /// Starts a process.
    pub(crate) fn start(&mut self, slot: usize, fate: Fate, forget: bool) {
        self.lives += 1;
        let seed = mix([self.seed, self.lives, 11]);
        let skew_ms = match self.below(3) {
            0 => 0,
            _ => self.below(2 * SKEW_MAX_MS + 1) as i64 - SKEW_MAX_MS as i64,
        };
        let parts = vec![self.parts(slot), vec![Part::All], vec![Part::All]];
        self.tell(format!("start {slot}, {skew_ms} ms off, {fate:?}, forgetful {forget}, {:?}", parts[0]));
        let place = &mut self.slots[slot];
        if forget {
            place.model = Arc::new(MemoryStore::new());
            place.watch.iter_mut().for_each(|store| *store = Arc::new(MemoryStore::new()));
        }
        let life = Arc::new(Life::new(&self.outside.timeline, slot, seed, fate, &self.calm));
        let stop = CancellationToken::new();
        let start = Start {
            outside: self.outside.clone(),
            life: life.clone(),
            disk: Disk { model: place.model.clone(), watch: place.watch.clone() },
            seed,
            skew_ms,
            parts,
            stop: stop.clone(),
        };
        let task = tokio::spawn(start.run());
        place.running = Some(Running { life, stop, stopped_at_ms: None, task });
    }

    /// Which shards of the first chain a process looks after: at rest all of them somewhere.
    fn parts(&self, slot: usize) -> Vec<Part> {
        let all = Shard::all(self.shards).map(Part::One).collect::<Vec<_>>();
        let calm = self.calm.load(Ordering::SeqCst);
        match self.below(3) {
            _ if calm && slot == 0 => vec![Part::All],
            0 => vec![Part::All],
            1 if !calm => vec![all[self.below(all.len() as u64) as usize]],
            _ => all,
        }
    }

    /// As SIGKILL: nothing is finished, leases are left to run out.
    pub(crate) async fn kill(&mut self, slot: usize) {
        let Some(running) = self.slots[slot].running.take() else { return };
        self.tell(format!("kill {slot}"));
        lock(&self.outside.shops.doors)[slot] = None;
        running.life.die();
        running.task.abort();
        let _ = running.task.await;
    }

    /// As SIGTERM.
    pub(crate) fn stop(&mut self, slot: usize) {
        let now_ms = self.outside.timeline.elapsed_ms();
        let Some(running) = self.slots[slot].running.as_mut() else { return };
        running.stop.cancel();
        running.stopped_at_ms.get_or_insert(now_ms);
        lock(&self.outside.shops.doors)[slot] = None;
        self.tell(format!("stop {slot}"));
    }

    /// As SIGSTOP, and SIGCONT after a while.
    pub(crate) fn freeze(&mut self, slot: usize, ms: u64) {
        if let Some(running) = &self.slots[slot].running {
            running.life.freeze(ms);
            self.tell(format!("freeze {slot} for {ms} ms"));
        }
    }

    /// Clears away processes that have ended.
    async fn reap(&mut self) {
        for slot in 0..PROCESSES {
            let Some(running) = &self.slots[slot].running else { continue };
            let now_ms = self.outside.timeline.elapsed_ms();
            let overdue = running.stopped_at_ms.is_some_and(|at_ms| now_ms > at_ms + STOP_MAX_MS);
            if running.life.is_dead() || overdue {
                self.kill(slot).await;
            } else if running.task.is_finished()
                && let Some(running) = self.slots[slot].running.take()
            {
                lock(&self.outside.shops.doors)[slot] = None;
                running.life.die();
                let ended = running.task.await;
                self.tell(format!("{slot} ended: {ended:?}"));
                if !matches!(ended, Ok(Ok(_))) {
                    let text = format!("process {slot} ended: {ended:?}");
                    self.judge().keep(Err(Fault { rule: "alive", text }));
                }
            }
        }
    }

    /// Lets time pass, and looks at everything now and then.
    pub(crate) async fn pass(&mut self, ms: u64) -> Verdict {
        let mut left = ms.max(1);
        while left > 0 {
            let slice = left.min(SLICE_MS);
            self.outside.timeline.pass(slice).await;
            left -= slice;
            self.reap().await;
            self.look().await;
            while self.requests.try_join_next().is_some() {}
            let fault = self.judge().fault.clone();
            if let Some(fault) = fault {
                let text = format!("{}\n{}", self.report(), fault.text);
                return Err(Fault { text, ..fault });
            }
        }
        Ok(())
    }

    /// Every read model against the facts.
    async fn look(&mut self) {
        self.judge().look();
        let ids = self.judge().ids();
        let doors: Vec<Option<Door>> = lock(&self.outside.shops.doors).clone();
        for (process, door) in doors.into_iter().enumerate() {
            if let Some(door) = door.filter(|door| !door.life.is_dead()) {
                let read = shelves::read(&door.model, ids.clone()).await;
                self.judge().check_read(process, read);
            }
        }
        self.judge().check_acknowledged();
    }

    /// The story and the log, for a failure.
    fn report(&self) -> String {
        let facts: Vec<String> = self.log.facts().iter().map(say).collect();
        format!(
            "seed {}: repeat with TALLY_WHOLE_SEED={}\n{}\nlog: {}",
            self.seed,
            self.seed,
            self.story.join("\n"),
            facts.join(" ")
        )
    }

    /// A fault of the run as a whole.
    pub(crate) fn fault(&self, rule: &'static str, text: impl Into<String>) -> Fault {
        Fault { rule, text: format!("{}\n{}", self.report(), text.into()) }
    }

    /// Two merchants with keys and wallets, made while nothing goes wrong.
    pub(crate) async fn furnish(&mut self) -> Verdict {
        for slot in 0..PROCESSES {
            self.start(slot, Fate::default(), false);
        }
        self.pass(3_000).await?;
        for number in 0..2 {
            let made = self.ask("POST", "/v1/admin/merchants", json!({ "name": "Tea & Co" })).await?;
            let merchant = made.get("merchant_id").and_then(Value::as_u64).unwrap_or_default();
            self.merchants.push(merchant);
            let path = format!("/v1/admin/merchants/{merchant}");
            let key = self.ask("POST", &format!("{path}/keys"), json!({ "face": "deepay" })).await?;
            let secret = key.get("api_key").and_then(Value::as_str).unwrap_or_default().to_owned();
            lock(&self.outside.shops.keys).insert(merchant, vec![(1, secret)]);
            for wallet in WALLETS.iter().skip(3 * number).take(3) {
                self.ask("POST", &format!("{path}/wallets"), wallet_body(wallet)).await?;
            }
        }
        self.pass(3_000).await
    }

    async fn ask(&mut self, method: &str, path: &str, body: Value) -> Result<Value, Fault> {
        for _ in 0..20 {
            if let Some(door) = self.door()
                && let Some((200 | 201, answer)) = self.shops().admin(&door, method, path, body.clone()).await
            {
                return Ok(answer);
            }
            self.pass(500).await?;
        }
        Err(self.fault("furnished", format!("{method} {path} is not answered")))
    }

    /// A payment to an address, as the judge knows it.
    pub(crate) fn pay(&mut self, chain: &ChainId, script: &Script, units: u128) {
        let Some(net) = self.outside.nets.iter().find(|net| net.id == *chain) else { return };
        let txid = match net.chain.has_mempool() || self.chance(2) {
            true => net.chain.pay(script, units),
            false => net.chain.pay_by_contract(script, units),
        };
        self.note(chain);
        self.tell(format!("pay t{}: {units} on {chain}", crate::judge::number(txid.display_bytes())));
    }

    /// Takes down what is in a chain's mempool.
    pub(crate) fn note(&self, chain: &ChainId) {
        let mut judge = self.judge();
        if let Some(branch) = judge.branches.get_mut(chain) {
            let held = branch.chain.mempool_payments();
            branch.made.extend(held.into_iter().map(|payment| (payment.txid, payment)));
        }
    }

    /// A range of blocks is to be matched again.
    pub(crate) async fn rescan(&mut self, chain: &ChainId, from: u64, to: u64) {
        let now = self.outside.timeline.now();
        let asked = request_rescan(&self.log, chain, Height::new(from), Height::new(to), now).await;
        self.tell(format!("rescan {chain} from {from} to {to}: {asked:?}"));
        self.rescans.extend(asked.ok().map(|number| (chain.clone(), number)));
    }

    /// Nothing goes wrong any more, and everybody is there.
    pub(crate) async fn calm_down(&mut self) -> Verdict {
        self.tell("calm");
        self.calm.store(true, Ordering::SeqCst);
        for net in &self.outside.nets {
            net.cut.store(false, Ordering::SeqCst);
        }
        for slot in 0..PROCESSES {
            self.kill(slot).await;
        }
        self.pass(100).await?;
        for slot in 0..PROCESSES {
            self.start(slot, Fate::default(), false);
        }
        Ok(())
    }

    /// What still is to be done, in words; none once everything has come to rest.
    pub(crate) async fn unsettled(&self) -> Option<String> {
        let head = self.judge().checked();
        for (process, door) in lock(&self.outside.shops.doors).clone().into_iter().enumerate() {
            let at = door.map(|door| tally_ports::ReadModel::position(&*door.model));
            if at != Some(head) {
                return Some(format!("process {process} stands at {at:?} of {head}"));
            }
        }
        for (chain, number) in &self.rescans {
            let left = rescan_progress(&self.log, chain, *number).await;
            if !matches!(left, Ok(None)) {
                return Some(format!("rescan {number} of {chain} is not done: {left:?}"));
            }
        }
        let judge = self.judge();
        for net in &self.outside.nets {
            let (branch, node) = (judge.branches.get(&net.id), net.chain.tip_block());
            if !branch.is_some_and(|branch| branch.is_at(node)) {
                let log = branch.map(|branch| branch.tips());
                return Some(format!("the log's tips of {} are {log:?}, the node's {node:?}", net.id));
            }
        }
        if let Some(missing) = judge.unsettled_deposits() {
            return Some(missing);
        }
        let (untold, unannounced) = (judge.untold(), judge.unannounced());
        if !untold.is_empty() {
            return Some(format!("not delivered: {untold:?}"));
        }
        (!unannounced.is_empty()).then(|| format!("not announced: {unannounced:?}"))
    }

    /// All read models hold the same rows.
    pub(crate) fn compare_models(&self) -> Verdict {
        let rows: Vec<_> = self.slots.iter().map(|slot| slot.model.rows()).collect();
        for (process, other) in rows.iter().enumerate().skip(1) {
            if *other != rows[0] {
                let differs = |row: &&(Vec<u8>, Vec<u8>)| !rows[0].contains(row);
                let text: Vec<String> = other
                    .iter()
                    .filter(differs)
                    .take(5)
                    .map(|(key, value)| format!("{:?} = {value:?}", String::from_utf8_lossy(key)))
                    .collect();
                return Err(self.fault("models", format!("process {process} differs from 0 in {text:?}")));
            }
        }
        Ok(())
    }

    /// The clock is set forward.
    pub(crate) fn jump(&mut self, secs: u64) {
        self.tell(format!("the clock jumps {secs} s"));
        self.outside.timeline.skip(Span::from_secs(secs));
    }
}

fn wallet_body((chain, kind, key): &(&str, &str, &str)) -> Value {
    match *kind {
        "" => json!({ "chain": chain, "public_key": key }),
        kind => json!({ "chain": chain, "type": kind, "public_key": key }),
    }
}
