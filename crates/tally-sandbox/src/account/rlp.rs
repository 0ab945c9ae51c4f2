//! RLP, the serialisation of Ethereum (its yellow paper, appendix B), and keccak-256. Writing only.

use sha3::{Digest, Keccak256};

/// Keccak-256, which Ethereum uses for every hash.
pub(crate) fn keccak(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}

/// A string of bytes.
pub(crate) fn bytes(value: &[u8]) -> Vec<u8> {
    match value {
        [single] if *single < 0x80 => vec![*single],
        _ => [prefix(0x80, value.len()), value.to_vec()].concat(),
    }
}

/// A number: its bytes without leading zeros.
pub(crate) fn number(value: u128) -> Vec<u8> {
    bytes(significant(&value.to_be_bytes()))
}

/// A list of items that are already encoded.
pub(crate) fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let body = items.concat();
    [prefix(0xc0, body.len()), body].concat()
}

/// The bytes of a big-endian number without leading zeros.
pub(crate) fn significant(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

fn prefix(base: u8, len: usize) -> Vec<u8> {
    if len < 56 {
        return vec![base.saturating_add(len as u8)];
    }
    let len = len.to_be_bytes();
    let len = significant(&len);
    [&[base.saturating_add(55).saturating_add(len.len() as u8)], len].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_specification() {
        let rows: [(&str, Vec<u8>, &str); 8] = [
            ("dog", bytes(b"dog"), "83646f67"),
            ("empty string", bytes(b""), "80"),
            ("zero", number(0), "80"),
            ("15", number(15), "0f"),
            ("1024", number(1024), "820400"),
            ("empty list", list(&[]), "c0"),
            ("cat, dog", list(&[bytes(b"cat"), bytes(b"dog")]), "c88363617483646f67"),
            (
                "56 bytes",
                bytes(b"Lorem ipsum dolor sit amet, consectetur adipisicing elit"),
                "b8384c6f72656d20697073756d20646f6c6f722073697420616d65742c20636f6e7365637465747572206164697069\
                 736963696e6720656c6974",
            ),
        ];
        for (name, encoded, expected) in rows {
            assert_eq!(const_hex::encode(encoded), expected, "{name}");
        }
    }

    #[test]
    fn the_hash_of_nothing() {
        let expected = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470";
        assert_eq!(const_hex::encode(keccak(b"")), expected);
    }
}
