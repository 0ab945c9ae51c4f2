//! The public subjects.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, header};
use async_trait::async_trait;
use tally_ports::{Message, PortError, Publisher};
use tally_types::Position;
use tokio::time::Instant;

use super::link::{self, Link, Outgoing, PublishError, code, header_text};
use super::streams::{Handle, STATE_PREFIX};

/// The log position that a public message follows from.
const POSITION: &str = "Tally-Position";
/// Messages in one batch.
const BATCH_MAX: usize = 1_000;
/// How long a batch is pursued.
const PURSUED_MAX: Duration = Duration::from_secs(15);
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Publishes on `TALLY_PUBLIC`.
#[derive(Debug, Clone)]
pub struct NatsPublisher {
    link: Arc<Link>,
    public: Arc<Handle>,
    state: Arc<Handle>,
}

impl NatsPublisher {
    pub(super) fn new(link: Arc<Link>, public: Handle, state: Handle) -> Self {
        Self { link, public: Arc::new(public), state: Arc::new(state) }
    }

    /// Publishes one batch, whole; where some of it is there already, the rest one by one.
    async fn publish_batch(&self, messages: Vec<Outgoing>) -> Result<(), PortError> {
        let deadline = Instant::now() + PURSUED_MAX;
        loop {
            let failure = match self.link.publish_batch(messages.clone()).await {
                Ok(_) => return Ok(()),
                Err(PublishError::Refused { code: code::BATCH_REPEATED, .. }) => {
                    match self.publish_each(&messages).await {
                        Ok(()) => return Ok(()),
                        Err(failure) => failure,
                    }
                }
                Err(failure) => failure,
            };
            if Instant::now() + AGAIN_AFTER > deadline {
                return Err(failure.into_port());
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// One after the other, so that none is there without those before it. The server drops what it has.
    async fn publish_each(&self, messages: &[Outgoing]) -> Result<(), PublishError> {
        for message in messages {
            self.link.publish(message.clone()).await?;
        }
        Ok(())
    }

    /// Notes the position for the day when the last message that names one has expired.
    async fn note(&self, position: Position) -> Result<(), PortError> {
        let subject = format!("{STATE_PREFIX}public");
        let payload = position.to_string().into();
        let message = Outgoing { subject, headers: HeaderMap::new(), payload };
        self.link.publish(message).await.map(|_| ()).map_err(PublishError::into_port)
    }
}

fn outgoing(message: Message, with_position: bool) -> Outgoing {
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_MESSAGE_ID, message.id.as_str());
    headers.insert("Content-Type", "application/cloudevents+json");
    if let Some(position) = message.position.filter(|_| with_position) {
        headers.insert(POSITION, position.to_string());
    }
    Outgoing { subject: message.subject, headers, payload: message.body.into() }
}

/// Splits messages into batches. A message names its position only where all those of that position are in its batch
/// or before: whoever goes on behind a position must not leave out a part of it.
fn batches(messages: Vec<Message>) -> Vec<Vec<Outgoing>> {
    let mut batches = vec![Vec::new()];
    let mut same: Vec<Message> = Vec::new();
    let mut messages = messages.into_iter().peekable();
    while let Some(message) = messages.next() {
        let position = message.position;
        same.push(message);
        if position.is_some() && messages.peek().is_some_and(|next| next.position == position) {
            continue;
        }
        let last = same.len().saturating_sub(1);
        if batches.last().is_some_and(|batch| batch.len() + same.len() > BATCH_MAX) {
            batches.push(Vec::new());
        }
        for (number, message) in same.drain(..).enumerate() {
            if batches.last().is_some_and(|batch| batch.len() >= BATCH_MAX) {
                batches.push(Vec::new());
            }
            if let Some(batch) = batches.last_mut() {
                batch.push(outgoing(message, number == last));
            }
        }
    }
    batches.retain(|batch| !batch.is_empty());
    batches
}

#[async_trait]
impl Publisher for NatsPublisher {
    async fn publish(&self, messages: Vec<Message>) -> Result<(), PortError> {
        let position = messages.iter().filter_map(|message| message.position).max();
        for batch in batches(messages) {
            self.publish_batch(batch).await?;
        }
        match position {
            Some(position) => self.note(position).await,
            None => Ok(()),
        }
    }

    async fn last_position(&self) -> Result<Option<Position>, PortError> {
        let mut positions = Vec::new();
        for subject in ["tally.v1.status.>", "tally.v1.deposit.>"] {
            let last = link::last(&self.public, subject).await?;
            positions
                .extend(last.and_then(|last| header_text(&last.headers, POSITION)?.parse::<Position>().ok()));
        }
        let noted = link::last(&self.state, &format!("{STATE_PREFIX}public")).await?;
        positions.extend(
            noted.and_then(|noted| std::str::from_utf8(&noted.payload).ok()?.parse::<Position>().ok()),
        );
        Ok(positions.into_iter().max())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(batch: &[Outgoing]) -> Vec<Option<u64>> {
        batch.iter().map(|m| header_text(&m.headers, POSITION).map(|text| text.parse().unwrap())).collect()
    }

    fn messages(positions: &[Option<u64>]) -> Vec<Message> {
        let message = |(number, position): (usize, &Option<u64>)| Message {
            subject: "tally.v1.rate.BTC".to_owned(),
            id: number.to_string(),
            position: position.map(Position::new),
            body: Vec::new(),
        };
        positions.iter().enumerate().map(message).collect()
    }

    #[test]
    fn only_the_last_message_of_a_position_names_it() {
        let batches = batches(messages(&[Some(1), Some(1), None, None, Some(2), Some(3), Some(3)]));
        assert_eq!(batches.len(), 1);
        assert_eq!(positions(&batches[0]), [None, Some(1), None, None, Some(2), None, Some(3)]);
    }

    #[test]
    fn batches_end_between_positions() {
        let all: Vec<Option<u64>> = (0..2_500_u64).map(|n| Some(n / 3)).collect();
        let batches = batches(messages(&all));
        assert!(batches.iter().all(|batch| batch.len() <= BATCH_MAX));
        assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), 2_500);
        for batch in &batches {
            assert!(positions(batch).last().unwrap().is_some(), "a batch ends with the end of a position");
        }
        let one = super::batches(messages(&vec![Some(7); 1_500]));
        assert_eq!(one.iter().map(Vec::len).collect::<Vec<_>>(), [1_000, 500]);
        assert_eq!(one.iter().flat_map(|batch| positions(batch)).flatten().collect::<Vec<_>>(), [7]);
    }
}
