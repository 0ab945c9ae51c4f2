//! Rules of the fold that a story comes through with or without: every index, what is told late, where a branch goes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
use tally_events::{
    AcceptedDeposit, ChainFinalized, DeliveryOutcome, Fact, LatePolicy, NewEvent, OrderAccepted,
    OrderExpired, OrderUnwatched, Recorded, Subject,
};
use tally_order::{DeadlineKind, Status};
use tally_ports::{AppendError, EventLog, EventStream, Expectation, PortError, ReadModel, Store};
use tally_testkit::{MemoryLog, MemoryStore, Meters, chain_id, order_id, script};
use tally_types::{Height, Position, Span};

use super::scene::{START, Scene, block, deposit_key};
use crate::fold::{Fold, Limits};
use crate::{Options, Projector, keys};

fn bytes(key: impl AsRef<[u8]>) -> Vec<u8> {
    key.as_ref().to_vec()
}

/// A deadline's kind as it stands in keys.
fn kind_byte(kind: DeadlineKind) -> u8 {
    match kind {
        DeadlineKind::Expiry => 1,
        DeadlineKind::Invalidation => 2,
        DeadlineKind::Unwatch => 3,
    }
}

/// Folds what is new into the store, and answers which orders were completed and then undone, and which statuses were
/// entered.
fn fold(scene: &Scene, store: &dyn Store) -> (Vec<String>, Vec<Status>) {
    let limits = Limits { rows_max: 500, orders_max: 3, keep_rows: false, aside: None };
    let (mut undone, mut entered) = (Vec::new(), Vec::new());
    let mut fold = Fold::new(store, limits).unwrap();
    let told = fold.run(&scene.log.facts(), |committed| {
        undone.extend(committed.undone.iter().map(ToString::to_string));
        entered.extend(committed.entered);
    });
    told.unwrap();
    (undone, entered)
}

/// Each index holds what follows from the orders as they are, and nothing else.
fn check_indexes(store: &MemoryStore, orders: u64, when: &str) {
    let mut expected = BTreeSet::new();
    for number in 1..=orders {
        let id = order_id(number);
        let Some((order, _)) = crate::rows::order(store as &dyn Store, &id).unwrap() else { continue };
        if let Some(next) = order.next_deadline() {
            expected.insert(bytes(keys::deadline(next.at, kind_byte(next.kind), &id)));
        }
        if let Some(at) = order.closed_since() {
            expected.insert(bytes(keys::closed(at, &id)));
        }
        for (chain, place, height) in order.thresholds() {
            expected.insert(bytes(keys::threshold(&chain, height, place, &id)));
        }
        for (chain, place, height) in order.awaited_finality() {
            expected.insert(bytes(keys::finality(&chain, height, place, &id)));
        }
        if order.awaits_acceptance() {
            expected.insert(bytes(keys::awaiting(&id)));
        }
    }
    let kinds = [b'k', b'q', b't', b'y', b'a'];
    let found: BTreeSet<Vec<u8>> =
        store.rows().into_iter().map(|(key, _)| key).filter(|key| kinds.contains(&key[0])).collect();
    assert_eq!(found, expected, "{when}");
}

