//! Leaves: many small rows in one value of sled, for rows that were written in bulk.
//!
//! sled keeps at most 16 rows on a page, however small they are, and each row has its price in time, in bytes and in
//! memory. A read model is mostly index rows of some forty bytes. So a large commit packs neighbours together; what
//! changes afterwards stands as a row of its own over the leaf, until the next large commit.
//!
//! A leaf is a checksum, how it is kept, then its rows in key order: how many bytes of the key before are kept, what
//! follows them, and the value; lengths as variable-length numbers. Kept plain or, where that is shorter, as LZ4:
//! neighbours share much, an order's texts and rules most of all.
//!
//! Not here: which leaf holds a key (`packed`).

use std::borrow::Cow;
use std::ops::Range;

use lz4_flex::block;

/// Bytes at which a leaf is closed, before compression.
pub(crate) const ROWS_BYTES: usize = 16 * 1024;
/// Bytes as which a leaf is kept, about.
const LEAF_BYTES: usize = 4 * 1024;
/// Bytes as which a leaf is kept at most, unless a single row has more.
const LEAF_BYTES_MAX: usize = 6 * 1024;
/// The largest key and value together that go into a leaf.
pub(crate) const ROW_BYTES_MAX: usize = 5 * 1024;
/// Bytes before the rows: the checksum, and how they are kept.
const HEAD_BYTES: usize = 5;

/// Rows as they are.
const PLAIN: u8 = 0;
/// Their length in four bytes, little-endian, then LZ4.
const LZ4: u8 = 1;

/// A row as it lies in a leaf.
pub(crate) type Row = (Vec<u8>, Vec<u8>);

/// Writes leaves one row after the other.
pub(crate) struct Writer {
    bytes_max: usize,
    /// Where a leaf of the present kind of row is closed, by what became of the one before.
    close_at: usize,
    first: Vec<u8>,
    last: Vec<u8>,
    bytes: Vec<u8>,
    /// Closed leaves.
    leaves: Vec<Row>,
    /// Room for a leaf in the making, compressed.
    room: Vec<u8>,
}

impl Writer {
    /// Leaves of at most so many bytes before compression.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            close_at: bytes_max,
            first: Vec::new(),
            last: Vec::new(),
            bytes: Vec::new(),
            leaves: Vec::new(),
            room: Vec::new(),
        }
    }

    /// The same for leaves of at most so many bytes, with nothing in it.
    pub(crate) fn limit(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.close_at = bytes_max;
        self.first.clear();
    }

    /// Adds a row, whose key comes after those before.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) {
        let other_kind = self.first.first() != key.first();
        if other_kind || self.bytes.len().saturating_add(key.len() + value.len()) > self.close_at {
            self.close();
        }
        if self.bytes.is_empty() {
            self.first.clear();
            self.first.extend_from_slice(key);
            self.last.clear();
        }
        if other_kind {
            self.close_at = self.bytes_max;
        }
        let kept = key.iter().zip(&self.last).take_while(|(new, old)| new == old).count();
        let rest = key.get(kept..).unwrap_or_default();
        for number in [kept, rest.len(), value.len()] {
            put_number(&mut self.bytes, number);
        }
        self.bytes.extend_from_slice(rest);
        self.bytes.extend_from_slice(value);
        self.last.truncate(kept);
        self.last.extend_from_slice(rest);
    }

    /// The leaves, each under its first key.
    pub(crate) fn finish(&mut self) -> Vec<Row> {
        self.close();
        std::mem::take(&mut self.leaves)
    }

    /// Closes the leaf in the making, if there is a row in it.
    fn close(&mut self) {
        if self.bytes.is_empty() {
            return;
        }
        let rows = std::mem::take(&mut self.bytes);
        let kept = keep(&self.first, &rows, &mut self.room);
        let fits = kept.len() <= LEAF_BYTES_MAX || rows.len() <= LEAF_BYTES_MAX;
        if kept.len() > LEAF_BYTES {
            let scaled = rows.len().saturating_mul(LEAF_BYTES).checked_div(kept.len());
            self.close_at = scaled.unwrap_or(LEAF_BYTES).max(LEAF_BYTES).min(self.bytes_max);
        }
        if fits {
            self.leaves.push((self.first.clone(), kept));
        } else {
            // What cannot be compressed that far goes into smaller ones.
            let mut smaller = Self::new(LEAF_BYTES);
            let mut reader = Reader::over(&rows);
            while let Some(value) = reader.step() {
                smaller.push(reader.key(), value);
            }
            self.leaves.extend(smaller.finish());
        }
        self.bytes = rows;
        self.bytes.clear();
    }
}

