//! Rates over HTTP, from a table that the tests publish.

use axum::body::{Body, to_bytes};
use axum::http::Request as HttpRequest;
use tally_account::PolicyDefaults;
use tally_events::{AssetRate, DroppedSource, FiatRate, RatesPublished};
use tally_ports::Clock as _;
use tally_pricing::RateRules;
use tally_projector::{Options, Projector};
use tally_sign::MasterKey;
use tally_testkit::{ManualClock, MemoryLog, MemoryStore, SeededEntropy};
use tokio::sync::watch;
use tower::ServiceExt;

use super::*;
use crate::Gateway;

const START: i64 = 1_750_000_000;

/// A gateway whose rates the test publishes.
struct Shop {
    routes: Router,
    rates: watch::Sender<Arc<RateTable>>,
    clock: Arc<ManualClock>,
}

/// A reply, read whole.
struct Reply {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Shop {
    async fn open() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(START)));
        let log = Arc::new(MemoryLog::new());
        let store = Arc::new(MemoryStore::new());
        let projector = Projector::open(log.clone(), store, Options::default()).await.unwrap();
        let (rates, receiver) = watch::channel(Arc::new(RateTable::new(&RateRules::default())));
        let app = Arc::new(Gateway {
            log,
            model: projector.model(),
            rates: receiver,
            clock: clock.clone(),
            entropy: Arc::new(SeededEntropy::new(1)),
            chains: Vec::new(),
            public_url: "http://127.0.0.1".to_owned(),
            master: MasterKey::parse(&"07".repeat(32)).unwrap(),
            policy: PolicyDefaults::default(),
            admin_token: None,
            sandbox: false,
        });
        Self { routes: crate::public(app), rates, clock }
    }

    fn publish(&self, prices: &[(&str, &str)]) {
        let at = self.clock.now();
        let asset = |(name, usd): &(&str, &str)| AssetRate {
            asset: name.parse().unwrap(),
            usd: usd.parse().ok(),
            confidence: "1.5".parse().ok(),
            inconsistent: *usd == "disagree",
            at,
            sources: vec!["coinbase".to_owned(), "kraken".to_owned()],
            dropped: vec![DroppedSource { venue: "gemini".to_owned(), reason: "frozen".to_owned() }],
        };
        let fiat = |(name, per_eur): (&str, &str)| FiatRate {
            currency: name.parse().unwrap(),
            per_eur: per_eur.parse().unwrap(),
            at: at.minus(Span::from_secs(86_400)),
            sources: vec!["ecb".to_owned()],
        };
        let mut table = (**self.rates.borrow()).clone();
        table.apply(&RatesPublished {
            assets: prices.iter().map(asset).collect(),
            fiat: [("USD", "1.1506"), ("CNY", "7.9009")].map(fiat).to_vec(),
            at,
        });
        self.rates.send_replace(Arc::new(table));
    }

    async fn get(&self, path: &str) -> Reply {
        self.ask(path, &[]).await
    }

    async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = HttpRequest::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let from_here = axum::extract::ConnectInfo(std::net::SocketAddr::from(([127, 0, 0, 1], 9)));
        let request = request.extension(from_here).body(Body::empty()).unwrap();
        let response = self.routes.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Reply { status: parts.status.as_u16(), headers: parts.headers, body }
    }
}

