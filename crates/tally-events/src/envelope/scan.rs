//! The envelope as we write it, read without a parser: the attributes in their order, none of them escaped.
//!
//! Whatever looks otherwise in the least is left to the parser, errors included. Not here: the data.

use std::str::from_utf8;

use memchr::memchr;

/// What stands in an envelope, as text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scanned<'a> {
    pub(super) id: &'a str,
    pub(super) kind: &'a str,
    pub(super) subject: &'a str,
    pub(super) time: &'a str,
    pub(super) version: u32,
    pub(super) min_reader: u32,
    pub(super) epoch: u64,
    /// The data, which need not even be JSON.
    pub(super) data: &'a str,
}

/// Reads the envelope of a fact that names no shard, no cause and no correlation; most are such.
pub(super) fn scan(json: &[u8]) -> Option<Scanned<'_>> {
    let rest = json.strip_prefix(b"{\"specversion\":\"1.0\",\"id\":\"")?;
    let (id, rest) = text(rest)?;
    let rest = rest.strip_prefix(b",\"source\":\"")?;
    let (_, rest) = text(rest)?;
    let rest = rest.strip_prefix(b",\"type\":\"")?;
    let (kind, rest) = text(rest)?;
    let rest = rest.strip_prefix(b",\"subject\":\"")?;
    let (subject, rest) = text(rest)?;
    let rest = rest.strip_prefix(b",\"time\":\"")?;
    let (time, rest) = text(rest)?;
    let (version, rest) = number(rest.strip_prefix(b",\"v\":")?)?;
    let (min_reader, rest) = number(rest.strip_prefix(b",\"min_reader\":")?)?;
    let (epoch, rest) = number(rest.strip_prefix(b",\"epoch\":")?)?;
    let data = rest.strip_prefix(b",\"data\":")?.strip_suffix(b"}")?;
    let data = from_utf8(data).ok()?;
    let (version, min_reader) = (u32::try_from(version).ok()?, u32::try_from(min_reader).ok()?);
    Some(Scanned { id, kind, subject, time, version, min_reader, epoch, data })
}

/// A text through its closing quote, of characters that JSON writes as they are.
fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (text, rest) = bytes.split_at_checked(memchr(b'"', bytes)?)?;
    // Without a branch for each, many are looked at in one step.
    let odd = text.iter().fold(false, |odd, byte| odd | !matches!(byte, b' '..=b'~') | (*byte == b'\\'));
    let text = (!odd).then(|| from_utf8(text).ok()).flatten()?;
    Some((text, rest.strip_prefix(b"\"")?))
}

/// A number as JSON has it: no sign, no zero in front.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit())?;
    let (digits, rest) = bytes.split_at_checked(end)?;
    if digits.is_empty() || digits.len() > 18 || (digits.len() > 1 && digits.starts_with(b"0")) {
        return None;
    }
    let number = digits.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Some((number, rest))
}
