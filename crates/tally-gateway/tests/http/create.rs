//! `create`: answers, field rules, and one order for one `out_trade_id`.

use std::collections::HashSet;

use tally_events::{ApiKeyCreated, Event, KeySecret, Subject};
use tally_ports::Clock;
use tally_sign::{MasterKey, Secret};
use tally_types::{Face, MerchantId};

use crate::world::{FORM, Fields, World, ask_post};

#[tokio::test]
async fn the_answer_has_the_documented_fields() {
    let world = World::new().await;
    let answer = world.call("/order/create", Fields::order("E1").set("price_amount", "10.0001000")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let body = answer.json();
    let id = answer.text_of("transaction_id");
    assert_eq!(body["payment_url"], format!("https://pay.example/order/{id}"));
    assert_eq!((body["price_currency"].as_str(), body["status"].as_str()), (Some("USD"), Some("new")));
    assert_eq!((body["created_at"].as_i64(), body["version"].as_i64()), (Some(1_750_000_000), Some(1)));
    assert_eq!((body["exception"].as_str(), body["exceptions"].as_array().unwrap().len()), (Some("none"), 0));
    // As literal text: a number without quotes, without zeros at its end.
    assert!(answer.text.contains("\"price_amount\":10.0001,"), "{}", answer.text);
    assert!(answer.text.contains("\"received\":0"), "{}", answer.text);
    // 1750000000 is 2025-06-15 15:06:40 UTC: 23:06:40 in UTC+8. Then at least twelve random digits.
    assert!(id.starts_with("20250615230640") && id.len() >= 26, "{id}");
    assert!(id.bytes().all(|byte| byte.is_ascii_digit()));
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn the_published_vector_creates_an_order() {
    let world = World::new().await;
    // A merchant whose key is that of the documentation, sealed as keys are.
    let merchant = MerchantId::new(world.merchant);
    let secret = Secret::new("192006250b4c09247ec02edce69f6a2d");
    let sealed =
        tally_sign::seal(&MasterKey::from_bytes([7; 32]), "deepay-key/10001/2", [9; 24], &secret).unwrap();
    let created = ApiKeyCreated {
        merchant,
        key: 2,
        face: Face::Deepay,
        secret: KeySecret::Sealed(sealed),
        hint: "6a2d".into(),
    };
    world.log.seed(vec![Event::new(Subject::merchant(merchant), created, world.clock.now())]);
    let fields = Fields::of(&[
        ("merchant_id", "10001"),
        ("out_trade_id", "E201809123"),
        ("price_currency", "CNY"),
        ("price_amount", "10.0001"),
        ("notify_url", "http://example.com/notify"),
        ("callback_url", "http://example.com/"),
        ("title", "iPhone X"),
        ("attach", "additional info"),
        ("sign", "09272BCD5FE6F3E71A9D13F9DC7D1642"),
    ]);
    let answer = world.send("/order/create", &fields).await;
    assert_eq!((answer.status, answer.json()["price_amount"].to_string()), (200, "10.0001".into()));
    // The same as JSON, the amount as a number: its literal text is what was signed.
    let again = world.post("/order/create", "application/json", fields.json(&["price_amount"])).await;
    assert_eq!(again.text_of("transaction_id"), answer.text_of("transaction_id"));
}

#[tokio::test]
async fn every_field_has_its_rule() {
    let world = World::new().await;
    let long = "x".repeat(3_000);
    for (name, field, value) in [
        ("no own id", "out_trade_id", ""),
        ("own id too long", "out_trade_id", &long[..129]),
        ("own id with a control character", "out_trade_id", "a\u{0}b"),
        ("no currency", "price_currency", ""),
        ("unknown currency", "price_currency", "DOGE"),
        ("no currency at all", "price_currency", "U$D"),
        ("no amount", "price_amount", ""),
        ("no notify_url", "notify_url", ""),
        ("notify_url of another scheme", "notify_url", "ftp://shop.example/"),
        ("notify_url without a host", "notify_url", "http://"),
        ("notify_url with a line break", "notify_url", "http://shop.example/\n"),
        ("notify_url too long", "notify_url", &format!("http://shop.example/{}", &long[..2_040])),
        ("no callback_url", "callback_url", ""),
        ("callback_url that is a script", "callback_url", "javascript:alert(1)"),
        ("callback_url that is data", "callback_url", "data:text/html,x"),
        ("no title", "title", ""),
        ("title too long", "title", &long[..513]),
        ("attach too long", "attach", &long[..2_049]),
    ] {
        let answer = world.call("/order/create", Fields::order("E1").set(field, value)).await;
        let message = answer.refused(422, "OrderIsNotValid");
        assert!(message.starts_with(field), "{name}: {message}");
    }
    assert_eq!(world.count("order.created"), 0);
    // What may be left out, and currencies without a rate.
    let without = world.call("/order/create", Fields::order("E2").without("attach")).await;
    assert_eq!(without.status, 200);
    for (number, currency) in
        ["CNY", "USD", "EUR", "ETH", "BTC", "LTC", "BCH", "usd", "JPY", "RMB"].iter().enumerate()
    {
        let fields = Fields::order(&format!("C{number}")).set("price_currency", currency);
        assert_eq!(world.call("/order/create", fields).await.status, 200, "{currency}");
    }
}

#[tokio::test]
async fn unknown_fields_are_signed_and_otherwise_ignored() {
    let world = World::new().await;
    let fields = Fields::order("E1").set("shop_version", "2.1").set("Z", "最后").set("empty", "");
    assert_eq!(world.call("/order/create", fields.clone()).await.status, 200);
    // Added after signing, they break the sign; empty ones do not count.
    let signed = Fields::order("E2").signed(world.merchant, &world.key);
    world.send("/order/create", &signed.clone().set("extra", "1")).await.refused(401, "BadCredentials");
    assert_eq!(world.send("/order/create", &signed.set("extra", "")).await.status, 200);
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused() {
    let world = World::new().await;
    let signed = Fields::order("E1").signed(world.merchant, &world.key);
    let twice = format!("{}&title=other", signed.form());
    let message = world.post("/order/create", FORM, twice).await.refused(422, "OrderIsNotValid");
    assert!(message.contains("title"), "{message}");
    let twice = format!("{},\"title\":\"other\"}}", signed.json(&[]).trim_end_matches('}'));
    world.post("/order/create", "application/json", twice).await.refused(422, "OrderIsNotValid");

    for field in ["title", "attach", "out_trade_id"] {
        let fields = Fields::order("E1").set(field, "x&price_amount=1");
        let message = world.call("/order/create", fields).await.refused(422, "OrderIsNotValid");
        assert!(message.contains(field), "{message}");
    }
    // Harmless ampersands pass.
    let fields = Fields::order("E3").set("title", "salt & pepper&co=1");
    assert_eq!(world.call("/order/create", fields).await.status, 200);
    // A notification that we signed is no request.
    let replayed = Fields::order("E4").set("status", "complete").set("pay_amount", "1");
    world.call("/order/create", replayed).await.refused(401, "BadCredentials");
    assert_eq!(world.count("order.created"), 1);
}

#[tokio::test]
async fn bodies_that_are_none_are_refused() {
    let world = World::new().await;
    let form = Fields::order("E1").signed(world.merchant, &world.key);
    let large = format!("{}&pad={}", form.form(), "x".repeat(64 * 1024));
    for (name, kind, body, status, reason) in [
        ("too large", FORM, large.clone(), 400, "BadRequest"),
        ("far too large", FORM, "x".repeat(3 * 1024 * 1024), 400, "BadRequest"),
        ("XML", "text/xml", "<a/>".into(), 400, "BadRequest"),
        ("multipart", "multipart/form-data; boundary=x", form.form(), 400, "BadRequest"),
        ("broken JSON", "application/json", "{\"a\":".into(), 400, "BadRequest"),
        ("a JSON list", "application/json", "[1]".into(), 400, "BadRequest"),
        ("deep JSON", "application/json", "[".repeat(40_000), 400, "BadRequest"),
        ("JSON within JSON", "application/json", "{\"a\":{}}".into(), 422, "OrderIsNotValid"),
        ("nothing", FORM, String::new(), 400, "CredentialsMissing"),
        ("nothing of no kind", "", String::new(), 400, "CredentialsMissing"),
        ("a form of no kind", "", form.form(), 200, ""),
    ] {
        let answer = world.post("/order/create", kind, body).await;
        if status == 200 {
            assert_eq!(answer.status, 200, "{name}: {answer:?}");
        } else {
            assert!(!answer.refused(status, reason).is_empty(), "{name}");
        }
    }
}

#[tokio::test]
async fn the_same_request_again_answers_the_same_order() {
    let world = World::new().await;
    let id = world.create("E1").await;
    for (name, fields) in [
        ("the same", Fields::order("E1")),
        ("the amount written otherwise", Fields::order("E1").set("price_amount", "65.000")),
        ("the currency written otherwise", Fields::order("E1").set("price_currency", "usd")),
        ("an unknown field more", Fields::order("E1").set("nonce", "7")),
    ] {
        let answer = world.call("/order/create", fields).await;
        assert_eq!((answer.status, answer.text_of("transaction_id")), (200, id.clone()), "{name}");
    }
    for (field, value) in [
        ("price_amount", "65.01"),
        ("price_currency", "EUR"),
        ("title", "Three tins"),
        ("attach", "other"),
        ("attach", ""),
        ("notify_url", "https://shop.example/other"),
        ("callback_url", "https://shop.example/other"),
    ] {
        let answer = world.call("/order/create", Fields::order("E1").set(field, value)).await;
        let message = answer.refused(422, "OrderIsNotValid");
        assert!(message.starts_with("out_trade_id"), "{field}: {message}");
    }
    // A checked out order is still the same one.
    assert_eq!(world.checkout(&id, "BTC").await.status, 200);
    let answer = world.call("/payment/create", Fields::order("E1")).await;
    assert_eq!((answer.text_of("transaction_id"), answer.text_of("status")), (id, "pending".into()));
    // Another merchant's ids are another matter.
    let (other, key) = world.shop(serde_json::json!({})).await;
    let answer = world.send("/order/create", &Fields::order("E1").signed(other, &key)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(world.count("order.created"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_once_over_two_gateways_it_is_one_order() {
    let world = World::new().await;
    let other = world.side(2).await;
    let form = Fields::order("E1").signed(world.merchant, &world.key).form();
    let requests = (0..64).map(|number| {
        let routes = if number % 2 == 0 { &world.here.public } else { &other.public };
        ask_post(routes, "/order/create", FORM, form.clone())
    });
    let answers = futures::future::join_all(requests).await;
    let ids: HashSet<String> = answers
        .iter()
        .map(|answer| {
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.text_of("transaction_id")
        })
        .collect();
    assert_eq!((ids.len(), world.count("order.created"), world.count("claim.claimed")), (1, 1, 1));
}

#[tokio::test]
async fn an_order_whose_random_id_is_taken_gets_another() {
    let world = World::new().await;
    // Both gateways draw the same random numbers, and the second finds its first draw taken.
    let (first, second) = (world.side(5).await, world.side(5).await);
    let create = |own_id: &str| Fields::order(own_id).signed(world.merchant, &world.key).form();
    let one = ask_post(&first.public, "/order/create", FORM, create("E1")).await;
    let two = ask_post(&second.public, "/order/create", FORM, create("E2")).await;
    assert_eq!((one.status, two.status), (200, 200));
    assert_ne!(one.text_of("transaction_id"), two.text_of("transaction_id"));
}

#[tokio::test]
async fn after_a_lost_answer_the_same_request_finds_the_order() {
    let world = World::new().await;
    world.log.lose_acks(1);
    let lost = world.call("/order/create", Fields::order("E1")).await;
    lost.refused(503, "ServiceUnavailable");
    assert!(!lost.header("retry-after").is_empty());
    world.create("E1").await;
    world.log.fail_appends(1);
    world.call("/order/create", Fields::order("E2")).await.refused(503, "ServiceUnavailable");
    assert_eq!(world.count("order.created"), 1);
}
