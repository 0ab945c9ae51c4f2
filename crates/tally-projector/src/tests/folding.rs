//! Folding: the same bytes however the log is cut, whatever breaks off where.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use proptest::prelude::*;
use tally_events::{ChainFinalized, ChainSharded, Event, NewEvent, Recorded, Shard, Subject};
use tally_order::Status;
use tally_ports::{
    AppendError, EventLog, EventStream, Expectation, PortError, ReadModel, Rows, Store, WriteBatch,
};
use tally_testkit::{MemoryLog, MemoryStore, chain_id, order_id, script};
use tally_types::{Height, Position, Span};

use super::scene::{START, Scene, block};
use crate::fold::{Fold, Limits};
use crate::{Options, Projector, keys};

/// A long story with everything in it.
pub(super) fn story() -> Scene {
    let scene = Scene::new();
    scene.connect(block(100, 1));
    for number in 1..=8 {
        scene.create(number);
        if number != 8 {
            scene.quote(number);
        }
    }
    scene.seen(1, 1, 1000);
    scene.seen(2, 2, 400);
    scene.mined(1, 1, 1000, block(101, 1));
    scene.mined(3, 3, 1000, block(101, 1));
    scene.connect(block(101, 1));
    for number in 4..=7_u8 {
        scene.mined(number, number.into(), 1000, block(102, 1));
    }
    scene.connect(block(102, 1));
    scene.unmined(4, block(102, 1), true);
    scene.unmined(5, block(102, 1), false);
    scene.unmined(6, block(102, 1), true);
    scene.unmined(7, block(102, 1), true);
    scene.disconnect(block(102, 1), block(101, 1));
    scene.mined(4, 4, 1000, block(102, 2));
    scene.connect(block(102, 2));
    scene.connect_run(Height::new(103), block(106, 2));
    scene.connect(block(107, 2));
    let late = scene.quote(9);
    scene.mined(9, 2, 1000, block(104, 2));
    scene.deliver(&order_id(1), 2, tally_events::DeliveryOutcome::Acknowledged);
    scene.deliver(
        &order_id(1),
        4,
        tally_events::DeliveryOutcome::Failed { reason: "500".into(), next_at: super::scene::START },
    );
    scene.deliver(&late, 1, tally_events::DeliveryOutcome::Acknowledged);
    scene
}

fn fold(store: &dyn Store, facts: &[Recorded], rows_max: usize) -> Result<(), PortError> {
    let limits = Limits { rows_max, orders_max: 3, keep_rows: false, aside: None };
    Fold::new(store, limits)?.run(facts, |_| {})
}

pub(super) fn folded_whole(scene: &Scene) -> Rows {
    let store = MemoryStore::new();
    fold(&store, &scene.log.facts(), 500).unwrap();
    store.rows()
}

#[test]
fn a_story_comes_out_as_it_should() {
    let scene = story();
    let store = MemoryStore::new();
    fold(&store, &scene.log.facts(), 500).unwrap();
    let status = |number: u64| {
        let (order, _) = crate::rows::order(&store as &dyn Store, &order_id(number)).unwrap().unwrap();
        format!(
            "{}{}",
            order.status(),
            order.exceptions().iter().map(|e| format!("+{e}")).collect::<String>()
        )
    };
    let statuses: Vec<String> = (1..=8).map(status).collect();
    assert_eq!(
        statuses,
        [
            "complete",
            "confirmed+overpaid",
            "complete",
            "complete",
            "pending+reorged",
            "paid+reorged",
            "paid+reorged",
            "new"
        ],
        "order 2 was covered by a deposit found late, in a block of a run"
    );
    for status in Status::ALL {
        let count = crate::rows::number(&store as &dyn Store, &keys::count(status.as_str())).unwrap();
        let there = statuses.iter().filter(|text| text.split('+').next() == Some(status.as_str())).count();
        assert_eq!(count, there as u64, "{status}");
    }
}

#[test]
fn what_is_at_or_below_the_checkpoint_changes_nothing() {
    let scene = story();
    let store = MemoryStore::new();
    fold(&store, &scene.log.facts(), 500).unwrap();
    let before = store.rows();
    fold(&store, &scene.log.facts(), 500).unwrap();
    assert_eq!(store.rows(), before);
}

