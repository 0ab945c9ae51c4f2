//! What is configured for a chain, as plain data. Nothing is proved here: the families do that, and name the
//! key that is wrong.
//!
//! Not here: files, the environment, references to secrets. Secrets arrive resolved.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use tally_ports::PortError;
use tally_types::{ChainId, Currency};

/// One `[[chain]]` of the configuration.
#[derive(Debug, Clone, Deserialize)]
pub struct ChainSettings {
    /// Its id in subjects, metrics and answers.
    pub id: ChainId,
    /// The family: `bitcoin` or `ethereum`.
    pub kind: String,
    /// Family `bitcoin`: `btc`, `ltc` or `bch`. Family `ethereum`: the symbol of the native currency, `eth`
    /// unless given.
    #[serde(default)]
    pub coin: Option<String>,
    /// Family `bitcoin`: `mainnet`, `testnet`, `testnet4`, `signet`, `chipnet` or `regtest`.
    #[serde(default)]
    pub network: Option<String>,
    /// Family `ethereum`: the id that `eth_chainId` answers.
    #[serde(default)]
    pub chain_id: Option<u64>,
    /// The chain's nodes, the preferred one first.
    #[serde(default)]
    pub rpc: Vec<EndpointSettings>,
    /// Tokens that are taken as payment; all others are passed over.
    #[serde(default, alias = "token")]
    pub tokens: Vec<TokenSettings>,
    /// Family `ethereum`: whether transfers made by contracts are found by call traces. `auto` (where the node
    /// offers them; the default), `required` or `off`.
    #[serde(default)]
    pub trace: Option<String>,
}

impl ChainSettings {
    /// A persistent error that names the chain.
    pub(crate) fn refuse(&self, what: impl fmt::Display) -> PortError {
        PortError::persistent(format!("chain {:?}: {what}", self.id.as_str()))
    }
}

/// One node.
#[derive(Clone, Deserialize)]
pub struct EndpointSettings {
    /// `http://host:port`, for the family `ethereum` also `https://` and a path. No user or password in it.
    pub url: String,
    /// The user for HTTP basic authentication.
    #[serde(default)]
    pub user: Option<String>,
    /// The user's password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// The file in which the node leaves user and password, in place of both.
    #[serde(default)]
    pub cookie: Option<PathBuf>,
}

impl fmt::Debug for EndpointSettings {
    /// Without the URL, whose path may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointSettings")
            .field("user", &self.user)
            .field("password", &self.password)
            .field("cookie", &self.cookie)
            .finish_non_exhaustive()
    }
}

/// A token that is taken as payment.
#[derive(Debug, Clone, Deserialize)]
pub struct TokenSettings {
    /// Its symbol, unique on its chain.
    pub symbol: Currency,
    /// Its contract's address, `0x` and 40 hexadecimal digits; in mixed case the checksum must be right.
    pub contract: String,
    /// Fraction digits of its unit.
    pub decimals: u8,
}

/// A password: readable by this crate, never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_from_data_and_never_print_secrets() {
        let settings: ChainSettings = serde_json::from_str(
            r#"{
                "id": "eth", "kind": "ethereum", "chain_id": 1,
                "rpc": [{"url": "https://node.example/v3/path-key", "user": "u", "password": "hunter2"}],
                "token": [{"symbol": "usdt", "contract": "0x00", "decimals": 6}]
            }"#,
        )
        .unwrap();
        assert_eq!(settings.tokens[0].symbol.as_str(), "USDT");
        assert_eq!(settings.rpc[0].password.as_ref().unwrap().expose(), "hunter2");
        let printed = format!("{settings:?}");
        assert!(!printed.contains("hunter2") && !printed.contains("path-key"), "{printed}");
    }
}
