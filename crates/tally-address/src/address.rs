//! Addresses as text to scripts and back, by the rules of the chosen chain only.
//!
//! The same text can be an address on two chains (`3…` on Bitcoin and Litecoin), so nothing is guessed.
//! Not here: keys.

use bitcoin::base58;
use bitcoin::bech32::primitives::decode::{CharError, SegwitHrpstringError, UncheckedHrpstringError};
use bitcoin::bech32::{Fe32, Hrp, segwit};
use tally_types::Script;

use crate::AddressParams;
use crate::params::{Family, UTXO, UtxoParams};

mod cashaddr;
mod destination;
pub(crate) mod ethereum;
#[cfg(test)]
mod tests;

pub(crate) use destination::Destination;

/// The longest address of any chain: SegWit has at most 90 characters, Litecoin's MWEB up to 121.
const LONGEST: usize = 128;

/// Why a text is not an address of this chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing that this chain reads as an address.
    #[error("{text} is not a {params} address")]
    NotAnAddress {
        /// What was given.
        text: String,
        /// The chain.
        params: AddressParams,
    },
    /// An address, but of another coin or network.
    #[error("{text} is an address of another network, not of {params}")]
    OtherNetwork {
        /// What was given.
        text: String,
        /// The chain.
        params: AddressParams,
    },
    /// A character is wrong or missing.
    #[error("the checksum of {text} does not fit: a character is wrong, missing or too many")]
    Checksum {
        /// What was given.
        text: String,
    },
    /// Capital and small letters together, where the format allows one or the other.
    #[error("{0} mixes capital and small letters")]
    MixedCase(String),
    /// An address in Litecoin's extension blocks, which has no script.
    #[error("{0} is a MWEB address: such payments cannot be seen from outside")]
    Mweb(String),
    /// A script type that payments are not made to.
    #[error("{text} names a witness program of version {version} and {bytes} bytes, which has no use yet")]
    UnknownProgram {
        /// What was given.
        text: String,
        /// The witness version.
        version: u8,
        /// Bytes of the program.
        bytes: usize,
    },
}

/// Reads an address of a chain.
///
/// # Errors
/// [`AddressError`], with the text in it unless it could be a private key.
pub fn parse_address(text: &str, params: AddressParams) -> Result<Script, AddressError> {
    if text.len() > LONGEST || !text.is_ascii() {
        return Err(AddressError::NotAnAddress { text: shown(text), params });
    }
    match params.family() {
        Family::Utxo(row) => parse_utxo(text, row, params)?.to_script(),
        Family::Ethereum { .. } => {
            ethereum::parse(text).and_then(|bytes| Script::from_bytes(&bytes).ok()).ok_or(())
        }
    }
    .map_err(|()| AddressError::NotAnAddress { text: shown(text), params })
}

/// The addresses of a script, the usual form first; `None` where the script has none on this chain.
///
/// BCH: CashAddr with its prefix, then the legacy form. ETH: EIP-55.
pub fn address_of(script: &Script, params: AddressParams) -> Option<Vec<String>> {
    match params.family() {
        Family::Utxo(row) => {
            let addresses = utxo_addresses(&Destination::from_script(script.as_bytes())?, row);
            (!addresses.is_empty()).then_some(addresses)
        }
        Family::Ethereum { .. } => {
            let bytes: [u8; 20] = script.as_bytes().try_into().ok()?;
            Some(vec![ethereum::checksummed(&bytes)])
        }
    }
}

fn parse_utxo(text: &str, row: &UtxoParams, params: AddressParams) -> Result<Destination, AddressError> {
    if let Some((prefix, _)) = text.split_once(':') {
        return match (row.cashaddr, known_cashaddr(prefix)) {
            (Some(ours), Some(theirs)) if ours == theirs => cashaddr::decode(text, ours),
            (_, Some(_)) => Err(AddressError::OtherNetwork { text: shown(text), params }),
            (_, None) => Err(AddressError::NotAnAddress { text: shown(text), params }),
        };
    }
    if let Some(prefix) = row.cashaddr
        && text.starts_with(['q', 'p', 'z', 'r', 'Q', 'P', 'Z', 'R'])
    {
        return cashaddr::decode(text, prefix);
    }
    if let Some((hrp, _)) = text.rsplit_once('1') {
        let hrp = hrp.to_ascii_lowercase();
        if UTXO.iter().any(|other| other.mweb == Some(hrp.as_str())) {
            return Err(AddressError::Mweb(shown(text)));
        }
        if row.hrp == Some(hrp.as_str()) {
            return parse_segwit(text);
        }
        if UTXO.iter().any(|other| other.hrp == Some(hrp.as_str())) {
            return Err(AddressError::OtherNetwork { text: shown(text), params });
        }
    }
    parse_base58(text, row, params)
}

