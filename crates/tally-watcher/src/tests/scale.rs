//! Several processes on one chain: shards, a change of their number, standbys, rescans.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tally_events::{ChainSharded, Deposit, Event, Fact, FoundBlock, RescanReported, Shard, Subject};
use tally_testkit::script;
use tally_tracker::{Settings, Stage, Tracker};
use tally_types::{BaseUnits, BlockHash, BlockRef, DepositKey, Height, Span, TxId};

use super::scene::{Running, Scene, chain};
use crate::{request_rescan, rescan_progress};

/// The last change of the number of shards.
fn plan(scene: &Scene) -> Option<ChainSharded> {
    let last = scene.log.facts_on(&Subject::chain_plan(&chain())).pop()?;
    match last.event.fact {
        Fact::ChainSharded(fact) => Some(fact),
        other => panic!("{other:?}"),
    }
}

/// Each shard as folded from its own facts.
fn shards(scene: &Scene) -> Vec<(Shard, Tracker)> {
    let (generation, count) = plan(scene).map_or((0, 1), |plan| (plan.generation, plan.count));
    let folded = |shard: Shard| {
        let mut tracker = Tracker::new(chain(), Settings::default());
        let subject = Subject::chain(&chain(), generation, shard.index());
        for recorded in scene.log.facts_on(&subject) {
            assert!(recorded.event.shard == shard || matches!(recorded.event.fact, Fact::ChainSharded(_)));
            tracker.apply(&recorded.event.fact);
        }
        (shard, tracker)
    };
    Shard::all(count).map(folded).collect()
}

/// How often each payment was told to be in a block, less how often it was told to have left one: 1 for all.
fn told(scene: &Scene) -> BTreeMap<DepositKey, i64> {
    let mut told = BTreeMap::new();
    for recorded in scene.log.facts() {
        match recorded.event.fact {
            Fact::DepositMined(fact) => *told.entry(fact.deposit.key).or_default() += 1,
            Fact::DepositUnmined(fact) => *told.entry(fact.deposit).or_default() -= 1,
            _ => {}
        }
    }
    told
}

/// Every payment is in a block, told once, and followed by the one shard that its script belongs to.
fn assert_all_there(scene: &Scene, payments: &[TxId], what: &str) {
    let told = told(scene);
    assert_eq!(told.len(), payments.len(), "{what}: told");
    assert!(told.values().all(|count| *count == 1), "{what}: {told:?}");
    let mut followed: BTreeMap<TxId, Shard> = BTreeMap::new();
    for (shard, tracker) in shards(scene) {
        for one in tracker.deposits() {
            assert!(matches!(one.stage, Stage::Mined(_)), "{what}: {one:?}");
            assert!(shard.has(&one.deposit.script), "{what}: {shard}");
            assert!(followed.insert(one.deposit.key.txid, shard).is_none(), "{what}: twice");
        }
    }
    assert!(payments.iter().all(|paid| followed.contains_key(paid)), "{what}: lost");
}

