//! CashTokens prefixes, read a second time from their specification.

use tally_matcher::strip_token_prefix;

/// The script behind a prefix, if there is one.
pub(crate) fn behind(script: &[u8]) -> Option<&[u8]> {
    let [0xef, rest @ ..] = script else { return None };
    let rest = rest.get(32..)?;
    let [bits, rest @ ..] = rest else { return None };
    let (commitment, nft, amount, capability) =
        (bits & 0x40 != 0, bits & 0x20 != 0, bits & 0x10 != 0, bits & 15);
    let sound = bits & 0x80 == 0 && capability <= 2 && (nft || (amount && !commitment && capability == 0));
    if !sound {
        return None;
    }
    let mut rest = rest;
    if commitment {
        let (len, after) = size(rest)?;
        if len == 0 {
            return None;
        }
        rest = after.get(usize::try_from(len).ok()?..)?;
    }
    if amount {
        let (amount, after) = size(rest)?;
        if amount == 0 || amount > i64::MAX as u64 {
            return None;
        }
        rest = after;
    }
    Some(rest)
}

fn size(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let width = match first {
        0xfd => 2,
        0xfe => 4,
        0xff => 8,
        small => return Some((u64::from(*small), rest)),
    };
    let (digits, rest) = rest.split_at_checked(width)?;
    let size = digits.iter().rev().fold(0, |size, byte| (size << 8) | u64::from(*byte));
    let least = [0, 0, 0xfd, 0, 0x1_0000, 0, 0, 0, 0x1_0000_0000].get(width).copied()?;
    (size >= least).then_some((size, rest))
}

/// A script: the prefix that is taken off is the one that the specification knows.
pub fn strip_token(data: &[u8]) {
    let stripped = strip_token_prefix(data);
    assert_eq!(stripped, behind(data));
    assert!(stripped.is_none_or(|stripped| data.ends_with(stripped) && stripped.len() + 34 <= data.len()));
}