#[test]
fn every_index_says_what_the_orders_say() {
    let mut scene = Scene::new();
    scene.policy.late = LatePolicy::Accept;
    let store = MemoryStore::new();
    let step = |scene: &Scene, when: &str| {
        let told = fold(scene, &store);
        check_indexes(&store, 3, when);
        told
    };
    let order = scene.create(1);
    scene.connect(block(100, 1));
    step(&scene, "created");
    scene.quote(1);
    step(&scene, "quoted");
    scene.wait(30);
    let deadline = START.plus(Span::from_secs(20 * 60));
    scene.put(Subject::order(&order), OrderExpired { order: order.clone(), deadline });
    step(&scene, "expired");
    scene.put(
        Subject::order(&order),
        OrderUnwatched { order: order.clone(), scripts: vec![(chain_id("btc"), script(1))] },
    );
    step(&scene, "closed");
    scene.seen(1, 1, 1_000);
    step(&scene, "late money");
    scene.create(2);
    scene.quote_with(2, true);
    scene.create(3);
    scene.quote(3);
    step(&scene, "two more");
    let deposits = vec![AcceptedDeposit { deposit: deposit_key(1), full: None }];
    scene.put(Subject::order(&order), OrderAccepted { order: order.clone(), deposits, by: "policy".into() });
    step(&scene, "accepted");
    scene.mined(2, 2, 1_000, block(101, 1));
    scene.mined(3, 3, 1_000, block(101, 1));
    scene.connect(block(101, 1));
    step(&scene, "mined");
    let (_, entered) = {
        scene.connect(block(106, 1));
        step(&scene, "six blocks")
    };
    assert_eq!(entered, [Status::Complete], "one of them; the other waits to be final");
    scene.put(
        Subject::chain(&chain_id("btc"), 1, 0),
        ChainFinalized { chain: chain_id("btc"), block: block(103, 1) },
    );
    step(&scene, "final");
    for height in (101..=106).rev() {
        scene.unmined(3, block(101, 1), false);
        scene.disconnect(block(height, 1), block(height - 1, 1));
    }
    let (undone, _) = step(&scene, "undone");
    assert_eq!(undone, ["3"], "an incident, once");
    scene.seen(9, 3, 7);
    let (undone, entered) = step(&scene, "more about it");
    assert_eq!((undone.len(), entered), (0, Vec::new()), "no incident again, and no status entered");
}

#[tokio::test]
async fn what_is_told_late_moves_nothing_back() {
    let scene = Scene::new();
    scene.connect(block(100, 1));
    let order = scene.create(1);
    let created = scene.log.facts_on(&Subject::order(&order)).remove(0);
    scene.quote(1);
    scene.wait(60);
    scene.observe(block(100, 1));
    let view = async |scene: &Scene| scene.model().await.chain(&chain_id("btc")).await.unwrap().unwrap();
    let before = view(&scene).await;
    let mut older = tally_events::ChainObserved {
        chain: chain_id("btc"),
        tip: block(100, 1),
        watched_through: Position::new(1),
        observed_at: START,
    };
    scene.put(Subject::chain(&chain_id("btc"), 1, 0), older.clone());
    assert_eq!(view(&scene).await, before);
    older.watched_through = Position::START;
    scene.put(Subject::chain(&chain_id("btc"), 1, 0), older);
    assert_eq!(view(&scene).await, before);
    // The fact that made an order makes no other in its place.
    scene.log.seed(vec![created.event]);
    let order = scene.model().await.order(&order).await.unwrap().unwrap();
    assert_eq!((order.status(), order.version()), (Status::Pending, 2));
}

#[tokio::test]
async fn a_report_puts_right_what_a_clock_that_was_ahead_said() {
    let scene = Scene::new();
    scene.connect(block(100, 1));
    let seen = async |scene: &Scene| {
        scene.observe(block(100, 1));
        scene.model().await.chain(&chain_id("btc")).await.unwrap().unwrap().observed_at
    };
    let wrong = START.plus(Span::from_secs(3_600));
    scene.clock.set(wrong);
    assert_eq!(seen(&scene).await, wrong);
    let (little, far) = (wrong.minus(Span::from_secs(59)), wrong.minus(Span::from_secs(60)));
    for (name, clock, expected) in [
        ("a little behind is another watcher's clock", little, wrong),
        ("far behind is one that was put right", far, far),
        ("and it goes on from there", far.plus(Span::from_secs(20)), far.plus(Span::from_secs(20))),
    ] {
        scene.clock.set(clock);
        assert_eq!(seen(&scene).await, expected, "{name}");
    }
}

