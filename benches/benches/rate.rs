//! How fast rates are answered, against a bare handler of the same HTTP stack, and how fast they are made.
//!
//! `cargo bench -p tally-benches --bench rate`. The same client asks both in turns, over the same number of
//! kept connections, on the same cores. Not here: whether the answers are right (`tests/rates`).

#![allow(
    clippy::expect_used,
    clippy::float_arithmetic,
    reason = "a bench that cannot go on stops; its figures are floats"
)]

#[path = "rate/client.rs"]
mod client;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use rust_decimal::Decimal;
use serde_json::json;
use tally_account::PolicyDefaults;
use tally_events::{AssetRate, FiatRate, RatesPublished};
use tally_gateway::Gateway;
use tally_ports::Clock;
use tally_pricing::{Aggregator, AssetRule, RateRules, RateTable, Tick, TickPrice, Venue};
use tally_projector::{Options, Projector};
use tally_sign::MasterKey;
use tally_testkit::{ManualClock, MemoryLog, MemoryStore, SeededEntropy};
use tally_types::{Currency, Span, Timestamp};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::Instant;

use client::Load;

/// What the bare handler answers, and ours too.
const NUMBER: &str = "65000.12";
/// Where both answer it.
const PATH: &str = "/rate/BTC/USD";
/// Connections that are kept open.
const CONNECTIONS: usize = 64;
/// Rounds of both, and how long each asks: short, so that whatever else the machine does meets both.
const ROUNDS: usize = 100;
const ROUND: Duration = Duration::from_millis(250);
/// How long the half load lasts.
const PACED: Duration = Duration::from_secs(10);
/// The time at which everything happens.
const NOW: Timestamp = Timestamp::from_secs(1_750_000_000);

fn main() {
    // The recorder of the real thing, so that counting costs what it costs there.
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new()
        .set_buckets(&[0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1.0])
        .and_then(metrics_exporter_prometheus::PrometheusBuilder::install_recorder)
        .expect("the metrics recorder");
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let server = server.expect("a runtime for the servers");
    server.spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            recorder.run_upkeep();
        }
    });
    let bare = serve(&server, Router::new().route(PATH, get(|| async { NUMBER })));
    let (ours, _rates) = serve_ours(&server);
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let client = client.expect("a runtime for the client");

    let (ratio, requests_per_second) = compare(&client, bare, ours);
    let pace = requests_per_second / 2;
    let p99 = |address| client.block_on(Load::new(address, PATH, CONNECTIONS).paced(pace, PACED)).p99();
    let bare_p99 = p99(bare);
    let p99 = p99(ours);
    println!("at {pace} requests/s: p99 {bare_p99:?} bare, {p99:?} ours");
    let aggregate = aggregate();
    println!("aggregation of 12 venues and 8 assets: {aggregate:?}");
    let line = json!({
        "bench": "rate",
        "ratio_axum": ratio,
        "requests_per_second": requests_per_second,
        "p99_ms": rounded(p99.as_secs_f64() * 1_000.0),
        "aggregate_us": rounded(aggregate.as_secs_f64() * 1_000_000.0),
    });
    println!("{line}");
}

/// Both in turns, the order changing; the median of the rounds' ratios, and of our requests per second.
#[allow(clippy::float_arithmetic, reason = "a measurement, no money")]
fn compare(client: &Runtime, bare: SocketAddr, ours: SocketAddr) -> (f64, u64) {
    let full = |address| {
        let load = Load::new(address, PATH, CONNECTIONS);
        client.block_on(load.full(ROUND)).requests_per_second()
    };
    full(bare);
    full(ours);
    let (mut ratios, mut bares, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (theirs, own) = if round % 2 == 0 {
            let theirs = full(bare);
            (theirs, full(ours))
        } else {
            let own = full(ours);
            (full(bare), own)
        };
        let ratio = f64::from(own) / f64::from(theirs);
        bares.push(u64::from(theirs));
        ratios.push(ratio);
        rates.push(u64::from(own));
    }
    ratios.sort_by(f64::total_cmp);
    rates.sort_unstable();
    bares.sort_unstable();
    let [quarter, half, rest] = [1, 2, 3].map(|quarters| rounded(ratios[ROUNDS * quarters / 4]));
    println!(
        "{ROUNDS} rounds: bare {}/s, ours {}/s; ratio {half}, between {quarter} and {rest} in half of them",
        bares[ROUNDS / 2],
        rates[ROUNDS / 2],
    );
    (rounded(ratios[ROUNDS / 2]), rates[ROUNDS / 2])
}

#[allow(clippy::float_arithmetic, reason = "a measurement, no money")]
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// Serves on loopback as the binary does.
fn serve(runtime: &Runtime, routes: Router) -> SocketAddr {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let address = listener.local_addr().expect("its number");
    runtime.spawn(async move { axum::serve(listener, routes).await });
    address
}

