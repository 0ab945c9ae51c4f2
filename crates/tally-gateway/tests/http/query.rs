//! `query`: by either id, one's own orders only, with the fields and types of the documentation.

use serde_json::json;

use crate::world::{Fields, World};

#[tokio::test]
async fn by_either_id_with_the_documented_fields() {
    let world = World::new().await;
    let id = world.create("E201809123").await;
    let fresh = world.query(&id).await.json();
    assert!(fresh.get("pay_amount").is_none() && fresh.get("pay_currency").is_none(), "{fresh}");
    assert_eq!(world.checkout(&id, "BTC").await.status, 200);
    let answer = world.query(&id).await;
    let body = answer.json();
    let address = world.order(&id).await.latest_quote().unwrap().terms().addresses[0].clone();
    for (member, expected) in [
        ("merchant_id", json!("10001")),
        ("out_trade_id", json!("E201809123")),
        ("pay_currency", json!("BTC")),
        ("price_currency", json!("USD")),
        ("attach", json!("additional info")),
        ("created_at", json!(1_750_000_000)),
        ("expire_at", json!(1_750_000_000 + 1_200)),
        ("transaction_id", json!(id)),
        ("status", json!("pending")),
        ("payment_address", json!(address)),
        ("exception", json!("none")),
        ("exceptions", json!([])),
        ("version", json!(2)),
    ] {
        assert_eq!(body[member], expected, "{member}");
    }
    for member in ["\"pay_amount\":0.001,", "\"price_amount\":65,", "\"received\":0"] {
        assert!(answer.text.contains(member), "{member}: {}", answer.text);
    }
    for fields in [
        Fields::of(&[("out_trade_id", "E201809123")]),
        Fields::of(&[("out_trade_id", "E201809123"), ("transaction_id", &id)]),
    ] {
        for path in ["/order/query", "/payment/query"] {
            assert_eq!(world.call(path, fields.clone()).await.text, answer.text);
        }
    }
}

#[tokio::test]
async fn orders_that_are_not_ones_own_are_nobodys() {
    let world = World::new().await;
    let id = world.create("E1").await;
    let (other, key) = world.shop(json!({})).await;
    for (name, fields) in [
        ("a foreign id", Fields::of(&[("transaction_id", &id)])),
        ("a foreign id and its own id", Fields::of(&[("transaction_id", &id), ("out_trade_id", "E1")])),
        ("a foreign id and another own id", Fields::of(&[("transaction_id", &id), ("out_trade_id", "E2")])),
        ("a foreign own id", Fields::of(&[("out_trade_id", "E1")])),
        ("no order's id", Fields::of(&[("transaction_id", "20250101000000123456789012")])),
        ("no id", Fields::of(&[("transaction_id", "../../etc/passwd")])),
        ("a very long id", Fields::of(&[("transaction_id", &"9".repeat(5_000))])),
        ("a very long own id", Fields::of(&[("out_trade_id", &"9".repeat(5_000))])),
        ("a wildcard", Fields::of(&[("out_trade_id", ">")])),
    ] {
        for path in ["/order/query", "/order/checkout"] {
            let fields = fields.clone().set("pay_currency", "BTC").signed(other, &key);
            let answer = world.send(path, &fields).await;
            assert!(!answer.refused(404, "OrderNotFound").is_empty(), "{name}");
        }
    }
    let neither = world.call("/order/query", Fields::of(&[])).await.refused(422, "OrderIsNotValid");
    assert!(neither.starts_with("transaction_id"), "{neither}");
    let both = Fields::of(&[("transaction_id", &id), ("out_trade_id", "E2")]);
    let message = world.call("/order/query", both).await.refused(422, "OrderIsNotValid");
    assert!(message.starts_with("out_trade_id"), "{message}");
    assert_eq!(world.count("order.quoted"), 0);
}

#[tokio::test]
async fn canceled_reads_as_expired() {
    let world = World::new().await;
    let id = world.create("E1").await;
    let canceled = world.admin("POST", &format!("/v1/admin/orders/{id}/cancel"), json!({})).await;
    assert_eq!((canceled.status, canceled.text_of("status")), (200, "canceled".into()));
    assert_eq!(world.query(&id).await.text_of("status"), "expired");
}
