//! Nodes that fail, lag, lie and change; rivals; logs that lose answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tally_events::{BlockConnected, BlockDisconnected, Epoch, Event, Fact};
use tally_testkit::{Meters, script};
use tally_types::{BlockHash, BlockRef, Height, Span};

use super::scene::{GATE, Scene, chain, subject};
use crate::WatcherError;

#[tokio::test(start_paused = true)]
async fn a_node_that_fails_now_and_then_is_asked_again() {
    let mut scene = Scene::with_height(4);
    scene.quote(1, 0);
    scene.node().fail_next(3);
    scene.start();
    scene.settled().await;
    for failures in 1..12 {
        scene.node().pay(&script(1), 1000);
        scene.node().mine(1);
        scene.node().fail_next(failures);
        scene.settled().await;
    }
    assert_eq!(scene.folded().deposit_count(), 11);
    assert_eq!(scene.handle().health().stalled, None);
    assert_eq!(scene.trace().matches(" +").count(), 15, "{}", scene.trace());
}

#[tokio::test(start_paused = true)]
async fn a_block_that_cannot_be_read_stops_the_watch_loudly() {
    let mut scene = Scene::with_height(4);
    scene.quote(1, 0);
    scene.start();
    scene.settled().await;
    *scene.nodes.unreadable.lock().unwrap() = Some(Height::new(6));
    scene.node().mine(1);
    scene.node().pay(&script(1), 1000);
    scene.node().mine(3);
    scene.until("the alarm", |scene| scene.handle().health().stalled.is_some()).await;
    scene.rounds().await;
    let health = scene.handle().health();
    let said = health.stalled.clone().unwrap();
    assert_eq!(said, "the block at height 6 cannot be read: unknown transaction flag 0x08");
    assert_eq!((health.own_tip.unwrap().height, health.lag_blocks()), (Height::new(5), 3));
    assert!(!health.is_ready(scene.now(), Span::from_secs(3600)));
    *scene.nodes.unreadable.lock().unwrap() = None;
    scene.settled().await;
    assert_eq!(scene.trace_from("+5"), "+5 mined(a@6) confirmed(a 1) +6 confirmed(a 2) +7 confirmed(a 3) +8");
    assert!(scene.handle().health().is_ready(scene.now(), Span::from_secs(60)));
}

