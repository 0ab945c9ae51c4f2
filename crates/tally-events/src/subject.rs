//! Subjects: an aggregate each, and the literal subject carries the expectation of every append.
//!
//! Only the functions here make subjects, so that the one a fact is written to and the one it is expected
//! on cannot differ.

use std::fmt;

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use tally_types::{ChainId, Face, Fingerprint, MerchantId, OrderId};

/// Why a text is not a subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a subject of the log")]
pub struct SubjectError(String);

/// The name of an aggregate in the log, `tally.v1.…`: dot-separated tokens of `A-Z a-z 0-9 _ -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(Box<str>);

impl Subject {
    /// `tally.v1.order.<p>.<order_id>`.
    pub fn order(order: &OrderId) -> Self {
        Self(format!("tally.v1.order.{:02}.{order}", order.partition()).into())
    }

    /// `tally.v1.delivery.<p>.<order_id>`.
    pub fn delivery(order: &OrderId) -> Self {
        Self(format!("tally.v1.delivery.{:02}.{order}", order.partition()).into())
    }

    /// `tally.v1.chain.<chain>.<generation>-<shard>`.
    pub fn chain(chain: &ChainId, generation: u32, shard: u32) -> Self {
        Self(format!("tally.v1.chain.{chain}.{generation}-{shard}").into())
    }

    /// `tally.v1.chain.<chain>.plan`: how many shards the chain has.
    pub fn chain_plan(chain: &ChainId) -> Self {
        Self(format!("tally.v1.chain.{chain}.plan").into())
    }

    /// `tally.v1.chain.<chain>.rescan`: ranges of blocks that are matched again.
    pub fn chain_rescan(chain: &ChainId) -> Self {
        Self(format!("tally.v1.chain.{chain}.rescan").into())
    }

    /// `tally.v1.claim.<merchant>.<face>.<base32 of SHA-256 of the merchant's own id>`.
    pub fn claim(merchant: MerchantId, face: Face, own_id: &str) -> Self {
        let digest = BASE32_NOPAD.encode(&Sha256::digest(own_id.as_bytes())).to_ascii_lowercase();
        Self(format!("tally.v1.claim.{merchant}.{face}.{digest}").into())
    }

    /// `tally.v1.key.<fingerprint>`.
    pub fn key(fingerprint: &Fingerprint) -> Self {
        Self(format!("tally.v1.key.{fingerprint}").into())
    }

    /// `tally.v1.merchant.<merchant_id>`.
    pub fn merchant(merchant: MerchantId) -> Self {
        Self(format!("tally.v1.merchant.{merchant}").into())
    }

    /// `tally.v1.archive.orders`: what was moved out of the log.
    pub fn archive() -> Self {
        Self("tally.v1.archive.orders".into())
    }

    /// `tally.v1.rates`, on the stream of rates.
    pub fn rates() -> Self {
        Self("tally.v1.rates".into())
    }

    /// A subject as it was read from a log.
    ///
    /// # Errors
    /// [`SubjectError`] when it is none of ours.
    pub fn parse(text: &str) -> Result<Self, SubjectError> {
        let (mut odd, mut last) = (false, b'.');
        for byte in text.bytes() {
            let of_token = byte.is_ascii_alphanumeric() | (byte == b'_') | (byte == b'-');
            odd |= !of_token & ((byte != b'.') | (last == b'.'));
            last = byte;
        }
        if text.len() <= 200 && text.starts_with("tally.v1.") && !odd && last != b'.' {
            Ok(Self(text.into()))
        } else {
            Err(SubjectError(text.chars().take(80).collect()))
        }
    }

    /// The subject as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The kind of aggregate: `order`, `chain`, `claim`, `key`, `delivery`, `merchant`, `archive`, `rates`.
    pub fn aggregate(&self) -> &str {
        self.0.split('.').nth(2).unwrap_or_default()
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_subjects_are_read() {
        let longest = format!("tally.v1.{}", "a".repeat(191));
        for good in ["tally.v1.rates", "tally.v1.order.07.20181006", "tally.v1.chain.eth-2.1_-0.Z", &longest]
        {
            assert_eq!(Subject::parse(good).unwrap().as_str(), good);
        }
        let long = format!("{longest}a");
        for bad in [
            "",
            "tally.v1",
            "tally.v1.",
            "tally.v1..rates",
            "tally.v1.order.",
            "tally.v1.order..7",
            ".tally.v1.rates",
            "tally.v2.rates",
            "tally.v1.a b",
            "tally.v1.*",
            "tally.v1.>",
            "tally.v1.ö",
            "tally.v1.a\n",
            &long,
        ] {
            assert!(Subject::parse(bad).is_err(), "{bad}");
        }
    }
}
