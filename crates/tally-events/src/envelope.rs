//! The envelope of a fact: CloudEvents attributes as JSON, versions, and the one list of kinds.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tally_types::{Position, Timestamp};

use crate::*;

mod scan;

use scan::{Scanned, scan};

/// The `source` of every fact.
pub const SOURCE: &str = "/tallystick";

/// The version of this reader; a fact with a higher `min_reader` stops it.
const READER: u32 = 1;

/// Why a record of the log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not the envelope of a fact.
    #[error("not the envelope of a fact")]
    Envelope(#[source] serde_json::Error),
    /// The content does not fit its kind.
    #[error("the data of a {kind} fact, version {version}, cannot be read")]
    Data {
        /// The kind.
        kind: String,
        /// The version.
        version: u32,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// Written by a newer release.
    #[error("a {kind} fact needs a reader of version {needed}; this one has {READER}: upgrade this process")]
    TooNew {
        /// The kind.
        kind: String,
        /// The version needed.
        needed: u32,
    },
    /// A kind this release does not know.
    #[error("unknown kind of fact {0:?}: upgrade this process")]
    Unknown(String),
}

/// The term of a lease; 0 where no lease is involved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(u64);

impl Epoch {
    /// No lease is involved.
    pub const NONE: Self = Self(0);

    /// Term `number`.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

macro_rules! facts {
    ($($(#[$doc:meta])* $kind:literal $version:literal $variant:ident($data:ty),)*) => {
        /// Everything the log can say.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Fact {
            $($(#[$doc])* $variant($data),)*
        }

        impl Fact {
            /// Every kind with its current version.
            pub const KINDS: &'static [(&'static str, u32)] = &[$(($kind, $version),)*];

            /// The kind, as `type` in the envelope: `order.created`.
            pub const fn kind(&self) -> &'static str {
                match self { $(Self::$variant(_) => $kind,)* }
            }

            /// The version of the kind that is written today.
            pub const fn version(&self) -> u32 {
                match self { $(Self::$variant(_) => $version,)* }
            }

            fn data(&self) -> serde_json::Result<Box<RawValue>> {
                match self { $(Self::$variant(data) => serde_json::value::to_raw_value(data),)* }
            }

            fn decode(kind: &str, version: u32, data: &str) -> Result<Self, DecodeError> {
                let failed = |source| DecodeError::Data { kind: kind.to_owned(), version, source };
                match kind {
                    $($kind => serde_json::from_str::<$data>(data).map(Self::$variant).map_err(failed),)*
                    _ => Err(DecodeError::Unknown(kind.to_owned())),
                }
            }
        }

        $(impl From<$data> for Fact {
            fn from(data: $data) -> Self {
                Self::$variant(data)
            }
        })*
    };
}

facts! {
    /// See [`OrderCreated`].
    "order.created" 1 OrderCreated(OrderCreated),
    /// See [`OrderQuoted`].
    "order.quoted" 1 OrderQuoted(OrderQuoted),
    /// See [`OrderCanceled`].
    "order.canceled" 1 OrderCanceled(OrderCanceled),
    /// See [`OrderAccepted`].
    "order.accepted" 1 OrderAccepted(OrderAccepted),
    /// See [`OrderExpired`].
    "order.expired" 1 OrderExpired(OrderExpired),
    /// See [`OrderInvalidated`].
    "order.invalidated" 1 OrderInvalidated(OrderInvalidated),
    /// See [`OrderUnwatched`].
    "order.unwatched" 1 OrderUnwatched(OrderUnwatched),
    /// See [`OrdersArchived`].
    "archive.orders_archived" 1 OrdersArchived(OrdersArchived),
    /// See [`OrderClaimed`].
    "claim.claimed" 1 OrderClaimed(OrderClaimed),
    /// See [`KeyRegistered`].
    "key.registered" 1 KeyRegistered(KeyRegistered),
    /// See [`KeyAllocated`].
    "key.allocated" 1 KeyAllocated(KeyAllocated),
    /// See [`BlockConnected`].
    "chain.block_connected" 1 BlockConnected(BlockConnected),
    /// See [`BlockDisconnected`].
    "chain.block_disconnected" 1 BlockDisconnected(BlockDisconnected),
    /// See [`ChainObserved`].
    "chain.observed" 1 ChainObserved(ChainObserved),
    /// See [`ChainCheckpointed`].
    "chain.checkpointed" 1 ChainCheckpointed(ChainCheckpointed),
    /// See [`ChainFinalized`].
    "chain.finalized" 1 ChainFinalized(ChainFinalized),
    /// See [`ChainSharded`].
    "chain.sharded" 1 ChainSharded(ChainSharded),
    /// See [`RescanRequested`].
    "rescan.requested" 1 RescanRequested(RescanRequested),
    /// See [`RescanReported`].
    "rescan.reported" 1 RescanReported(RescanReported),
    /// See [`RescanApplied`].
    "rescan.applied" 1 RescanApplied(RescanApplied),
    /// See [`DepositSeen`].
    "deposit.seen" 1 DepositSeen(DepositSeen),
    /// See [`DepositMined`].
    "deposit.mined" 1 DepositMined(DepositMined),
    /// See [`DepositUnmined`].
    "deposit.unmined" 1 DepositUnmined(DepositUnmined),
    /// See [`DepositReplaced`].
    "deposit.replaced" 1 DepositReplaced(DepositReplaced),
    /// See [`DepositVanished`].
    "deposit.vanished" 1 DepositVanished(DepositVanished),
    /// See [`DepositConfirmed`].
    "deposit.confirmed" 1 DepositConfirmed(DepositConfirmed),
    /// See [`DeliveryAttempted`].
    "delivery.attempted" 1 DeliveryAttempted(DeliveryAttempted),
    /// See [`MerchantCreated`].
    "merchant.created" 1 MerchantCreated(MerchantCreated),
    /// See [`MerchantChanged`].
    "merchant.changed" 1 MerchantChanged(MerchantChanged),
    /// See [`ApiKeyCreated`].
    "merchant.key_created" 1 ApiKeyCreated(ApiKeyCreated),
    /// See [`ApiKeyRevoked`].
    "merchant.key_revoked" 1 ApiKeyRevoked(ApiKeyRevoked),
    /// See [`WalletAdded`].
    "merchant.wallet_added" 1 WalletAdded(WalletAdded),
    /// See [`RatesPublished`].
    "rates.published" 1 RatesPublished(RatesPublished),
}

/// A fact with its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its identity: the same fact on the same subject has the same id, whoever writes it.
    pub id: String,
    /// The aggregate.
    pub subject: Subject,
    /// The writer's clock.
    pub time: Timestamp,
    /// The writer's lease, where it writes under one.
    pub epoch: Epoch,
    /// The part of the chain's watched scripts it is about, where it is about a chain.
    pub shard: Shard,
    /// The id of what led to it.
    pub causation: Option<String>,
    /// The id of the request or process it belongs to.
    pub correlation: Option<String>,
    /// The fact.
    pub fact: Fact,
}

/// A fact that is not in the log yet.
pub type NewEvent = Event;

/// A fact as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its position.
    pub position: Position,
    /// The fact.
    pub event: Event,
}

