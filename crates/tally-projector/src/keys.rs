//! The keys of the store's single keyspace: a letter for the kind of row, then what it is ordered by.
//!
//! Numbers are big-endian, so that keys sort as numbers do. Names of chains end with a zero byte, which none
//! of them contains; of digits in an order's id, two stand in a byte.
//!
//! Not here: values (`rows`).

use sha2::{Digest, Sha256};
use tally_events::{Place, Subject};
use tally_types::{
    ChainId, DepositKey, Fingerprint, Height, MerchantId, OrderId, Position, Script, Timestamp,
};

pub(crate) const VERSION: &[u8] = b"!version";
pub(crate) const CHECKPOINT: &[u8] = b"!checkpoint";

const AWAITING: u8 = b'a';
const BY_MERCHANT: u8 = b'b';
const CHAIN: u8 = b'c';
const DEPOSIT: u8 = b'd';
const BY_CREATION: u8 = b'e';
const KEY_COUNTER: u8 = b'f';
const MERCHANT: u8 = b'g';
const HEADER: u8 = b'h';
const DEADLINE: u8 = b'k';
const DELIVERY: u8 = b'l';
const COUNT: u8 = b'n';
const ORDER: u8 = b'o';
const CLOSED: u8 = b'q';
const SUBJECT: u8 = b's';
const THRESHOLD: u8 = b't';
const UNDELIVERED: u8 = b'u';
const FINALITY: u8 = b'y';
const REACHED: u8 = b'v';
const OWN_ID: u8 = b'w';
const SCRIPT: u8 = b'x';

/// Longer parts of a key stand there by their hash, since keys are bounded.
const PART_MAX: usize = 200;

/// How many positions share the rows of what was reached at them.
pub(crate) const REACHED_POSITIONS: u64 = 32;

/// Characters of a claim's digest, of five bits each, that stand in its key.
const DIGEST_CHARS: usize = 32;

/// Whether rows of this kind are read as ranges while facts are folded.
pub(crate) fn is_ordered(key: &[u8]) -> bool {
    key.first() == Some(&THRESHOLD)
}

/// A key under construction.
struct Key(Vec<u8>);

impl Key {
    fn of(kind: u8) -> Self {
        Self(vec![kind])
    }

    fn name(mut self, name: &str) -> Self {
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(0);
        self
    }

    fn order(mut self, order: &OrderId) -> Self {
        put_order(&mut self.0, order);
        self
    }

    fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        if bytes.len() <= PART_MAX {
            self.0.extend_from_slice(bytes);
        } else {
            self.0.push(0xff);
            self.0.extend_from_slice(&Sha256::digest(bytes));
        }
        self
    }

    fn done(self) -> Vec<u8> {
        self.0
    }
}

fn millis(at: Timestamp) -> u64 {
    at.millis().unsigned_abs()
}

/// The first key after all that begin with `prefix`.
pub(crate) fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    beyond()
}

/// What comes after all keys.
pub(crate) fn beyond() -> Vec<u8> {
    vec![0xff; 513]
}

/// The first key after `key`.
pub(crate) fn following(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}

pub(crate) fn order_part(order: &OrderId, part: u8) -> Vec<u8> {
    Key::of(ORDER).order(order).byte(part).done()
}

pub(crate) fn subject(subject: &Subject) -> Vec<u8> {
    Key::of(SUBJECT).bytes(subject.as_str().as_bytes()).done()
}

/// A chain, by the number of its shard.
pub(crate) fn chain(chain: &ChainId, shard: u32) -> Vec<u8> {
    Key::of(CHAIN).name(chain.as_str()).number(shard.into()).done()
}

pub(crate) fn header(chain: &ChainId, shard: u32, height: Height) -> Vec<u8> {
    Key::of(HEADER).name(chain.as_str()).number(shard.into()).number(height.get()).done()
}

/// All headers of a shard.
pub(crate) fn headers_of(chain: &ChainId, shard: u32) -> Vec<u8> {
    Key::of(HEADER).name(chain.as_str()).number(shard.into()).done()
}

pub(crate) fn script(chain: &ChainId, script: &Script) -> Vec<u8> {
    Key::of(SCRIPT).name(chain.as_str()).bytes(script.as_bytes()).done()
}

