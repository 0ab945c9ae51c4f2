//! The ways in which payments on Ethereum are found, against each other: calls, transactions alone, differences of
//! balances, in any order, by several processes, over restarts, rescans and reorgs. Watcher and adapter are the real
//! ones, the node is a fake over HTTP whose ways change. What the log tells is compared with what was paid.
//!
//! `TALLY_WAYS_SEEDS=200` plays more seeds than the default, `TALLY_WAYS_FROM=50` other ones.

mod node;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use node::{Node, Payment, address};
use rust_decimal::Decimal;
use serde_json::json;
use tally_events::{Counts, Event, Fact, LatePolicy, OrderQuoted, Policy, Subject};
use tally_testkit::{
    ManualClock, MemoryLease, MemoryLog, MemoryStore, Meters, SeededEntropy, chain_id, currency, order_id,
};
use tally_tracker::{Settings, Tracker};
use tally_types::{BaseUnits, DepositKey, Height, Script, Span, Timestamp, WalletId};
use tally_watcher::{
    Watcher, WatcherConfig, WatcherError, WatcherHandle, WatcherPorts, request_rescan, rescan_progress,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Seeds without further ado.
const SEEDS: u64 = 12;
/// Addresses that are watched from the beginning.
const ADDRESSES: u64 = 3;
/// No block is so high.
const NOWHERE: u64 = 1_000_000;

struct Running {
    handle: WatcherHandle,
    stop: CancellationToken,
    task: JoinHandle<Result<(), WatcherError>>,
}

struct World {
    node: Node,
    log: MemoryLog,
    clock: Arc<ManualClock>,
    lease: Arc<MemoryLease>,
    store: Arc<MemoryStore>,
    running: Option<Running>,
    /// What happened, in words.
    story: Vec<String>,
}

fn script(number: u64) -> Script {
    address(number).parse().unwrap()
}

fn quoted(number: u64, now: Timestamp) -> OrderQuoted {
    OrderQuoted {
        order: order_id(number),
        quote: 1,
        currency: currency("ETH"),
        chain: chain_id("eth"),
        decimals: 18,
        payable_unit: BaseUnits::from_units(1),
        full: BaseUnits::from_units(1000),
        due: BaseUnits::from_units(1000),
        rate: None,
        script: script(number),
        addresses: vec![address(number)],
        wallet: WalletId::new(1),
        key: "0123456789abcdef".parse().unwrap(),
        index: 0,
        birth_height: Height::new(0),
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
    }
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let log = MemoryLog::new();
        for number in 0..ADDRESSES {
            let now = Timestamp::from_secs(1_749_999_000);
            log.seed(vec![Event::new(Subject::order(&order_id(number)), quoted(number, now), now)]);
        }
        Self {
            node: Node::start(),
            log,
            lease: Arc::new(MemoryLease::new(clock.clone())),
            clock,
            store: Arc::new(MemoryStore::new()),
            running: None,
            story: Vec::new(),
        }
    }

    fn say(&mut self, words: String) {
        self.story.push(words);
    }

    fn start(&mut self) {
        let settings =
            json!({"id": "eth", "kind": "ethereum", "chain_id": 31337, "rpc": [{"url": self.node.url}]});
        let source = tally_chains::open(&serde_json::from_value(settings).unwrap()).unwrap();
        let mut config = WatcherConfig::new(chain_id("eth"), 7);
        (config.start, config.native) = (Some(Height::new(0)), Some(currency("ETH")));
        config.poll = Span::from_millis(20);
        let ports = WatcherPorts {
            source,
            log: Arc::new(self.log.clone()),
            lease: self.lease.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
        };
        let watcher = Watcher::new(config, ports);
        let (handle, stop) = (watcher.handle(), CancellationToken::new());
        let task = tokio::spawn(watcher.run(stop.clone()));
        self.running = Some(Running { handle, stop, task });
    }

    async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.stop.cancel();
        running.task.await.unwrap().unwrap();
    }

    async fn until(&self, what: &str, mut ready: impl AsyncFnMut(&Self) -> bool) {
        for _ in 0..4000 {
            if ready(self).await {
                return;
            }
            if let Some(running) = &self.running {
                running.handle.report_soon();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let health = self.running.as_ref().map(|running| running.handle.health());
        panic!("{what} did not happen: {health:?}\n{}", self.story.join("\n"));
    }

    /// Until the log has the node's tip and what it was asked for.
    async fn settled(&self) {
        self.until("the tip", async |world| {
            let mut tracker = Tracker::new(chain_id("eth"), Settings::default());
            let facts = world.log.facts();
            facts.iter().for_each(|recorded| tracker.apply(&recorded.event.fact));
            let (height, hash) = world.node.tip();
            tracker.tip().is_some_and(|tip| (tip.height.get(), tip.hash.to_string()) == (height, hash))
        })
        .await;
    }

    async fn rescan(&mut self, from: u64, to: u64) {
        let (chain, now) = (chain_id("eth"), Timestamp::from_secs(1_749_999_000));
        let (from, to) = (Height::new(from), Height::new(to));
        let rescan = request_rescan(&self.log, &chain, from, to, now).await.unwrap();
        self.until("the rescan", async |world| {
            rescan_progress(&world.log, &chain_id("eth"), rescan).await.unwrap().is_none()
        })
        .await;
    }

    /// What the log tells of payments in blocks, by address.
    fn told(&self) -> BTreeMap<Script, u128> {
        let mut mined: BTreeMap<DepositKey, (Script, u128)> = BTreeMap::new();
        for recorded in self.log.facts() {
            match recorded.event.fact {
                Fact::DepositMined(fact) => {
                    let deposit = fact.deposit;
                    mined.insert(deposit.key, (deposit.script, deposit.amount.units()));
                }
                Fact::DepositUnmined(fact) => {
                    mined.remove(&fact.deposit);
                }
                _ => {}
            }
        }
        let mut sums = BTreeMap::new();
        for (script, units) in mined.into_values() {
            *sums.entry(script).or_default() += units;
        }
        sums
    }

    fn judge(&self, all: bool) {
        let told = self.told();
        for number in 0..ADDRESSES {
            let (told, paid) =
                (told.get(&script(number)).copied().unwrap_or_default(), self.node.paid(number));
            let good = if all { told == paid } else { told <= paid };
            assert!(good, "{told} of {paid} is told of {number}\n{}\n{}", self.story.join("\n"), self.tale());
        }
    }

    /// The log in words.
    fn tale(&self) -> String {
        let facts = self.log.facts();
        let words = facts.iter().filter_map(|recorded| match &recorded.event.fact {
            Fact::DepositMined(fact) => {
                let deposit = &fact.deposit;
                let (slot, sum) = (&deposit.key.slot, &deposit.difference);
                Some(format!("mined {}={} {sum:?} in {}", slot, deposit.amount, fact.block.height))
            }
            Fact::DepositUnmined(fact) => {
                Some(format!("unmined {} in {}", fact.deposit.slot, fact.block.height))
            }
            Fact::BlockConnected(fact) => Some(format!("+{} {:?}", fact.block.height, fact.method)),
            Fact::BlockDisconnected(fact) => Some(format!("-{}", fact.block.height)),
            _ => None,
        });
        words.collect::<Vec<_>>().join("\n")
    }
}

fn payments(dice: &SeededEntropy) -> Vec<Payment> {
    let one = |_| Payment {
        to: dice.below(ADDRESSES),
        amount: 1 + dice.below(1000),
        by_contract: dice.below(3) > 0,
    };
    (0..dice.below(3)).map(one).collect()
}

fn change_ways(world: &mut World, dice: &SeededEntropy) {
    let tip = world.node.tip().0;
    let traces = dice.below(2) == 0;
    let state_from = match dice.below(4) {
        0 => 0,
        1 => NOWHERE,
        2 => tip + 1,
        _ => tip.saturating_sub(dice.below(6)),
    };
    world.node.offers(traces, state_from);
    world.say(format!("traces: {traces}, state from {state_from}"));
}

async fn step(world: &mut World, dice: &SeededEntropy) {
    change_ways(world, dice);
    let tip = world.node.tip().0;
    match dice.below(8) {
        0 => {
            let from = dice.below(tip + 1);
            let to = from + dice.below(tip - from + 1);
            world.say(format!("rescan {from}-{to}"));
            world.rescan(from, to).await;
        }
        1 => {
            let keeps = dice.below(2) == 0;
            world.say(format!("restart, keeps its store: {keeps}"));
            world.stop().await;
            if !keeps {
                world.store = Arc::new(MemoryStore::new());
            }
            world.start();
        }
        2 if tip > 6 => {
            let depth = 1 + dice.below(5);
            world.say(format!("reorg of {depth} at {tip}"));
            world.node.drop_blocks(depth);
            for _ in 0..=depth {
                world.node.mine(payments(dice));
            }
        }
        _ => {
            for _ in 0..=dice.below(3) {
                let paid = payments(dice);
                world.say(format!("block {}: {paid:?}", world.node.tip().0 + 1));
                world.node.mine(paid);
            }
        }
    }
    world.settled().await;
    world.judge(false);
}

/// Whether something was counted that nobody can settle by balances.
fn unsettled(meters: &Meters) -> bool {
    meters.count("tally_incidents_total", "kind=state_gap_unsettled") > 0
}

/// Plays a seed; whether all was told without a last rescan.
async fn play(seed: u64) -> bool {
    let dice = SeededEntropy::new(seed);
    let meters = Meters::default();
    let _counting = meters.begin();
    let mut world = World::new();
    world.say(format!("seed {seed}"));
    world.node.offers(true, 0);
    world.node.mine(payments(&dice));
    world.start();
    world.settled().await;
    for _ in 0..25 {
        step(&mut world, &dice).await;
    }
    // The last block is read whole: what was to come has come.
    let tip = world.node.tip().0;
    world.node.offers(dice.below(2) == 0, tip + 1);
    world.node.mine(payments(&dice));
    world.say("the last block".to_owned());
    world.settled().await;
    let settled = !unsettled(&meters);
    world.judge(settled);
    // What nobody could settle, calls tell.
    world.node.offers(true, 0);
    world.say("all is looked at again".to_owned());
    world.rescan(0, tip + 1).await;
    world.judge(true);
    let counted = world.told();
    world.node.offers(false, 0);
    world.rescan(0, tip + 1).await;
    assert_eq!(world.told(), counted, "once more, by balances\n{}\n{}", world.story.join("\n"), world.tale());
    world.stop().await;
    settled
}

#[allow(clippy::disallowed_methods, reason = "how many seeds to play is said by who runs the test")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn what_is_told_is_what_was_paid() {
    let from = number("TALLY_WAYS_FROM").unwrap_or(0);
    let seeds = from..from + number("TALLY_WAYS_SEEDS").unwrap_or(SEEDS);
    let (mut failed, mut settled, count) = (Vec::new(), 0, seeds.clone().count());
    for seed in seeds {
        let life = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(Box::pin(play(seed)))
        };
        match std::thread::Builder::new().name(format!("seed-{seed}")).spawn(life).unwrap().join() {
            Ok(whole) => settled += usize::from(whole),
            Err(_) => failed.push(seed),
        }
    }
    println!("{count} seeds, {settled} of them settled without a last look");
    assert!(failed.is_empty(), "{} of {count} seeds failed: {failed:?}", failed.len());
}
