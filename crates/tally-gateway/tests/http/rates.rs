//! Public rates over HTTP: headers and errors. What a rate is, `tally-pricing` tests.

use axum::body::Body;
use axum::http::Request;
use tally_types::Span;

use crate::world::{World, ask};

#[tokio::test]
async fn the_bare_rate_is_a_number_with_its_particulars_in_headers() {
    let world = World::new().await;
    for (pair, rate) in [("BTC/USD", "65000"), ("btc/usd", "65000"), ("USD/CNY", "7.2"), ("ETH/ETH", "1")] {
        let answer = world.get(&format!("/rate/{pair}")).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, rate), "{pair}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("x-rate-timestamp"), "1750000000");
        assert!(answer.header("cache-control").contains("max-age"), "{answer:?}");
    }
    let answer = world.get("/rate/BTC/USD").await;
    assert_eq!(answer.header("x-rate-sources"), "coinbase,kraken");
    let tag = answer.header("etag");
    let request = Request::get("/rate/BTC/USD").header("if-none-match", tag).body(Body::empty()).unwrap();
    let unchanged = ask(&world.here.public, request).await;
    assert_eq!((unchanged.status, unchanged.text.as_str(), unchanged.header("etag")), (304, "", tag));
}

#[tokio::test]
async fn what_has_no_rate_gets_the_documented_error() {
    let world = World::new().await;
    for path in
        ["/rate/DOGE/USD", "/rate/BTC/U%20D", "/v1/rate/BTC/NOPE", "/rate/%3Cb%3E/USD", "/rate/%FF/USD"]
    {
        world.get(path).await.refused(404, "RecordNotFound");
    }
    world.clock.advance(Span::from_secs(3_600));
    let stale = world.get("/rate/BTC/USD").await;
    stale.refused(503, "RateUnavailable");
    assert_eq!(stale.header("retry-after"), "15");
    // Fiat rates hold longer, and one is one.
    assert_eq!(
        (world.get("/rate/USD/CNY").await.status, world.get("/rate/BTC/BTC").await.text),
        (200, "1".into())
    );
    assert_eq!(world.get("/v1/rates").await.status, 200);
}
