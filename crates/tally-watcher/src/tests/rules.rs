//! Rules that the other stories would not miss: what is loud and where it shows, who is not believed yet, and what was
//! told before is not told again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tally_events::{BlockConnected, ChainObserved, Epoch, Event, Fact, Recorded};
use tally_testkit::{Meters, script};
use tally_types::{BlockHash, BlockRef, Height, Span, Timestamp};

use super::scene::{GATE, Scene, chain, subject};

#[tokio::test(start_paused = true)]
async fn an_old_payment_is_not_told_again_by_a_late_address() {
    let mut scene = Scene::with_height(5);
    scene.quote(1, 0);
    scene.start();
    scene.settled().await;
    scene.node().pay(&script(1), 1000);
    scene.node().mine(1);
    scene.settled().await;
    for restarts in [false, true] {
        scene.node().mine(300);
        scene.settled().await;
        assert_eq!(scene.folded().deposit_count(), 0, "too deep to be followed");
        if restarts {
            scene.stop().await;
            scene.start();
        }
        let again = scene.quote(1, 0);
        scene.rounds().await;
        scene.advance(20);
        scene.until("the look", |scene| scene.handle().health().watched_through >= again).await;
        assert_eq!(scene.trace().matches("mined(").count(), 1, "restarts {restarts}: {}", scene.trace());
    }
}

#[tokio::test(start_paused = true)]
async fn a_mempool_at_another_tip_says_nothing() {
    let mut scene = Scene::with_height(5);
    scene.quote(1, 0);
    scene.start();
    scene.settled().await;
    scene.nodes.tip_moves.store(true, Ordering::SeqCst);
    scene.advance(10);
    let before = scene.now();
    scene.node().pay(&script(1), 1000);
    scene.rounds().await;
    let health = scene.handle().health();
    assert!(scene.trace().ends_with("+5"), "{}", scene.trace());
    assert!(health.last_success < Some(before), "nothing was looked at: {health:?}");
    assert_eq!(health.stalled, None, "and nothing is wrong");
    scene.nodes.tip_moves.store(false, Ordering::SeqCst);
    scene.said("seen(a)").await;
    assert_eq!(scene.handle().health().last_success, Some(before));
}

/// A rival wrote one fact under a later lease and is gone.
fn seed(scene: &Scene, fact: impl Into<Fact>) {
    scene.log.seed(vec![Event::new(subject(), fact, scene.now()).under(Epoch::new(40))]);
}

