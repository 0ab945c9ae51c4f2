//! Names of chains and currencies: values, never an enum, so that adding one touches no shared code.

use std::fmt;
use std::str::FromStr;

use arrayvec::ArrayString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not {expected}")]
pub struct NameError {
    found: String,
    expected: &'static str,
}

/// The id of a configured chain, as it stands in subjects, metrics and answers: `btc`, `eth-sepolia`.
///
/// 1 to 24 of `a-z 0-9 -`, beginning with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(ArrayString<24>);

/// The symbol of a currency, crypto or fiat: `BTC`, `USDT`, `CNY`.
///
/// 2 to 12 of `A-Z 0-9`; read case-insensitively.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency(ArrayString<12>);

impl FromStr for ChainId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let good = (1..=24).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        ArrayString::from(text).ok().filter(|_| good).map(Self).ok_or_else(|| NameError {
            found: text.chars().take(40).collect(),
            expected: "a chain id (1 to 24 of a-z, 0-9 and -, a letter first)",
        })
    }
}

impl FromStr for Currency {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let good = (2..=12).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        let mut name = ArrayString::from(text).ok().filter(|_| good);
        name.iter_mut().for_each(|name| name.make_ascii_uppercase());
        name.map(Self).ok_or_else(|| NameError {
            found: text.chars().take(40).collect(),
            expected: "a currency symbol (2 to 12 letters and digits)",
        })
    }
}

macro_rules! text_value {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

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
text_value!(ChainId);
text_value!(Currency);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!("usdt".parse::<Currency>().unwrap().as_str(), "USDT");
        for bad in ["", "A", "US D", "BTC/USD", "é€", "ABCDEFGHIJKLM"] {
            assert!(bad.parse::<Currency>().is_err(), "{bad}");
        }
        assert_eq!("eth-2".parse::<ChainId>().unwrap().as_str(), "eth-2");
        for bad in ["", "BTC", "1x", "a.b", "a*", "a>"] {
            assert!(bad.parse::<ChainId>().is_err(), "{bad}");
        }
    }
}