#[test]
fn block_facts_again_change_nothing_but_the_checkpoint() {
    let scene = story();
    let reorg = |fact: &Recorded| fact.event.fact.kind() == "chain.block_disconnected";
    let again: Vec<NewEvent> = scene
        .log
        .facts()
        .into_iter()
        .skip_while(|fact| !reorg(fact))
        .filter(|fact| fact.event.subject.aggregate() == "chain")
        .filter(|fact| fact.event.fact.kind().starts_with("chain."))
        .map(|fact| fact.event)
        .collect();
    assert!(!again.is_empty());
    let before = folded_whole(&scene);
    scene.log.seed(again);
    let but_the_checkpoint =
        |rows: Rows| -> Rows { rows.into_iter().filter(|(key, _)| key != keys::CHECKPOINT).collect() };
    assert_eq!(but_the_checkpoint(folded_whole(&scene)), but_the_checkpoint(before));
}

/// A store whose commits fail from some point on.
pub(super) struct Failing {
    pub(super) store: MemoryStore,
    pub(super) commits_left: AtomicUsize,
}

impl Store for Failing {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, PortError> {
        self.store.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError> {
        self.store.range(from, to, limit)
    }

    fn range_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError> {
        self.store.range_back(from, to, limit)
    }

    fn commit(&self, batch: WriteBatch) -> Result<(), PortError> {
        let left =
            self.commits_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map_err(|_| PortError::transient("the power is gone"))?;
        self.store.commit(batch)
    }

    fn clear(&self) -> Result<(), PortError> {
        self.store.clear()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_gives_the_same_bytes(rows_max in 1_usize..40, chunk in 1_usize..30) {
        let scene = story();
        let store = MemoryStore::new();
        for facts in scene.log.facts().chunks(chunk) {
            fold(&store, facts, rows_max).unwrap();
        }
        prop_assert_eq!(store.rows(), folded_whole(&scene));
    }

    #[test]
    fn a_crash_between_any_two_commits_gives_the_same_bytes(
        rows_max in 1_usize..20,
        crashes in proptest::collection::vec(0_usize..12, 1..8),
    ) {
        let scene = story();
        let store = Failing { store: MemoryStore::new(), commits_left: AtomicUsize::new(0) };
        for commits in crashes {
            store.commits_left.store(commits, Ordering::SeqCst);
            let _ = fold(&store, &scene.log.facts(), rows_max);
        }
        store.commits_left.store(usize::MAX, Ordering::SeqCst);
        fold(&store, &scene.log.facts(), rows_max).unwrap();
        prop_assert_eq!(store.store.rows(), folded_whole(&scene));
    }
}

/// A store that notes which orders are read.
struct Noting {
    store: MemoryStore,
    orders_read: Mutex<Vec<Vec<u8>>>,
}

impl Store for Noting {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, PortError> {
        if key.first() == Some(&b'o') {
            self.orders_read.lock().unwrap().push(key.to_vec());
        }
        self.store.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError> {
        self.store.range(from, to, limit)
    }

    fn range_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError> {
        self.store.range_back(from, to, limit)
    }

    fn commit(&self, batch: WriteBatch) -> Result<(), PortError> {
        // The limit of 4, and what the one fact that reaches it makes at the most.
        assert!(batch.len() <= 16, "{} rows", batch.len());
        self.store.commit(batch)
    }

