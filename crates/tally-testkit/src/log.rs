//! An event log in memory, with the faults a real one has.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream;
use tally_events::{Event, NewEvent, Recorded, Subject};
use tally_ports::{AppendError, EventLog, EventStream, Expectation, PortError, Purge};
use tally_types::Position;
use tokio::sync::Notify;

use crate::lock;

/// Facts in one append.
const BATCH_MAX: usize = 1_000;
/// Bytes of one fact's envelope.
const FACT_BYTES_MAX: usize = 512 * 1024;

/// An [`EventLog`] in memory. Clones are handles on the same log.
#[derive(Debug, Clone)]
pub struct MemoryLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    facts: Mutex<Facts>,
    /// Of new facts. Readers are woken in the order in which they came to wait, so that runs can be repeated.
    news: Notify,
    acks_to_lose: AtomicUsize,
    appends_to_fail: AtomicUsize,
}

#[derive(Debug, Default)]
struct Facts {
    /// The fact at position `n` is at `n - 1`.
    all: Vec<Recorded>,
    /// Where the facts of a subject stand, ascending.
    by_subject: HashMap<Subject, Vec<Position>>,
    /// Where a fact was taken out.
    purged: HashSet<Position>,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryLog {
    /// An empty log.
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            facts: Mutex::default(),
            news: Notify::new(),
            acks_to_lose: AtomicUsize::new(0),
            appends_to_fail: AtomicUsize::new(0),
        }))
    }

    /// Everything in the log, in order.
    pub fn facts(&self) -> Vec<Recorded> {
        lock(&self.0.facts).left(0).collect()
    }

    /// Everything on a subject, in order.
    pub fn facts_on(&self, subject: &Subject) -> Vec<Recorded> {
        lock(&self.0.facts).left(0).filter(|fact| fact.event.subject == *subject).collect()
    }

    /// Everything after `after`, in order.
    pub fn facts_after(&self, after: Position) -> Vec<Recorded> {
        let facts = lock(&self.0.facts);
        let from = facts.all.partition_point(|fact| fact.position <= after);
        facts.left(from).collect()
    }

    /// The next `appends` appends happen, and their answers get lost: the caller sees a transient failure.
    pub fn lose_acks(&self, appends: usize) {
        self.0.acks_to_lose.store(appends, Ordering::SeqCst);
    }

    /// The next `appends` appends fail and do not happen.
    pub fn fail_appends(&self, appends: usize) {
        self.0.appends_to_fail.store(appends, Ordering::SeqCst);
    }

    /// Appends facts behind whatever is on their subjects: how tests set a scene.
    pub fn seed(&self, batch: Vec<NewEvent>) -> Vec<Position> {
        let positions = lock(&self.0.facts).push(batch);
        self.0.news.notify_waiters();
        positions
    }
}

impl Facts {
    fn head(&self) -> Position {
        self.all.last().map_or(Position::START, |fact| fact.position)
    }

    fn last_on(&self, subject: &Subject) -> Position {
        self.by_subject.get(subject).and_then(|at| at.last()).copied().unwrap_or(Position::START)
    }

    /// What was not taken out of the facts from the one with this index on.
    fn left(&self, from: usize) -> impl Iterator<Item = Recorded> {
        let left = |fact: &&Recorded| !self.purged.contains(&fact.position);
        self.all.iter().skip(from).filter(left).cloned()
    }

    fn at(&self, position: Position) -> Option<&Recorded> {
        let index = usize::try_from(position.get().checked_sub(1)?).ok()?;
        self.all.get(index)
    }

    fn push(&mut self, batch: Vec<NewEvent>) -> Vec<Position> {
        let mut positions = Vec::with_capacity(batch.len());
        for event in batch {
            let position = self.head().next();
            self.by_subject.entry(event.subject.clone()).or_default().push(position);
            self.all.push(Recorded { position, event });
            positions.push(position);
        }
        positions
    }

    /// Where the batch already stands, if it was appended before under the same expectations.
    fn repeated(&self, expected: &HashMap<&Subject, Position>, batch: &[NewEvent]) -> Option<Vec<Position>> {
        let first = batch.first()?;
        let after = expected.get(&first.subject)?;
        let start = *self.by_subject.get(&first.subject)?.iter().find(|at| *at > after)?;
        let mut at = start;
        let mut positions = Vec::with_capacity(batch.len());
        for event in batch {
            let stored = &self.at(at)?.event;
            if stored.id != event.id || stored.subject != event.subject {
                return None;
            }
            positions.push(at);
            at = at.next();
        }
        Some(positions)
    }
}