/// The whole public listener of a gateway with one table of rates.
fn serve_ours(runtime: &Runtime) -> (SocketAddr, watch::Sender<Arc<RateTable>>) {
    let (rates, receiver) = watch::channel(Arc::new(table()));
    let log = Arc::new(MemoryLog::new());
    let store = Arc::new(MemoryStore::new());
    let projector = runtime.block_on(Projector::open(log.clone(), store, Options::default()));
    let app = Gateway {
        log,
        model: projector.expect("a read model").model(),
        rates: receiver,
        clock: Arc::new(Ticking { start: Instant::now() }),
        entropy: Arc::new(SeededEntropy::new(1)),
        chains: Vec::new(),
        public_url: "http://127.0.0.1".to_owned(),
        master: MasterKey::parse(&"07".repeat(32)).expect("a master key"),
        policy: PolicyDefaults::default(),
        admin_token: None,
        sandbox: false,
    };
    let routes = tally_gateway::public(Arc::new(app));
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let address = listener.local_addr().expect("its number");
    let service = routes.into_make_service_with_connect_info::<SocketAddr>();
    runtime.spawn(async move { axum::serve(listener, service).await });
    (address, rates)
}

/// A clock that is read anew for every answer, slowed down so that the rates stay fresh for the whole run.
struct Ticking {
    start: Instant,
}

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        NOW.plus(Span::from_millis(elapsed / 10))
    }
}

fn table() -> RateTable {
    let rules = RateRules::default();
    let asset = |rule: &AssetRule| AssetRate {
        asset: rule.asset.clone(),
        usd: NUMBER.parse().ok(),
        confidence: "4.2".parse().ok(),
        inconsistent: false,
        at: NOW,
        sources: ["binance", "bitfinex", "bitstamp", "coinbase", "gemini", "kraken", "kucoin", "okx"]
            .map(str::to_owned)
            .to_vec(),
        dropped: Vec::new(),
    };
    let fiat = |currency: &Currency| FiatRate {
        currency: currency.clone(),
        per_eur: Decimal::new(11_506, 4),
        at: NOW,
        sources: vec!["ecb".to_owned(), "frankfurter".to_owned()],
    };
    let published = RatesPublished {
        assets: rules.assets.iter().map(asset).collect(),
        fiat: rules.fiat.iter().map(fiat).collect(),
        at: NOW,
    };
    let mut table = RateTable::new(&rules);
    table.apply(&published);
    table
}

/// The median time to aggregate one poll of 12 venues that each price 8 assets.
fn aggregate() -> Duration {
    const VENUES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    const ASSETS: [&str; 8] = ["USDT", "USDC", "BTC", "ETH", "LTC", "BCH", "DOGE", "XMR"];
    let currency = |name: &str| name.parse::<Currency>().expect("a currency");
    let rule = |name: &str| AssetRule { asset: currency(name), votes_min: 3 };
    let rules = RateRules { assets: ASSETS.map(rule).to_vec(), ..RateRules::default() };
    let mut aggregator = Aggregator::new(rules);
    let clock = ManualClock::at(NOW);
    let mut times = Vec::new();
    for poll in 0..2_000_u32 {
        let now = clock.advance(Span::from_secs(15));
        let ticks: Vec<_> = VENUES
            .iter()
            .enumerate()
            .flat_map(|(place, venue)| ASSETS.iter().map(move |asset| (place, *venue, *asset)))
            .map(|(place, venue, asset)| {
                let offset = (place as i64 * 7 + i64::from(poll) * 13) % 40;
                let mid = Decimal::new(6_500_012_345 + offset * 100_000, 5);
                // Every third venue prices in a dollar token, as exchanges do.
                let token = place % 3 == 2 && asset != "USDT";
                Tick {
                    venue: Venue::named(venue),
                    base: currency(asset),
                    quote: currency(if token { "USDT" } else { "USD" }),
                    price: price(asset, mid),
                    venue_time: None,
                    received_at: now,
                }
            })
            .collect();
        let started = Instant::now();
        let published = aggregator.aggregate(&ticks, &[], now);
        times.push(started.elapsed());
        assert!(published.assets.iter().all(|rate| rate.usd.is_some()), "{published:?}");
    }
    times.sort_unstable();
    times[times.len() / 2]
}

fn price(asset: &str, mid: Decimal) -> TickPrice {
    let mid = if asset.starts_with("USD") { mid / Decimal::from(65_000) } else { mid };
    let half = mid * Decimal::new(1, 4);
    TickPrice::Book { bid: mid - half, ask: mid + half }
}
