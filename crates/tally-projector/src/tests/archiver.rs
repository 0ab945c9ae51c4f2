//! The duty of archiving, step by step: in which order, under whose lease, and what stays.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use tally_events::{
    DeliveryOutcome, Fact, NewEvent, OrderCanceled, OrderUnwatched, OrdersArchived, Recorded, Subject,
};
use tally_ports::{AppendError, Archive, EventLog, EventStream, Expectation, Lease, PortError, Purge};
use tally_testkit::{ManualClock, MemoryLease, MemoryLog, order_id};
use tally_types::{OrderId, Position, Span};

use super::scene::Scene;
use crate::{Archiver, ArchiverOptions, ArchiverPorts, Projector};

/// Something that happens meanwhile, once, right before a step whose name begins with a word.
type Meanwhile = Option<(&'static str, Box<dyn FnOnce() + Send>)>;

/// What was done, in order.
#[derive(Default)]
struct Steps {
    taken: Mutex<Vec<String>>,
    meanwhile: Mutex<Meanwhile>,
}

impl Steps {
    fn take(&self, step: String) {
        let mut meanwhile = self.meanwhile.lock().unwrap();
        let now = meanwhile.take_if(|(before, _)| step.starts_with(*before));
        drop(meanwhile);
        if let Some((_, happens)) = now {
            happens();
        }
        self.taken.lock().unwrap().push(step);
    }

    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.taken.lock().unwrap())
    }

    fn before(&self, step: &'static str, happens: impl FnOnce() + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some((step, Box::new(happens)));
    }
}

/// A log that tells its steps.
struct Told(MemoryLog, Arc<Steps>);

#[async_trait]
impl EventLog for Told {
    async fn append(
        &self,
        expect: Vec<Expectation>,
        batch: Vec<NewEvent>,
    ) -> Result<Vec<Position>, AppendError> {
        self.1.take(format!("append {}", batch[0].subject.aggregate()));
        self.0.append(expect, batch).await
    }

    async fn read(&self, after: Position) -> Result<EventStream, PortError> {
        self.0.read(after).await
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Recorded>, PortError> {
        self.0.last(subject).await
    }

    async fn head(&self) -> Result<Position, PortError> {
        self.0.head().await
    }
}

#[async_trait]
impl Purge for Told {
    async fn all_on(&self, subject: &Subject) -> Result<Vec<Recorded>, PortError> {
        self.0.all_on(subject).await
    }

    async fn purge(&self, subject: &Subject, through: Position) -> Result<(), PortError> {
        let id = subject.as_str().rsplit('.').next().unwrap();
        self.1.take(format!("purge {} {id} through {through}", subject.aggregate()));
        self.0.purge(subject, through).await
    }
}

/// An archive in memory that tells its steps.
struct Shelf {
    segments: Mutex<Vec<(OrdersArchived, Vec<Recorded>)>>,
    purged: Mutex<u64>,
    steps: Arc<Steps>,
}

#[async_trait]
impl Archive for Shelf {
    async fn store(&self, index: OrdersArchived, facts: Vec<Recorded>) -> Result<OrdersArchived, PortError> {
        self.steps.take(format!("store {}", index.segment));
        let mut segments = self.segments.lock().unwrap();
        if segments.len() as u64 + 1 == index.segment {
            segments.push((index.clone(), facts));
        }
        Ok(segments[usize::try_from(index.segment).unwrap() - 1].0.clone())
    }

    async fn segment(&self, number: u64) -> Result<Option<OrdersArchived>, PortError> {
        let segments = self.segments.lock().unwrap();
        Ok(segments.get(usize::try_from(number).unwrap() - 1).map(|(index, _)| index.clone()))
    }

    async fn purged(&self) -> Result<u64, PortError> {
        Ok(*self.purged.lock().unwrap())
    }

    async fn note_purged(&self, number: u64) -> Result<(), PortError> {
        self.steps.take(format!("note {number}"));
        *self.purged.lock().unwrap() = number;
        Ok(())
    }
}

/// An archiver over a scene.
struct Stand {
    scene: Scene,
    projector: Projector,
    steps: Arc<Steps>,
    shelf: Arc<Shelf>,
    lease: Arc<MemoryLease>,
    archiver: Archiver,
}

impl Stand {
    async fn new(scene: Scene, options: ArchiverOptions) -> Self {
        let projector = scene.projector().await;
        projector.catch_up().await.unwrap();
        let steps = Arc::new(Steps::default());
        let shelf =
            Arc::new(Shelf { segments: Mutex::default(), purged: Mutex::default(), steps: steps.clone() });
        // Leases run by a clock of their own, which stands.
        let lease = Arc::new(MemoryLease::new(Arc::new(ManualClock::default())));
        let ports = ArchiverPorts {
            log: Arc::new(Told(scene.log.clone(), steps.clone())),
            archive: shelf.clone(),
            lease: lease.clone(),
            clock: scene.clock.clone(),
            model: projector.model(),
        };
        Self { archiver: Archiver::new(ports, options), scene, projector, steps, shelf, lease }
    }

