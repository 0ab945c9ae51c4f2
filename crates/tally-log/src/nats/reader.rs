//! Readers: an ordered consumer from the caller's own checkpoint, and what bridges its gaps.
//!
//! The client's ordered consumer is the fastest way to read, but left alone it stalls for 15 s after a server's
//! restart, and longer with three replicas. So it is made anew as soon as the client has connected again; and where
//! nothing comes for half a second although the log goes on, the reader fetches what is there without a consumer.
//! Always without a filter: filtered ones are ten times slower.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::{HeaderMap, Subscriber};
use futures::StreamExt;
use futures::stream::{self, ReadyChunks};
use serde::Serialize;
use tally_events::Recorded;
use tally_ports::{EventStream, PortError};
use tally_types::Position;
use tokio::sync::{mpsc, watch};

use super::link::{Link, header_text};
use super::log::recorded;
use super::streams::{GUARD_SUBJECT, Handle};

/// Facts read ahead of the caller.
const AHEAD_MAX: usize = 2_048;
/// Messages taken from the consumer at once.
const CHUNK: usize = 256;
/// How long nothing may come before the head is asked for.
const SILENCE: Duration = Duration::from_millis(500);
/// How long one fetch, or the making of a consumer, may take.
const FETCH_WAIT: Duration = Duration::from_secs(2);
/// Messages of one fetch, and their bytes.
const FETCH_MESSAGES: usize = 1_000;
const FETCH_BYTES: usize = 8 * 1024 * 1024;
/// The wait before another try where a server cannot be reached.
const TROUBLE_WAIT: Duration = Duration::from_millis(250);

/// The ends of a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    first: u64,
    /// The last message's sequence.
    pub(super) last: u64,
}

/// The ends of a stream, from its leader.
pub(super) async fn bounds(stream: &Handle) -> Result<Bounds, PortError> {
    let info = stream.get_info().await.map_err(|error| {
        PortError::transient("the NATS server did not answer where the log ends").because(error)
    })?;
    Ok(Bounds { first: info.state.first_sequence, last: info.state.last_sequence })
}

type Item = Result<Recorded, PortError>;

/// Where a reader stands.
struct Reader {
    link: Arc<Link>,
    stream: Arc<Handle>,
    stream_name: &'static str,
    /// The first position that was not handed on.
    next: u64,
    facts: mpsc::Sender<Item>,
    connects: watch::Receiver<u64>,
}

/// Why reading goes on in another way.
enum Pause {
    /// The consumer is gone, or is better made anew.
    Anew,
    /// Nothing comes, but there is something.
    Behind,
    /// Nobody reads any more, or nothing more can be read.
    End,
}

/// Every fact after `after`, history first, then live.
pub(super) async fn read(
    link: Arc<Link>,
    stream: Arc<Handle>,
    stream_name: &'static str,
    after: Position,
) -> Result<EventStream, PortError> {
    let head = bounds(&stream).await?.last;
    if after.get() > head {
        return Err(PortError::persistent(format!(
            "position {after} is beyond the log's head {head}: this state was not folded from this NATS server's log"
        )));
    }
    let (facts, given) = mpsc::channel(AHEAD_MAX);
    let connects = link.connects();
    let reader = Reader { link, stream, stream_name, next: after.next().get(), facts, connects };
    tokio::spawn(reader.run());
    Ok(stream::unfold(given, |mut given| async move { given.recv().await.map(|fact| (fact, given)) }).boxed())
}

impl Reader {
    async fn run(mut self) {
        loop {
            let facts = self.facts.clone();
            let pause = tokio::select! {
                pause = self.follow() => pause,
                () = facts.closed() => return,
            };
            let fetched = match pause {
                Pause::End => return,
                Pause::Anew => Ok(()),
                Pause::Behind => self.catch_up().await,
            };
            match fetched {
                Ok(()) => {}
                Err(Pause::End) => return,
                Err(_) => tokio::time::sleep(TROUBLE_WAIT).await,
            }
        }
    }

