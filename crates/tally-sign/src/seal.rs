//! Sealing of secrets before they are stored: XChaCha20-Poly1305 under the installation's master key.
//!
//! The purpose is authenticated with the text, so that what was sealed for one use cannot be put in the place
//! of another. Sealed: base64 of a version byte, the nonce, and the cipher text. Not here: randomness.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};

use crate::Secret;

/// Random bytes that sealing takes.
pub const NONCE_BYTES: usize = 24;

/// The first byte of what is sealed: how.
const VERSION: u8 = 1;

/// Why a text is no master key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the master key is not 32 bytes in hexadecimal or base64")]
pub struct MasterKeyError;

/// The key that secrets are sealed under. Not printed.
#[derive(Clone)]
pub struct MasterKey([u8; 32]);

impl MasterKey {
    /// A key of these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads 64 hexadecimal digits, or base64 of 32 bytes.
    ///
    /// # Errors
    /// [`MasterKeyError`], without the text.
    pub fn parse(text: &str) -> Result<Self, MasterKeyError> {
        let text = text.trim();
        Self::from_hex(text).or_else(|_| Self::from_base64(text))
    }

    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`MasterKeyError`], without the text.
    pub fn from_hex(text: &str) -> Result<Self, MasterKeyError> {
        let mut bytes = [0; 32];
        const_hex::decode_to_slice(text, &mut bytes).map_err(|_| MasterKeyError)?;
        Ok(Self(bytes))
    }

    /// Reads base64 of 32 bytes.
    ///
    /// # Errors
    /// [`MasterKeyError`], without the text.
    pub fn from_base64(text: &str) -> Result<Self, MasterKeyError> {
        let bytes = STANDARD.decode(text).map_err(|_| MasterKeyError)?;
        Ok(Self(bytes.try_into().map_err(|_| MasterKeyError)?))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// Why something could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not what sealing makes.
    #[error("not a sealed secret")]
    Malformed,
    /// Another master key, another purpose, or a changed text.
    #[error("the sealed secret does not open: another master key, another purpose, or it was changed")]
    Refused,
}

/// Seals a text for a purpose, such as `deepay-key/10001/1`. The nonce must be random and new each time.
///
/// # Errors
/// [`SealError::Refused`] only for texts of 256 GiB and more.
pub fn seal(
    key: &MasterKey,
    purpose: &str,
    nonce: [u8; NONCE_BYTES],
    text: &Secret,
) -> Result<String, SealError> {
    let payload = Payload { msg: text.expose().as_bytes(), aad: purpose.as_bytes() };
    let cipher = XChaCha20Poly1305::new((&key.0).into());
    let sealed = cipher.encrypt(XNonce::from_slice(&nonce), payload).map_err(|_| SealError::Refused)?;
    Ok(STANDARD.encode([&[VERSION][..], &nonce, &sealed].concat()))
}

/// Opens what was sealed for the same purpose under the same key.
///
/// # Errors
/// [`SealError`]
pub fn open(key: &MasterKey, purpose: &str, sealed: &str) -> Result<Secret, SealError> {
    let bytes = STANDARD.decode(sealed).map_err(|_| SealError::Malformed)?;
    let Some((&VERSION, rest)) = bytes.split_first() else { return Err(SealError::Malformed) };
    let (nonce, sealed) = rest.split_at_checked(NONCE_BYTES).ok_or(SealError::Malformed)?;
    let payload = Payload { msg: sealed, aad: purpose.as_bytes() };
    let cipher = XChaCha20Poly1305::new((&key.0).into());
    let text = cipher.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| SealError::Refused)?;
    String::from_utf8(text).map(Secret::new).map_err(|_| SealError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: MasterKey = MasterKey::from_bytes([5; 32]);

    #[test]
    fn what_is_sealed_opens_for_its_purpose_and_key_only() {
        let secret = Secret::new("192006250b4c09247ec02edce69f6a2d");
        let sealed = seal(&KEY, "deepay-key/10001/1", [9; 24], &secret).unwrap();
        assert!(!sealed.contains("192006"));
        assert_eq!(open(&KEY, "deepay-key/10001/1", &sealed).unwrap(), secret);
        assert_eq!(open(&KEY, "deepay-key/10002/1", &sealed), Err(SealError::Refused));
        let other = MasterKey::from_bytes([6; 32]);
        assert_eq!(open(&other, "deepay-key/10001/1", &sealed), Err(SealError::Refused));
        assert_ne!(seal(&KEY, "deepay-key/10001/1", [8; 24], &secret).unwrap(), sealed);
    }

    #[test]
    fn a_changed_or_foreign_text_is_refused() {
        let sealed = seal(&KEY, "p", [9; 24], &Secret::new("x")).unwrap();
        let bytes = STANDARD.decode(&sealed).unwrap();
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert!(open(&KEY, "p", &STANDARD.encode(changed)).is_err(), "byte {place}");
        }
        for bad in ["", "AQ==", "!", "AQID"] {
            assert_eq!(open(&KEY, "p", bad), Err(SealError::Malformed), "{bad}");
        }
    }

    #[test]
    fn master_keys_read_in_both_forms_and_are_not_printed() {
        let hex = MasterKey::parse(&format!(" {}\n", "05".repeat(32))).unwrap();
        let base64 = MasterKey::parse(&STANDARD.encode([5; 32])).unwrap();
        assert_eq!((hex.0, base64.0), (KEY.0, KEY.0));
        for bad in ["", "05", &"0".repeat(63), &STANDARD.encode([5; 31])] {
            assert!(MasterKey::parse(bad).is_err());
        }
        assert_eq!(format!("{KEY:?}"), "MasterKey(…)");
    }
}
