//! How fast a read model is folded from the log on one core, and what it takes; beside it, how fast the same
//! facts are read bare from the same log, how long log and read model take to be ready again, and what a log takes of
//! facts of about 300 bytes, each an append of its own.
//!
//! `TALLY_BENCH_ORDERS` orders of eight facts each (125,000 unless set). The measured parts run in processes of
//! their own, kept to one core by `taskset` where there is one. `TALLY_BENCH_ROWS` and `TALLY_BENCH_CACHE_MB`: how
//! large commits are, and the store's cache.

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

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use serde_json::{Value, json};
use tally_benches::{Mix, Usage, dir_bytes, environment, finish};
use tally_log::LogName;
use tally_log::embedded::Embedded;
use tally_ports::{EventLog, Expectation, ReadModel, Store};
use tally_projector::{Options, Projector};
use tally_store::SledStore;
use tally_types::Position;

/// The allocator of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Of the log next to nothing is read twice.
const LOG_CACHE: u64 = 16 * 1024 * 1024;
const PART: &str = "TALLY_BENCH_PART";
const DIR: &str = "TALLY_BENCH_DIR";

fn main() {
    let part = std::env::var(PART).unwrap_or_default();
    // As `tally rebuild` has it.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    match part.as_str() {
        "" => runtime.block_on(all()),
        "fill" => {
            let dir = std::env::var(DIR).expect("a folder");
            let orders = environment("TALLY_BENCH_ORDERS", 125_000);
            println!("{}", runtime.block_on(fill(Path::new(&dir), orders)));
        }
        part => {
            let dir = std::env::var(DIR).expect("a folder");
            let result = runtime.block_on(measured(part, Path::new(&dir)));
            println!("{result}");
        }
    }
}

async fn all() {
    let orders = environment("TALLY_BENCH_ORDERS", 125_000);
    let dir = tempfile::tempdir().unwrap();
    let facts = fill(dir.path(), orders).await;
    let log_bytes = dir_bytes(&dir.path().join("log"));
    println!("{facts} facts of {orders} orders, {log_bytes} bytes of log");
    let read = part("read", dir.path());
    println!("read: {read}");
    let replay = part("replay", dir.path());
    println!("replay: {replay}");
    let read_per_second = facts as f64 / read["seconds"].as_f64().unwrap();
    let per_second = facts as f64 / replay["seconds"].as_f64().unwrap();
    let model_bytes = dir_bytes(&dir.path().join("model"));
    let restart = part("restart", dir.path());
    println!("restart: {restart}");
    let served = part("serve", dir.path());
    println!("serve: {served}");
    // The same, grown as facts come in: in small commits, and tidied now and then.
    let live = part("live", dir.path());
    println!("live: {live}");
    let live_bytes = dir_bytes(&dir.path().join("live"));
    let (small_bytes, small_facts) = small_facts(&dir.path().join("small")).await;
    let small_log_bytes = dir_bytes(&dir.path().join("small"));
    finish(
        "projector",
        &[
            ("events_per_second", per_second.into()),
            ("ratio_log_read", (per_second / read_per_second).into()),
            ("events_per_cpu_second", (facts as f64 / replay["cpu"].as_f64().unwrap()).into()),
            ("log_read_per_second", read_per_second.into()),
            ("facts", facts.into()),
            ("orders", orders.into()),
            ("model_bytes_per_order", (model_bytes as f64 / orders as f64).into()),
            ("live_bytes_per_order", (live_bytes as f64 / orders as f64).into()),
            ("model_resident_mb", served["resident_mb"].clone()),
            ("rebuild_peak_mb", replay["peak_mb"].clone()),
            ("log_bytes_per_fact", (log_bytes as f64 / facts as f64).into()),
            ("fact_bytes", read["fact_bytes"].clone()),
            ("small_fact_bytes", (small_bytes as f64 / small_facts as f64).into()),
            ("log_bytes_per_small_fact", (small_log_bytes as f64 / small_facts as f64).into()),
            ("restart_seconds", restart["seconds"].clone()),
        ],
    );
}

