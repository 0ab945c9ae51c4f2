//! How fast a watcher catches up with a node, beside a bare client that only downloads the same blocks over the
//! same transport, as many at a time; and whether its memory stays flat over many small blocks.
//!
//! Starts a litecoind of its own (on `PATH`, or `LITECOIND_BIN`). `TALLY_BENCH_BIG` blocks of 1.4 MB with 6,500 payments
//! (240 unless set), `TALLY_BENCH_SMALL` empty ones (100,000 unless set), `TALLY_BENCH_ROUNDS` rounds (5 unless set). Both
//! clients run in processes of their own; of the rounds, the median counts.

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

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use futures::StreamExt;
use litecoind::{Http, Litecoind, anybody, pay};
use serde_json::{Value, json};
use tally_benches::{Usage, environment, finish};
use tally_events::Fact;
use tally_ports::EventLog;
use tally_types::Position;
use tally_watcher::WatcherConfig;
use tokio_util::sync::CancellationToken;

const PART: &str = "TALLY_BENCH_PART";
const PLAN: &str = "TALLY_BENCH_PLAN";
/// Payments in a big block: as many as fit, of one input and two outputs each.
const PAYMENTS: u64 = 6_500;
/// Orders whose addresses are watched.
const ORDERS: u64 = 10_000;
/// Blocks over the big ones: a run of blocks is one fact only so far below the tip.
const ON_TOP: u64 = 100;

fn main() {
    let plan = || serde_json::from_str(&std::env::var(PLAN).expect("a plan")).unwrap();
    match std::env::var(PART).as_deref() {
        Ok("bare") => println!("{}", bare(&plan())),
        Ok("watch") => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            println!("{}", runtime.block_on(watch(&plan())));
        }
        _ => all(),
    }
}

fn all() {
    let rounds = environment("TALLY_BENCH_ROUNDS", 5);
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = fill(dir.path(), environment("TALLY_BENCH_BIG", 240));
    let mut figures = Vec::new();
    for (name, more) in [("rest", &["-rest"][..]), ("hex", &[])] {
        let node = Litecoind::start(dir.path(), more);
        let mut ratios = Vec::new();
        let mut speeds = Vec::new();
        let mut peak_mb: f64 = 0.0;
        let plan =
            json!({"port": node.port(), "from": from, "to": to, "rest": name == "rest", "orders": ORDERS});
        part("bare", &plan);
        for round in 0..rounds {
            let (bare, watch) = (part("bare", &plan), part("watch", &plan));
            let speed = |result: &Value| bare["mb"].as_f64().unwrap() / result["seconds"].as_f64().unwrap();
            ratios.push(speed(&watch) / speed(&bare));
            speeds.push(speed(&watch));
            peak_mb = peak_mb.max(watch["peak_mb"].as_f64().unwrap());
            println!(
                "{name} {round}: bare {:.0} MB/s, watcher {:.0} MB/s: {watch}",
                speed(&bare),
                speed(&watch)
            );
        }
        figures.push((median(&mut ratios), median(&mut speeds), peak_mb));
    }
    let small = small_blocks(environment("TALLY_BENCH_SMALL", 100_000));
    let (rest, hex) = (figures[0], figures[1]);
    finish(
        "catchup",
        &[
            ("ratio_download", rest.0.into()),
            ("mb_per_second", rest.1.into()),
            ("rss_mb", small["peak_mb"].clone()),
            ("ratio_download_hex", hex.0.into()),
            ("mb_per_second_hex", hex.1.into()),
            ("rss_big_blocks_mb", rest.2.max(hex.2).into()),
            ("rss_growth_mb", small["growth_mb"].clone()),
            ("small_blocks_per_second", small["blocks_per_second"].clone()),
        ],
    );
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Runs a part in a process of its own.
fn part(name: &str, plan: &Value) -> Value {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.env(PART, name).env(PLAN, plan.to_string()).output().unwrap();
    std::io::stderr().write_all(&output.stderr).unwrap();
    assert!(output.status.success(), "part {name} failed");
    serde_json::from_str(String::from_utf8(output.stdout).unwrap().lines().last().unwrap()).unwrap()
}

/// Big blocks: each pays thousands of strangers and one order. The heights of the first and the last.
fn fill(dir: &Path, blocks: u64) -> (u64, u64) {
    let mut node = Litecoind::start(dir, &[]);
    node.mine(101);
    let mut coins = node.coins(PAYMENTS);
    let from = node.height() + 1;
    let begun = Instant::now();
    for block in 0..blocks {
        let to =
            |at: u64| watch::payee(if at == 0 { block % ORDERS } else { ORDERS + block * PAYMENTS + at });
        let paid: Vec<_> = (0..).zip(&mut coins).map(|(at, coin)| pay(coin, 1000, to(at))).collect();
        node.mine_these(&paid);
    }
    let to = node.height();
    let hash = node.hash(to);
    let bytes = node.call("getblock", json!([hash, 1]))["size"].as_u64().unwrap();
    assert!(bytes >= 1_000_000, "blocks of {bytes} bytes are too small");
    node.mine(ON_TOP);
    println!(
        "{blocks} blocks of {bytes} bytes in {:.0} s; coins lie on {} bytes",
        begun.elapsed().as_secs_f64(),
        anybody().len()
    );
    (from, to)
}

/// Only downloads, into memory that is used again.
fn bare(plan: &Value) -> Value {
    let number = |name: &str| plan[name].as_u64().unwrap();
    let (port, rest) = (u16::try_from(number("port")).unwrap(), plan["rest"].as_bool().unwrap());
    let mut http = Http::connect(port).unwrap();
    let hashes: Vec<String> = (number("from")..=number("to"))
        .map(|height| {
            http.call("getblockhash", &json!([height])).unwrap()["result"].as_str().unwrap().to_owned()
        })
        .collect();
    let (next, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
    let clients: Vec<_> = (0..prefetch()).map(|_| Mutex::new(Http::connect(port).unwrap())).collect();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for client in &clients {
            scope.spawn(|| {
                let mut client = client.lock().unwrap();
                while let Some(hash) = hashes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let body = if rest {
                        client.get(&format!("/rest/block/{hash}.bin")).unwrap().len()
                    } else {
                        let call =
                            json!({"jsonrpc": "1.0", "id": 0, "method": "getblock", "params": [hash, 0]});
                        client.post(&call.to_string()).unwrap().len() / 2
                    };
                    assert!(body > 200_000, "{body} bytes are no block");
                    bytes.fetch_add(body as u64, Ordering::Relaxed);
                }
            });
        }
    });
    json!({"seconds": begun.elapsed().as_secs_f64(), "mb": bytes.into_inner() as f64 / 1e6})
}

