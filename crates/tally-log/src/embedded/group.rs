//! The appends of one commit: each is checked against the log and against those before it in the group.

use std::collections::HashMap;

use tally_events::{Recorded, Subject};
use tally_ports::{AppendError, PortError};
use tally_types::Position;
use tokio::sync::oneshot;

use super::record::{self, Reader, Tag};
use super::writer::{Appended, Request};
use crate::check::Checked;

/// How far back a repeated append is looked for, in facts of its subject.
const REPEAT_DISTANCE_MAX: usize = 1_000;

/// The name of no lease, under which the epoch lies that all of them are above.
const EPOCH_FLOOR: &str = "";

/// An answer that waits for the commit.
pub(super) enum Answer {
    Append(oneshot::Sender<Appended>, Appended),
    Epoch(oneshot::Sender<Result<u64, PortError>>, Result<u64, PortError>),
}

impl Answer {
    /// Answers. Whoever asked may have gone.
    pub(super) fn send(self) {
        match self {
            Self::Append(to, answer) => drop(to.send(answer)),
            Self::Epoch(to, answer) => drop(to.send(answer)),
        }
    }

    /// Answers with a failure instead: the commit did not happen.
    pub(super) fn fail(self, error: impl FnOnce() -> PortError) {
        match self {
            Self::Append(to, _) => drop(to.send(Err(error().into()))),
            Self::Epoch(to, _) => drop(to.send(Err(error()))),
        }
    }
}

/// A fact of this group.
pub(super) struct Fresh {
    /// The fact with its position.
    pub(super) recorded: Recorded,
    /// Where its subject's fact before stands; 0 where there is none.
    previous: u64,
}

/// One commit in the making.
pub(super) struct Group<'a> {
    reader: Reader<'a>,
    /// What to write; none while there is nothing.
    pub(super) batch: Option<sled::Batch>,
    rows: usize,
    heads: HashMap<(Tag, Subject), u64>,
    epochs: HashMap<String, u64>,
    /// The last positions of the main log and of the rates, with this group.
    pub(super) last: (u64, u64),
    /// The group's facts on the main log and on the rates.
    pub(super) facts: (Vec<Fresh>, Vec<Fresh>),
    /// What to answer once it is durable.
    pub(super) answers: Vec<Answer>,
}

/// Why an append is not taken.
enum Refusal {
    Stale { subject: Subject, expected: Position, actual: u64 },
    Failed(PortError),
}

impl From<PortError> for Refusal {
    fn from(error: PortError) -> Self {
        Self::Failed(error)
    }
}

impl<'a> Group<'a> {
    /// An empty group behind these positions.
    pub(super) fn new(reader: Reader<'a>, main: u64, rates: u64) -> Self {
        Self {
            reader,
            batch: None,
            rows: 0,
            heads: HashMap::new(),
            epochs: HashMap::new(),
            last: (main, rates),
            facts: (Vec::new(), Vec::new()),
            answers: Vec::new(),
        }
    }

    /// How many rows it writes so far.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Takes a request in.
    pub(super) fn take(&mut self, request: Request) {
        let answer = match request {
            Request::Append(tag, append, answer) => {
                let appended = self.append(tag, append).map_err(|refusal| match refusal {
                    Refusal::Stale { subject, expected, actual } => {
                        AppendError::Stale { subject, expected, actual: Position::new(actual) }
                    }
                    Refusal::Failed(error) => error.into(),
                });
                Answer::Append(answer, appended)
            }
            Request::Epoch(name, answer) => Answer::Epoch(answer, self.epoch(name)),
            Request::Skip(tag, to, answer) => Answer::Epoch(answer, Ok(self.skip(tag, to))),
            Request::Purge(tag, subject, through, answer) => {
                Answer::Epoch(answer, self.purge(tag, subject, through))
            }
            Request::EpochsAbove(floor, answer) => Answer::Epoch(answer, self.epochs_above(floor)),
        };
        self.answers.push(answer);
    }

    fn last_epoch(&self, name: &str) -> Result<u64, PortError> {
        match self.epochs.get(name) {
            Some(epoch) => Ok(*epoch),
            None => self.reader.epoch(name),
        }
    }

    fn epoch(&mut self, name: String) -> Result<u64, PortError> {
        let last = self.last_epoch(&name)?.max(self.last_epoch(EPOCH_FLOOR)?);
        self.put_epoch(name, last.saturating_add(1))
    }

    fn epochs_above(&mut self, floor: u64) -> Result<u64, PortError> {
        let floor = floor.max(self.last_epoch(EPOCH_FLOOR)?);
        self.put_epoch(EPOCH_FLOOR.to_owned(), floor)
    }

    /// Leaves positions through `to` without a fact.
    fn skip(&mut self, tag: Tag, to: u64) -> u64 {
        while *self.last_mut(tag) < to {
            let last = self.last_mut(tag);
            *last = last.saturating_add(1);
            let position = *last;
            self.rows += record::put_void(self.batch.get_or_insert_default(), tag, position);
        }
        *self.last_mut(tag)
    }

