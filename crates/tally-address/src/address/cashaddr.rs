//! CashAddr, the address format of Bitcoin Cash (the specification of 2017, with the token-aware types of
//! CHIP-2022-02-CashTokens: `z` and `r` name the same scripts as `q` and `p`).
//!
//! Not here: legacy addresses.

use super::{AddressError, Destination, shown};

const CHARSET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/// Symbols of the checksum, 5 bits each.
const CHECKSUM: usize = 8;
const GENERATORS: [u64; 5] = [0x98_f2bc_8e61, 0x79_b76d_99e2, 0xf3_3e5f_b3c4, 0xae_2eab_e2a8, 0x1e_4f43_e470];

/// Version bytes: the type in bits 3 to 6, the length of the hash in bits 0 to 2 (0: 20 bytes, 3: 32).
const KEY: u8 = 0;
const SCRIPT: u8 = 1 << 3;
const TOKEN_KEY: u8 = 2 << 3;
const TOKEN_SCRIPT: u8 = 3 << 3;
const SCRIPT_32: u8 = SCRIPT | 3;
const TOKEN_SCRIPT_32: u8 = TOKEN_SCRIPT | 3;

/// The 40-bit BCH code over 5-bit symbols; 0 for a text whose checksum fits.
fn polymod(symbols: impl Iterator<Item = u8>) -> u64 {
    let checksum = symbols.fold(1_u64, |checksum, symbol| {
        let top = checksum >> 35;
        let next = ((checksum & 0x07_ffff_ffff) << 5) ^ u64::from(symbol);
        GENERATORS
            .iter()
            .enumerate()
            .filter(|(bit, _)| (top >> bit) & 1 == 1)
            .fold(next, |sum, (_, generator)| sum ^ generator)
    });
    checksum ^ 1
}

/// The prefix as the checksum sees it: the low 5 bits of each letter, and a zero for the colon.
fn prefix_symbols(prefix: &str) -> impl Iterator<Item = u8> {
    prefix.bytes().map(|letter| letter & 0x1f).chain([0])
}

/// Regroups bits; `None` where padding is left that is not zero or a whole group.
fn regroup(from: &[u8], from_bits: u32, to_bits: u32, pad: bool) -> Option<Vec<u8>> {
    let mask = (1_u32 << to_bits) - 1;
    let (mut held, mut bits, mut out) = (0_u32, 0_u32, Vec::new());
    for value in from {
        held = ((held << from_bits) | u32::from(*value)) & 0xffff;
        bits += from_bits;
        while bits >= to_bits {
            bits -= to_bits;
            out.push(u8::try_from((held >> bits) & mask).ok()?);
        }
    }
    if pad {
        if bits > 0 {
            out.push(u8::try_from((held << (to_bits - bits)) & mask).ok()?);
        }
    } else if bits >= from_bits || (held & ((1 << bits) - 1)) != 0 {
        return None;
    }
    Some(out)
}

/// Reads a CashAddr with or without `prefix:`.
pub(super) fn decode(text: &str, prefix: &str) -> Result<Destination, AddressError> {
    let checksum = || AddressError::Checksum { text: shown(text) };
    let has = |test: fn(&u8) -> bool| text.as_bytes().iter().any(test);
    if has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) {
        return Err(AddressError::MixedCase(shown(text)));
    }
    let lower = text.to_ascii_lowercase();
    let payload = lower.split_once(':').map_or(lower.as_str(), |(_, payload)| payload);
    let symbol =
        |letter| CHARSET.iter().position(|known| *known == letter).and_then(|place| u8::try_from(place).ok());
    let symbols: Vec<u8> = payload.bytes().map(symbol).collect::<Option<_>>().ok_or_else(checksum)?;
    if symbols.len() <= CHECKSUM || polymod(prefix_symbols(prefix).chain(symbols.iter().copied())) != 0 {
        return Err(checksum());
    }
    let data = &symbols[..symbols.len() - CHECKSUM];
    let bytes = regroup(data, 5, 8, false).ok_or_else(checksum)?;
    match bytes.split_first() {
        Some((&(KEY | TOKEN_KEY), hash)) => hash.try_into().map(Destination::P2pkh).ok(),
        Some((&(SCRIPT | TOKEN_SCRIPT), hash)) => hash.try_into().map(Destination::P2sh).ok(),
        Some((&(SCRIPT_32 | TOKEN_SCRIPT_32), hash)) => hash.try_into().map(Destination::P2sh32).ok(),
        _ => None,
    }
    .ok_or_else(checksum)
}

/// Writes a CashAddr with its prefix; `None` for what it cannot name.
pub(super) fn encode(destination: &Destination, prefix: &str) -> Option<String> {
    let (version, hash): (u8, &[u8]) = match destination {
        Destination::P2pkh(hash) => (KEY, hash),
        Destination::P2sh(hash) => (SCRIPT, hash),
        Destination::P2sh32(hash) => (SCRIPT_32, hash),
        Destination::Witness { .. } => return None,
    };
    encode_version(version, hash, prefix)
}

/// Writes a version byte and a hash.
pub(super) fn encode_version(version: u8, hash: &[u8], prefix: &str) -> Option<String> {
    let mut symbols = regroup(&[&[version], hash].concat(), 8, 5, true)?;
    let padded = prefix_symbols(prefix).chain(symbols.iter().copied()).chain([0; CHECKSUM]);
    let checksum = polymod(padded);
    symbols.extend((0..CHECKSUM).rev().map(|place| ((checksum >> (5 * place)) & 0x1f) as u8));
    let payload = symbols.iter().filter_map(|symbol| CHARSET.get(usize::from(*symbol)));
    Some(format!("{prefix}:{}", payload.map(|letter| char::from(*letter)).collect::<String>()))
}