#[tokio::test]
async fn the_bare_number_with_its_headers() {
    let shop = Shop::open().await;
    shop.publish(&[("BTC", "6612.41"), ("ETH", "225.135")]);
    for (path, text) in [
        ("/rate/BTC/USD", "6612.41"),
        ("/rate/xbt/rmb", "45405.86665"),
        ("/rate/ETH/btc", "0.03404734431"),
        ("/rate/BTC/BTC", "1"),
        ("/rate/USD/BTC", "0.0001512307918"),
        ("/rate/BTC/USD", "6612.41"),
    ] {
        let reply = shop.get(path).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, text), "{path}");
        assert_eq!(reply.header("content-type"), "application/json");
        assert_eq!(reply.header("cache-control"), "public, max-age=15");
        assert_eq!(reply.header("access-control-allow-origin"), "*");
    }
    let reply = shop.get("/rate/BTC/USD").await;
    assert_eq!(reply.header("x-rate-timestamp"), START.to_string());
    assert_eq!(reply.header("x-rate-sources"), "coinbase,kraken");
    assert_eq!(reply.header("x-rate-confidence"), "1.5");
    let tag = reply.header("etag").to_owned();
    for (condition, status) in
        [(tag.clone(), 304), (format!("\"x\", W/{tag}"), 304), ("*".into(), 304), ("\"x\"".into(), 200)]
    {
        let reply = shop.ask("/rate/BTC/USD", &[("if-none-match", &condition)]).await;
        assert_eq!((reply.status, reply.body.is_empty()), (status, status == 304), "{condition}");
        assert_eq!(reply.header("etag"), tag);
    }
}

#[tokio::test]
async fn never_200_without_a_rate() {
    let shop = Shop::open().await;
    assert_eq!(shop.get("/rate/BTC/USD").await.status, 503, "nothing published yet");
    let all = shop.get("/v1/rates").await;
    assert_eq!((all.status, all.header("retry-after")), (503, "15"), "not one rate: {}", all.body);
    shop.publish(&[("BTC", "6612.41"), ("ETH", "disagree"), ("LTC", "none")]);
    for (path, status, reason) in [
        ("/rate/DOGE/USD", 404, "RecordNotFound"),
        ("/rate/BTC/a.b", 404, "RecordNotFound"),
        ("/rate/BTC/ABCDEFGHIJKLM", 404, "RecordNotFound"),
        ("/rate/BTC/", 404, "RecordNotFound"),
        ("/rate/%42TC/USD", 404, "RecordNotFound"),
        ("/rate/ETH/USD", 503, "RateInconsistent"),
        ("/rate/BTC/ETH", 503, "RateInconsistent"),
        ("/rate/LTC/USD", 503, "RateUnavailable"),
        ("/v1/rate/LTC/USD", 503, "RateUnavailable"),
        ("/v1/rate/NIL/USD", 404, "RecordNotFound"),
    ] {
        let reply = shop.get(path).await;
        assert_eq!(reply.status, status, "{path}");
        assert!(reply.body.contains(reason), "{path}: {}", reply.body);
        assert_eq!(reply.header("retry-after").is_empty(), status == 404, "{path}");
        assert_eq!(reply.header("cache-control"), "no-store", "{path}");
        let open = if path == "/rate/BTC/" { "" } else { "*" };
        assert_eq!(reply.header("access-control-allow-origin"), open, "{path}");
    }
}

#[tokio::test]
async fn an_answer_made_ready_ends_with_its_rate() {
    let shop = Shop::open().await;
    shop.publish(&[("BTC", "100")]);
    assert_eq!(shop.get("/rate/BTC/USD").await.body, "100");
    shop.clock.advance(Span::from_secs(60));
    assert_eq!(shop.get("/rate/BTC/USD").await.status, 200);
    shop.clock.advance(Span::from_millis(1));
    assert_eq!(shop.get("/rate/BTC/USD").await.status, 503, "the answer is there, and too old");
    shop.publish(&[("BTC", "101")]);
    assert_eq!(shop.get("/rate/BTC/USD").await.body, "101");
    shop.clock.advance(Span::from_secs(30));
    shop.publish(&[("BTC", "disagree")]);
    assert_eq!(shop.get("/rate/BTC/USD").await.status, 503);
    assert_eq!(shop.get("/rate/USD/CNY").await.status, 200);
    shop.clock.advance(Span::from_secs(7 * 86_400));
    assert_eq!(shop.get("/rate/USD/CNY").await.status, 503);
}