/// Second after second, so that the lease is kept.
async fn pass(scene: &Scene, secs: u64) {
    for _ in 0..secs {
        scene.advance(1);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_rival_its_branch_is_not_left_at_once() {
    let mut scene = Scene::with_height(4);
    scene.start();
    scene.settled().await;
    let tip = scene.folded().tip().unwrap();
    let block = BlockRef { height: tip.height.next(), hash: BlockHash::from_display([5; 32]) };
    seed(
        &scene,
        BlockConnected {
            chain: chain(),
            block,
            prev: tip.hash,
            from: block.height,
            time: scene.now(),
            watched_through: scene.folded().watched_through(),
            observed_at: scene.now(),
            method: None,
        },
    );
    scene.node().mine(1);
    scene.rounds().await;
    pass(&scene, 599).await;
    assert_eq!(scene.folded().tip(), Some(block), "another node has shown it: {}", scene.trace());
    scene.advance(1);
    scene.settled().await;
    assert!(scene.trace().ends_with("+5 -5 +5'"), "{}", scene.trace());
}

#[tokio::test(start_paused = true)]
async fn after_a_rival_an_absence_counts_from_anew() {
    let mut scene = Scene::with_height(4);
    scene.quote(1, 0);
    scene.start();
    scene.settled().await;
    let paid = scene.node().pay(&script(1), 1000);
    scene.said("seen(a)").await;
    scene.node().evict(&paid);
    scene.rounds().await;
    scene.advance(60);
    let (tracker, observed_at) = (scene.folded(), scene.now());
    let (tip, watched_through) = (tracker.tip().unwrap(), tracker.watched_through());
    seed(&scene, ChainObserved { chain: chain(), tip, watched_through, observed_at });
    scene.rounds().await;
    assert!(!scene.trace().contains("vanished"), "it may have been there meanwhile: {}", scene.trace());
    pass(&scene, 59).await;
    assert!(!scene.trace().contains("vanished"), "{}", scene.trace());
    pass(&scene, 2).await;
    scene.said("vanished(a)").await;
}

#[tokio::test(start_paused = true)]
async fn what_stops_the_watch_shows_in_readiness_and_metrics() {
    type Spoil = fn(&Scene);
    let rows: [(&str, &str, Spoil); 4] = [
        ("a block that cannot be read", "block_unreadable", |scene| {
            *scene.nodes.unreadable.lock().unwrap() = Some(Height::new(402));
            scene.node().mine(4);
        }),
        ("a fork below the window", "deep_reorg", |scene| {
            scene.node().reorg(30, 31, &[]);
        }),
        ("a node that answers nothing", "node_unreachable", |scene| scene.node().fail_next(40)),
        ("a log that takes nothing", "log_unreachable", |scene| {
            scene.node().mine(1);
            scene.log.fail_appends(40);
        }),
    ];
    for (name, kind, spoil) in rows {
        let counts = Meters::default();
        let _guard = counts.begin();
        let mut scene = Scene::with_height(400);
        scene.config.start = None;
        scene.start();
        scene.settled().await;
        assert!(scene.handle().health().is_ready(scene.now(), Span::from_secs(60)), "{name}");
        spoil(&scene);
        scene.until("the alarm", |scene| scene.handle().health().stalled.is_some()).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let health = scene.handle().health();
        assert!(!health.is_ready(scene.now(), Span::from_secs(3600)), "{name}: {health:?}");
        let kind = format!("kind={kind}");
        assert_eq!(counts.count("tally_incidents_total", &kind), 1, "{name}: once, however long it lasts");
        assert_eq!(counts.count("tally_incidents_total", ""), 1, "{name}: and nothing else");
    }
}

#[tokio::test(start_paused = true)]
async fn blocks_thrown_away_during_a_long_downtime_are_an_alarm_and_no_gap() {
    let gauges = Meters::default();
    let _guard = gauges.begin();
    let mut scene = Scene::with_height(5);
    scene.quote(1, 0);
    scene.start();
    scene.settled().await;
    scene.stop().await;
    scene.node().mine(250);
    scene.node().pay(&script(1), 1000);
    scene.node().mine(250);
    *scene.nodes.unreadable.lock().unwrap() = Some(Height::new(200));
    scene.start();
    scene.until("the alarm", |scene| scene.handle().health().stalled.is_some()).await;
    scene.rounds().await;
    assert!(scene.trace().ends_with("+5 +6..199"), "up to the block, and no further: {}", scene.trace());
    let health = scene.handle().health();
    assert!(!health.is_ready(scene.now(), Span::from_secs(3600)));
    assert_eq!((health.lag_blocks(), gauges.gauge("tally_chain_lag_blocks", "")), (306, Some(306.0)));
    // From another node, that has it.
    *scene.nodes.unreadable.lock().unwrap() = None;
    scene.settled().await;
    let trace = scene.trace_from("+6..199");
    assert!(trace.starts_with("+6..199 +200..255 mined(a@256) confirmed(a 1) +256 "), "{trace}");
    assert!(trace.ends_with(" +505"), "{trace}");
    assert!(scene.handle().health().is_ready(scene.now(), Span::from_secs(60)));
}

/// When everything was looked at, by the reports.
fn reports(scene: &Scene) -> Vec<Timestamp> {
    let said = |recorded: Recorded| match recorded.event.fact {
        Fact::ChainObserved(report) => Some(report.observed_at),
        _ => None,
    };
    scene.facts().into_iter().filter_map(said).collect()
}

#[tokio::test(start_paused = true)]
async fn a_report_is_of_the_moment_before_the_look_and_of_one_node() {
    for (name, switches) in [("a look that takes long", false), ("another node answers meanwhile", true)] {
        let mut scene = Scene::with_height(4);
        scene.start();
        scene.settled().await;
        let nodes = Arc::clone(&scene.nodes);
        let gate = nodes.looks.acquire_many(GATE).await.unwrap();
        scene.advance(1);
        let began = scene.now();
        scene.handle().report_soon();
        tokio::time::sleep(Duration::from_secs(3)).await;
        scene.advance(3);
        let ended = scene.now();
        if switches {
            nodes.switch_to(1);
        }
        drop(gate);
        scene.rounds().await;
        let expected = if switches { ended } else { began };
        assert_eq!(reports(&scene).last(), Some(&expected), "{name}");
        assert_eq!(reports(&scene).contains(&began), !switches, "{name}: half by one and half by another");
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_node_showed_another_node_or_writer_does_not_claim() {
    for name in ["another endpoint", "another writer in between"] {
        let mut scene = Scene::with_height(4);
        scene.start();
        scene.settled().await;
        let reported = scene.folded().observed_at();
        pass(&scene, 5).await;
        let looked_at = scene.now();
        let node = match name {
            "another endpoint" => {
                scene.nodes.switch_to(1);
                1
            }
            _ => {
                let (tip, watched_through) =
                    (scene.folded().tip().unwrap(), scene.folded().watched_through());
                let report = ChainObserved { chain: chain(), tip, watched_through, observed_at: reported };
                seed(&scene, report);
                0
            }
        };
        scene.nodes.all[node].mine(1);
        scene.settled().await;
        let connected = scene.facts().into_iter().rev().find_map(|recorded| match recorded.event.fact {
            Fact::BlockConnected(block) => Some((block.block.height.get(), block.observed_at)),
            _ => None,
        });
        assert_eq!(connected, Some((5, reported)), "{name}: and not {looked_at}: {}", scene.trace());
    }
}

#[tokio::test(start_paused = true)]
async fn a_rival_that_wrote_the_same_first_is_noticed_however_late_it_is_heard_of() {
    for (name, late) in [("just behind", 10), ("long after", 1000)] {
        let mut scene = Scene::with_height(4);
        scene.start();
        scene.settled().await;
        let tip = scene.folded().tip().unwrap();
        let nodes = Arc::clone(&scene.nodes);
        let gate = nodes.gate.acquire_many(GATE).await.unwrap();
        scene.node().mine(3);
        tokio::time::sleep(Duration::from_secs(3)).await;
        // From here on the writer hears nothing of the log.
        let deaf = Arc::clone(&nodes.hearing);
        let deaf = deaf.acquire_many(GATE).await.unwrap();
        let block = scene.node().block_at(5).unwrap();
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
        seed(&scene, same);
        drop(gate);
        tokio::time::sleep(Duration::from_millis(late)).await;
        drop(deaf);
        scene.settled().await;
        let facts = scene.facts();
        let connected = facts.iter().filter(|one| matches!(one.event.fact, Fact::BlockConnected(_)));
        let epochs: Vec<u64> = connected.map(|one| one.event.epoch.get()).collect();
        assert_eq!(epochs[..6], [1, 1, 1, 1, 1, 40], "{name}: {}", scene.trace());
        assert!(epochs.len() == 8 && epochs[6..].iter().all(|epoch| *epoch > 1), "{name}: {epochs:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rival_is_noticed_also_while_there_is_nothing_to_write() {
    let counts = Meters::default();
    let _guard = counts.begin();
    let mut scene = Scene::with_height(4);
    scene.start();
    scene.settled().await;
    let (tip, watched_through) = (scene.folded().tip().unwrap(), scene.folded().watched_through());
    let observed_at = scene.folded().observed_at();
    seed(&scene, ChainObserved { chain: chain(), tip, watched_through, observed_at });
    scene.rounds().await;
    assert_eq!(counts.count("tally_incidents_total", "kind=lease_overtaken"), 1);
    scene.node().mine(1);
    scene.settled().await;
    assert_eq!(scene.facts().last().unwrap().event.epoch, Epoch::new(2), "under a lease of its own");
}

#[tokio::test(start_paused = true)]
async fn a_reorg_waits_a_little_for_a_mempool_at_the_new_tip() {
    for (name, steadies) in [("it comes", true), ("it never comes", false)] {
        let mut scene = Scene::with_height(5);
        scene.quote(1, 0);
        scene.quote(2, 0);
        scene.start();
        scene.settled().await;
        let dropped = scene.node().pay(&script(1), 1000);
        scene.node().pay(&script(2), 1000);
        scene.said("seen(b)").await;
        scene.node().mine(1);
        scene.said("+6").await;
        scene.rounds().await;
        scene.nodes.tip_moves.store(true, Ordering::SeqCst);
        scene.node().reorg_into_mempool(1, 2, &[dropped]);
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if scene.nodes.asks_of_moving.load(Ordering::SeqCst) > 0 {
                break;
            }
        }
        assert!(scene.trace().ends_with("+6"), "{name}: not at once: {}", scene.trace());
        scene.nodes.tip_moves.store(!steadies, Ordering::SeqCst);
        scene.said("+7").await;
        let trace = scene.trace_from("+6");
        if steadies {
            assert_eq!(trace, "+6 -6 unmined(a@6 gone) unmined(b@6) +6' +7", "{name}");
        } else {
            assert!(trace.starts_with("+6 -6 ") && trace.ends_with(" +6' +7"), "{name}: {trace}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_branch_far_below_paid_a_late_address_is_not_credited() {
    let mut scene = Scene::with_height(400);
    scene.config.start = None;
    let other = Arc::clone(&scene.nodes.all[1]);
    other.fork_at(50);
    other.pay(&script(1), 1000);
    other.mine(350);
    scene.start();
    scene.settled().await;
    let nodes = Arc::clone(&scene.nodes);
    let gate = nodes.looks.acquire_many(GATE).await.unwrap();
    scene.quote(1, 0);
    tokio::time::sleep(Duration::from_secs(3)).await;
    // In the middle of a round the node of the other branch answers.
    nodes.switch_to(1);
    drop(gate);
    scene.rounds().await;
    nodes.switch_to(0);
    scene.settled().await;
    scene.advance(20);
    scene.rounds().await;
    assert!(!scene.trace().contains("mined"), "{}", scene.trace());
}

#[tokio::test(start_paused = true)]
async fn the_body_of_another_block_is_none() {
    for (name, late) in [("a new block", false), ("a block that a late address is looked for in", true)] {
        let mut scene = Scene::with_height(5);
        if !late {
            scene.quote(1, 0);
        }
        scene.start();
        scene.settled().await;
        scene.nodes.other_body.store(!late, Ordering::SeqCst);
        scene.node().pay(&script(1), 1000);
        scene.node().mine(1);
        if late {
            scene.settled().await;
            scene.nodes.other_body.store(true, Ordering::SeqCst);
            scene.quote(1, 0);
        }
        scene.until("the alarm", |scene| scene.handle().health().stalled.is_some()).await;
        assert!(!scene.trace().contains("mined"), "{name}: {}", scene.trace());
        scene.nodes.other_body.store(false, Ordering::SeqCst);
        scene.said("mined(a@6)").await;
        scene.rounds().await;
        assert_eq!(scene.handle().health().stalled, None, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn headers_of_two_branches_are_not_matched_as_one() {
    let mut scene = Scene::with_height(400);
    scene.config.start = None;
    let node = Arc::clone(&scene.nodes.all[0]);
    let tip = node.tip_block();
    node.fork_at(50);
    node.pay(&script(1), 1000);
    let other = node.mine(340);
    assert!(node.switch_to(&tip.hash));
    scene.start();
    scene.settled().await;
    let nodes = Arc::clone(&scene.nodes);
    let gate = nodes.looks.acquire_many(GATE).await.unwrap();
    scene.quote(1, 0);
    tokio::time::sleep(Duration::from_secs(3)).await;
    // While the first blocks are asked for by their heights, the node is on its other branch.
    assert!(node.switch_to(&other.hash));
    *nodes.changes_back.lock().unwrap() = Some((55, tip.hash));
    drop(gate);
    scene.rounds().await;
    assert_eq!(*nodes.changes_back.lock().unwrap(), None, "it has changed back");
    scene.settled().await;
    assert!(!scene.trace().contains("mined"), "{}", scene.trace());
}

#[tokio::test(start_paused = true)]
async fn blocks_of_two_branches_are_no_run() {
    let mut scene = Scene::with_height(59);
    scene.quote(1, 0);
    let (node, paid) = (scene.node(), scene.node().pay(&script(1), 1000));
    node.mine(341);
    let first = node.tip_block();
    // The other branch, which the node names until it has told of 100 blocks, does not have the payment.
    node.fork_at(50);
    assert!(node.evict(&paid));
    node.mine(350);
    *scene.nodes.changes_back.lock().unwrap() = Some((100, first.hash));
    scene.start();
    scene.until("the alarm", |scene| scene.handle().health().stalled.is_some()).await;
    assert_eq!(scene.trace(), "+0 +1..99", "what the first has below is not passed over");
}

#[tokio::test(start_paused = true)]
async fn a_reorg_recalls_what_was_paid_up_to_the_fork() {
    let mut scene = Scene::with_height(10);
    scene.config.native = Some("BTC".parse().unwrap());
    scene.quote(1, 0);
    scene.start();
    scene.settled().await;
    for amount in [700, 30] {
        scene.node().pay(&script(1), amount);
        scene.node().mine(1);
        scene.settled().await;
    }
    assert!(scene.nodes.recalled.lock().unwrap().is_empty(), "nothing has left");
    let fork = scene.node().block_at(11).unwrap().block;
    scene.node().reorg(1, 2, &[]);
    scene.settled().await;
    let recalled = scene.nodes.recalled.lock().unwrap().clone();
    let [(through, paid)] = recalled.as_slice() else { panic!("{recalled:?}") };
    assert_eq!(*through, fork);
    assert_eq!(paid.iter().map(|(_, amount)| amount.units()).collect::<Vec<_>>(), [700], "not what leaves");
}
