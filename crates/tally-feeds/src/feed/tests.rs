//! What every venue's fixtures come to, and a venue that misbehaves over real HTTP.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tally_pricing::TickPrice;
use tally_types::Span;

use super::*;
use crate::registry::{Feeds, VENUES};
use crate::venues::*;

const NOW: Timestamp = Timestamp::from_secs(1_711_700_000);

macro_rules! fixture {
    ($path:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/", $path))
    };
}

/// Reads one answer, and prints what it came to: `BTC/USD 1 2`, `EUR/USD 1`, `! fault`.
fn read(spec: &'static VenueSpec, body: &str) -> Vec<String> {
    let pair = match spec.calls {
        Calls::Together(_) | Calls::Listed(..) => None,
        Calls::PerPair(..) => spec.pairs.first(),
    };
    let mut sheet = Sheet::new(Venue::named(spec.name), spec.pairs, NOW);
    let read = (spec.read)(body, pair, &mut sheet);
    let poll = sheet.into_poll();
    let mut lines = print(&poll);
    lines.extend(read.err().map(|error| format!("!! {error}")));
    lines
}

fn print(poll: &Poll) -> Vec<String> {
    let ticks = poll.ticks.iter().map(|tick| {
        let time = tick.venue_time.map(|time| format!(" @{}", time.millis())).unwrap_or_default();
        match tick.price {
            TickPrice::Book { bid, ask } => {
                format!("{}/{} {} {}{time}", tick.base, tick.quote, bid.normalize(), ask.normalize())
            }
            TickPrice::Last(last) => format!("{}/{} {}{time}", tick.base, tick.quote, last.normalize()),
        }
    });
    let fiat =
        poll.fiat.iter().map(|tick| format!("{}/{} {} {}", tick.base, tick.quote, tick.rate, tick.as_of));
    let faults = poll.faults.iter().map(|fault| format!("! {fault}"));
    ticks.chain(fiat).chain(faults).collect()
}

#[test]
fn books_are_read_from_every_venue() {
    let usdt = ["BTC/USDT 65010.1 65010.3", "ETH/USDT 3200.6 3200.8", "LTC/USDT 80.02 80.04"];
    let rest = ["BCH/USDT 450.2 450.4", "USDC/USDT 1.0002 1.0003"];
    assert_eq!(read(&binance::VENUE, fixture!("binance/book.json")), [&usdt[..], &rest[..]].concat());
    let dated: Vec<_> = usdt.iter().chain(&rest).map(|line| format!("{line} @1597026383085")).collect();
    assert_eq!(read(&okx::VENUE, fixture!("okx/tickers.json")), dated);
    assert_eq!(read(&kucoin::VENUE, fixture!("kucoin/level1.json")), ["BTC/USDT 65010.1 65010.3"]);
    assert_eq!(read(&coinbase::VENUE, fixture!("coinbase/ticker.json")), ["BTC/USD 65000.11 65000.31"]);
    assert_eq!(read(&gemini::VENUE, fixture!("gemini/ticker.json")), ["BTC/USD 65000.12 65000.32"]);
    assert_eq!(
        read(&kraken::VENUE, fixture!("kraken/ticker.json")),
        [
            "BCH/USD 450.1 450.3",
            "USDT/USD 0.9997 0.9998",
            "ETH/USD 3200.1 3200.3",
            "LTC/USD 80.01 80.03",
            "BTC/EUR 60100.1 60100.3",
            "BTC/USD 65000.1 65000.3",
        ]
    );
    assert_eq!(
        read(&bitstamp::VENUE, fixture!("bitstamp/ticker.json")),
        [
            "BTC/USD 65000 65001",
            "ETH/USD 3200 3200.2",
            "LTC/USD 80.01 80.03",
            "BCH/USD 450.1 450.3",
            "USDT/USD 0.9997 0.9998",
            "USDC/USD 0.9999 1",
        ]
    );
    assert_eq!(
        read(&bitfinex::VENUE, fixture!("bitfinex/tickers.json")),
        [
            "BTC/USD 65000 65001",
            "ETH/USD 3200.1 3200.3",
            "LTC/USD 80.01 80.03",
            "BCH/USD 450.1 450.3",
            "USDT/USD 0.9997 0.9998",
        ]
    );
}