fn prefetch() -> usize {
    WatcherConfig::new(watch::chain(), 0).prefetch
}

/// The watcher from its start until the last block is durable in the log.
async fn watch(plan: &Value) -> Value {
    let number = |name: &str| plan[name].as_u64().unwrap();
    let (from, to) = (number("from"), number("to"));
    let dir = tempfile::tempdir().unwrap();
    let (embedded, log) = watch::open_log(dir.path(), number("orders"), from).await;
    let watcher = watch::watcher(dir.path(), &embedded, u16::try_from(number("port")).unwrap(), from);
    let mut facts = log.read(log.head().await.unwrap()).await.unwrap();
    let begun = Instant::now();
    let stop = CancellationToken::new();
    let running = tokio::spawn(watcher.run(stop.clone()));
    let (mut deposits, mut early_mb) = (0_u64, 0.0);
    loop {
        let recorded = facts.next().await.unwrap().unwrap();
        match recorded.event.fact {
            Fact::DepositMined(_) => deposits += 1,
            Fact::BlockConnected(fact) => {
                let height = fact.block.height.get();
                if early_mb == 0.0 && height >= from + (to - from) / 4 {
                    early_mb = Usage::now().resident_mb;
                }
                if height >= to {
                    break;
                }
            }
            _ => {}
        }
    }
    let (seconds, usage) = (begun.elapsed().as_secs_f64(), Usage::now());
    stop.cancel();
    running.await.unwrap().unwrap();
    assert!(number("orders") == 0 || deposits > 0, "no deposit was found");
    json!({
        "seconds": seconds, "deposits": deposits, "cpu_secs": usage.cpu_secs, "peak_mb": usage.peak_mb,
        "early_mb": early_mb, "late_mb": usage.resident_mb, "facts": log.head().await.unwrap_or(Position::START).get(),
    })
}

/// Memory over many blocks with nothing in them.
fn small_blocks(blocks: u64) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Litecoind::start(dir.path(), &["-rest"]);
    let begun = Instant::now();
    node.mine(blocks + ON_TOP);
    println!("{blocks} small blocks in {:.0} s", begun.elapsed().as_secs_f64());
    let watch = part("watch", &json!({"port": node.port(), "from": 1, "to": blocks, "orders": 0}));
    println!("small blocks: {watch}");
    let mb = |name: &str| watch[name].as_f64().unwrap();
    json!({
        "peak_mb": mb("peak_mb"), "growth_mb": mb("late_mb") - mb("early_mb"),
        "blocks_per_second": blocks as f64 / mb("seconds"),
    })
}