async fn at_the_tip(scene: &Scene, what: &str) {
    for _ in 0..4000 {
        let tip = scene.node().tip_block();
        if shards(scene).iter().all(|(_, tracker)| tracker.tip() == Some(tip)) {
            // What is in the mempool, and what was learned late, takes a few rounds more.
            tokio::time::sleep(Duration::from_secs(5)).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let tips: Vec<_> = shards(scene).iter().map(|(shard, tracker)| (*shard, tracker.tip())).collect();
    panic!("{what}: not at the tip: {tips:?}, plan {:?}", plan(scene));
}

async fn until_count(scene: &Scene, count: u32) {
    for _ in 0..4000 {
        if plan(scene).map_or(1, |plan| plan.count) == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("there are never {count} shards: {:?}", plan(scene));
}

/// A new address is paid, and a block mined.
fn pay(scene: &mut Scene, number: u64, payments: &mut Vec<TxId>) {
    let height = scene.node().tip_block().height.get();
    scene.quote(number, height.saturating_sub(10));
    payments.push(scene.node().pay(&script(number), 1000));
    scene.node().mine(1);
}

#[tokio::test(start_paused = true)]
async fn shards_divide_the_scripts_between_them() {
    let mut scene = Scene::with_height(20);
    let mut payments = Vec::new();
    let running: Vec<Running> = ["1/4", "2/4", "3/4", "4/4"].map(|one| scene.spawn_part(one)).into();
    until_count(&scene, 4).await;
    for number in 0..40 {
        pay(&mut scene, number, &mut payments);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    at_the_tip(&scene, "four").await;
    assert_all_there(&scene, &payments, "four");
    let busy = shards(&scene).iter().filter(|(_, tracker)| tracker.deposit_count() > 0).count();
    assert_eq!(busy, 4, "each has some");
    let scripts: Vec<usize> = running.iter().map(|one| one.handle.health().scripts).collect();
    assert_eq!(scripts.iter().sum::<usize>(), 40, "{scripts:?}");
    scene.node().reorg(2, 3, &[]);
    at_the_tip(&scene, "after a reorg").await;
    assert_all_there(&scene, &payments, "after a reorg");
}

#[tokio::test(start_paused = true)]
async fn the_number_of_shards_changes_while_payments_come() {
    let mut scene = Scene::with_height(20);
    let mut payments = Vec::new();
    let mut number = 0;
    let mut running = vec![scene.spawn_part("")];
    for (stage, parts) in [
        ("grown", vec!["1/3", "2/3", "3/3"]),
        ("grown again", vec!["2/4", "1/4", "4/4", "3/4"]),
        ("shrunk", vec!["1/2", "2/2"]),
        ("whole", vec!["1/1"]),
    ] {
        for _ in 0..5 {
            number += 1;
            pay(&mut scene, number, &mut payments);
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        let count = u32::try_from(parts.len()).unwrap();
        for part in parts {
            running.push(scene.spawn_part(part));
            number += 1;
            pay(&mut scene, number, &mut payments);
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        until_count(&scene, count).await;
        at_the_tip(&scene, stage).await;
        assert_all_there(&scene, &payments, stage);
        assert_eq!(plan(&scene).unwrap().count, count, "{stage}");
    }
    let generations: Vec<u32> = scene
        .log
        .facts_on(&Subject::chain_plan(&chain()))
        .into_iter()
        .filter_map(|recorded| match recorded.event.fact {
            Fact::ChainSharded(fact) => Some(fact.generation),
            _ => None,
        })
        .collect();
    assert_eq!(generations, [1, 2, 3, 4], "each change once");
    let left_over = running[1].handle.health();
    assert!(left_over.stalled.as_deref().is_some_and(|said| said.contains("1 shards")), "{left_over:?}");
    assert!(!left_over.is_ready(scene.now(), Span::from_secs(3600)));
    assert!(running[0].handle.health().stalled.is_none(), "who watches all goes along");
}

#[tokio::test(start_paused = true)]
async fn shards_change_though_their_writers_are_gone_and_whoever_changes_them_is_killed() {
    for cut_at in 1..=8 {
        for after in [false, true] {
            let what = format!("cut at {cut_at}, after {after}");
            let mut scene = Scene::with_height(20);
            let mut payments = Vec::new();
            let whole = scene.spawn_part("");
            for number in 0..6 {
                pay(&mut scene, number, &mut payments);
            }
            at_the_tip(&scene, &what).await;
            whole.kill().await;
            pay(&mut scene, 6, &mut payments);
            scene.advance(60);
            let first = scene.spawn_part_cut_at("1/2", cut_at, after);
            for _ in 0..200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if first.is_cut() {
                    break;
                }
            }
            first.kill().await;
            scene.advance(60);
            let _running = ["1/2", "2/2"].map(|one| scene.spawn_part(one));
            until_count(&scene, 2).await;
            pay(&mut scene, 7, &mut payments);
            at_the_tip(&scene, &what).await;
            assert_all_there(&scene, &payments, &what);
            assert_eq!(plan(&scene).unwrap().generation, 1, "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hot_standby_takes_over_within_five_seconds() {
    let mut scene = Scene::with_height(20);
    let mut payments = Vec::new();
    let mut writer = scene.spawn_part("1/1");
    at_the_tip(&scene, "at first").await;
    for number in 0..5 {
        let standby = scene.spawn_part("1/1");
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(250)).await;
            scene.clock.advance(Span::from_millis(250));
        }
        assert!(!standby.handle.health().writing);
        writer.kill().await;
        pay(&mut scene, number, &mut payments);
        let mut passed = 0;
        while told(&scene).len() < payments.len() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            scene.clock.advance(Span::from_millis(50));
            passed += 50;
            assert!(passed <= 5000, "not taken over within 5 s");
        }
        writer = standby;
    }
    assert_all_there(&scene, &payments, "taken over");
}

#[tokio::test(start_paused = true)]
async fn workers_come_and_go_and_lose_and_double_nothing() {
    for seed in 0..12_u64 {
        let mut scene = Scene::with_height(20);
        let dice = tally_testkit::SeededEntropy::new(seed);
        let mut payments = Vec::new();
        let mut running: Vec<Running> = Vec::new();
        let parts = ["1/2", "2/2"];
        for step in 0..40 {
            match dice.below(6) {
                0 if running.len() < 6 => {
                    let part = parts[usize::try_from(dice.below(2)).unwrap()];
                    running.push(scene.spawn_part(part));
                }
                1 if !running.is_empty() => {
                    let at = usize::try_from(dice.below(running.len() as u64)).unwrap();
                    running.swap_remove(at).kill().await;
                }
                2 if !running.is_empty() => {
                    let at = usize::try_from(dice.below(running.len() as u64)).unwrap();
                    running.swap_remove(at).stop().await;
                }
                3 => {
                    scene.node().reorg(1 + dice.below(5), 6, &[]);
                }
                _ => pay(&mut scene, step, &mut payments),
            }
            tokio::time::sleep(Duration::from_millis(dice.below(3000))).await;
            scene.clock.advance(Span::from_millis(dice.below(3000)));
        }
        running.extend(parts.map(|part| scene.spawn_part(part)));
        scene.advance(30);
        until_count(&scene, 2).await;
        at_the_tip(&scene, &format!("seed {seed}")).await;
        assert_all_there(&scene, &payments, &format!("seed {seed}"));
    }
}

/// Waits until a rescan is done.
async fn done(scene: &Scene, rescan: u32) {
    for _ in 0..8000 {
        if rescan_progress(&scene.log, &chain(), rescan).await.unwrap().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        scene.clock.advance(Span::from_millis(20));
    }
    let progress = rescan_progress(&scene.log, &chain(), rescan).await.unwrap();
    panic!("rescan {rescan} is never done: {progress:?}");
}

async fn request(scene: &Scene, from: u64, to: u64) -> u32 {
    let (from, to) = (Height::new(from), Height::new(to));
    request_rescan(&scene.log, &chain(), from, to, scene.now()).await.unwrap()
}

/// 40 payments in the first 400 of 1000 blocks, to addresses that say that nothing can be paid to them so early.
fn overlooked() -> (Scene, Vec<TxId>) {
    let mut scene = Scene::with_height(2);
    scene.config.start = Some(Height::new(900));
    let mut payments = Vec::new();
    for number in 0..40 {
        payments.push(scene.node().pay(&script(number), 1000));
        scene.node().mine(10);
    }
    scene.node().mine(600);
    for number in 0..40 {
        scene.quote(number, 990);
    }
    (scene, payments)
}

#[tokio::test(start_paused = true)]
async fn a_rescan_finds_what_was_overlooked_and_doubles_nothing() {
    let (scene, payments) = overlooked();
    let _running: Vec<Running> = ["1/2", "1/2", "2/2", ""].map(|one| scene.spawn_part(one)).into();
    until_count(&scene, 2).await;
    at_the_tip(&scene, "before").await;
    assert!(told(&scene).is_empty());
    let rescan = request(&scene, 0, 1000).await;
    done(&scene, rescan).await;
    let first = told(&scene);
    assert_eq!(first.len(), payments.len());
    assert!(first.values().all(|count| *count == 1), "{first:?}");
    let facts = scene.log.facts().len();
    let again = request(&scene, 0, 1000).await;
    assert_eq!(again, rescan + 1);
    done(&scene, again).await;
    assert_eq!(told(&scene), first, "known identities are left alone");
    let parts = scene.log.facts().into_iter().skip(facts);
    let reported = parts.filter(|one| matches!(one.event.fact, Fact::RescanReported(_))).count();
    assert_eq!(reported, 22, "11 parts of two shards, each once");
}

#[tokio::test(start_paused = true)]
async fn a_rescan_that_is_done_before_an_earlier_one_keeps_its_number() {
    let (scene, _) = overlooked();
    let _running = scene.spawn_part("");
    at_the_tip(&scene, "before").await;
    let tip = scene.node().tip_block().height.get();
    let first = request(&scene, 0, tip + 5).await;
    let second = request(&scene, 0, 5).await;
    done(&scene, second).await;
    scene.node().mine(5);
    done(&scene, first).await;
    assert_eq!(rescan_progress(&scene.log, &chain(), second).await.unwrap(), None);
    let third = request(&scene, 0, 5).await;
    assert_eq!([first, second, third], [1, 2, 3]);
    done(&scene, third).await;
}

#[tokio::test(start_paused = true)]
async fn a_find_on_another_branch_is_not_believed() {
    let (scene, payments) = overlooked();
    let first = scene.node().tip_block();
    let node = scene.node();
    // Who matched the part asked a node whose block 3 is another, with a payment that our branch does not have.
    let block = BlockRef { height: Height::new(3), hash: BlockHash::from_display([5; 32]) };
    let deposit = Deposit {
        key: DepositKey { txid: TxId::from_display([6; 32]), slot: "0".to_owned() },
        currency: "BTC".parse().unwrap(),
        amount: BaseUnits::from_units(1_000_000),
        script: script(1),
        first_seen: scene.now(),
        inputs: Vec::new(),
        difference: None,
    };
    let rescan = request(&scene, 0, 1).await;
    let asked = scene.log.facts().last().unwrap().position;
    let found = FoundBlock { block, prev: first.hash, time: scene.now(), deposits: vec![deposit.clone()] };
    let reported = RescanReported {
        chain: chain(),
        rescan,
        part: 0,
        last: node.block_at(1).unwrap().block,
        found: vec![found],
        more: false,
        since: asked,
    };
    scene.log.seed(vec![Event::new(Subject::chain_rescan(&chain()), reported, scene.now())]);
    let _whole = scene.spawn_part("");
    at_the_tip(&scene, "before").await;
    done(&scene, rescan).await;
    let told = told(&scene);
    assert!(!told.contains_key(&deposit.key), "{told:?}");
    assert_eq!(
        told.keys().map(|key| key.txid).collect::<Vec<_>>(),
        [payments[0]],
        "its own block was matched"
    );
}

#[tokio::test(start_paused = true)]
async fn a_rescan_goes_on_when_workers_are_killed_and_started_anew() {
    for seed in 0..6_u64 {
        let (scene, payments) = overlooked();
        let dice = tally_testkit::SeededEntropy::new(seed);
        let mut running: Vec<Running> = ["", ""].map(|one| scene.spawn_part(one)).into();
        at_the_tip(&scene, "before").await;
        let rescan = request(&scene, 0, 1000).await;
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(dice.below(60))).await;
            scene.clock.advance(Span::from_secs(dice.below(8)));
            let at = usize::try_from(dice.below(2)).unwrap();
            running.swap_remove(at).kill().await;
            running.push(scene.spawn_part(""));
        }
        done(&scene, rescan).await;
        let told = told(&scene);
        assert_eq!(told.len(), payments.len(), "seed {seed}");
        assert!(told.values().all(|count| *count == 1), "seed {seed}: {told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn shards_may_change_in_the_middle_of_a_rescan() {
    let (scene, payments) = overlooked();
    let _whole = scene.spawn_part("");
    at_the_tip(&scene, "before").await;
    let gate = scene.nodes.gate.acquire_many(super::scene::GATE).await.unwrap();
    let rescan = request(&scene, 0, 1000).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(gate);
    let _running: Vec<Running> = ["1/3", "2/3", "3/3"].map(|one| scene.spawn_part(one)).into();
    until_count(&scene, 3).await;
    done(&scene, rescan).await;
    let told = told(&scene);
    assert_eq!(told.len(), payments.len());
    assert!(told.values().all(|count| *count == 1), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_reorg_too_deep_a_rescan_begins_anew() {
    let mut scene = Scene::with_height(400);
    scene.config.start = None;
    scene.quote(1, 390);
    scene.start();
    scene.settled().await;
    let paid = scene.node().pay(&script(1), 1000);
    scene.said("seen(a)").await;
    scene.node().mine(1);
    scene.said("+401").await;
    scene.node().reorg(30, 40, &[]);
    scene.until("the alarm", |scene| scene.handle().health().stalled.is_some()).await;
    let facts = scene.facts().len();
    scene.rounds().await;
    assert_eq!(scene.facts().len(), facts, "nothing goes on");
    request(&scene, 365, 411).await;
    scene.settled().await;
    let trace = scene.trace_from("+401");
    let start = "+401 -401 -400 -399 ";
    assert!(trace.starts_with(start), "{trace}");
    assert!(trace.contains(" unmined(a@401 gone) +365 +366 "), "{trace}");
    assert!(trace.contains("mined(a@372) confirmed(a 1) +372"), "{trace}");
    assert!(trace.ends_with("+411"), "{trace}");
    assert!(scene.handle().health().stalled.is_none());
    let tracker = scene.folded();
    let known = tracker.deposits().find(|one| one.deposit.key.txid == paid).unwrap();
    assert!(matches!(known.stage, Stage::Mined(block) if block.height == Height::new(372)));
    assert!(told(&scene).values().all(|count| *count == 1), "the rescan itself found nothing new");
}

#[tokio::test(start_paused = true)]
async fn what_the_chain_calls_final_is_told() {
    let mut scene = Scene::with_height(10);
    scene.quote(1, 0);
    scene.start();
    scene.settled().await;
    scene.node().pay(&script(1), 1000);
    scene.node().mine(3);
    scene.settled().await;
    *scene.nodes.finalized.lock().unwrap() = Some(Height::new(11));
    scene.rounds().await;
    assert!(scene.trace().ends_with("+13 final(11) final(a)"), "{}", scene.trace());
    scene.stop().await;
    scene.start();
    scene.rounds().await;
    assert!(scene.trace().ends_with("+13 final(11) final(a)"), "once: {}", scene.trace());
}

#[tokio::test(start_paused = true)]
async fn sums_are_recalled_at_a_start() {
    let mut scene = Scene::with_height(10);
    scene.config.native = Some("BTC".parse().unwrap());
    scene.quote(1, 0);
    scene.quote(2, 0);
    scene.quote(3, 0);
    scene.start();
    scene.settled().await;
    assert!(scene.nodes.recalled.lock().unwrap().is_empty(), "nothing was watched before");
    scene.node().pay(&script(1), 700);
    scene.node().mine(1);
    scene.node().pay(&script(1), 300);
    scene.node().pay(&script(2), 5);
    scene.node().mine(1);
    scene.node().pay(&script(3), 9);
    scene.settled().await;
    scene.stop().await;
    let scans = scene.nodes.scans.load(Ordering::SeqCst);
    scene.start();
    scene.rounds().await;
    assert_eq!(scene.nodes.scans.load(Ordering::SeqCst), scans);
    let (tip, mut paid) = scene.nodes.recalled.lock().unwrap().pop().unwrap();
    assert_eq!(Some(tip), scene.folded().tip());
    paid.sort();
    let units: Vec<u128> = paid.iter().map(|(_, amount)| amount.units()).collect();
    assert_eq!(units, [1000, 5, 0], "what is not in a block is nothing yet");
}