#[test]
fn averages_and_fiat_are_read() {
    assert_eq!(
        read(&coingecko::VENUE, fixture!("coingecko/price.json")),
        [
            "BTC/USD 65000.123456789012345 @1711356300000",
            "ETH/USD 3200.2 @1711356301000",
            "LTC/USD 80.02 @1711356302000",
            "! bitcoin-cash: no usd",
        ]
    );
    assert_eq!(
        read(&ecb::VENUE, fixture!("ecb/daily.xml")),
        [
            "EUR/USD 1.0811 2024-03-28T14:00:00Z",
            "EUR/JPY 163.45 2024-03-28T14:00:00Z",
            "EUR/GBP 0.85510 2024-03-28T14:00:00Z",
            "EUR/CNY 7.8144 2024-03-28T14:00:00Z",
            "! XXX: \"N/A\" is not a number that a price can be",
        ]
    );
    assert_eq!(
        read(&frankfurter::VENUE, fixture!("frankfurter/latest.json")),
        [
            "USD/CNY 7.2282 2024-03-28T14:00:00Z",
            "USD/EUR 0.92498 2024-03-28T14:00:00Z",
            "USD/GBP 0.79096 2024-03-28T14:00:00Z",
            "USD/JPY 151.19 2024-03-28T14:00:00Z",
            "! XXX: rate: \"null\" is not a number that a price can be",
        ]
    );
}

#[test]
fn one_bad_pair_costs_no_other() {
    assert_eq!(
        read(&kraken::VENUE, fixture!("kraken/one-bad.json")),
        [
            "BTC/USD 65000.1 65000.3",
            "! BCHUSD: not a ticker",
            "! XETHZUSD: ask: \"n/a\" is not a number that a price can be",
            "! XLTCZUSD: no bid",
        ]
    );
    assert_eq!(read(&kraken::VENUE, fixture!("kraken/warning.json")), ["BTC/USD 65000.1 65000.3"]);
    assert_eq!(read(&coinbase::VENUE, fixture!("coinbase/no-bid.json")), ["! BTC-USD: no bid"]);
    assert_eq!(
        read(&binance::VENUE, fixture!("binance/crossed.json")),
        ["BTC/USDT 65010.3 65010.1", "ETH/USDT 3200.1 3200.3"],
        "whether it counts is not the venue's business"
    );
}

#[test]
fn errors_with_status_200_are_errors() {
    let page = "answered a web page instead of data";
    for (spec, body, expected) in [
        (&kraken::VENUE, fixture!("kraken/error.json"), "answered the error \"EQuery:Unknown asset pair\""),
        (
            &kraken::VENUE,
            fixture!("kraken/limited.json"),
            "too many requests: \"EGeneral:Too many requests\"",
        ),
        (&coinbase::VENUE, fixture!("coinbase/error.json"), "answered the error \"NotFound\""),
        (&bitstamp::VENUE, fixture!("bitstamp/error.json"), "answered the error \"Service unavailable\""),
        (&gemini::VENUE, fixture!("gemini/error.json"), "\"Received an unsupported symbol\""),
        (&bitfinex::VENUE, fixture!("bitfinex/error.json"), "symbols: invalid"),
        (&binance::VENUE, fixture!("binance/error.json"), "answered the error \"Invalid symbol.\""),
        (&okx::VENUE, fixture!("okx/error.json"), "\"51001 Instrument ID does not exist\""),
        (&okx::VENUE, fixture!("okx/limited.json"), "too many requests"),
        (&kucoin::VENUE, fixture!("kucoin/error.json"), "\"400100 symbol is invalid\""),
        (&kucoin::VENUE, fixture!("kucoin/limited.json"), "too many requests"),
        (&kucoin::VENUE, fixture!("kucoin/no-pair.json"), "answered without data"),
        (&coingecko::VENUE, fixture!("coingecko/error.json"), "API Key Missing"),
        (&frankfurter::VENUE, fixture!("frankfurter/error.json"), "answered the error \"not found\""),
        (&kraken::VENUE, fixture!("page.html"), page),
        (&coinbase::VENUE, fixture!("page.html"), page),
        (&bitstamp::VENUE, fixture!("page.html"), page),
        (&gemini::VENUE, fixture!("page.html"), page),
        (&bitfinex::VENUE, fixture!("page.html"), page),
        (&binance::VENUE, fixture!("page.html"), page),
        (&okx::VENUE, fixture!("page.html"), page),
        (&kucoin::VENUE, fixture!("page.html"), page),
        (&coingecko::VENUE, fixture!("page.html"), page),
        (&frankfurter::VENUE, fixture!("page.html"), page),
        (&ecb::VENUE, fixture!("ecb/page.html"), "answered"),
    ] {
        let lines = read(spec, body);
        assert!(lines.len() == 1 && lines[0].contains(expected), "{}: {lines:?}", spec.name);
    }
}

