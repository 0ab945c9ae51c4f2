//! Blocks and transactions by their ids, in the byte order in which nodes print them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not a 32-byte hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not 64 hexadecimal digits")]
pub struct HashError(String);

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// From bytes in display order (as RPC answers and explorers print them).
            pub const fn from_display(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// From bytes in the order in which Bitcoin serialises them (the reverse of display).
            pub fn from_internal(mut bytes: [u8; 32]) -> Self {
                bytes.reverse();
                Self(bytes)
            }

            /// Bytes in display order.
            pub const fn display_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Bytes in the order in which Bitcoin serialises them.
            pub fn internal_bytes(&self) -> [u8; 32] {
                let mut bytes = self.0;
                bytes.reverse();
                bytes
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&const_hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = HashError;

            /// Reads 64 hexadecimal digits, with or without `0x`.
            fn from_str(text: &str) -> Result<Self, HashError> {
                let mut bytes = [0; 32];
                const_hex::decode_to_slice(text, &mut bytes)
                    .map_err(|_| HashError(text.chars().take(80).collect()))?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match serializer.is_human_readable() {
                    true => serializer.collect_str(self),
                    false => self.0.serialize(serializer),
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                match deserializer.is_human_readable() {
                    true => crate::wire::text(deserializer),
                    false => Ok(Self(<[u8; 32]>::deserialize(deserializer)?)),
                }
            }
        }
    };
}

hash_type!(
    /// The hash of a block, printed without `0x`.
    BlockHash
);
hash_type!(
    /// The id of a transaction, printed without `0x`.
    TxId
);

/// A block's height; the genesis block has 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Height(u64);

impl Height {
    /// Height `height`.
    pub const fn new(height: u64) -> Self {
        Self(height)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The height above.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The height `blocks` below, not under 0.
    pub const fn below(self, blocks: u64) -> Self {
        Self(self.0.saturating_sub(blocks))
    }

    /// How deep a block at this height lies under `tip`: 1 at the tip itself, 0 above it.
    pub const fn depth_under(self, tip: Self) -> u64 {
        match tip.0.checked_sub(self.0) {
            Some(below) => below.saturating_add(1),
            None => 0,
        }
    }
}

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A block named by height and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockRef {
    /// Its height.
    pub height: Height,
    /// Its hash.
    pub hash: BlockHash,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_round_trip_in_both_orders() {
        let text = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";
        let hash: BlockHash = text.parse().unwrap();
        assert_eq!(hash.to_string(), text);
        assert_eq!(BlockHash::from_internal(hash.internal_bytes()), hash);
        assert_eq!(format!("0x{text}").parse::<BlockHash>().unwrap(), hash);
        assert!("00".parse::<BlockHash>().is_err());
    }

    #[test]
    fn depth_counts_the_block_itself() {
        let tip = Height::new(100);
        assert_eq!([98, 100, 101].map(|h| Height::new(h).depth_under(tip)), [3, 1, 0]);
    }
}
