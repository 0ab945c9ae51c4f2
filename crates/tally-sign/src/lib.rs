//! *Pure.* DeePay signatures, Standard Webhooks signatures, hashing of API keys and sealing of secrets.
//!
//! Randomness (nonces, new keys) is an argument. Comparisons of what an attacker may guess take constant
//! time. Not here: who may do what (`tally-account`, `tally-gateway`).

mod deepay;
mod key;
mod seal;
mod secret;
mod webhook;

pub use deepay::{Pairs, RequestFault, SignError, SignType, check_request, sign, verify};
pub use key::{hash_key, hint, new_deepay_key, new_key, verify_key};
pub use seal::{MasterKey, MasterKeyError, NONCE_BYTES, SealError, open, seal};
pub use secret::Secret;
pub use webhook::{WebhookError, WebhookSecret, verify_webhook, webhook_signature};
