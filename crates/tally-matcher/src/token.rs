//! CashTokens: the prefix that may stand before an output's script on Bitcoin Cash
//! (CHIP-2022-02-CashTokens). What the token is worth is not read: the output is credited with its
//! coins only.

use crate::reader::{Malformed, Reader};

const PREFIX_TOKEN: u8 = 0xef;
const RESERVED: u8 = 0x80;
const HAS_COMMITMENT: u8 = 0x40;
const HAS_NFT: u8 = 0x20;
const HAS_AMOUNT: u8 = 0x10;
const STRUCTURE: u8 = 0xf0;
const CAPABILITY: u8 = 0x0f;
/// None, mutable, minting.
const CAPABILITY_MAX: u8 = 2;

/// The script behind a CashTokens prefix.
///
/// `None` where there is no prefix or it does not parse; then the whole is the script, as Bitcoin
/// Cash nodes have it. The limit on the commitment's length is a consensus rule that has been
/// raised before and is not part of the encoding, so it is not checked here.
#[must_use]
#[inline]
pub fn strip_token_prefix(script: &[u8]) -> Option<&[u8]> {
    if script.first() == Some(&PREFIX_TOKEN) { behind_prefix(script) } else { None }
}

#[cold]
fn behind_prefix(script: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(script);
    let _prefix_and_category = reader.array::<33, Malformed>().ok()?;
    let bitfield = reader.byte::<Malformed>().ok()?;
    if !is_valid(bitfield) {
        return None;
    }
    if bitfield & HAS_COMMITMENT != 0 {
        let len = reader.length::<Malformed>().ok()?;
        if len == 0 {
            return None;
        }
        reader.take::<Malformed>(len).ok()?;
    }
    if bitfield & HAS_AMOUNT != 0 {
        let amount = reader.compact_size::<Malformed>().ok()?;
        if amount == 0 || i64::try_from(amount).is_err() {
            return None;
        }
    }
    Some(reader.rest())
}

fn is_valid(bitfield: u8) -> bool {
    let structure = bitfield & STRUCTURE;
    let capability = bitfield & CAPABILITY;
    if structure & RESERVED != 0 || capability > CAPABILITY_MAX {
        return false;
    }
    // Without an NFT there must be an amount, and nothing that describes an NFT.
    structure & HAS_NFT != 0 || (structure == HAS_AMOUNT && capability == 0)
}

#[cfg(test)]
mod tests;
