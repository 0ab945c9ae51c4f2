//! Duties: who may act, when, and that nobody acts twice.

use std::sync::Arc;

use tally_events::{Fact, LatePolicy, OrderCanceled, Subject};
use tally_order::{Order, QuoteState};
use tally_ports::{Lease, ReadModel};
use tally_testkit::{MemoryLease, MemoryStore, order_id};
use tally_types::{BaseUnits, OrderId, Span};
use tokio::task::JoinHandle;

use super::scene::{Scene, block};
use crate::{Duties, DutyOptions, Reprice};

/// A running projector and duties over a scene.
struct Service {
    duties: Duties,
    model: Arc<crate::Model>,
    running: JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn service(scene: &Scene, lease: &Arc<MemoryLease>, reprice: Option<Arc<dyn Reprice>>) -> Service {
    let projector = scene.projector_on(Arc::new(MemoryStore::new())).await;
    let model = projector.model();
    let running = tokio::spawn(async move {
        projector.run().await.ok();
    });
    let log = Arc::new(scene.log.clone());
    let options = DutyOptions { lease: Span::from_secs(4 * 365 * 86_400), ..DutyOptions::default() };
    let duties = Duties::new(log, lease.clone(), scene.clock.clone(), model.clone(), reprice, options);
    Service { duties, model, running }
}

impl Service {
    async fn round(&mut self, scene: &Scene) -> usize {
        let last = scene.log.facts().last().unwrap().position;
        assert!(self.model.wait_for(last, Span::from_secs(5)).await);
        self.duties.round().await.unwrap()
    }

    /// The duties with a way to watchers.
    fn duties_asking(&mut self, ask: impl Fn() + Send + Sync + 'static) -> Duties {
        let log = Arc::new(tally_testkit::MemoryLog::new());
        let lease = Arc::new(MemoryLease::new(Arc::new(tally_testkit::ManualClock::default())));
        let clock = Arc::new(tally_testkit::ManualClock::default());
        let model = self.model.clone();
        let none = Duties::new(log, lease, clock, model, None, DutyOptions::default());
        std::mem::replace(&mut self.duties, none).asking(Arc::new(move |_| ask()))
    }

