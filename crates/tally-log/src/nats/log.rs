//! The [`EventLog`] on NATS.

use std::sync::Arc;

use async_nats::jetstream::message::StreamMessage;
use async_trait::async_trait;
use tally_events::{Event, NewEvent, Recorded, Subject};
use tally_ports::{AppendError, EventLog, EventStream, Expectation, PortError, Purge};
use tally_types::Position;

use super::durability::Durability;
use super::link::{self, Link};
use super::streams::Handle;
use super::{append, reader};
use crate::LogName;
use crate::check::Checked;
use crate::copy::Restorable;

/// A log on NATS. Clones are handles on the same.
#[derive(Debug, Clone)]
pub struct NatsLog {
    link: Arc<Link>,
    stream: Arc<Handle>,
    stream_name: &'static str,
    durability: Durability,
}

impl NatsLog {
    pub(super) fn new(link: Arc<Link>, name: LogName, stream: Handle, durability: Durability) -> Self {
        let stream_name = super::streams::log_name(name);
        Self { link, stream: Arc::new(stream), stream_name, durability }
    }

    /// Whether "appended" is known to mean "on disk", as it was when this was opened.
    pub fn durability(&self) -> &Durability {
        &self.durability
    }
}

/// The fact in a message.
pub(super) fn recorded(subject: &str, sequence: u64, payload: &[u8]) -> Result<Recorded, PortError> {
    let event = Event::from_json(payload).map_err(|error| {
        PortError::persistent(format!("the message at position {sequence} of the log cannot be read"))
            .because(error)
    })?;
    if event.subject.as_str() != subject {
        return Err(PortError::persistent(format!(
            "the fact at position {sequence} of the log is of {}, but stands on {subject}",
            event.subject
        )));
    }
    Ok(Recorded { position: Position::new(sequence), event })
}

#[async_trait]
impl Restorable for NatsLog {
    async fn skip_to(&self, position: Position) -> Result<(), PortError> {
        let mut last = self.head().await?;
        while last < position {
            last = append::skip(&self.link, self.stream_name, last).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl EventLog for NatsLog {
    async fn append(
        &self,
        expectations: Vec<Expectation>,
        batch: Vec<NewEvent>,
    ) -> Result<Vec<Position>, AppendError> {
        let since = tokio::time::Instant::now();
        let checked = Checked::new(expectations, batch)?;
        let positions = append::append(&self.link, &self.stream, self.stream_name, checked).await?;
        crate::note_append(since);
        Ok(positions)
    }

    async fn read(&self, after: Position) -> Result<EventStream, PortError> {
        reader::read(self.link.clone(), self.stream.clone(), self.stream_name, after).await
    }

    async fn last(&self, subject: &Subject) -> Result<Option<Recorded>, PortError> {
        let last = link::last(&self.stream, subject.as_str()).await?;
        last.map(|StreamMessage { subject, sequence, payload, .. }| recorded(&subject, sequence, &payload))
            .transpose()
    }

    async fn head(&self) -> Result<Position, PortError> {
        Ok(Position::new(reader::bounds(&self.stream).await?.last))
    }
}

#[async_trait]
impl Purge for NatsLog {
    async fn all_on(&self, subject: &Subject) -> Result<Vec<Recorded>, PortError> {
        let mut facts: Vec<Recorded> = Vec::new();
        let mut from = Position::START.next();
        while let Some(StreamMessage { subject, sequence, payload, .. }) =
            link::first_from(&self.stream, subject.as_str(), from.get()).await?
        {
            facts.push(recorded(&subject, sequence, &payload)?);
            from = Position::new(sequence).next();
        }
        Ok(facts)
    }

    async fn purge(&self, subject: &Subject, through: Position) -> Result<(), PortError> {
        // The server keeps what stands at the sequence named, and what comes after it.
        let purge = self.stream.purge().filter(subject.as_str()).sequence(through.next().get());
        let purged = purge.await.map_err(|error| {
            PortError::transient(format!("the NATS server did not purge {subject}")).because(error)
        })?;
        if purged.success {
            Ok(())
        } else {
            Err(PortError::transient(format!("the NATS server refuses to purge {subject}")))
        }
    }
}
