//! Facts of merchants, their keys and wallets, of claims on merchants' own ids, and of address indexes.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tally_types::{ChainId, Currency, Face, Fingerprint, MerchantId, OrderId, Span, Timestamp, WalletId};

use crate::{Counts, LatePolicy};

/// A merchant's settings. Each is optional: what is absent follows the defaults of the installation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MerchantSettings {
    /// Display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How long a quote holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<Span>,
    /// How long a new order waits for a checkout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_order: Option<Span>,
    /// Part of the price that may be missing, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance_percent: Option<Decimal>,
    /// Amount of the price currency that may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance_absolute: Option<Decimal>,
    /// Added to the price when it is quoted, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread_percent: Option<Decimal>,
    /// What becomes of late money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<LatePolicy>,
    /// Whether an expired order without money may be checked out again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reopen: Option<bool>,
    /// Whether MD5 signatures are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_hmac: Option<bool>,
    /// Confirmation counts for a chain, in place of that chain's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<(ChainId, Counts)>,
}

/// A merchant was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MerchantCreated {
    /// The merchant.
    pub merchant: MerchantId,
    /// Settings to begin with.
    pub settings: MerchantSettings,
}

/// A merchant's settings changed; what is present replaces what was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MerchantChanged {
    /// The merchant.
    pub merchant: MerchantId,
    /// The changed settings.
    pub settings: MerchantSettings,
}

/// How an API key's secret is kept. Never in the clear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySecret {
    /// Sealed under the installation's master key, where the secret itself signs (DeePay). Base64.
    Sealed(String),
    /// Hashed, where the secret is only compared (Payscrypt). Hexadecimal.
    Hashed(String),
}

/// A merchant got an API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyCreated {
    /// The merchant.
    pub merchant: MerchantId,
    /// Which of the merchant's keys; the first has 1.
    pub key: u32,
    /// The API it opens.
    pub face: Face,
    /// The secret, sealed or hashed.
    pub secret: KeySecret,
    /// The last characters, so that people can tell keys apart.
    pub hint: String,
}

/// An API key was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyRevoked {
    /// The merchant.
    pub merchant: MerchantId,
    /// The key.
    pub key: u32,
}

/// A merchant got a wallet: addresses of one chain from one extended public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletAdded {
    /// The merchant.
    pub merchant: MerchantId,
    /// The wallet.
    pub wallet: WalletId,
    /// The chain.
    pub chain: ChainId,
    /// What it takes: the chain's coin, and tokens.
    pub currencies: Vec<Currency>,
    /// The account-level extended public key or descriptor, in normalised form. Never a private key.
    pub public_key: String,
    /// The kind of script: `p2pkh`, `p2wpkh`, `p2sh-p2wpkh`, `p2tr` or `address`.
    pub script_kind: String,
    /// The key's fingerprint.
    pub fingerprint: Fingerprint,
    /// When.
    pub added_at: Timestamp,
}

/// A merchant's own id of an order is taken, on `tally.v1.claim.…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderClaimed {
    /// The merchant.
    pub merchant: MerchantId,
    /// The face it is unique on.
    pub face: Face,
    /// The merchant's own id.
    pub own_id: String,
    /// The order that has it.
    pub order: OrderId,
}

/// An extended public key belongs to a merchant, on `tally.v1.key.<fingerprint>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRegistered {
    /// The key.
    pub fingerprint: Fingerprint,
    /// Whose it is.
    pub merchant: MerchantId,
    /// The first index that may be handed out.
    pub next_index: u32,
}

/// An address's index was handed out, on `tally.v1.key.<fingerprint>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyAllocated {
    /// The key.
    pub fingerprint: Fingerprint,
    /// The index; never handed out again.
    pub index: u32,
    /// The order that got it.
    pub order: OrderId,
    /// The order's quote that got it.
    pub quote: u32,
}