    async fn status(&self, order: &OrderId) -> String {
        self.model.order(order).await.unwrap().unwrap().status().to_string()
    }
}

fn leases(scene: &Scene) -> Arc<MemoryLease> {
    Arc::new(MemoryLease::new(scene.clock.clone()))
}

fn last_fact(scene: &Scene, order: &OrderId) -> (String, u64) {
    let last = scene.log.facts_on(&Subject::order(order)).pop().unwrap();
    (last.event.fact.kind().to_owned(), last.event.epoch.get())
}

#[tokio::test]
async fn an_order_expires_once_its_watcher_has_looked() {
    let scene = Scene::new();
    scene.connect(block(100, 1));
    let order = scene.create(1);
    scene.quote(1);
    let mut service = service(&scene, &leases(&scene), None).await;
    assert_eq!(service.round(&scene).await, 0, "its time is not over");
    scene.wait(60);
    assert_eq!(service.round(&scene).await, 0, "its watcher has not looked since");
    scene.observe(block(100, 1));
    assert_eq!(service.round(&scene).await, 1);
    assert_eq!(service.status(&order).await, "expired");
    assert!(matches!(last_fact(&scene, &order), (kind, epoch) if kind == "order.expired" && epoch > 0));
    assert_eq!(service.round(&scene).await, 0, "once is enough");
}

#[tokio::test]
async fn a_new_order_expires_without_any_chain() {
    let scene = Scene::new();
    let order = scene.create(1);
    let mut service = service(&scene, &leases(&scene), None).await;
    scene.wait(24 * 60);
    assert_eq!(service.round(&scene).await, 1);
    assert_eq!(service.status(&order).await, "expired");
}

#[tokio::test]
async fn two_instances_share_the_duties() {
    let scene = Scene::new();
    for number in 1..=40 {
        scene.create(number);
    }
    let lease = leases(&scene);
    let mut one = service(&scene, &lease, None).await;
    let mut two = service(&scene, &lease, None).await;
    scene.wait(24 * 60);
    assert_eq!(one.round(&scene).await, 40);
    assert_eq!(two.round(&scene).await, 0, "it holds no lease");
    scene.create(41);
    scene.wait(24 * 60);
    one.duties.release().await.unwrap();
    assert_eq!(two.round(&scene).await, 1, "it takes over");
    let expired =
        scene.log.facts().iter().filter(|fact| matches!(fact.event.fact, Fact::OrderExpired(_))).count();
    assert_eq!(expired, 41);
}

#[tokio::test]
async fn who_was_slower_folds_and_decides_again() {
    let scene = Scene::new();
    let order = scene.create(1);
    let projector = scene.projector().await;
    projector.catch_up().await.unwrap();
    let model = projector.model();
    let log = Arc::new(scene.log.clone());
    let options = DutyOptions { lease: Span::from_secs(365 * 86_400), ..DutyOptions::default() };
    let mut duties = Duties::new(log, leases(&scene), scene.clock.clone(), model, None, options);
    duties.round().await.unwrap();
    scene.wait(24 * 60);
    scene.put(Subject::order(&order), OrderCanceled { order: order.clone() });
    assert_eq!(duties.round().await.unwrap(), 0, "the order has moved on");
    projector.catch_up().await.unwrap();
    assert_eq!(duties.round().await.unwrap(), 0, "and has no such deadline any more");
    assert_eq!(last_fact(&scene, &order).0, "order.canceled");
}

#[tokio::test]
async fn a_new_holder_waits_until_it_has_folded_what_was() {
    let scene = Scene::new();
    scene.create(1);
    let projector = scene.projector().await;
    projector.catch_up().await.unwrap();
    scene.wait(24 * 60);
    scene.create(2);
    let log = Arc::new(scene.log.clone());
    let mut duties = Duties::new(
        log,
        leases(&scene),
        scene.clock.clone(),
        projector.model(),
        None,
        DutyOptions::default(),
    );
    assert_eq!(duties.round().await.unwrap(), 0);
    projector.catch_up().await.unwrap();
    assert_eq!(duties.round().await.unwrap(), 1);
}

#[tokio::test]
async fn a_paid_order_becomes_invalid_and_a_settled_one_is_unwatched() {
    let scene = Scene::new();
    scene.connect(block(100, 1));
    let order = scene.create(1);
    scene.quote(1);
    scene.seen(1, 1, 1000);
    let mut service = service(&scene, &leases(&scene), None).await;
    scene.wait(24 * 60 + 1);
    scene.observe(block(100, 1));
    assert_eq!(service.round(&scene).await, 1);
    assert_eq!(service.status(&order).await, "invalid");
    scene.wait(90 * 24 * 60);
    assert_eq!(service.round(&scene).await, 1);
    assert_eq!(last_fact(&scene, &order).0, "order.unwatched");
    assert_eq!(service.round(&scene).await, 0);
}

#[tokio::test]
async fn late_money_is_accepted_where_the_policy_says_so() {
    let mut scene = Scene::new();
    scene.policy.late = LatePolicy::Accept;
    scene.connect(block(100, 1));
    let order = scene.create(1);
    scene.quote(1);
    let mut service = service(&scene, &leases(&scene), None).await;
    scene.wait(60);
    scene.observe(block(100, 1));
    assert_eq!(service.round(&scene).await, 1);
    scene.seen(1, 1, 1000);
    assert_eq!(service.round(&scene).await, 1);
    assert_eq!(
        (service.status(&order).await.as_str(), last_fact(&scene, &order).0.as_str()),
        ("paid", "order.accepted")
    );
    assert_eq!(service.round(&scene).await, 0);
}

struct Twice;

impl Reprice for Twice {
    fn full_price(&self, _: &Order, quote: &QuoteState) -> Option<BaseUnits> {
        Some(BaseUnits::from_units(quote.terms().full.units() * 2))
    }
}

#[tokio::test]
async fn late_money_is_priced_anew_where_there_is_a_rate() {
    let mut scene = Scene::new();
    scene.policy.late = LatePolicy::Reprice;
    scene.connect(block(100, 1));
    let order = scene.create(1);
    scene.quote(1);
    scene.wait(60);
    scene.seen(1, 1, 1000);
    let lease = leases(&scene);
    let mut without = service(&scene, &lease, None).await;
    scene.observe(block(100, 1));
    assert_eq!(without.round(&scene).await, 1, "it expires");
    assert_eq!(without.round(&scene).await, 0, "there is no rate");
    without.duties.release().await.unwrap();
    let mut with = service(&scene, &lease, Some(Arc::new(Twice))).await;
    assert_eq!(with.round(&scene).await, 1);
    let order = with.model.order(&order).await.unwrap().unwrap();
    assert_eq!((order.status().as_str(), order.exceptions().word()), ("expired", "underpaid"));
    assert_eq!(order.id(), &order_id(1));
}

/// A service whose leases are short.
async fn hasty(
    scene: &Scene,
    lease: &Arc<MemoryLease>,
    reprice: Option<Arc<dyn Reprice>>,
    lasts: Span,
) -> Service {
    let mut made = service(scene, lease, reprice.clone()).await;
    let options = DutyOptions { lease: lasts, ..DutyOptions::default() };
    let log = Arc::new(scene.log.clone());
    made.duties = Duties::new(log, lease.clone(), scene.clock.clone(), made.model.clone(), reprice, options);
    made
}

#[tokio::test]
async fn each_looks_after_the_groups_it_holds() {
    let scene = Scene::new();
    for number in 1..=40 {
        scene.create(number);
    }
    let lease = leases(&scene);
    let long = Span::from_secs(4 * 365 * 86_400);
    for group in 1..4 {
        lease.acquire(&format!("duties-{group}"), long).await.unwrap().unwrap();
    }
    let mut service = service(&scene, &lease, None).await;
    scene.wait(24 * 60);
    let own = (1..=40).filter(|number| order_id(*number).partition().is_multiple_of(4)).count();
    assert!(own > 0 && own < 40);
    assert_eq!(service.round(&scene).await, own);
}

#[tokio::test]
async fn a_lease_that_another_took_is_no_ones_to_act_under() {
    let scene = Scene::new();
    scene.create(1);
    let lease = leases(&scene);
    let mut service = hasty(&scene, &lease, None, Span::from_millis(400)).await;
    assert_eq!(service.round(&scene).await, 0);
    for group in 0..4 {
        let name = format!("duties-{group}");
        lease.revoke(&name);
        lease.acquire(&name, Span::from_secs(365 * 86_400)).await.unwrap().unwrap();
    }
    scene.wait(24 * 60);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(service.round(&scene).await, 0, "it was due to be renewed, and is another's");
}

/// Takes longer than a lease lasts, as a process does that is frozen meanwhile.
struct Slow;

impl Reprice for Slow {
    fn full_price(&self, _: &Order, quote: &QuoteState) -> Option<BaseUnits> {
        std::thread::sleep(std::time::Duration::from_millis(500));
        Some(quote.terms().full)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_decided_before_a_freeze_is_not_written_after_it() {
    let mut scene = Scene::new();
    scene.policy.late = LatePolicy::Reprice;
    scene.connect(block(100, 1));
    let order = scene.create(1);
    scene.quote(1);
    scene.wait(60);
    scene.seen(1, 1, 1000);
    let mut service = hasty(&scene, &leases(&scene), Some(Arc::new(Slow)), Span::from_millis(400)).await;
    assert_eq!(service.round(&scene).await, 0, "its lease ran out on the way");
    assert_eq!(last_fact(&scene, &order).0, "order.quoted");
}

#[tokio::test]
async fn a_watcher_is_asked_once_its_report_could_be_had() {
    let scene = Scene::new();
    scene.connect(block(100, 1));
    scene.create(1);
    scene.quote(1);
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut service = service(&scene, &leases(&scene), None).await;
    let count = asked.clone();
    service.duties = service.duties_asking(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    });
    let asked = || asked.load(std::sync::atomic::Ordering::SeqCst);
    scene.wait(20);
    service.round(&scene).await;
    assert_eq!(asked(), 0, "what reports now says nothing of the last half minute");
    scene.wait(1);
    service.round(&scene).await;
    assert_eq!(asked(), 1);
}

#[tokio::test]
async fn orders_whose_watchers_are_down_hold_nobody_up() {
    let scene = Scene::new();
    for number in 1..=2_001 {
        scene.create(number);
        scene.quote(number);
    }
    scene.wait(1);
    let order = scene.create(3_000);
    let mut service = service(&scene, &leases(&scene), None).await;
    scene.wait(24 * 60);
    let first = service.round(&scene).await;
    assert_eq!(first + service.round(&scene).await, 1, "the others wait for their chain");
    assert_eq!(service.status(&order).await, "expired");
}

/// There is a rate for one order only.
struct For(OrderId);

impl Reprice for For {
    fn full_price(&self, order: &Order, quote: &QuoteState) -> Option<BaseUnits> {
        (*order.id() == self.0).then_some(quote.terms().full)
    }
}

#[tokio::test]
async fn orders_without_a_rate_hold_no_late_money_up() {
    let mut scene = Scene::new();
    scene.policy.late = LatePolicy::Reprice;
    for number in 1..=2_001 {
        scene.create(number);
        scene.quote(number);
    }
    scene.wait(60);
    (1..=2_001).for_each(|number| scene.paid(number));
    let last = (1..=2_001).map(order_id).max_by_key(|id| crate::keys::awaiting(id).to_vec()).unwrap();
    let reprice: Arc<dyn Reprice> = Arc::new(For(last.clone()));
    let mut service = service(&scene, &leases(&scene), Some(reprice)).await;
    assert_eq!(service.round(&scene).await, 0, "so many have no rate");
    assert_eq!(service.round(&scene).await, 1, "its turn comes all the same");
    assert_eq!(
        (service.status(&last).await.as_str(), last_fact(&scene, &last).0.as_str()),
        ("paid", "order.accepted")
    );
}
