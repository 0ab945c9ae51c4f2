//! What nodes answer, cut down to what is read. All else is ignored, so that new fields break nothing.
//!
//! Bytes are decoded from the text of the answer into fixed places: a block has thousands of them, and nothing is
//! allocated for one.

use std::fmt;

use ethers_core::types::{Address, H256, U256};
use serde::de::{Error, IgnoredAny, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// Exactly so many bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fixed<const N: usize>(pub(crate) [u8; N]);

/// A block's or a transaction's hash, or a topic.
pub(crate) type Hash = Fixed<32>;
/// An address.
pub(crate) type Account = Fixed<20>;
/// A bloom filter.
pub(crate) type BloomBits = Fixed<256>;

/// A number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Quantity(pub(crate) U256);

/// Data, kept if it is one word of 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) Option<[u8; 32]>);

/// A log's topics: more than four the EVM cannot make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Topics {
    words: [Hash; 4],
    count: usize,
}

/// A block; its transactions are hashes, whole, or not looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Block<T> {
    /// Absent in pending blocks.
    pub(crate) hash: Option<Hash>,
    pub(crate) number: Option<Quantity>,
    pub(crate) parent_hash: Hash,
    pub(crate) timestamp: Quantity,
    pub(crate) logs_bloom: Option<BloomBits>,
    pub(crate) transactions: Vec<T>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Transaction {
    pub(crate) hash: Hash,
    pub(crate) from: Account,
    /// Absent where a contract is made.
    pub(crate) to: Option<Account>,
    pub(crate) value: Quantity,
    pub(crate) gas_price: Option<Quantity>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Receipt {
    pub(crate) transaction_hash: Hash,
    pub(crate) block_hash: Hash,
    pub(crate) block_number: Quantity,
    /// 1 if the transaction was executed to its end. Absent before Byzantium (2017).
    pub(crate) status: Option<Quantity>,
    pub(crate) contract_address: Option<Account>,
    pub(crate) logs: Vec<Log>,
    pub(crate) gas_used: Option<Quantity>,
    /// Absent before London (2021) on some nodes.
    pub(crate) effective_gas_price: Option<Quantity>,
    pub(crate) blob_gas_used: Option<Quantity>,
    pub(crate) blob_gas_price: Option<Quantity>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Log {
    pub(crate) address: Account,
    pub(crate) topics: Topics,
    pub(crate) data: Word,
    /// Within the block.
    pub(crate) log_index: Quantity,
    pub(crate) block_hash: Hash,
    pub(crate) transaction_hash: Hash,
}

/// One transaction's trace.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trace {
    /// Not told by older nodes.
    #[serde(default)]
    pub(crate) tx_hash: Option<Hash>,
    #[serde(default)]
    pub(crate) result: Option<Frame>,
    /// The trace failed, not the transaction.
    #[serde(default)]
    pub(crate) error: Option<String>,
}

/// One call, as `callTracer` tells it.
#[derive(Debug, Deserialize)]
pub(crate) struct Frame {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) from: Account,
    #[serde(default)]
    pub(crate) to: Option<Account>,
    #[serde(default)]
    pub(crate) value: Option<Quantity>,
    #[serde(default)]
    pub(crate) error: Option<String>,
    #[serde(default)]
    pub(crate) calls: Option<Vec<Frame>>,
}

impl Frame {
    /// What it did was undone, and what was called from it.
    pub(crate) fn failed(&self) -> bool {
        self.error.as_ref().is_some_and(|error| !error.is_empty())
    }
}

impl Fixed<20> {
    pub(crate) const fn address(self) -> Address {
        ethers_core::types::H160(self.0)
    }
}

impl Fixed<32> {
    /// The address in a topic, which is filled up with zeros.
    pub(crate) fn address(self) -> Option<Account> {
        let (zeros, address) = self.0.split_first_chunk::<12>()?;
        (*zeros == [0; 12]).then(|| address.try_into().ok().map(Fixed))?
    }
}

impl From<H256> for Fixed<32> {
    fn from(hash: H256) -> Self {
        Self(hash.0)
    }
}

impl Quantity {
    /// As a number of the usual size, if it is one.
    pub(crate) fn get(self) -> Option<u64> {
        u64::try_from(self.0).ok()
    }
}