/// Runs a part in a process of its own, on one core.
fn part(name: &str, dir: &Path) -> Value {
    let program = std::env::current_exe().unwrap();
    let run = |mut command: Command| command.env(PART, name).env(DIR, dir).output();
    let mut pinned = Command::new("taskset");
    pinned.args(["-c", "1"]).arg(&program);
    let output = match run(pinned) {
        Ok(output) if output.status.success() => output,
        _ => run(Command::new(&program)).unwrap(),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

async fn fill(dir: &Path, orders: u64) -> u64 {
    let log = Embedded::open(&dir.join("log"), LOG_CACHE).unwrap().log(LogName::Main);
    let mut mix = Mix::new(orders);
    while let Some((expectations, batch)) = mix.next_append() {
        log.append(expectations, batch).await.unwrap();
    }
    log.head().await.unwrap().get()
}

/// Appends facts whose envelopes have about 300 bytes, each on a subject of its own, 64 waiting at a time; answers
/// their bytes and their number.
async fn small_facts(dir: &Path) -> (usize, u64) {
    const FACTS: u64 = 100_000;
    let log = Embedded::open(dir, LOG_CACHE).unwrap().log(LogName::Main);
    let bytes = futures::stream::iter(tally_benches::small_facts(FACTS))
        .map(|fact| {
            let log = log.clone();
            async move {
                let bytes = fact.to_json().unwrap().len();
                log.append(vec![Expectation::none(fact.subject.clone())], vec![fact]).await.unwrap();
                bytes
            }
        })
        .buffer_unordered(64);
    (bytes.fold(0, |sum, bytes| async move { sum + bytes }).await, FACTS)
}

fn model_cache() -> u64 {
    environment("TALLY_BENCH_CACHE_MB", 64) << 20
}

/// Reads every row of the read model, without any log in the process.
fn served(dir: &Path) -> Value {
    let store = SledStore::open(&dir.join("model"), model_cache()).unwrap();
    let (mut from, mut rows, mut bytes) = (Vec::new(), 0, 0);
    loop {
        let page = store.range(&from, &[0xff; 64], 1_000).unwrap();
        rows += page.len();
        bytes += page.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        let Some((mut last, _)) = page.into_iter().last() else { break };
        last.push(0);
        from = last;
    }
    json!({ "resident_mb": Usage::now().resident_mb, "rows": rows, "bytes": bytes })
}

async fn measured(part: &str, dir: &Path) -> Value {
    let opening = Instant::now();
    if part == "serve" {
        return served(dir);
    }
    let log = Embedded::open(&dir.join("log"), LOG_CACHE).unwrap().log(LogName::Main);
    let head = log.head().await.unwrap().get();
    let before = Usage::now();
    let begin = Instant::now();
    match part {
        "read" => {
            let mut facts = log.read(Position::START).await.unwrap();
            for _ in 0..head {
                facts.next().await.unwrap().unwrap();
            }
            let (seconds, cpu) = (begin.elapsed().as_secs_f64(), Usage::now().cpu_secs - before.cpu_secs);
            let (sample, mut bytes) = (head.min(10_000), 0);
            let mut facts = log.read(Position::START).await.unwrap();
            for _ in 0..sample {
                bytes += facts.next().await.unwrap().unwrap().event.to_json().unwrap().len();
            }
            json!({ "seconds": seconds, "cpu": cpu, "fact_bytes": bytes as f64 / sample as f64 })
        }
        "restart" => {
            let store = Arc::new(SledStore::open(&dir.join("model"), model_cache()).unwrap());
            let projector = Projector::open(Arc::new(log), store, Options::default()).await.unwrap();
            assert_eq!(projector.catch_up().await.unwrap().get(), head);
            let orders = projector.model().orders(&tally_ports::OrderFilter::default(), 3).await.unwrap();
            assert_eq!(orders.len(), 3);
            json!({ "seconds": opening.elapsed().as_secs_f64(), "peak_mb": Usage::now().peak_mb })
        }
        "live" => {
            let store = Arc::new(SledStore::open(&dir.join("live"), model_cache()).unwrap());
            let options = Options { rows_catching_up: 500, ..Options::default() };
            let projector = Projector::open(Arc::new(log), store.clone(), options).await.unwrap();
            let all = async {
                while projector.model().position().get() < head {
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            };
            tokio::select! {
                ended = projector.run() => panic!("{ended:?}"),
                () = all => {}
            }
            while store.tidy().unwrap() {}
            let usage = Usage::now();
            json!({
                "seconds": begin.elapsed().as_secs_f64(), "resident_mb": usage.resident_mb,
                "cpu": usage.cpu_secs - before.cpu_secs,
            })
        }
        "replay" => {
            let store = Arc::new(SledStore::open(&dir.join("model"), model_cache()).unwrap());
            let rows = environment("TALLY_BENCH_ROWS", Options::alone().rows_catching_up as u64);
            let options = Options { rows_catching_up: rows as usize, ..Options::alone() };
            let projector = Projector::open(Arc::new(log), store, options).await.unwrap();
            assert_eq!(projector.catch_up().await.unwrap().get(), head);
            let seconds = begin.elapsed().as_secs_f64();
            let usage = Usage::now();
            let orders = projector.model().orders(&tally_ports::OrderFilter::default(), 3).await.unwrap();
            assert!(orders.iter().all(|order| order.status().as_str() == "complete"), "{:?}", orders[0]);
            let backlog = projector.model().backlog().await.unwrap();
            json!({
                "seconds": seconds,
                "cpu": usage.cpu_secs - before.cpu_secs,
                "peak_mb": usage.peak_mb,
                "backlog": backlog,
            })
        }
        other => panic!("no part {other}"),
    }
}
