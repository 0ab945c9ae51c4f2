//! What happens, drawn from the seed: what shops and payers do, faults, deaths; and at the end, rest.
//!
//! Not here: what must come of it (`judge`).

use std::sync::Arc;

use serde_json::{Value, json};
use tally_testkit::Finding;
use tally_types::{ChainId, Script, TxId};

use crate::gate::Gate;
use crate::judge::{Fault, Given, Verdict};
use crate::mutation::Mutation;
use crate::shop::Wanted;
use crate::timeline::{Fate, Step};
use crate::world::{PROCESSES, World};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// The most orders of a run.
const ORDERS: usize = 9;
/// The deepest reorg.
const DEPTH_MAX: u64 = 5;
/// How often the clock jumps an hour at most until everything has come to rest, and how long it passes in between.
const JUMPS_MAX: u64 = 50;
const BETWEEN_JUMPS_MS: u64 = 8_000;
/// Longer than any node keeps a transaction.
const FORGOTTEN_SECS: u64 = 15 * 24 * 3600;

/// What came of a seed.
#[derive(Debug, Clone)]
pub(crate) struct Played {
    /// The log: position and bytes of each fact.
    pub(crate) log: Vec<Vec<u8>>,
    /// Every step of every process.
    pub(crate) steps: Vec<Step>,
    /// How often each rule was applied.
    pub(crate) applied: BTreeMap<&'static str, u64>,
}

/// Plays a seed to its end.
pub(crate) async fn play(seed: u64, gate: Arc<Gate>, mutation: Mutation) -> Result<Played, Fault> {
    let mut world = World::new(seed, gate, mutation);
    world.furnish().await?;
    world.calm.store(false, Ordering::SeqCst);
    for _ in 0..50 + world.below(50) {
        act(&mut world).await;
        let ms = pause_ms(&world);
        world.pass(ms).await?;
        revive(&mut world);
    }
    rest(&mut world).await?;
    let bytes = |recorded: tally_events::Recorded| {
        let mut bytes = recorded.position.get().to_string().into_bytes();
        bytes.extend(recorded.event.to_json().unwrap());
        bytes
    };
    let log = world.log.facts().into_iter().map(bytes).collect();
    let applied = world.judge().applied.clone();
    let steps = world.outside.timeline.steps();
    Ok(Played { log, steps, applied })
}

fn pause_ms(world: &World) -> u64 {
    match world.below(10) {
        0 | 1 => 0,
        2 => 50 * world.below(150),
        3..=5 => 50 * world.below(8),
        _ => 50 * world.below(40),
    }
}

async fn act(world: &mut World) {
    match world.below(60) {
        0..=4 => create(world),
        5..=12 => checkout(world),
        13..=23 => pay(world),
        24..=29 => mine(world),
        30..=34 => reorg(world),
        35..=37 => replace(world),
        38 => decide(world, "cancel"),
        39 => decide(world, "accept"),
        40 => change_account(world),
        41 => query(world),
        42 => world.kill(slot(world)).await,
        43 => world.stop(slot(world)),
        44 | 45 => world.freeze(slot(world), 500 * (1 + world.below(24))),
        46 => crash_log(world),
        47 => cut(world),
        48 | 49 => revoke(world),
        50..=52 => jump(world),
        53 => divide(world),
        54 | 55 => rescan(world).await,
        56 => find(world),
        _ => start(world),
    }
}

fn slot(world: &World) -> usize {
    world.below(PROCESSES as u64) as usize
}

/// An order that is new, or was asked for before; at one process, or at two at once.
fn create(world: &mut World) {
    let shops = world.shops();
    let count = crate::ports::lock(&shops.wanted).len();
    let again = count > 0 && (count >= ORDERS || world.chance(4));
    let index = if again { world.below(count as u64) as usize } else { count };
    if !again {
        let merchant = world.merchants[world.below(world.merchants.len() as u64) as usize];
        // Both merchants use the same ids.
        let own_id = format!("order {}", count / 2);
        let known =
            crate::ports::lock(&shops.wanted).iter().any(|w| w.merchant == merchant && w.own_id == own_id);
        let own_id = if known { format!("order {count}b") } else { own_id };
        let price = 5 + world.below(200);
        crate::ports::lock(&shops.wanted).push(Wanted { merchant, own_id, price, id: None });
    }
    let acknowledged = crate::ports::lock(&shops.wanted).get(index).is_some_and(|wanted| wanted.id.is_some());
    let other = acknowledged && world.chance(3);
    let times = if world.chance(2) { 2 } else { 1 };
    world.tell(format!("create {index} {times} times, other {other}"));
    for _ in 0..times {
        if let Some(door) = world.door() {
            let shops = shops.clone();
            world.requests.spawn(async move { shops.create(door, index, other).await });
        }
    }
}