fn parse_segwit(text: &str) -> Result<Destination, AddressError> {
    let (_, version, program) = segwit::decode(text).map_err(|error| match error.0 {
        SegwitHrpstringError::Unchecked(UncheckedHrpstringError::Char(CharError::MixedCase)) => {
            AddressError::MixedCase(shown(text))
        }
        _ => AddressError::Checksum { text: shown(text) },
    })?;
    match (version.to_u8(), program.len()) {
        (0, 20 | 32) | (1, 32) => Ok(Destination::Witness { version: version.to_u8(), program }),
        (version, bytes) => Err(AddressError::UnknownProgram { text: shown(text), version, bytes }),
    }
}

fn parse_base58(text: &str, row: &UtxoParams, params: AddressParams) -> Result<Destination, AddressError> {
    let payload = base58::decode_check(text).map_err(|error| match error {
        // Only what has an address's length deserves a hint at its checksum.
        base58::Error::IncorrectChecksum(_) if (26..=35).contains(&text.len()) => {
            AddressError::Checksum { text: shown(text) }
        }
        _ => AddressError::NotAnAddress { text: shown(text), params },
    })?;
    let Some((&version, hash)) = payload.split_first() else {
        return Err(AddressError::NotAnAddress { text: shown(text), params });
    };
    let Ok(hash) = <[u8; 20]>::try_from(hash) else {
        return Err(AddressError::NotAnAddress { text: shown(text), params });
    };
    if version == row.p2pkh {
        Ok(Destination::P2pkh(hash))
    } else if row.p2sh.contains(&version) {
        Ok(Destination::P2sh(hash))
    } else if UTXO.iter().any(|other| other.p2pkh == version || other.p2sh.contains(&version)) {
        Err(AddressError::OtherNetwork { text: shown(text), params })
    } else {
        Err(AddressError::NotAnAddress { text: shown(text), params })
    }
}

fn utxo_addresses(destination: &Destination, row: &UtxoParams) -> Vec<String> {
    let base58 = |version: u8, hash: &[u8]| {
        let mut payload = vec![version];
        payload.extend_from_slice(hash);
        base58::encode_check(&payload)
    };
    let legacy = match destination {
        Destination::P2pkh(hash) => Some(base58(row.p2pkh, hash)),
        Destination::P2sh(hash) => row.p2sh.first().map(|version| base58(*version, hash)),
        Destination::P2sh32(_) => None,
        Destination::Witness { version, program } => {
            return row.hrp.and_then(|hrp| segwit_address(hrp, *version, program)).into_iter().collect();
        }
    };
    let cash = row.cashaddr.and_then(|prefix| cashaddr::encode(destination, prefix));
    cash.into_iter().chain(legacy).collect()
}

fn segwit_address(hrp: &str, version: u8, program: &[u8]) -> Option<String> {
    segwit::encode(Hrp::parse(hrp).ok()?, Fe32::try_from(version).ok()?, program).ok()
}

fn known_cashaddr(prefix: &str) -> Option<&'static str> {
    UTXO.iter().filter_map(|row| row.cashaddr).find(|known| known.eq_ignore_ascii_case(prefix))
}

/// The text for a message: quoted and short, and not at all where it could be a private key or a phrase.
pub(crate) fn shown(text: &str) -> String {
    let start = text.to_ascii_lowercase();
    let public = UTXO.iter().any(|row| {
        let prefixed = |prefix: Option<&str>, mark: char| {
            prefix.is_some_and(|p| start.strip_prefix(p).is_some_and(|rest| rest.starts_with(mark)))
        };
        prefixed(row.hrp, '1') || prefixed(row.mweb, '1') || prefixed(row.cashaddr, ':')
    });
    if text.len() > 45 && !public {
        return format!("a text of {} bytes", text.len());
    }
    format!("{:?}", text.chars().take(LONGEST).collect::<String>())
}
