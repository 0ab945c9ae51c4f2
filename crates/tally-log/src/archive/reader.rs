//! A log together with the archive of what was moved out of it: readers get every fact, where it once stood.
//!
//! A segment is in the archive before any of its facts leaves the log. So a gap between two facts that a reader of
//! the log meets is looked up in the archive as it is then, and nothing is missed that goes while it reads. A fact
//! that is in both is handed on once.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use tally_events::{Event, Fact, NewEvent, OrdersArchived, Recorded, Subject};
use tally_ports::{AppendError, EventLog, EventStream, Expectation, PortError};
use tally_types::Position;

use super::FileArchive;

/// A log with its archive. Everything but reading is the log's own.
pub struct ArchivedLog {
    log: Arc<dyn EventLog>,
    archive: FileArchive,
}

impl std::fmt::Debug for ArchivedLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArchivedLog").field("archive", &self.archive).finish_non_exhaustive()
    }
}

impl ArchivedLog {
    /// A log, and what was moved out of it.
    pub fn new(log: Arc<dyn EventLog>, archive: FileArchive) -> Self {
        Self { log, archive }
    }

    /// What the log says was archived last.
    async fn archived(&self) -> Result<Option<OrdersArchived>, PortError> {
        Ok(match self.log.last(&Subject::archive()).await? {
            Some(Recorded { event: Event { fact: Fact::OrdersArchived(last), .. }, .. }) => Some(last),
            _ => None,
        })
    }
}

#[async_trait]
impl EventLog for ArchivedLog {
    async fn append(
        &self,
        expectations: Vec<Expectation>,
        batch: Vec<NewEvent>,
    ) -> Result<Vec<Position>, AppendError> {
        self.log.append(expectations, batch).await
    }

    async fn read(&self, after: Position) -> Result<EventStream, PortError> {
        // In this order: what is purged before the reader begins is in the archive by the time it is looked through.
        let facts = self.log.read(after).await?;
        let last = self.archived().await?;
        let begin = match &last {
            // Everything there was handed on before; the archive need not even be at hand.
            Some(last) if last.through <= after => last.segment,
            _ => 0,
        };
        let mut merge = Merge {
            archive: self.archive.clone(),
            facts,
            after,
            known: begin,
            waiting: BTreeMap::new(),
            loaded: BTreeMap::new(),
            held: None,
            ended: false,
        };
        merge.look().await?;
        if let Some(last) = last.filter(|last| last.segment > merge.known) {
            return Err(PortError::persistent(format!(
                "the archive in {} lacks segment {}, and the log says that there are {}: put the archive's folder in \
                 its place, or restore the last backup (`tally restore`)",
                self.archive.dir().display(),
                merge.known.saturating_add(1),
                last.segment
            )));
        }
        Ok(stream::unfold(merge, |mut merge| async move {
            if merge.ended {
                return None;
            }
            let next = merge.next().await?;
            merge.ended = next.is_err();
            Some((next, merge))
        })
        .boxed())
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Recorded>, PortError> {
        self.log.last(subject).await
    }

    async fn head(&self) -> Result<Position, PortError> {
        self.log.head().await
    }
}

/// Where a reader stands.
struct Merge {
    archive: FileArchive,
    facts: EventStream,
    /// What was handed on last, or what the caller has.
    after: Position,
    /// Segments that were looked at.
    known: u64,
    /// Segments that may hold something later, by their first position and their number.
    waiting: BTreeMap<(Position, u64), OrdersArchived>,
    /// What was read of them and not handed on.
    loaded: BTreeMap<Position, Recorded>,
    /// The log's next fact.
    held: Option<Recorded>,
    ended: bool,
}

impl Merge {
    async fn next(&mut self) -> Option<Result<Recorded, PortError>> {
        if self.held.is_none() {
            match self.facts.next().await? {
                Ok(fact) => {
                    if fact.position > self.after.next()
                        && let Err(error) = self.look().await
                    {
                        return Some(Err(error));
                    }
                    self.held = Some(fact);
                }
                Err(error) => return Some(Err(error)),
            }
        }
        if let Err(error) = self.load().await {
            return Some(Err(error));
        }
        let held = self.held.take()?;
        let archived = self.loaded.pop_first();
        let fact = match archived {
            Some((position, fact)) if position < held.position => {
                self.held = Some(held);
                fact
            }
            Some((position, fact)) => {
                if position > held.position {
                    self.loaded.insert(position, fact);
                }
                held
            }
            None => held,
        };
        self.after = fact.position;
        Some(Ok(fact))
    }

    /// Looks for segments that have come.
    async fn look(&mut self) -> Result<(), PortError> {
        if !self.archive.has(self.known.saturating_add(1))? {
            return Ok(());
        }
        let known = self.known;
        let found = self.archive.blocking(move |archive| {
            let mut found = Vec::new();
            while let Some(index) = archive.index(known.saturating_add(found.len() as u64 + 1))? {
                found.push(index);
            }
            Ok(found)
        });
        for index in found.await? {
            self.known = index.segment;
            if index.last > self.after {
                self.waiting.insert((index.first, index.segment), index);
            }
        }
        Ok(())
    }

    /// Loads every segment that may hold the next fact.
    async fn load(&mut self) -> Result<(), PortError> {
        loop {
            let next = self.loaded.first_key_value().map(|(position, _)| *position);
            let next = next.into_iter().chain(self.held.as_ref().map(|held| held.position)).min();
            let (Some(next), Some(entry)) = (next, self.waiting.first_entry()) else { return Ok(()) };
            if entry.key().0 > next {
                return Ok(());
            }
            let index = entry.remove();
            let number = index.segment;
            let facts = self.archive.blocking(move |archive| archive.load(number)).await?;
            let Some((there, facts)) = facts.filter(|(there, _)| *there == index) else {
                return Err(PortError::persistent(format!(
                    "segment {number} of the archive in {} changed while it was read",
                    self.archive.dir().display()
                )));
            };
            debug_assert_eq!(there.segment, number);
            let new = facts.into_iter().filter(|fact| fact.position > self.after);
            self.loaded.extend(new.map(|fact| (fact.position, fact)));
        }
    }
}
