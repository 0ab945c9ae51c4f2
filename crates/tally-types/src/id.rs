//! Ids of orders, merchants, wallets and keys, and positions in the log.
//!
//! Ids that are text lie where they are held: a fold makes and drops millions of them.

use std::fmt;
use std::str::FromStr;

use arrayvec::ArrayString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not {expected}")]
pub struct IdError {
    found: String,
    expected: &'static str,
}

impl IdError {
    fn new(found: &str, expected: &'static str) -> Self {
        Self { found: found.chars().take(80).collect(), expected }
    }
}

/// An order's id, public on its face: digits only, 1 to 40 of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(ArrayString<40>);

impl OrderId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The partition duties and streams are divided by: FNV-1a 32 of the id, modulo 64.
    pub fn partition(&self) -> u8 {
        let hash = self
            .0
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        (hash % 64) as u8
    }
}

impl FromStr for OrderId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let good = (1..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        let id = ArrayString::from(text).ok().filter(|_| good);
        id.map(Self).ok_or_else(|| IdError::new(text, "an order id (1 to 40 digits)"))
    }
}

/// The fingerprint of an extended public key: 16 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(ArrayString<16>);

impl Fingerprint {
    /// From the first 8 bytes of a hash of the key.
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        let mut text = ArrayString::new();
        bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).for_each(|digit| {
            text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        });
        Self(text)
    }

    /// The fingerprint as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Fingerprint {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let good = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let key = ArrayString::from(text).ok().filter(|_| good);
        key.map(Self)
            .ok_or_else(|| IdError::new(text, "a key fingerprint (16 lower-case hexadecimal digits)"))
    }
}

macro_rules! text_id {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::wire::text(deserializer)
            }
        }
    };
}
text_id!(OrderId);
text_id!(Fingerprint);

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The value for `number`.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The number.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                let number = digits.then(|| text.parse().ok()).flatten();
                number.map(Self).ok_or_else(|| IdError::new(text, "a whole number"))
            }
        }
    };
}
number_id!(
    /// A merchant; the first has 10001.
    MerchantId
);
number_id!(
    /// A wallet of a merchant; each merchant's first has 1.
    WalletId
);
number_id!(
    /// A place in the event log; the first fact has 1, and 0 stands before it.
    Position
);

impl Position {
    /// Before every fact.
    pub const START: Self = Self(0);

    /// The next position.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Which API an order belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Face {
    /// The DeePay API.
    Deepay,
    /// The Payscrypt API.
    Payscrypt,
}

impl Face {
    /// The name in subjects and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deepay => "deepay",
            Self::Payscrypt => "payscrypt",
        }
    }
}

impl fmt::Display for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_ids_are_digits() {
        assert!("20181006113100525110".parse::<OrderId>().is_ok());
        for bad in ["", "12a", "1.2", "1 2", "../1", "*", ">"] {
            assert!(bad.parse::<OrderId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn partition_is_fnv1a_modulo_64() {
        // FNV-1a 32 of "a" is 0xe40c292c; of "1" it is 0x340ca71c (published test vectors).
        assert_eq!("1".parse::<OrderId>().unwrap().partition(), (0x340c_a71c_u32 % 64) as u8);
    }
}