#[tokio::test]
async fn a_deposit_counts_in_blocks_of_the_branch_alone() {
    let scene = Scene::new();
    for height in 100..=102 {
        scene.connect(block(height, 1));
    }
    for number in 1..=3 {
        scene.create(number);
        scene.quote(number);
    }
    let status = async |scene: &Scene, number: u64| {
        scene.model().await.order(&order_id(number)).await.unwrap().unwrap().status()
    };
    // Learned of late, in another block than the log's at that height.
    scene.mined(1, 1, 1_000, block(101, 9));
    assert_eq!(status(&scene, 1).await, Status::Pending);
    // A block left, and a run of others came in its place: it is not remembered.
    scene.disconnect(block(102, 1), block(101, 1));
    scene.connect_run(Height::new(102), block(104, 2));
    scene.mined(2, 2, 1_000, block(102, 2));
    assert_eq!(status(&scene, 2).await, Status::Confirmed);
    // A block below the tip under another hash is where the branch goes now.
    scene.connect(block(101, 3));
    let view = scene.model().await.chain(&chain_id("btc")).await.unwrap().unwrap();
    assert_eq!(view.tip, block(101, 3));
}

#[tokio::test]
async fn what_is_final_stays_final_for_deposits_found_later() {
    let scene = Scene::new();
    for height in 100..=130 {
        scene.connect(block(height, 1));
    }
    for height in [120, 110] {
        let finalized = ChainFinalized { chain: chain_id("btc"), block: block(height, 1) };
        scene.put(Subject::chain(&chain_id("btc"), 1, 0), finalized);
    }
    scene.create(1);
    scene.quote_with(1, true);
    scene.mined(1, 1, 1_000, block(115, 1));
    let order = scene.model().await.order(&order_id(1)).await.unwrap().unwrap();
    assert_eq!(order.status(), Status::Complete);
}

#[test]
fn headers_far_below_the_tip_are_forgotten() {
    let scene = Scene::new();
    for height in 100..=1_250 {
        scene.connect(block(height, 1));
    }
    let store = MemoryStore::new();
    fold(&scene, &store);
    let headers = store.rows().iter().filter(|(key, _)| key[0] == b'h').count();
    assert_eq!(headers, 1_000);
}

#[tokio::test]
async fn an_older_versions_failure_does_not_delay_the_newer() {
    let scene = Scene::new();
    let order = scene.create(1);
    scene.quote(1);
    let later = START.plus(Span::from_secs(3_600));
    scene.deliver(&order, 1, DeliveryOutcome::Failed { reason: "500".into(), next_at: later });
    let model = scene.model().await;
    let due = model.undelivered(&[order.partition()], START, 10).await.unwrap();
    assert_eq!(due.len(), 1, "version 2 is due at once");
}

#[tokio::test]
async fn an_order_without_an_address_for_notifications_has_none_due() {
    let scene = Scene::new();
    let order = order_id(1);
    let like = scene.create(2);
    for (number, notify_url) in [(1, None), (3, Some(String::new()))] {
        let Fact::OrderCreated(mut created) = scene.log.facts_on(&Subject::order(&like)).remove(0).event.fact
        else {
            panic!("the first fact of an order")
        };
        created.order = order_id(number);
        created.notify_url = notify_url;
        scene.put(Subject::order(&created.order.clone()), created);
    }
    let model = scene.model().await;
    assert!(model.order(&order).await.unwrap().is_some());
    assert_eq!(model.backlog().await.unwrap(), 1);
}

#[tokio::test]
async fn after_a_rebuild_the_new_store_is_the_one_that_goes_on() {
    let scene = Scene::new();
    let order = scene.create(1);
    let projector = scene.projector().await;
    projector.catch_up().await.unwrap();
    let (model, next) = (projector.model(), std::sync::Arc::new(MemoryStore::new()));
    projector.rebuild(next.clone(), Options::beside()).await.unwrap();
    assert_eq!(next.rows(), scene.store.rows());
    let before = scene.store.rows();
    scene.quote(1);
    projector.catch_up().await.unwrap();
    assert_eq!(model.order(&order).await.unwrap().unwrap().status(), Status::Pending);
    assert_eq!(scene.store.rows(), before, "the old one is left as it was");
}

/// A log whose streams end after one fact, from the third on.
struct Short(MemoryLog, AtomicUsize);

