//! Signatures of webhooks as Standard Webhooks (1.0) define them: HMAC-SHA256 over `id.timestamp.body`, in
//! base64, marked `v1,`.
//!
//! Not here: delivery.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

/// What secrets begin with when people see them.
const PREFIX: &str = "whsec_";

/// Why a webhook's signature or secret does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// Not a secret of 24 to 64 bytes in base64.
    #[error("the webhook secret is not base64 of 24 to 64 bytes (with or without whsec_)")]
    Secret,
    /// None of the signatures is the message's.
    #[error("no signature fits the message")]
    Signature,
    /// The time is too far from now.
    #[error("the webhook's time {0} is too far from now")]
    Timestamp(i64),
}

/// The secret that a webhook is signed with.
#[derive(Clone)]
pub struct WebhookSecret(Vec<u8>);

impl WebhookSecret {
    /// A secret of random bytes.
    pub fn from_random(random: [u8; 32]) -> Self {
        Self(random.to_vec())
    }

    /// Reads `whsec_` and base64.
    ///
    /// # Errors
    /// [`WebhookError::Secret`], without the text.
    pub fn parse(text: &str) -> Result<Self, WebhookError> {
        let bytes =
            STANDARD.decode(text.strip_prefix(PREFIX).unwrap_or(text)).map_err(|_| WebhookError::Secret)?;
        if (24..=64).contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(WebhookError::Secret) }
    }

    /// `whsec_` and base64: for its owner, and for sealing. Never log it.
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

/// The header `webhook-signature` for a message. While secrets are being rotated there are several, and as
/// many signatures, separated by spaces. `timestamp` is in Unix seconds, as in `webhook-timestamp`.
pub fn webhook_signature(secrets: &[WebhookSecret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let signatures: Vec<_> = secrets.iter().map(|secret| one(secret, id, timestamp, body)).collect();
    signatures.join(" ")
}

/// Checks a message as its receiver does; `now` in Unix seconds, `tolerance_secs` both ways.
///
/// # Errors
/// [`WebhookError`]
pub fn verify_webhook(
    secret: &WebhookSecret,
    id: &str,
    timestamp: i64,
    body: &[u8],
    header: &str,
    now: i64,
    tolerance_secs: u32,
) -> Result<(), WebhookError> {
    if now.abs_diff(timestamp) > u64::from(tolerance_secs) {
        return Err(WebhookError::Timestamp(timestamp));
    }
    let expected = one(secret, id, timestamp, body);
    let found = header
        .split(' ')
        .fold(Choice::from(0), |found, given| found | given.as_bytes().ct_eq(expected.as_bytes()));
    if found.into() { Ok(()) } else { Err(WebhookError::Signature) }
}

fn one(secret: &WebhookSecret, id: &str, timestamp: i64, body: &[u8]) -> String {
    match Hmac::<Sha256>::new_from_slice(&secret.0) {
        Ok(mac) => {
            let mac = mac.chain_update(format!("{id}.{timestamp}.")).chain_update(body);
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        }
        // HMAC takes keys of any length; were it otherwise, nothing would match.
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_of_the_specification() {
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let header = webhook_signature(
            std::slice::from_ref(&secret),
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            body,
        );
        assert_eq!(header, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_receiver_takes_either_secret_while_they_are_rotated() {
        let (old, new) = (WebhookSecret::from_random([1; 32]), WebhookSecret::from_random([2; 32]));
        let header = webhook_signature(&[new.clone(), old.clone()], "id", 1000, b"body");
        for secret in [&old, &new] {
            assert_eq!(verify_webhook(secret, "id", 1000, b"body", &header, 1100, 300), Ok(()));
            assert_eq!(
                verify_webhook(secret, "id", 1000, b"bodY", &header, 1100, 300),
                Err(WebhookError::Signature)
            );
        }
        let late = verify_webhook(&new, "id", 1000, b"body", &header, 1301, 300);
        assert_eq!(late, Err(WebhookError::Timestamp(1000)));
        let other = WebhookSecret::from_random([3; 32]);
        assert!(verify_webhook(&other, "id", 1000, b"body", &header, 1000, 300).is_err());
        assert!(verify_webhook(&other, "id", 1000, b"body", "", 1000, 300).is_err());
    }

    #[test]
    fn secrets_round_trip_and_are_not_printed() {
        let secret = WebhookSecret::from_random([7; 32]);
        assert_eq!(WebhookSecret::parse(&secret.expose()).unwrap().0, secret.0);
        assert_eq!(format!("{secret:?}"), "WebhookSecret(…)");
        for bad in ["", "whsec_", "whsec_AAAA", "not base64!"] {
            assert_eq!(WebhookSecret::parse(bad).unwrap_err(), WebhookError::Secret);
        }
    }
}