    fn clear(&self) -> Result<(), PortError> {
        self.store.clear()
    }
}

#[test]
fn a_block_touches_only_orders_that_reach_something() {
    let scene = Scene::new();
    scene.connect(block(100, 1));
    for number in 1..=20 {
        scene.create(number);
        scene.quote(number);
        scene.mined(number as u8, number, 1000, block(100 + number, 1));
        scene.connect(block(100 + number, 1));
    }
    let store = Noting { store: MemoryStore::new(), orders_read: Mutex::default() };
    // Small commits: each order takes some rows, and none is split from its own.
    fold(&store, &scene.log.facts(), 4).unwrap();
    store.orders_read.lock().unwrap().clear();
    scene.connect(block(121, 1));
    fold(&store, &scene.log.facts(), 4).unwrap();
    // Six confirmations at 121: only what was mined at 116.
    assert_eq!(*store.orders_read.lock().unwrap(), [keys::order_part(&order_id(16), 0).to_vec()]);
}

#[test]
fn an_order_that_outgrows_a_row_is_split() {
    let scene = Scene::new();
    scene.create(1);
    scene.quote(1);
    for number in 0..2000 {
        scene.seen_at(&number.to_string());
    }
    let store = MemoryStore::new();
    fold(&store, &scene.log.facts(), 500).unwrap();
    let (order, parts) = crate::rows::order(&store as &dyn Store, &order_id(1)).unwrap().unwrap();
    assert_eq!((order.deposits().len(), parts > 1), (2000, true));
    assert!(store.rows().iter().all(|(_, value)| value.len() <= 64 * 1024));
}

#[test]
fn dust_beyond_measure_is_left_out_and_told_of() {
    let scene = Scene::new();
    scene.create(1);
    scene.quote_for(1, 1_000_000, false);
    for number in 0..2_003 {
        scene.seen_at(&number.to_string());
    }
    scene.seen(9, 1, 400_000);
    let store = MemoryStore::new();
    let limits = Limits { rows_max: 500, orders_max: 3, keep_rows: false, aside: None };
    let mut left_out = 0;
    let facts = scene.log.facts();
    Fold::new(&store as &dyn Store, limits).unwrap().run(&facts, |done| left_out += done.left_out).unwrap();
    let (order, _) = crate::rows::order(&store as &dyn Store, &order_id(1)).unwrap().unwrap();
    assert_eq!((left_out, order.deposits().len()), (3, 2_001));
    assert_eq!(order.received()[0].amount.units(), 402_000, "2,000 of one unit, and the payment");
}

#[tokio::test]
async fn a_store_of_another_version_is_folded_again() {
    let scene = story();
    let model = scene.model().await;
    let position = model.position();
    let before = scene.store.rows();
    let mut batch = WriteBatch::default();
    batch.put(keys::VERSION, 99_u64.to_be_bytes());
    batch.put(*b"zz", *b"left over");
    scene.store.commit(batch).unwrap();
    let model = scene.model().await;
    assert_eq!(model.position(), position);
    assert_eq!(scene.store.rows(), before);
}

#[tokio::test]
async fn a_store_ahead_of_its_log_is_refused() {
    let scene = story();
    scene.model().await;
    let store: Arc<dyn Store> = scene.store.clone();
    let other = Arc::new(MemoryLog::new());
    let error = Projector::open(other, store, Options::default()).await.err().unwrap();
    assert!(!error.is_transient() && error.to_string().contains("the log ends at 0"), "{error}");
}

/// A log whose stream breaks off: first for a moment, then for good.
struct Breaking {
    log: MemoryLog,
    reads: AtomicUsize,
}

#[async_trait]
impl EventLog for Breaking {
    async fn append(
        &self,
        expectations: Vec<Expectation>,
        batch: Vec<NewEvent>,
    ) -> Result<Vec<Position>, AppendError> {
        self.log.append(expectations, batch).await
    }

    async fn read(&self, after: Position) -> Result<EventStream, PortError> {
        let facts = self.log.read(after).await?.take(3);
        let error = match self.reads.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => PortError::transient("the connection is gone"),
            _ => PortError::persistent("unknown kind of fact \"order.teleported\": upgrade this process"),
        };
        Ok(facts.chain(stream::iter([Err(error)])).boxed())
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Recorded>, PortError> {
        self.log.last(subject).await
    }

