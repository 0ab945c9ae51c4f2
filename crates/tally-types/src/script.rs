//! The destination of a payment, as a chain itself knows it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why bytes or a text are no script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// Not hexadecimal.
    #[error("{0:?} is not a script in hexadecimal")]
    NotHex(String),
    /// Empty or longer than the 10,000 bytes consensus allows.
    #[error("a script of {0} bytes is not between 1 and 10000")]
    Length(usize),
}

/// What a payment is made to: an output script on chains of the Bitcoin family, the 20 bytes of the
/// address on Ethereum. Printed and serialised as lower-case hexadecimal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Script(Box<[u8]>);

impl Script {
    /// A script of these bytes.
    ///
    /// # Errors
    /// [`ScriptError::Length`] unless 1 to 10,000 bytes long.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ScriptError> {
        if (1..=10_000).contains(&bytes.len()) {
            Ok(Self(bytes.into()))
        } else {
            Err(ScriptError::Length(bytes.len()))
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&const_hex::encode(&self.0))
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let bytes =
            const_hex::decode(text).map_err(|_| ScriptError::NotHex(text.chars().take(80).collect()))?;
        Self::from_bytes(&bytes)
    }
}

impl Serialize for Script {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.collect_str(self),
            false => serializer.serialize_bytes(self.as_bytes()),
        }
    }
}

impl<'de> Deserialize<'de> for Script {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.is_human_readable() {
            true => crate::wire::text(deserializer),
            false => crate::wire::bytes(deserializer, Self::from_bytes),
        }
    }
}
