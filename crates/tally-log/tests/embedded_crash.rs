//! The embedded log killed in the midst of appends: what was answered for is there, whole and in order.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the child process is told by its environment where to write")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use tally_log::LogName;
use tally_log::embedded::{Embedded, EmbeddedLog};
use tally_ports::{EventLog, Expectation};
use tally_testkit::{claimed, expired};
use tally_types::Position;

const CACHE_BYTES: u64 = 16 * 1024 * 1024;
const DIR: &str = "TALLY_TEST_CRASH_DIR";
const WRITERS: u64 = 8;

/// Appends without end, and prints each position once it is answered: two facts on two subjects at a time, sometimes
/// large ones.
async fn write(log: EmbeddedLog, order: u64) {
    let subject = expired(order, 0).subject;
    let mut at = log.last(&subject).await.unwrap().map_or(Position::START, |fact| fact.position);
    let first = i64::try_from(at.get()).unwrap();
    for n in first.. {
        let mut claim = claimed(&format!("{order}-{n}"), order);
        claim.correlation = (n % 7 == 0).then(|| "x".repeat(30_000));
        let expect = vec![Expectation::new(subject.clone(), at), Expectation::none(claim.subject.clone())];
        let positions = log.append(expect, vec![claim, expired(order, n)]).await.unwrap();
        at = positions[1];
        println!("at {order} {n} {at}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
/// The child process; as a test of its own it has nothing to do.
async fn writer() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let log = Embedded::open(Path::new(&dir), CACHE_BYTES).unwrap().log(LogName::Main);
    join_all((1..=WRITERS).map(|order| tokio::spawn(write(log.clone(), order)))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_for_outlives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut answered: Vec<(u64, i64, Position)> = Vec::new();
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (begun, begins) = std::sync::mpsc::channel();
        let lines = std::thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            let told = lines.inspect(|line| {
                if line.starts_with("at ") {
                    // Only the first is waited for.
                    let _ = begun.send(());
                }
            });
            told.collect::<Vec<_>>()
        });
        // It dies in the middle of its work, however long its start took.
        begins.recv_timeout(Duration::from_secs(120)).expect("it writes");
        std::thread::sleep(Duration::from_millis(50 + round * 37));
        child.kill().unwrap();
        child.wait().unwrap();
        let before = answered.len();
        for line in lines.join().unwrap() {
            let Some(rest) = line.strip_prefix("at ") else { continue };
            // The last line may be cut off.
            if let [order, n, at] = rest.split(' ').collect::<Vec<_>>()[..]
                && let (Ok(order), Ok(n), Ok(at)) = (order.parse(), n.parse(), at.parse())
                && line.len() > 6
            {
                answered.push((order, n, at));
            }
        }
        assert!(answered.len() > before, "round {round}: something was written");
        check(dir.path(), &answered[..answered.len() - 1]).await;
    }
}

async fn check(dir: &Path, answered: &[(u64, i64, Position)]) {
    let log = Embedded::open(dir, CACHE_BYTES).unwrap().log(LogName::Main);
    let head = log.head().await.unwrap();
    assert_eq!(head.get() % 2, 0, "no append is there by half");
    let count = usize::try_from(head.get()).unwrap();
    let facts: Vec<_> =
        log.read(Position::START).await.unwrap().take(count).map(Result::unwrap).collect().await;
    assert!(facts.iter().map(|fact| fact.position.get()).eq(1..=head.get()));
    for (order, n, at) in answered {
        let fact = &facts[usize::try_from(at.get() - 1).unwrap()];
        assert_eq!(fact.event.id, expired(*order, *n).id, "order {order}, fact {n} at {at}");
    }
}