#[tokio::test]
async fn all_pairs_and_all_particulars() {
    let shop = Shop::open().await;
    shop.publish(&[("BTC", "6612.41"), ("ETH", "disagree")]);
    let one: Value = serde_json::from_str(&shop.get("/v1/rate/BTC/CNY").await.body).unwrap();
    assert_eq!(one["rate"], "45405.86665");
    assert_eq!(one["dropped"][0], json!({ "venue": "gemini", "reason": "frozen" }));
    assert_eq!(one["legs"].as_array().unwrap().len(), 2);
    let all: Value = serde_json::from_str(&shop.get("/v1/rates").await.body).unwrap();
    assert_eq!(all["pairs"]["BTC"]["CNY"], "45405.86665");
    assert_eq!(all["pairs"]["USD"]["BTC"], "0.0001512307918");
    assert_eq!(all["pairs"]["ETH"], Value::Null);
    let eth = all["rates"].as_array().unwrap().iter().find(|rate| rate["from"] == "ETH").unwrap();
    assert_eq!(eth["error"], "RateInconsistent");
    shop.clock.advance(Span::from_secs(61));
    let all: Value = serde_json::from_str(&shop.get("/v1/rates").await.body).unwrap();
    assert_eq!(all["pairs"]["BTC"], Value::Null, "no stale pair among them");
}

#[tokio::test]
async fn a_page_for_people() {
    let shop = Shop::open().await;
    let empty = shop.get("/rates").await;
    assert!(empty.status == 200 && empty.body.contains("Nothing has been published yet"), "{}", empty.body);
    for price in ["65000", "65100", "65050.125"] {
        shop.clock.advance(Span::from_secs(120));
        shop.publish(&[("BTC", price), ("ETH", "disagree")]);
    }
    let page = shop.get("/rates").await;
    for part in [
        "65,050.12</a>",
        "class=\"up\"",
        "<svg class=\"spark\"",
        "+0.08 %",
        "<li>kraken</li>",
        "its book stands still while others move",
        "the venues disagree",
        "<th scope=\"row\">CNY</th>",
    ] {
        assert!(page.body.contains(part), "{part} in {}", page.body);
    }
    let euro = shop.get("/rates?in=eur").await;
    assert!(euro.body.contains("56,535.83"), "{}", euro.body);
    for (path, in_dollars) in [("/rates?in=%3Cb%3E", true), ("/rates?in=ETH", true), ("/rates?in", true)] {
        assert_eq!(shop.get(path).await.body.contains("Price in USD"), in_dollars, "{path}");
    }
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    for outside in ["http://", "https://", "<script", "style=", "url(", "@import"] {
        assert!(!page.body.contains(outside), "{outside}");
    }
    let css = shop.get("/assets/rates.css").await;
    assert!(css.status == 200 && css.header("content-type").starts_with("text/css"));
    assert!(!css.body.contains("url(") && !css.body.contains("@import"));
}

#[tokio::test]
async fn too_many_requests_are_refused_by_client() {
    let shop = Shop::open().await;
    shop.publish(&[("BTC", "100")]);
    let afar = [("x-forwarded-for", "203.0.113.9")];
    for _ in 0..501 {
        assert_eq!(shop.ask("/rate/BTC/USD", &afar).await.status, 200);
    }
    for path in ["/rate/BTC/USD", "/v1/rate/BTC/USD", "/v1/rates", "/rates"] {
        let reply = shop.ask(path, &afar).await;
        assert_eq!((reply.status, reply.header("retry-after")), (429, "1"), "{path}");
        assert!(reply.body.contains("RateLimitException"), "{}", reply.body);
    }
    assert_eq!(shop.get("/rate/BTC/USD").await.status, 200, "from this machine");
    assert_eq!(shop.ask("/rate/BTC/USD", &[("x-forwarded-for", "203.0.113.10")]).await.status, 200);
    shop.clock.advance(Span::from_millis(20));
    assert_eq!(shop.ask("/rate/BTC/USD", &afar).await.status, 200);
}
