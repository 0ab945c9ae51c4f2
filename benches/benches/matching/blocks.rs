//! Blocks for the matching bench, made from a seed: well-formed for every parser, their signatures and ids
//! random bytes. What is planted in them is watched; all the rest is nobody's.

/// Outputs that pay a watched script, and inputs that spend a watched outpoint, in each block.
pub(crate) const PLANTED: usize = 10;

/// SplitMix64: small, fast, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for word in bytes.chunks_mut(8) {
            word.copy_from_slice(&self.next().to_le_bytes()[..word.len()]);
        }
        bytes
    }
}

/// How scripts, witnesses and counts are drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// 4,000 transactions, every script P2WPKH.
    P2wpkh,
    /// As many, of all script types, old and new inputs.
    Mixed,
    /// As a busy day's: mostly one or two inputs and outputs, some batches, some data in witnesses.
    RealShaped,
}

/// The `n`-th watched script. The types go round unless all are P2WPKH.
pub(crate) fn watched_script(shape: Shape, n: u64) -> Vec<u8> {
    let mut random = Random(n.wrapping_mul(0x51_7cc1_b727_220a).wrapping_add(7));
    let kind = if shape == Shape::P2wpkh { 0 } else { n % 5 };
    script(kind, &mut random)
}

/// The `n`-th watched outpoint: its 36 bytes.
pub(crate) fn watched_outpoint(n: u64) -> [u8; 36] {
    let mut outpoint: [u8; 36] = Random(n ^ 0xbad_decaf).bytes();
    outpoint[32..].copy_from_slice(&(n as u32 % 4).to_le_bytes());
    outpoint
}

fn script(kind: u64, random: &mut Random) -> Vec<u8> {
    let short: [u8; 20] = random.bytes();
    let long: [u8; 32] = random.bytes();
    match kind {
        0 => [&[0x00, 0x14], &short[..]].concat(),
        1 => [&[0x76, 0xa9, 0x14], &short[..], &[0x88, 0xac]].concat(),
        2 => [&[0xa9, 0x14], &short[..], &[0x87]].concat(),
        3 => [&[0x51, 0x20], &long[..]].concat(),
        4 => [&[0x00, 0x20], &long[..]].concat(),
        5 => [&[0x6a, 0x20], &long[..]].concat(),
        _ => [&[0x21, 0x02], &long[..], &[0xac]].concat(),
    }
}

/// One block. `entries` and `outpoints` are how many scripts and outpoints are watched: the planted ones
/// are among the first of them and so in every larger set too.
pub(crate) fn block(shape: Shape, number: u64, entries: u64, outpoints: u64) -> Vec<u8> {
    let mut maker =
        Maker { random: Random(0xb10c ^ (number << 20)), bytes: Vec::with_capacity(2 << 20), shape };
    let count: u64 = if shape == Shape::RealShaped { 3_200 } else { 4_000 };
    maker.bytes.extend(maker.random.bytes::<80>());
    maker.size(count);
    maker.coinbase();
    let plant_every = count / PLANTED as u64;
    for index in 1..count {
        let plant = (index % plant_every == 1).then(|| {
            let mut pick = Random(number << 32 | index);
            (watched_script(shape, pick.below(entries)), watched_outpoint(pick.below(outpoints)))
        });
        maker.transaction(plant);
    }
    maker.bytes
}

struct Maker {
    random: Random,
    bytes: Vec<u8>,
    shape: Shape,
}

impl Maker {
    fn size(&mut self, n: u64) {
        match n {
            0..0xfd => self.bytes.push(n as u8),
            0xfd..0x1_0000 => {
                self.bytes.push(0xfd);
                self.bytes.extend((n as u16).to_le_bytes());
            }
            _ => {
                self.bytes.push(0xfe);
                self.bytes.extend((n as u32).to_le_bytes());
            }
        }
    }

    fn sized(&mut self, bytes: &[u8]) {
        self.size(bytes.len() as u64);
        self.bytes.extend(bytes);
    }

    fn coinbase(&mut self) {
        self.bytes.extend([2, 0, 0, 0, 0, 1, 1]);
        self.bytes.extend([0; 32]);
        self.bytes.extend([0xff; 4]);
        self.sized(&[0x51; 40]);
        self.bytes.extend([0xff; 4]);
        self.size(1);
        self.output(None);
        self.bytes.extend([1, 32]);
        self.bytes.extend([0; 36]);
    }

