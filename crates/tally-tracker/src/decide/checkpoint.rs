//! The whole state as facts, so that the next start need not read further back.

use tally_events::{ChainCheckpointed, CheckpointDeposit, CheckpointStage, Fact};
use tally_types::{BlockRef, Height, Position};

use crate::{Stage, Tracker};

/// The most bytes of deposits in a part. With the headers and the envelope a part stays under 512 KiB.
const PART_BYTES_MAX: usize = 400 * 1024;

impl Tracker {
    pub(crate) fn checkpoint(&self) -> Vec<Fact> {
        if self.tip().is_none() {
            return Vec::new();
        }
        let mut parts: Vec<Vec<CheckpointDeposit>> = vec![Vec::new()];
        let mut bytes = 0_usize;
        for followed in self.deposits() {
            let stage = match followed.stage {
                Stage::Mempool => CheckpointStage::Mempool,
                Stage::Mined(block) => CheckpointStage::Mined(block),
                Stage::Gone(_) => CheckpointStage::Gone,
            };
            let item = CheckpointDeposit { deposit: followed.deposit.clone(), stage };
            let size = serde_json::to_vec(&item).map_or(0, |json| json.len());
            bytes = bytes.saturating_add(size);
            if bytes > PART_BYTES_MAX {
                parts.push(Vec::new());
                bytes = size;
            }
            if let Some(part) = parts.last_mut() {
                part.push(item);
            }
        }
        let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        let headers: Vec<BlockRef> = self.branch.blocks().collect();
        (0..count).zip(parts).map(|(part, deposits)| self.part(part, count, &headers, deposits)).collect()
    }

    fn part(&self, part: u32, parts: u32, headers: &[BlockRef], deposits: Vec<CheckpointDeposit>) -> Fact {
        let watched_through: Position = self.watched_through();
        Fact::from(ChainCheckpointed {
            chain: self.chain().clone(),
            part,
            parts,
            headers: if part == 0 { headers.to_vec() } else { Vec::new() },
            deposits,
            watched_through,
            observed_at: self.observed_at(),
            methods: match part {
                0 => self.methods.iter().map(|(height, method)| (*height, method.clone())).collect(),
                _ => Vec::new(),
            },
            finalized: Some(self.finalized).filter(|height| *height > Height::default()),
        })
    }
}
