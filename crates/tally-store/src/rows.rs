//! How a row lies in sled: a checksum of our own, and large values in several pieces.
//!
//! sled writes a page that outgrows a quarter of a segment (128 KiB) to a file of its own, without fsync. A page
//! holds up to 17 rows, so no row may be larger than [`PIECE_BYTES`] and no value of ours is kept whole above that.

/// Bytes of a value in one row of sled.
const PIECE_BYTES: usize = 6 * 1024;

/// Rows proper: this and the key.
const ROW: u8 = b'r';
/// Further pieces of a value: this, the key, and the piece's number from 1.
const PIECE: u8 = b'p';
/// Leaves: this and their first key.
const LEAF: u8 = b'b';
/// In place of the number of pieces: the row was removed, and whatever a leaf has for its key does not count.
const REMOVED: u8 = u8::MAX;
/// Set while everything is being removed.
pub(crate) const CLEARING: &[u8] = b"c";

/// Bytes before a row's first piece: the checksum, and how many pieces follow.
pub(crate) const HEAD_BYTES: usize = 5;

/// The row of `key`.
pub(crate) fn row_key(key: &[u8]) -> Vec<u8> {
    [&[ROW], key].concat()
}

/// The end of all rows proper.
pub(crate) fn rows_end() -> Vec<u8> {
    vec![ROW + 1]
}

/// Where the leaf with this first key lies.
pub(crate) fn leaf_key(first: &[u8]) -> Vec<u8> {
    [&[LEAF], first].concat()
}

/// The first key of a leaf.
pub(crate) fn key_of_leaf(leaf: &[u8]) -> Option<&[u8]> {
    leaf.strip_prefix(&[LEAF])
}

/// The end of all leaves.
pub(crate) fn leaves_end() -> Vec<u8> {
    vec![LEAF + 1]
}

/// The prefix of all leaves.
pub(crate) const LEAVES: &[u8] = &[LEAF];

/// The caller's key of a row; `None` where it is none.
pub(crate) fn key_of_row(row: &[u8]) -> Option<&[u8]> {
    row.strip_prefix(&[ROW])
}

/// The `number`th further piece of the value of `key`. Two keys never share one: with the length, both its parts
/// are given.
pub(crate) fn piece_key(key: &[u8], number: u8) -> Vec<u8> {
    [&[PIECE], key, &[number]].concat()
}

/// The prefix of all further pieces.
pub(crate) const PIECES: &[u8] = &[PIECE];

/// The caller's key and the number of a further piece.
pub(crate) fn key_of_piece(piece: &[u8]) -> Option<(&[u8], u8)> {
    let (number, key) = piece.strip_prefix(&[PIECE])?.split_last()?;
    Some((key, *number))
}

/// A value as it is written.
pub(crate) struct Pieces {
    /// The row's own bytes.
    pub(crate) row: Vec<u8>,
    /// The pieces that follow, the first with number 1.
    pub(crate) further: Vec<Vec<u8>>,
}

/// Splits and sums a value of at most 64 KiB.
pub(crate) fn encode(key: &[u8], value: &[u8]) -> Pieces {
    let (first, rest) = value.split_at(value.len().min(PIECE_BYTES));
    let further: Vec<Vec<u8>> = rest.chunks(PIECE_BYTES).map(<[u8]>::to_vec).collect();
    let count = u8::try_from(further.len()).unwrap_or(u8::MAX);
    let mut row = Vec::with_capacity(HEAD_BYTES + first.len());
    row.extend(checksum(key, count, [first, rest]).to_be_bytes());
    row.push(count);
    row.extend(first);
    Pieces { row, further }
}

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its value is in the row itself.
    Whole,
    /// Its value has further pieces.
    Large,
    /// It says that there is no such row any more.
    Removed,
}

/// What a row is. One that is no row of ours is found out when its value is read.
pub(crate) fn kind(row: &[u8]) -> Kind {
    match row.get(HEAD_BYTES - 1) {
        Some(0) => Kind::Whole,
        Some(&REMOVED) => Kind::Removed,
        _ => Kind::Large,
    }
}

/// How many further pieces a row has; `None` where it is no row of ours.
pub(crate) fn further_pieces(row: &[u8]) -> Option<u8> {
    row.get(HEAD_BYTES - 1).copied()
}

/// What stands in a row's place once it is removed.
pub(crate) fn removed(key: &[u8]) -> Vec<u8> {
    let mut row = checksum(key, REMOVED, [&[], &[]]).to_be_bytes().to_vec();
    row.push(REMOVED);
    row
}

/// The value of a row with its further pieces in order; `None` where it is damaged.
pub(crate) fn decode(key: &[u8], row: &[u8], further: &[sled::IVec]) -> Option<Vec<u8>> {
    let (sum, rest) = row.split_first_chunk::<4>()?;
    let (count, first) = rest.split_first()?;
    let mut value = Vec::with_capacity(first.len() + further.len() * PIECE_BYTES);
    value.extend(first);
    for piece in further {
        value.extend_from_slice(piece);
    }
    (checksum(key, *count, [&value, &[]]) == u32::from_be_bytes(*sum)).then_some(value)
}

/// Covers the key as well: a sound value under a wrong key is damage.
fn checksum(key: &[u8], count: u8, value: [&[u8]; 2]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(&[0, count]);
    value.into_iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}
