//! What answers say once money has arrived.

use serde_json::json;
use tally_types::Span;

use crate::world::{Fields, World};

#[tokio::test]
async fn a_payment_moves_the_order_through_its_states() {
    let world = World::new().await;
    let id = world.create("E1").await;
    world.checkout(&id, "BTC").await;
    let payment = world.pay(&id, 100_000).await;
    let paid = world.query(&id).await;
    assert_eq!((paid.text_of("status"), paid.json()["version"].as_u64()), ("paid".into(), Some(3)));
    assert!(paid.text.contains("\"received\":0.001"), "{}", paid.text);
    // Covered, it takes no other quote, and cannot be called off.
    let message = world.checkout(&id, "LTC").await.refused(422, "OrderIsNotValid");
    assert!(message.contains("paid"), "{message}");
    let cancel = format!("/v1/admin/orders/{id}/cancel");
    world.admin("POST", &cancel, json!({})).await.refused(422, "OrderIsNotValid");
    world.mine(&payment).await;
    assert_eq!(world.query(&id).await.text_of("status"), "confirmed");
    world.grow("btc", 5).await;
    assert_eq!(world.query(&id).await.text_of("status"), "complete");
    let public = world.admin("GET", &format!("/v1/admin/orders/{id}"), json!(null)).await.json();
    assert_eq!((&public["status"], &public["confirmations"]), (&json!("complete"), &json!(6)));
    assert_eq!(public["deposits"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn after_a_part_the_next_quote_is_for_the_rest() {
    let world = World::new().await;
    let id = world.create("E1").await;
    world.checkout(&id, "BTC").await;
    world.pay(&id, 60_000).await;
    let part = world.query(&id).await;
    assert_eq!(part.text_of("status"), "pending");
    assert!(part.text.contains("\"pay_amount\":0.001,") && part.text.contains("\"received\":0.0006"));
    // 40 % of 0.8125 LTC.
    let rest = world.checkout(&id, "LTC").await;
    assert!(rest.text.contains("\"pay_amount\":0.325,"), "{}", rest.text);
    assert!(rest.text.contains("\"received\":0}") || rest.text.contains("\"received\":0,"), "{}", rest.text);
    // The live quote in BTC is answered as it was made, with what arrived in BTC.
    let first = world.checkout(&id, "BTC").await;
    assert!(first.text.contains("\"pay_amount\":0.001,") && first.text.contains("\"received\":0.0006"));
    world.pay(&id, 32_500_000).await;
    assert_eq!(world.query(&id).await.text_of("status"), "paid");
}

#[tokio::test]
async fn late_money_waits_for_a_person() {
    let world = World::new().await;
    let id = world.create("E1").await;
    world.checkout(&id, "BTC").await;
    world.wait(Span::from_secs(1_300)).await;
    let accept = format!("/v1/admin/orders/{id}/accept");
    let nothing = world.admin("POST", &accept, json!({})).await.refused(422, "OrderIsNotValid");
    assert!(nothing.contains("no late deposit"), "{nothing}");
    world.pay(&id, 100_000).await;
    let late = world.query(&id).await.json();
    assert_eq!((&late["exception"], &late["exceptions"]), (&json!("paid_late"), &json!(["paid_late"])));
    world.admin("POST", &accept, json!({ "by": "" })).await.refused(422, "OrderIsNotValid");
    world.admin("POST", &accept, json!({ "who": "x" })).await.refused(422, "OrderIsNotValid");
    let accepted = world.admin("POST", &accept, json!({ "by": "Ada" })).await;
    assert_eq!((accepted.status, accepted.text_of("status")), (200, "paid".into()));
    assert_eq!(world.query(&id).await.json()["exception"], "none");
}

#[tokio::test]
async fn overpaid_says_so() {
    let world = World::new().await;
    let id = world.create("E1").await;
    world.checkout(&id, "BTC").await;
    world.pay(&id, 150_000).await;
    let body = world.query(&id).await.json();
    assert_eq!((&body["status"], &body["exception"]), (&json!("paid"), &json!("overpaid")));
    // The same fields are signed whatever the state: a retry of `create` still finds the order.
    assert_eq!(world.call("/order/create", Fields::order("E1")).await.text_of("transaction_id"), id);
}
