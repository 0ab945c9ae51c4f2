//! The suite for logs out of which facts can be moved.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tally_events::{Event, Recorded, Subject};
use tally_ports::{AppendError, Expectation, Purge};
use tally_types::Position;

use crate::{claimed, expired};

type Log = Arc<dyn Purge>;

/// Runs every case on logs that `open` opens, each under a name of its own.
///
/// # Panics
/// At the first case that fails.
pub async fn purge_conformance<F, Fut>(open: F)
where
    F: Fn(&'static str) -> Fut,
    Fut: Future<Output = Log>,
{
    only_what_was_named_goes(open("purge").await).await;
    what_came_later_stays(open("purge-later").await).await;
    a_purged_subject_begins_anew(open("purge-anew").await).await;
    readers_pass_over_what_is_gone(open("purge-readers").await).await;
    the_end_stays_the_end(&open).await;
}

async fn put(log: &Log, after: Position, event: Event) -> Position {
    let expect = vec![Expectation::new(event.subject.clone(), after)];
    log.append(expect, vec![event]).await.expect("an append whose expectation holds")[0]
}

async fn put_all(log: &Log, order: u64, facts: i64) -> Vec<Position> {
    let mut at = vec![];
    for number in 0..facts {
        let after = at.last().copied().unwrap_or(Position::START);
        at.push(put(log, after, expired(order, number)).await);
    }
    at
}

async fn read(log: &Log, after: Position, count: usize) -> Vec<Recorded> {
    let stream = log.read(after).await.expect("a reader");
    let facts = stream.take(count).map(|fact| fact.expect("a fact")).collect();
    tokio::time::timeout(Duration::from_secs(30), facts).await.expect("the facts within 30 s")
}

fn positions(facts: &[Recorded]) -> Vec<Position> {
    facts.iter().map(|fact| fact.position).collect()
}

fn order(number: u64) -> Subject {
    expired(number, 0).subject
}

async fn only_what_was_named_goes(log: Log) {
    let one = put_all(&log, 1, 3).await;
    let claim = put(&log, Position::START, claimed("own", 1)).await;
    let two = put_all(&log, 2, 2).await;
    assert_eq!(positions(&log.all_on(&order(1)).await.unwrap()), one, "a subject's facts in order");
    log.purge(&order(1), one[2]).await.unwrap();
    assert_eq!(log.all_on(&order(1)).await.unwrap(), []);
    assert_eq!(log.last(&order(1)).await.unwrap(), None, "no fact is the last one");
    let left = read(&log, Position::START, 3).await;
    assert_eq!(positions(&left), [claim, two[0], two[1]], "the others stand where they stood");
    assert_eq!(log.last(&order(2)).await.unwrap().map(|fact| fact.position), Some(two[1]));
    log.purge(&order(1), one[2]).await.expect("what is gone is no error");
    log.purge(&order(3), one[2]).await.expect("nor is what never was");
    assert_eq!(read(&log, Position::START, 3).await, left);
    let again = put(&log, two[1], expired(2, 9)).await;
    assert!(again > two[1], "positions go on");
}

async fn what_came_later_stays(log: Log) {
    let one = put_all(&log, 1, 4).await;
    log.purge(&order(1), one[1]).await.unwrap();
    assert_eq!(positions(&log.all_on(&order(1)).await.unwrap()), one[2..]);
    assert_eq!(log.last(&order(1)).await.unwrap().map(|fact| fact.position), Some(one[3]));
    let stale = log.append(vec![Expectation::none(order(1))], vec![expired(1, 9)]).await;
    assert!(matches!(stale, Err(AppendError::Stale { .. })), "{stale:?}");
    let next = put(&log, one[3], expired(1, 9)).await;
    assert_eq!(positions(&read(&log, Position::START, 3).await), [one[2], one[3], next]);
}

async fn a_purged_subject_begins_anew(log: Log) {
    let one = put_all(&log, 1, 3).await;
    let two = put_all(&log, 2, 1).await;
    log.purge(&order(1), one[2]).await.unwrap();
    let old = log.append(vec![Expectation::new(order(1), one[2])], vec![expired(1, 9)]).await;
    assert!(matches!(old, Err(AppendError::Stale { .. })), "what was expected is gone: {old:?}");
    let first = put(&log, Position::START, expired(1, 9)).await;
    assert!(first > two[0]);
    let same = put(&log, Position::START, expired(1, 9)).await;
    assert_eq!(same, first, "the same append again, after a lost answer, is found");
    let rival = log.append(vec![Expectation::none(order(1))], vec![expired(1, 10)]).await;
    assert!(matches!(rival, Err(AppendError::Stale { .. })), "one of two wins: {rival:?}");
    put(&log, first, expired(1, 11)).await;
    // A guard on a purged aggregate expects that nothing is there.
    log.purge(&order(2), two[0]).await.unwrap();
    let guards = vec![Expectation::none(order(2)), Expectation::none(order(5))];
    log.append(guards, vec![expired(5, 1)]).await.expect("the guard holds");
}

async fn readers_pass_over_what_is_gone(log: Log) {
    let one = put_all(&log, 1, 2).await;
    let two = put_all(&log, 2, 1).await;
    let mut reader = log.read(Position::START).await.unwrap();
    let first = reader.next().await.unwrap().unwrap();
    assert_eq!(first.position, one[0]);
    log.purge(&order(1), one[1]).await.unwrap();
    let three = put_all(&log, 3, 1).await;
    let mut rest = vec![];
    while rest.last() != Some(&three[0]) {
        let fact = tokio::time::timeout(Duration::from_secs(30), reader.next()).await.expect("a fact");
        rest.push(fact.unwrap().unwrap().position);
    }
    // What it had read ahead may still come.
    rest.retain(|at| *at != one[1]);
    assert_eq!(rest, [two[0], three[0]]);
    assert_eq!(positions(&read(&log, one[0], 2).await), [two[0], three[0]], "from a position that is gone");
}

async fn the_end_stays_the_end<F, Fut>(open: &F)
where
    F: Fn(&'static str) -> Fut,
    Fut: Future<Output = Log>,
{
    let log = open("purge-end").await;
    let one = put_all(&log, 1, 3).await;
    log.purge(&order(1), one[2]).await.unwrap();
    assert_eq!(log.head().await.unwrap(), one[2]);
    assert!(log.read(one[2]).await.is_ok(), "a reader that has everything goes on");
    drop(log);
    let log = open("purge-end").await;
    assert_eq!(log.head().await.unwrap(), one[2], "after it was opened again");
    let next = put(&log, Position::START, expired(2, 1)).await;
    assert!(next > one[2], "no position twice");
    assert_eq!(positions(&read(&log, Position::START, 1).await), [next]);
}
