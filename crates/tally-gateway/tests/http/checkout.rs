//! `checkout`: the quote, its refusals, and addresses that are given out once.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use serde_json::json;
use tally_account::PolicyDefaults;
use tally_events::{Event, OrderExpired, Subject};
use tally_order::Status;
use tally_ports::Clock;
use tally_pricing::{RateRules, RateTable};
use tally_types::Span;

use crate::world::{FORM, Fields, World, ask_post};

#[tokio::test]
async fn the_answer_has_the_documented_fields() {
    let world = World::new().await;
    let id = world.create("E1").await;
    world.clock.advance(Span::from_secs(5));
    let answer = world.checkout(&id, "BTC").await;
    let body = answer.json();
    assert_eq!(answer.status, 200, "{answer:?}");
    for (member, expected) in [
        ("payment_url", json!(format!("https://pay.example/order/{id}"))),
        ("price_currency", json!("USD")),
        ("transaction_id", json!(id)),
        ("pay_currency", json!("BTC")),
        ("status", json!("pending")),
        ("created_at", json!(1_750_000_000)),
        ("expire_at", json!(1_750_000_000 + 5 + 1_200)),
        ("attach", json!("additional info")),
        ("exception", json!("none")),
        ("version", json!(2)),
        // The first address of the published test phrase's account 0 on regtest (BIP 84 has it for mainnet).
        ("payment_address", json!("bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk")),
    ] {
        assert_eq!(body[member], expected, "{member}");
    }
    for member in ["\"price_amount\":65,", "\"pay_amount\":0.001,", "\"received\":0"] {
        assert!(answer.text.contains(member), "{member}: {}", answer.text);
    }
}

#[tokio::test]
async fn every_coin_at_its_rate_and_its_own_address() {
    let world = World::new().await;
    let id = world.create("E1").await;
    let mut addresses = BTreeSet::new();
    for (currency, due, prefix) in [
        ("BTC", "0.001", "bcrt1q"),
        ("ltc", "0.8125", "rltc1q"),
        ("BCC", "0.1625", "bchreg:q"),
        ("ETH", "0.0203125", "0x"),
        ("USDT", "65", "0x"),
    ] {
        let answer = world.checkout(&id, currency).await;
        assert_eq!(answer.status, 200, "{currency}: {answer:?}");
        assert!(answer.text.contains(&format!("\"pay_amount\":{due},")), "{currency}: {}", answer.text);
        let address = answer.text_of("payment_address");
        assert!(address.starts_with(prefix), "{currency}: {address}");
        addresses.insert(address);
    }
    // ETH and its token share a key, and still have an address each.
    assert_eq!(addresses.len(), 5);
    // A live quote is answered again, whatever the rate does meanwhile.
    world.rates.send_replace(Arc::new(RateTable::new(&RateRules::default())));
    let again = world.checkout(&id, "BTC").await;
    assert!(again.text.contains("\"pay_amount\":0.001,"), "{}", again.text);
    assert_eq!((world.count("order.quoted"), world.count("key.allocated")), (5, 5));
}

#[tokio::test]
async fn the_spread_is_added_and_the_rest_rounded_up() {
    let world = World::with(PolicyDefaults::default(), json!({ "spread_percent": "1.5" })).await;
    for (own_id, amount, due) in [("E1", "65", "0.001015"), ("E2", "10.0001", "0.00015616")] {
        let answer = world.call("/order/create", Fields::order(own_id).set("price_amount", amount)).await;
        let answer = world.checkout(&answer.text_of("transaction_id"), "BTC").await;
        assert!(answer.text.contains(&format!("\"pay_amount\":{due},")), "{}", answer.text);
    }
}

#[tokio::test]
async fn what_cannot_be_quoted_leaves_the_order_as_it_was() {
    let world = World::new().await;
    let id = world.create("E1").await;
    for (field, value, needle) in [
        ("pay_currency", "", "pay_currency: is missing"),
        ("pay_currency", "B!", "pay_currency"),
        ("pay_currency", "CNY", "CNY is not enabled; possible are: BTC, LTC, BCH, ETH, USDT"),
        ("pay_currency", "DOGE", "is not enabled"),
        ("email", "nobody", "email"),
        ("email", "a@b.example\r\nbcc: c@d.example", "email"),
    ] {
        let fields = Fields::of(&[("transaction_id", &id), ("pay_currency", "BTC")]).set(field, value);
        let message = world.call("/order/checkout", fields).await.refused(422, "OrderIsNotValid");
        assert!(message.contains(needle), "{message}");
    }
    // A merchant takes only what there is a wallet for.
    let (other, key) = world.shop(json!({})).await;
    let created = world.send("/order/create", &Fields::order("E1").signed(other, &key)).await;
    let fields = Fields::of(&[("out_trade_id", "E1"), ("pay_currency", "BTC")]).signed(other, &key);
    let message = world.send("/order/checkout", &fields).await.refused(422, "OrderIsNotValid");
    assert!(message.starts_with("pay_currency") && message.ends_with("no wallet yet"), "{message}");
    assert_eq!(created.status, 200);
    // Less than the network carries: 999 satoshi of 1,000.
    let dust = world.call("/order/create", Fields::order("E2").set("price_amount", "0.64935")).await;
    let message =
        world.checkout(&dust.text_of("transaction_id"), "BTC").await.refused(422, "OrderIsNotValid");
    assert!(message.contains("0.00000999 BTC") && message.contains("0.00001"), "{message}");
    assert_eq!(world.checkout(&dust.text_of("transaction_id"), "LTC").await.status, 200);
    // More than can be held.
    let nines = "9999999999999999999999999999";
    let huge = world.call("/order/create", Fields::order("E3").set("price_amount", nines)).await;
    let huge = world.checkout(&huge.text_of("transaction_id"), "ETH").await;
    assert!(matches!(huge.status, 200 | 422), "{huge:?}");
    let email = Fields::of(&[("transaction_id", &id), ("pay_currency", "BTC"), ("email", "a@b.example")]);
    assert_eq!(world.call("/order/checkout", email).await.status, 200);
}

