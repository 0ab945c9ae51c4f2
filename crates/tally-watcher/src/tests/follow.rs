//! What a chain does, and what the log says of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tally_events::{Fact, Shard};
use tally_testkit::{MemoryLog, chain_id, script};
use tally_types::{Height, Position, Timestamp};

use super::scene::{GATE, Scene, chain, quoted, subject};
use crate::follower::Follower;
use crate::health::ShardHandle;
use crate::persist::Persister;
use crate::shared::Shared;

#[tokio::test(start_paused = true)]
async fn a_payment_is_seen_mined_and_confirmed() {
    let mut scene = Scene::with_height(5);
    scene.start();
    scene.settled().await;
    scene.quote(1, 0);
    scene.rounds().await;
    scene.node().pay(&script(1), 1000);
    scene.node().pay(&script(2), 1000);
    scene.said("seen(a)").await;
    assert_eq!(scene.first_seen(1), scene.now());
    scene.node().mine(1);
    scene.said("+6").await;
    scene.node().mine(2);
    scene.settled().await;
    assert_eq!(
        scene.trace(),
        "+0 +1 +2 +3 +4 +5 seen(a) mined(a@6) confirmed(a 1) +6 confirmed(a 2) +7 confirmed(a 3) +8"
    );
    let facts = scene.facts();
    assert!(facts.iter().all(|recorded| recorded.event.epoch.get() == 1), "the lease's epoch is in each");
    scene.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_block_is_one_append_with_all_that_it_brings() {
    let mut scene = Scene::with_height(5);
    for number in 1..=3 {
        scene.quote(number, 0);
    }
    scene.start();
    scene.settled().await;
    for (brings, reorg) in [("payments", false), ("a reorg with payments", true)] {
        let appends = scene.running.as_ref().unwrap().appends();
        if reorg {
            scene.node().reorg(1, 1, &[]);
        } else {
            for number in 1..=3 {
                scene.node().pay(&script(number), 1000);
            }
            scene.node().mine(1);
        }
        scene.settled().await;
        assert_eq!(scene.running.as_ref().unwrap().appends(), appends + 1, "{brings}: {}", scene.trace());
    }
    let leaves = "+6 -6 unmined(a@6) unmined(b@6) unmined(c@6) mined(a@6') ";
    assert!(scene.trace_from("+6").starts_with(leaves), "{}", scene.trace());
}

#[tokio::test(start_paused = true)]
async fn a_reorg_takes_a_payment_out_and_back_in_another_block() {
    let mut scene = Scene::with_height(5);
    scene.quote(1, 0);
    scene.start();
    scene.settled().await;
    let paid = scene.node().pay(&script(1), 1000);
    scene.said("seen(a)").await;
    scene.node().mine(2);
    scene.said("+7").await;
    scene.node().fork_at(4).mine_only(&[]);
    scene.node().mine_only(&[]);
    scene.node().mine_only(&[paid]);
    scene.settled().await;
    assert_eq!(
        scene.trace_from("seen"),
        "seen(a) mined(a@6) confirmed(a 1) +6 confirmed(a 2) +7 -7 -6 unmined(a@6) -5 +5' +6' \
         mined(a@7') confirmed(a 1) +7'"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reorg_says_which_payments_are_back_in_the_mempool() {
    let mut scene = Scene::with_height(5);
    scene.quote(1, 0);
    scene.quote(2, 0);
    scene.start();
    scene.settled().await;
    let dropped = scene.node().pay(&script(1), 1000);
    let kept = scene.node().pay(&script(2), 1000);
    scene.said("seen(b)").await;
    scene.node().mine(1);
    scene.said("+6").await;
    scene.node().reorg_into_mempool(1, 2, &[dropped]);
    scene.settled().await;
    assert_eq!(
        scene.trace_from("+6"),
        "+6 -6 unmined(a@6 gone) unmined(b@6) +6' +7",
        "one was looked for in vain, the other is there"
    );
    scene.node().mine_only(&[kept]);
    scene.settled().await;
    assert!(scene.trace().ends_with("mined(b@8) confirmed(b 1) +8"), "{}", scene.trace());
    assert!(!scene.trace().contains("vanished"), "{}", scene.trace());
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_is_on_both_branches_is_never_gone() {
    for at in 0..4 {
        let mut scene = Scene::with_height(5);
        scene.quote(1, 0);
        scene.start();
        scene.settled().await;
        let paid = scene.node().pay(&script(1), 1000);
        scene.said("seen(a)").await;
        scene.node().mine(2);
        scene.said("+7").await;
        scene.node().fork_at(5);
        for block in 0..4 {
            scene.node().mine_only(&[paid][..usize::from(block == at)]);
        }
        scene.settled().await;
        let trace = scene.trace();
        assert!(!trace.contains("gone") && trace.contains("unmined(a@6)"), "{at}: {trace}");
        assert_eq!(scene.folded().deposit_count(), 1, "{at}");
    }
}

#[tokio::test(start_paused = true)]
async fn branches_of_any_length_are_followed_back_and_forth() {
    let mut scene = Scene::with_height(3);
    scene.start();
    scene.settled().await;
    let first = scene.node().tip_block();
    scene.node().reorg(2, 2, &[]);
    scene.settled().await;
    scene.node().reorg(2, 1, &[]);
    scene.settled().await;
    assert!(scene.node().switch_to(&first.hash));
    scene.settled().await;
    assert_eq!(scene.trace_from("+3"), "+3 -3 -2 +2' +3' -3' -2' +2'' -2'' +2 +3");
}

#[tokio::test(start_paused = true)]
async fn replaced_vanished_and_double_spent() {
    let mut scene = Scene::with_height(3);
    scene.quote(1, 0);
    scene.start();
    scene.settled().await;
    let first = scene.node().pay(&script(1), 900);
    scene.said("seen(a)").await;
    let seen_at = scene.now();
    scene.advance(30);
    let second = scene.node().replace(&first, &script(1), 1000).unwrap();
    scene.said("replaced(a)").await;
    scene.node().replace(&second, &script(9), 1000).unwrap();
    scene.said("replaced(b)").await;
    let third = scene.node().pay(&script(1), 1000);
    scene.said("seen(c)").await;
    scene.node().evict(&third);
    scene.rounds().await;
    scene.advance(59);
    scene.rounds().await;
    assert!(!scene.trace().contains("vanished"));
    scene.advance(1);
    scene.said("vanished(c)").await;
    assert_eq!(scene.trace_from("seen"), "seen(a) seen(b) replaced(a) replaced(b) seen(c) vanished(c)");
    let inherited = scene.facts().into_iter().find_map(|recorded| match recorded.event.fact {
        Fact::DepositSeen(seen) if seen.replaces.is_some() => Some(seen.deposit.first_seen),
        _ => None,
    });
    assert_eq!(inherited, Some(seen_at));
}

#[tokio::test(start_paused = true)]
async fn a_double_spend_in_a_block_is_noticed() {
    let mut scene = Scene::with_height(3);
    scene.quote(1, 0);
    scene.start();
    scene.settled().await;
    let paid = scene.node().pay(&script(1), 1000);
    scene.said("seen(a)").await;
    // Between two looks at the mempool, so that only the block tells.
    scene.node().replace(&paid, &script(9), 1000).unwrap();
    scene.node().mine(1);
    scene.settled().await;
    assert_eq!(scene.trace_from("seen"), "seen(a) replaced(a) +4");
}

/// What each block says was looked at.
fn connected(scene: &Scene) -> Vec<Timestamp> {
    let said = |recorded: tally_events::Recorded| match recorded.event.fact {
        Fact::BlockConnected(block) => Some(block.observed_at),
        _ => None,
    };
    scene.facts().into_iter().filter_map(said).collect()
}

#[tokio::test(start_paused = true)]
async fn a_long_way_is_gone_in_runs_that_end_100_below_the_tip() {
    let mut scene = Scene::with_height(50);
    scene.quote(1, 0);
    scene.node().pay(&script(1), 1000);
    scene.node().mine(1);
    scene.node().mine(2000);
    scene.config.run_max = 800;
    scene.start();
    scene.settled().await;
    let trace = scene.trace();
    let start = "+0 +1..50 mined(a@51) confirmed(a 1) +51 confirmed(a 2) +52";
    assert!(trace.starts_with(start), "{trace}");
    assert!(trace.contains("confirmed(a 30) +80 +81..880 +881..1680 +1681..1951 +1952 +1953 "), "{trace}");
    assert!(trace.ends_with("+2050 +2051"), "{trace}");
    let observed = connected(&scene);
    assert!(
        observed.iter().all(|observed_at| *observed_at == Timestamp::EPOCH),
        "no block says that anything was looked at before the mempool was"
    );
    assert_eq!(scene.folded().observed_at(), scene.now(), "then it is reported");
    scene.advance(5);
    scene.rounds().await;
    let looked_at = scene.now();
    scene.advance(5);
    scene.node().mine(1);
    scene.settled().await;
    assert_eq!(connected(&scene).last(), Some(&looked_at), "the last look, not the clock");
}

#[tokio::test(start_paused = true)]
async fn without_history_the_watch_begins_just_below_the_tip() {
    let mut scene = Scene::with_height(500);
    scene.config.start = None;
    scene.start();
    scene.settled().await;
    assert!(scene.trace().starts_with("+490 +491 "), "{}", scene.trace());
}

#[tokio::test(start_paused = true)]
async fn addresses_learned_late_find_payments_that_went_by() {
    let mut scene = Scene::with_height(300);
    for number in [1, 2, 3] {
        scene.node().pay(&script(number), 1000);
        scene.node().mine(40);
    }
    scene.node().pay(&script(4), 1000);
    scene.config.start = None;
    scene.start();
    scene.settled().await;
    assert_eq!(scene.folded().deposit_count(), 0);
    let quotes: Vec<Position> =
        [(1, 290), (2, 340), (3, 381), (4, 400)].map(|(number, birth)| scene.quote(number, birth)).into();
    scene.said("seen(d)").await;
    scene.rounds().await;
    let trace = scene.trace_from("mined");
    for word in ["mined(a@301)", "confirmed(a 30)", "mined(b@341)", "mined(c@381)", "confirmed(c 30) seen(d)"]
    {
        assert!(trace.contains(word), "{word}: {trace}");
    }
    assert_eq!(trace.matches("mined(").count(), 3, "each once: {trace}");
    scene.handle().report_soon();
    scene.until("the report", |scene| scene.folded().watched_through() >= quotes[3]).await;
}

#[tokio::test(start_paused = true)]
async fn a_quote_that_crosses_a_block_is_not_missed() {
    let mut scene = Scene::with_height(5);
    scene.start();
    scene.settled().await;
    scene.rounds().await;
    let nodes = Arc::clone(&scene.nodes);
    let gate = nodes.gate.acquire_many(GATE).await.unwrap();
    scene.node().pay(&script(1), 1000);
    let scans = scene.nodes.scans.load(Ordering::SeqCst);
    scene.node().mine(1);
    scene.until("the scan", |_| nodes.scans.load(Ordering::SeqCst) > scans).await;
    let quote = scene.quote(1, 6);
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(gate);
    scene.said("mined(a@6)").await;
    assert_eq!(scene.trace_from("+6"), "+6 mined(a@6) confirmed(a 1)");
    let connected = scene.facts().into_iter().find_map(|recorded| match recorded.event.fact {
        Fact::BlockConnected(block) if block.block.height == Height::new(6) => Some(block.watched_through),
        _ => None,
    });
    assert!(connected.unwrap() < quote, "the block says that it was matched before");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_chain_reports_every_20_s_and_when_asked() {
    let mut scene = Scene::with_height(3);
    scene.start();
    scene.settled().await;
    let reports = |scene: &Scene| {
        let facts = scene.facts();
        facts.iter().filter(|recorded| matches!(recorded.event.fact, Fact::ChainObserved(_))).count()
    };
    let before = reports(&scene);
    scene.advance(19);
    scene.rounds().await;
    assert_eq!(reports(&scene), before);
    scene.advance(1);
    scene.rounds().await;
    assert_eq!(reports(&scene), before + 1);
    assert_eq!(scene.folded().observed_at(), scene.now());
    scene.advance(1);
    scene.handle().report_soon();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(reports(&scene), before + 2, "asked: at once");
    assert_eq!(scene.folded().observed_at(), scene.now());
}

#[tokio::test(start_paused = true)]
async fn unwatched_addresses_are_passed_over() {
    let mut scene = Scene::with_height(3);
    scene.quote(1, 0);
    scene.quote(2, 0);
    scene.start();
    scene.settled().await;
    let order = tally_testkit::order_id(1);
    let fact = tally_events::OrderUnwatched {
        order: order.clone(),
        scripts: vec![(chain(), script(1)), (chain_id("ltc"), script(2))],
    };
    let event = tally_events::Event::new(tally_events::Subject::order(&order), fact, scene.now());
    scene.log.seed(vec![event]);
    scene.rounds().await;
    assert_eq!(scene.handle().health().scripts, 1);
    scene.node().pay(&script(1), 1000);
    scene.node().pay(&script(2), 1000);
    scene.said("seen(a)").await;
    assert_eq!(scene.folded().deposit_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_quote_is_watched_within_100_ms() {
    let log = Arc::new(MemoryLog::new());
    let shared = Arc::new(Shared::new(chain(), 1, Shard::WHOLE, subject()));
    let (entries, _persister) = Persister::new(Arc::new(tally_testkit::MemoryStore::new()), chain());
    let follower = Follower {
        chain: chain(),
        log: log.clone(),
        shared: shared.clone(),
        entries,
        handle: ShardHandle::default(),
    };
    let stream = tally_ports::EventLog::read(log.as_ref(), Position::START).await.unwrap();
    let task = tokio::spawn(follower.run(stream));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let position = log.seed(vec![quoted(1, 1, 0)])[0];
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(shared.watches(&script(1)));
    assert_eq!(shared.position(), position);
    task.abort();
}
