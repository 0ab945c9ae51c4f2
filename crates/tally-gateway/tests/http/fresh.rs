//! Answers are never from a fold that is behind: rather none, after a bounded wait.

use std::time::Duration;

use tally_events::Subject;
use tally_ports::Clock;
use tally_types::Position;
use tokio::time::{Instant, sleep};

use crate::world::{FORM, Fields, World, ask_get, ask_post};

#[tokio::test]
async fn a_fold_that_lags_answers_503_and_never_404() {
    let world = World::new().await;
    let mut lagging = world.side(2).await;
    lagging.halt_fold().await;
    let id = world.create("E1").await;
    let query = Fields::of(&[("transaction_id", &id)]).signed(world.merchant, &world.key).form();
    let own = Fields::of(&[("out_trade_id", "E1")]).signed(world.merchant, &world.key).form();
    let create = Fields::order("E1").signed(world.merchant, &world.key).form();
    for (path, form) in [
        ("/order/query", query.clone()),
        ("/order/query", own.clone()),
        ("/order/create", create),
        ("/order/checkout", query.clone()),
    ] {
        let asked = Instant::now();
        let answer = ask_post(&lagging.public, path, FORM, form).await;
        answer.refused(503, "ServiceUnavailable");
        assert_eq!(answer.header("retry-after"), "1");
        let waited = asked.elapsed();
        assert!((450..1_500).contains(&waited.as_millis()), "{path}: {waited:?}");
    }
    let page = ask_get(&lagging.public, &format!("/order/{id}")).await;
    assert_eq!((page.status, page.header("retry-after")), (503, "1"));
    ask_get(&lagging.public, &format!("/order/{id}/events")).await.refused(503, "ServiceUnavailable");
    let ready = ask_get(&lagging.public, "/readyz").await;
    assert_eq!((ready.status, ready.json()["ready"].as_bool()), (503, Some(false)));
    // An id that nobody has is known to be nobody's all the same.
    assert_eq!(ask_get(&lagging.public, "/order/1").await.status, 404);
    // Where the fold is up to date there is nothing to wait for.
    assert_eq!(world.post("/order/query", FORM, query).await.status, 200);
    assert_eq!(world.post("/order/query", FORM, own).await.status, 200);
}

#[tokio::test]
async fn what_another_instance_told_is_read_or_waited_for() {
    let world = World::new().await;
    let id = world.create("E1").await;
    world.checkout(&id, "BTC").await;
    let mut lagging = world.side(2).await;
    let query = Fields::of(&[("transaction_id", &id)]).signed(world.merchant, &world.key).form();
    let own = Fields::of(&[("out_trade_id", "E1")]).signed(world.merchant, &world.key).form();
    lagging.halt_fold().await;
    // A moment ago it had everything.
    let before = ask_post(&lagging.public, "/order/query", FORM, query.clone()).await;
    assert_eq!((before.status, before.text_of("status")), (200, "pending".into()));
    // Now the chain says something about the order, another instance folds it and notifies the merchant, who asks here.
    let payment = world.pay(&id, 100_000).await;
    assert_eq!(world.query(&id).await.text_of("status"), "paid");
    for (path, form) in [("/order/query", query), ("/order/query", own.clone()), ("/order/create", own)] {
        let form = if path == "/order/create" {
            Fields::order("E1").signed(world.merchant, &world.key).form()
        } else {
            form
        };
        ask_post(&lagging.public, path, FORM, form).await.refused(503, "ServiceUnavailable");
    }
    assert_eq!(ask_get(&lagging.public, &format!("/order/{id}")).await.status, 503);
    ask_get(&lagging.public, &format!("/order/{id}/events")).await.refused(503, "ServiceUnavailable");
    world.mine(&payment).await;
    assert_eq!(world.query(&id).await.text_of("status"), "confirmed");
}

#[tokio::test]
async fn once_orders_were_archived_a_fold_that_lags_knows_nobody_by_the_log_alone() {
    let world = World::new().await;
    let mut lagging = world.side(2).await;
    lagging.halt_fold().await;
    world.create("E1").await;
    assert_eq!(ask_get(&lagging.public, "/order/1").await.status, 404);
    let archived = tally_events::OrdersArchived {
        segment: 1,
        facts: 0,
        first: Position::START,
        last: Position::START,
        through: Position::START,
        digest: String::new(),
        orders: Vec::new(),
    };
    world.log.seed(vec![tally_events::Event::new(Subject::archive(), archived, world.clock.now())]);
    assert_eq!(ask_get(&lagging.public, "/order/1").await.status, 503, "it may be in the archive");
    world.folded().await;
    assert_eq!(world.get("/order/1").await.status, 404);
}

#[tokio::test]
async fn without_a_word_from_the_log_keys_open_nothing_after_two_seconds() {
    let world = World::new().await;
    let id = world.create("E1").await;
    world.line.cut(true);
    // What needs the log fails at once, and says that it will pass.
    let answer = world.query(&id).await;
    answer.refused(503, "ServiceUnavailable");
    assert!(!answer.header("retry-after").is_empty());
    let ready = world.get("/readyz").await;
    assert_eq!((ready.status, ready.json()["log"].as_bool()), (503, Some(false)));
    assert_eq!((world.get("/livez").await.status, world.get("/rate/BTC/USD").await.status), (200, 200));
    sleep(Duration::from_millis(2_200)).await;
    // Even a request that is refused without the log: nobody can say whether its key still opens anything.
    let unnamed = Fields::of(&[("pay_currency", "BTC")]);
    world.call("/order/checkout", unnamed.clone()).await.refused(503, "ServiceUnavailable");
    world.line.cut(false);
    world.call("/order/checkout", unnamed).await.refused(422, "OrderIsNotValid");
    assert_eq!(world.query(&id).await.status, 200);
}