#[tokio::test]
async fn without_a_rate_or_a_watcher_it_is_503_and_nothing_happens() {
    let world = World::new().await;
    let id = world.create("E1").await;
    let facts = world.log.facts().len();
    world.rates.send_replace(Arc::new(RateTable::new(&RateRules::default())));
    let answer = world.checkout(&id, "BTC").await;
    answer.refused(503, "RateUnavailable");
    assert_eq!(answer.header("retry-after"), "15");

    // Rates are back, and everybody fell silent a minute ago.
    world.rates.send_replace(Arc::new(crate::world::table(&*world.clock)));
    world.clock.advance(Span::from_secs(61));
    world.rates.send_replace(Arc::new(crate::world::table(&*world.clock)));
    world.observe("ltc");
    world.folded().await;
    let answer = world.checkout(&id, "BTC").await;
    let message = answer.refused(503, "ChainUnavailable");
    assert!(message.contains("btc") && answer.header("retry-after") == "30", "{answer:?}");
    assert_eq!(world.order(&id).await.status(), Status::New);
    assert_eq!(world.log.facts().len(), facts + 1);
    assert_eq!(world.checkout(&id, "LTC").await.status, 200);
}

#[tokio::test]
async fn an_expired_order_is_quoted_again_only_where_that_is_allowed() {
    for (reopen, status) in [(false, 422), (true, 200)] {
        let world = World::with(PolicyDefaults { reopen, ..PolicyDefaults::default() }, json!({})).await;
        let id = world.create("E1").await;
        let first = world.checkout(&id, "BTC").await;
        world.wait(Span::from_secs(1_260)).await;
        // Its time has run out, whether or not that was said already.
        let before = world.checkout(&id, "LTC").await;
        assert_eq!(before.status, status, "reopen {reopen}: {before:?}");
        let id = world.create("E2").await;
        world.checkout(&id, "BTC").await;
        world.wait(Span::from_secs(1_260)).await;
        let order = world.order(&id).await;
        let expired = OrderExpired { order: order.id().clone(), deadline: order.expire_at() };
        world.log.seed(vec![Event::new(Subject::order(order.id()), expired, world.clock.now())]);
        world.folded().await;
        assert_eq!(world.query(&id).await.text_of("status"), "expired");
        let again = world.checkout(&id, "BTC").await;
        if reopen {
            assert_eq!((again.status, again.text_of("status")), (200, "pending".into()));
            assert_ne!(again.text_of("payment_address"), first.text_of("payment_address"));
        } else {
            let message = again.refused(422, "OrderIsNotValid");
            assert!(message.contains("expired"), "{message}");
        }
        // After its limit as a new order nothing opens it.
        world.wait(Span::from_secs(86_400)).await;
        world.checkout(&id, "BTC").await.refused(422, "OrderIsNotValid");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_once_every_order_gets_an_address_of_its_own() {
    let world = World::new().await;
    let other = world.side(2).await;
    let mut forms = Vec::new();
    for number in 0..64 {
        let id = world.create(&format!("E{number}")).await;
        let fields = Fields::of(&[("transaction_id", &id), ("pay_currency", "BTC")]);
        forms.push(fields.signed(world.merchant, &world.key).form());
    }
    let requests = forms.iter().enumerate().map(|(number, form)| {
        let routes = if number % 4 == 0 { &other.public } else { &world.here.public };
        ask_post(routes, "/order/checkout", FORM, form.clone())
    });
    let answers = futures::future::join_all(requests).await;
    let addresses: HashSet<String> = answers
        .iter()
        .map(|answer| {
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.text_of("payment_address")
        })
        .collect();
    assert_eq!((addresses.len(), world.count("key.allocated"), world.count("order.quoted")), (64, 64, 64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_once_one_order_gets_one_quote_in_a_currency() {
    let world = World::new().await;
    let id = world.create("E1").await;
    let other = world.side(2).await;
    let fields = Fields::of(&[("transaction_id", &id), ("pay_currency", "BTC")]);
    let form = fields.signed(world.merchant, &world.key).form();
    let requests = (0..32).map(|number| {
        let routes = if number % 2 == 0 { &other.public } else { &world.here.public };
        ask_post(routes, "/order/checkout", FORM, form.clone())
    });
    let answers = futures::future::join_all(requests).await;
    let addresses: HashSet<String> = answers.iter().map(|answer| answer.text_of("payment_address")).collect();
    assert_eq!((addresses.len(), world.count("key.allocated")), (1, 1));
}