#[tokio::test(start_paused = true)]
async fn a_node_of_another_network_is_refused() {
    let mut scene = Scene::with_height(4);
    scene.nodes.wrong_network.store(true, Ordering::SeqCst);
    scene.start();
    let result = scene.running.take().unwrap().ended().await;
    assert!(matches!(result, Err(WatcherError::Source(_))), "{result:?}");
    assert!(scene.facts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reorg_deeper_than_the_window_stops_the_watch() {
    let mut scene = Scene::with_height(400);
    scene.config.start = None;
    scene.start();
    scene.settled().await;
    let tip = scene.node().tip_block();
    scene.node().reorg(30, 40, &[]);
    scene.until("the alarm", |scene| scene.handle().health().stalled.is_some()).await;
    assert!(scene.handle().health().stalled.unwrap().contains("rescan"), "{:?}", scene.handle().health());
    assert_eq!(scene.folded().tip(), Some(tip));
    assert!(scene.node().switch_to(&tip.hash));
    scene.until("the end of it", |scene| scene.handle().health().stalled.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_lags_is_no_reorg() {
    let mut scene = Scene::with_height(10);
    scene.start();
    scene.settled().await;
    let (tip, before) = (scene.node().tip_block(), scene.facts().len());
    scene.node().fork_at(7);
    scene.rounds().await;
    scene.advance(3600);
    scene.rounds().await;
    assert_eq!(scene.facts().len(), before, "{}", scene.trace());
    assert!(scene.node().switch_to(&tip.hash));
    scene.node().mine(1);
    scene.settled().await;
    assert!(scene.trace().ends_with("+10 +11"), "{}", scene.trace());
}

#[tokio::test(start_paused = true)]
async fn another_endpoint_is_not_believed_blindly() {
    let mut scene = Scene::with_height(10);
    scene.quote(1, 0);
    scene.start();
    scene.settled().await;
    scene.node().pay(&script(1), 1000);
    scene.said("seen(a)").await;
    // Beside the usual node one that never had the payment, on a branch as long.
    let other = scene.nodes.all[1].clone();
    other.pay(&script(8), 1);
    other.reorg(1, 1, &[]);
    scene.nodes.switch_to(1);
    scene.rounds().await;
    scene.advance(120);
    scene.rounds().await;
    scene.advance(120);
    scene.rounds().await;
    assert_eq!(scene.trace_from("seen"), "seen(a)", "neither gone nor reorganised");
    scene.advance(360);
    scene.said("-10 +10'").await;
    scene.advance(3600);
    scene.rounds().await;
    assert!(!scene.trace().contains("vanished"), "unknown to this node, not gone");
    scene.nodes.switch_to(0);
    scene.node().mine(1);
    scene.settled().await;
    let end = "-10' +10 mined(a@11) confirmed(a 1) +11";
    assert!(scene.trace().ends_with(end), "higher: at once: {}", scene.trace());
}

#[tokio::test(start_paused = true)]
async fn of_two_branches_the_one_with_more_work_is_followed() {
    for (name, blocks, work, leaves) in [
        ("longer, of as much work", 4, 50, false),
        ("longer, of less work", 5, 30, false),
        ("longer, of more work", 3, 100, true),
        ("shorter, of less work than two such blocks", 1, 201, false),
        ("as long, of as much work", 2, 100, false),
    ] {
        let mut scene = Scene::with_height(8);
        // The node that is asked later does not have the blocks of the first, which count as the one before them.
        for node in &scene.nodes.all {
            node.set_work(100);
            node.mine(1);
        }
        scene.node().mine(2);
        scene.start();
        scene.settled().await;
        let tip = scene.folded().tip();
        let other = scene.nodes.all[1].clone();
        other.set_work(work);
        other.pay(&script(8), 1);
        other.mine(blocks);
        scene.nodes.switch_to(1);
        scene.rounds().await;
        let expected = if leaves { Some(other.tip_block()) } else { tip };
        assert_eq!(scene.folded().tip(), expected, "{name}: {}", scene.trace());
        scene.advance(600);
        scene.rounds().await;
        assert_eq!(scene.folded().tip(), Some(other.tip_block()), "{name}: after 10 minutes in any case");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_change_of_writer_a_shorter_branch_of_more_work_is_followed() {
    for (work, leaves) in [(200, false), (201, true)] {
        let mut scene = Scene::with_height(8);
        scene.node().set_work(100);
        scene.node().mine(3);
        scene.start();
        scene.settled().await;
        let tip = scene.folded().tip();
        scene.stop().await;
        // The same node has left two blocks, which it still knows.
        scene.node().fork_at(9);
        scene.node().set_work(work);
        scene.node().mine(1);
        scene.start();
        scene.rounds().await;
        let expected = if leaves { Some(scene.node().tip_block()) } else { tip };
        assert_eq!(scene.folded().tip(), expected, "{work}: {}", scene.trace());
    }
}

#[tokio::test(start_paused = true)]
async fn answers_of_the_log_that_get_lost_do_no_harm() {
    let mut scene = Scene::with_height(4);
    scene.quote(1, 0);
    scene.start();
    scene.settled().await;
    scene.node().pay(&script(1), 1000);
    scene.log.lose_acks(1);
    scene.said("seen(a)").await;
    scene.log.fail_appends(2);
    scene.node().mine(1);
    scene.settled().await;
    scene.log.lose_acks(2);
    scene.node().mine(1);
    scene.settled().await;
    scene.log.fail_appends(20);
    scene.node().mine(1);
    scene.settled().await;
    assert_eq!(
        scene.trace_from("seen"),
        "seen(a) mined(a@5) confirmed(a 1) +5 confirmed(a 2) +6 confirmed(a 3) +7"
    );
}

#[tokio::test(start_paused = true)]
async fn a_rival_with_a_later_lease_wins() {
    let mut scene = Scene::with_height(4);
    scene.quote(1, 0);
    scene.start();
    scene.settled().await;
    let tip = scene.folded().tip().unwrap();
    let block = BlockRef { height: tip.height.next(), hash: BlockHash::from_display([5; 32]) };
    let rival = BlockConnected {
        chain: chain(),
        block,
        prev: tip.hash,
        from: block.height,
        time: scene.now(),
        watched_through: scene.folded().watched_through(),
        observed_at: scene.now(),
        method: None,
    };
    scene.log.seed(vec![Event::new(subject(), rival, scene.now()).under(Epoch::new(40))]);
    let paid = scene.node().pay(&script(1), 1000);
    scene.node().mine(2);
    scene.settled().await;
    assert!(scene.trace().contains("+5 -5 mined(a@5') confirmed(a 1) +5' "), "{}", scene.trace());
    assert!(scene.folded().deposits().any(|followed| followed.deposit.key.txid == paid));
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_taken_again() {
    let mut scene = Scene::with_height(4);
    scene.quote(1, 0);
    scene.start();
    scene.settled().await;
    scene.advance(1200);
    scene.rounds().await;
    scene.node().pay(&script(1), 1000);
    scene.said("seen(a)").await;
    let last = scene.facts().last().unwrap().event.epoch;
    assert!(last > Epoch::new(1), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rival_that_wrote_the_same_is_noticed() {
    // Whether the log or its follower is faster is not certain, so that once would prove nothing.
    for round in 0..12 {
        let mut scene = Scene::with_height(4);
        scene.start();
        scene.settled().await;
        let tip = scene.folded().tip().unwrap();
        let nodes = Arc::clone(&scene.nodes);
        let gate = nodes.gate.acquire_many(GATE).await.unwrap();
        let scans = nodes.scans.load(Ordering::SeqCst);
        scene.node().mine(3);
        scene.until("the scans", |_| nodes.scans.load(Ordering::SeqCst) > scans).await;
        let block = scene.node().block_at(5).unwrap();
        // As the writer itself will say it: ids are those of the contents.
        let same = BlockConnected {
            chain: chain(),
            block: block.block,
            prev: tip.hash,
            from: block.block.height,
            time: block.time,
            watched_through: scene.log.facts().last().unwrap().position,
            observed_at: scene.now(),
            method: None,
        };
        scene.log.seed(vec![Event::new(subject(), same, scene.now()).under(Epoch::new(40))]);
        drop(gate);
        scene.settled().await;
        let facts = scene.facts();
        let connected = facts.iter().filter(|one| matches!(one.event.fact, Fact::BlockConnected(_)));
        let epochs: Vec<u64> = connected.map(|one| one.event.epoch.get()).collect();
        assert_eq!(epochs[..6], [1, 1, 1, 1, 1, 40], "round {round}: {}", scene.trace());
        assert_eq!(epochs.len(), 8, "round {round}: the rival's block is not told again: {}", scene.trace());
        assert!(epochs[6..].iter().all(|epoch| *epoch == 2), "round {round}: a new lease: {epochs:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_left_half_told_is_taken_back_at_the_tip() {
    let mut scene = Scene::with_height(4);
    scene.quote(1, 0);
    scene.start();
    scene.settled().await;
    scene.node().pay(&script(1), 1000);
    scene.said("seen(a)").await;
    let block = scene.node().mine(1);
    scene.settled().await;
    // Of a reorg only the first of several appends came through, and then the node stands at the block before.
    scene.node().fork_at(4);
    let (tip, now) = (scene.node().tip_block(), scene.now());
    let left = BlockDisconnected { chain: chain(), block, prev: tip.hash };
    scene.log.seed(vec![Event::new(subject(), left, now).under(Epoch::new(1))]);
    scene.settled().await;
    assert_eq!(scene.trace_from("+5"), "+5 -5 unmined(a@5)");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_is_told_within_a_minute() {
    let gauges = Meters::default();
    let _guard = gauges.begin();
    let mut scene = Scene::with_height(4);
    scene.start();
    scene.settled().await;
    assert!(scene.handle().health().is_ready(scene.now(), crate::SILENCE_ALARM));
    assert_eq!(gauges.gauge("tally_chain_lag_blocks", ""), Some(0.0));
    scene.nodes.hangs.store(true, Ordering::SeqCst);
    scene.node().mine(2);
    for _ in 0..60 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        scene.advance(1);
    }
    let health = scene.handle().health();
    assert!(!health.is_ready(scene.now(), Span::from_secs(3600)), "{health:?}");
    assert!(health.stalled.is_some_and(|said| said.starts_with("nothing was heard of the node for ")));
    assert!(gauges.gauge("tally_chain_lag_blocks", "").unwrap() >= 1.0);
    assert!(gauges.gauge("tally_chain_silence_seconds", "").unwrap() >= 45.0);
    scene.nodes.hangs.store(false, Ordering::SeqCst);
}
