//! Which keys were ever written: a fold that began with an empty store need not look for those that never were.
//!
//! A Bloom filter whose bits for a key lie in one line of the processor's cache. It is of a fixed size: where far
//! more keys are written than it is meant for, it says "perhaps" of more and more, and those are looked for.
//!
//! Not here: the rows (`overlay`).

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

/// Words in one block: 64 bytes.
const BLOCK_WORDS: usize = 8;
/// 16 MiB: about one in a hundred is looked for in vain at ten million keys.
const BLOCKS: usize = 1 << 18;
/// Bits set for a key.
const PROBES: u32 = 6;

/// Keys, each "never" or "perhaps".
pub(crate) struct Filter {
    blocks: Vec<[u64; BLOCK_WORDS]>,
    hasher: DefaultHashBuilder,
}

impl Filter {
    /// None at all.
    pub(crate) fn new() -> Self {
        Self { blocks: vec![[0; BLOCK_WORDS]; BLOCKS], hasher: DefaultHashBuilder::default() }
    }

    /// The key's block, and its bits there.
    fn place(&self, key: &[u8]) -> (usize, [u64; BLOCK_WORDS]) {
        let hash = self.hasher.hash_one(key);
        let block = (hash >> 46) as usize % BLOCKS;
        let mut bits = [0; BLOCK_WORDS];
        for probe in 0..PROBES {
            let bit = (hash >> (probe * 7)) & 0x1ff;
            if let Some(word) = bits.get_mut((bit >> 6) as usize) {
                *word |= 1_u64 << (bit & 63);
            }
        }
        (block, bits)
    }

    /// Adds a key.
    pub(crate) fn add(&mut self, key: &[u8]) {
        let (block, bits) = self.place(key);
        if let Some(words) = self.blocks.get_mut(block) {
            words.iter_mut().zip(bits).for_each(|(word, bits)| *word |= bits);
        }
    }

    /// False only where the key was never added.
    pub(crate) fn may_have(&self, key: &[u8]) -> bool {
        let (block, bits) = self.place(key);
        self.blocks
            .get(block)
            .is_none_or(|words| words.iter().zip(bits).all(|(word, bits)| word & bits == bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_never_denied_and_little_else_is_taken_for_it() {
        let mut filter = Filter::new();
        let key = |number: u32| format!("o2025{number}");
        (0..200_000).for_each(|number| filter.add(key(number).as_bytes()));
        assert!((0..200_000).all(|number| filter.may_have(key(number).as_bytes())));
        let wrong = (200_000..300_000).filter(|number| filter.may_have(key(*number).as_bytes())).count();
        assert!(wrong < 500, "{wrong} of 100,000");
    }
}
