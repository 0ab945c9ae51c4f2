//! The signature of the DeePay API: over requests, and over the notifications we send.
//!
//! `A` is every pair with a value, but `sign`, sorted by key in byte order, as `key=value` joined by `&`. The
//! sign is the upper-case hexadecimal MD5 of `A&key=<api key>`, or its HMAC-SHA256 where the request says so.
//! Values are signed exactly as they came. Not here: parsing of bodies.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;
use subtle::ConstantTimeEq;

mod request;
#[cfg(test)]
mod tests;

pub use request::{RequestFault, check_request};

/// The fields of a message with their values as decoded text, in the order in which they came.
pub type Pairs = [(String, String)];

/// How a message is signed. `MD5` unless its `sign_type` says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SignType {
    /// MD5 with the key at the end, as the original has it.
    #[default]
    Md5,
    /// HMAC-SHA256, keyed with the key, over the same text.
    HmacSha256,
}

impl SignType {
    /// The name in `sign_type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::HmacSha256 => "HMAC-SHA256",
        }
    }
}

impl fmt::Display for SignType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SignType {
    type Err = SignError;

    fn from_str(text: &str) -> Result<Self, SignError> {
        match text {
            "MD5" => Ok(Self::Md5),
            "HMAC-SHA256" => Ok(Self::HmacSha256),
            _ => Err(SignError::UnknownType(text.chars().take(40).collect())),
        }
    }
}

/// Why a signature does not count. What the sender is told must be the same for all of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// There is none.
    #[error("the message has no sign")]
    Missing,
    /// It is not the message's.
    #[error("the sign does not fit the message")]
    Wrong,
    /// MD5 where the merchant refuses it.
    #[error("the merchant takes HMAC-SHA256 only")]
    HmacRequired,
    /// A way of signing that does not exist.
    #[error("sign_type {0:?} is neither MD5 nor HMAC-SHA256")]
    UnknownType(String),
}

/// The sign of a message. A pair named `sign` is passed over.
///
/// The caller adds the pair `sign_type` to a message signed with HMAC-SHA256; it is signed as the others are.
pub fn sign(pairs: &Pairs, key: &str, sign_type: SignType) -> String {
    digest(&signed_text(pairs), key, sign_type)
}

/// Checks the `sign` of a message, by the `sign_type` that it names.
///
/// # Errors
/// [`SignError`]; in constant time once there is a sign to compare.
pub fn verify(pairs: &Pairs, key: &str, require_hmac: bool) -> Result<SignType, SignError> {
    let value = |name: &str| {
        pairs.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value)
    };
    let given = value("sign").ok_or(SignError::Missing)?;
    let sign_type = value("sign_type").map_or(Ok(SignType::Md5), |name| name.parse())?;
    if require_hmac && sign_type == SignType::Md5 {
        return Err(SignError::HmacRequired);
    }
    let text = signed_text(pairs);
    // One published client trims `&` off the end of the text, and with it the end of such a last value.
    let trimmed = text.trim_end_matches('&');
    let matches = |text: &str| given.as_bytes().ct_eq(digest(text, key, sign_type).as_bytes());
    if (matches(&text) | matches(trimmed)).into() { Ok(sign_type) } else { Err(SignError::Wrong) }
}

/// `A`: what is signed, before the key.
fn signed_text(pairs: &Pairs) -> String {
    let mut signed: Vec<_> = pairs.iter().filter(|(key, value)| key != "sign" && !value.is_empty()).collect();
    signed.sort_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
    signed.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("&")
}

fn digest(text: &str, key: &str, sign_type: SignType) -> String {
    let message = format!("{text}&key={key}");
    match sign_type {
        SignType::Md5 => const_hex::encode_upper(Md5::digest(message.as_bytes())),
        SignType::HmacSha256 => match Hmac::<Sha256>::new_from_slice(key.as_bytes()) {
            Ok(mac) => const_hex::encode_upper(mac.chain_update(message.as_bytes()).finalize().into_bytes()),
            // HMAC takes keys of any length; were it otherwise, nothing would match.
            Err(_) => String::new(),
        },
    }
}
