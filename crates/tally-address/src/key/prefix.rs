//! The Base58 form of extended keys: which prefix it has, and whether it is a private one.
//!
//! Not here: paths and descriptors.

use bitcoin::base58;
use bitcoin::bip32::Xpub;

use super::{KeyError, network_kind};
use crate::AddressParams;
use crate::params::{ETHEREUM_VERSIONS, KeyVersion, MULTISIG_PREFIXES, PRIVATE_PREFIXES, UTXO};

/// Bytes of an extended key: version 4, depth 1, parent 4, child number 4, chain code 32, key 33.
const LENGTH: usize = 78;
/// Where the key stands in them.
const KEY: usize = 45;
/// BIP 32's versions of public keys, `xpub` and `tpub`.
const MAIN: [u8; 4] = 0x0488_b21e_u32.to_be_bytes();
const TEST: [u8; 4] = 0x0435_87cf_u32.to_be_bytes();
/// Versions of single private keys in Wallet Import Format: Bitcoin and Bitcoin Cash, Litecoin, test networks.
const WIF_VERSIONS: [u8; 3] = [0x80, 0xb0, 0xef];

/// Whether any part of a text is, or was meant to be, a private key or a recovery phrase.
pub(super) fn is_private(text: &str) -> bool {
    let words = text.split_whitespace();
    if words.clone().count() >= 12 && words.clone().all(|word| word.bytes().all(|b| b.is_ascii_alphabetic()))
    {
        return true;
    }
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(is_private_token)
}

fn is_private_token(token: &str) -> bool {
    if PRIVATE_PREFIXES.iter().any(|prefix| token.starts_with(prefix)) {
        return true;
    }
    let digits = token.strip_prefix("0x").unwrap_or(token);
    if digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return true;
    }
    if !(50..=120).contains(&token.len()) {
        return false;
    }
    let Ok(payload) = base58::decode_check(token) else { return false };
    match (payload.len(), payload.first()) {
        (33 | 34, Some(version)) => WIF_VERSIONS.contains(version),
        // A private key is padded with a zero, where a public one has 2 or 3.
        (LENGTH, _) => payload.get(KEY) == Some(&0),
        _ => false,
    }
}

/// Reads an extended public key of this chain.
pub(super) fn decode(text: &str, params: AddressParams) -> Result<(Xpub, &'static KeyVersion), KeyError> {
    let mut payload = base58::decode_check(text).map_err(|error| match error {
        base58::Error::IncorrectChecksum(_) => {
            KeyError::NotAKey("its checksum does not fit: a character is wrong or missing")
        }
        _ => KeyError::NotAKey("it is not Base58"),
    })?;
    if payload.len() != LENGTH {
        return Err(KeyError::NotAKey("its length is not that of an extended key"));
    }
    let Some(version) = params.key_versions().iter().find(|known| payload.starts_with(&known.bytes)) else {
        return Err(foreign(text, &payload, params));
    };
    // Every prefix holds the same content; the library knows BIP 32's own two only.
    let own: [u8; 4] = if network_kind(params).is_mainnet() { MAIN } else { TEST };
    payload.splice(..4, own);
    let key = Xpub::decode(&payload).map_err(|_| KeyError::NotAKey("it is no point of the curve"))?;
    let root = key.depth == 0;
    if root && (key.parent_fingerprint.as_bytes() != &[0; 4] || u32::from(key.child_number) != 0) {
        return Err(KeyError::NotAKey("a root key cannot have a parent"));
    }
    Ok((key, version))
}

fn foreign(text: &str, payload: &[u8], params: AddressParams) -> KeyError {
    if let Some(prefix) = MULTISIG_PREFIXES.iter().find(|prefix| text.starts_with(**prefix)) {
        return KeyError::Multisig((*prefix).to_owned());
    }
    let tables = UTXO.iter().map(|row| row.key_versions).chain([ETHEREUM_VERSIONS]);
    match tables.flatten().find(|known| payload.starts_with(&known.bytes)) {
        Some(known) => KeyError::OtherNetwork { found: known.prefix.to_owned(), params },
        None => KeyError::NotAKey("its prefix is not known"),
    }
}
