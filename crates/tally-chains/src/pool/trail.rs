//! The headers that were told lately, whoever told them: what a node that takes over is measured by.

use std::collections::{HashMap, VecDeque};

use tally_ports::Header;
use tally_types::{BlockHash, BlockRef, Height};

/// Blocks that are remembered.
const LENGTH_MAX: usize = 1024;

/// Headers told lately.
#[derive(Default)]
pub(super) struct Trail {
    known: HashMap<BlockHash, (Height, BlockHash)>,
    order: VecDeque<BlockHash>,
    top: Option<BlockRef>,
}

impl Trail {
    /// The tip that was told last.
    pub(super) const fn top(&self) -> Option<BlockRef> {
        self.top
    }

    pub(super) fn height_of(&self, hash: &BlockHash) -> Option<Height> {
        self.known.get(hash).map(|(height, _)| *height)
    }

    /// How deep the branch of the top is known without a gap: the lowest height of it.
    pub(super) fn floor(&self) -> Option<Height> {
        let mut floor = None;
        let mut at = self.top?.hash;
        while let Some((height, prev)) = self.known.get(&at) {
            // A chain of claims that leads upwards again is none.
            if floor.is_some_and(|floor| *height >= floor) {
                break;
            }
            (floor, at) = (Some(*height), *prev);
        }
        floor
    }

    pub(super) fn set_top(&mut self, tip: &Header) {
        self.note(tip);
        self.top = Some(tip.block);
    }

    pub(super) fn note(&mut self, header: &Header) {
        let BlockRef { hash, height } = header.block;
        if self.known.insert(hash, (height, header.prev)).is_none() {
            self.order.push_back(hash);
        }
        while self.order.len() > LENGTH_MAX {
            // The top stays, however much is told below it.
            match self.order.pop_front() {
                Some(old) if self.top.is_some_and(|top| top.hash == old) => self.order.push_back(old),
                Some(old) => drop(self.known.remove(&old)),
                None => break,
            }
        }
    }
}
