//! What is true once orders were moved, and after every way in which that can be cut off.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tally_events::{Event, Fact, Recorded, Subject};
use tally_log::LogName;
use tally_log::archive::{ArchivedLog, FileArchive};
use tally_log::embedded::Embedded;
use tally_ports::{AppendError, Archive, EventLog, Expectation, Lease, Purge, ReadModel};
use tally_projector::{Archiver, ArchiverOptions, ArchiverPorts, Options, Projector};
use tally_testkit::{ManualClock, MemoryLease, MemoryLog, MemoryStore, order_id};
use tally_types::{Face, Position, Span, Timestamp};

use crate::faults::{Death, MortalArchive, MortalLog};
use crate::scene::{MERCHANT, START, Scene, bytes, folded, read};

const ORDERS: u64 = 14;
/// All but the two that are open.
const CLOSED: usize = 12;

fn options() -> ArchiverOptions {
    ArchiverOptions { orders: 5, pace: Duration::ZERO, ..ArchiverOptions::default() }
}

/// An instance with an archiver, over a log and a folder.
struct Instance {
    raw: Arc<dyn Purge>,
    files: FileArchive,
    lease: Arc<dyn Lease>,
    clock: Arc<ManualClock>,
}

impl Instance {
    fn new(raw: Arc<dyn Purge>, dir: &Path) -> Self {
        let clock = Arc::new(ManualClock::at(START.plus(Span::from_secs(300 * 86_400))));
        let lease = Arc::new(MemoryLease::new(clock.clone()));
        Self { raw, files: FileArchive::new(dir.join("archive")), lease, clock }
    }

    /// Log and archive as one.
    fn both(&self) -> Arc<dyn EventLog> {
        Arc::new(ArchivedLog::new(self.raw.clone(), self.files.clone()))
    }

    async fn projector(&self, store: Arc<MemoryStore>) -> Projector {
        let projector = Projector::open(self.both(), store, Options::default()).await.unwrap();
        projector.catch_up().await.unwrap();
        projector
    }

    fn archiver(&self, projector: &Projector, death: &Arc<Death>) -> Archiver {
        let archive: Arc<dyn Archive> = Arc::new(self.files.clone());
        let ports = ArchiverPorts {
            log: Arc::new(MortalLog(self.raw.clone(), death.clone())),
            archive: Arc::new(MortalArchive(archive, death.clone())),
            lease: self.lease.clone(),
            clock: self.clock.clone(),
            model: projector.model(),
        };
        Archiver::new(ports, options())
    }

    /// Archives until nothing is left to do, or until it dies; whether it lived, and how many orders went.
    async fn archive(&self, store: Arc<MemoryStore>, death: &Arc<Death>) -> (bool, usize) {
        let projector = self.projector(store).await;
        let mut archiver = self.archiver(&projector, death);
        let mut moved = 0;
        for _ in 0..20 {
            projector.catch_up().await.unwrap();
            match archiver.round().await {
                Ok(0) => return (true, moved),
                Ok(count) => moved += count,
                Err(_) => return (false, moved),
            }
        }
        panic!("it does not end")
    }
}

/// A log that had everything all the time: what stood there before, and what the archiver itself said.
fn never_purged(before: &[Recorded], raw: &[Recorded]) -> MemoryLog {
    let log = MemoryLog::new();
    let end = before.last().unwrap().position;
    for fact in before.iter().chain(raw.iter().filter(|fact| fact.position > end)) {
        assert_eq!(log.seed(vec![fact.event.clone()]), [fact.position]);
    }
    log
}

fn archived(raw: &[Recorded]) -> Vec<String> {
    let mut ids = vec![];
    for fact in raw {
        if let Fact::OrdersArchived(fact) = &fact.event.fact {
            ids.extend(fact.orders.iter().map(|order| order.order.to_string()));
        }
    }
    ids.sort();
    ids
}

/// Archive and log are together what the log was, for readers and for folds; each order went once.
async fn check(instance: &Instance, live: &Arc<MemoryStore>, before: &[Recorded], name: &str) {
    let raw = read(&*instance.raw).await;
    let whole = never_purged(before, &raw);
    assert_eq!(read(&*instance.both()).await, whole.facts(), "{name}: every fact, where it stood");
    let ids = archived(&raw);
    assert_eq!(ids.len(), CLOSED, "{name}: each once: {ids:?}");
    let mut once = ids.clone();
    once.dedup();
    assert_eq!(once, ids, "{name}: none twice");
    for id in &ids {
        let order = id.parse().unwrap();
        assert_eq!(instance.raw.all_on(&Subject::order(&order)).await.unwrap(), [], "{name}: {id}");
        assert_eq!(instance.raw.all_on(&Subject::delivery(&order)).await.unwrap(), [], "{name}: {id}");
    }
    let (_, from_whole) = folded(Arc::new(whole)).await;
    let (_, from_both) = folded(instance.both()).await;
    assert_eq!(from_both, from_whole, "{name}: archive + log folds to what the log from the start does");
    instance.projector(live.clone()).await;
    assert_eq!(bytes(&**live), from_whole, "{name}: so does the read model that was there all the time");
    instance.files.verify().unwrap();
}

