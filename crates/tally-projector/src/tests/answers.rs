//! What the read model answers.

use tally_events::{DeliveryOutcome, Subject};
use tally_ports::{DeadlineKind, OrderFilter, ReadModel};
use tally_testkit::{chain_id, order_id, script};
use tally_types::{Face, MerchantId, Position, Span};

use super::scene::{MERCHANT, START, Scene, block, deposit_key, fingerprint};

#[tokio::test]
async fn everything_is_found_by_what_names_it() {
    let scene = Scene::new();
    let order = scene.create(7);
    scene.quote(7);
    scene.connect(block(100, 1));
    scene.mined(3, 7, 1000, block(101, 1));
    scene.connect(block(101, 1));
    scene.connect(block(103, 1));
    let model = scene.model().await;
    let btc = chain_id("btc");
    assert_eq!(model.order_by_own_id(MERCHANT, Face::Deepay, "E7").await.unwrap(), Some(order.clone()));
    assert_eq!(model.order_by_own_id(MERCHANT, Face::Payscrypt, "E7").await.unwrap(), None);
    assert_eq!(model.order_by_script(&btc, &script(7)).await.unwrap(), Some((order.clone(), 1)));
    assert_eq!(model.order_by_deposit(&btc, &deposit_key(3)).await.unwrap(), Some(order.clone()));
    assert_eq!(model.order_by_deposit(&btc, &deposit_key(4)).await.unwrap(), None);
    let found = model.order(&order).await.unwrap().unwrap();
    assert_eq!((found.status().as_str(), found.confirmations()), ("confirmed", 3));
    assert_eq!(model.order(&order_id(8)).await.unwrap(), None);
    let merchant = model.merchant(MERCHANT).await.unwrap().unwrap();
    assert_eq!(merchant.settings().name.as_deref(), Some("tea"));
    assert_eq!(model.merchants().await.unwrap(), [merchant]);
    assert_eq!(model.merchant(MerchantId::new(1)).await.unwrap(), None);
    let counter = model.key_counter(&fingerprint()).await.unwrap().unwrap();
    assert_eq!((counter.next_index(), counter.allocated()), (8, 1));
    let view = model.chain(&btc).await.unwrap().unwrap();
    assert_eq!((view.tip, view.observed_at), (block(103, 1), START));
    assert_eq!(model.chain(&chain_id("ltc")).await.unwrap(), None);
    for fact in scene.log.facts().iter().filter(|fact| fact.event.subject.aggregate() != "chain") {
        let last = scene.log.facts_on(&fact.event.subject).last().unwrap().position;
        assert_eq!(model.subject_position(&fact.event.subject).await.unwrap(), last);
    }
    assert_eq!(model.subject_position(&Subject::order(&order_id(8))).await.unwrap(), Position::START);
    assert_eq!(found.own_position(), model.subject_position(&found.subject()).await.unwrap());
}

#[tokio::test]
async fn orders_are_listed_newest_first_in_pages() {
    let scene = Scene::new();
    for number in 1..=7 {
        scene.create(number);
        scene.wait(1);
    }
    scene.quote(3);
    scene.quote(5);
    let model = scene.model().await;
    let list = async |filter: OrderFilter, limit: usize| -> Vec<String> {
        let orders = model.orders(&filter, limit).await.unwrap();
        orders.iter().map(|order| order.id().to_string()).collect()
    };
    assert_eq!(list(OrderFilter::default(), 3).await, ["7", "6", "5"]);
    let next = OrderFilter { before: Some(order_id(5)), ..OrderFilter::default() };
    assert_eq!(list(next.clone(), 3).await, ["4", "3", "2"]);
    assert_eq!(list(OrderFilter { merchant: Some(MERCHANT), ..next }, 9).await, ["4", "3", "2", "1"]);
    let pending = OrderFilter { status: Some("pending".into()), ..OrderFilter::default() };
    assert_eq!(list(pending, 9).await, ["5", "3"]);
    let other = OrderFilter { merchant: Some(MerchantId::new(9)), ..OrderFilter::default() };
    assert!(list(other, 9).await.is_empty());
    let face = OrderFilter { face: Some(Face::Payscrypt), ..OrderFilter::default() };
    assert!(list(face, 9).await.is_empty());
}

