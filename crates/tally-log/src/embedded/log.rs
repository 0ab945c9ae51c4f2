//! The [`EventLog`] of the embedded mode.

use std::sync::Arc;

use async_trait::async_trait;
use tally_events::{NewEvent, Recorded, Subject};
use tally_ports::{AppendError, EventLog, EventStream, Expectation, PortError, Purge};
use tally_types::Position;
use tokio::sync::oneshot;

use super::record::Reader;
use super::writer::Request;
use super::{Inner, cut_off, reader, stopped};
use crate::LogName;
use crate::check::Checked;
use crate::copy::Restorable;

/// One log of the embedded mode. Clones are handles on the same.
#[derive(Debug, Clone)]
pub struct EmbeddedLog {
    inner: Arc<Inner>,
    name: LogName,
}

impl EmbeddedLog {
    pub(super) fn new(inner: Arc<Inner>, name: LogName) -> Self {
        Self { inner, name }
    }
}

/// Positions that are left without a fact in one request.
const SKIPPED_AT_ONCE: u64 = 400;

#[async_trait]
impl Restorable for EmbeddedLog {
    async fn skip_to(&self, position: Position) -> Result<(), PortError> {
        let mut last = self.head().await?.get();
        while last < position.get() {
            let to = position.get().min(last.saturating_add(SKIPPED_AT_ONCE));
            let (answer, skipped) = oneshot::channel();
            self.inner.request(Request::Skip(self.name.into(), to, answer)).await?;
            last = skipped.await.map_err(|_| stopped(&self.inner.dir))??;
        }
        Ok(())
    }
}

#[async_trait]
impl EventLog for EmbeddedLog {
    async fn append(
        &self,
        expectations: Vec<Expectation>,
        batch: Vec<NewEvent>,
    ) -> Result<Vec<Position>, AppendError> {
        let since = tokio::time::Instant::now();
        let append = Checked::new(expectations, batch)?;
        let (answer, appended) = oneshot::channel();
        self.inner.request(Request::Append(self.name.into(), append, answer)).await?;
        let positions = appended.await.map_err(|_| stopped(&self.inner.dir))??;
        crate::note_append(since);
        Ok(positions)
    }

    async fn read(&self, after: Position) -> Result<EventStream, PortError> {
        reader::read(self.inner.clone(), self.name, after)
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Recorded>, PortError> {
        let (inner, name, subject) = (self.inner.clone(), self.name, subject.clone());
        let found = tokio::task::spawn_blocking(move || {
            let reader = Reader { dir: &inner.dir, db: &inner.db, tag: name.into() };
            let durable = *inner.tail(name).durable.borrow();
            let mut at = reader.head(&subject)?;
            // The writer may just be writing behind what is durable: then the fact before is the last one.
            while let Some(fact) = reader.fact(at)?.filter(|fact| !fact.is_void()) {
                if fact.position <= durable {
                    return Ok(Some(fact.recorded(&inner.dir)?));
                }
                at = fact.previous;
            }
            Ok(None)
        });
        found.await.map_err(|error| cut_off(&self.inner.dir, error))?
    }

    async fn head(&self) -> Result<Position, PortError> {
        Ok(Position::new(*self.inner.tail(self.name).durable.borrow()))
    }
}

#[async_trait]
impl Purge for EmbeddedLog {
    async fn all_on(&self, subject: &Subject) -> Result<Vec<Recorded>, PortError> {
        let (inner, name, subject) = (self.inner.clone(), self.name, subject.clone());
        let found = tokio::task::spawn_blocking(move || {
            let reader = Reader { dir: &inner.dir, db: &inner.db, tag: name.into() };
            let durable = *inner.tail(name).durable.borrow();
            let mut at = reader.head(&subject)?;
            let mut facts = Vec::new();
            while let Some(fact) = reader.fact(at)?.filter(|fact| !fact.is_void()) {
                if fact.position <= durable {
                    facts.push(fact.recorded(&inner.dir)?);
                }
                at = fact.previous;
            }
            facts.reverse();
            Ok(facts)
        });
        found.await.map_err(|error| cut_off(&self.inner.dir, error))?
    }

    async fn purge(&self, subject: &Subject, through: Position) -> Result<(), PortError> {
        let (answer, purged) = oneshot::channel();
        let request = Request::Purge(self.name.into(), subject.clone(), through.get(), answer);
        self.inner.request(request).await?;
        purged.await.map_err(|_| stopped(&self.inner.dir))?.map(drop)
    }
}