#[async_trait]
impl EventLog for Short {
    async fn append(
        &self,
        expectations: Vec<Expectation>,
        batch: Vec<NewEvent>,
    ) -> Result<Vec<Position>, AppendError> {
        self.0.append(expectations, batch).await
    }

    async fn read(&self, after: Position) -> Result<EventStream, PortError> {
        let facts = self.0.read(after).await?;
        let cut = self.1.fetch_add(1, Ordering::SeqCst) >= 2;
        Ok(facts.take(if cut { 1 } else { usize::MAX }).boxed())
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Recorded>, PortError> {
        self.0.last(subject).await
    }

    async fn head(&self) -> Result<Position, PortError> {
        self.0.head().await
    }
}

#[tokio::test]
async fn a_rebuild_that_stands_elsewhere_takes_no_ones_place() {
    let scene = Scene::new();
    let order = scene.create(1);
    let log = Arc::new(Short(scene.log.clone(), AtomicUsize::new(0)));
    let projector = Projector::open(log.clone(), scene.store.clone(), Options::default()).await.unwrap();
    let before = projector.catch_up().await.unwrap();
    scene.quote(1);
    let model = projector.model();
    // The new one has read all there is when the old one's stream ends.
    let next = Arc::new(MemoryStore::new());
    let refused = projector.rebuild(next.clone(), Options::beside()).await.expect_err("they stand apart");
    assert!(refused.is_transient(), "{refused}");
    let allocated = Position::new(before.get() + 1);
    assert_eq!(model.position(), allocated, "the old one is at what it could read");
    assert_eq!(model.order(&order).await.unwrap().unwrap().status(), Status::New);
    log.1.store(0, Ordering::SeqCst);
    projector.catch_up().await.unwrap();
    assert_eq!(model.order(&order).await.unwrap().unwrap().status(), Status::Pending);
    assert_eq!(scene.store.rows(), next.rows(), "it is the old one that went on");
    scene.seen(1, 1, 1_000);
    projector.catch_up().await.unwrap();
    assert_ne!(scene.store.rows(), next.rows(), "it is the old one that went on");
    log.1.store(0, Ordering::SeqCst);
    projector.rebuild(next.clone(), Options::beside()).await.expect("they stand at the same place");
}

#[tokio::test]
async fn another_store_is_answered_from_at_once() {
    let scene = Scene::new();
    let order = scene.create(1);
    let model = scene.model().await;
    assert!(model.order(&order).await.unwrap().is_some());
    assert_eq!(model.order(&order_id(2)).await.unwrap(), None);
    let other = Scene::new();
    other.create(2);
    other.model().await;
    model.replace(other.store.clone());
    assert_eq!(model.order(&order).await.unwrap(), None, "what was at hand was the other one's");
    assert!(model.order(&order_id(2)).await.unwrap().is_some(), "also that there was none");
}

#[test]
fn only_what_comes_after_the_start_is_counted() {
    // Commits are told of on threads of their own.
    let meters: &'static Meters = Box::leak(Box::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_start(|| std::mem::forget(meters.begin()))
        .build()
        .unwrap();
    let count = || meters.count("tally_order_transitions_total", "status=new");
    runtime.block_on(async {
        let scene = Scene::new();
        for number in 1..=3 {
            scene.create(number);
        }
        let projector = scene.projector().await;
        projector.catch_up().await.unwrap();
        assert_eq!(count(), 0, "they were there before");
        scene.create(4);
        projector.catch_up().await.unwrap();
        assert_eq!(count(), 1);
        assert_eq!(meters.gauge("tally_orders", "status=new"), Some(4.0), "they are there all the same");
        // What came before the start and what came since are read together.
        let (before, scene) = (count(), Scene::new());
        for number in 1..=3 {
            scene.create(number);
        }
        let projector = scene.projector().await;
        for number in 4..=5 {
            scene.create(number);
        }
        projector.catch_up().await.unwrap();
        assert_eq!(count() - before, 2);
    });
}
