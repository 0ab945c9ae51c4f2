//! Segments that are damaged, missing, written twice; readers while facts go.

use std::sync::Arc;

use futures::StreamExt;
use tally_events::{ArchivedOrder, Event, OrdersArchived, Recorded, Subject};
use tally_ports::{Archive, EventLog, Expectation, Purge};
use tally_testkit::{MemoryLog, expired, order_id};
use tally_types::{Position, Timestamp};

use super::{ArchivedLog, FileArchive, Inventory};

fn segment(number: u64, facts: &[Recorded]) -> OrdersArchived {
    let last = facts.last().unwrap().position;
    let order = ArchivedOrder {
        order: order_id(number),
        status: "expired".into(),
        exceptions: vec![],
        version: 2,
        first: facts[0].position,
        last,
        delivered: Position::START,
        endpoints: vec![],
    };
    OrdersArchived {
        segment: number,
        facts: facts.len() as u64,
        first: facts[0].position,
        last,
        through: last,
        digest: OrdersArchived::digest_of(facts),
        orders: vec![order],
    }
}

/// Facts of three orders, one after the other, several times.
fn filled() -> MemoryLog {
    let log = MemoryLog::new();
    for round in 0..6 {
        log.seed((1..=3).map(|order| expired(order, round)).collect());
    }
    log
}

fn subject(order: u64) -> Subject {
    expired(order, 0).subject
}

/// Moves an order's facts out, up to `steps`: the segment, the fact about it, the purge.
async fn archive(log: &MemoryLog, archive: &FileArchive, number: u64, steps: u8) {
    let facts = log.all_on(&subject(number)).await.unwrap();
    let index = archive.store(segment(number, &facts), facts).await.unwrap();
    if steps > 1 {
        let last = index.last;
        let at = log.last(&Subject::archive()).await.unwrap().map_or(Position::START, |fact| fact.position);
        let event = Event::new(Subject::archive(), index, Timestamp::EPOCH);
        log.append(vec![Expectation::new(Subject::archive(), at)], vec![event]).await.unwrap();
        if steps > 2 {
            log.purge(&subject(number), last).await.unwrap();
        }
    }
}

async fn read(log: &dyn EventLog, after: Position) -> Vec<Recorded> {
    let head = log.head().await.unwrap();
    let mut facts = log.read(after).await.unwrap();
    let mut read = vec![];
    while read.last().map_or(after, |fact: &Recorded| fact.position) < head {
        read.push(facts.next().await.unwrap().unwrap());
    }
    read
}

#[tokio::test]
async fn log_and_archive_read_as_the_log_did_before() {
    for steps in 1..=3 {
        let dir = tempfile::tempdir().unwrap();
        let (log, files) = (filled(), FileArchive::new(dir.path().join("archive")));
        archive(&log, &files, 1, 3).await;
        archive(&log, &files, 2, steps).await;
        log.seed(vec![expired(3, 99)]);
        let whole: Vec<Recorded> = {
            let other = filled();
            let mut facts = other.facts();
            facts.extend(log.facts().into_iter().filter(|fact| fact.position > Position::new(18)));
            facts
        };
        let both = ArchivedLog::new(Arc::new(log.clone()), files);
        for after in [0, 1, 2, 7, 17, 18] {
            let after = Position::new(after);
            let want: Vec<_> = whole.iter().filter(|fact| fact.position > after).cloned().collect();
            assert_eq!(read(&both, after).await, want, "after {after}, {steps} steps");
        }
    }
}

#[tokio::test]
async fn what_goes_while_it_is_read_is_read_all_the_same() {
    for read_before in 0..18 {
        let dir = tempfile::tempdir().unwrap();
        let (log, files) = (filled(), FileArchive::new(dir.path().join("archive")));
        let whole = log.facts();
        let both = ArchivedLog::new(Arc::new(log.clone()), files.clone());
        let mut reader = both.read(Position::START).await.unwrap();
        let mut facts = vec![];
        for _ in 0..read_before {
            facts.push(reader.next().await.unwrap().unwrap());
        }
        archive(&log, &files, 1, 3).await;
        archive(&log, &files, 2, 3).await;
        while facts.len() < 18 {
            let next = tokio::time::timeout(std::time::Duration::from_secs(10), reader.next()).await;
            facts.push(next.expect("a fact that is not missed").unwrap().unwrap());
        }
        assert_eq!(facts, whole, "{read_before} read before");
    }
}