fn any_wanted(world: &World) -> Option<usize> {
    let count = crate::ports::lock(&world.shops().wanted).len() as u64;
    (count > 0).then(|| world.below(count) as usize)
}

/// A coin for an order, or two at once.
fn checkout(world: &mut World) {
    let times = 1 + world.below(3);
    for _ in 0..times {
        let Some(index) = any_wanted(world) else { return };
        let currency = ["BTC", "LTC", "ETH"][world.below(3) as usize];
        world.tell(format!("checkout {index} in {currency}"));
        if let Some(door) = world.door() {
            let shops = world.shops();
            world.requests.spawn(async move { shops.checkout(door, index, currency).await });
        }
    }
}

fn decide(world: &mut World, what: &'static str) {
    let Some(index) = any_wanted(world) else { return };
    world.tell(format!("{what} {index}"));
    if let Some(door) = world.door() {
        let shops = world.shops();
        world.requests.spawn(async move { shops.decide(door, index, what).await });
    }
}

fn query(world: &mut World) {
    let Some(index) = any_wanted(world) else { return };
    let shops = world.shops();
    let wanted = crate::ports::lock(&shops.wanted).get(index).cloned();
    if let (Some(door), Some(Wanted { merchant, id: Some(id), .. })) = (world.door(), wanted) {
        world.requests.spawn(async move { shops.query(door, merchant, id).await });
    }
}

/// Keys and settings of a merchant.
fn change_account(world: &mut World) {
    let merchant = world.merchants[world.below(world.merchants.len() as u64) as usize];
    let (Some(door), shops) = (world.door(), world.shops()) else { return };
    world.tell(format!("change merchant {merchant}"));
    if world.chance(2) {
        world.requests.spawn(async move { shops.change_key(door, merchant).await });
        return;
    }
    let (tolerance, late) = (world.below(10), ["hold", "accept"][world.below(2) as usize]);
    let settings = json!({ "tolerance_percent": tolerance.to_string(), "late": late, "quote_secs": 600 });
    world.requests.spawn(async move {
        let path = format!("/v1/admin/merchants/{merchant}");
        let _: Option<(u16, Value)> = shops.admin(&door, "PATCH", &path, settings).await;
    });
}

/// All of it, a part, or too much, to an address that was given to an order.
fn pay(world: &mut World) {
    let given: Vec<(ChainId, Script, Given)> = world
        .judge()
        .given
        .iter()
        .map(|((chain, script), given)| (chain.clone(), script.clone(), given.clone()))
        .collect();
    let at = world.below(given.len() as u64) as usize;
    let Some((chain, script, given)) = given.get(at) else { return };
    let units = match world.below(6) {
        0 => given.due / 2,
        1 => given.due * 2,
        _ => given.due,
    };
    world.pay(chain, script, units.max(1));
}

fn net(world: &World) -> (ChainId, Arc<tally_testkit::FakeChain>) {
    let nets = &world.outside.nets;
    let net = &nets[world.below(nets.len() as u64) as usize];
    (net.id.clone(), net.chain.clone())
}

/// Some blocks: with the whole mempool, or a part of it.
fn mine(world: &mut World) {
    let (id, chain) = net(world);
    let blocks = 1 + world.below(4);
    for _ in 0..blocks {
        mine_one(world, &chain);
    }
    world.tell(format!("mined {blocks} on {id}"));
}

fn mine_one(world: &World, chain: &tally_testkit::FakeChain) {
    let held = chain.mempool_payments();
    let mined: Vec<TxId> = held.iter().filter(|_| !world.chance(4)).map(|payment| payment.txid).collect();
    chain.mine_only(&mined);
}

/// Another branch in place of the last blocks; some of what they paid is mined again, some spent otherwise.
fn reorg(world: &mut World) {
    let (id, chain) = net(world);
    let tip = chain.tip_block().height.get();
    let first =
        world.judge().branches.get(&id).and_then(|branch| branch.first).map_or(tip, |first| first.get());
    let depth = (1 + world.below(DEPTH_MAX)).min(tip.saturating_sub(first));
    chain.fork_at(tip - depth);
    for payment in chain.mempool_payments() {
        match world.below(8) {
            0 => {
                chain.evict(&payment.txid);
            }
            1 => {
                chain.replace(&payment.txid, &payment.script, payment.amount.units() / 2 + 1);
            }
            _ => {}
        }
    }
    world.note(&id);
    for _ in 0..=depth {
        mine_one(world, &chain);
    }
    world.tell(format!("reorg {depth} deep on {id}"));
}