/// A fresh instance on memory, with its facts.
async fn on_memory(dir: &Path) -> (Instance, Vec<Recorded>) {
    let log = MemoryLog::new();
    Scene::new(Arc::new(log.clone())).orders(ORDERS).await;
    let before = log.facts();
    (Instance::new(Arc::new(log), dir), before)
}

#[tokio::test]
async fn closed_orders_leave_the_log_and_are_still_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (instance, before) = on_memory(dir.path()).await;
    let store = Arc::new(MemoryStore::new());
    let (_, moved) = instance.archive(store.clone(), &Death::at(0, false)).await;
    assert_eq!(moved, CLOSED);
    check(&instance, &store, &before, "moved").await;
    let left = read(&*instance.raw).await;
    assert!(left.len() * 2 < before.len(), "{} of {}", left.len(), before.len());
    // Asked of a read model that was folded from archive and log.
    let (projector, _) = folded(instance.both()).await;
    let model = projector.model();
    for number in 1..=ORDERS {
        let order = model.order(&order_id(number)).await.unwrap().expect("an archived order");
        let status = if number % 3 == 0 { "complete" } else { "expired" };
        assert_eq!(order.status().as_str(), status, "{number}");
        let own = model.order_by_own_id(MERCHANT, Face::Deepay, &format!("E{number}")).await.unwrap();
        assert_eq!(own.as_ref(), Some(order.id()));
    }
    let open: Vec<u64> = (1..=ORDERS)
        .filter(|n| left.iter().any(|f| f.event.subject == Subject::order(&order_id(*n))))
        .collect();
    assert_eq!(open, [ORDERS - 1, ORDERS], "those that wait for something stay");
}

#[tokio::test]
async fn nobody_goes_before_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let (instance, _) = on_memory(dir.path()).await;
    let store = Arc::new(MemoryStore::new());
    for (days, moved) in [(1, 0), (179, 0), (181, CLOSED)] {
        instance.clock.set(START.plus(Span::from_secs(days * 86_400)));
        let (_, now) = instance.archive(store.clone(), &Death::at(0, false)).await;
        assert_eq!(now, moved, "after {days} days");
    }
}

#[tokio::test]
async fn an_own_id_stays_taken_and_late_facts_find_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let (instance, _) = on_memory(dir.path()).await;
    let store = Arc::new(MemoryStore::new());
    instance.archive(store.clone(), &Death::at(0, false)).await;
    // Also for an instance that has folded nothing yet.
    let claim = Subject::claim(MERCHANT, Face::Deepay, "E1");
    let taken = instance.raw.last(&claim).await.unwrap().expect("the claim");
    let again = Event::new(claim.clone(), taken.event.fact.clone(), Timestamp::EPOCH);
    let rival = match &taken.event.fact {
        Fact::OrderClaimed(fact) => {
            let fact = tally_events::OrderClaimed { order: order_id(99), ..fact.clone() };
            Event::new(claim.clone(), fact, Timestamp::EPOCH)
        }
        other => panic!("{other:?}"),
    };
    let refused = instance.raw.append(vec![Expectation::none(claim.clone())], vec![rival]).await;
    assert!(matches!(refused, Err(AppendError::Stale { .. })), "{refused:?}");
    let same = instance.raw.append(vec![Expectation::none(claim)], vec![again]).await.unwrap();
    assert_eq!(same, [taken.position], "the same claim is the one there is");

    // Money that comes when all is over: the order is known, changes, and its delivery can be written down.
    let both = instance.both();
    let chain = Subject::chain(&tally_testkit::chain_id("btc"), 1, 0);
    let projector = instance.projector(store.clone()).await;
    let model = projector.model();
    let order = model.order(&order_id(1)).await.unwrap().unwrap();
    let delivery = Subject::delivery(order.id());
    assert_eq!(order.own_position(), Position::START);
    assert_eq!(model.subject_position(&delivery).await.unwrap(), Position::START);
    let at = both.last(&chain).await.unwrap().unwrap();
    let late = match &at.event.fact {
        Fact::BlockConnected(_) => {
            let other = MemoryLog::new();
            let mut scene = Scene::new(Arc::new(other.clone()));
            scene.now = START.plus(Span::from_secs(290 * 86_400));
            scene.seen(1, "late").await;
            other.facts().remove(0).event
        }
        other => panic!("{other:?}"),
    };
    both.append(vec![Expectation::new(chain, at.position)], vec![late]).await.unwrap();
    projector.catch_up().await.unwrap();
    let changed = model.order(order.id()).await.unwrap().unwrap();
    assert_eq!(changed.version(), order.version() + 1);
    assert!(changed.exceptions().iter().any(|exception| exception.as_str() == "paid_late"));
    let attempt = {
        let other = MemoryLog::new();
        Scene::new(Arc::new(other.clone())).delivered(1, changed.version()).await;
        other.facts().remove(0).event
    };
    let at = model.subject_position(&delivery).await.unwrap();
    both.append(vec![Expectation::new(delivery, at)], vec![attempt]).await.expect("the expectation holds");
    let (_, rebuilt) = folded(instance.both()).await;
    projector.catch_up().await.unwrap();
    assert_eq!(bytes(&*store), rebuilt);
}