#[tokio::test]
async fn damage_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let (log, files) = (filled(), FileArchive::new(dir.path()));
    archive(&log, &files, 1, 3).await;
    assert_eq!(files.verify().unwrap(), Inventory { segments: 1, orders: 1, facts: 6 });
    let path = dir.path().join("segment-00000001.jsonl");
    let good = std::fs::read(&path).unwrap();
    let both = ArchivedLog::new(Arc::new(log.clone()), files.clone());
    let mut refused = 0;
    // Any one byte, in every line of it.
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        let found = files.verify().map(|_| ()).expect_err("a damaged segment");
        assert!(!found.is_transient() && found.to_string().contains("segment-00000001"), "{at}: {found}");
        let read = match both.read(Position::START).await {
            Err(error) => Err(error),
            Ok(facts) => facts.take(6).collect::<Vec<_>>().await.into_iter().collect::<Result<Vec<_>, _>>(),
        };
        assert!(read.is_err(), "byte {at}");
        refused += 1;
    }
    assert!(refused > 100);
    for (name, bad) in [
        ("cut off", good[..good.len() - 40].to_vec()),
        ("the last line gone", {
            let lines: Vec<&[u8]> = good.split_inclusive(|byte| *byte == b'\n').collect();
            lines[..lines.len() - 1].concat()
        }),
        ("a line gone", {
            let lines: Vec<&[u8]> = good.split_inclusive(|byte| *byte == b'\n').collect();
            [&lines[..3], &lines[4..]].concat().concat()
        }),
    ] {
        std::fs::write(&path, &bad).unwrap();
        assert!(files.verify().is_err(), "{name}");
    }
    std::fs::remove_file(&path).unwrap();
    let gone = both.read(Position::START).await.map(|_| ()).expect_err("a missing segment");
    assert!(!gone.is_transient() && gone.to_string().contains("lacks segment 1"), "{gone}");
    // Whoever has folded all that needs no archive.
    assert!(both.read(Position::new(18)).await.is_ok());
}

#[tokio::test]
async fn a_segment_is_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let (log, files) = (filled(), FileArchive::new(dir.path()));
    let (one, two) = (log.all_on(&subject(1)).await.unwrap(), log.all_on(&subject(2)).await.unwrap());
    let first = files.store(segment(1, &one), one.clone()).await.unwrap();
    assert_eq!(files.store(segment(1, &two), two).await.unwrap(), first, "the one that was there stays");
    assert_eq!(files.load(1).unwrap().unwrap(), (first, one));
    assert_eq!((files.purged().await.unwrap(), files.segment(2).await.unwrap()), (0, None));
    files.note_purged(1).await.unwrap();
    assert_eq!(FileArchive::new(dir.path()).purged().await.unwrap(), 1);
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 2, "no drafts are left");
}

#[tokio::test]
async fn a_segment_says_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (log, files) = (filled(), FileArchive::new(dir.path()));
    archive(&log, &files, 1, 1).await;
    let path = dir.path().join("segment-00000001.jsonl");
    let good = std::fs::read_to_string(&path).unwrap();
    // Each is whole by its own sums.
    let newer = good.replacen("\"archive\":1", "\"archive\":2", 1);
    assert_ne!(newer, good);
    for (name, number, text, says) in [
        ("another format", 1, &newer, "upgrade this process"),
        ("another's name", 2, &good, "is segment 1, under another's name"),
    ] {
        std::fs::remove_file(&path).unwrap();
        std::fs::write(dir.path().join(format!("segment-{number:08}.jsonl")), text).unwrap();
        for refused in [files.load(number).map(drop), files.index(number).map(drop)] {
            let refused = refused.expect_err(name);
            assert!(!refused.is_transient() && refused.to_string().contains(says), "{name}: {refused}");
        }
        std::fs::write(&path, &good).unwrap();
    }
}

#[tokio::test]
async fn a_segment_is_there_only_if_its_facts_are() {
    let dir = tempfile::tempdir().unwrap();
    let (log, files) = (filled(), FileArchive::new(dir.path()));
    archive(&log, &files, 1, 1).await;
    assert!(files.segment(1).await.unwrap().is_some());
    let path = dir.path().join("segment-00000001.jsonl");
    let good = std::fs::read(&path).unwrap();
    // What it says of itself is whole; whoever purges by that alone would lose the last facts.
    std::fs::write(&path, &good[..good.len() - 40]).unwrap();
    assert!(files.index(1).is_ok());
    let refused = files.segment(1).await.expect_err("its facts are not");
    assert!(!refused.is_transient(), "{refused}");
    let facts = log.all_on(&subject(1)).await.unwrap();
    assert!(files.store(segment(1, &facts), facts.clone()).await.is_err(), "nor is it taken for stored");
    // As many facts, each line whole, and they follow each other; but they are another order's.
    std::fs::remove_file(&path).unwrap();
    let others = log.all_on(&subject(2)).await.unwrap();
    files.write(segment(1, &facts), &others).unwrap();
    assert!(files.segment(1).await.is_err());
}

#[tokio::test]
async fn a_note_that_cannot_be_read_is_as_none() {
    let dir = tempfile::tempdir().unwrap();
    let files = FileArchive::new(dir.path());
    for (text, through) in [("12", 12), ("7\n", 7), ("", 0), ("1x", 0)] {
        std::fs::write(dir.path().join("purged"), text).unwrap();
        assert_eq!(files.purged().await.unwrap(), through, "{text:?}");
    }
}

#[tokio::test]
async fn a_segment_that_changes_while_it_is_read_ends_the_reading() {
    let dir = tempfile::tempdir().unwrap();
    let (log, files) = (filled(), FileArchive::new(dir.path()));
    let others = log.all_on(&subject(2)).await.unwrap();
    archive(&log, &files, 1, 3).await;
    let both = ArchivedLog::new(Arc::new(log.clone()), files.clone());
    let mut reader = both.read(Position::START).await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    FileArchive::new(elsewhere.path()).write(segment(1, &others), &others).unwrap();
    let name = "segment-00000001.jsonl";
    std::fs::copy(elsewhere.path().join(name), dir.path().join(name)).unwrap();
    let changed = reader.next().await.unwrap().expect_err("the facts of another order");
    assert!(changed.to_string().contains("changed while it was read"), "{changed}");
    assert!(reader.next().await.is_none(), "what would follow has a gap");
}
