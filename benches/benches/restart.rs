//! How long the whole program takes from its start until it is ready, on a log of 100,000 orders, after it was killed
//! with SIGKILL while orders were created, quoted, paid and mined.
//!
//! `tally up` with the embedded log runs as a process of its own: the binary beside this bench, which
//! `cargo build --release -p tally` makes, or `TALLY_BIN`. Its nodes are simulated in this process. The log is filled
//! with `TALLY_BENCH_ORDERS` orders of eight facts each (100,000 unless set) of the last hours; the first start folds
//! them, which takes longer and is told apart. Then it is killed `TALLY_BENCH_ROUNDS` times (7 unless set), each time
//! after `TALLY_BENCH_SECONDS` of work (2), and asked for the last order that it had answered.
//!
//! `TALLY_BENCH_DIR` keeps the folder, and takes one that was kept before: then nothing is filled.

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

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tally_benches::{Mix, environment, finish};
use tally_log::LogName;
use tally_log::embedded::Embedded;
use tally_ports::{Clock, EventLog};
use tally_sandbox::{Pay, Sandbox, SandboxSettings};
use tally_sign::SignType;
use tally_types::{Span, Timestamp};

/// An account key that published test vectors have.
const WALLET: &str = "tpubDC8msFGeGuwnP2xwTZBBZSie1BLgRAkJhgzpFYTdpGgZNzguXQhNDVWp7mJbHJUjQQvV2myLU9dkx67a7VAUnzY7yT7nvhHj7FgS4oNivvq";
const ADMIN: &str = "an admin token of this bench";
const MERCHANT: u64 = 10_001;
/// Who orders at a time.
const CLIENTS: usize = 16;
/// How long a start may take, the first one too.
const READY_WITHIN: Duration = Duration::from_secs(170);

struct Wall;

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap())
    }
}

fn main() {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(all());
}

async fn all() {
    let orders = environment("TALLY_BENCH_ORDERS", 100_000);
    let rounds = environment("TALLY_BENCH_ROUNDS", 7);
    let (dir, _temporary) = folder();
    if !dir.join("data/log").exists() {
        println!("{} facts", fill(&dir, orders).await);
    }
    let mut settings = SandboxSettings::four_chains(Arc::new(Wall), 7).unwrap();
    settings.journal = Some(dir.join("sandbox.jsonl"));
    let sandbox = Sandbox::start(settings).await.unwrap();
    let stand = Stand::new(dir, &sandbox);

    let (first, fold) = stand.start().await;
    let peak_mb = first.peak_mb();
    println!("first start: ready after {fold:?}, {peak_mb} MB at most");
    // Killed before they have stored their watch sets, the watchers would read the whole log again.
    let watched = stand.watchers_ready(fold).await;
    println!("its watchers after {watched:?}");
    let key = stand.open_shop().await;
    let mut program = first;
    let (mut ready, mut watching, mut created) = (Vec::new(), Vec::new(), 0);
    for round in 0..rounds {
        let last = stand.work_and_kill(program, &sandbox, &key, round, &mut created).await;
        let (again, after) = stand.start().await;
        let found = stand.call("query", &key, &[("out_trade_id", &last)]).await;
        assert!(found.is_some(), "{last} was answered and is gone");
        let watched = stand.watchers_ready(after).await;
        println!("ready after {after:?}, its watchers after {watched:?}");
        ready.push(after.as_secs_f64());
        watching.push(watched.as_secs_f64());
        program = again;
    }
    drop(program);
    ready.sort_by(f64::total_cmp);
    watching.sort_by(f64::total_cmp);
    finish(
        "restart",
        &[
            ("ready_seconds_max", ready.last().copied().into()),
            ("ready_seconds_median", ready[ready.len() / 2].into()),
            ("watchers_seconds_max", watching.last().copied().into()),
            ("orders", orders.into()),
            ("created_between", created.into()),
            ("rounds", rounds.into()),
            ("first_start_seconds", fold.as_secs_f64().into()),
            ("first_start_peak_mb", peak_mb.into()),
        ],
    );
}

