//! Appends: the messages, and what became of them.
//!
//! A single fact is a plain publish; many callers' are pipelined on the connection. Several facts, or one that guards
//! on another aggregate, are an atomic batch. Every message carries an expectation on a literal subject: with
//! wildcards, and with unconditional writes beside them, stale ones have won on three replicas.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::{HeaderMap, header};
use futures::{StreamExt, TryStreamExt, stream};
use tally_events::Subject;
use tally_ports::{AppendError, PortError};
use tally_types::Position;
use tokio::time::Instant;

use super::link::{self, EXPECTED_SUBJECT, Link, Outgoing, PublishError, code, header_text};
use super::streams::{GUARD_SUBJECT, Handle};
use crate::check::Checked;

/// How long an append is pursued while its outcome is not known.
const PURSUED_MAX: Duration = Duration::from_secs(15);
/// The first and the longest wait before the same is sent again.
const AGAIN_AFTER_MIN: Duration = Duration::from_millis(5);
const AGAIN_AFTER_MAX: Duration = Duration::from_millis(50);
/// The same where the server cannot be reached, or has too much to do.
const AGAIN_AFTER_TROUBLE: Duration = Duration::from_millis(250);
/// Messages in one batch.
const MESSAGES_MAX: usize = 1_000;
/// Reads at a time, to compare what is stored with what was sent.
const READS: usize = 32;

/// The kind of the fact, for people who look at the stream.
const FACT_KIND: &str = "Tally-Fact";

/// What the log's leader says of an append that was not acknowledged.
enum Finding {
    /// It happened.
    Stored(Vec<Position>),
    /// It did not, and cannot any more.
    Stale(AppendError),
    /// It did not, and may yet.
    Open,
}

/// An append as messages.
struct Prepared {
    append: Checked,
    messages: Vec<Outgoing>,
    /// The id of each fact's message.
    ids: Vec<String>,
}

/// Appends, and does not answer before the outcome is known, or [`PURSUED_MAX`] has passed.
pub(super) async fn append(
    link: &Link,
    stream: &Handle,
    stream_name: &str,
    append: Checked,
) -> Result<Vec<Position>, AppendError> {
    let prepared = prepare(append, stream_name)?;
    let deadline = Instant::now() + PURSUED_MAX;
    let mut wait = AGAIN_AFTER_MIN;
    loop {
        let failure = match send(link, &prepared.messages).await {
            Ok(last) => return Ok(positions(last, prepared.ids.len())),
            Err(failure) => failure,
        };
        let trouble = match &failure {
            PublishError::Refused { code, .. } => match *code {
                code::STALE | code::STALE_OR_IN_FLIGHT | code::SAME_ID_IN_FLIGHT | code::BATCH_REPEATED => {
                    false
                }
                code::BATCH_INCOMPLETE | code::BATCHES_TOO_MANY | code::UNAVAILABLE => true,
                _ => return Err(refused(failure).into()),
            },
            PublishError::NoStream | PublishError::Unknown(_) => true,
        };
        let unread = match find(stream, &prepared).await {
            Ok(Finding::Stored(positions)) => return Ok(positions),
            Ok(Finding::Stale(error)) => return Err(error),
            Ok(Finding::Open) => false,
            Err(error) if error.is_transient() => true,
            Err(error) => return Err(error.into()),
        };
        wait = if trouble || unread { AGAIN_AFTER_TROUBLE } else { wait };
        if Instant::now() + wait > deadline {
            return Err(unknown(failure).into());
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(AGAIN_AFTER_MAX);
    }
}

fn refused(failure: PublishError) -> PortError {
    PortError::transient(format!("the NATS server refuses the append: {failure}")).because(failure)
}

fn unknown(failure: PublishError) -> PortError {
    PortError::transient(
        "the NATS server did not say whether the append happened; the same append again will find out",
    )
    .because(failure)
}

async fn send(link: &Link, messages: &[Outgoing]) -> Result<u64, PublishError> {
    match messages {
        [message] => link.publish(message.clone()).await,
        messages => link.publish_batch(messages.to_vec()).await,
    }
}

/// The facts of an append stand right before each other; `last` is where the last of them is.
fn positions(last: u64, count: usize) -> Vec<Position> {
    let before = last.saturating_sub(count as u64);
    (1..=count as u64).map(|number| Position::new(before.saturating_add(number))).collect()
}

/// The messages of an append.
///
/// A subject's first message carries the expectation on it; its further ones can carry a guard on another subject
/// each. Guards that find no place go in messages of their own, before all facts, so that the last message of a
/// stream is always a fact.
fn prepare(append: Checked, stream_name: &str) -> Result<Prepared, AppendError> {
    let mut written: HashMap<&Subject, u32> = HashMap::new();
    append.facts.iter().for_each(|fact| *written.entry(&fact.event.subject).or_default() = 0);
    let mut guards: Vec<&(Subject, Position)> =
        append.expected.iter().filter(|(subject, _)| !written.contains_key(subject)).collect();
    let mut facts = Vec::with_capacity(append.facts.len());
    let mut ids = Vec::with_capacity(append.facts.len());
    for fact in &append.facts {
        let subject = &fact.event.subject;
        let at = append.expected_on(subject).unwrap_or(Position::START);
        let earlier = written.entry(subject).or_default();
        let id = match *earlier {
            0 => format!("{}@{at}", fact.event.id),
            earlier => format!("{}@{at}.{earlier}", fact.event.id),
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_EXPECTED_STREAM, stream_name);
        headers.insert(header::NATS_MESSAGE_ID, id.as_str());
        headers.insert(FACT_KIND, fact.event.fact.kind());
        match *earlier {
            0 => headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, at.to_string()),
            _ => guards.pop().into_iter().for_each(|guard| expect(&mut headers, guard)),
        }
        *earlier = earlier.saturating_add(1);
        ids.push(id);
        facts.push(Outgoing { subject: subject.to_string(), headers, payload: fact.json.clone().into() });
    }
    let mut messages: Vec<Outgoing> =
        guards.into_iter().map(|guard| guard_message(guard, stream_name)).collect();
    messages.extend(facts);
    if messages.len() > MESSAGES_MAX {
        return Err(AppendError::Invalid(format!(
            "{} facts and guards do not fit a batch of {MESSAGES_MAX}",
            messages.len()
        )));
    }
    drop(written);
    Ok(Prepared { append, messages, ids })
}

