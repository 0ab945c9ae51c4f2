//! Leases as entries of a key-value bucket that expire by themselves.
//!
//! Written as plain messages: the client's own `create_with_ttl` makes an entry that never expires where one was
//! purged before, and its `update` takes the expiry away.

use std::sync::Arc;

use async_nats::jetstream::message::StreamMessage;
use async_nats::{HeaderMap, header};
use async_trait::async_trait;
use tally_events::Epoch;
use tally_ports::{Grant, Lease, PortError};
use tally_types::Span;

use super::link::{self, Link, Outgoing, PublishError, code, header_text};
use super::streams::{Handle, LEASE_PREFIX};

/// Servers count the life of a message in seconds.
const TTL_MIN: Span = Span::from_secs(1);
/// How long the mark of a released lease stays.
const RELEASED_KEPT: Span = Span::from_secs(2);

/// Leases among all processes that use a NATS server. An epoch is the entry's revision when it was made.
#[derive(Debug, Clone)]
pub struct NatsLease {
    link: Arc<Link>,
    stream: Arc<Handle>,
}

impl NatsLease {
    pub(super) fn new(link: Arc<Link>, stream: Handle) -> Self {
        Self { link, stream: Arc::new(stream) }
    }

    /// The entry, if someone holds it, and the revision to expect.
    async fn entry(&self, subject: &str) -> Result<(Option<StreamMessage>, u64), PortError> {
        Ok(match link::last(&self.stream, subject).await? {
            None => (None, 0),
            Some(message) => {
                let released = ["KV-Operation", "Nats-Marker-Reason"]
                    .iter()
                    .any(|name| header_text(&message.headers, name).is_some_and(|value| value != "PUT"));
                let revision = message.sequence;
                (Some(message).filter(|_| !released), revision)
            }
        })
    }

    async fn write(
        &self,
        subject: &str,
        expected: u64,
        ttl: Span,
        value: String,
        release: bool,
    ) -> Result<u64, PublishError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
        headers.insert(header::NATS_MESSAGE_TTL, format!("{}ms", ttl.millis()));
        if release {
            headers.insert("KV-Operation", "PURGE");
            headers.insert(header::NATS_ROLLUP, "sub");
        }
        let message = Outgoing { subject: subject.to_owned(), headers, payload: value.into() };
        self.link.publish(message).await
    }
}

/// The entry's subject; a name that is none may not become one.
fn subject(name: &str) -> Result<String, PortError> {
    let token = |token: &str| {
        !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() <= 200 && name.split('.').all(token) {
        Ok(format!("{LEASE_PREFIX}{name}"))
    } else {
        Err(PortError::persistent(format!("{name:?} is not the name of a lease")))
    }
}

/// Whether someone else may have been faster.
fn is_conflict(error: &PublishError) -> bool {
    matches!(error, PublishError::Refused { code: code::STALE | code::STALE_OR_IN_FLIGHT, .. })
}

#[async_trait]
impl Lease for NatsLease {
    async fn acquire(&self, name: &str, ttl: Span) -> Result<Option<Grant>, PortError> {
        let subject = subject(name)?;
        let (held, expected) = self.entry(&subject).await?;
        if held.is_some() {
            return Ok(None);
        }
        let token = self.link.unique();
        let granted = |revision| Grant { name: name.to_owned(), epoch: Epoch::new(revision), revision };
        match self.write(&subject, expected, ttl.max(TTL_MIN), token.clone(), false).await {
            Ok(revision) => Ok(Some(granted(revision))),
            Err(error) if is_conflict(&error) => Ok(None),
            // Perhaps only the answer got lost.
            Err(error) => match self.entry(&subject).await? {
                (Some(entry), revision) if entry.payload == token => Ok(Some(granted(revision))),
                _ => Err(error.into_port()),
            },
        }
    }

    async fn renew(&self, grant: &Grant, ttl: Span) -> Result<Option<Grant>, PortError> {
        let subject = subject(&grant.name)?;
        // Epochs are never used again, so this tells our own renewal from anybody's.
        let value = grant.epoch.get().to_string();
        let renewed = |revision| Grant { revision, ..grant.clone() };
        match self.write(&subject, grant.revision, ttl.max(TTL_MIN), value.clone(), false).await {
            Ok(revision) => Ok(Some(renewed(revision))),
            Err(error) => match self.entry(&subject).await? {
                (Some(entry), revision) if entry.payload == value => Ok(Some(renewed(revision))),
                _ if is_conflict(&error) => Ok(None),
                _ => Err(error.into_port()),
            },
        }
    }

    async fn release(&self, grant: Grant) -> Result<(), PortError> {
        let subject = subject(&grant.name)?;
        match self.write(&subject, grant.revision, RELEASED_KEPT, String::new(), true).await {
            Ok(_) => Ok(()),
            // It was lost already.
            Err(error) if is_conflict(&error) => Ok(()),
            Err(error) => Err(error.into_port()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::subject;

    #[test]
    fn names_become_subjects_or_are_refused() {
        assert_eq!(subject("shard.btc.0-0").unwrap(), "$KV.TALLY_LEASES.shard.btc.0-0");
        for bad in ["", "a..b", "a.*", ">", "a b", ".a", "a."] {
            assert!(subject(bad).is_err(), "{bad}");
        }
    }
}