#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    specversion: &'a str,
    id: String,
    #[serde(borrow)]
    source: std::borrow::Cow<'a, str>,
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    subject: Subject,
    time: Timestamp,
    v: u32,
    min_reader: u32,
    #[serde(default)]
    epoch: Epoch,
    #[serde(default, skip_serializing_if = "Shard::is_whole")]
    shard: Shard,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    causation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlation: Option<String>,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Event {
    /// A fact on `subject`, at the writer's `time`, with the id that follows from both subject and content.
    pub fn new(subject: Subject, fact: impl Into<Fact>, time: Timestamp) -> Self {
        let fact = fact.into();
        let mut hash = Sha256::new();
        hash.update(subject.as_str());
        hash.update([0]);
        hash.update(fact.kind());
        hash.update([0]);
        if let Ok(data) = fact.data() {
            hash.update(data.get());
        }
        let id = data_encoding::HEXLOWER.encode(&hash.finalize()[..16]);
        let (epoch, shard) = (Epoch::NONE, Shard::WHOLE);
        Self { id, subject, time, epoch, shard, causation: None, correlation: None, fact }
    }

    /// The same about a part of the chain's scripts.
    #[must_use]
    pub fn of_shard(mut self, shard: Shard) -> Self {
        self.shard = shard;
        self
    }

    /// The same under a lease.
    #[must_use]
    pub fn under(mut self, epoch: Epoch) -> Self {
        self.epoch = epoch;
        self
    }

    /// The same, caused by `id`.
    #[must_use]
    pub fn caused_by(mut self, id: impl Into<String>) -> Self {
        self.causation = Some(id.into());
        self
    }

    /// The envelope as JSON.
    ///
    /// # Errors
    /// Only where the fact itself cannot be written as JSON, which no fact of ours is.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let data = self.fact.data()?;
        serde_json::to_vec(&Wire {
            specversion: "1.0",
            id: self.id.clone(),
            source: SOURCE.into(),
            kind: self.fact.kind().into(),
            subject: self.subject.clone(),
            time: self.time,
            v: self.fact.version(),
            min_reader: READER,
            epoch: self.epoch,
            shard: self.shard,
            causation: self.causation.clone(),
            correlation: self.correlation.clone(),
            data: &data,
        })
    }

    /// Reads an envelope, old versions included.
    ///
    /// # Errors
    /// [`DecodeError`]: a reader stops there; skipping a fact would make its fold wrong.
    pub fn from_json(json: &[u8]) -> Result<Self, DecodeError> {
        match scan(json).and_then(|scanned| Self::from_scanned(&scanned)) {
            Some(event) => Ok(event),
            None => Self::parsed(json),
        }
    }

    /// The fact of a scanned envelope; `None` where anything is odd, for the parser to say what.
    fn from_scanned(scanned: &Scanned<'_>) -> Option<Self> {
        if scanned.min_reader > READER {
            return None;
        }
        Some(Self {
            id: scanned.id.to_owned(),
            subject: Subject::parse(scanned.subject).ok()?,
            time: scanned.time.parse().ok()?,
            epoch: Epoch::new(scanned.epoch),
            shard: Shard::WHOLE,
            causation: None,
            correlation: None,
            fact: Fact::decode(scanned.kind, scanned.version, scanned.data).ok()?,
        })
    }

    fn parsed(json: &[u8]) -> Result<Self, DecodeError> {
        let wire: Wire<'_> = serde_json::from_slice(json).map_err(DecodeError::Envelope)?;
        if wire.min_reader > READER {
            return Err(DecodeError::TooNew { kind: wire.kind.into_owned(), needed: wire.min_reader });
        }
        let fact = Fact::decode(&wire.kind, wire.v, wire.data.get())?;
        Ok(Self {
            id: wire.id,
            subject: wire.subject,
            time: wire.time,
            epoch: wire.epoch,
            shard: wire.shard,
            causation: wire.causation,
            correlation: wire.correlation,
            fact,
        })
    }
}

#[cfg(test)]
mod tests;
