//! Killed and started again: the log is the only memory.

use tally_testkit::{MemoryStore, script};
use tally_types::Position;

use super::scene::{Scene, quoted};

/// A payment, its reorg, a double spend and a late address, with a writer that may be lost at one append.
async fn play(cut_at: i64, after: bool, keep_store: bool) -> Scene {
    let mut scene = Scene::with_height(4);
    scene.quote(1, 0);
    scene.quote(2, 0);
    scene.start_cut_at(cut_at, after);
    scene.settled().await;
    if !keep_store {
        scene.store = std::sync::Arc::new(MemoryStore::new());
    }
    let first = scene.node().pay(&script(1), 1000);
    let second = scene.node().pay(&script(2), 1000);
    scene.settled().await;
    scene.node().mine(2);
    scene.settled().await;
    scene.node().fork_at(3).mine_only(&[]);
    scene.node().mine_only(&[first]);
    scene.node().replace(&second, &script(9), 1000).unwrap();
    scene.node().mine(2);
    scene.settled().await;
    scene.node().pay(&script(3), 1000);
    scene.node().mine(1);
    scene.settled().await;
    scene.quote(3, 0);
    scene.rounds().await;
    scene.node().mine(1);
    scene.settled().await;
    scene
}

/// Where every deposit stands at the end; one that is gone may have been reported so or otherwise.
fn standing(scene: &Scene) -> Vec<String> {
    let tracker = scene.folded();
    let live = tracker.deposits().filter(|followed| followed.stage.is_live());
    live.map(|followed| format!("{} {:?}", followed.deposit.key, followed.stage)).collect()
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_append_it_comes_to_the_same() {
    let whole = play(0, false, true).await;
    let expected = standing(&whole);
    assert_eq!(expected.len(), 2, "{expected:?}\n{}", whole.trace());
    for cut_at in 1..=24 {
        for (after, keep_store) in [(false, true), (true, true), (true, false)] {
            let scene = play(cut_at, after, keep_store).await;
            let what = format!("cut at {cut_at}, after {after}, store {keep_store}");
            assert_eq!(standing(&scene), expected, "{what}\n{}", scene.trace());
            assert_eq!(scene.folded().tip(), whole.folded().tip(), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_block_that_was_never_connected_is_taken_back() {
    let mut scene = Scene::with_height(4);
    scene.quote(1, 0);
    scene.start();
    scene.settled().await;
    scene.stop().await;
    // An earlier writer was killed within a block of several appends.
    scene.node().pay(&script(1), 1000);
    let block = scene.node().mine(1);
    let deposit = tally_events::Deposit {
        key: tally_types::DepositKey { txid: tally_types::TxId::from_display([9; 32]), slot: "0".to_owned() },
        currency: "BTC".parse().unwrap(),
        amount: tally_types::BaseUnits::from_units(5),
        script: script(1),
        first_seen: scene.now(),
        inputs: Vec::new(),
        difference: None,
    };
    let fact = tally_events::DepositMined { chain: super::scene::chain(), deposit, block, replaces: None };
    let subject = super::scene::subject();
    scene.log.seed(vec![tally_events::Event::new(subject, fact, scene.now())]);
    scene.start();
    scene.settled().await;
    let trace = scene.trace_from("mined(a@5)");
    assert_eq!(trace, "mined(a@5) unmined(a@5 gone) mined(b@5) confirmed(b 1) +5");
}

#[tokio::test(start_paused = true)]
async fn the_mempool_is_caught_up_with_at_a_start() {
    let mut scene = Scene::with_height(4);
    scene.quote(1, 0);
    scene.quote(2, 0);
    scene.start();
    scene.settled().await;
    let first = scene.node().pay(&script(1), 1000);
    scene.said("seen(a)").await;
    scene.stop().await;
    // While nobody watches: a replacement of what was told, and a payment that was not.
    scene.node().replace(&first, &script(9), 1000).unwrap();
    scene.node().pay(&script(2), 1000);
    scene.advance(40);
    scene.start();
    scene.said("seen(b)").await;
    scene.rounds().await;
    assert_eq!(scene.trace_from("seen(a)"), "seen(a) seen(b) replaced(a)");
    assert_eq!(scene.first_seen(2), scene.now(), "met now, whenever it came");
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_bounds_what_is_read() {
    let mut scene = Scene::with_height(4);
    scene.config.checkpoint_every = 10;
    scene.quote(1, 0);
    scene.start();
    scene.settled().await;
    scene.node().pay(&script(1), 1000);
    scene.said("seen(a)").await;
    for _ in 0..3 {
        scene.node().mine(10);
        scene.settled().await;
    }
    scene.stop().await;
    let trace = scene.trace();
    assert!(trace.matches("checkpoint(1/1)").count() >= 2, "{trace}");
    let before = scene.folded();
    scene.start();
    scene.rounds().await;
    let health = scene.handle().health();
    assert_eq!(health.own_tip, before.tip());
    assert_eq!(health.scripts, 1);
    scene.node().mine(1);
    scene.settled().await;
    assert_eq!(scene.trace_from("+34"), "+34 checkpoint(1/1) +35");
    let reads = scene.running.as_ref().unwrap().reads();
    let checkpoint = scene.facts().iter().rev().nth(1).unwrap().position;
    assert!(reads.iter().all(|after| after.next() == checkpoint), "{reads:?}, not {checkpoint}");
    scene.node().reorg(33, 34, &[]);
    scene.settled().await;
    assert!(scene.trace_from("+35").contains("unmined(a@5)"), "{}", scene.trace());
}

#[tokio::test(start_paused = true)]
async fn a_store_of_another_log_is_not_believed() {
    let mut scene = Scene::with_height(4);
    for number in 1..=30 {
        scene.quote(number, 0);
    }
    scene.start();
    scene.settled().await;
    scene.stop().await;
    for (name, quotes) in [("a shorter log", 5), ("a longer log", 60)] {
        let mut other = Scene::with_height(4);
        other.store = scene.store.clone();
        for number in 0..quotes {
            other.log.seed(vec![quoted(1000 + number, 1000 + number, 0)]);
        }
        other.start();
        other.settled().await;
        assert_eq!(other.handle().health().scripts, usize::try_from(quotes).unwrap(), "{name}");
        other.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn addresses_quoted_while_nobody_watched_are_late_ones() {
    let mut scene = Scene::with_height(4);
    scene.start();
    scene.settled().await;
    scene.quote(1, 3);
    scene.rounds().await;
    scene.kill().await;
    let quote: Position = scene.quote(2, 3);
    scene.node().pay(&script(2), 1000);
    scene.node().pay(&script(1), 1000);
    scene.node().mine(1);
    scene.start();
    scene.settled().await;
    scene.handle().report_soon();
    scene.until("the report", |scene| scene.folded().watched_through() >= quote).await;
    assert_eq!(scene.trace_from("mined"), "mined(a@5) mined(b@5) confirmed(a 1) confirmed(b 1) +5");
}

#[tokio::test(start_paused = true)]
async fn a_standby_takes_over() {
    let mut scene = Scene::with_height(4);
    scene.quote(1, 0);
    scene.start();
    scene.settled().await;
    let standby = scene.spawn(0, false);
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert!(!standby.handle.health().writing);
    assert_eq!(standby.handle.health().own_tip, scene.folded().tip(), "it folds along");
    scene.stop().await;
    scene.running = Some(standby);
    scene.node().pay(&script(1), 1000);
    scene.said("seen(a)").await;
    assert!(scene.handle().health().writing);
    let epochs: Vec<u64> = scene.facts().iter().map(|recorded| recorded.event.epoch.get()).collect();
    assert!(epochs.is_sorted() && epochs.first() < epochs.last(), "{epochs:?}");
}
