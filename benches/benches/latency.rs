//! How long after a node takes a block its deposits can be read in the log; and what a watcher costs that has nothing
//! to do.
//!
//! Starts a litecoind of its own (on `PATH`, or `LITECOIND_BIN`), whose `waitfornewblock` is the wake-up. `TALLY_BENCH_BLOCKS`
//! blocks (500 unless set) with 20 deposits each, every other block's announced in the mempool first. The time runs from
//! the moment the node is handed the block's transactions, so its own mining and checking are in it, until the last of
//! the block's facts is read from the embedded log, on disk.
//!
//! Idle: `tally watch` (`TALLY_BIN`, or built here) over `TALLY_BENCH_IDLE_SECS` seconds (30 unless set) after it has caught up.

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

#[path = "node/litecoind.rs"]
mod litecoind;
#[path = "node/watch.rs"]
mod watch;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt;
use litecoind::{Coin, Litecoind, Transaction, USER, pay};
use serde_json::json;
use tally_benches::{environment, finish};
use tally_events::Fact;
use tally_ports::EventLog;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Deposits in a block.
const DEPOSITS: u64 = 20;
/// Orders whose addresses are watched.
const ORDERS: u64 = 10_000;
/// Between two blocks, at least and at most, in milliseconds.
const BETWEEN_MS: (u64, u64) = (60, 260);

/// A block was there to read.
struct Read {
    height: u64,
    deposits: u64,
    at: Instant,
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Litecoind::start(dir.path(), &["-rest"]);
    node.mine(101);
    let coins = node.coins(DEPOSITS);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let times = runtime.block_on(latencies(&mut node, coins, environment("TALLY_BENCH_BLOCKS", 500)));
    drop(runtime);
    let (from_request, from_answer) = times.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
    let idle = idle(&node, environment("TALLY_BENCH_IDLE_SECS", 30));
    let (request, answer) = (Sorted::new(from_request), Sorted::new(from_answer));
    finish(
        "latency",
        &[
            ("p50_ms", request.at(0.5).into()),
            ("p99_ms", request.at(0.99).into()),
            ("idle_cpu_percent", idle.0.into()),
            ("idle_rss_mb", idle.1.into()),
            ("max_ms", request.at(1.0).into()),
            ("p50_after_answer_ms", answer.at(0.5).into()),
            ("p99_after_answer_ms", answer.at(0.99).into()),
        ],
    );
}

/// Times in milliseconds, ascending.
struct Sorted(Vec<f64>);

