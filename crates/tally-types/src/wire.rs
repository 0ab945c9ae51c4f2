//! How values are read and written: as text where people read it (JSON), shortly elsewhere (rows of a read model).
//!
//! Not here: the text of each value, which is its `Display` and `FromStr`.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Deserializer, Error, Visitor};

/// A value from its text, without a copy of the text.
pub(crate) fn text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    struct Text<T>(PhantomData<T>);
    impl<T: FromStr> Visitor<'_> for Text<T>
    where
        T::Err: fmt::Display,
    {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Text(PhantomData))
}

/// A value from bytes, by what makes one of them.
pub(crate) fn bytes<'de, D, T, F>(deserializer: D, make: fn(&[u8]) -> Result<T, F>) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    F: fmt::Display,
{
    struct Bytes<T, F>(fn(&[u8]) -> Result<T, F>);
    impl<T, F: fmt::Display> Visitor<'_> for Bytes<T, F> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<T, E> {
            (self.0)(bytes).map_err(E::custom)
        }
    }
    deserializer.deserialize_bytes(Bytes(make))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use crate::{BaseUnits, BlockHash, PriceAmount, Script, Timestamp, TxId};

    fn both_ways<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, shortest: usize) {
        let short = postcard::to_stdvec(value).unwrap();
        assert!(short.len() <= shortest, "{value:?} takes {} bytes", short.len());
        assert_eq!(postcard::from_bytes::<T>(&short).unwrap(), *value);
        let text = serde_json::to_string(value).unwrap();
        assert!(text.starts_with('"'), "{text}");
        assert_eq!(serde_json::from_str::<T>(&text).unwrap(), *value);
        // From a reader and from a tree the text is not there to be borrowed.
        assert_eq!(serde_json::from_reader::<_, T>(text.as_bytes()).unwrap(), *value);
        assert_eq!(serde_json::from_value::<T>(serde_json::to_value(value).unwrap()).unwrap(), *value);
    }

    proptest! {
        #[test]
        fn values_are_what_they_were(
            hash in any::<[u8; 32]>(),
            script in prop::collection::vec(any::<u8>(), 1..100),
            units in any::<u128>(),
            price in 1..=i64::MAX,
            scale in 0_u32..=12,
            millis in 0_i64..253_402_300_799_999,
        ) {
            both_ways(&BlockHash::from_display(hash), 32);
            both_ways(&TxId::from_display(hash), 32);
            both_ways(&Script::from_bytes(&script).unwrap(), script.len() + 2);
            both_ways(&BaseUnits::from_units(units), 19);
            both_ways(&PriceAmount::from_decimal(rust_decimal::Decimal::new(price, scale)).unwrap(), 16);
            both_ways(&Timestamp::from_millis(millis), 7);
        }
    }
}
