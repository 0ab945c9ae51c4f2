//! The embedded log under a loss of power: what a child process writes and syncs is recorded with `strace`, the disk
//! is built again as it was when each fdatasync returned, without anything that came after it or was never synced,
//! and each of these images is opened: what was answered for by then is there.
//!
//! Where there is no `strace`, or it may not trace, nothing is proved, and the test says so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the child process is told by its environment where to write")]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use futures::StreamExt;
use futures::future::join_all;
use tally_log::LogName;
use tally_log::embedded::Embedded;
use tally_ports::{EventLog, Expectation};
use tally_testkit::expired;
use tally_types::Position;

const CACHE_BYTES: u64 = 16 * 1024 * 1024;
const DIR: &str = "TALLY_TEST_POWER_DIR";
const WRITERS: u64 = 4;
const EACH: i64 = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
/// The child process; as a test of its own it has nothing to do.
async fn writer() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let log = Embedded::open(Path::new(&dir), CACHE_BYTES).unwrap().log(LogName::Main);
    let writers = (1..=WRITERS).map(|order| {
        let log = log.clone();
        tokio::spawn(async move {
            let mut at = Position::START;
            for n in 0..EACH {
                let mut fact = expired(order, n);
                fact.correlation = (n % 9 == 0).then(|| "x".repeat(20_000));
                let expect = vec![Expectation::new(fact.subject.clone(), at)];
                at = log.append(expect, vec![fact]).await.unwrap()[0];
                println!("answered {at}");
            }
        })
    });
    join_all(writers).await;
}

/// One call as it was traced.
#[derive(Debug, Default, Clone)]
struct Call {
    name: String,
    /// What stands between the brackets.
    arguments: String,
    result: i64,
    /// The numbers of the lines where it began and ended.
    began: usize,
    ended: usize,
}