fn expect(headers: &mut HeaderMap, (subject, at): &(Subject, Position)) {
    headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, at.to_string());
    headers.insert(EXPECTED_SUBJECT, subject.as_str());
}

fn guard_message(guard: &(Subject, Position), stream_name: &str) -> Outgoing {
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_EXPECTED_STREAM, stream_name);
    expect(&mut headers, guard);
    Outgoing { subject: GUARD_SUBJECT.to_owned(), headers, payload: bytes::Bytes::new() }
}

/// Leaves the position after `last` without a fact; answers it.
pub(super) async fn skip(link: &Link, stream_name: &str, last: Position) -> Result<Position, PortError> {
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_EXPECTED_STREAM, stream_name);
    headers.insert(header::NATS_EXPECTED_LAST_SEQUENCE, last.to_string());
    let message = Outgoing { subject: GUARD_SUBJECT.to_owned(), headers, payload: bytes::Bytes::new() };
    let skipped = link.publish(message).await.map_err(PublishError::into_port)?;
    Ok(Position::new(skipped))
}

/// Asks the leader what became of an append.
async fn find(stream: &Handle, prepared: &Prepared) -> Result<Finding, PortError> {
    if let Some(positions) = stored(stream, prepared).await? {
        return Ok(Finding::Stored(positions));
    }
    for (subject, expected) in &prepared.append.expected {
        let last = link::last(stream, subject.as_str()).await?;
        let actual = Position::new(last.map_or(0, |message| message.sequence));
        if actual != *expected {
            let (subject, expected) = (subject.clone(), *expected);
            return Ok(Finding::Stale(AppendError::Stale { subject, expected, actual }));
        }
    }
    Ok(Finding::Open)
}

/// Where the append stands, if it does: its first fact is then the first on its subject behind the expectation, under
/// the very id that was sent, and the others follow it directly.
async fn stored(stream: &Handle, prepared: &Prepared) -> Result<Option<Vec<Position>>, PortError> {
    let (Some(fact), Some(first_id)) = (prepared.append.facts.first(), prepared.ids.first()) else {
        return Ok(None);
    };
    let subject = &fact.event.subject;
    let after = prepared.append.expected_on(subject).unwrap_or(Position::START);
    let Some(first) = link::first_from(stream, subject.as_str(), after.next().get()).await? else {
        return Ok(None);
    };
    if !has_id(&first.headers, first_id) {
        return Ok(None);
    }
    let rest = (first.sequence.saturating_add(1)..).zip(prepared.ids.iter().skip(1).cloned());
    let same = stream::iter(rest)
        .map(|(sequence, id)| async move {
            let message = link::at(stream, sequence).await?;
            Ok::<_, PortError>(message.is_some_and(|message| has_id(&message.headers, &id)))
        })
        .buffered(READS)
        .try_all(std::future::ready)
        .await?;
    let last = first.sequence.saturating_add(prepared.ids.len() as u64).saturating_sub(1);
    Ok(same.then(|| positions(last, prepared.ids.len())))
}

fn has_id(headers: &HeaderMap, id: &str) -> bool {
    header_text(headers, "Nats-Msg-Id") == Some(id)
}