/// Rows as a leaf keeps them; `room` is for the work.
fn keep(first: &[u8], rows: &[u8], room: &mut Vec<u8>) -> Vec<u8> {
    room.resize(room.len().max(HEAD_BYTES + 4 + block::get_maximum_output_size(rows.len())), 0);
    let packed = room.get_mut(HEAD_BYTES + 4..).and_then(|to| block::compress_into(rows, to).ok());
    let mut leaf = Vec::new();
    match packed.filter(|packed| packed + packed / 16 + 4 < rows.len()) {
        Some(packed) => {
            let length = u32::try_from(rows.len()).unwrap_or(u32::MAX);
            leaf.extend_from_slice(room.get(..HEAD_BYTES + 4 + packed).unwrap_or_default());
            put(&mut leaf, HEAD_BYTES, &length.to_le_bytes());
            put(&mut leaf, HEAD_BYTES - 1, &[LZ4]);
        }
        None => {
            leaf.reserve_exact(HEAD_BYTES + rows.len());
            leaf.extend_from_slice(&[0; HEAD_BYTES]);
            leaf.extend_from_slice(rows);
            put(&mut leaf, HEAD_BYTES - 1, &[PLAIN]);
        }
    }
    let sum = checksum(first, leaf.get(4..).unwrap_or_default());
    put(&mut leaf, 0, &sum.to_be_bytes());
    leaf
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + what.len()) {
        place.copy_from_slice(what);
    }
}

/// The rows of a leaf as it was found under its first key; `None` where it is damaged.
pub(crate) fn open<'a>(first: &[u8], leaf: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let (sum, rest) = leaf.split_first_chunk::<4>()?;
    if checksum(first, rest) != u32::from_be_bytes(*sum) {
        return None;
    }
    match rest.split_first()? {
        (&PLAIN, rows) => Some(Cow::Borrowed(rows)),
        (&LZ4, rest) => {
            let (length, packed) = rest.split_first_chunk::<4>()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let mut rows = vec![0; length.min(2 * ROWS_BYTES)];
            let unpacked = block::decompress_into(packed, &mut rows).ok()?;
            (unpacked == length).then_some(Cow::Owned(rows))
        }
        _ => None,
    }
}

fn checksum(first: &[u8], rows: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(first);
    hasher.update(&[1]);
    hasher.update(rows);
    hasher.finalize()
}

