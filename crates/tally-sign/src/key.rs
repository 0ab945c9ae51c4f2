//! API keys: made from random bytes, kept as a hash where they are only compared.
//!
//! A key has 128 bits of randomness or more, so one SHA-256 is as good as a slow hash. Not here: passwords.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::Secret;

/// A key for DeePay's signatures, in the form the original had: 32 hexadecimal digits.
pub fn new_deepay_key(random: [u8; 16]) -> Secret {
    Secret::new(const_hex::encode(random))
}

/// A key that is sent along, for Payscrypt and our own API: 64 hexadecimal digits.
pub fn new_key(random: [u8; 32]) -> Secret {
    Secret::new(const_hex::encode(random))
}

/// What is kept of a key that is only compared: its SHA-256, in hexadecimal.
pub fn hash_key(key: &str) -> String {
    const_hex::encode(Sha256::digest(key.as_bytes()))
}

/// Whether a key is the one that was hashed, in constant time.
pub fn verify_key(key: &str, hash: &str) -> bool {
    hash_key(key).as_bytes().ct_eq(hash.as_bytes()).into()
}

/// The last four characters of a key, by which people tell keys apart.
pub fn hint(key: &Secret) -> String {
    let text = key.expose();
    let skipped = text.chars().count().saturating_sub(4);
    text.chars().skip(skipped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_random_text_and_verify_by_their_hash() {
        let key = new_key([0xab; 32]);
        assert_eq!((key.expose().len(), new_deepay_key([1; 16]).expose().len()), (64, 32));
        let hash = hash_key(key.expose());
        assert!(verify_key(key.expose(), &hash));
        assert!(!verify_key("other", &hash));
        assert!(!verify_key(key.expose(), ""));
        assert_eq!(hint(&key), "abab");
        assert_eq!(format!("{key:?}"), "Secret(…)");
    }

    #[test]
    fn the_hash_is_sha256() {
        // FIPS 180-2, the one-block message.
        assert_eq!(hash_key("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