#[test]
fn nonsense_is_an_error_never_a_panic() {
    for spec in VENUES {
        for body in [
            "",
            "null",
            "[]",
            "{}",
            "0",
            "\"\"",
            "[[]]",
            "[{}]",
            "{\"result\":[]}",
            "<Cube rate='1' currency='A'/>",
        ] {
            let lines = read(spec, body);
            assert!(lines.iter().all(|line| line.starts_with('!')), "{} {body}: {lines:?}", spec.name);
        }
    }
}

/// A server on loopback that is many venues at once.
async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

fn open(venue: &str, url: &str) -> Arc<dyn PriceFeed> {
    Feeds::new(Span::from_secs(10)).unwrap().open(venue, Some(url), Some("CG-key")).unwrap()
}

#[tokio::test]
async fn venues_over_http() {
    let products = |Path(product): Path<String>| async move {
        match product.as_str() {
            "BTC-USD" => fixture!("coinbase/ticker.json").into_response(),
            "LTC-USD" => (StatusCode::NOT_FOUND, fixture!("coinbase/error.json")).into_response(),
            "BCH-USD" => fixture!("page.html").into_response(),
            "ETH-USD" => "{\"bid\":\"2\",\"ask\":\"x\"}".into_response(),
            _ => StatusCode::BAD_GATEWAY.into_response(),
        }
    };
    let limited = || async { (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "7")], "") };
    let router = Router::new()
        .route("/0/public/Ticker", get(|| async { fixture!("kraken/one-bad.json") }))
        .route("/products/{product}/ticker", get(products))
        .route("/api/v3/ticker/bookTicker", get(limited))
        .route("/api/v2/ticker/", get(|| async { "x".repeat(5 * 1024 * 1024) }))
        .route("/v2/tickers", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
        .route("/api/v5/market/tickers", get(|| async { StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS }))
        .route("/v1/latest", get(|| async { vec![0xff_u8, 0xfe] }))
        .route("/stats/eurofxref/eurofxref-daily.xml", get(|| async { fixture!("ecb/daily.xml") }));
    let url = serve(router).await;

    let poll = open("kraken", &url).poll(NOW).await.unwrap();
    assert_eq!((poll.ticks.len(), poll.ticks[0].received_at), (1, NOW));
    assert!(poll.faults.contains(&"USDTZUSD: missing in the answer".to_owned()), "{:?}", poll.faults);

    let poll = open("coinbase", &url).poll(NOW).await.unwrap();
    assert_eq!(
        print(&poll),
        [
            "BTC/USD 65000.11 65000.31",
            "! ETH-USD: ask: \"x\" is not a number that a price can be",
            "! LTC-USD: coinbase answered with status 404",
            "! BCH-USD: coinbase answered a web page instead of data",
            "! USDT-USD: coinbase answered with status 502",
        ]
    );

    let poll = open("binance", &url).poll(NOW).await.unwrap();
    assert_eq!((poll.ticks.len(), poll.retry_after), (0, Some(Span::from_secs(7))));
    assert_eq!(open("ecb", &url).poll(NOW).await.unwrap().fiat.len(), 4);

    for (venue, transient, expected) in [
        ("bitstamp", true, "bitstamp answered more than 4194304 bytes"),
        ("bitfinex", true, "bitfinex answered with status 500"),
        ("okx", false, "okx refuses us with status 451: a key, or another host, is needed"),
        ("frankfurter", true, "frankfurter answered what is no UTF-8"),
        ("gemini", true, "gemini answered with status 404"),
    ] {
        let error = open(venue, &url).poll(NOW).await.unwrap_err();
        assert_eq!((error.is_transient(), error.to_string().as_str()), (transient, expected));
    }
    let error = open("kraken", "http://127.0.0.1:9").poll(NOW).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().starts_with("kraken did not answer"), "{error}");
}