    async fn round(&mut self) -> usize {
        self.projector.catch_up().await.unwrap();
        self.archiver.round().await.unwrap()
    }

    /// The orders in each segment.
    fn orders(&self) -> Vec<Vec<String>> {
        let segments = self.shelf.segments.lock().unwrap();
        let ids = |index: &OrdersArchived| index.orders.iter().map(|order| order.order.to_string()).collect();
        segments.iter().map(|(index, _)| ids(index)).collect()
    }

    fn last_on(&self, subject: &Subject) -> Position {
        self.scene.log.facts_on(subject).last().unwrap().position
    }
}

fn options() -> ArchiverOptions {
    ArchiverOptions { pace: Duration::ZERO, ..ArchiverOptions::default() }
}

fn half_a_year(scene: &Scene) {
    scene.wait(181 * 24 * 60);
}

/// An order that was canceled; what is still to be told of it is not told yet.
fn canceled(scene: &Scene, number: u64) -> OrderId {
    let order = scene.create(number);
    scene.put(Subject::order(&order), OrderCanceled { order: order.clone() });
    order
}

/// An order of which nothing is left to be done.
fn closed(scene: &Scene, number: u64) -> OrderId {
    let order = canceled(scene, number);
    scene.deliver(&order, 2, DeliveryOutcome::Acknowledged);
    order
}

/// A scene with so many closed orders, each a minute after the one before, half a year later.
fn scene_with(count: u64) -> Scene {
    let scene = Scene::new();
    for number in 1..=count {
        closed(&scene, number);
        scene.wait(1);
    }
    half_a_year(&scene);
    scene
}

#[test]
fn the_settings_that_are_promised() {
    let options = ArchiverOptions::default();
    assert_eq!((options.after, options.orders), (Span::from_secs(180 * 86_400), 250));
}

#[tokio::test]
async fn a_segment_takes_its_steps_in_order() {
    let mut stand = Stand::new(scene_with(2), options()).await;
    let ends = [1, 2].map(|number| {
        let order = order_id(number);
        (stand.last_on(&Subject::delivery(&order)), stand.last_on(&Subject::order(&order)))
    });
    let before = stand.scene.log.facts();
    assert_eq!(stand.round().await, 2);
    let [one, two] = ends;
    let expected = [
        "store 1".to_owned(),
        "append archive".to_owned(),
        format!("purge delivery 1 through {}", one.0),
        format!("purge order 1 through {}", one.1),
        format!("purge delivery 2 through {}", two.0),
        format!("purge order 2 through {}", two.1),
        "note 1".to_owned(),
    ];
    assert_eq!(stand.steps.taken(), expected);
    let sealed = stand.scene.log.facts_on(&Subject::archive()).pop().unwrap();
    assert!(sealed.event.epoch.get() > 0, "it says under which term it was written");
    let (index, facts) = stand.shelf.segments.lock().unwrap()[0].clone();
    assert_eq!(sealed.event.fact, Fact::OrdersArchived(index.clone()));
    let whole: Vec<_> = before
        .into_iter()
        .filter(|fact| matches!(fact.event.subject.aggregate(), "order" | "delivery"))
        .collect();
    assert_eq!(facts, whole, "every fact of theirs, in log order");
    assert_eq!((index.facts, index.digest.clone()), (6, OrdersArchived::digest_of(&whole)));
    assert_eq!((index.first, index.last), (whole[0].position, whole[5].position));
    assert_eq!(stand.round().await, 0);
    assert_eq!(stand.steps.taken(), [""; 0], "once is enough");
}

#[tokio::test]
async fn segments_have_so_many_orders_the_longest_closed_first() {
    let mut stand = Stand::new(scene_with(5), ArchiverOptions { orders: 2, ..options() }).await;
    for expected in [2, 2, 1, 0] {
        assert_eq!(stand.round().await, expected);
    }
    assert_eq!(stand.orders(), [vec!["1", "2"], vec!["3", "4"], vec!["5"]]);
    let segments = stand.shelf.segments.lock().unwrap();
    let numbers: Vec<_> = segments.iter().map(|(index, _)| index.segment).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[tokio::test]
async fn orders_with_many_facts_make_a_segment_of_few() {
    let scene = Scene::new();
    for number in 1..=3 {
        let order = canceled(&scene, number);
        for _ in 0..6_000 {
            scene.deliver(&order, 2, DeliveryOutcome::Acknowledged);
        }
        scene.wait(1);
    }
    half_a_year(&scene);
    let mut stand = Stand::new(scene, options()).await;
    assert_eq!((stand.round().await, stand.round().await), (2, 1));
    assert_eq!(stand.orders(), [vec!["1", "2"], vec!["3"]], "one may go over what a segment is to hold");
}

#[tokio::test]
async fn a_segment_says_through_where_the_archive_reaches() {
    let scene = Scene::new();
    let first = canceled(&scene, 1);
    scene.wait(1);
    closed(&scene, 2);
    // It was closed first, and its last fact is the last.
    scene.deliver(&first, 2, DeliveryOutcome::Acknowledged);
    half_a_year(&scene);
    let mut stand = Stand::new(scene, ArchiverOptions { orders: 1, ..options() }).await;
    assert_eq!((stand.round().await, stand.round().await), (1, 1));
    assert_eq!(stand.orders(), [["1"], ["2"]]);
    let segments = stand.shelf.segments.lock().unwrap();
    let [one, two] = [&segments[0].0, &segments[1].0];
    assert!(two.last < one.last);
    assert_eq!((one.through, two.through), (one.last, one.last), "no fact beyond it is in any segment");
}

#[tokio::test]
async fn what_is_still_happening_stays() {
    type Change = fn(&Scene);
    let unfolded: [(&str, Change); 2] = [
        ("a fact of its own", |scene| {
            let (order, scripts) = (order_id(1), Vec::new());
            scene.put(Subject::order(&order), OrderUnwatched { order, scripts });
        }),
        ("a delivery", |scene| scene.deliver(&order_id(1), 2, DeliveryOutcome::Acknowledged)),
    ];
    for (name, change) in unfolded {
        let scene = Scene::new();
        closed(&scene, 1);
        closed(&scene, 2);
        let mut stand = Stand::new(scene, options()).await;
        assert_eq!(stand.round().await, 0, "{name}: its time has not come, and the lease is held");
        half_a_year(&stand.scene);
        change(&stand.scene);
        assert_eq!(stand.archiver.round().await.unwrap(), 1, "{name}: it is not folded");
        assert_eq!(stand.orders(), [["2"]], "{name}");
        assert_eq!(stand.round().await, 1, "{name}: now it is");
    }
    let scene = Scene::new();
    scene.create(1);
    canceled(&scene, 2);
    closed(&scene, 3);
    half_a_year(&scene);
    let mut stand = Stand::new(scene, options()).await;
    assert_eq!(
        (stand.round().await, stand.orders()),
        (1, vec![vec!["3".to_owned()]]),
        "open; to be delivered"
    );
}

#[tokio::test]
async fn nothing_is_done_without_the_lease_or_behind_the_log() {
    let mut stand = Stand::new(scene_with(1), options()).await;
    let other = stand.lease.acquire("archive", Span::from_secs(60)).await.unwrap().unwrap();
    assert_eq!(stand.round().await, 0);
    stand.lease.release(other).await.unwrap();
    closed(&stand.scene, 2);
    assert_eq!(
        stand.archiver.round().await.unwrap(),
        0,
        "the holder before may have done what is not folded"
    );
    assert_eq!(stand.steps.taken(), [""; 0]);
    assert_eq!(stand.round().await, 1);
}

#[tokio::test]
async fn who_lost_the_lease_stops_where_it_is() {
    let hasty =
        ArchiverOptions { lease: Span::from_millis(30), pace: Duration::from_millis(15), ..options() };
    let mut stand = Stand::new(scene_with(3), hasty).await;
    let lease = stand.lease.clone();
    stand.steps.before("purge order 1", move || {
        lease.revoke("archive");
        let taken = lease.acquire("archive", Span::from_secs(60));
        taken.now_or_never().unwrap().unwrap().unwrap();
    });
    let lost = stand.archiver.round().await.expect_err("it is another's");
    assert!(lost.is_transient(), "{lost}");
    let purged = stand.steps.taken().into_iter().filter(|step| step.starts_with("purge")).count();
    assert_eq!((purged, *stand.shelf.purged.lock().unwrap()), (2, 0), "the rest is left to who has it");
    assert_eq!(stand.round().await, 0, "it is not taken to be held again");
    stand.lease.revoke("archive");
    assert_eq!(stand.round().await, 3, "whoever comes next ends it");
    assert_eq!(*stand.shelf.purged.lock().unwrap(), 1);
}

#[tokio::test]
async fn of_two_that_archive_one_says_so() {
    for step in ["store", "append"] {
        let mut stand = Stand::new(scene_with(1), options()).await;
        let (log, shelf) = (stand.scene.log.clone(), stand.shelf.clone());
        let facts = stand.scene.log.facts_on(&Subject::order(&order_id(1)));
        let now = facts[0].event.time;
        let other = OrdersArchived {
            segment: 1,
            facts: 0,
            first: facts[0].position,
            last: facts[0].position,
            through: facts[0].position,
            digest: OrdersArchived::digest_of(&[]),
            orders: Vec::new(),
        };
        // Right before that, another instance says that its own segment is there.
        stand.steps.before(step, move || {
            shelf.segments.lock().unwrap().insert(0, (other.clone(), Vec::new()));
            log.seed(vec![tally_events::Event::new(Subject::archive(), other, now)]);
        });
        assert_eq!(stand.archiver.round().await.unwrap_or(0), 0, "{step}");
        assert_eq!(stand.scene.log.facts_on(&Subject::archive()).len(), 1, "{step}: the other one's");
        let purged = stand.steps.taken().into_iter().filter(|step| step.starts_with("purge")).count();
        assert_eq!(purged, 0, "{step}: what the other one does is its own");
    }
}

#[tokio::test]
async fn those_that_stay_hold_nobody_up() {
    let scene = Scene::new();
    for number in 1..=4 {
        canceled(&scene, number);
        scene.wait(1);
    }
    closed(&scene, 5);
    half_a_year(&scene);
    let mut stand = Stand::new(scene, ArchiverOptions { orders: 2, ..options() }).await;
    assert_eq!(stand.round().await, 1, "it stands behind two pages of others");
    assert_eq!(stand.orders(), [["5"]]);
}

#[tokio::test]
async fn orders_that_ran_beside_each_other_stand_in_log_order() {
    let scene = Scene::new();
    let orders = [1, 2].map(|number| scene.create(number));
    for order in orders.iter().rev() {
        scene.put(Subject::order(order), OrderCanceled { order: order.clone() });
        scene.wait(1);
    }
    orders.iter().for_each(|order| scene.deliver(order, 2, DeliveryOutcome::Acknowledged));
    half_a_year(&scene);
    let mut stand = Stand::new(scene, options()).await;
    assert_eq!(stand.round().await, 2);
    assert_eq!(stand.orders(), [["1", "2"]], "the second was closed first");
    let segments = stand.shelf.segments.lock().unwrap();
    assert!(segments[0].1.windows(2).all(|pair| pair[0].position < pair[1].position));
}

#[tokio::test]
async fn a_segment_that_is_stored_gets_its_fact() {
    let mut first = Stand::new(scene_with(1), options()).await;
    assert_eq!(first.round().await, 1);
    // The same log, whose archiver came as far as the file.
    let mut stand = Stand::new(scene_with(1), options()).await;
    *stand.shelf.segments.lock().unwrap() = first.shelf.segments.lock().unwrap().clone();
    assert_eq!(stand.round().await, 1);
    assert_eq!(stand.steps.taken()[0], "append archive", "it is not gathered again");
    assert!(stand.scene.log.facts_on(&Subject::order(&order_id(1))).is_empty());
}

#[tokio::test]
async fn an_archive_that_lacks_a_segment_is_added_nothing() {
    let mut stand = Stand::new(scene_with(2), ArchiverOptions { orders: 1, ..options() }).await;
    assert_eq!(stand.round().await, 1);
    stand.shelf.segments.lock().unwrap().clear();
    *stand.shelf.purged.lock().unwrap() = 0;
    stand.steps.taken();
    stand.projector.catch_up().await.unwrap();
    let missing = stand.archiver.round().await.expect_err("it is not there");
    assert!(!missing.is_transient() && missing.to_string().contains("lacks segment 1"), "{missing}");
    assert_eq!(stand.steps.taken(), [""; 0]);
}

#[tokio::test]
async fn between_two_rounds_anyone_may_have_the_lease() {
    let mut stand =
        Stand::new(scene_with(1), ArchiverOptions { rest: Span::from_secs(3600), ..options() }).await;
    let (lease, shelf) = (stand.lease.clone(), stand.shelf.clone());
    let task = tokio::spawn(async move {
        stand.archiver.run().await;
    });
    for _ in 0..1_000 {
        let done = *shelf.purged.lock().unwrap() == 1;
        if done && lease.acquire("archive", Span::from_secs(60)).await.unwrap().is_some() {
            return task.abort();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it keeps the lease while it rests");
}