pub(crate) fn deposit(chain: &ChainId, deposit: &DepositKey) -> Vec<u8> {
    let key = Key::of(DEPOSIT).name(chain.as_str());
    key.bytes(deposit.txid.display_bytes()).bytes(deposit.slot.as_bytes()).done()
}

/// A merchant's own id, by the subject of its claim: 160 bits of the digest, then whose it is.
pub(crate) fn own_id(claim: &Subject) -> Vec<u8> {
    let (whose, digest) = claim.as_str().rsplit_once('.').unwrap_or(("", claim.as_str()));
    let digest = digest.get(..DIGEST_CHARS).unwrap_or(digest);
    let whose = whose.strip_prefix("tally.v1.claim.").unwrap_or(whose);
    Key::of(OWN_ID).bytes(digest.as_bytes()).bytes(whose.as_bytes()).done()
}

pub(crate) fn merchant(merchant: MerchantId) -> Vec<u8> {
    Key::of(MERCHANT).number(merchant.get()).done()
}

pub(crate) fn merchants() -> Vec<u8> {
    vec![MERCHANT]
}

pub(crate) fn key_counter(key: &Fingerprint) -> Vec<u8> {
    Key::of(KEY_COUNTER).name(key.as_str()).done()
}

pub(crate) fn count(name: &str) -> Vec<u8> {
    Key::of(COUNT).name(name).done()
}

pub(crate) fn awaiting(order: &OrderId) -> Vec<u8> {
    Key::of(AWAITING).order(order).done()
}

pub(crate) fn all_awaiting() -> Vec<u8> {
    vec![AWAITING]
}

pub(crate) fn by_merchant(merchant: MerchantId, created: Timestamp, order: &OrderId) -> Vec<u8> {
    Key::of(BY_MERCHANT).number(merchant.get()).number(millis(created)).order(order).done()
}

pub(crate) fn of_merchant(merchant: MerchantId) -> Vec<u8> {
    Key::of(BY_MERCHANT).number(merchant.get()).done()
}

pub(crate) fn by_creation(created: Timestamp, order: &OrderId) -> Vec<u8> {
    Key::of(BY_CREATION).number(millis(created)).order(order).done()
}

pub(crate) fn all_by_creation() -> Vec<u8> {
    vec![BY_CREATION]
}

/// A threshold stands under its script's place, which no change of the number of shards moves.
pub(crate) fn threshold(chain: &ChainId, height: Height, place: Place, order: &OrderId) -> Vec<u8> {
    let key = Key::of(THRESHOLD).name(chain.as_str()).number(height.get());
    key.number(place.get()).order(order).done()
}

/// Thresholds at a height, of every order.
pub(crate) fn thresholds_at(chain: &ChainId, height: Height) -> Vec<u8> {
    Key::of(THRESHOLD).name(chain.as_str()).number(height.get()).done()
}

/// A height whose becoming final an order waits for.
pub(crate) fn finality(chain: &ChainId, height: Height, place: Place, order: &OrderId) -> Vec<u8> {
    let key = Key::of(FINALITY).name(chain.as_str()).number(height.get());
    key.number(place.get()).order(order).done()
}

/// What waits for a height to become final, of every order.
pub(crate) fn finality_at(chain: &ChainId, height: Height) -> Vec<u8> {
    Key::of(FINALITY).name(chain.as_str()).number(height.get()).done()
}

pub(crate) fn deadline(at: Timestamp, kind: u8, order: &OrderId) -> Vec<u8> {
    Key::of(DEADLINE).number(millis(at)).byte(kind).order(order).done()
}

/// Every deadline before `end`, as bounds.
pub(crate) fn deadlines_until(end: Timestamp) -> (Vec<u8>, Vec<u8>) {
    (vec![DEADLINE], Key::of(DEADLINE).number(millis(end).saturating_add(1)).done())
}

/// An order that nothing more is to happen to, by its last change.
pub(crate) fn closed(at: Timestamp, order: &OrderId) -> Vec<u8> {
    Key::of(CLOSED).number(millis(at)).order(order).done()
}

/// Every order closed by `end`, as bounds.
pub(crate) fn closed_until(end: Timestamp) -> (Vec<u8>, Vec<u8>) {
    (vec![CLOSED], Key::of(CLOSED).number(millis(end).saturating_add(1)).done())
}

