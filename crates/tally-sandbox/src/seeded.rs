//! Numbers that look random and are the same for the same seed (SplitMix64). Anybody can guess them.

/// A sequence of numbers from a seed.
#[derive(Debug, Clone)]
pub(crate) struct Seeded(u64);

impl Seeded {
    /// The sequence of `seed`, another one for each `label`.
    pub(crate) fn new(seed: u64, label: &str) -> Self {
        let mut state = seed;
        for byte in label.bytes() {
            state = mix(state ^ u64::from(byte));
        }
        Self(state)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// The next 32 bytes.
    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes());
        }
        bytes
    }

    /// Heads or tails.
    pub(crate) fn coin_toss(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::Seeded;

    #[test]
    fn a_seed_and_a_label_name_one_sequence() {
        let first = |seed, label| Seeded::new(seed, label).bytes();
        assert_eq!(first(1, "btc"), first(1, "btc"));
        assert_ne!(first(1, "btc"), first(2, "btc"));
        assert_ne!(first(1, "btc"), first(1, "bch"));
        let mut seeded = Seeded::new(7, "");
        assert!((0..64).any(|_| seeded.coin_toss()));
    }
}
