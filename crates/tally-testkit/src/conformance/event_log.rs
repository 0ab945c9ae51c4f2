//! The suite for event logs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, future::join_all};
use tally_events::{Event, Recorded};
use tally_ports::{AppendError, ErrorKind, EventLog, Expectation};
use tally_types::Position;

use crate::{canceled, claimed, expired};

type Log = Arc<dyn EventLog>;

/// Runs every case on logs that `open` opens, each under a name of its own. Needs a multi-threaded runtime.
///
/// # Panics
/// At the first case that fails.
pub async fn event_log_conformance<F, Fut>(open: F)
where
    F: Fn(&'static str) -> Fut,
    Fut: Future<Output = Log>,
{
    positions_and_order(open("order").await).await;
    batches_are_atomic(open("atomic").await).await;
    expectations_are_needed(open("shape").await).await;
    a_stale_expectation_says_where(open("stale").await).await;
    a_guard_on_another_aggregate(open("guard").await).await;
    lost_acks(open("lost").await).await;
    lost_acks_of_batches(open("lost-batch").await).await;
    the_same_fact_again_later(open("again").await).await;
    one_rival_wins(open("rivals").await).await;
    rival_batches(open("rival-batches").await).await;
    history_then_live(open("tail").await).await;
    large_facts_and_batches(open("large").await).await;
    durable_on_answer(&open).await;
}

/// Appends facts of one subject after `at`.
async fn append(log: &Log, at: Position, batch: Vec<Event>) -> Result<Vec<Position>, AppendError> {
    let subject = batch.first().expect("a fact").subject.clone();
    log.append(vec![Expectation::new(subject, at)], batch).await
}

/// Appends one fact after `at` and answers where it stands.
async fn append_one(log: &Log, at: Position, event: Event) -> Position {
    append(log, at, vec![event]).await.expect("an append whose expectation holds")[0]
}

/// The facts after `after`, as many as `count`.
async fn read(log: &Log, after: Position, count: usize) -> Vec<Recorded> {
    let stream = log.read(after).await.expect("a reader");
    let facts = stream.take(count).map(|fact| fact.expect("a fact")).collect();
    tokio::time::timeout(Duration::from_secs(30), facts).await.expect("the facts within 30 s")
}

fn ids<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<String> {
    events.into_iter().map(|event| event.id.clone()).collect()
}

fn events(facts: &[Recorded]) -> impl Iterator<Item = &Event> {
    facts.iter().map(|fact| &fact.event)
}

async fn positions_and_order(log: Log) {
    assert_eq!(log.head().await.unwrap(), Position::START, "an empty log has its head at 0");
    let batch = vec![expired(1, 1), expired(1, 2), expired(1, 3)];
    let positions = append(&log, Position::START, batch.clone()).await.unwrap();
    assert!(positions.is_sorted_by(|a, b| a < b), "positions of a batch ascend: {positions:?}");
    let next = append_one(&log, positions[2], expired(1, 4)).await;
    assert!(next > positions[2], "positions grow");
    assert_eq!(log.head().await.unwrap(), next);
    let facts = read(&log, Position::START, 4).await;
    let want = [batch, vec![expired(1, 4)]].concat();
    assert_eq!(
        facts.iter().map(|fact| fact.event.clone()).collect::<Vec<_>>(),
        want,
        "facts come back whole"
    );
    let at: Vec<_> = facts.iter().map(|fact| fact.position).collect();
    assert_eq!(at, [positions, vec![next]].concat(), "a reader names the positions that the appends did");
    assert_eq!(read(&log, at[1], 2).await, facts[2..], "a reader starts after its position");
    let last = log.last(&expired(1, 0).subject).await.unwrap();
    assert_eq!(last.as_ref(), facts.last(), "the last fact of a subject");
    assert_eq!(log.last(&canceled(2).subject).await.unwrap(), None, "no fact on this subject");
    let beyond = log.read(next.next()).await.map(|_| ()).expect_err("a reader from beyond the head");
    assert_eq!(beyond.kind(), ErrorKind::Persistent, "{beyond}");
}

async fn batches_are_atomic(log: Log) {
    let create = |order| {
        let (claim, fact) = (claimed("own", order), expired(order, 1));
        let expect = vec![Expectation::none(claim.subject.clone()), Expectation::none(fact.subject.clone())];
        (expect, vec![claim, fact])
    };
    let (expect, batch) = create(1);
    let positions = log.append(expect, batch).await.unwrap();
    let (expect, batch) = create(2);
    let refused = log.append(expect, batch.clone()).await;
    assert!(matches!(refused, Err(AppendError::Stale { .. })), "the claim is taken: {refused:?}");
    assert_eq!(log.last(&batch[1].subject).await.unwrap(), None, "nothing of a refused batch is there");
    assert_eq!(log.head().await.unwrap(), positions[1]);
    // The fact whose expectation holds comes first here.
    let (mut expect, mut batch) = create(3);
    expect.reverse();
    batch.reverse();
    assert!(log.append(expect, batch.clone()).await.is_err());
    assert_eq!(log.last(&batch[0].subject).await.unwrap(), None, "whatever the order in the batch");
}

async fn expectations_are_needed(log: Log) {
    let (a, b) = (expired(1, 1), expired(2, 1));
    let none = Expectation::none;
    for (name, expectations, batch) in [
        ("no expectation", vec![], vec![a.clone()]),
        ("one subject without", vec![none(a.subject.clone())], vec![a.clone(), b.clone()]),
        ("nothing to append", vec![none(a.subject.clone())], vec![]),
        (
            "two that differ",
            vec![none(a.subject.clone()), Expectation::new(a.subject.clone(), Position::new(7))],
            vec![a.clone()],
        ),
        ("too many facts", vec![none(a.subject.clone())], (0..1_001).map(|at| expired(1, at)).collect()),
    ] {
        let refused = log.append(expectations, batch).await;
        assert!(matches!(refused, Err(AppendError::Invalid(_))), "{name}: {refused:?}");
    }
    assert_eq!(log.head().await.unwrap(), Position::START, "none of it is in the log");
}

async fn a_stale_expectation_says_where(log: Log) {
    let first = append_one(&log, Position::START, expired(1, 1)).await;
    let second = append_one(&log, first, expired(1, 2)).await;
    append_one(&log, Position::START, expired(2, 1)).await;
    for (name, at) in [("before all", Position::START), ("before the last", first), ("ahead", second.next())]
    {
        match append(&log, at, vec![expired(1, 3)]).await {
            Err(AppendError::Stale { subject, expected, actual }) => {
                assert_eq!((subject, expected, actual), (expired(1, 3).subject, at, second), "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!(log.last(&expired(1, 0).subject).await.unwrap().map(|fact| fact.position), Some(second));
}

async fn a_guard_on_another_aggregate(log: Log) {
    let guard = append_one(&log, Position::START, expired(1, 1)).await;
    let fact = expired(2, 1);
    let subject = fact.subject.clone();
    let guarded = |at, own, batch: Vec<Event>| {
        log.append(
            vec![Expectation::new(expired(1, 0).subject, at), Expectation::new(subject.clone(), own)],
            batch,
        )
    };
    let refused = guarded(Position::START, Position::START, vec![fact.clone()]).await;
    match refused {
        Err(AppendError::Stale { subject, expected, actual }) => {
            assert_eq!((subject, expected, actual), (expired(1, 0).subject, Position::START, guard));
        }
        other => panic!("a guard that does not hold: {other:?}"),
    }
    assert_eq!(log.last(&subject).await.unwrap(), None, "a guard that does not hold keeps the batch out");
    let one = guarded(guard, Position::START, vec![fact.clone()]).await.expect("a guard that holds")[0];
    let two = guarded(guard, one, vec![expired(2, 2), expired(2, 3)]).await.expect("the same for two facts");
    assert_eq!(log.head().await.unwrap(), two[1], "the head is a fact");
    let stale = guarded(guard, Position::START, vec![expired(2, 4)]).await;
    assert!(
        matches!(stale, Err(AppendError::Stale { .. })),
        "the own subject counts beside the guard: {stale:?}"
    );
    // The guard has moved on since: the same append again was still done.
    append_one(&log, guard, expired(1, 2)).await;
    let again = guarded(guard, Position::START, vec![fact.clone()]).await.expect("the same append again");
    assert_eq!(again, [one]);
    let want = ids([&expired(1, 1), &fact, &expired(2, 2), &expired(2, 3), &expired(1, 2)]);
    assert_eq!(ids(events(&read(&log, Position::START, 5).await)), want, "readers see facts only");
}

async fn lost_acks(log: Log) {
    let first = append_one(&log, Position::START, expired(1, 1)).await;
    for _ in 0..3 {
        assert_eq!(append_one(&log, Position::START, expired(1, 1)).await, first, "the same append again");
    }
    assert_eq!(log.head().await.unwrap(), first, "nothing was appended by that");
    let second = append_one(&log, first, expired(1, 2)).await;
    assert_eq!(append_one(&log, Position::START, expired(1, 1)).await, first, "even after others went on");
    assert_eq!(append_one(&log, first, expired(1, 2)).await, second);
    let other = append(&log, Position::START, vec![expired(1, 9)]).await;
    assert!(matches!(other, Err(AppendError::Stale { .. })), "another fact is another append: {other:?}");
}

async fn lost_acks_of_batches(log: Log) {
    append_one(&log, Position::START, expired(9, 1)).await;
    let batch = vec![claimed("own", 1), expired(1, 1), expired(1, 2)];
    let expect =
        vec![Expectation::none(batch[0].subject.clone()), Expectation::none(batch[1].subject.clone())];
    let positions = log.append(expect.clone(), batch.clone()).await.unwrap();
    append_one(&log, positions[2], expired(1, 3)).await;
    assert_eq!(log.append(expect.clone(), batch.clone()).await.unwrap(), positions, "the same batch again");
    let mut other = batch;
    other[2] = expired(1, 8);
    let refused = log.append(expect, other).await;
    assert!(
        matches!(refused, Err(AppendError::Stale { .. })),
        "a batch that differs at its end: {refused:?}"
    );
}

async fn the_same_fact_again_later(log: Log) {
    let (a, b) = (expired(1, 1), expired(1, 2));
    assert_eq!(a.id, expired(1, 1).id);
    let first = append_one(&log, Position::START, a.clone()).await;
    let between = append_one(&log, first, b.clone()).await;
    let second = append_one(&log, between, a.clone()).await;
    assert!(second > between, "A→B→A: the second A is a fact of its own");
    assert_eq!(append_one(&log, between, a.clone()).await, second, "whose answer may get lost as well");
    assert_eq!(append_one(&log, Position::START, a.clone()).await, first, "as may that of the first");
    let twice = append(&log, second, vec![b.clone(), a.clone(), b.clone(), a.clone()]).await.unwrap();
    assert_eq!(append(&log, second, vec![b.clone(), a.clone(), b.clone(), a.clone()]).await.unwrap(), twice);
    let want = ids([&a, &b, &a, &b, &a, &b, &a]);
    assert_eq!(ids(events(&read(&log, Position::START, 7).await)), want);
}

async fn one_rival_wins(log: Log) {
    const RIVALS: i64 = 4;
    let mut at = Position::START;
    for round in 0..25 {
        let tasks = (0..RIVALS).map(|rival| {
            let log = log.clone();
            tokio::spawn(async move { append(&log, at, vec![expired(1, round * RIVALS + rival)]).await })
        });
        let mut won = Vec::new();
        for outcome in join_all(tasks).await {
            match outcome.expect("a task") {
                Ok(positions) => won.push(positions[0]),
                Err(AppendError::Stale { expected, actual, .. }) => {
                    assert_eq!(expected, at);
                    assert!(actual > at, "round {round}: stale, but nothing is at {actual}");
                }
                Err(other) => panic!("round {round}: {other}"),
            }
        }
        assert_eq!(won.len(), 1, "round {round}: one rival wins");
        at = won[0];
    }
    assert_eq!(log.head().await.unwrap(), at);
    assert_eq!(read(&log, Position::START, 25).await.len(), 25);
}

async fn rival_batches(log: Log) {
    // Each claims the same own id for an order of its own; whoever wins has all three facts.
    for round in 0..8_u64 {
        let own = format!("own-{round}");
        let tasks = (0..4).map(|rival| {
            let order = round * 10 + rival + 1;
            let batch = vec![expired(order, 1), claimed(&own, order), expired(order, 2)];
            let expect = batch[..2].iter().map(|event| Expectation::none(event.subject.clone())).collect();
            let log = log.clone();
            tokio::spawn(async move { (order, log.append(expect, batch).await) })
        });
        let mut winners = BTreeSet::new();
        for outcome in join_all(tasks).await {
            let (order, outcome) = outcome.expect("a task");
            let last = log.last(&expired(order, 1).subject).await.unwrap();
            match outcome {
                Ok(positions) => {
                    assert_eq!(last.map(|fact| fact.position), positions.last().copied());
                    winners.insert(order);
                }
                Err(AppendError::Stale { .. }) => assert_eq!(last, None, "order {order} lost"),
                Err(other) => panic!("round {round}: {other}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
    }
}

async fn history_then_live(log: Log) {
    const EACH: usize = 150;
    const WRITERS: u64 = 4;
    let all = EACH * WRITERS as usize;
    let early = tokio::spawn({
        let log = log.clone();
        async move { read(&log, Position::START, all).await }
    });
    let writers = (1..=WRITERS).map(|writer| {
        let log = log.clone();
        tokio::spawn(async move {
            let mut at = Position::START;
            for step in 0..EACH {
                at = append_one(&log, at, expired(writer, step as i64)).await;
            }
        })
    });
    let writers = tokio::spawn(join_all(writers));
    tokio::time::sleep(Duration::from_millis(20)).await;
    // Begins in the midst of it: part history, part live.
    let late = read(&log, Position::START, all).await;
    for writer in writers.await.unwrap() {
        writer.expect("a writer");
    }
    let early = early.await.expect("a reader");
    assert!(early.iter().is_sorted_by(|a, b| a.position < b.position), "in order, and nothing twice");
    assert_eq!(early, late, "every reader sees the same");
    for writer in 1..=WRITERS {
        let subject = expired(writer, 0).subject;
        let own = events(&early).filter(|event| event.subject == subject);
        assert_eq!(ids(own), ids(&(0..EACH).map(|step| expired(writer, step as i64)).collect::<Vec<_>>()));
    }
    assert_eq!(log.head().await.unwrap(), early.last().expect("facts").position);
    live(&log, early.last().expect("facts").position).await;
}

/// A reader at the head waits, and has a fact soon after it was appended.
async fn live(log: &Log, head: Position) {
    let mut stream = log.read(head).await.unwrap();
    let silent = tokio::time::timeout(Duration::from_millis(100), stream.next()).await;
    assert!(silent.is_err(), "nothing is there yet");
    let at = append_one(log, Position::START, canceled(99)).await;
    let fact = tokio::time::timeout(Duration::from_secs(5), stream.next()).await.expect("a fact within 5 s");
    assert_eq!(fact.expect("no end").expect("no error").position, at);
}

async fn large_facts_and_batches(log: Log) {
    let mut large = claimed("own", 1);
    large.correlation = Some("x".repeat(500 * 1024));
    let at = append_one(&log, Position::START, large.clone()).await;
    let batch: Vec<_> = (0..1_000).map(|step| expired(1, step)).collect();
    let positions = append(&log, Position::START, batch.clone()).await.unwrap();
    assert_eq!(positions.len(), 1_000);
    let facts = read(&log, Position::START, 1_001).await;
    assert_eq!((facts[0].position, &facts[0].event), (at, &large));
    assert_eq!(ids(events(&facts[1..])), ids(&batch));
    assert_eq!(log.last(&large.subject).await.unwrap().map(|fact| fact.event), Some(large.clone()));
    large.correlation = Some("x".repeat(513 * 1024));
    let refused = append(&log, at, vec![large]).await;
    assert!(matches!(refused, Err(AppendError::Invalid(_))), "a fact that is too large: {refused:?}");
}

async fn durable_on_answer<F, Fut>(open: &F)
where
    F: Fn(&'static str) -> Fut,
    Fut: Future<Output = Log>,
{
    let mut at = Position::START;
    for round in 0..3 {
        let log = open("durable").await;
        assert_eq!(log.head().await.unwrap(), at, "round {round}: everything is still there");
        let last = log.last(&expired(1, 0).subject).await.unwrap();
        assert_eq!(last.map_or(Position::START, |fact| fact.position), at);
        let before = at;
        at = append_one(&log, at, expired(1, round)).await;
        drop(log);
        let log = open("durable").await;
        assert_eq!(append_one(&log, before, expired(1, round)).await, at, "an answer lost over a restart");
    }
    let log = open("durable").await;
    let want: Vec<_> = (0..3).map(|round| expired(1, round)).collect();
    assert_eq!(ids(events(&read(&log, Position::START, 3).await)), ids(&want));
}
