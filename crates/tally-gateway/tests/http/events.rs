//! Live status over server-sent events.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::Request;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::ServiceExt;

use crate::world::World;

/// A stream of an order's events as a browser reads it.
struct Events(BodyDataStream);

impl Events {
    async fn open(world: &World, order: &str) -> Self {
        let request = Request::get(format!("/order/{order}/events")).body(Body::empty()).unwrap();
        let response = world.here.public.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self(response.into_body().into_data_stream())
    }

    /// The next event's data; none at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let chunk = timeout(Duration::from_secs(5), self.0.next()).await.expect("no event")?.unwrap();
            let text = String::from_utf8(chunk.to_vec()).unwrap();
            if let Some(data) = text.lines().find_map(|line| line.strip_prefix("data: ")) {
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }
}

#[tokio::test]
async fn the_version_of_now_comes_first_and_then_every_later_one() {
    let world = World::new().await;
    let (id, other) = (world.create("E1").await, world.create("E2").await);
    let mut events = Events::open(&world, &id).await;
    let first = events.next().await.unwrap();
    assert_eq!(first, json!({ "order": id, "version": 1, "status": "new", "exception": "none" }));
    world.checkout(&other, "BTC").await;
    world.checkout(&id, "BTC").await;
    let next = events.next().await.unwrap();
    assert_eq!(
        (&next["version"], &next["status"], &next["order"]),
        (&json!(2), &json!("pending"), &json!(id))
    );
    let payment = world.pay(&id, 100_000).await;
    assert_eq!(events.next().await.unwrap()["status"], "paid");
    world.mine(&payment).await;
    assert_eq!(events.next().await.unwrap()["status"], "confirmed");
    // Whoever comes later begins with what is now.
    let mut late = Events::open(&world, &id).await;
    assert_eq!(late.next().await.unwrap()["status"], "confirmed");
    // Once the instance stops, streams end, so that a listener can close.
    world.here.stop.cancel();
    assert_eq!((events.next().await, late.next().await), (None, None));
}

#[tokio::test]
async fn streams_are_bounded_and_come_back() {
    let world = World::new().await;
    let id = world.create("E1").await;
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(Events::open(&world, &id).await);
    }
    let refused = world.get(&format!("/order/{id}/events")).await;
    refused.refused(429, "RateLimitException");
    assert!(!refused.header("retry-after").is_empty());
    let other = world.create("E2").await;
    held.push(Events::open(&world, &other).await);
    held.clear();
    Events::open(&world, &id).await;
}

#[tokio::test]
async fn nobodys_order_has_no_events() {
    let world = World::new().await;
    for id in ["1", "nonsense", "%20"] {
        world.get(&format!("/order/{id}/events")).await.refused(404, "OrderNotFound");
    }
}
