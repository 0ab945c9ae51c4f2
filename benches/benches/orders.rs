//! How many orders a second are created over HTTP by 64 clients at a time, and how many appends a second 64 bare
//! tasks reach on the same log with the very same facts, each awaiting its own.
//!
//! `TALLY_BENCH_LOG` is `embedded` (unless set) or `nats`: then a server of one replica that syncs always is started
//! from `NATS_SERVER_BIN`, or `nats-server` on the path. `TALLY_BENCH_SECONDS` is how long is measured (8).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::float_arithmetic,
    reason = "a bench"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a bench measures time and is told what to do by its environment"
)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use serde_json::{Value, json};
use tally_account::PolicyDefaults;
use tally_benches::{environment, finish};
use tally_events::NewEvent;
use tally_gateway::Gateway;
use tally_log::LogName;
use tally_log::embedded::Embedded;
use tally_log::nats::{Nats, NatsSettings};
use tally_ports::{Clock, EventLog, Expectation};
use tally_pricing::{RateRules, RateTable};
use tally_projector::{Options, Projector};
use tally_sign::{MasterKey, SignType};
use tally_store::SledStore;
use tally_testkit::SeededEntropy;
use tally_types::{Position, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The allocator of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CACHE: u64 = 128 * 1024 * 1024;
const CLIENTS: usize = 64;
const ADMIN: &str = "an admin token of this bench";

struct Wall;

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap())
    }
}

/// A NATS server that ends with this process.
struct Server {
    child: Child,
    url: String,
    monitor: String,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let binary = std::env::var_os("NATS_SERVER_BIN").unwrap_or_else(|| "nats-server".into());
        let ports: Vec<u16> = (0..2)
            .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
            .collect::<Vec<_>>()
            .iter()
            .map(|held| held.local_addr().unwrap().port())
            .collect();
        let config = dir.join("nats.conf");
        let text = format!(
            "listen: 127.0.0.1:{}\nhttp: 127.0.0.1:{}\njetstream {{ store_dir: {:?}, sync_interval: always }}\n",
            ports[0],
            ports[1],
            dir.join("jetstream")
        );
        std::fs::write(&config, text).unwrap();
        let child =
            Command::new(binary).arg("-c").arg(config).stderr(Stdio::null()).spawn().expect("nats-server");
        let url = format!("nats://127.0.0.1:{}", ports[0]);
        Self { child, url, monitor: format!("http://127.0.0.1:{}", ports[1]) }
    }

    async fn log(&self) -> Arc<dyn EventLog> {
        let settings = NatsSettings {
            urls: vec![self.url.clone()],
            replicas: 1,
            monitors: vec![self.monitor.clone()],
            client_name: "bench".to_owned(),
            ..NatsSettings::default()
        };
        for _ in 0..100 {
            if let Ok(nats) = Nats::connect(settings.clone()).await
                && let Ok(log) = nats.log(LogName::Main).await
            {
                return Arc::new(log);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the NATS server does not answer");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A log of its own in a folder, with whatever must live as long.
async fn open(kind: &str, dir: &Path) -> (Arc<dyn EventLog>, Option<Server>) {
    std::fs::create_dir_all(dir).unwrap();
    if kind == "nats" {
        let server = Server::start(dir);
        (server.log().await, Some(server))
    } else {
        (Arc::new(Embedded::open(&dir.join("log"), CACHE).unwrap().log(LogName::Main)), None)
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(all());
}

async fn all() {
    let kind = std::env::var("TALLY_BENCH_LOG").unwrap_or_else(|_| "embedded".to_owned());
    let seconds = environment("TALLY_BENCH_SECONDS", 8);
    let dir = tempfile::tempdir().unwrap();
    let (log, server) = open(&kind, &dir.path().join("orders")).await;
    let orders = over_http(log.clone(), dir.path(), seconds).await;
    println!(
        "{} orders/s, p50 {:.1} ms, p99 {:.1} ms",
        orders.per_second as u64, orders.p50_ms, orders.p99_ms
    );
    let pairs = pairs(&*log).await;
    drop((log, server));
    let (log, server) = open(&kind, &dir.path().join("bare")).await;
    let bare = bare(log, pairs, seconds).await;
    drop(server);
    println!("{} bare appends/s", bare as u64);
    finish(
        "orders",
        &[
            ("log", kind.into()),
            ("ratio_log_append", (orders.per_second / bare).into()),
            ("orders_per_second", orders.per_second.into()),
            ("p50_ms", orders.p50_ms.into()),
            ("p99_ms", orders.p99_ms.into()),
            ("bare_appends_per_second", bare.into()),
            ("clients", CLIENTS.into()),
        ],
    );
}

struct Measured {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

async fn over_http(log: Arc<dyn EventLog>, dir: &Path, seconds: u64) -> Measured {
    let store = Arc::new(SledStore::open(&dir.join("model"), CACHE).unwrap());
    let projector = Projector::open(log.clone(), store, Options::default()).await.unwrap();
    let model = projector.model();
    let folding = tokio::spawn(async move { projector.run().await });
    let (_rates, receiver) = watch::channel(Arc::new(RateTable::new(&RateRules::default())));
    let app = Arc::new(Gateway {
        log,
        model,
        rates: receiver,
        clock: Arc::new(Wall),
        entropy: Arc::new(SeededEntropy::new(1)),
        chains: Vec::new(),
        public_url: "http://127.0.0.1".to_owned(),
        master: MasterKey::parse(&"07".repeat(32)).unwrap(),
        policy: PolicyDefaults::default(),
        admin_token: Some(ADMIN.to_owned()),
        sandbox: false,
    });
    let admin = serve(tally_gateway::admin(app.clone())).await;
    let public = serve(tally_gateway::public(app)).await;
    let mut connection = Connection::open(admin).await;
    let merchant = connection.json("/v1/admin/merchants", &json!({ "name": "shop" })).await;
    let merchant = merchant["merchant_id"].as_u64().unwrap();
    let key =
        connection.json(&format!("/v1/admin/merchants/{merchant}/keys"), &json!({ "face": "deepay" })).await;
    let key = key["api_key"].as_str().unwrap().to_owned();

    let (stop, counting) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let taken = Arc::new(Mutex::new(Vec::<u64>::new()));
    let number = Arc::new(AtomicU64::new(0));
    let clients = {
        let (stop, counting, taken) = (stop.clone(), counting.clone(), taken.clone());
        // Clients on a thread of their own: they share no worker with the product.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let clients = (0..CLIENTS).map(|_| {
                    let (stop, counting, taken) = (stop.clone(), counting.clone(), taken.clone());
                    let (number, key) = (number.clone(), key.clone());
                    async move {
                        let mut connection = Connection::open(public).await;
                        while !stop.load(Ordering::Relaxed) {
                            let body = create(merchant, &key, number.fetch_add(1, Ordering::Relaxed));
                            let begin = Instant::now();
                            let (status, answer) = connection.post("/order/create", FORM, &body).await;
                            assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
                            if counting.load(Ordering::Relaxed) {
                                taken.lock().unwrap().push(begin.elapsed().as_micros() as u64);
                            }
                        }
                    }
                });
                futures::future::join_all(clients).await;
            });
        })
    };
    tokio::time::sleep(Duration::from_secs(2)).await;
    counting.store(true, Ordering::Relaxed);
    let begin = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    counting.store(false, Ordering::Relaxed);
    let elapsed = begin.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    tokio::task::spawn_blocking(move || clients.join().unwrap()).await.unwrap();
    folding.abort();
    let _ = folding.await;
    let mut taken = std::mem::take(&mut *taken.lock().unwrap());
    taken.sort_unstable();
    let at = |part: f64| taken[((taken.len() - 1) as f64 * part) as usize] as f64 / 1_000.0;
    Measured { per_second: taken.len() as f64 / elapsed, p50_ms: at(0.5), p99_ms: at(0.99) }
}

