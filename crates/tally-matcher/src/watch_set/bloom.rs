//! A bloom filter whose every key lives in one line of 32 bytes, so that a lookup costs at most one
//! cache miss: four bits, one in each word of the line. At sixteen bits a key about one foreign key
//! in 250 passes.

use super::pages::Pages;
use super::prefetch::prefetch;

const BITS_PER_KEY: usize = 16;
const LINE_BYTES: usize = 32;
const BITS_PER_LINE: usize = 8 * LINE_BYTES;

#[derive(Debug)]
pub(super) struct Bloom {
    pages: Pages,
    lines: usize,
    capacity: usize,
    inserted: usize,
}

impl Bloom {
    pub(super) fn with_capacity(keys: usize) -> Self {
        let lines = keys.saturating_mul(BITS_PER_KEY).div_ceil(BITS_PER_LINE).max(1);
        let pages = Pages::zeroed(lines.saturating_mul(LINE_BYTES));
        Self { pages, lines, capacity: keys, inserted: 0 }
    }

    /// Number of keys that it was made for.
    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether more keys were inserted than it was made for, which dulls it.
    pub(super) const fn is_overfull(&self) -> bool {
        self.inserted > self.capacity
    }

    pub(super) fn insert(&mut self, key: u64) {
        let index = line_of(key, self.lines);
        let (lines, _) = self.pages.bytes_mut().as_chunks_mut::<LINE_BYTES>();
        if let Some(line) = lines.get_mut(index) {
            let (words, _) = line.as_chunks_mut::<8>();
            for (word, bit) in words.iter_mut().zip(bits_of(key)) {
                *word = (u64::from_le_bytes(*word) | (1 << bit)).to_le_bytes();
            }
        }
        self.inserted = self.inserted.saturating_add(1);
    }

    /// To look up many keys.
    pub(super) fn view(&self) -> View<'_> {
        let (lines, _) = self.pages.bytes().as_chunks::<LINE_BYTES>();
        View { lines: lines.get(..self.lines).unwrap_or_default() }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.pages.memory_bytes()
    }
}

/// The filter as the hot path has it: a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'b> {
    lines: &'b [[u8; LINE_BYTES]],
}

impl View<'_> {
    #[cfg(test)]
    pub(crate) const fn line_count(self) -> usize {
        self.lines.len()
    }

    /// Has the line that [`View::may_contain`] reads fetched into the cache.
    #[inline(always)]
    pub(crate) fn prefetch(self, key: u64) {
        if let Some(line) = self.lines.get(line_of(key, self.lines.len())) {
            prefetch(line);
        }
    }

    /// Whether the item with this key may be held; `false` is certain.
    #[inline(always)]
    pub(crate) fn may_contain(self, key: u64) -> bool {
        let Some(line) = self.lines.get(line_of(key, self.lines.len())) else { return false };
        let (words, _) = line.as_chunks::<8>();
        // No branch for each bit: that none is foretold costs more than to read all four.
        let both = words
            .iter()
            .zip(bits_of(key))
            .fold(1, |all, (word, bit)| all & (u64::from_le_bytes(*word) >> bit));
        both & 1 == 1
    }
}

/// The upper half of the key, scaled to the number of lines.
#[inline(always)]
const fn line_of(key: u64, lines: usize) -> usize {
    // No product overflows below 2^32 lines, which are 128 GiB.
    ((key >> 32).wrapping_mul(lines as u64) >> 32) as usize
}

/// The lowest 24 bits of the key: a bit of each word.
#[inline(always)]
const fn bits_of(key: u64) -> [u64; 4] {
    [key & 63, (key >> 6) & 63, (key >> 12) & 63, (key >> 18) & 63]
}