pub(crate) fn delivery(order: &OrderId, endpoint: &str) -> Vec<u8> {
    Key::of(DELIVERY).order(order).bytes(endpoint.as_bytes()).done()
}

/// All endpoints of an order.
pub(crate) fn deliveries_of(order: &OrderId) -> Vec<u8> {
    Key::of(DELIVERY).order(order).done()
}

pub(crate) fn undelivered(partition: u8, due: Timestamp, order: &OrderId, endpoint: &str) -> Vec<u8> {
    let key = Key::of(UNDELIVERED).byte(partition).number(millis(due)).order(order);
    key.bytes(endpoint.as_bytes()).done()
}

/// What a partition has to deliver by `end`, as bounds.
pub(crate) fn undelivered_until(partition: u8, end: Timestamp) -> (Vec<u8>, Vec<u8>) {
    let from = Key::of(UNDELIVERED).byte(partition);
    let to = Key::of(UNDELIVERED).byte(partition).number(millis(end).saturating_add(1));
    (from.done(), to.done())
}

/// The row of so many positions that versions reached at one of them stand in, and which of several such rows.
pub(crate) fn reached(position: Position, row: u32) -> Vec<u8> {
    Key::of(REACHED).number(position.get() / REACHED_POSITIONS).number(row.into()).done()
}

/// Every row that versions reached at a position may stand in, as bounds.
pub(crate) fn reached_at(position: Position) -> (Vec<u8>, Vec<u8>) {
    let rows = Key::of(REACHED).number(position.get() / REACHED_POSITIONS).done();
    let end = after(&rows);
    (rows, end)
}

/// The rows of what was reached after a position, as bounds; the first may begin with what was reached before.
pub(crate) fn reached_after(position: Position) -> (Vec<u8>, Vec<u8>) {
    (reached_at(position.next()).0, after(&[REACHED]))
}

/// Marks an order id that is not of digits alone: it stands there as it is, up to a zero byte.
const AS_TEXT: u8 = u8::MAX;

/// Writes an order's id so that one knows where it ends: most are of digits alone, and two of those fit a byte.
pub(crate) fn put_order(bytes: &mut Vec<u8>, order: &OrderId) {
    let text = order.as_str().as_bytes();
    match u8::try_from(text.len()) {
        Ok(length) if length < AS_TEXT && text.iter().all(u8::is_ascii_digit) => {
            bytes.push(length);
            let digit = |at: Option<&u8>| at.map_or(0, |digit| digit - b'0');
            bytes.extend(text.chunks(2).map(|two| (digit(two.first()) << 4) | digit(two.get(1))));
        }
        _ => {
            bytes.push(AS_TEXT);
            bytes.extend_from_slice(text);
            bytes.push(0);
        }
    }
}

/// Reads what [`put_order`] wrote; answers what follows it as well.
pub(crate) fn read_order(bytes: &[u8]) -> Option<(OrderId, &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    if length == AS_TEXT {
        let end = rest.iter().position(|byte| *byte == 0)?;
        let order = std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()?;
        return Some((order, rest.get(end.checked_add(1)?..)?));
    }
    let length = usize::from(length);
    let (packed, rest) = rest.split_at_checked(length.div_ceil(2))?;
    let mut text = String::with_capacity(length.saturating_add(1));
    for byte in packed {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(digit.min(9) + b'0'));
        }
    }
    text.truncate(length);
    Some((text.parse().ok()?, rest))
}

/// The order id that begins at `at`.
pub(crate) fn order_at(key: &[u8], at: usize) -> Option<OrderId> {
    read_order(key.get(at..)?).map(|(order, _)| order)
}

/// The big-endian number at `at`.
pub(crate) fn number_at(key: &[u8], at: usize) -> Option<u64> {
    let bytes = key.get(at..at.checked_add(8)?)?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_were_written() {
        for id in ["20181006113100525110123456", "2018100611310052511012345", "ord_0198c7", "7", "00"] {
            let Ok(order) = id.parse::<OrderId>() else { continue };
            let mut bytes = Vec::new();
            put_order(&mut bytes, &order);
            for cut in 0..bytes.len() {
                assert!(read_order(&bytes[..cut]).is_none(), "{id} cut at {cut}");
            }
            bytes.push(9);
            assert_eq!(read_order(&bytes), Some((order, &[9][..])), "{id}");
        }
    }
}