/// One expectation for each subject of the batch, at most one for any other, and sizes within bounds.
fn check<'a>(
    expectations: &'a [Expectation],
    batch: &[Event],
) -> Result<HashMap<&'a Subject, Position>, AppendError> {
    let invalid = |message: String| Err(AppendError::Invalid(message));
    if batch.is_empty() || batch.len() > BATCH_MAX {
        return invalid(format!("a batch of {} facts is not between 1 and {BATCH_MAX}", batch.len()));
    }
    let mut expected = HashMap::new();
    for Expectation { subject, at } in expectations {
        if expected.insert(subject, *at).is_some_and(|other| other != *at) {
            return invalid(format!("two different expectations on {subject}"));
        }
    }
    for event in batch {
        if !expected.contains_key(&event.subject) {
            return invalid(format!("no expectation on {}", event.subject));
        }
        let json = event.to_json().map_err(|error| AppendError::Invalid(error.to_string()))?;
        if json.len() > FACT_BYTES_MAX {
            return invalid(format!("a fact of {} bytes is larger than {FACT_BYTES_MAX}", json.len()));
        }
    }
    Ok(expected)
}

fn take(counter: &AtomicUsize) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn append(
        &self,
        expectations: Vec<Expectation>,
        batch: Vec<NewEvent>,
    ) -> Result<Vec<Position>, AppendError> {
        // A real log answers later: whoever relies on an answer at once is found out here.
        tokio::task::yield_now().await;
        let expected = check(&expectations, &batch)?;
        if take(&self.0.appends_to_fail) {
            return Err(PortError::transient("the log is not reached").into());
        }
        let positions = {
            let mut facts = lock(&self.0.facts);
            let stale =
                expectations.iter().find(|expectation| facts.last_on(&expectation.subject) != expectation.at);
            match stale {
                None => facts.push(batch),
                Some(Expectation { subject, at }) => match facts.repeated(&expected, &batch) {
                    Some(positions) => positions,
                    None => {
                        return Err(AppendError::Stale {
                            subject: subject.clone(),
                            expected: *at,
                            actual: facts.last_on(subject),
                        });
                    }
                },
            }
        };
        self.0.news.notify_waiters();
        if take(&self.0.acks_to_lose) {
            return Err(PortError::transient("the log's answer got lost").into());
        }
        Ok(positions)
    }

    async fn read(&self, after: Position) -> Result<EventStream, PortError> {
        let head = lock(&self.0.facts).head();
        if after > head {
            return Err(PortError::persistent(format!("position {after} is beyond the log's head {head}")));
        }
        let state = (self.0.clone(), after.next());
        Ok(stream::unfold(state, |(shared, mut at)| async move {
            loop {
                let mut news = pin!(shared.news.notified());
                news.as_mut().enable();
                let (fact, purged) = {
                    let facts = lock(&shared.facts);
                    (facts.at(at).cloned(), facts.purged.contains(&at))
                };
                if let Some(fact) = fact {
                    if purged {
                        at = at.next();
                        continue;
                    }
                    return Some((Ok(fact), (shared.clone(), at.next())));
                }
                news.await;
            }
        })
        .boxed())
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Recorded>, PortError> {
        let facts = lock(&self.0.facts);
        Ok(facts.at(facts.last_on(subject)).cloned())
    }

    async fn head(&self) -> Result<Position, PortError> {
        Ok(lock(&self.0.facts).head())
    }
}

#[async_trait]
impl Purge for MemoryLog {
    async fn all_on(&self, subject: &Subject) -> Result<Vec<Recorded>, PortError> {
        Ok(self.facts_on(subject))
    }

    async fn purge(&self, subject: &Subject, through: Position) -> Result<(), PortError> {
        let mut facts = lock(&self.0.facts);
        let Some(mut positions) = facts.by_subject.remove(subject) else { return Ok(()) };
        let left = positions.split_off(positions.partition_point(|at| *at <= through));
        facts.purged.extend(positions);
        if !left.is_empty() {
            facts.by_subject.insert(subject.clone(), left);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{event_log_conformance, purge_conformance};
    use crate::{canceled, lock};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn conforms() {
        let logs = Mutex::new(HashMap::new());
        event_log_conformance(|name| {
            let log = lock(&logs).entry(name.to_owned()).or_insert_with(MemoryLog::new).clone();
            async move { Arc::new(log) as Arc<dyn EventLog> }
        })
        .await;
        purge_conformance(|name| {
            let log = lock(&logs).entry(name.to_owned()).or_insert_with(MemoryLog::new).clone();
            async move { Arc::new(log) as Arc<dyn Purge> }
        })
        .await;
    }

    #[tokio::test]
    async fn a_lost_answer_is_found_by_asking_again() {
        let log = MemoryLog::new();
        let event = canceled(1);
        let expect = vec![Expectation::none(event.subject.clone())];
        log.lose_acks(1);
        assert!(matches!(log.append(expect.clone(), vec![event.clone()]).await, Err(AppendError::Port(_))));
        assert_eq!(log.append(expect, vec![event]).await.unwrap(), [Position::new(1)]);
        assert_eq!(log.facts().len(), 1);
    }
}
