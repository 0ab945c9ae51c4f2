//! Which coin on which network: what decides how keys and addresses are read and written.
//!
//! Not here: confirmations, dust and other rules of payment.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod table;

pub(crate) use table::{ETHEREUM_COIN_TYPES, ETHEREUM_VERSIONS, MULTISIG_PREFIXES, PRIVATE_PREFIXES, UTXO};
pub(crate) use table::{KeyVersion, Meaning, UtxoParams};

/// Why there are no parameters of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// No such coin.
    #[error("coin {0:?} is not one of {known}", known = coins())]
    Coin(String),
    /// The coin has no such network.
    #[error("network {network:?} is not one of {known}", known = networks(.coin))]
    Network {
        /// The coin.
        coin: String,
        /// The network that was asked for.
        network: String,
    },
}

/// How one chain writes keys and addresses: a coin of the Bitcoin family on one of its networks, or Ethereum.
#[derive(Clone, Copy)]
pub struct AddressParams(Family);

#[derive(Clone, Copy)]
pub(crate) enum Family {
    Utxo(&'static UtxoParams),
    Ethereum { chain_id: u64 },
}

impl AddressParams {
    /// A coin of the Bitcoin family (`btc`, `ltc`, `bch`) on a network (`mainnet`, `testnet`, `testnet4`,
    /// `signet`, `chipnet`, `regtest`).
    ///
    /// # Errors
    /// [`ParamsError`] when the coin is not known, or has no such network.
    pub fn bitcoin(coin: &str, network: &str) -> Result<Self, ParamsError> {
        let mut rows = UTXO.iter().filter(|row| row.coin == coin).peekable();
        if rows.peek().is_none() {
            return Err(ParamsError::Coin(clip(coin)));
        }
        rows.find(|row| row.network == network)
            .map(|row| Self(Family::Utxo(row)))
            .ok_or_else(|| ParamsError::Network { coin: clip(coin), network: clip(network) })
    }

    /// Ethereum, or a chain like it, with this EIP-155 chain id (used in payment URIs only).
    pub const fn ethereum(chain_id: u64) -> Self {
        Self(Family::Ethereum { chain_id })
    }

    /// The kinds of script an extended public key can be used for here, the usual one first.
    pub fn script_kinds(&self) -> &'static [ScriptKind] {
        match self.0 {
            Family::Utxo(row) => row.kinds,
            Family::Ethereum { .. } => &[ScriptKind::Address],
        }
    }

    pub(crate) fn family(&self) -> Family {
        self.0
    }

    pub(crate) fn key_versions(&self) -> &'static [KeyVersion] {
        match self.0 {
            Family::Utxo(row) => row.key_versions,
            Family::Ethereum { .. } => ETHEREUM_VERSIONS,
        }
    }

    /// SLIP-44 coin types whose keys are taken; empty where that says nothing (test networks).
    pub(crate) fn coin_types(&self) -> &'static [u32] {
        match self.0 {
            Family::Utxo(row) => row.coin_types,
            Family::Ethereum { .. } => ETHEREUM_COIN_TYPES,
        }
    }
}

impl PartialEq for AddressParams {
    fn eq(&self, other: &Self) -> bool {
        match (self.0, other.0) {
            (Family::Utxo(a), Family::Utxo(b)) => a.coin == b.coin && a.network == b.network,
            (Family::Ethereum { chain_id: a }, Family::Ethereum { chain_id: b }) => a == b,
            (Family::Utxo(_), Family::Ethereum { .. }) | (Family::Ethereum { .. }, Family::Utxo(_)) => false,
        }
    }
}

impl Eq for AddressParams {}

impl fmt::Display for AddressParams {
    /// `btc mainnet`, `ethereum 1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Family::Utxo(row) => write!(f, "{} {}", row.coin, row.network),
            Family::Ethereum { chain_id } => write!(f, "ethereum {chain_id}"),
        }
    }
}

impl fmt::Debug for AddressParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AddressParams({self})")
    }
}

/// Why a text is not a kind of script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not one of p2pkh, p2sh-p2wpkh, p2wpkh, p2tr, address")]
pub struct ScriptKindError(String);

/// What kind of script a wallet's addresses have. Written and serialised by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScriptKind {
    /// `p2pkh`: BIP 44, addresses such as `1…`.
    P2pkh,
    /// `p2sh-p2wpkh`: BIP 49, addresses such as `3…`.
    P2shP2wpkh,
    /// `p2wpkh`: BIP 84, addresses such as `bc1q…`.
    P2wpkh,
    /// `p2tr`: BIP 86, addresses such as `bc1p…`.
    P2tr,
    /// `address`: an account of Ethereum.
    Address,
}

impl ScriptKind {
    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::P2pkh => "p2pkh",
            Self::P2shP2wpkh => "p2sh-p2wpkh",
            Self::P2wpkh => "p2wpkh",
            Self::P2tr => "p2tr",
            Self::Address => "address",
        }
    }
}

impl fmt::Display for ScriptKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ScriptKind {
    type Err = ScriptKindError;

    fn from_str(text: &str) -> Result<Self, ScriptKindError> {
        [Self::P2pkh, Self::P2shP2wpkh, Self::P2wpkh, Self::P2tr, Self::Address]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| ScriptKindError(clip(text)))
    }
}

impl Serialize for ScriptKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ScriptKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The offending text, short enough for a message.
fn clip(text: &str) -> String {
    text.chars().take(20).collect()
}

fn coins() -> String {
    let mut coins: Vec<_> = UTXO.iter().map(|row| row.coin).collect();
    coins.dedup();
    coins.join(", ")
}

fn networks(coin: &str) -> String {
    let networks: Vec<_> = UTXO.iter().filter(|row| row.coin == coin).map(|row| row.network).collect();
    networks.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_coins_and_networks_name_the_known_ones() {
        let error = AddressParams::bitcoin("doge", "mainnet").unwrap_err();
        assert_eq!(error.to_string(), "coin \"doge\" is not one of btc, ltc, bch");
        let error = AddressParams::bitcoin("ltc", "signet").unwrap_err();
        assert_eq!(error.to_string(), "network \"signet\" is not one of mainnet, testnet, regtest");
        assert_eq!(AddressParams::bitcoin("btc", "testnet4").unwrap().to_string(), "btc testnet4");
        assert_ne!(AddressParams::ethereum(1), AddressParams::ethereum(5));
    }

    #[test]
    fn script_kinds_go_by_their_names() {
        for name in ["p2pkh", "p2sh-p2wpkh", "p2wpkh", "p2tr", "address"] {
            assert_eq!(name.parse::<ScriptKind>().unwrap().as_str(), name);
            assert_eq!(
                serde_json::to_string(&name.parse::<ScriptKind>().unwrap()).unwrap(),
                format!("\"{name}\"")
            );
        }
        assert!("p2wsh".parse::<ScriptKind>().is_err());
    }
}