impl Topics {
    pub(crate) fn as_slice(&self) -> &[Hash] {
        self.words.get(..self.count).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Debug for Fixed<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", const_hex::encode(self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Fixed<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(|text: &str| {
            let mut bytes = [0; N];
            let digits = text.strip_prefix("0x")?;
            const_hex::decode_to_slice(digits, &mut bytes).ok().map(|()| Self(bytes))
        }))
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(|text: &str| quantity(text.strip_prefix("0x")?)))
    }
}

/// A number of up to 64 hexadecimal digits.
fn quantity(digits: &str) -> Option<Quantity> {
    let plain = |digits: &str| {
        let good = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if good { u128::from_str_radix(digits, 16).ok() } else { None }
    };
    match digits.len() {
        ..=16 => short_quantity(digits).map(|number| Quantity(U256::from(number))),
        17..=32 => plain(digits).map(|number| Quantity(U256::from(number))),
        length @ ..=64 => {
            let (high, low) = digits.split_at_checked(length.checked_sub(32)?)?;
            let high = U256::from(plain(high)?).checked_mul(U256([0, 0, 1, 0]))?;
            high.checked_add(U256::from(plain(low)?)).map(Quantity)
        }
        _ => None,
    }
}

/// One to sixteen digits, which nearly all numbers have.
fn short_quantity(digits: &str) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.chars().try_fold(0_u64, |number, digit| Some((number << 4) | u64::from(digit.to_digit(16)?)))
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(|text: &str| {
            let digits = text.strip_prefix("0x")?;
            let mut word = [0; 32];
            match digits.len() {
                64 => const_hex::decode_to_slice(digits, &mut word).ok().map(|()| Self(Some(word))),
                _ => Some(Self(None)),
            }
        }))
    }
}

impl<'de> Deserialize<'de> for Topics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(TopicsVisitor)
    }
}

struct TopicsVisitor;

impl<'de> Visitor<'de> for TopicsVisitor {
    type Value = Topics;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("up to four words of 32 bytes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut topics: A) -> Result<Topics, A::Error> {
        let mut read = Topics { words: [Fixed([0; 32]); 4], count: 0 };
        for place in &mut read.words {
            match topics.next_element()? {
                Some(topic) => (*place, read.count) = (topic, read.count.saturating_add(1)),
                None => return Ok(read),
            }
        }
        match topics.next_element::<IgnoredAny>()? {
            Some(_) => Err(A::Error::invalid_length(5, &self)),
            None => Ok(read),
        }
    }
}

/// Reads a text that stands for a value, without a copy of it.
struct Text<F>(F);

impl<T, F: FnOnce(&str) -> Option<T>> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x and as many hexadecimal digits as belong here")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            E::invalid_value(Unexpected::Str(&shown), &"0x and as many hexadecimal digits as belong here")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
        serde_json::from_str(json).ok()
    }

    #[test]
    fn numbers_have_up_to_64_digits() {
        for (text, expected) in [
            ("0x0", Some(U256::zero())),
            ("0x00", Some(U256::zero())),
            ("0xfF", Some(U256::from(255))),
            ("0x1000000000000000000000000000000000", Some(U256::from(1) << 132)),
            ("0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", Some(U256::MAX)),
            ("0x10000000000000000000000000000000000000000000000000000000000000000", None),
            ("0x", None),
            ("0x+1", None),
            ("0x0000000000000000000000000000000+00000000000000000000000000000000", None),
            ("12", None),
            ("0xg", None),
        ] {
            assert_eq!(read::<Quantity>(&format!("{text:?}")).map(|read| read.0), expected, "{text}");
        }
        assert_eq!(read::<Quantity>("7"), None);
    }

    #[test]
    fn bytes_have_their_length() {
        let word = "11".repeat(32);
        assert_eq!(read::<Hash>(&format!("\"0x{word}\"")), Some(Fixed([0x11; 32])));
        for bad in [word.clone(), format!("0x{word}11"), "0x11".to_owned(), "0x".to_owned()] {
            assert_eq!(read::<Hash>(&format!("{bad:?}")), None, "{bad}");
        }
        assert_eq!(read::<Word>(&format!("\"0x{word}\"")), Some(Word(Some([0x11; 32]))));
        assert_eq!(read::<Word>("\"0x\""), Some(Word(None)));
        assert_eq!(read::<Word>(&format!("\"0x{word}22\"")), Some(Word(None)));
        let topics = |count: usize| format!("[{}]", vec![format!("\"0x{word}\""); count].join(","));
        for count in 0..=4 {
            assert_eq!(read::<Topics>(&topics(count)).unwrap().as_slice().len(), count);
        }
        assert_eq!(read::<Topics>(&topics(5)), None);
    }
}
