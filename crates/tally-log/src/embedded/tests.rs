//! The conformance suites, and what is special about the embedded log.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use futures::StreamExt;
use tally_events::{Event, RatesPublished, Subject};
use tally_ports::{AppendError, EventLog, Expectation, Lease, Purge};
use tally_testkit::conformance::{event_log_conformance, lease_conformance, purge_conformance};
use tally_testkit::{ManualClock, claimed, expired};
use tally_types::{Position, Span, Timestamp};

use super::*;

const CACHE_BYTES: u64 = 16 * 1024 * 1024;

async fn append(log: &EmbeddedLog, at: Position, event: Event) -> Result<Vec<Position>, AppendError> {
    log.append(vec![Expectation::new(event.subject.clone(), at)], vec![event]).await
}

async fn fill(dir: &Path, facts: i64) {
    let log = Embedded::open(dir, CACHE_BYTES).unwrap().log(LogName::Main);
    let mut at = Position::START;
    for n in 0..facts {
        at = append(&log, at, expired(1, n)).await.unwrap()[0];
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_conforms() {
    let dir = tempfile::tempdir().unwrap();
    for name in [LogName::Main, LogName::Rates] {
        event_log_conformance(|case| {
            let embedded = Embedded::open(&dir.path().join(format!("{name:?}-{case}")), CACHE_BYTES).unwrap();
            let log = Arc::new(embedded.log(name)) as Arc<dyn EventLog>;
            async move { log }
        })
        .await;
        purge_conformance(|case| {
            let embedded = Embedded::open(&dir.path().join(format!("{name:?}-{case}")), CACHE_BYTES).unwrap();
            let log = Arc::new(embedded.log(name)) as Arc<dyn Purge>;
            async move { log }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_conform() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let open = |case| {
        let embedded = Embedded::open(&dir.path().join(case), CACHE_BYTES).unwrap();
        let lease = Arc::new(embedded.lease(clock.clone())) as Arc<dyn Lease>;
        async move { lease }
    };
    let elapse = |span| {
        clock.advance(span);
        std::future::ready(())
    };
    lease_conformance(open, elapse).await;
}

#[tokio::test]
async fn a_late_renewal_holds_while_nobody_else_came() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let lease = Embedded::open(dir.path(), CACHE_BYTES).unwrap().lease(clock.clone());
    let grant = lease.acquire("duty", Span::from_secs(10)).await.unwrap().unwrap();
    clock.advance(Span::from_secs(3_600));
    assert_eq!(lease.renew(&grant, Span::from_secs(10)).await.unwrap(), Some(grant));
}

#[tokio::test]
async fn a_clock_set_back_makes_no_lease_longer() {
    let dir = tempfile::tempdir().unwrap();
    let right = Timestamp::from_millis(1_700_000_000_000);
    let clock = Arc::new(ManualClock::at(right.plus(Span::from_secs(3_600))));
    let lease = Embedded::open(dir.path(), CACHE_BYTES).unwrap().lease(clock.clone());
    let ttl = Span::from_secs(10);
    let gone = lease.acquire("duty", ttl).await.unwrap().unwrap();
    clock.set(right);
    assert_eq!(lease.acquire("duty", ttl).await.unwrap(), None, "its holder may live");
    clock.advance(Span::from_secs(9));
    assert_eq!(lease.acquire("duty", ttl).await.unwrap(), None);
    clock.advance(Span::from_secs(1));
    let next = lease.acquire("duty", ttl).await.unwrap().unwrap();
    assert!(next.epoch > gone.epoch);
    assert_eq!(lease.renew(&gone, ttl).await.unwrap(), None);
}

#[tokio::test]
async fn the_logs_of_an_installation_are_apart() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(dir.path(), CACHE_BYTES).unwrap();
    let (main, rates) = (embedded.log(LogName::Main), embedded.log(LogName::Rates));
    assert_eq!(append(&main, Position::START, expired(1, 1)).await.unwrap(), [Position::new(1)]);
    assert_eq!(append(&rates, Position::START, expired(1, 1)).await.unwrap(), [Position::new(1)]);
    append(&main, Position::new(1), expired(1, 2)).await.unwrap();
    assert_eq!(
        (main.head().await.unwrap(), rates.head().await.unwrap()),
        (Position::new(2), Position::new(1))
    );
}

#[tokio::test]
async fn a_directory_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Embedded::open(dir.path(), CACHE_BYTES).unwrap();
    let error = Embedded::open(dir.path(), CACHE_BYTES).unwrap_err();
    let message = error.to_string();
    assert!(!error.is_transient() && message.contains("in use by another process"), "{message}");
    assert!(message.contains(dir.path().to_str().unwrap()), "{message}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_not_called_damaged() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("db")).unwrap();
    let error = Embedded::open(dir.path(), CACHE_BYTES).unwrap_err();
    let message = error.to_string();
    assert!(!error.is_transient() && message.contains("cannot be used"), "{message}");
    assert!(message.contains(dir.path().to_str().unwrap()) && !message.contains("restore"), "{message}");
}

#[tokio::test]
async fn what_a_crash_leaves_of_a_snapshot_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 3).await;
    std::fs::write(dir.path().join("snap.00000000000000AB.generating"), b"half").unwrap();
    let log = Embedded::open(dir.path(), CACHE_BYTES).unwrap().log(LogName::Main);
    assert_eq!(log.head().await.unwrap(), Position::new(3));
}

/// Opens the log's database behind its back.
fn tamper(dir: &Path, change: impl FnOnce(&sled::Db)) {
    let (db, _file) = files::open(dir, CACHE_BYTES).unwrap();
    change(&db);
    db.flush().unwrap();
}

#[tokio::test]
async fn damage_stops_the_log_and_says_what_to_do() {
    type Change = fn(&sled::Db);
    let cases: [(&str, Change); 6] = [
        ("a fact that changed", |db| {
            let key = record::fact_key(Tag::Main, 7);
            let mut row = db.get(key).unwrap().unwrap().to_vec();
            let last = row.len() - 20;
            row[last] ^= 1;
            db.insert(key, row).unwrap();
        }),
        ("a fact under a wrong position", |db| {
            let row = db.get(record::fact_key(Tag::Main, 6)).unwrap().unwrap();
            db.insert(record::fact_key(Tag::Main, 7), row).unwrap();
        }),
        ("a fact that is gone", |db| {
            db.remove(record::fact_key(Tag::Main, 7)).unwrap();
        }),
        ("the last fact gone", |db| {
            db.remove(record::fact_key(Tag::Main, 10)).unwrap();
        }),
        ("no mark", |db| {
            db.remove(record::mark_key(Tag::Main)).unwrap();
        }),
        ("a whole shorter log", |db| {
            db.remove(record::fact_key(Tag::Main, 10)).unwrap();
            db.insert(record::mark_key(Tag::Main), &record::mark(Tag::Main, 9)[..]).unwrap();
        }),
    ];
    for (name, change) in cases {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), 10).await;
        tamper(dir.path(), change);
        let error = Embedded::open(dir.path(), CACHE_BYTES).map(|_| ()).expect_err(name);
        assert!(!error.is_transient(), "{name}");
        assert!(
            error.to_string().contains("damaged") && error.to_string().contains("restore"),
            "{name}: {error}"
        );
    }
}

