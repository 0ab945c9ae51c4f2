//! The ways a block is gone through: ours, a bare walk, and rust-bitcoin with a hash set.

use std::collections::HashSet;
use std::hint::black_box;
use std::ops::AddAssign;

use bitcoin::ScriptBuf;
use bitcoin_slices::{Parse, bsl};
use tally_matcher::{Options, OutPoint, Visitor, WatchSet, match_block, walk};

use super::blocks::{PLANTED, Shape, watched_outpoint, watched_script};

/// How much was found.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) hits: usize,
    pub(crate) spends: usize,
}

impl AddAssign for Found {
    fn add_assign(&mut self, more: Self) {
        self.hits += more.hits;
        self.spends += more.spends;
    }
}

pub(crate) struct Way {
    pub(crate) name: String,
    kind: Kind,
}

#[allow(clippy::large_enum_variant, reason = "there are seven of them, and a box would be one more miss")]
enum Kind {
    Slices,
    OurWalk,
    Naive(HashSet<ScriptBuf>),
    Ours(WatchSet),
}

struct Nothing;
impl Visitor<'_> for Nothing {}

impl Way {
    /// bitcoin_slices, finding nothing.
    pub(crate) fn slices() -> Self {
        Self { name: "bitcoin_slices, bare walk".into(), kind: Kind::Slices }
    }

    /// Our own walk, finding nothing.
    pub(crate) fn our_walk() -> Self {
        Self { name: "our own bare walk".into(), kind: Kind::OurWalk }
    }

    /// What most code does.
    pub(crate) fn naive(shape: Shape, scripts: u64) -> Self {
        let set = (0..scripts).map(|n| ScriptBuf::from_bytes(watched_script(shape, n))).collect();
        Self { name: format!("rust-bitcoin and HashSet<ScriptBuf>, {scripts}"), kind: Kind::Naive(set) }
    }

    /// The matcher.
    pub(crate) fn ours(shape: Shape, scripts: u64, outpoints: u64) -> Self {
        let mut set = WatchSet::new(0x5eed);
        for n in 0..scripts {
            set.insert_script(&watched_script(shape, n)).unwrap();
        }
        for n in 0..outpoints {
            set.insert_outpoint(&OutPoint::from_bytes(&watched_outpoint(n))).unwrap();
        }
        let spends = if outpoints > 0 { format!(" and {outpoints} outpoints") } else { String::new() };
        Self { name: format!("matcher, {scripts} scripts{spends}"), kind: Kind::Ours(set) }
    }

    pub(crate) fn run(&self, block: &[u8]) -> Found {
        match &self.kind {
            Kind::Slices => {
                black_box(bsl::Block::parse(black_box(block)).unwrap());
                Found::default()
            }
            Kind::OurWalk => {
                black_box(walk(black_box(block), &mut Nothing).unwrap());
                Found::default()
            }
            Kind::Naive(set) => {
                let block: bitcoin::Block = bitcoin::consensus::deserialize(black_box(block)).unwrap();
                let outputs = block.txdata.iter().flat_map(|tx| &tx.output);
                let hits = outputs.filter(|output| set.contains(&output.script_pubkey)).count();
                Found { hits, spends: 0 }
            }
            Kind::Ours(set) => {
                let found = match_block(set, black_box(block), Options::default()).unwrap();
                Found { hits: found.hits.len(), spends: found.spends.len() }
            }
        }
    }

    /// Every planted output and input must have been found, and nothing else.
    pub(crate) fn check(&self, found: Found, blocks: usize) {
        let planted = PLANTED * blocks;
        let expected = match &self.kind {
            Kind::Slices | Kind::OurWalk => Found::default(),
            Kind::Naive(_) => Found { hits: planted, spends: 0 },
            Kind::Ours(set) if set.outpoint_count() == 0 => Found { hits: planted, spends: 0 },
            Kind::Ours(_) => Found { hits: planted, spends: planted },
        };
        assert_eq!(found, expected, "{}", self.name);
    }
}