    /// Inputs and outputs: about three and two and a half on average.
    fn counts(&mut self) -> (u64, u64) {
        if self.shape != Shape::RealShaped {
            return (1 + self.random.below(5), 1 + self.random.below(4));
        }
        match self.random.below(100) {
            0..45 => (1, 2),
            45..60 => (1, 1),
            60..75 => (2, 2),
            75..90 => (2 + self.random.below(6), 1 + self.random.below(3)),
            90..96 => (1 + self.random.below(3), 3 + self.random.below(12)),
            96..98 => (1, 20 + self.random.below(180)),
            98 => (20 + self.random.below(60), 1),
            _ => (1 + self.random.below(20), 1 + self.random.below(20)),
        }
    }

    fn transaction(&mut self, plant: Option<(Vec<u8>, [u8; 36])>) {
        let (inputs, outputs) = self.counts();
        let kinds: Vec<u64> = (0..inputs).map(|_| self.input_kind()).collect();
        let has_witness = kinds.iter().any(|kind| *kind != 1);
        self.bytes.extend([2, 0, 0, 0]);
        if has_witness {
            self.bytes.extend([0, 1]);
        }
        self.size(inputs);
        let at = self.random.below(inputs);
        for (index, kind) in (0..).zip(&kinds) {
            self.input(*kind, plant.as_ref().filter(|_| index == at).map(|(_, outpoint)| *outpoint));
        }
        self.size(outputs);
        let at = self.random.below(outputs);
        for index in 0..outputs {
            self.output(plant.as_ref().filter(|_| index == at).map(|(script, _)| script.clone()));
        }
        if has_witness {
            kinds.iter().for_each(|kind| self.witness(*kind));
        }
        self.bytes.extend([0; 4]);
    }

    /// 0 P2WPKH, 1 P2PKH, 2 P2SH-P2WPKH, 3 P2TR by key, 4 P2WSH two of three, 5 P2TR with data.
    fn input_kind(&mut self) -> u64 {
        match (self.shape, self.random.below(100)) {
            (Shape::P2wpkh, _) | (_, 0..45) => 0,
            (_, 45..60) => 1,
            (_, 60..70) => 2,
            (_, 70..90) => 3,
            (Shape::RealShaped, 97..) => 5,
            _ => 4,
        }
    }

    fn input(&mut self, kind: u64, outpoint: Option<[u8; 36]>) {
        let outpoint = outpoint.unwrap_or_else(|| {
            let mut outpoint: [u8; 36] = self.random.bytes();
            outpoint[33..].fill(0);
            outpoint[32] %= 4;
            outpoint
        });
        self.bytes.extend(outpoint);
        match kind {
            1 => {
                let script =
                    [&[0x47][..], &self.random.bytes::<71>(), &[0x21], &self.random.bytes::<33>()].concat();
                self.sized(&script);
            }
            2 => {
                let script = [&[0x16, 0x00, 0x14], &self.random.bytes::<20>()[..]].concat();
                self.sized(&script);
            }
            _ => self.bytes.push(0),
        }
        self.bytes.extend([0xfd, 0xff, 0xff, 0xff]);
    }

    fn output(&mut self, script: Option<Vec<u8>>) {
        let script = script.unwrap_or_else(|| self.foreign_script());
        let value = self.random.below(1 << 40);
        self.bytes.extend(value.to_le_bytes());
        self.sized(&script);
    }

    fn foreign_script(&mut self) -> Vec<u8> {
        let kind = match (self.shape, self.random.below(100)) {
            (Shape::P2wpkh, _) | (_, 0..42) => 0,
            (_, 42..57) => 1,
            (_, 57..72) => 2,
            (_, 72..92) => 3,
            (_, 92..95) => 4,
            (_, 95..99) => 5,
            _ => 6,
        };
        script(kind, &mut self.random)
    }

    fn witness(&mut self, kind: u64) {
        match kind {
            1 => self.bytes.push(0),
            3 => {
                let signature = self.random.bytes::<64>();
                self.bytes.push(1);
                self.sized(&signature);
            }
            4 => {
                let first = self.random.bytes::<72>();
                let second = self.random.bytes::<71>();
                let script = self.random.bytes::<105>();
                self.bytes.extend([4, 0]);
                [&first[..], &second, &script].into_iter().for_each(|item| self.sized(item));
            }
            5 => {
                let signature = self.random.bytes::<64>();
                let len = 1 << (6 + self.random.below(8));
                let data: Vec<u8> = (0..len).map(|_| self.random.next() as u8).collect();
                let control = self.random.bytes::<33>();
                self.bytes.push(3);
                [&signature[..], &data, &control].into_iter().for_each(|item| self.sized(item));
            }
            _ => {
                let signature = self.random.bytes::<72>();
                let len = 71 + self.random.below(2) as usize;
                let key = self.random.bytes::<33>();
                self.bytes.push(2);
                self.sized(&signature[..len]);
                self.sized(&key);
            }
        }
    }
}
