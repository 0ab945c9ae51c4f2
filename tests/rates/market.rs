//! A market, and the exchanges that show it, on one loopback server: each in its own format and mood.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tally_ports::Clock;
use tally_types::Timestamp;
use tokio::net::TcpListener;

/// The exchanges, and by how many hundred-thousandths each sees the price off the market's. Those from
/// `binance` on price in USDT.
pub(crate) const VENUES: [(&str, i64); 8] = [
    ("kraken", -60),
    ("coinbase", 20),
    ("bitstamp", 90),
    ("gemini", -20),
    ("bitfinex", 50),
    ("binance", 0),
    ("okx", -90),
    ("kucoin", 70),
];
/// The sources of fiat.
pub(crate) const FIAT: [&str; 2] = ["ecb", "frankfurter"];
/// The assets that the stand looks at, and how many votes each needs.
pub(crate) const ASSETS: [(&str, usize); 4] = [("BTC", 3), ("ETH", 3), ("LTC", 2), ("BCH", 2)];
/// Longer than any feed waits.
const FOREVER: Duration = Duration::from_secs(60);

/// How a venue behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It shows the market.
    Honest,
    /// Status 500.
    Down,
    /// A web page, with status 200.
    Page,
    /// An error in its own format, with status 200.
    Refuses,
    /// Books without a side.
    Empty,
    /// The ask below the bid.
    Crossed,
    /// All prices of coins times so many thousandths.
    Lies(i64),
    /// The books of the moment when it froze.
    Frozen,
    /// Its clock is ahead by so many seconds, where it shows one.
    Ahead(i64),
    /// Status 429, and for how long.
    Limited(u64),
    /// No answer.
    Hangs,
    /// No answer about BCH, where each pair has its own call.
    PairHangs,
    /// It does not have BCH, and refuses whole lists with it.
    Delisted,
    /// The connection ends within the answer.
    CutOff,
}

/// The market, shared with the server.
#[derive(Clone)]
pub(crate) struct Market {
    state: Arc<Mutex<Inner>>,
    pub(crate) url: Arc<str>,
}

struct Inner {
    /// In dollars.
    prices: BTreeMap<&'static str, Decimal>,
    moods: BTreeMap<&'static str, Mood>,
    /// What frozen venues show.
    frozen: BTreeMap<&'static str, BTreeMap<&'static str, Decimal>>,
    clock: Arc<dyn Clock>,
}

impl Market {
    /// Opens the venues, all honest.
    pub(crate) async fn open(clock: Arc<dyn Clock>) -> Self {
        let prices = [("BTC", 65_000), ("ETH", 3_200), ("LTC", 80), ("BCH", 450), ("USDT", 1), ("USDC", 1)];
        let state = Inner {
            prices: prices.map(|(name, usd)| (name, Decimal::from(usd))).into(),
            moods: BTreeMap::new(),
            frozen: BTreeMap::new(),
            clock,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).into();
        let market = Self { state: Arc::new(Mutex::new(state)), url };
        let routes = Router::new().fallback(answer).with_state(market.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        market
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap()
    }

    pub(crate) fn set_mood(&self, venue: &'static str, mood: Mood) {
        let mut inner = self.inner();
        if mood == Mood::Frozen && inner.moods.get(venue) != Some(&mood) {
            let now = inner.prices.clone();
            inner.frozen.insert(venue, now);
        }
        inner.moods.insert(venue, mood);
    }

    pub(crate) fn all_honest(&self) {
        self.inner().moods.clear();
    }

    pub(crate) fn mood(&self, venue: &str) -> Mood {
        self.inner().moods.get(venue).copied().unwrap_or(Mood::Honest)
    }

    /// Every price of a coin times so many hundred-thousandths.
    pub(crate) fn move_by(&self, asset: &str, parts: i64) {
        if let Some(price) = self.inner().prices.get_mut(asset) {
            *price = (*price * Decimal::new(parts, 5)).round_dp(8);
        }
    }

    pub(crate) fn set(&self, asset: &str, usd: &str) {
        *self.inner().prices.get_mut(asset).unwrap() = usd.parse().unwrap();
    }

    /// What a venue that is honest sees as the price, in dollars.
    pub(crate) fn honest(&self, venue: &str, asset: &str) -> Decimal {
        self.inner().honest(venue, asset)
    }
}

impl Inner {
    fn honest(&self, venue: &str, asset: &str) -> Decimal {
        self.prices[asset] * offset(venue)
    }