    /// Takes out a subject's facts through a position. Marks stay in their places, so that a lost fact is still
    /// noticed; a subject of which nothing is left has no head.
    fn purge(&mut self, tag: Tag, subject: Subject, through: u64) -> Result<u64, PortError> {
        let reader = self.reader.of(tag);
        let head = self.head(tag, &subject)?;
        let (mut at, mut gone) = (head, Vec::new());
        // A fact of this very group is not on the disk yet. Nobody purges what was never read, so it stays.
        while let Some(previous) = self.previous(tag, at)? {
            if at <= through && self.fresh(tag, at).is_none() {
                gone.extend(reader.fact(at)?.filter(|fact| !fact.is_void()));
            }
            at = previous;
        }
        let batch = self.batch.get_or_insert_default();
        for fact in &gone {
            record::remove_fact(batch, tag, fact);
            self.rows += record::put_void(batch, tag, fact.position);
        }
        if head != 0 && gone.first().is_some_and(|last| last.position == head) {
            batch.remove(record::head_key(tag, subject.as_str()));
            self.heads.insert((tag, subject), 0);
        }
        Ok(gone.len() as u64)
    }

    fn put_epoch(&mut self, name: String, epoch: u64) -> Result<u64, PortError> {
        let key = record::epoch_key(&name);
        let value = record::pointer(&key, epoch);
        self.batch.get_or_insert_default().insert(key, &value[..]);
        self.rows += 1;
        self.epochs.insert(name, epoch);
        Ok(epoch)
    }

    fn append(&mut self, tag: Tag, append: Checked) -> Result<Vec<Position>, Refusal> {
        for (subject, expected) in &append.expected {
            let actual = self.head(tag, subject)?;
            if actual != expected.get() {
                return match self.repeated(tag, &append)? {
                    Some(positions) => Ok(positions),
                    None => Err(Refusal::Stale { subject: subject.clone(), expected: *expected, actual }),
                };
            }
        }
        let mut positions = Vec::with_capacity(append.facts.len());
        for fact in append.facts {
            let last = self.last_mut(tag);
            *last = last.saturating_add(1);
            let position = *last;
            let subject = fact.event.subject.clone();
            let previous = self.head(tag, &subject)?;
            let batch = self.batch.get_or_insert_default();
            self.rows += record::put_fact(batch, tag, position, previous, &fact.json);
            let key = record::head_key(tag, subject.as_str());
            let value = record::pointer(&key, position);
            batch.insert(key, &value[..]);
            self.rows += 1;
            self.heads.insert((tag, subject), position);
            let recorded = Recorded { position: Position::new(position), event: fact.event };
            self.facts_mut(tag).push(Fresh { recorded, previous });
            positions.push(Position::new(position));
        }
        Ok(positions)
    }

    /// Where the append already stands, if it was taken before and its answer got lost.
    ///
    /// Its first fact was then the first on its subject behind the expectation, and the others follow it directly.
    fn repeated(&self, tag: Tag, append: &Checked) -> Result<Option<Vec<Position>>, PortError> {
        let Some(first) = append.facts.first() else { return Ok(None) };
        let subject = &first.event.subject;
        let Some(expected) = append.expected_on(subject) else { return Ok(None) };
        let mut at = self.head(tag, subject)?;
        for _ in 0..REPEAT_DISTANCE_MAX {
            let Some(previous) = self.previous(tag, at)? else { return Ok(None) };
            if previous <= expected.get() {
                break;
            }
            at = previous;
        }
        let mut positions = Vec::with_capacity(append.facts.len());
        for (position, fact) in (at..).zip(&append.facts) {
            if !self.is(tag, position, &fact.event.id, &fact.event.subject)? {
                return Ok(None);
            }
            positions.push(Position::new(position));
        }
        Ok((self.previous(tag, at)? == Some(expected.get())).then_some(positions))
    }

    /// The position of a subject's last fact, this group's included.
    fn head(&self, tag: Tag, subject: &Subject) -> Result<u64, PortError> {
        // The key is cloned: a borrowed pair cannot be looked up, and a subject is short.
        match self.heads.get(&(tag, subject.clone())) {
            Some(position) => Ok(*position),
            None => self.reader.of(tag).head(subject),
        }
    }

    /// Where the fact before the one at `position` stands on its subject; `None` where there is nothing at `position`.
    fn previous(&self, tag: Tag, position: u64) -> Result<Option<u64>, PortError> {
        match self.fresh(tag, position) {
            Some(fact) => Ok(Some(fact.previous)),
            None => Ok(self.reader.of(tag).fact(position)?.map(|fact| fact.previous)),
        }
    }

    /// Whether this fact on this subject stands at `position`.
    fn is(&self, tag: Tag, position: u64, id: &str, subject: &Subject) -> Result<bool, PortError> {
        match self.fresh(tag, position) {
            Some(fact) => Ok(fact.recorded.event.id == id && fact.recorded.event.subject == *subject),
            None => Ok(self.reader.of(tag).fact(position)?.is_some_and(|fact| fact.is(id, subject))),
        }
    }

    fn fresh(&self, tag: Tag, position: u64) -> Option<&Fresh> {
        let facts = match tag {
            Tag::Main => &self.facts.0,
            Tag::Rates => &self.facts.1,
        };
        let first = facts.first()?.recorded.position.get();
        let fact = facts.get(usize::try_from(position.checked_sub(first)?).ok()?)?;
        (fact.recorded.position.get() == position).then_some(fact)
    }

    fn facts_mut(&mut self, tag: Tag) -> &mut Vec<Fresh> {
        match tag {
            Tag::Main => &mut self.facts.0,
            Tag::Rates => &mut self.facts.1,
        }
    }

    fn last_mut(&mut self, tag: Tag) -> &mut u64 {
        match tag {
            Tag::Main => &mut self.last.0,
            Tag::Rates => &mut self.last.1,
        }
    }
}
