//! The demo merchant: made over the same APIs that a merchant uses.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tally_gateway::App;
use tally_sign::SignType;
use tower::ServiceExt;

/// Account keys of the mnemonic that BIP 39 prints as its first test vector: everybody knows its private
/// keys, so they are good for simulated coins only. One per chain: purpose 84 for BTC and LTC, 44 for BCH and ETH.
const WALLETS: [(&str, &str, Option<&str>, &str); 4] = [
    (
        "btc",
        "BTC",
        Some("p2wpkh"),
        "tpubDC8msFGeGuwnKG9Upg7DM2b4DaRqg3CUZa5g8v2SRQ6K4NSkxUgd7HsL2XVWbVm39yBA4LAxysQAm397zwQSQoQgewGiYZqrA9DsP4zbQ1M",
    ),
    (
        "ltc",
        "LTC",
        Some("p2wpkh"),
        "tpubDC8msFGeGuwnP2xwTZBBZSie1BLgRAkJhgzpFYTdpGgZNzguXQhNDVWp7mJbHJUjQQvV2myLU9dkx67a7VAUnzY7yT7nvhHj7FgS4oNivvq",
    ),
    (
        "bch",
        "BCH",
        Some("p2pkh"),
        "tpubDC5FSnBiZDMmhiuCmWAYsLwgLYrrT9rAqvTySfuCCrgsWz8wxMXUS9Tb9iVMvcRbvFcAHGkMD5Kx8koh4GquNGNTfohfk7pgjhaPCdXpoba",
    ),
    (
        "eth",
        "ETH",
        None,
        "xpub6DCoCpSuQZB2jawqnGMEPS63ePKWkwWPH4TU45Q7LPXWuNd8TMtVxRrgjtEshuqpK3mdhaWHPFsBngh5GFZaM6si3yZdUsT8ddYM3PwnATt",
    ),
];

/// The largest answer that is read.
const ANSWER_MAX: usize = 1024 * 1024;

/// The demo merchant, and an order to begin with.
pub(super) struct Demo {
    pub(super) merchant_id: u64,
    pub(super) api_key: String,
    pub(super) payscrypt_api_key: String,
    pub(super) wallets: BTreeMap<String, u64>,
    pub(super) checkout_url: String,
    /// A line that creates another order.
    pub(super) curl: String,
}

/// What is kept beside the data, so that a later start shows the same keys.
#[derive(Serialize, Deserialize)]
struct Kept {
    merchant_id: u64,
    api_key: String,
    payscrypt_api_key: String,
    wallets: BTreeMap<String, u64>,
}

/// Makes the demo merchant, or finds the one made before, and creates an order.
pub(super) async fn open(app: &App, token: &str, dir: &Path, http: &str) -> anyhow::Result<Demo> {
    let path = dir.join("demo.json");
    let kept = match std::fs::read(&path) {
        Ok(kept) => serde_json::from_slice(&kept).context("demo.json in the data folder cannot be read")?,
        Err(_) => {
            let kept = make(app, token).await?;
            let written = std::fs::write(&path, serde_json::to_vec_pretty(&kept)?);
            written.with_context(|| {
                // Half of it would be taken for the merchant of an earlier start.
                let _ = std::fs::remove_file(&path);
                format!("cannot write {}", path.display())
            })?;
            kept
        }
    };
    let Kept { merchant_id, api_key, payscrypt_api_key, wallets } = kept;
    let own_id = format!("demo-{}", app.clock.now().millis());
    let order = pairs(merchant_id, &api_key, http, &own_id);
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&order).finish();
    let request = Request::post("/order/create")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(body))?;
    let answer = ask(tally_gateway::public(app.clone()), request).await?;
    let checkout_url = answer["payment_url"].as_str().context("the demo order has no page")?.to_owned();
    let another = pairs(merchant_id, &api_key, http, &format!("{own_id}-2"));
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&another).finish();
    let curl = format!("curl -s {http}/order/create -d '{body}'");
    Ok(Demo { merchant_id, api_key, payscrypt_api_key, wallets, checkout_url, curl })
}

/// The demo shop's own end: it takes every notification.
pub(super) fn shop() -> axum::Router {
    axum::Router::new().route("/sandbox/notify", axum::routing::post(async || "ok"))
}

/// The pairs of a signed `create`.
fn pairs(merchant_id: u64, api_key: &str, http: &str, own_id: &str) -> Vec<(String, String)> {
    let fields = [
        ("merchant_id", merchant_id.to_string()),
        ("out_trade_id", own_id.to_owned()),
        ("price_currency", "USD".to_owned()),
        ("price_amount", "25".to_owned()),
        ("notify_url", format!("{http}/sandbox/notify")),
        ("callback_url", format!("{http}/rate/BTC/USD")),
        ("title", "A demo order".to_owned()),
    ];
    let mut pairs: Vec<_> = fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let sign = tally_sign::sign(&pairs, api_key, SignType::Md5);
    pairs.push(("sign".to_owned(), sign));
    pairs
}

async fn make(app: &App, token: &str) -> anyhow::Result<Kept> {
    let call = async |path: String, body: Value| {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))?;
        ask(tally_gateway::admin(app.clone()), request).await
    };
    let merchant = call("/v1/admin/merchants".into(), json!({ "name": "Demo shop" })).await?;
    let merchant_id = merchant["merchant_id"].as_u64().context("the demo merchant has no id")?;
    let mut keys = Vec::new();
    for face in ["deepay", "payscrypt"] {
        let key = call(format!("/v1/admin/merchants/{merchant_id}/keys"), json!({ "face": face })).await?;
        keys.push(key["api_key"].as_str().context("the demo key is missing")?.to_owned());
    }
    let mut wallets = BTreeMap::new();
    for (chain, coin, kind, key) in WALLETS {
        let body = json!({ "chain": chain, "type": kind, "public_key": key });
        let wallet = call(format!("/v1/admin/merchants/{merchant_id}/wallets"), body).await?;
        wallets.insert(coin.to_owned(), wallet["wallet"].as_u64().context("the demo wallet has no id")?);
    }
    let [api_key, payscrypt_api_key] =
        <[String; 2]>::try_from(keys).map_err(|_| anyhow::anyhow!("two keys"))?;
    Ok(Kept { merchant_id, api_key, payscrypt_api_key, wallets })
}

/// One request without a listener.
async fn ask(routes: axum::Router, request: Request<Body>) -> anyhow::Result<Value> {
    let path = request.uri().path().to_owned();
    let response = routes.oneshot(request).await?;
    let status = response.status();
    let body: Value = serde_json::from_slice(&to_bytes(response.into_body(), ANSWER_MAX).await?)?;
    if !status.is_success() {
        bail!("{path} answered {status}: {body}");
    }
    Ok(body)
}