    async fn head(&self) -> Result<Position, PortError> {
        self.log.head().await
    }
}

#[tokio::test]
async fn a_broken_stream_is_read_again_and_an_unknown_fact_stops() {
    let scene = story();
    let log = Arc::new(Breaking { log: scene.log.clone(), reads: AtomicUsize::new(0) });
    let projector = Projector::open(log, scene.store.clone(), Options::default()).await.unwrap();
    let error = projector.run().await.err().unwrap();
    let expected =
        "the fold stops after position 9: unknown kind of fact \"order.teleported\": upgrade this process";
    assert_eq!(error.to_string(), expected);
    assert_eq!(projector.model().position(), Position::new(9));
}

#[tokio::test]
async fn waiters_and_receivers_hear_of_each_commit() {
    let scene = Scene::new();
    let projector = scene.projector().await;
    let model = projector.model();
    let mut changes = model.changes();
    let running = tokio::spawn(async move { projector.run().await });
    let order = scene.create(1);
    scene.quote(1);
    let last = scene.log.facts().last().unwrap().position;
    assert!(model.wait_for(last, Span::from_secs(5)).await);
    assert!(!model.wait_for(last.next(), Span::from_millis(20)).await);
    let mut heard = Vec::new();
    for _ in 0..2 {
        let change = changes.recv().await.unwrap();
        assert_eq!(change.order, order);
        heard.push(change.version);
    }
    assert_eq!(heard, [1, 2]);
    running.abort();
}

/// A store some of whose commits fail: taken all the same, or not.
#[derive(Default)]
pub(super) struct Unsure {
    pub(super) store: MemoryStore,
    pub(super) commits: AtomicUsize,
    /// Which commits fail, and whether the store takes them.
    pub(super) fails: Vec<(usize, bool)>,
}

impl Store for Unsure {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, PortError> {
        self.store.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError> {
        self.store.range(from, to, limit)
    }

    fn range_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError> {
        self.store.range_back(from, to, limit)
    }

    fn commit(&self, batch: WriteBatch) -> Result<(), PortError> {
        let number = self.commits.fetch_add(1, Ordering::SeqCst);
        let Some((_, taken)) = self.fails.iter().find(|(fails, _)| *fails == number) else {
            return self.store.commit(batch);
        };
        if *taken {
            self.store.commit(batch)?;
        }
        Err(PortError::transient("the store's answer got lost"))
    }

