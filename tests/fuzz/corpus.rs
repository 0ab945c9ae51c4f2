//! The bodies of the fuzz targets on the seeds in the tree and on a few thousand mutations of them. Looking for
//! new ways through the code is libFuzzer's work (`run.sh`); this keeps what it found from coming back.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

#[path = "src/lib.rs"]
mod bodies;

use std::path::Path;

/// Mutations of each seed set.
const MUTATIONS: usize = 2_000;
/// Values that sit at the edges of sizes.
const EDGES: [u8; 8] = [0, 1, 2, 0x7f, 0x80, 0xfd, 0xfe, 0xff];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end.max(1) as u64).unwrap()
    }

    /// Changes a few bytes, cuts something out, or writes one part over another.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let (at, len) = (self.below(bytes.len()), self.below(40));
            let end = (at + len).min(bytes.len());
            match self.below(6) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = EDGES[self.below(EDGES.len())],
                2 => drop(bytes.drain(at..end)),
                3 => bytes.truncate(at),
                4 => bytes.splice(at..at, vec![EDGES[self.below(EDGES.len())]; self.below(4)]).for_each(drop),
                _ => {
                    let part = bytes[at..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, part).for_each(drop);
                }
            }
        }
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let seeds: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(!seeds.is_empty(), "{target} has no seeds");
    seeds
}

fn run(target: &str, mutations: usize, body: fn(&[u8])) {
    let seeds = seeds(target);
    let mut random = Random(7);
    seeds.iter().for_each(|seed| body(seed));
    for _ in 0..mutations {
        let mut bytes = seeds[random.below(seeds.len())].clone();
        random.mutate(&mut bytes);
        body(&bytes);
    }
}

#[test]
fn match_block() {
    run("match_block", MUTATIONS, bodies::match_block);
}

#[test]
fn match_tx() {
    run("match_tx", MUTATIONS, bodies::match_tx);
}

#[test]
fn verify_merkle_root() {
    run("verify_merkle_root", MUTATIONS, bodies::verify_merkle_root);
}

#[test]
fn strip_token() {
    run("strip_token", 10 * MUTATIONS, bodies::strip_token);
}

#[test]
fn watch_set() {
    run("watch_set", MUTATIONS / 40, bodies::watch_set);
}
