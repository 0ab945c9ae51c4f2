//! The keys of the store's single keyspace: a letter for the kind of row, then what it is ordered by.
//!
//! Numbers are big-endian, so that keys sort as numbers do. Names of chains end with a zero byte, which none
//! of them contains; of digits in an order's id, two stand in a byte.
//!
//! Not here: values (`rows`).

use std::ops::Deref;

use sha2::{Digest, Sha256};
use smallvec::{SmallVec, smallvec};
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
    matches!(key.first(), Some(&(THRESHOLD | FINALITY)))
}

/// Set while a store is filled in bulk: until it is whole it is no read model, and is filled anew.
pub(crate) const UNFINISHED: &[u8] = b"!unfinished";

/// Kinds of rows that come in no order: the neighbours of each were written at any other time.
const SCATTERED: [u8; 3] = [OWN_ID, SCRIPT, DEPOSIT];

/// Whether it is a row of such a kind.
pub(crate) fn is_scattered(key: &[u8]) -> bool {
    key.first().is_some_and(|kind| SCATTERED.contains(kind))
}

/// Whether a row of such a kind may be in a range.
pub(crate) fn has_scattered(from: &[u8], to: &[u8]) -> bool {
    SCATTERED.iter().any(|kind| from.first() <= Some(kind) && to.first() >= Some(kind))
}

/// A key: where it has no more than 64 bytes, as nearly all do, it needs no memory of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(SmallVec<[u8; 64]>);

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl Key {
    fn of(kind: u8) -> Self {
        Self(smallvec![kind])
    }

    fn name(mut self, name: &str) -> Self {
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(0);
        self
    }

    fn order(mut self, order: &OrderId) -> Self {
        self.0.extend_from_slice(&PackedOrder::of(order));
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
}

fn millis(at: Timestamp) -> u64 {
    at.millis().unsigned_abs()
}

/// The first key after all that begin with `prefix`.
pub(crate) fn after(prefix: &[u8]) -> Key {
    let mut end: SmallVec<[u8; 64]> = SmallVec::from_slice(prefix);
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Key(end);
        }
    }
    beyond()
}

/// What comes after all keys.
pub(crate) fn beyond() -> Key {
    Key(smallvec![0xff; 513])
}

/// The first key after `key`.
pub(crate) fn following(key: &[u8]) -> Key {
    let mut next = Key(SmallVec::from_slice(key));
    next.0.push(0);
    next
}

pub(crate) fn order_part(order: &OrderId, part: u8) -> Key {
    Key::of(ORDER).order(order).byte(part)
}

pub(crate) fn subject(subject: &Subject) -> Key {
    Key::of(SUBJECT).bytes(subject.as_str().as_bytes())
}

/// A chain, by the number of its shard.
pub(crate) fn chain(chain: &ChainId, shard: u32) -> Key {
    Key::of(CHAIN).name(chain.as_str()).number(shard.into())
}

pub(crate) fn header(chain: &ChainId, shard: u32, height: Height) -> Key {
    Key::of(HEADER).name(chain.as_str()).number(shard.into()).number(height.get())
}

/// All headers of a shard.
pub(crate) fn headers_of(chain: &ChainId, shard: u32) -> Key {
    Key::of(HEADER).name(chain.as_str()).number(shard.into())
}

pub(crate) fn script(chain: &ChainId, script: &Script) -> Key {
    Key::of(SCRIPT).name(chain.as_str()).bytes(script.as_bytes())
}

pub(crate) fn deposit(chain: &ChainId, deposit: &DepositKey) -> Key {
    let key = Key::of(DEPOSIT).name(chain.as_str());
    key.bytes(deposit.txid.display_bytes()).bytes(deposit.slot.as_bytes())
}

/// A merchant's own id, by the subject of its claim: 160 bits of the digest, then whose it is.
pub(crate) fn own_id(claim: &Subject) -> Key {
    let (whose, digest) = claim.as_str().rsplit_once('.').unwrap_or(("", claim.as_str()));
    let digest = digest.get(..DIGEST_CHARS).unwrap_or(digest);
    let whose = whose.strip_prefix("tally.v1.claim.").unwrap_or(whose);
    Key::of(OWN_ID).bytes(digest.as_bytes()).bytes(whose.as_bytes())
}

pub(crate) fn merchant(merchant: MerchantId) -> Key {
    Key::of(MERCHANT).number(merchant.get())
}

pub(crate) fn merchants() -> Key {
    Key::of(MERCHANT)
}

pub(crate) fn key_counter(key: &Fingerprint) -> Key {
    Key::of(KEY_COUNTER).name(key.as_str())
}

pub(crate) fn count(name: &str) -> Key {
    Key::of(COUNT).name(name)
}

pub(crate) fn awaiting(order: &OrderId) -> Key {
    Key::of(AWAITING).order(order)
}

pub(crate) fn all_awaiting() -> Key {
    Key::of(AWAITING)
}

pub(crate) fn by_merchant(merchant: MerchantId, created: Timestamp, order: &OrderId) -> Key {
    Key::of(BY_MERCHANT).number(merchant.get()).number(millis(created)).order(order)
}

pub(crate) fn of_merchant(merchant: MerchantId) -> Key {
    Key::of(BY_MERCHANT).number(merchant.get())
}

pub(crate) fn by_creation(created: Timestamp, order: &OrderId) -> Key {
    Key::of(BY_CREATION).number(millis(created)).order(order)
}