impl Sorted {
    fn new(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    fn at(&self, part: f64) -> f64 {
        self.0[((self.0.len() - 1) as f64 * part).ceil() as usize]
    }
}

/// For each block: from the request for it, and from the node's answer, until its facts were read.
async fn latencies(node: &mut Litecoind, mut coins: Vec<Coin>, blocks: u64) -> Vec<(f64, f64)> {
    let dir = tempfile::tempdir().unwrap();
    let start = node.height();
    let (embedded, log) = watch::open_log(dir.path(), ORDERS, start).await;
    let watcher = watch::watcher(dir.path(), &embedded, node.port(), start);
    let (sender, mut reads) = mpsc::unbounded_channel();
    let mut facts = log.read(log.head().await.unwrap()).await.unwrap();
    let reader = tokio::spawn(async move {
        let mut deposits = 0;
        while let Some(Ok(recorded)) = facts.next().await {
            match recorded.event.fact {
                Fact::DepositMined(_) => deposits += 1,
                Fact::BlockConnected(fact) => {
                    let read = Read { height: fact.block.height.get(), deposits, at: Instant::now() };
                    deposits = 0;
                    if sender.send(read).is_err() {
                        return;
                    }
                }
                _ => {}
            }
        }
    });
    let stop = CancellationToken::new();
    let running = tokio::spawn(watcher.run(stop.clone()));
    while reads.recv().await.unwrap().height < start {}
    let mut times = Vec::new();
    for block in 0..blocks {
        let spread = BETWEEN_MS.1 - BETWEEN_MS.0;
        let wait_ms = BETWEEN_MS.0 + block.wrapping_mul(7919) % spread;
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        let paid: Vec<Transaction> = (0..)
            .zip(&mut coins)
            .map(|(at, coin)| pay(coin, 1000, watch::payee((block * DEPOSITS + at) % ORDERS)))
            .collect();
        let announced = block % 2 == 1;
        let (requested, answered) = tokio::task::block_in_place(|| mine(node, &paid, announced));
        let read = tokio::time::timeout(Duration::from_secs(30), reads.recv()).await;
        let read = read.expect("the watcher has not told of a block within 30 s").unwrap();
        assert_eq!((read.height, read.deposits), (start + block + 1, DEPOSITS));
        let since = |from: Instant| read.at.saturating_duration_since(from).as_secs_f64() * 1e3;
        times.push((since(requested), since(answered)));
    }
    stop.cancel();
    running.await.unwrap().unwrap();
    reader.abort();
    times
}

/// When the node was asked for the block, and when it had it.
fn mine(node: &mut Litecoind, paid: &[Transaction], announced: bool) -> (Instant, Instant) {
    if announced {
        for one in paid {
            node.call("sendrawtransaction", json!([const_hex::encode(&one.raw)]));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = node.output();
    let requested = Instant::now();
    node.mine_to(&output, paid);
    (requested, Instant::now())
}

/// What `tally watch` uses while nothing happens: of a core, in percent, and of memory, in MB.
fn idle(node: &Litecoind, secs: u64) -> (f64, f64) {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("tally.toml");
    std::fs::write(&config, configuration(dir.path(), node.port())).unwrap();
    let mut tally = Tally(
        Command::new(program())
            .args(["watch", "ltc", "--config"])
            .arg(&config)
            .env("TALLY_MASTER_KEY", "5a".repeat(32))
            .env("TALLY_ADMIN_TOKEN", "bench")
            .env("LTC_PASSWORD", "bench")
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    std::thread::sleep(Duration::from_secs(5));
    let before = tally.cpu_ticks();
    let begun = Instant::now();
    std::thread::sleep(Duration::from_secs(secs));
    let used = tally.cpu_ticks() - before;
    let rss_mb = tally.rss_mb();
    assert!(tally.0.try_wait().unwrap().is_none(), "tally watch has ended");
    // A tick is a hundredth of a second.
    (used as f64 / begun.elapsed().as_secs_f64(), rss_mb)
}

fn program() -> PathBuf {
    if let Ok(path) = std::env::var("TALLY_BIN") {
        return path.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let built = Command::new(cargo).args(["build", "--release", "-p", "tally"]).current_dir(root).status();
    assert!(built.is_ok_and(|status| status.success()), "tally cannot be built; set TALLY_BIN");
    let target = std::env::var("CARGO_TARGET_DIR").map_or_else(|_| root.join("target"), PathBuf::from);
    target.join("release/tally")
}

fn configuration(dir: &Path, node: u16) -> String {
    let [http, admin, metrics] =
        [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    format!(
        r#"public_url = "http://127.0.0.1:{http}"
data_dir = {:?}
[secrets]
master = "env:TALLY_MASTER_KEY"
[http]
listen = "127.0.0.1:{http}"
[admin]
listen = "127.0.0.1:{admin}"
token = "env:TALLY_ADMIN_TOKEN"
[metrics]
listen = "127.0.0.1:{metrics}"
[[chain]]
id = "ltc"
kind = "bitcoin"
coin = "ltc"
network = "regtest"
rpc = [{{ url = "http://127.0.0.1:{node}", user = "{USER}", password = "env:LTC_PASSWORD" }}]
"#,
        dir.join("data")
    )
}

/// A running `tally`; it ends with this value.
struct Tally(Child);

impl Tally {
    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).unwrap()
    }

    fn cpu_ticks(&self) -> u64 {
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        // The 14th and 15th field of the whole line.
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    fn rss_mb(&self) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