#[tokio::test]
async fn a_fold_without_the_archive_stops() {
    let dir = tempfile::tempdir().unwrap();
    let (instance, _) = on_memory(dir.path()).await;
    instance.archive(Arc::new(MemoryStore::new()), &Death::at(0, false)).await;
    let store = Arc::new(MemoryStore::new());
    let alone = Projector::open(instance.raw.clone(), store, Options::default()).await.unwrap();
    let error = alone.catch_up().await.expect_err("facts are missing");
    assert!(!error.is_transient() && error.to_string().contains("tally rebuild"), "{error}");
}

/// Dies at each step, before and after it; whoever comes next ends what was begun.
async fn killed_at_every_step(make: impl AsyncFn(&Path) -> (Instance, Vec<Recorded>), every: usize) {
    let steps = {
        let dir = tempfile::tempdir().unwrap();
        let (instance, _) = make(dir.path()).await;
        let death = Death::at(0, false);
        instance.archive(Arc::new(MemoryStore::new()), &death).await;
        death.steps()
    };
    // Three segments of four kinds of steps, and two purges for each order.
    assert!(steps >= 3 * 3 + 2 * CLOSED as u64, "{steps}");
    for step in (1..=steps).step_by(every) {
        for after in [false, true] {
            let name = format!("killed at step {step} of {steps}, done: {after}");
            let dir = tempfile::tempdir().unwrap();
            let (instance, before) = make(dir.path()).await;
            let store = Arc::new(MemoryStore::new());
            let (lived, _) = instance.archive(store.clone(), &Death::at(step, after)).await;
            assert!(!lived, "{name}");
            // What lies there half done: readers and folds have everything all the same.
            let raw = read(&*instance.raw).await;
            let whole = never_purged(&before, &raw);
            assert_eq!(read(&*instance.both()).await, whole.facts(), "{name}: at once");
            // The lease of the dead one runs out; another goes on.
            instance.clock.advance(Span::from_secs(60));
            let (lived, _) = instance.archive(store.clone(), &Death::at(0, false)).await;
            assert!(lived, "{name}");
            check(&instance, &store, &before, &name).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_step_loses_and_doubles_nothing() {
    killed_at_every_step(on_memory, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_on_the_embedded_log() {
    let make = async |dir: &Path| {
        let embedded = Embedded::open(&dir.join("log"), 16 * 1024 * 1024).unwrap();
        let log: Arc<dyn Purge> = Arc::new(embedded.log(LogName::Main));
        Scene::new(log.clone()).orders(ORDERS).await;
        let before = read(&*log).await;
        (Instance::new(log, dir), before)
    };
    killed_at_every_step(make, 5).await;
}

#[tokio::test]
async fn two_archivers_are_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let (instance, before) = on_memory(dir.path()).await;
    let store = Arc::new(MemoryStore::new());
    let projector = instance.projector(store.clone()).await;
    // The first is frozen after it has written its segment; the second takes the duty over; then the first thaws.
    let frozen = Death::at(2, false);
    let mut first = instance.archiver(&projector, &frozen);
    assert!(first.round().await.is_err(), "frozen between the file and the fact");
    instance.clock.advance(Span::from_secs(60));
    let alive = Death::at(0, false);
    let (_, moved) = instance.archive(store.clone(), &alive).await;
    assert_eq!(moved, CLOSED);
    // Its lease is gone, and it knows only by asking.
    projector.catch_up().await.unwrap();
    assert_eq!(first.round().await.unwrap_or(0), 0);
    check(&instance, &store, &before, "two").await;
}