pub(crate) fn all_by_creation() -> Key {
    Key::of(BY_CREATION)
}

/// A threshold stands under its script's place, which no change of the number of shards moves.
pub(crate) fn threshold(chain: &ChainId, height: Height, place: Place, order: &OrderId) -> Key {
    let key = Key::of(THRESHOLD).name(chain.as_str()).number(height.get());
    key.number(place.get()).order(order)
}

/// Thresholds at a height, of every order.
pub(crate) fn thresholds_at(chain: &ChainId, height: Height) -> Key {
    Key::of(THRESHOLD).name(chain.as_str()).number(height.get())
}

/// A height whose becoming final an order waits for.
pub(crate) fn finality(chain: &ChainId, height: Height, place: Place, order: &OrderId) -> Key {
    let key = Key::of(FINALITY).name(chain.as_str()).number(height.get());
    key.number(place.get()).order(order)
}

/// What waits for a height to become final, of every order.
pub(crate) fn finality_at(chain: &ChainId, height: Height) -> Key {
    Key::of(FINALITY).name(chain.as_str()).number(height.get())
}

pub(crate) fn deadline(at: Timestamp, kind: u8, order: &OrderId) -> Key {
    Key::of(DEADLINE).number(millis(at)).byte(kind).order(order)
}

/// Every deadline before `end`, as bounds.
pub(crate) fn deadlines_until(end: Timestamp) -> (Key, Key) {
    (Key::of(DEADLINE), Key::of(DEADLINE).number(millis(end).saturating_add(1)))
}

/// An order that nothing more is to happen to, by its last change.
pub(crate) fn closed(at: Timestamp, order: &OrderId) -> Key {
    Key::of(CLOSED).number(millis(at)).order(order)
}

/// Every order closed by `end`, as bounds.
pub(crate) fn closed_until(end: Timestamp) -> (Key, Key) {
    (Key::of(CLOSED), Key::of(CLOSED).number(millis(end).saturating_add(1)))
}

pub(crate) fn delivery(order: &OrderId, endpoint: &str) -> Key {
    Key::of(DELIVERY).order(order).bytes(endpoint.as_bytes())
}

/// All endpoints of an order.
pub(crate) fn deliveries_of(order: &OrderId) -> Key {
    Key::of(DELIVERY).order(order)
}

pub(crate) fn undelivered(partition: u8, due: Timestamp, order: &OrderId, endpoint: &str) -> Key {
    let key = Key::of(UNDELIVERED).byte(partition).number(millis(due)).order(order);
    key.bytes(endpoint.as_bytes())
}

/// What a partition has to deliver by `end`, as bounds.
pub(crate) fn undelivered_until(partition: u8, end: Timestamp) -> (Key, Key) {
    let from = Key::of(UNDELIVERED).byte(partition);
    let to = Key::of(UNDELIVERED).byte(partition).number(millis(end).saturating_add(1));
    (from, to)
}

/// The row of so many positions that versions reached at one of them stand in, and which of several such rows.
pub(crate) fn reached(position: Position, row: u32) -> Key {
    Key::of(REACHED).number(position.get() / REACHED_POSITIONS).number(row.into())
}

/// Every row that versions reached at a position may stand in, as bounds.
pub(crate) fn reached_at(position: Position) -> (Key, Key) {
    let rows = Key::of(REACHED).number(position.get() / REACHED_POSITIONS);
    let end = after(&rows);
    (rows, end)
}

/// The rows of what was reached after a position, as bounds; the first may begin with what was reached before.
pub(crate) fn reached_after(position: Position) -> (Key, Key) {
    (reached_at(position.next()).0, after(&[REACHED]))
}

/// Digits an order's id has at most.
const ORDER_DIGITS_MAX: usize = 40;

/// An order's id with its length before it, so that one knows where it ends; of its digits, two stand in a byte.
pub(crate) struct PackedOrder {
    bytes: [u8; 1 + ORDER_DIGITS_MAX / 2],
    length: usize,
}

impl PackedOrder {
    pub(crate) fn of(order: &OrderId) -> Self {
        let digits = order.as_str().as_bytes();
        let mut bytes = [0; 1 + ORDER_DIGITS_MAX / 2];
        let [first, packed @ ..] = &mut bytes;
        *first = digits.len() as u8;
        for (byte, two) in packed.iter_mut().zip(digits.chunks(2)) {
            *byte = match two {
                [one, other] => ((one & 15) << 4) | (other & 15),
                [one] => (one & 15) << 4,
                _ => 0,
            };
        }
        Self { bytes, length: 1 + digits.len().min(ORDER_DIGITS_MAX).div_ceil(2) }
    }
}

impl Deref for PackedOrder {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Reads a [`PackedOrder`]; answers what follows it as well.
pub(crate) fn read_order(bytes: &[u8]) -> Option<(OrderId, &[u8])> {
    let (&length, rest) = bytes.split_first()?;
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
        let longest = "1234567890".repeat(4);
        for id in ["20181006113100525110123456", "2018100611310052511012345", "7", "00", &longest] {
            let order: OrderId = id.parse().unwrap();
            let mut bytes = PackedOrder::of(&order).to_vec();
            for cut in 0..bytes.len() {
                assert!(read_order(&bytes[..cut]).is_none(), "{id} cut at {cut}");
            }
            bytes.push(9);
            assert_eq!(read_order(&bytes), Some((order, &[9][..])), "{id}");
        }
    }
}
