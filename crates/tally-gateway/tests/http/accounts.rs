//! The admin API: who may use it, merchants and their settings, keys that are shown once.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::world::{TOKEN, World, ask};

#[tokio::test]
async fn without_the_token_everything_is_401() {
    let world = World::new().await;
    let other = format!("Bearer {TOKEN}x");
    let good = format!("bearer {TOKEN}");
    for (name, header, status) in [
        ("no header", None, 401),
        ("another token", Some(other.as_str()), 401),
        ("no token", Some("Bearer "), 401),
        ("another scheme", Some("Basic YTpi"), 401),
        ("the token alone", Some(TOKEN), 401),
        ("the token", Some(good.as_str()), 200),
    ] {
        for path in ["/v1/admin/merchants", "/v1/admin/orders", "/v1/admin/merchants/10001"] {
            let request = Request::get(path);
            let request = match header {
                Some(header) => request.header("authorization", header),
                None => request,
            };
            let answer = ask(&world.here.admin, request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, status, "{name}");
            if status == 401 {
                answer.refused(401, "BadCredentials");
                assert_eq!(answer.header("www-authenticate"), "Bearer");
                assert!(!answer.text.contains(TOKEN));
            }
        }
    }
    // The public listener has none of it.
    world.get("/v1/admin/merchants").await.refused(404, "RecordNotFound");
}

#[tokio::test]
async fn merchants_are_made_changed_and_shown() {
    let world = World::new().await;
    let made = world.admin("POST", "/v1/admin/merchants", Value::Null).await;
    assert_eq!((made.status, &made.json()["merchant_id"]), (201, &json!(10_002)));
    let settings = json!({
        "name": "Café", "quote_secs": 600, "tolerance_percent": "0.5", "late": "accept", "reopen": true,
        "counts": { "btc": { "confirmed": 2, "complete": 12 } },
    });
    let changed = world.admin("PATCH", "/v1/admin/merchants/10002", settings.clone()).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    // They are shown as they are given.
    let mut shown = changed.json()["settings"].clone();
    shown["counts"]["btc"].as_object_mut().unwrap().remove("thresholds");
    assert_eq!(shown, settings);
    let shown = world.admin("GET", "/v1/admin/merchants/10002", Value::Null).await;
    assert_eq!(shown.text, changed.text);
    assert_eq!(shown.json()["settings"]["name"], "Café");
    let list = world.admin("GET", "/v1/admin/merchants", Value::Null).await.json();
    assert_eq!(list["merchants"].as_array().unwrap().len(), 2);
    for (name, settings) in [
        ("a spread beyond reason", json!({ "spread_percent": "51" })),
        ("a quote too short", json!({ "quote_secs": 1 })),
        ("a quote for ever", json!({ "quote_secs": u64::MAX })),
        ("a negative tolerance", json!({ "tolerance_absolute": "-1" })),
        ("an unknown setting", json!({ "colour": "red" })),
        ("a setting of another type", json!({ "reopen": "yes" })),
        ("an unknown policy", json!({ "late": "never" })),
        ("a name too long", json!({ "name": "x".repeat(201) })),
        ("a name with a line break", json!({ "name": "a\nb" })),
        ("counts of another chain", json!({ "counts": { "doge": { "confirmed": 1, "complete": 2 } } })),
        ("counts that make no sense", json!({ "counts": { "btc": { "confirmed": 3, "complete": 2 } } })),
    ] {
        for (method, path) in [("POST", "/v1/admin/merchants"), ("PATCH", "/v1/admin/merchants/10002")] {
            let answer = world.admin(method, path, settings.clone()).await;
            assert!(!answer.refused(422, "OrderIsNotValid").is_empty(), "{name}");
        }
    }
    world.admin("GET", "/v1/admin/merchants/10999", Value::Null).await.refused(404, "RecordNotFound");
    world.admin("PATCH", "/v1/admin/merchants/10999", json!({})).await.refused(404, "RecordNotFound");
}