/// A payment's inputs pay again, to the same address or to somebody else, or the payment is dropped.
fn replace(world: &mut World) {
    let (id, chain) = net(world);
    let held = chain.mempool_payments();
    let Some(payment) = held.get(world.below(held.len() as u64) as usize) else { return };
    match world.below(3) {
        0 => {
            chain.evict(&payment.txid);
        }
        1 => {
            chain.replace(&payment.txid, &payment.script, payment.amount.units() + 7);
        }
        _ => {
            chain.replace(&payment.txid, &tally_testkit::script(99), 50);
        }
    }
    world.note(&id);
    world.tell(format!("replace or drop on {id}"));
}

/// The first chain is to have another number of shards: processes that are started from now on say so.
fn divide(world: &mut World) {
    world.shards = 1 + world.below(3) as u32;
    world.tell(format!("{} shards from now on", world.shards));
}

/// Blocks are matched again.
async fn rescan(world: &mut World) {
    let (id, chain) = net(world);
    let to = chain.tip_block().height.get();
    let from = to.saturating_sub(world.below(30));
    world.rescan(&id, from, to).await;
}

/// The node of the chain of accounts finds payments by contracts in another way.
fn find(world: &mut World) {
    let finding = [Finding::Traces, Finding::Balances][world.below(2) as usize];
    world.outside.nets.iter().for_each(|net| net.chain.find_by(finding));
    world.tell(format!("payments by contracts are found by {finding:?}"));
}

fn crash_log(world: &mut World) {
    let down_ms = world.below(4_000);
    world.tell(format!("the log crashes for {down_ms} ms"));
    world.outside.main.crash(down_ms);
}

/// A chain's node is cut off for all, or reached again.
fn cut(world: &mut World) {
    let at = world.below(3) as usize;
    let cut = &world.outside.nets[at].cut;
    let was = cut.fetch_xor(true, Ordering::SeqCst);
    world.tell(format!("node {at} is cut off: {}", !was));
}

fn revoke(world: &mut World) {
    let name = match world.below(4) {
        0 => format!("duties-{}", world.below(4)),
        1 => format!("deliver-{}", world.below(8)),
        2 => "announce".to_owned(),
        _ => {
            let (id, number) = (net(world).0, world.below(4));
            let judge = world.judge();
            judge.branches.get(&id).map(|branch| branch.lease(number)).unwrap_or_default()
        }
    };
    world.outside.lease.revoke(&name);
    world.tell(format!("lease {name} is taken away"));
}

fn jump(world: &mut World) {
    let secs = [20, 70, 70, 620, 620, 1_250, 90_000][world.below(7) as usize];
    world.jump(secs);
}

fn start(world: &mut World) {
    let slot = slot(world);
    if !world.is_running(slot) {
        let (fate, forget) = (fate(world), world.chance(5));
        world.start(slot, fate, forget);
    }
}

fn fate(world: &World) -> Fate {
    match world.below(4) {
        0 => Fate { at_step: 1 + world.below(600), in_commit: 0 },
        1 => Fate { at_step: 0, in_commit: 1 + world.below(40) },
        _ => Fate::default(),
    }
}

/// Who died is started again, mostly: the last one always.
fn revive(world: &mut World) {
    let lives = (0..PROCESSES).filter(|slot| world.is_running(*slot)).count();
    if lives < PROCESSES && (lives == 0 || world.chance(3)) {
        start(world);
    }
    for at in 0..3 {
        if world.chance(8) {
            world.outside.nets[at].cut.store(false, Ordering::SeqCst);
        }
    }
}

/// No more faults: everything must be told at last.
async fn rest(world: &mut World) -> Verdict {
    world.calm_down().await?;
    // Everything is looked for once more, perhaps in another way, and nothing is told twice by that.
    find(world);
    for net in 0..3 {
        let (id, tip) = (world.outside.nets[net].id.clone(), world.outside.nets[net].chain.tip_block());
        world.rescan(&id, tip.height.get().saturating_sub(30), tip.height.get()).await;
    }
    for net in 0..3 {
        let chain = world.outside.nets[net].chain.clone();
        // Higher than any branch in the log, so that nobody clings to it; deep enough that everything is complete.
        chain.mine(8);
    }
    let mut left = None;
    for jump in 0..JUMPS_MAX {
        world.pass(BETWEEN_JUMPS_MS).await?;
        left = world.unsettled().await;
        if left.is_none() {
            break;
        }
        // What no node has held since is gone when any would have dropped it.
        world.jump(if jump == JUMPS_MAX / 2 { FORGOTTEN_SECS } else { 3_600 });
    }
    if let Some(left) = left {
        return Err(world.fault("rest", left));
    }
    world.compare_models()
}
