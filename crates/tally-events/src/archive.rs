//! What was moved out of the log, and what stood there last.
//!
//! Not here: the archive itself (a port), and when orders go there (`tally-projector`).

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tally_types::{OrderId, Position};

use crate::Recorded;

/// Closed orders went, whole, into a segment of the archive. From here on the log no longer has to hold their facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrdersArchived {
    /// The segment's number; the first has 1.
    pub segment: u64,
    /// How many facts it holds.
    pub facts: u64,
    /// The position of its first fact.
    pub first: Position,
    /// The position of its last fact.
    pub last: Position,
    /// The highest position in this segment or in any before it.
    pub through: Position,
    /// See [`OrdersArchived::digest_of`].
    pub digest: String,
    /// The orders, by the position of their first fact.
    pub orders: Vec<ArchivedOrder>,
}

/// The final state of an order that was archived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedOrder {
    /// The order.
    pub order: OrderId,
    /// Where it stood.
    pub status: String,
    /// What was unusual about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<String>,
    /// Its last version.
    pub version: u32,
    /// Its first fact that is in this segment.
    pub first: Position,
    /// The last fact on its own subject that is in the archive.
    pub last: Position,
    /// The same of its deliveries; 0 where there was none.
    #[serde(default)]
    pub delivered: Position,
    /// Where deliveries went.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
}

impl OrdersArchived {
    /// SHA-256 over the positions and ids of facts in log order, as hexadecimal digits. An id follows from subject
    /// and content, so this names the facts whatever release wrote them down.
    pub fn digest_of<'a>(facts: impl IntoIterator<Item = &'a Recorded>) -> String {
        let mut hash = Sha256::new();
        for fact in facts {
            hash.update(fact.position.get().to_be_bytes());
            hash.update(fact.event.id.as_bytes());
            hash.update([0]);
        }
        data_encoding::HEXLOWER.encode(&hash.finalize())
    }
}