    /// Bid and ask as a venue shows them now.
    fn book(&self, venue: &str, base: &str, quote: &str) -> Option<(Decimal, Decimal)> {
        let mood = self.moods.get(venue).copied().unwrap_or(Mood::Honest);
        let prices = self.frozen.get(venue).filter(|_| mood == Mood::Frozen).unwrap_or(&self.prices);
        let factor = match mood {
            Mood::Lies(thousandths) if !base.starts_with("USD") => Decimal::new(thousandths, 3),
            _ => Decimal::ONE,
        };
        let quote = *prices.get(quote).unwrap_or(&Decimal::ONE);
        let mid = *prices.get(base)? * offset(venue) * factor / quote;
        let half = mid * Decimal::new(2, 4);
        Some(match mood {
            Mood::Empty => (Decimal::ZERO, (mid + half).round_dp(8)),
            Mood::Crossed => ((mid + half).round_dp(8), (mid - half).round_dp(8)),
            _ => ((mid - half).round_dp(8), (mid + half).round_dp(8)),
        })
    }
}

fn offset(venue: &str) -> Decimal {
    let parts = VENUES.iter().find(|(name, _)| *name == venue).map_or(0, |(_, parts)| *parts);
    Decimal::new(100_000 + parts, 5)
}

async fn answer(State(market): State<Market>, uri: Uri) -> Response {
    let path = uri.path();
    let starts = [
        ("/0/public/Ticker", "kraken"),
        ("/products/", "coinbase"),
        ("/api/v2/ticker", "bitstamp"),
        ("/v1/pubticker/", "gemini"),
        ("/v2/tickers", "bitfinex"),
        ("/api/v3/ticker/bookTicker", "binance"),
        ("/api/v5/market/tickers", "okx"),
        ("/api/v1/market/orderbook/level1", "kucoin"),
        ("/stats/eurofxref", "ecb"),
        ("/v1/latest", "frankfurter"),
    ];
    let Some((_, venue)) = starts.iter().find(|(start, _)| path.starts_with(start)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let last = path.rsplit('/').nth(usize::from(*venue == "coinbase")).unwrap_or_default();
    let pair = uri.query().and_then(|query| query.strip_prefix("symbol=")).unwrap_or(last);
    let mood = market.mood(venue);
    let of_cash = |text: &str| text.to_ascii_uppercase().contains("BCH");
    match mood {
        Mood::PairHangs if of_cash(pair) => {
            tokio::time::sleep(FOREVER).await;
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
        Mood::Delisted if of_cash(uri.query().unwrap_or_default()) => delisted(venue),
        Mood::Down => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mood::Page => "<html><title>Maintenance</title></html>".into_response(),
        Mood::Refuses => refusal(venue).to_string().into_response(),
        Mood::Limited(secs) => {
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, secs.to_string())]).into_response()
        }
        Mood::Hangs => {
            tokio::time::sleep(FOREVER).await;
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
        Mood::CutOff => {
            let parts = [Ok(Bytes::from_static(b"{\"result")), Err(std::io::Error::other("cut off"))];
            Body::from_stream(futures::stream::iter(parts)).into_response()
        }
        _ => show(&market.inner(), venue, pair, uri.query().unwrap_or_default()).into_response(),
    }
}

/// What venues say of a symbol that they do not have.
fn delisted(venue: &str) -> Response {
    match venue {
        "kraken" => json!({ "error": ["EQuery:Unknown asset pair"] }).to_string().into_response(),
        "binance" => {
            let words = json!({ "code": -1121, "msg": "Invalid symbol." }).to_string();
            (StatusCode::BAD_REQUEST, words).into_response()
        }
        _ => json!(["error", 10_020, "symbols: invalid"]).to_string().into_response(),
    }
}

fn refusal(venue: &str) -> Value {
    match venue {
        "kraken" => json!({ "error": ["EService:Unavailable"] }),
        "gemini" => json!({ "result": "error", "message": "maintenance" }),
        "bitfinex" => json!(["error", 20_060, "maintenance"]),
        "okx" => json!({ "code": "50001", "msg": "Service temporarily unavailable", "data": [] }),
        "kucoin" => json!({ "code": "400100", "msg": "maintenance" }),
        "binance" => json!({ "code": -1, "msg": "maintenance" }),
        "bitstamp" => json!({ "status": "error", "reason": "maintenance" }),
        _ => json!({ "message": "maintenance" }),
    }
}

/// The venue's answer in its own format. `pair` is what was asked for where each pair has its own call, and
/// `query` names those that a list asks for.
fn show(inner: &Inner, venue: &str, pair: &str, query: &str) -> String {
    let book = |base: &str, quote: &str| {
        inner.book(venue, base, quote).map(|(bid, ask)| (bid.to_string(), ask.to_string())).unwrap()
    };
    let day = inner.clock.now().to_utc().date();
    match venue {
        "kraken" => {
            let pairs = [("XXBTZUSD", "BTC"), ("XETHZUSD", "ETH"), ("XLTCZUSD", "LTC"), ("BCHUSD", "BCH")];
            let all = pairs.iter().chain(&[("USDTZUSD", "USDT")]).filter(|(name, _)| query.contains(name));
            let all = all.map(|(name, base)| {
                let (bid, ask) = book(base, "USD");
                ((*name).to_owned(), json!({ "a": [ask, "1"], "b": [bid, "1"] }))
            });
            json!({ "error": [], "result": all.collect::<serde_json::Map<_, _>>() }).to_string()
        }
        "coinbase" | "gemini" => {
            // `BTC-USD` and `btcusd`.
            let upper = pair.to_ascii_uppercase();
            let base = upper.strip_suffix("USD").unwrap_or(&upper).trim_end_matches('-');
            let (bid, ask) = book(base, "USD");
            json!({ "bid": bid, "ask": ask }).to_string()
        }
        "bitstamp" => {
            let row = |base: &str| {
                let (bid, ask) = book(base, "USD");
                json!({ "pair": format!("{base}/USD"), "bid": bid, "ask": ask })
            };
            Value::from(["BTC", "ETH", "LTC", "BCH", "USDT", "USDC"].map(row).to_vec()).to_string()
        }
        "bitfinex" => {
            let names = [("tBTCUSD", "BTC"), ("tETHUSD", "ETH"), ("tLTCUSD", "LTC"), ("tBCHN:USD", "BCH")];
            let rows = names.iter().chain(&[("tUSTUSD", "USDT")]).filter(|(name, _)| query.contains(name));
            let rows = rows.map(|(name, base)| {
                let (bid, ask) = book(base, "USD");
                format!("[\"{name}\", {bid}, 1, {ask}, 1]")
            });
            format!("[{}]", rows.collect::<Vec<_>>().join(","))
        }
        "binance" => {
            let row = |base: &str| {
                let (bid, ask) = book(base, "USDT");
                json!({ "symbol": format!("{base}USDT"), "bidPrice": bid, "askPrice": ask })
            };
            let asked = ["BTC", "ETH", "LTC", "BCH", "USDC"].into_iter();
            let asked = asked.filter(|base| query.contains(&format!("{base}USDT")));
            asked.map(row).collect::<Value>().to_string()
        }
        "okx" => {
            let row = |base: &str| {
                let (bid, ask) = book(base, "USDT");
                let ts = inner.shown_time(venue).millis().to_string();
                json!({ "instId": format!("{base}-USDT"), "bidPx": bid, "askPx": ask, "ts": ts })
            };
            let rows = ["BTC", "ETH", "LTC", "BCH", "USDC"].map(row).to_vec();
            json!({ "code": "0", "msg": "", "data": rows }).to_string()
        }
        "kucoin" => {
            let (bid, ask) = book(pair.trim_end_matches("-USDT"), "USDT");
            json!({ "code": "200000", "data": { "bestBid": bid, "bestAsk": ask } }).to_string()
        }
        "ecb" => format!(
            "<Envelope><Cube><Cube time='{day}'><Cube currency='USD' rate='1.1506'/>\
             <Cube currency='CNY' rate='7.9009'/></Cube></Cube></Envelope>"
        ),
        _ => {
            json!({ "base": "USD", "date": day.to_string(), "rates": { "EUR": 0.869_111, "CNY": 6.866_765 } })
                .to_string()
        }
    }
}

impl Inner {
    fn shown_time(&self, venue: &str) -> Timestamp {
        let now = self.clock.now();
        match self.moods.get(venue) {
            Some(Mood::Ahead(secs)) => Timestamp::from_millis(now.millis() + secs * 1_000),
            _ => now,
        }
    }
}