async fn serve(routes: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = routes.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    address
}

const FORM: &str = "application/x-www-form-urlencoded";

/// A signed request.
fn create(merchant: u64, key: &str, number: u64) -> String {
    let mut pairs: Vec<(String, String)> = [
        ("merchant_id", merchant.to_string()),
        ("out_trade_id", format!("MDC{number:09}")),
        ("price_currency", "USD".to_owned()),
        ("price_amount", "25.5".to_owned()),
        ("notify_url", "https://shop.example/payments/notify".to_owned()),
        ("callback_url", "https://shop.example/thanks".to_owned()),
        ("title", "A box of tea".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let sign = tally_sign::sign(&pairs, key, SignType::Md5);
    pairs.push(("sign".to_owned(), sign));
    let encode = |text: &str| text.replace(':', "%3A").replace('/', "%2F").replace(' ', "+");
    pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
}

/// A connection that is kept, with as little work for the client as there can be.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::with_capacity(4_096) }
    }

    async fn post(&mut self, path: &str, kind: &str, body: &str) -> (u16, Vec<u8>) {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {ADMIN}\r\ncontent-type: {kind}\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.buffer.clear();
        loop {
            assert!(self.stream.read_buf(&mut self.buffer).await.unwrap() > 0, "closed");
            let Some(head) = self.buffer.windows(4).position(|part| part == b"\r\n\r\n") else { continue };
            let text = String::from_utf8_lossy(&self.buffer[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.expect("a length").trim().parse().unwrap();
            while self.buffer.len() < head + 4 + length {
                assert!(self.stream.read_buf(&mut self.buffer).await.unwrap() > 0, "closed");
            }
            let status = text.split(' ').nth(1).unwrap().parse().unwrap();
            return (status, self.buffer[head + 4..head + 4 + length].to_vec());
        }
    }

    async fn json(&mut self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.post(path, "application/json", &body.to_string()).await;
        assert!((200..300).contains(&status), "{status}");
        serde_json::from_slice(&answer).unwrap()
    }
}

/// What was appended for the orders: each claim with its order.
async fn pairs(log: &dyn EventLog) -> VecDeque<Vec<NewEvent>> {
    let head = log.head().await.unwrap();
    let mut facts = log.read(Position::START).await.unwrap();
    let (mut pairs, mut claim) = (VecDeque::new(), None);
    while let Some(fact) = facts.next().await {
        let fact = fact.unwrap();
        match fact.event.fact.kind() {
            "claim.claimed" => claim = Some(fact.event),
            "order.created" => pairs.push_back(claim.take().into_iter().chain([fact.event]).collect()),
            _ => {}
        }
        if fact.position >= head {
            break;
        }
    }
    pairs
}

/// Appends them by 64 tasks, over and over with new subjects' logs until the time is over.
async fn bare(log: Arc<dyn EventLog>, pairs: VecDeque<Vec<NewEvent>>, seconds: u64) -> f64 {
    let pairs = Arc::new(Mutex::new(pairs));
    let done = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let tasks: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (log, pairs, done) = (log.clone(), pairs.clone(), done.clone());
            tokio::spawn(async move {
                while begin.elapsed() < Duration::from_secs(seconds) {
                    let Some(pair) = pairs.lock().unwrap().pop_front() else { return };
                    let expectations =
                        pair.iter().map(|event| Expectation::none(event.subject.clone())).collect();
                    log.append(expectations, pair).await.unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    done.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64()
}