/// The calls of a trace, in the order in which they ended.
fn calls(trace: &str) -> Vec<Call> {
    let mut open: HashMap<&str, Call> = HashMap::new();
    let mut calls = Vec::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((process, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let result = |text: &str| text.rsplit(" = ").next()?.split(' ').next()?.parse::<i64>().ok();
        if let Some(resumed) = rest.strip_prefix("<... ") {
            if let (Some(mut call), Some(result)) = (open.remove(process), result(resumed)) {
                call.result = result;
                call.ended = number;
                calls.push(call);
            }
            continue;
        }
        let Some((name, arguments)) = rest.split_once('(') else { continue };
        let unfinished = arguments.strip_suffix("<unfinished ...>");
        let call = Call {
            name: name.to_owned(),
            arguments: unfinished.unwrap_or(arguments).to_owned(),
            began: number,
            ended: number,
            result: 0,
        };
        if unfinished.is_some() {
            open.insert(process, call);
        } else if let Some(result) = result(arguments) {
            calls.push(Call { result, ..call });
        }
    }
    calls
}

/// The first text in quotes, all in hexadecimal.
fn bytes(arguments: &str) -> Vec<u8> {
    let quoted = arguments.split('"').nth(1).unwrap_or_default();
    quoted
        .split("\\x")
        .skip(1)
        .map(|digits| u8::from_str_radix(digits.get(..2).unwrap(), 16).unwrap())
        .collect()
}

/// The path that strace puts behind a file's number.
fn path(arguments: &str) -> Option<PathBuf> {
    let hex = arguments.split_once('<')?.1.split_once('>')?.0;
    if hex.contains("\\x") {
        let bytes = hex.split("\\x").skip(1).map(|digits| u8::from_str_radix(digits.get(..2)?, 16).ok());
        return String::from_utf8(bytes.collect::<Option<Vec<u8>>>()?).ok().map(PathBuf::from);
    }
    Some(PathBuf::from(hex))
}

fn last_number(arguments: &str) -> u64 {
    let digits = arguments.split(')').next().unwrap_or_default().rsplit(", ").next().unwrap_or_default();
    digits.trim().trim_end_matches(',').parse().unwrap_or_else(|_| panic!("{arguments:.200}"))
}

/// A file's bytes.
type Files = BTreeMap<PathBuf, Vec<u8>>;

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if file.len() < at + bytes.len() {
        file.resize(at + bytes.len(), 0);
    }
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Does to the files what a call did.
fn replay(files: &mut Files, call: &Call, offsets: &mut HashMap<PathBuf, usize>) {
    let Some(path) = path(&call.arguments) else { return };
    match call.name.as_str() {
        "pwrite64" => {
            let at = usize::try_from(last_number(&call.arguments)).unwrap();
            put(files.entry(path).or_default(), at, &bytes(&call.arguments));
        }
        "write" => {
            let at = offsets.entry(path.clone()).or_default();
            let bytes = bytes(&call.arguments);
            put(files.entry(path).or_default(), *at, &bytes);
            *at += bytes.len();
        }
        "ftruncate" => {
            let length = usize::try_from(last_number(&call.arguments)).unwrap();
            files.entry(path).or_default().resize(length, 0);
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sync_point_opens_and_has_what_was_answered_for() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("log");
    let trace = dir.path().join("trace");
    let traced = Command::new("strace")
        .args(["-f", "-y", "-xx", "-s", "4000000", "-e", "signal=none"])
        .args(["-e", "trace=pwrite64,write,ftruncate,fdatasync,fsync,sync_file_range", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--nocapture"])
        .env(DIR, &data)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let text = std::fs::read_to_string(&trace).unwrap_or_default();
    if !traced.as_ref().is_ok_and(std::process::ExitStatus::success) || text.is_empty() {
        println!("not run: strace cannot be used here ({traced:?})");
        return;
    }
    let calls = calls(&text);
    let db = data.join("db");
    let (mut images, mut answered) = (0, 0_u64);
    let mut files = Files::new();
    let mut offsets = HashMap::new();
    let mut waiting: Vec<&Call> = Vec::new();
    for call in &calls {
        let is_db = path(&call.arguments).is_some_and(|path| path == db);
        match call.name.as_str() {
            "fdatasync" if is_db && call.result == 0 => {
                // Only what had ended when the sync began is on the disk for certain.
                let (durable, later): (Vec<&Call>, Vec<&Call>) =
                    waiting.drain(..).partition(|write| write.ended < call.began);
                for write in durable {
                    replay(&mut files, write, &mut offsets);
                }
                waiting = later;
                images += 1;
                check(dir.path(), &data, &files, answered).await;
            }
            // What was printed by now was answered for: by syncs that had returned.
            "write" if path(&call.arguments).is_none_or(|path| !path.starts_with(&data)) => {
                let line = String::from_utf8_lossy(&bytes(&call.arguments)).into_owned();
                let number = line.trim().strip_prefix("answered ").and_then(|number| number.parse().ok());
                answered = answered.max(number.unwrap_or(0));
            }
            // The marks beside the database are never synced, and a snapshot is a cache: a loss of power may take
            // both. `conf` is written and synced before the first fact.
            "pwrite64" | "write" | "ftruncate" => {
                let name = path(&call.arguments).and_then(|path| path.file_name().map(ToOwned::to_owned));
                if name.is_some_and(|name| name == "db" || name == "conf") {
                    waiting.push(call);
                }
            }
            _ => {}
        }
    }
    println!("{images} images");
    assert!(images > EACH as usize / 2, "{images} sync points were seen");
    assert_eq!(answered, WRITERS * EACH as u64);
}

/// Opens an image and reads all of it.
async fn check(dir: &Path, data: &Path, files: &Files, answered: u64) {
    let image = dir.join("image");
    let _ = std::fs::remove_dir_all(&image);
    std::fs::create_dir(&image).unwrap();
    for (path, bytes) in files {
        std::fs::write(image.join(path.strip_prefix(data).unwrap()), bytes).unwrap();
    }
    let log = Embedded::open(&image, CACHE_BYTES)
        .unwrap_or_else(|error| panic!("after {answered} were answered for: {error}"))
        .log(LogName::Main);
    let head = log.head().await.unwrap().get();
    assert!(head >= answered, "it ends at {head}, and {answered} was answered for");
    let count = usize::try_from(head).unwrap();
    let facts: Vec<_> =
        log.read(Position::START).await.unwrap().take(count).map(Result::unwrap).collect().await;
    assert!(facts.iter().map(|fact| fact.position.get()).eq(1..=head));
}