#[tokio::test]
async fn the_calls_are_the_documented_ones() {
    let echo = |uri: axum::http::Uri, headers: axum::http::HeaderMap| async move {
        let key = headers.get("x-cg-demo-api-key").map(|key| format!(" key {key:?}")).unwrap_or_default();
        (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")], format!("{uri}{key}"))
    };
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let record = seen.clone();
    let router = Router::new().fallback(move |uri: axum::http::Uri, headers: axum::http::HeaderMap| {
        record.lock().unwrap().push((uri.to_string(), headers.contains_key("x-cg-demo-api-key")));
        echo(uri, headers)
    });
    let url = serve(router).await;
    for (venue, first, key) in [
        ("kraken", "/0/public/Ticker?pair=XXBTZUSD,XETHZUSD,XLTCZUSD,BCHUSD,XXBTZEUR,USDTZUSD", false),
        ("coinbase", "/products/BTC-USD/ticker", false),
        ("bitstamp", "/api/v2/ticker/", false),
        ("gemini", "/v1/pubticker/btcusd", false),
        ("bitfinex", "/v2/tickers?symbols=tBTCUSD,tETHUSD,tLTCUSD,tBCHN:USD,tUSTUSD", false),
        (
            "binance",
            "/api/v3/ticker/bookTicker?symbols=%5B%22BTCUSDT%22,%22ETHUSDT%22,%22LTCUSDT%22,%22BCHUSDT%22,%22USDCUSDT%22%5D",
            false,
        ),
        ("okx", "/api/v5/market/tickers?instType=SPOT", false),
        ("kucoin", "/api/v1/market/orderbook/level1?symbol=BTC-USDT", false),
        (
            "coingecko",
            "/api/v3/simple/price?ids=bitcoin,ethereum,litecoin,bitcoin-cash&vs_currencies=usd,eur,cny&include_last_updated_at=true",
            true,
        ),
        ("ecb", "/stats/eurofxref/eurofxref-daily.xml", false),
        ("frankfurter", "/v1/latest?base=USD", false),
    ] {
        let poll = open(venue, &url).poll(NOW).await.unwrap();
        assert_eq!(poll.retry_after, Some(Span::from_secs(1)), "{venue}");
        let calls = std::mem::take(&mut *seen.lock().unwrap());
        assert!(calls.contains(&(first.to_owned(), key)), "{venue}: {calls:?}");
    }
}

/// A venue that refuses a list for one symbol in it: each pair has its answer, and the list is asked for
/// without that one until an hour is over.
#[tokio::test]
async fn a_symbol_that_is_gone_costs_no_other() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let record = seen.clone();
    let ticker = |uri: axum::http::Uri| async move {
        record.lock().unwrap().push(uri.query().unwrap_or_default().to_owned());
        if uri.query().unwrap().contains("XLTCZUSD") {
            return fixture!("kraken/error.json").to_owned();
        }
        let symbols = uri.query().unwrap().trim_start_matches("pair=").split(',');
        let rows = symbols.map(|symbol| format!("\"{symbol}\":{{\"a\":[\"2\",\"1\"],\"b\":[\"1\",\"1\"]}}"));
        format!("{{\"error\":[],\"result\":{{{}}}}}", rows.collect::<Vec<_>>().join(","))
    };
    let books = |uri: axum::http::Uri| async move {
        if uri.query().unwrap().contains("ETHUSDT") {
            return (StatusCode::BAD_REQUEST, fixture!("binance/error.json")).into_response();
        }
        "[{\"symbol\":\"BTCUSDT\",\"bidPrice\":\"1\",\"askPrice\":\"2\"}]".into_response()
    };
    let router = Router::new()
        .route("/0/public/Ticker", get(ticker))
        .route("/api/v3/ticker/bookTicker", get(books))
        .route("/v2/tickers", get(|| async { fixture!("bitfinex/error.json") }));
    let url = serve(router).await;

    let kraken = open("kraken", &url);
    let asked = |poll: &Poll| {
        assert_eq!(poll.ticks.len(), 5, "{poll:?}");
        assert!(poll.faults[0].starts_with("XLTCZUSD: "), "{poll:?}");
        std::mem::take(&mut *seen.lock().unwrap()).len()
    };
    assert_eq!(asked(&kraken.poll(NOW).await.unwrap()), 7, "the list, and each of its six pairs");
    let later = |secs| NOW.plus(Span::from_secs(secs));
    assert_eq!(asked(&kraken.poll(later(15)).await.unwrap()), 1, "the list without the one");
    assert_eq!(asked(&kraken.poll(later(3_600)).await.unwrap()), 7, "it may be back");
    assert_eq!(asked(&kraken.poll(later(60)).await.unwrap()), 7, "a clock that was set back");

    let poll = open("binance", &url).poll(NOW).await.unwrap();
    assert!(!poll.ticks.is_empty() && poll.faults[0].starts_with("ETHUSDT: "), "{poll:?}");

    let bitfinex = open("bitfinex", &url);
    for _ in 0..2 {
        let error = bitfinex.poll(NOW).await.unwrap_err();
        assert!(error.to_string().contains("symbols: invalid"), "it refuses every one: {error}");
    }
}
