//! Ethereum addresses: 20 bytes, in hexadecimal with the checksum of EIP-55 in the case of the letters.
//!
//! Not here: ENS names and ICAP.

use bitcoin::secp256k1::PublicKey;
use sha3::{Digest, Keccak256};

/// Reads `0x` and 40 digits; where capital and small letters are mixed, the case must be EIP-55's.
pub(crate) fn parse(text: &str) -> Option<[u8; 20]> {
    let digits = text.strip_prefix("0x")?;
    let mut bytes = [0; 20];
    if digits.len() != 40 {
        return None;
    }
    const_hex::decode_to_slice(digits.to_ascii_lowercase(), &mut bytes).ok()?;
    let one_case =
        !digits.bytes().any(|b| b.is_ascii_lowercase()) || !digits.bytes().any(|b| b.is_ascii_uppercase());
    (one_case || checksummed(&bytes) == text).then_some(bytes)
}

/// The address as EIP-55 writes it: a letter is a capital where the hash of the text has 8 or more.
pub(crate) fn checksummed(address: &[u8; 20]) -> String {
    let digits = const_hex::encode(address);
    let hash = const_hex::encode(Keccak256::digest(digits.as_bytes()));
    let cased = digits
        .chars()
        .zip(hash.bytes())
        .map(|(digit, hash)| if hash >= b'8' { digit.to_ascii_uppercase() } else { digit });
    format!("0x{}", cased.collect::<String>())
}

/// The address of a public key: the last 20 bytes of the hash of its coordinates.
pub(crate) fn of_public_key(key: &PublicKey) -> [u8; 20] {
    let uncompressed = key.serialize_uncompressed();
    let hash = Keccak256::digest(&uncompressed[1..]);
    let mut address = [0; 20];
    address.copy_from_slice(&hash[12..]);
    address
}