    fn clear(&self) -> Result<(), PortError> {
        self.store.clear()
    }
}

/// With commits of one row a block is committed in parts.
#[tokio::test(start_paused = true)]
async fn a_commit_that_failed_and_was_taken_is_told_of() {
    type Row = (&'static str, usize, fn(usize) -> bool, bool);
    let rows: [Row; 5] = [
        ("none fails", 500, |_| false, true),
        ("each second is taken", 500, |number| number % 2 == 1, true),
        ("each second is lost", 500, |number| number % 2 == 1, false),
        ("small ones are taken", 1, |number| number * number % 7 == 2, true),
        ("small ones are lost", 1, |number| number * number % 7 == 2, false),
    ];
    for (name, rows_live, fails, taken) in rows {
        let scene = Scene::new();
        let fails = (1..1_000).filter(|number| fails(*number)).map(|number| (number, taken)).collect();
        let store = Arc::new(Unsure { fails, ..Unsure::default() });
        let options = Options { rows_live, rows_catching_up: rows_live, ..Options::default() };
        let projector = Projector::open(Arc::new(scene.log.clone()), store.clone(), options).await.unwrap();
        let model = projector.model();
        let mut changes = model.changes();
        let running = tokio::spawn(async move { projector.run().await });
        let mut order_ids = Vec::new();
        for number in 1..=3 {
            order_ids.push(scene.create(number));
            scene.quote(number);
            let last = scene.log.facts().last().unwrap().position;
            assert!(model.wait_for(last, Span::from_secs(600)).await, "{name}: {last} is never told of");
            let read = model.order(&order_ids[number as usize - 1]).await.unwrap();
            assert_eq!(read.map(|order| order.version()), Some(2), "{name}");
        }
        scene.connect(block(100, 1));
        for number in 1..=3 {
            scene.mined(number, number.into(), 1_000, block(101, 1));
        }
        scene.connect(block(101, 1));
        let last = scene.log.facts().last().unwrap().position;
        assert!(model.wait_for(last, Span::from_secs(600)).await, "{name}");
        let mut heard = BTreeSet::new();
        while let Ok(Ok(change)) = tokio::time::timeout(Duration::from_secs(1), changes.recv()).await {
            heard.insert((change.order, change.version));
        }
        for id in order_ids {
            let order = model.order(&id).await.unwrap().unwrap();
            assert_eq!(order.status(), Status::Confirmed, "{name}");
            let missing: Vec<_> =
                (1..=order.version()).filter(|v| !heard.contains(&(id.clone(), *v))).collect();
            assert!(missing.is_empty(), "{name}: nobody heard of {missing:?} of {}", order.version());
        }
        running.abort();
        let whole = scene.projector().await;
        whole.catch_up().await.unwrap();
        assert_eq!(store.store.rows(), scene.store.rows(), "{name}");
    }
}

#[tokio::test]
async fn a_chain_of_several_shards_is_where_the_slowest_is() {
    let scene = Scene::new();
    let halves: Vec<Shard> = Shard::all(2).collect();
    let number_in = |shard: Shard| (1..).find(|number| shard.has(&script(*number))).unwrap();
    let numbers = [number_in(halves[0]), number_in(halves[1])];
    let orders = numbers.map(|number| {
        scene.create(number);
        scene.quote(number)
    });
    scene.connect(block(100, 1));
    let sharded = |generation, count, height| ChainSharded {
        chain: chain_id("btc"),
        generation,
        count,
        at: Some(block(height, 1)),
        watched_through: Position::new(1),
        observed_at: START,
    };
    scene.put(Subject::chain_plan(&chain_id("btc")), sharded(1, 2, 100));
    scene.put(Subject::chain(&chain_id("btc"), 0, 0), sharded(1, 2, 100));
    scene.wait(1);
    let tell = |shard: Shard, number: u8, to: u64, height: u64| {
        let subject = Subject::chain(&chain_id("btc"), 1, shard.index());
        for fact in scene.block_with(number, to, 1_000, block(height, 1)) {
            let event = Event::new(subject.clone(), fact, tally_ports::Clock::now(&*scene.clock));
            scene.log.seed(vec![event.of_shard(shard)]);
        }
    };
    tell(halves[0], 1, numbers[0], 101);
    let model = scene.model().await;
    let status = async |number: usize| model.order(&orders[number]).await.unwrap().unwrap().status();
    let view = model.chain(&chain_id("btc")).await.unwrap().unwrap();
    assert_eq!((view.tip.height.get(), view.observed_at), (100, START), "the other half was not heard of");
    assert_eq!(view.watched_through, Position::new(1), "nor does it know of younger addresses");
    assert_eq!((status(0).await, status(1).await), (Status::Confirmed, Status::Pending));
    tell(halves[1], 2, numbers[1], 101);
    let model = scene.model().await;
    let status = async |number: usize| model.order(&orders[number]).await.unwrap().unwrap().status();
    let view = model.chain(&chain_id("btc")).await.unwrap().unwrap();
    assert_eq!((view.tip.height.get(), view.observed_at), (101, START.plus(Span::from_secs(60))));
    assert_eq!((status(0).await, status(1).await), (Status::Confirmed, Status::Confirmed));
    // One shard again, which takes both orders to their end.
    scene.put(Subject::chain_plan(&chain_id("btc")), sharded(2, 1, 101));
    scene.connect(block(106, 1));
    let model = scene.model().await;
    for order in &orders {
        assert_eq!(model.order(order).await.unwrap().unwrap().status(), Status::Complete);
    }
    assert_eq!(model.chain(&chain_id("btc")).await.unwrap().unwrap().tip, block(106, 1));
}

#[tokio::test]
async fn finality_touches_only_orders_that_wait_for_it() {
    let scene = Scene::new();
    for number in [1, 2] {
        scene.create(number);
        scene.quote_with(number, number == 2);
    }
    scene.connect(block(100, 1));
    for number in [1_u8, 2] {
        scene.mined(number, number.into(), 1_000, block(101, 1));
    }
    for height in 101..=120 {
        scene.connect(block(height, 1));
    }
    let status = async |scene: &Scene, number: u64| {
        scene.model().await.order(&order_id(number)).await.unwrap().unwrap().status()
    };
    assert_eq!((status(&scene, 1).await, status(&scene, 2).await), (Status::Complete, Status::Confirmed));
    let finalized = |height| ChainFinalized { chain: chain_id("btc"), block: block(height, 1) };
    let subject = Subject::chain(&chain_id("btc"), 0, 0);
    scene.put(subject.clone(), finalized(100));
    assert_eq!(status(&scene, 2).await, Status::Confirmed);
    scene.put(subject, finalized(101));
    assert_eq!(status(&scene, 2).await, Status::Complete);
    // A payment that is learned of later, in a block that is final already.
    scene.create(3);
    scene.quote_with(3, true);
    scene.mined(3, 3, 1_000, block(101, 1));
    assert_eq!(status(&scene, 3).await, Status::Complete);
}
