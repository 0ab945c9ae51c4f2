//! Duties: who may act, when, and that nobody acts twice.

use std::sync::Arc;

use tally_events::{Fact, LatePolicy, OrderCanceled, Subject};
use tally_order::{Order, QuoteState};
use tally_ports::ReadModel;
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
