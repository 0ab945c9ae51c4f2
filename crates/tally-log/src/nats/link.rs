//! One connection, and the few requests that everything here is made of.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{Client, HeaderMap, Request, header};
use bytes::Bytes;
use serde::Deserialize;
use tally_ports::PortError;
use tokio::sync::watch;

/// How long the server has to answer a request.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// How long an answer may still come after the connection was lost and made again.
const ANSWER_WAIT_AFTER_RECONNECT: Duration = Duration::from_millis(300);

/// The subject whose sequence an expectation speaks of, where it is not the message's own.
pub(super) const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";

/// Error codes of JetStream.
pub(super) mod code {
    /// JetStream is not ready, for the time being.
    pub(crate) const UNAVAILABLE: u64 = 10008;
    /// An expectation does not hold.
    pub(crate) const STALE: u64 = 10071;
    /// Two expectations on one subject in a batch; with three replicas also: something on it is in flight.
    pub(crate) const STALE_OR_IN_FLIGHT: u64 = 10164;
    /// A message with the same id is in flight.
    pub(crate) const SAME_ID_IN_FLIGHT: u64 = 10158;
    /// A batch holds an id that was stored not long ago.
    pub(crate) const BATCH_REPEATED: u64 = 10201;
    /// A batch lost a message on the way.
    pub(crate) const BATCH_INCOMPLETE: u64 = 10176;
    /// Too many batches are open.
    pub(crate) const BATCHES_TOO_MANY: u64 = 10210;
}

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    client: Client,
    context: jetstream::Context,
    /// Counts connections made.
    connects: watch::Receiver<u64>,
}

/// A message to store.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) subject: String,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
}

/// Why nothing is known to be stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublishError {
    /// The server stored nothing, and says why.
    #[error("{text} ({code})")]
    Refused {
        /// One of [`code`], or another.
        code: u64,
        /// The server's words.
        text: String,
    },
    /// There was nobody to store it.
    #[error("no stream takes the message: JetStream is starting, or not enabled for this account")]
    NoStream,
    /// Whether it is stored is not known.
    #[error("the answer did not come")]
    Unknown(#[source] async_nats::Error),
}

impl PublishError {
    /// For a caller that does nothing more about it.
    pub(super) fn into_port(self) -> PortError {
        PortError::transient("the NATS server did not store a message").because(self)
    }
}

#[derive(Deserialize)]
struct Ack {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: u64,
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

impl Link {
    pub(super) fn new(client: Client, connects: watch::Receiver<u64>) -> Self {
        let context = ContextBuilder::new().timeout(ANSWER_WAIT).build(client.clone());
        Self { client, context, connects }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn context(&self) -> &jetstream::Context {
        &self.context
    }

    /// Moves each time a connection was made.
    pub(super) fn connects(&self) -> watch::Receiver<u64> {
        let mut connects = self.connects.clone();
        connects.borrow_and_update();
        connects
    }

    /// Another text each time, on any connection.
    pub(super) fn unique(&self) -> String {
        let inbox = self.client.new_inbox();
        inbox.rsplit('.').next().unwrap_or(&inbox).to_owned()
    }

    /// Stores one message; answers its sequence.
    pub(super) async fn publish(&self, message: Outgoing) -> Result<u64, PublishError> {
        let request =
            Request::new().headers(message.headers).payload(message.payload).timeout(Some(ANSWER_WAIT));
        let mut connects = self.connects();
        let lost = async {
            // An answer to what was sent before the connection was made anew rarely comes.
            if connects.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(ANSWER_WAIT_AFTER_RECONNECT).await;
        };
        let answer = tokio::select! {
            answer = self.client.send_request(message.subject, request) => answer,
            () = lost => return Err(PublishError::Unknown("the connection was lost".into())),
        };
        let answer = answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => PublishError::NoStream,
            RequestErrorKind::MaxPayloadExceeded | RequestErrorKind::InvalidSubject => {
                PublishError::Refused { code: 0, text: error.to_string() }
            }
            RequestErrorKind::TimedOut | RequestErrorKind::Other => PublishError::Unknown(error.into()),
        })?;
        let ack: Ack =
            serde_json::from_slice(&answer.payload).map_err(|error| PublishError::Unknown(error.into()))?;
        match ack.error {
            None => Ok(ack.seq),
            Some(Refusal { code, err_code, description }) => Err(PublishError::Refused {
                code: if err_code == 0 { code } else { err_code },
                text: description,
            }),
        }
    }

    /// Stores messages together or not at all; answers the sequence of the last. The others come right before it.
    pub(super) async fn publish_batch(&self, messages: Vec<Outgoing>) -> Result<u64, PublishError> {
        let id = self.unique();
        let last = messages.len();
        for (number, mut message) in (1..).zip(messages) {
            message.headers.insert(header::NATS_BATCH_ID, id.as_str());
            message.headers.insert(header::NATS_BATCH_SEQUENCE, number.to_string());
            if number == last {
                message.headers.insert(header::NATS_BATCH_COMMIT, header::NATS_BATCH_COMMIT_FINAL);
                return self.publish(message).await;
            }
            let Outgoing { subject, headers, payload } = message;
            let sent = self.client.publish_with_headers(subject, headers, payload).await;
            // Without its last message a batch is nothing.
            sent.map_err(|error| PublishError::Refused {
                code: code::BATCH_INCOMPLETE,
                text: error.to_string(),
            })?;
        }
        Err(PublishError::Refused { code: 0, text: "an empty batch".to_owned() })
    }
}

/// The last message of a subject, from the stream's leader. The subject may have wildcards.
pub(super) async fn last<I>(stream: &Stream<I>, subject: &str) -> Result<Option<StreamMessage>, PortError> {
    found(stream.get_last_raw_message_by_subject(subject).await)
}

/// The first message of a subject from `sequence` on, from the stream's leader.
pub(super) async fn first_from<I>(
    stream: &Stream<I>,
    subject: &str,
    sequence: u64,
) -> Result<Option<StreamMessage>, PortError> {
    found(stream.get_first_raw_message_by_subject(subject, sequence).await)
}

/// The message at `sequence`, from the stream's leader.
pub(super) async fn at<I>(stream: &Stream<I>, sequence: u64) -> Result<Option<StreamMessage>, PortError> {
    found(stream.get_raw_message(sequence).await)
}

fn found(
    answer: Result<StreamMessage, async_nats::jetstream::stream::RawMessageError>,
) -> Result<Option<StreamMessage>, PortError> {
    match answer {
        Ok(message) => Ok(Some(message)),
        Err(error) => match error.kind() {
            RawMessageErrorKind::NoMessageFound => Ok(None),
            RawMessageErrorKind::JetStream(refusal)
                if refusal.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                Err(PortError::persistent("the log's stream is gone from the NATS server").because(error))
            }
            _ => Err(PortError::transient("the NATS server did not answer a read").because(error)),
        },
    }
}

/// A header's value as text.
pub(super) fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(async_nats::HeaderValue::as_str)
}
