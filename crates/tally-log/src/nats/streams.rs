//! The streams, made where they are missing and checked where they are not.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType, Stream,
};
use tally_ports::PortError;

use super::link::Link;
use crate::{LogName, RATES_KEPT};

/// A stream without what its server said of it when we asked.
pub(super) type Handle = Stream<()>;

/// Where a batch guards on an aggregate that it does not write: the message holds nothing but the expectation.
pub(super) const GUARD_SUBJECT: &str = "tally.v1.guard";
/// Leases, as a key-value bucket.
pub(super) const LEASE_PREFIX: &str = "$KV.TALLY_LEASES.";
/// How far was published, as a key-value bucket.
pub(super) const STATE_PREFIX: &str = "$KV.TALLY_STATE.";

/// How long public messages are kept.
const PUBLIC_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long the server remembers the ids of messages.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

fn config(name: &str, subjects: &[&str], replicas: usize) -> Config {
    Config {
        name: name.to_owned(),
        subjects: subjects.iter().map(ToString::to_string).collect(),
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: replicas,
        max_messages: -1,
        max_bytes: -1,
        duplicate_window: DUPLICATE_WINDOW,
        allow_direct: true,
        allow_atomic_publish: true,
        ..Config::default()
    }
}

/// The name of a log's stream.
pub(super) fn log_name(name: LogName) -> &'static str {
    match name {
        LogName::Main => "TALLY",
        LogName::Rates => "TALLY_RATES",
    }
}

/// The stream of a log.
pub(super) async fn log(link: &Link, name: LogName, replicas: usize) -> Result<Handle, PortError> {
    let aggregates = ["order", "delivery", "chain", "claim", "key", "merchant", "archive"];
    let wanted = match name {
        LogName::Main => {
            let mut subjects = aggregates.map(|aggregate| format!("tally.v1.{aggregate}.>")).to_vec();
            subjects.push(GUARD_SUBJECT.to_owned());
            // Nothing is ever dropped for want of room: an append is refused instead.
            let discard = DiscardPolicy::New;
            Config { subjects, discard, ..config(log_name(name), &[], replicas) }
        }
        LogName::Rates => {
            let max_age = RATES_KEPT.to_duration();
            Config { max_age, ..config(log_name(name), &["tally.v1.rates"], replicas) }
        }
    };
    ensure(link, wanted).await
}

/// The stream of the public subjects.
pub(super) async fn public(link: &Link, replicas: usize) -> Result<Handle, PortError> {
    let subjects = ["tally.v1.status.>", "tally.v1.deposit.>", "tally.v1.rate.>"];
    let config = config("TALLY_PUBLIC", &subjects, replicas);
    ensure(link, Config { max_age: PUBLIC_KEPT, ..config }).await
}

/// The bucket of leases. Its messages expire by a header of their own.
pub(super) async fn leases(link: &Link, replicas: usize) -> Result<Handle, PortError> {
    bucket(link, "KV_TALLY_LEASES", LEASE_PREFIX, replicas).await
}

/// The bucket that says how far was published.
pub(super) async fn state(link: &Link, replicas: usize) -> Result<Handle, PortError> {
    bucket(link, "KV_TALLY_STATE", STATE_PREFIX, replicas).await
}

async fn bucket(link: &Link, name: &str, prefix: &str, replicas: usize) -> Result<Handle, PortError> {
    let wanted = Config {
        max_messages_per_subject: 1,
        discard: DiscardPolicy::New,
        allow_rollup: true,
        allow_message_ttl: true,
        ..config(name, &[&format!("{prefix}>")], replicas)
    };
    ensure(link, wanted).await
}

async fn ensure(link: &Link, wanted: Config) -> Result<Handle, PortError> {
    let name = wanted.name.clone();
    let context = link.context();
    let info = match context.get_stream(&name).await {
        Ok(stream) => stream.cached_info().clone(),
        Err(error) if is_missing(&error.kind()) => {
            let made = context.create_stream(wanted.clone()).await;
            made.map_err(|error| not_answered(&name, "made", error))?.cached_info().clone()
        }
        Err(error) => return Err(not_answered(&name, "looked up", error)),
    };
    check(&wanted, &info.config)?;
    if let Some(changed) = grown(&wanted, info.config) {
        context.update_stream(changed).await.map_err(|error| not_answered(&name, "changed", error))?;
    }
    context.get_stream_no_info(&name).await.map_err(|error| not_answered(&name, "looked up", error))
}

fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// JetStream answers with errors of every kind while a cluster is being formed, so nothing here is for ever.
fn not_answered(name: &str, what: &str, error: impl Into<async_nats::Error>) -> PortError {
    PortError::transient(format!(
        "the stream {name} cannot be {what}: is JetStream running, enabled for this account and in quorum?"
    ))
    .because(error)
}

/// What a person must see to, because it cannot be changed or should not be by us.
fn check(wanted: &Config, found: &Config) -> Result<(), PortError> {
    let name = &wanted.name;
    let wrong = |what: String| Err(PortError::persistent(format!("the NATS stream {name} {what}")));
    if found.persist_mode == Some(PersistenceMode::Async) {
        return wrong(
            "has persist_mode async, which answers before anything is on disk: make it anew without".into(),
        );
    }
    if found.storage != wanted.storage {
        return wrong("is kept in memory: make it anew with file storage".into());
    }
    if found.num_replicas != wanted.num_replicas {
        return wrong(format!(
            "has {} replicas, but {} are configured: change one of them (`nats stream edit {name} --replicas …`)",
            found.num_replicas, wanted.num_replicas
        ));
    }
    if found.retention != wanted.retention {
        return wrong("does not keep messages until its limits: make it anew".into());
    }
    if found.subject_transform.is_some() {
        return wrong("transforms subjects, which defeats expectations: remove its subject_transform".into());
    }
    if found.max_age != wanted.max_age && wanted.max_age.is_zero() {
        return wrong("drops messages by age: remove its max_age".into());
    }
    if (found.max_messages > 0 || found.max_bytes > 0) && found.discard == DiscardPolicy::Old {
        return wrong("drops old messages when it is full: remove its limits, or set discard to new".into());
    }
    Ok(())
}

/// The found configuration with what an older release of ours did not ask for yet; none if there is nothing.
fn grown(wanted: &Config, found: Config) -> Option<Config> {
    let missing: Vec<String> =
        wanted.subjects.iter().filter(|subject| !found.subjects.contains(subject)).cloned().collect();
    let mut changed = Config {
        allow_direct: true,
        allow_atomic_publish: true,
        allow_message_ttl: found.allow_message_ttl || wanted.allow_message_ttl,
        allow_rollup: found.allow_rollup || wanted.allow_rollup,
        ..found.clone()
    };
    changed.subjects.extend(missing);
    (changed != found).then_some(changed)
}