fn put_number(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Reads a leaf's rows in key order.
pub(crate) struct Reader<'a> {
    key: Vec<u8>,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Over what [`open`] answered.
    pub(crate) fn over(rows: &'a [u8]) -> Self {
        Self { key: Vec::with_capacity(64), rest: rows }
    }

    fn number(&mut self) -> Option<usize> {
        let mut number = 0_usize;
        for shift in [0, 7, 14, 21] {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            number |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// Moves to the next row and answers its value; its key is at [`Self::key`].
    pub(crate) fn step(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let (kept, suffix, value) = (self.number()?, self.number()?, self.number()?);
        let (suffix, rest) = self.rest.split_at_checked(suffix)?;
        let (value, rest) = rest.split_at_checked(value)?;
        self.key.truncate(kept);
        self.key.extend_from_slice(suffix);
        self.rest = rest;
        Some(value)
    }

    /// The key of the row that [`Self::step`] answered.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The value of a key.
    pub(crate) fn find(mut self, key: &[u8]) -> Option<&'a [u8]> {
        while let Some(value) = self.step() {
            match self.key().cmp(key) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Some(value),
                std::cmp::Ordering::Greater => return None,
            }
        }
        None
    }

    /// All rows where they lie; their keys are put into `keys`, side by side.
    pub(crate) fn index(mut self, keys: &mut Vec<u8>) -> Vec<(Range<usize>, &'a [u8])> {
        let mut rows = Vec::new();
        while let Some(value) = self.step() {
            let start = keys.len();
            keys.extend_from_slice(self.key());
            rows.push((start..keys.len(), value));
        }
        rows
    }

    /// All rows.
    pub(crate) fn rows(mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        while let Some(value) = self.step() {
            rows.push((self.key().to_vec(), value.to_vec()));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves_of(rows: &[Row]) -> Vec<Row> {
        let mut writer = Writer::new(ROWS_BYTES);
        rows.iter().for_each(|(key, value)| writer.push(key, value));
        writer.finish()
    }

    /// Bytes that nothing compresses.
    fn noise(seed: u32, length: usize) -> Vec<u8> {
        let mut state = u64::from(seed) + 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let name = |n: u32| format!("{}{:05}/{}", if n < 600 { 'k' } else { 'l' }, n * 7, n % 3).into_bytes();
        let even = (0..1_000).map(|n: u32| (name(n), vec![n as u8; (n % 400) as usize])).collect();
        let noisy = (0..1_000).map(|n: u32| (name(n), noise(n, (n % 400) as usize))).collect();
        let large = (0..40).map(|n: u32| (name(n), noise(n, ROW_BYTES_MAX - 20 - n as usize))).collect();
        for (what, rows) in [("even", even), ("noisy", noisy), ("large", large)] as [(&str, Vec<Row>); 3] {
            let leaves = leaves_of(&rows);
            assert!(leaves.len() > 3, "{what}");
            let bytes = leaves.iter().map(|(_, leaf)| leaf.len()).max();
            assert!(bytes.is_some_and(|bytes| bytes <= LEAF_BYTES_MAX + HEAD_BYTES), "{what}: {bytes:?}");
            let open = |(first, leaf): &Row| open(first, leaf).unwrap().into_owned();
            let read: Vec<Row> = leaves.iter().flat_map(|leaf| Reader::over(&open(leaf)).rows()).collect();
            assert_eq!(read, rows, "{what}");
            for leaf in &leaves {
                let of_one_kind = |(key, _): &Row| key.first() == leaf.0.first();
                assert!(Reader::over(&open(leaf)).rows().iter().all(of_one_kind), "{what}");
                let find = |key: &[u8]| Reader::over(&open(leaf)).find(key).map(<[u8]>::to_vec);
                assert_eq!(find(&leaf.0).as_ref(), rows.iter().find(|row| row.0 == leaf.0).map(|row| &row.1));
                assert_eq!(find(b"k"), None);
                assert_eq!(find(b"z"), None);
            }
        }
    }

    #[test]
    fn rows_that_are_alike_take_less() {
        let rows: Vec<Row> = (0..100_u32).map(|n| (n.to_be_bytes().to_vec(), vec![b'a'; 300])).collect();
        let bytes: usize = leaves_of(&rows).iter().map(|(_, leaf)| leaf.len()).sum();
        assert!(bytes < 3_000, "{bytes}");
    }

    #[test]
    fn damage_is_noticed() {
        for value in [noise(1, 20), vec![7; 300]] {
            let (first, leaf) =
                leaves_of(&[(b"a".to_vec(), value.clone()), (b"a1".to_vec(), value)]).remove(0);
            for at in 0..leaf.len() {
                let mut bad = leaf.clone();
                bad[at] ^= 1;
                assert!(open(&first, &bad).is_none(), "byte {at}");
            }
            assert!(open(b"b", &leaf).is_none(), "under a wrong key");
        }
    }
}
