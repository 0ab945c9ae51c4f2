//! Copies: written across days and crashes, read back, restored at the same positions.

use std::io::Write as _;

use futures::StreamExt;
use tally_testkit::{claimed, expired};
use tally_types::{Span, Timestamp};

use super::*;
use crate::LogName;
use crate::embedded::Embedded;

const NOW: Timestamp = Timestamp::from_secs(1_751_300_000);
const CACHE: u64 = 16 * 1024 * 1024;

/// Facts with a gap after the fifth.
fn facts(count: u64) -> Vec<Recorded> {
    let at = |n: u64| Position::new(if n > 5 { n + 1_000 } else { n });
    let event = |n: u64| if n.is_multiple_of(2) { expired(3, n as i64) } else { claimed(&n.to_string(), n) };
    (1..=count).map(|n| Recorded { position: at(n), event: event(n) }).collect()
}

fn write(dir: &Path, facts: &[Recorded]) {
    let mut writer = CopyWriter::open(dir).unwrap();
    for (day, piece) in facts.chunks(7).enumerate() {
        writer.write(piece, NOW.plus(Span::from_secs(86_400 * (day as u64 / 2)))).unwrap();
    }
    writer.sync().unwrap();
}

fn read(dir: &Path) -> Result<Vec<Recorded>, PortError> {
    CopyReader::open(dir)?.collect()
}

#[test]
fn a_copy_is_read_as_it_was_written_a_file_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let facts = facts(40);
    write(dir.path(), &facts);
    assert_eq!(read(dir.path()).unwrap(), facts);
    assert_eq!(verify(dir.path()).unwrap(), (40, Position::new(1_040)));
    let names: Vec<_> = files(dir.path())
        .unwrap()
        .into_iter()
        .map(|(_, path)| path.file_name().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        [
            "facts-00000000000000000001-2025-06-30.jsonl",
            "facts-00000000000000001015-2025-07-01.jsonl",
            "facts-00000000000000001029-2025-07-02.jsonl"
        ]
    );
    write(dir.path(), &facts);
    assert_eq!(read(dir.path()).unwrap(), facts, "what is there is not written again");
}

#[test]
fn wherever_a_crash_cuts_it_off_it_goes_on() {
    let facts = facts(9);
    let whole = tempfile::tempdir().unwrap();
    write(whole.path(), &facts);
    let (_, path) = files(whole.path()).unwrap().remove(0);
    let bytes = std::fs::read(&path).unwrap();
    for cut in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(path.file_name().unwrap()), &bytes[..cut]).unwrap();
        let before = read(dir.path()).unwrap();
        assert_eq!(before[..], facts[..before.len()], "cut at {cut}");
        write(dir.path(), &facts);
        assert_eq!(read(dir.path()).unwrap(), facts, "cut at {cut}");
    }
}

#[test]
fn what_a_loss_of_power_leaves_at_the_end_is_written_again() {
    let facts = facts(9);
    let whole = tempfile::tempdir().unwrap();
    write(whole.path(), &facts);
    let (_, path) = files(whole.path()).unwrap().remove(0);
    let bytes = std::fs::read(&path).unwrap();
    for from in (0..bytes.len()).step_by(131) {
        let dir = tempfile::tempdir().unwrap();
        let mut left = bytes.clone();
        left[from..].fill(0);
        *left.last_mut().unwrap() = b'\n';
        std::fs::write(dir.path().join(path.file_name().unwrap()), left).unwrap();
        write(dir.path(), &facts);
        assert_eq!(read(dir.path()).unwrap(), facts, "from {from}");
    }
}

#[test]
fn what_is_damaged_or_missing_is_named() {
    type Change = fn(&Path);
    let first = |dir: &Path| files(dir).unwrap().remove(0).1;
    let cases: [(&str, Change, &str); 4] = [
        (
            "a changed byte",
            |path| {
                let text = std::fs::read_to_string(path).unwrap();
                std::fs::write(path, text.replacen("10001", "10002", 1)).unwrap();
            },
            "its sum is wrong",
        ),
        (
            "a lost line",
            |path| {
                let text = std::fs::read_to_string(path).unwrap();
                let lines: Vec<_> =
                    text.lines().enumerate().filter(|(n, _)| *n != 2).map(|(_, line)| line).collect();
                std::fs::write(path, lines.join("\n") + "\n").unwrap();
            },
            "facts are missing",
        ),
        ("a lost file", |path| std::fs::remove_file(path).unwrap(), "facts are missing"),
        (
            "a foreign line",
            |path| {
                let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
                file.write_all(b"{}\n").unwrap();
            },
            "is no fact",
        ),
    ];
    for (name, change, message) in cases {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &facts(40));
        change(&first(dir.path()));
        let error = read(dir.path()).unwrap_err();
        assert!(error.to_string().contains(message), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_restored_log_has_everything_where_it_stood() {
    let copy = tempfile::tempdir().unwrap();
    let facts = facts(1_500);
    write(copy.path(), &facts);
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(dir.path(), CACHE).unwrap().log(LogName::Main);
    let end = restore(&log, CopyReader::open(copy.path()).unwrap()).await.unwrap();
    assert_eq!(end, Position::new(2_500));
    let again = restore(&log, CopyReader::open(copy.path()).unwrap()).await.unwrap_err();
    assert!(again.to_string().contains("empty"), "{again}");
    drop(log);
    let embedded = Embedded::open(dir.path(), CACHE).unwrap();
    let log = embedded.log(LogName::Main);
    let read: Vec<_> =
        log.read(Position::START).await.unwrap().take(1_500).map(Result::unwrap).collect().await;
    assert_eq!(read, facts);
    let from_the_gap: Vec<_> = log
        .read(Position::new(700))
        .await
        .unwrap()
        .take(3)
        .map(|fact| fact.unwrap().position.get())
        .collect()
        .await;
    assert_eq!(from_the_gap, [1_006, 1_007, 1_008]);
    let last = log.last(&expired(3, 0).subject).await.unwrap().unwrap();
    assert_eq!(last.position, Position::new(2_500));
    let next = expired(3, 99_999);
    let expect = vec![Expectation::new(next.subject.clone(), last.position)];
    assert_eq!(log.append(expect, vec![next]).await.unwrap(), [Position::new(2_501)]);
}

#[tokio::test]
async fn epochs_go_on_above_those_of_the_restored_facts() {
    use tally_events::Epoch;
    use tally_ports::Lease;
    let dir = tempfile::tempdir().unwrap();
    let clock = std::sync::Arc::new(tally_testkit::ManualClock::at(NOW));
    for (floor, least) in [(7_000, 7_001), (3, 7_001)] {
        let embedded = Embedded::open(dir.path(), CACHE).unwrap();
        embedded.raise_epochs(Epoch::new(floor)).await.unwrap();
        let lease = embedded.lease(clock.clone());
        let grant = lease.acquire("a", Span::from_secs(5)).await.unwrap().unwrap();
        assert!(grant.epoch >= Epoch::new(least), "{grant:?}");
        let other = lease.acquire(&format!("b{floor}"), Span::from_secs(5)).await.unwrap().unwrap();
        assert!(other.epoch >= Epoch::new(least), "{other:?}");
    }
}
