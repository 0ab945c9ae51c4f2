use std::sync::Mutex;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request};
use tally_ports::Clock;
use tower::ServiceExt;

use super::*;
use crate::settings::SandboxSettings;

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_750_000_000)
    }
}

/// What the composition root was told.
type Told = Arc<Mutex<Vec<String>>>;

async fn face() -> (Router, Told) {
    let mut settings = SandboxSettings::four_chains(Arc::new(Noon), 7).unwrap();
    settings.chains.retain(|chain| matches!(chain.id.as_str(), "btc" | "eth"));
    let sandbox = Sandbox::start(settings).await.unwrap();
    let told = Told::default();
    let (advanced, rated) = (Arc::clone(&told), Arc::clone(&told));
    let controls = Controls {
        advance: Box::new(move |span| {
            advanced.lock().unwrap().push(format!("advance {}", span.millis()));
            Ok(Noon.now().plus(span))
        }),
        set_rate: Box::new(move |currency, price| {
            if currency.as_str() == "XXX" {
                return Err("XXX has no rate here".to_owned());
            }
            rated.lock().unwrap().push(format!("{currency} {price}"));
            Ok(())
        }),
    };
    (router(sandbox, controls), told)
}

async fn call(router: &Router, method: Method, path: &str, body: &str) -> (u16, Value) {
    let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn post_to(router: &Router, path: &str, body: Value) -> (u16, Value) {
    call(router, Method::POST, path, &body.to_string()).await
}

/// A key-hash address on Bitcoin's `regtest`, and one on Ethereum.
const BTC_ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const ETH_ADDRESS: &str = "0x1111111111111111111111111111111111111111";

#[tokio::test]
async fn a_life_over_http() {
    let (router, told) = face().await;
    let pay = json!({"chain": "btc", "address": BTC_ADDRESS, "amount": "0.0016"});
    let (status, paid) = post_to(&router, "/sandbox/pay", pay).await;
    assert_eq!(status, 200, "{paid}");
    let txid = paid["txid"].as_str().unwrap().to_owned();
    let (status, replaced) =
        post_to(&router, "/sandbox/replace", json!({"chain": "btc", "txid": txid})).await;
    assert_eq!(status, 200, "{replaced}");
    assert_ne!(replaced["txid"], json!(txid));
    let (status, mined) = post_to(&router, "/sandbox/mine", json!({"chain": "btc", "blocks": 2})).await;
    assert_eq!((status, &mined["height"]), (200, &json!(112)));
    let drop = json!({"chain": "btc", "depth": 2, "drop": [replaced["txid"]]});
    let (status, reorg) = post_to(&router, "/sandbox/reorg", drop).await;
    assert_eq!((status, &reorg["height"], &reorg["fork_height"]), (200, &json!(113), &json!(110)));
    assert_eq!(reorg["dropped"], json!([replaced["txid"]]));
    let usdt =
        json!({"chain": "eth", "address": ETH_ADDRESS, "amount": "5", "asset": "USDT", "mode": "contract"});
    assert_eq!(post_to(&router, "/sandbox/pay", usdt).await.0, 200);
    let (status, clock) = post_to(&router, "/sandbox/clock", json!({"advance": "20m"})).await;
    assert_eq!((status, clock), (200, json!({"now": "2025-06-15T15:26:40Z"})));
    let rates = json!({"BTC": "65000", "eth": "3000.50"});
    let (status, rates) = post_to(&router, "/sandbox/rate", rates).await;
    assert_eq!((status, rates), (200, json!({"BTC": "65000", "ETH": "3000.5"})));
    let fault = json!({"chain": "eth", "kind": "lag", "on": true});
    assert_eq!(post_to(&router, "/sandbox/fault", fault.clone()).await, (200, fault));
    assert_eq!(*told.lock().unwrap(), ["advance 1200000", "BTC 65000", "ETH 3000.50"]);
}

#[tokio::test]
async fn errors_name_the_fault() {
    let (router, told) = face().await;
    let nothing = "00".repeat(32);
    let rows = [
        (
            "no chain",
            "pay",
            json!({"address": "", "amount": "1"}),
            400,
            "bad_request",
            "missing field `chain`",
        ),
        (
            "a number",
            "pay",
            json!({"chain": "btc", "address": "", "amount": 1}),
            400,
            "bad_request",
            "expected a string",
        ),
        (
            "a stranger",
            "mine",
            json!({"chain": "btc", "block": 1}),
            400,
            "bad_request",
            "unknown field `block`",
        ),
        (
            "chain",
            "mine",
            json!({"chain": "x", "blocks": 1}),
            404,
            "unknown_chain",
            "\"x\" is not one of btc, eth",
        ),
        ("no blocks", "mine", json!({"chain": "btc", "blocks": 0}), 422, "bad_number_of_blocks", "0 blocks"),
        (
            "too many",
            "mine",
            json!({"chain": "btc", "blocks": 1001}),
            422,
            "bad_number_of_blocks",
            "1001 blocks",
        ),
        ("negative", "mine", json!({"chain": "btc", "blocks": -1}), 400, "bad_request", "`-1`"),
        (
            "too deep",
            "reorg",
            json!({"chain": "btc", "depth": 111}),
            422,
            "bad_number_of_blocks",
            "between 1 and 110",
        ),
        (
            "no txid",
            "reorg",
            json!({"chain": "btc", "depth": 1, "drop": ["zz"]}),
            400,
            "bad_request",
            "64 hexadecimal",
        ),
        (
            "unknown",
            "replace",
            json!({"chain": "btc", "txid": nothing}),
            404,
            "unknown_transaction",
            &nothing,
        ),
        (
            "address",
            "pay",
            json!({"chain": "btc", "address": "x", "amount": "1"}),
            422,
            "bad_address",
            "\"x\"",
        ),
        ("span", "clock", json!({"advance": "20 minutes"}), 422, "bad_span", "\"20 minutes\""),
        ("no span", "clock", json!({"advance": "0s"}), 422, "bad_span", "\"0s\""),
        ("an age", "clock", json!({"advance": "99999999d"}), 422, "bad_span", "\"99999999d\""),
        ("rate", "rate", json!({"BTC": "-1"}), 422, "bad_rate", "BTC"),
        ("no rate", "rate", json!({}), 422, "bad_rate", "no rate"),
        ("no currency", "rate", json!({"?": "1"}), 422, "bad_rate", "\"?\""),
        ("half a set", "rate", json!({"BTC": "1", "LTC": "x"}), 422, "bad_rate", "LTC"),
        ("refused", "rate", json!({"XXX": "1"}), 422, "refused", "XXX has no rate here"),
        (
            "fault",
            "fault",
            json!({"chain": "btc", "kind": "burn", "on": true}),
            422,
            "unknown_fault",
            "stall, lag",
        ),
    ];
    for (name, route, body, status, error, message) in rows {
        let (got, answer) = post_to(&router, &format!("/sandbox/{route}"), body).await;
        assert_eq!((got, &answer["error"]), (status, &json!(error)), "{name}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains(message), "{name}: {answer}");
    }
    assert_eq!(*told.lock().unwrap(), [""; 0], "nothing was half done");
    let (status, answer) = call(&router, Method::POST, "/sandbox/pay", "{").await;
    assert_eq!((status, &answer["error"]), (400, &json!("bad_request")));
    let (status, answer) = call(&router, Method::GET, "/sandbox/pay", "").await;
    assert_eq!((status, &answer["error"]), (405, &json!("method_not_allowed")));
}