/// Where everything lies: a folder that is kept, if one is named.
fn folder() -> (PathBuf, Option<tempfile::TempDir>) {
    match std::env::var_os("TALLY_BENCH_DIR") {
        Some(kept) => (kept.into(), None),
        None => {
            let dir = tempfile::tempdir().unwrap();
            (dir.path().to_owned(), Some(dir))
        }
    }
}

/// Orders of the last hours, so that no deadline of theirs has passed and none is to be archived.
async fn fill(dir: &Path, orders: u64) -> u64 {
    let log = Embedded::open(&dir.join("data/log"), 64 << 20).unwrap().log(LogName::Main);
    let mut mix = Mix::beginning_at(orders, Wall.now().minus(Span::from_millis(orders * 9 * 20)));
    while let Some((expectations, batch)) = mix.next_append() {
        log.append(expectations, batch).await.unwrap();
    }
    log.head().await.unwrap().get()
}

/// The program and where it listens.
struct Stand {
    dir: PathBuf,
    binary: PathBuf,
    http: String,
    admin: String,
    metrics: String,
    client: Client,
}

/// A running program; killed when it goes.
struct Program(Child);

impl Program {
    /// The most memory that it had resident.
    fn peak_mb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Stand {
    fn new(dir: PathBuf, sandbox: &Sandbox) -> Self {
        let beside = || std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("tally");
        let binary = std::env::var_os("TALLY_BIN").map_or_else(beside, PathBuf::from);
        assert!(binary.exists(), "{}: build it, or set TALLY_BIN", binary.display());
        let held: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let [http, admin, metrics] =
            [0, 1, 2].map(|at: usize| format!("127.0.0.1:{}", held[at].local_addr().unwrap().port()));
        let mut config = format!(
            "public_url = \"http://{http}\"\ndata_dir = {:?}\n[secrets]\nmaster = \"env:BENCH_MASTER\"\n\
             [http]\nlisten = \"{http}\"\n[admin]\nlisten = \"{admin}\"\ntoken = \"env:BENCH_ADMIN\"\n\
             [metrics]\nlisten = \"{metrics}\"\n[delivery]\nallow_private = true\n",
            dir.join("data"),
        );
        for chain in ["ltc", "bch"] {
            config += &format!(
                "[[chain]]\nid = \"{chain}\"\nkind = \"bitcoin\"\ncoin = \"{chain}\"\nnetwork = \"regtest\"\n\
                 rpc = [{{ url = \"{}\" }}]\n",
                sandbox.rpc_url(chain).unwrap()
            );
        }
        std::fs::write(dir.join("tally.toml"), config).unwrap();
        let url = |address: String| format!("http://{address}");
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
        Self { dir, binary, http: url(http), admin: url(admin), metrics: url(metrics), client }
    }

    /// Starts the program; answers how long it took until it was ready.
    async fn start(&self) -> (Program, Duration) {
        let log = File::options().create(true).append(true).open(self.dir.join("up.log")).unwrap();
        let begin = Instant::now();
        let child = Command::new(&self.binary)
            .args(["up", "--config"])
            .arg(self.dir.join("tally.toml"))
            .env("BENCH_MASTER", "07".repeat(32))
            .env("BENCH_ADMIN", ADMIN)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut program = Program(child);
        while !self.is_ready(&self.http).await {
            assert_eq!(
                program.0.try_wait().unwrap(),
                None,
                "it ended: see {}",
                self.dir.join("up.log").display()
            );
            assert!(begin.elapsed() < READY_WITHIN, "not ready in {READY_WITHIN:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (program, begin.elapsed())
    }

    async fn is_ready(&self, base: &str) -> bool {
        let asked = self.client.get(format!("{base}/readyz")).send().await;
        asked.is_ok_and(|answer| answer.status() == StatusCode::OK)
    }

    /// Waits until the watchers are at their nodes' tips too; `since` is how long ago the start was.
    async fn watchers_ready(&self, since: Duration) -> Duration {
        let begin = Instant::now();
        while !self.is_ready(&self.metrics).await {
            assert!(begin.elapsed() < READY_WITHIN, "the watchers are not ready");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        since + begin.elapsed()
    }

    async fn admin(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}/v1/admin/merchants/{MERCHANT}/{path}", self.admin);
        let answer = self.client.post(url).bearer_auth(ADMIN).json(body).send().await.unwrap();
        answer.json().await.unwrap()
    }

    /// A key and a wallet for the merchant of the log.
    async fn open_shop(&self) -> String {
        self.admin("wallets", &json!({ "chain": "ltc", "type": "p2wpkh", "public_key": WALLET })).await;
        let made = self.admin("keys", &json!({ "face": "deepay" })).await;
        made["api_key"].as_str().expect("a key").to_owned()
    }

    /// A signed call; `None` where it is not answered well.
    async fn call(&self, path: &str, key: &str, pairs: &[(&str, &str)]) -> Option<Value> {
        let mut pairs: Vec<_> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        pairs.push(("merchant_id".to_owned(), MERCHANT.to_string()));
        let sign = tally_sign::sign(&pairs, key, SignType::Md5);
        pairs.push(("sign".to_owned(), sign));
        let sent = self.client.post(format!("{}/order/{path}", self.http)).json(&json_of(pairs)).send().await;
        let answer = sent.ok()?;
        let good = answer.status() == StatusCode::OK;
        let body: Value = answer.json().await.ok()?;
        if !good {
            println!("{path}: {body}");
        }
        good.then_some(body)
    }

    /// Creates orders, quotes and pays them and mines for some seconds, and kills the program in the midst of it.
    /// Answers the own id of the last order that was acknowledged.
    async fn work_and_kill(
        &self,
        mut program: Program,
        sandbox: &Sandbox,
        key: &str,
        round: u64,
        created: &mut u64,
    ) -> String {
        let (stop, number) = (AtomicBool::new(false), AtomicU64::new(0));
        let last = Mutex::new(String::new());
        let client = async || {
            while !stop.load(Ordering::Relaxed) {
                let own_id =
                    format!("{}-{round}-{}", std::process::id(), number.fetch_add(1, Ordering::Relaxed));
                let order = [
                    ("out_trade_id", own_id.as_str()),
                    ("price_currency", "LTC"),
                    ("price_amount", "0.5"),
                    ("title", "A box of tea"),
                    ("callback_url", "https://shop.example/thanks"),
                    ("notify_url", "http://127.0.0.1:9/notify"),
                ];
                if self.call("create", key, &order).await.is_none() {
                    continue;
                }
                last.lock().unwrap().clone_from(&own_id);
                let checkout = [("out_trade_id", own_id.as_str()), ("pay_currency", "LTC")];
                if let Some(quote) = self.call("checkout", key, &checkout).await {
                    pay(sandbox, &quote);
                }
            }
        };
        let kill = async {
            for _ in 0..environment("TALLY_BENCH_SECONDS", 2) * 2 {
                tokio::time::sleep(Duration::from_millis(500)).await;
                sandbox.mine("ltc", 1).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(37 * (round + 1))).await;
            program.kill();
            stop.store(true, Ordering::Relaxed);
        };
        tokio::join!(kill, futures::future::join_all((0..CLIENTS).map(|_| client())));
        *created += number.into_inner();
        let last = last.into_inner().unwrap();
        assert!(!last.is_empty(), "no order was created: see {}", self.dir.join("up.log").display());
        last
    }
}

fn json_of(pairs: Vec<(String, String)>) -> Value {
    Value::Object(pairs.into_iter().map(|(name, value)| (name, value.into())).collect())
}

fn pay(sandbox: &Sandbox, quote: &Value) {
    let address = quote["payment_address"].as_str().expect("an address").to_owned();
    let pay = Pay { chain: "ltc".to_owned(), address, amount: "0.5".to_owned(), asset: None, mode: None };
    sandbox.pay(&pay).expect("a payment");
}