#[tokio::test]
async fn bodies_that_cannot_be_read_get_the_documented_error() {
    let world = World::new().await;
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(70_000));
    for (name, kind, body, status) in [
        ("broken", "application/json", "{\"name\":".to_owned(), 400),
        ("a list", "application/json", "[]".to_owned(), 422),
        ("no JSON", "application/json", "name=x".to_owned(), 400),
        ("a form", "application/x-www-form-urlencoded", "name=x".to_owned(), 400),
        ("no kind", "", "{}".to_owned(), 400),
        ("a key twice", "application/json", "{\"name\":\"a\",\"name\":\"b\"}".to_owned(), 422),
        ("too large", "application/json", large, 400),
        ("with parameters", "Application/JSON; charset=utf-8", "{}".to_owned(), 201),
    ] {
        let answer = world.admin_raw("POST", "/v1/admin/merchants", kind, body).await;
        match status {
            201 => assert_eq!(answer.status, 201, "{name}: {answer:?}"),
            400 => assert!(!answer.refused(400, "BadRequest").is_empty(), "{name}"),
            _ => assert!(!answer.refused(422, "OrderIsNotValid").is_empty(), "{name}"),
        }
    }
    for path in
        ["/v1/admin/merchants/abc", "/v1/admin/merchants/-1", "/v1/admin/merchants/99999999999999999999"]
    {
        world.admin("GET", path, Value::Null).await.refused(404, "RecordNotFound");
    }
    for path in ["/v1/admin/orders/abc", "/v1/admin/merchants/10001/wallets/x/addresses"] {
        world.admin("GET", path, Value::Null).await.refused(404, "RecordNotFound");
    }
    world.admin("GET", "/v1/admin/orders/%FF", Value::Null).await.refused(404, "RecordNotFound");
    world.admin("PUT", "/v1/admin/merchants", json!({})).await.refused(405, "BadRequest");
    world.admin("GET", "/v1/admin/nothing", Value::Null).await.refused(404, "RecordNotFound");
}

#[tokio::test]
async fn a_key_is_shown_once_and_stored_sealed_or_hashed() {
    let world = World::new().await;
    let path = format!("/v1/admin/merchants/{}/keys", world.merchant);
    let mut secrets = vec![world.key.clone()];
    for face in ["deepay", "payscrypt"] {
        let made = world.admin("POST", &path, json!({ "face": face })).await;
        assert_eq!((made.status, made.header("cache-control")), (201, "no-store"));
        let secret = made.text_of("api_key");
        assert!(secret.ends_with(&made.text_of("hint")));
        secrets.push(secret);
    }
    let shown = world.admin("GET", &path, Value::Null).await;
    assert_eq!(shown.json()["keys"].as_array().unwrap().len(), 3);
    let merchant = world.admin("GET", &format!("/v1/admin/merchants/{}", world.merchant), Value::Null).await;
    let log: String = world
        .log
        .facts()
        .iter()
        .map(|fact| fact.event.to_json().map(|json| String::from_utf8(json).unwrap()).unwrap())
        .collect();
    for secret in &secrets {
        for text in [&shown.text, &merchant.text, &log] {
            assert!(!text.contains(secret.as_str()));
        }
    }
    for body in [json!({}), json!({ "face": "paypal" }), json!({ "face": "deepay", "secret": "mine" })] {
        world.admin("POST", &path, body).await.refused(422, "OrderIsNotValid");
    }
    let none = "/v1/admin/merchants/10999/keys";
    world.admin("POST", none, json!({ "face": "deepay" })).await.refused(404, "RecordNotFound");
}

#[tokio::test]
async fn a_merchant_cannot_outgrow_what_a_read_model_holds() {
    let world = World::new().await;
    let path = format!("/v1/admin/merchants/{}/keys", world.merchant);
    let mut made = 0;
    let refused = loop {
        let answer = world.admin("POST", &path, json!({ "face": "deepay" })).await;
        if answer.status != 201 {
            break answer;
        }
        made += 1;
        assert!(made < 1_000, "no end of keys");
    };
    refused.refused(422, "OrderIsNotValid");
    assert!(made > 100, "only {made} keys");
    // The fold goes on.
    world.create("E1").await;
}
