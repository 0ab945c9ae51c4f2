//! Orders as operators list and command them.

use serde_json::{Value, json};
use tally_types::Span;

use crate::world::World;

#[tokio::test]
async fn orders_are_listed_newest_first_and_page_by_page() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.insert(0, world.create(&format!("E{number}")).await);
        world.clock.advance(Span::from_secs(1));
    }
    let mut seen = Vec::new();
    let mut before = String::new();
    loop {
        let path = format!("/v1/admin/orders?limit=2{before}");
        let page = world.admin("GET", &path, Value::Null).await.json();
        let orders = page["orders"].as_array().unwrap();
        assert!(orders.len() <= 2);
        seen.extend(orders.iter().map(|order| order["id"].as_str().unwrap().to_owned()));
        match page["next_before"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    world.checkout(&ids[0], "BTC").await;
    for (query, count) in [
        ("status=pending", 1),
        ("status=new", 4),
        ("merchant=10001", 5),
        ("merchant=10002", 0),
        ("face=payscrypt", 0),
        ("before=1", 0),
        ("limit=0", 1),
        ("limit=100000", 5),
    ] {
        let page = world.admin("GET", &format!("/v1/admin/orders?{query}"), Value::Null).await.json();
        assert_eq!(page["orders"].as_array().unwrap().len(), count, "{query}");
    }
    for query in ["status=paidish", "face=paypal", "merchant=x", "before=x", "limit=-1", "colour=red"] {
        let answer = world.admin("GET", &format!("/v1/admin/orders?{query}"), Value::Null).await;
        assert!(!answer.refused(422, "OrderIsNotValid").is_empty(), "{query}");
    }
}

#[tokio::test]
async fn orders_are_canceled_once() {
    let world = World::new().await;
    let id = world.create("E1").await;
    world.checkout(&id, "BTC").await;
    let cancel = format!("/v1/admin/orders/{id}/cancel");
    let canceled = world.admin("POST", &cancel, Value::Null).await;
    assert_eq!((canceled.status, canceled.text_of("status")), (200, "canceled".into()));
    let again = world.admin("POST", &cancel, Value::Null).await.refused(422, "OrderIsNotValid");
    assert!(again.contains("canceled"), "{again}");
    world.checkout(&id, "LTC").await.refused(422, "OrderIsNotValid");
    for path in ["/v1/admin/orders/1/cancel", "/v1/admin/orders/1/accept"] {
        world.admin("POST", path, json!({})).await.refused(404, "OrderNotFound");
    }
    world.admin("GET", "/v1/admin/orders/1", Value::Null).await.refused(404, "OrderNotFound");
    let accept = format!("/v1/admin/orders/{id}/accept");
    world.admin("POST", &accept, json!({})).await.refused(422, "OrderIsNotValid");
}

#[tokio::test]
async fn an_order_shows_where_its_rate_came_from() {
    let world = World::new().await;
    let id = world.create("E1").await;
    world.checkout(&id, "BTC").await;
    let shown = world.admin("GET", &format!("/v1/admin/orders/{id}"), Value::Null).await.json();
    let quote = &shown["quotes"][0];
    assert_eq!(quote["rate_sources"], json!(["coinbase", "kraken"]), "{shown}");
    assert_eq!(quote["rate_at"], quote["quoted_at"], "{shown}");
}
