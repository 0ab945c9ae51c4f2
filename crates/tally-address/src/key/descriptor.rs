//! Simple output descriptors: BIP 380 (checksum, key expressions), 381 (`pkh`, `sh`), 382 (`wpkh`), 386 (`tr`)
//! and 389 (`<0;1>`: the first is the receiving chain).
//!
//! Not here: descriptors of several keys, scripts or trees.

use super::KeyError;
use crate::ScriptKind;

/// A key with where it comes from and where it leads.
pub(super) struct KeyExpression<'a> {
    pub(super) origin: Option<Origin>,
    pub(super) key: &'a str,
    /// The steps between the key and the `*`; none where the text stops at the key.
    pub(super) path: Option<Vec<u32>>,
}

/// `fingerprint/84h/0h/0h`.
pub(super) struct Origin {
    pub(super) text: String,
    /// The coin type of a path as BIP 44 has them.
    pub(super) coin_type: Option<u32>,
}

const INPUT: &[u8] = b"0123456789()[],'/*abcdefgh@:$%{}\
IJKLMNOPQRSTUVWXYZ&+-.;<=>?!^_|~ijklmnopqrstuvwxyzABCDEFGH`#\"\\ ";
const CHECKSUM: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATORS: [u64; 5] = [0xf5_dee5_1989, 0xa9_fdca_3312, 0x1b_ab10_e32d, 0x37_06b1_677a, 0x64_4d62_6ffd];
/// Steps of a path; wallets use one or two.
const STEPS_MAX: usize = 8;

fn polymod(checksum: u64, value: u64) -> u64 {
    let top = checksum >> 35;
    let next = ((checksum & 0x07_ffff_ffff) << 5) ^ value;
    GENERATORS
        .iter()
        .enumerate()
        .filter(|(bit, _)| (top >> bit) & 1 == 1)
        .fold(next, |sum, (_, generator)| sum ^ generator)
}

/// The checksum of a descriptor (BIP 380); `None` where it has characters that no descriptor has.
pub(super) fn checksum(body: &str) -> Option<String> {
    let (mut sum, mut class, mut count) = (1_u64, 0_u64, 0_u8);
    for letter in body.bytes() {
        let place = u64::try_from(INPUT.iter().position(|known| *known == letter)?).ok()?;
        sum = polymod(sum, place & 31);
        class = class * 3 + (place >> 5);
        count += 1;
        if count == 3 {
            sum = polymod(sum, class);
            (class, count) = (0, 0);
        }
    }
    if count > 0 {
        sum = polymod(sum, class);
    }
    let sum = (0..8).fold(sum, |sum, _| polymod(sum, 0)) ^ 1;
    let letters = (0..8).rev().filter_map(|place| CHECKSUM.get(((sum >> (5 * place)) & 31) as usize));
    Some(letters.map(|letter| char::from(*letter)).collect())
}

/// The kind of script and the key expression of a descriptor, or the text itself where it is none.
pub(super) fn unwrap(text: &str) -> Result<(Option<ScriptKind>, &str), KeyError> {
    let body = match text.split_once('#') {
        Some((body, given)) if checksum(body).as_deref() == Some(given) => body,
        Some(_) => return Err(KeyError::Descriptor("its checksum does not fit")),
        None => text,
    };
    if !body.contains('(') {
        return Ok((None, body));
    }
    let forms = [
        ("sh(wpkh(", "))", ScriptKind::P2shP2wpkh),
        ("wpkh(", ")", ScriptKind::P2wpkh),
        ("pkh(", ")", ScriptKind::P2pkh),
        ("tr(", ")", ScriptKind::P2tr),
    ];
    for (start, end, kind) in forms {
        if let Some(inner) = body.strip_prefix(start).and_then(|rest| rest.strip_suffix(end)) {
            if inner.contains(['(', ')', ',', '{', '}']) {
                return Err(KeyError::Descriptor("it has more than one key, or scripts beside the key"));
            }
            return Ok((Some(kind), inner));
        }
    }
    Err(KeyError::Descriptor("only pkh(…), wpkh(…), sh(wpkh(…)) and tr(…) of one key are understood"))
}

/// Reads `[origin]key/steps/*`, where origin and everything after the key may be missing.
pub(super) fn key_expression(text: &str) -> Result<KeyExpression<'_>, KeyError> {
    let (origin, rest) = match text.strip_prefix('[') {
        Some(rest) => {
            let (origin, rest) =
                rest.split_once(']').ok_or(KeyError::Descriptor("its origin has no closing bracket"))?;
            (Some(read_origin(origin)?), rest)
        }
        None => (None, text),
    };
    let (key, path) = match rest.split_once('/') {
        Some((key, path)) => (key, Some(steps(path)?)),
        None => (rest, None),
    };
    Ok(KeyExpression { origin, key, path })
}

fn read_origin(text: &str) -> Result<Origin, KeyError> {
    let wrong = KeyError::Descriptor("its origin is not a fingerprint and a path");
    let mut parts = text.split('/');
    let fingerprint = parts.next().unwrap_or_default().to_ascii_lowercase();
    if fingerprint.len() != 8 || !fingerprint.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong);
    }
    let mut written = fingerprint;
    let mut path = Vec::new();
    for part in parts {
        let digits = part.strip_suffix(['h', 'H', '\'']);
        let number = number(digits.unwrap_or(part)).ok_or_else(|| wrong.clone())?;
        let mark = if digits.is_some() { "h" } else { "" };
        written = format!("{written}/{number}{mark}");
        path.push((number, digits.is_some()));
    }
    if path.len() > STEPS_MAX {
        return Err(wrong);
    }
    let coin_type = match path.as_slice() {
        [(44 | 49 | 84 | 86, true), (coin_type, true), ..] => Some(*coin_type),
        _ => None,
    };
    Ok(Origin { text: written, coin_type })
}

fn steps(path: &str) -> Result<Vec<u32>, KeyError> {
    let mut steps = Vec::new();
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        // Of several alternatives the first is the receiving chain.
        let alternatives = part.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
        let part = alternatives.map_or(part, |inner| inner.split(';').next().unwrap_or_default());
        if part.ends_with(['h', 'H', '\'']) {
            return Err(KeyError::Hardened);
        }
        match (part, last) {
            ("*", true) => return if steps.len() > STEPS_MAX { Err(TOO_LONG) } else { Ok(steps) },
            (step, false) => {
                steps.push(number(step).ok_or(KeyError::Descriptor("a step of its path is no number"))?);
            }
            (_, true) => break,
        }
    }
    Err(KeyError::Descriptor("its path must end in /*, as in /0/*"))
}

const TOO_LONG: KeyError = KeyError::Descriptor("its path is too long");

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|number| *number < 1 << 31)
}