    /// Makes a consumer and hands on what it brings.
    async fn follow(&mut self) -> Pause {
        self.connects.borrow_and_update();
        let made = tokio::time::timeout(FETCH_WAIT, self.consumer()).await;
        let Ok(Ok(mut messages)) = made else {
            if let Ok(Err(error)) = made {
                tracing::debug!(stream = self.stream_name, %error, "no consumer yet");
            }
            tokio::time::sleep(TROUBLE_WAIT).await;
            return Pause::Behind;
        };
        loop {
            let chunk = tokio::select! {
                chunk = messages.next() => chunk,
                changed = self.connects.changed() => match changed {
                    Ok(()) => return Pause::Anew,
                    Err(_) => return Pause::End,
                },
                () = silent_and_behind(&self.stream, self.next) => return Pause::Behind,
            };
            let Some(chunk) = chunk else { return Pause::Anew };
            for message in chunk {
                let Ok(message) = message else { return Pause::Anew };
                let Ok(sequence) = message.info().map(|info| info.stream_sequence) else {
                    return Pause::Anew;
                };
                if let Err(pause) = self.hand_on(sequence, &message.subject, &message.payload).await {
                    return pause;
                }
            }
        }
    }

    async fn consumer(&self) -> Result<ReadyChunks<Ordered>, async_nats::Error> {
        let config = OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.next },
            ..OrderedConfig::default()
        };
        let consumer = self.stream.create_consumer(config).await?;
        Ok(consumer.messages().await?.ready_chunks(CHUNK))
    }

    /// Fetches what is there, without a consumer.
    async fn catch_up(&mut self) -> Result<(), Pause> {
        loop {
            let fetched = tokio::time::timeout(FETCH_WAIT, self.fetch()).await;
            let messages = match fetched {
                Ok(Ok(messages)) => messages,
                Ok(Err(_)) | Err(_) => return Err(Pause::Behind),
            };
            if messages.is_empty() {
                return Ok(());
            }
            for (sequence, subject, payload) in messages {
                self.hand_on(sequence, &subject, &payload).await?;
            }
        }
    }

    /// One batch of direct gets. Any replica may answer, one that is behind too: then it is shorter.
    async fn fetch(&self) -> Result<Vec<(u64, String, bytes::Bytes)>, async_nats::Error> {
        #[derive(Serialize)]
        struct Get {
            seq: u64,
            batch: usize,
            max_bytes: usize,
            next_by_subj: &'static str,
        }
        let get = Get { seq: self.next, batch: FETCH_MESSAGES, max_bytes: FETCH_BYTES, next_by_subj: ">" };
        let client = self.link.client();
        let inbox = client.new_inbox();
        let mut answers: Subscriber = client.subscribe(inbox.clone()).await?;
        let subject = format!("$JS.API.DIRECT.GET.{}", self.stream_name);
        client.publish_with_reply(subject, inbox, serde_json::to_vec(&get)?.into()).await?;
        let mut messages = Vec::new();
        while let Some(answer) = answers.next().await {
            // The end of the batch, or that there is nothing, comes as a status.
            if answer.status.is_some_and(|status| status.as_u16() != 200) {
                break;
            }
            let headers = answer.headers.unwrap_or_else(HeaderMap::new);
            let sequence = header_text(&headers, "Nats-Sequence").and_then(|text| text.parse().ok());
            let (Some(sequence), Some(subject)) = (sequence, header_text(&headers, "Nats-Subject")) else {
                return Err("a direct get was answered without a position".into());
            };
            messages.push((sequence, subject.to_owned(), answer.payload));
        }
        Ok(messages)
    }

    /// Hands a message on, unless it was before.
    async fn hand_on(&mut self, sequence: u64, subject: &str, payload: &[u8]) -> Result<(), Pause> {
        if sequence < self.next {
            // A consumer that the client made anew before its first message begins at the first of all.
            return if self.next - sequence > CHUNK as u64 { Err(Pause::Anew) } else { Ok(()) };
        }
        self.next = sequence.saturating_add(1);
        if subject == GUARD_SUBJECT {
            return Ok(());
        }
        let fact = recorded(subject, sequence, payload);
        let ended = fact.is_err();
        match self.facts.send(fact).await {
            Ok(()) if !ended => Ok(()),
            _ => Err(Pause::End),
        }
    }
}

/// Returns when nothing came for a while although there is something from `next` on. Whoever waits for it drops it,
/// and begins anew, with each message that comes.
async fn silent_and_behind(stream: &Handle, next: u64) {
    loop {
        tokio::time::sleep(SILENCE).await;
        // No answer is no news; without a leader nothing new is there either.
        if let Ok(Ok(Bounds { first, last })) = tokio::time::timeout(SILENCE, bounds(stream)).await
            && last >= next.max(first)
        {
            return;
        }
    }
}