#[tokio::test]
async fn old_damage_is_met_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 10).await;
    let embedded = Embedded::open(dir.path(), CACHE_BYTES).unwrap();
    embedded.0.db.remove(record::fact_key(Tag::Main, 3)).unwrap();
    let facts: Vec<_> = embedded.log(LogName::Main).read(Position::START).await.unwrap().collect().await;
    let (last, good) = facts.split_last().unwrap();
    assert!(good.iter().all(Result::is_ok) && good.len() < 3);
    assert!(last.as_ref().is_err_and(|error| error.to_string().contains("damaged")), "then the reader ends");
}

#[tokio::test]
async fn bytes_that_rot_never_shorten_the_log_unseen() {
    for at in [300, 4_000, 40_000, 150_000] {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), 400).await;
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("snap.") {
                std::fs::remove_file(path).unwrap();
            }
        }
        let file = std::fs::OpenOptions::new().write(true).open(dir.path().join("db")).unwrap();
        file.write_all_at(&[0x55; 64], at).unwrap();
        drop(file);
        let Ok(embedded) = Embedded::open(dir.path(), CACHE_BYTES) else { continue };
        let log = embedded.log(LogName::Main);
        assert_eq!(log.head().await.unwrap(), Position::new(400), "byte {at}");
        let mut facts = log.read(Position::START).await.unwrap();
        for n in 0..400 {
            match facts.next().await.unwrap() {
                Ok(fact) => assert_eq!(fact.event.id, expired(1, n).id, "byte {at}"),
                Err(_) => break,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_write_ends_all_promises() {
    let dir = tempfile::tempdir().unwrap();
    let claim = files::claim(dir.path()).unwrap();
    let (db, _) = files::open(dir.path(), CACHE_BYTES).unwrap();
    let high_water = HighWater::open(dir.path()).unwrap();
    let (main, main_end) = tail(dir.path(), &db, Tag::Main, &high_water).unwrap();
    let (rates, rates_end) = tail(dir.path(), &db, Tag::Rates, &high_water).unwrap();
    // An fsync of this file fails.
    let file = std::fs::File::open("/proc/self/status").unwrap();
    let (requests, waiting) = mpsc::channel(8);
    let writer = writer::Writer {
        dir: dir.path().to_owned(),
        db: db.clone(),
        file,
        high_water,
        main: main_end,
        rates: rates_end,
    };
    let inner = Inner {
        dir: dir.path().to_owned(),
        db,
        requests: Some(requests),
        writer: Some(std::thread::spawn(move || writer.run(waiting))),
        main,
        rates,
        held: tokio::sync::Mutex::default(),
        _claim: claim,
    };
    let log = Embedded(Arc::new(inner)).log(LogName::Main);
    let mut reader = log.read(Position::START).await.unwrap();
    for _ in 0..2 {
        let refused = append(&log, Position::START, expired(1, 1)).await.unwrap_err();
        assert!(matches!(&refused, AppendError::Port(error) if !error.is_transient()), "{refused:?}");
    }
    let end = tokio::time::timeout(Duration::from_secs(5), reader.next()).await.unwrap();
    assert!(end.unwrap().is_err(), "readers are told");
    assert_eq!(log.head().await.unwrap(), Position::START);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_facts_stay_in_the_file_that_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(dir.path(), CACHE_BYTES).unwrap().log(LogName::Main);
    for n in 0..60 {
        let mut event = claimed(&n.to_string(), 1);
        event.correlation = Some("x".repeat(100_000));
        append(&log, Position::START, event).await.unwrap();
    }
    assert_eq!(std::fs::read_dir(dir.path().join("blobs")).unwrap().count(), 0);
}

#[tokio::test]
async fn old_rates_go() {
    let dir = tempfile::tempdir().unwrap();
    let rates = Embedded::open(dir.path(), CACHE_BYTES).unwrap().log(LogName::Rates);
    let mut at = Position::START;
    for day in 0..20 {
        let time = Timestamp::from_secs(day * 24 * 3600);
        let fact = RatesPublished { assets: vec![], fiat: vec![], at: time };
        at = append(&rates, at, Event::new(Subject::rates(), fact, time)).await.unwrap()[0];
    }
    drop(rates);
    let rates = Embedded::open(dir.path(), CACHE_BYTES).unwrap().log(LogName::Rates);
    let facts: Vec<_> = rates.read(Position::START).await.unwrap().take(8).collect().await;
    let positions: Vec<_> = facts.into_iter().map(|fact| fact.unwrap().position.get()).collect();
    assert_eq!(positions, [13, 14, 15, 16, 17, 18, 19, 20], "seven days and the moment they begin");
    assert_eq!(rates.last(&Subject::rates()).await.unwrap().map(|fact| fact.position), Some(at));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_that_are_slow_or_many_miss_nothing() {
    const WRITERS: u64 = 32;
    const EACH: i64 = 60;
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(dir.path(), CACHE_BYTES).unwrap().log(LogName::Main);
    let all = usize::try_from(WRITERS * EACH.unsigned_abs()).unwrap();
    let readers: Vec<_> = (0..6)
        .map(|n: u64| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut facts = log.read(Position::START).await.unwrap();
                for position in 1..=all {
                    assert_eq!(facts.next().await.unwrap().unwrap().position.get(), position as u64);
                    if n.is_multiple_of(2) && position.is_multiple_of(100) {
                        tokio::time::sleep(Duration::from_millis(n * 2)).await;
                    }
                }
            })
        })
        .collect();
    let writers = (1..=WRITERS).map(|writer| {
        let log = log.clone();
        tokio::spawn(async move {
            let mut at = Position::START;
            for n in 0..EACH {
                at = append(&log, at, expired(writer, n)).await.unwrap()[0];
            }
        })
    });
    for task in writers.collect::<Vec<_>>().into_iter().chain(readers) {
        tokio::time::timeout(Duration::from_secs(60), task).await.unwrap().unwrap();
    }
}
