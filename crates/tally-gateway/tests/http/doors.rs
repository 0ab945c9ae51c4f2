//! What stands around every route: health, unknown addresses, wrong methods, odd paths.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Request;
use futures::stream;
use serde_json::json;

use crate::world::{FORM, World, ask, ask_get};

#[tokio::test]
async fn health_is_told_on_both_listeners() {
    let world = World::new().await;
    for routes in [&world.here.public, &world.here.admin] {
        let live = ask_get(routes, "/livez").await;
        assert_eq!((live.status, live.text.as_str()), (200, "ok"));
        let ready = ask_get(routes, "/readyz").await;
        let body = ready.json();
        assert_eq!((ready.status, &body["ready"], &body["log"]), (200, &json!(true), &json!(true)));
        assert_eq!(body["chains"]["btc"]["usable"], json!(true));
        assert!(!ready.text.contains("token") && !ready.text.contains("key"), "{}", ready.text);
    }
}

#[tokio::test]
async fn unknown_addresses_and_wrong_methods_answer_in_json() {
    let world = World::new().await;
    for path in [
        "/",
        "/nothing",
        "/order",
        "/order/create/now",
        "/rate/BTC",
        "/v1/admin/orders",
        "//",
        "/order//events",
    ] {
        let answer = world.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        if !path.starts_with("/order//") {
            answer.refused(404, "RecordNotFound");
        }
    }
    for (method, path, allowed) in [
        ("GET", "/order/create", "POST"),
        ("PUT", "/order/query", "POST"),
        ("DELETE", "/order/checkout", "POST"),
        ("POST", "/order/1", "GET,HEAD"),
        ("POST", "/rate/BTC/USD", "GET,HEAD"),
        ("POST", "/livez", "GET,HEAD"),
    ] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let answer = ask(&world.here.public, request).await;
        answer.refused(405, "BadRequest");
        assert_eq!(answer.header("allow"), allowed, "{method} {path}");
    }
}

#[tokio::test]
async fn odd_addresses_do_no_harm() {
    let world = World::new().await;
    let long = format!("/order/{}", "9".repeat(5_000));
    world.get(&long).await.refused(414, "BadRequest");
    world.get(&format!("/v1/rates?{}", "x".repeat(5_000))).await.refused(414, "BadRequest");
    for path in ["/order/%FF", "/order/%C3%28/events", "/%80", "/rate/%FF/%FE"] {
        world.get(path).await.refused(404, "RecordNotFound");
    }
    for path in ["/order/%00", "/order/%2e%2e%2f", "/order/1%0d%0aSet-Cookie:x=1", "/order/9%2F9", "/order/*"]
    {
        let answer = world.get(path).await;
        assert_eq!((answer.status, answer.header("set-cookie")), (404, ""), "{path}");
    }
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let world = World::new().await;
    let drip = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from_static(b"a")), ()))
    });
    let message = world.post("/order/create", FORM, Body::from_stream(drip)).await.refused(400, "BadRequest");
    assert!(message.contains("in time"), "{message}");
}