#[tokio::test]
async fn versions_come_in_log_order_and_whole_facts() {
    let scene = Scene::new();
    scene.connect(block(100, 1));
    for number in 1..=3 {
        scene.create(number);
        scene.quote(number);
        scene.mined(number as u8, number, 1000, block(101, 1));
    }
    scene.connect(block(101, 1));
    let model = scene.model().await;
    let all = model.versions(Position::START, 100).await.unwrap();
    let told: Vec<String> = all
        .iter()
        .map(|reached| {
            let public = reached.order.public(reached.version);
            format!("{} v{} {}", public.id, public.version, public.status)
        })
        .collect();
    let expected = [
        "1 v1 new",
        "1 v2 pending",
        "2 v1 new",
        "2 v2 pending",
        "3 v1 new",
        "3 v2 pending",
        "1 v3 confirmed",
        "2 v3 confirmed",
        "3 v3 confirmed",
    ];
    assert_eq!(told, expected);
    assert!(all.windows(2).all(|pair| pair[0].position <= pair[1].position));
    let count = async |after: Position, limit| model.versions(after, limit).await.unwrap().len();
    assert_eq!(count(Position::START, 7).await, 6, "not a part of the block's three");
    assert_eq!(count(all[5].position, 2).await, 3, "the block's three are more than the limit");
    assert_eq!(count(all[8].position, 10).await, 0);
}

#[tokio::test]
async fn a_version_is_due_until_a_delivery_covers_it() {
    let scene = Scene::new();
    let order = scene.create(1);
    let due = async |scene: &Scene| -> Vec<(u32, Option<u32>)> {
        let model = scene.model().await;
        let now = tally_ports::Clock::now(&*scene.clock);
        let due = model.undelivered(&[order.partition()], now, 10).await.unwrap();
        due.iter().map(|due| (due.order.version(), due.last.as_ref().map(|last| last.version))).collect()
    };
    assert_eq!(due(&scene).await, [(1, None)]);
    let model = scene.model().await;
    assert_eq!(model.backlog().await.unwrap(), 1);
    let elsewhere = (order.partition() + 1) % 64;
    assert!(model.undelivered(&[elsewhere], START, 10).await.unwrap().is_empty());
    scene.deliver(&order, 1, DeliveryOutcome::Acknowledged);
    assert!(due(&scene).await.is_empty());
    assert_eq!(scene.model().await.backlog().await.unwrap(), 0);
    scene.quote(1);
    assert_eq!(due(&scene).await, [(2, Some(1))]);
    let next_at = START.plus(Span::from_secs(60));
    scene.deliver(&order, 2, DeliveryOutcome::Failed { reason: "500".into(), next_at });
    assert!(due(&scene).await.is_empty(), "the next attempt is ahead");
    scene.wait(1);
    assert_eq!(due(&scene).await, [(2, Some(2))]);
    scene.deliver(
        &order,
        2,
        DeliveryOutcome::Failed { reason: "500".into(), next_at: next_at.plus(Span::from_secs(3600)) },
    );
    scene.seen(1, 1, 1000);
    assert_eq!(due(&scene).await, [(3, Some(2))], "a newer version starts over");
    scene.deliver(&order, 2, DeliveryOutcome::Acknowledged);
    assert_eq!(due(&scene).await, [(3, Some(2))], "an older one does not cover it");
    scene.deliver(&order, 3, DeliveryOutcome::Abandoned { reason: "gone".into() });
    assert!(due(&scene).await.is_empty());
    assert_eq!(scene.model().await.backlog().await.unwrap(), 0);
}

#[tokio::test]
async fn those_waiting_longest_come_first() {
    let scene = Scene::new();
    for number in 1..=6 {
        scene.create(number);
        scene.wait(1);
    }
    let model = scene.model().await;
    let all: Vec<u8> = (0..64).collect();
    let now = tally_ports::Clock::now(&*scene.clock);
    let due = model.undelivered(&all, now, 4).await.unwrap();
    let ids: Vec<&str> = due.iter().map(|due| due.order.id().as_str()).collect();
    assert_eq!(ids, ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn deadlines_follow_the_order() {
    let scene = Scene::new();
    let order = scene.create(1);
    let far = START.plus(Span::from_secs(400 * 86_400));
    let next = async |scene: &Scene| {
        let model = scene.model().await;
        let all = model.deadlines(far, 10).await.unwrap();
        all.iter().map(|next| (next.kind, next.at.since(START).secs())).collect::<Vec<_>>()
    };
    assert_eq!(next(&scene).await, [(DeadlineKind::Expiry, 86_400)]);
    scene.quote(1);
    assert_eq!(next(&scene).await, [(DeadlineKind::Expiry, 1_200)]);
    scene.seen(1, 1, 1000);
    assert_eq!(next(&scene).await, [(DeadlineKind::Invalidation, 86_400)]);
    scene.connect(block(100, 1));
    scene.mined(1, 1, 1000, block(101, 1));
    scene.connect(block(101, 1));
    assert_eq!(next(&scene).await, []);
    scene.connect(block(106, 1));
    assert_eq!(next(&scene).await, [(DeadlineKind::Unwatch, 90 * 86_400)]);
    let model = scene.model().await;
    assert!(model.deadlines(START, 10).await.unwrap().is_empty());
    assert_eq!(model.deadlines(far, 10).await.unwrap()[0].order, order);
}
