//! Blocks: what leaves the branch, what a block holds, and what the height it brings confirms.

use std::collections::{BTreeSet, HashSet};

use tally_events::{BlockDisconnected, DepositConfirmed, Fact};
use tally_types::{BlockRef, DepositKey, Height, Timestamp, TxId};

use super::{CONFIRMED_DEPTHS, Conflicts, Draft, Refusal};
use crate::{Scanned, Stage, Tracker};

impl Tracker {
    pub(super) fn decide_block(
        &self,
        block: &Scanned,
        looked_at: Option<Timestamp>,
        present: Option<&HashSet<TxId>>,
        now: Timestamp,
    ) -> Result<Vec<Fact>, Refusal> {
        let header = block.header;
        if self.tip() == Some(header.block) {
            return Ok(Vec::new());
        }
        if block.watched_through < self.watched_through() {
            return Err(Refusal::MatchedTooEarly { block: header.block });
        }
        let mut draft = Draft::new(self);
        draft.take_back_dangling(Some(header.block), present);
        self.disconnect_to_parent(block, present, &mut draft)?;
        let met = now.min(header.time);
        let conflicts = draft.conflicts(&block.credits, &block.spends);
        let mined = self.mine(block, &conflicts, met, &mut draft);
        draft.replace(&conflicts);
        self.confirm(header.block, &mined, &mut draft);
        let method = block.method.as_deref();
        draft.push(self.connected_fact(
            header.block.height,
            header.prev,
            header,
            block.watched_through,
            method,
            looked_at,
        ));
        Ok(draft.into_facts())
    }

    pub(super) fn decide_restart(
        &self,
        block: &Scanned,
        present: Option<&HashSet<TxId>>,
        now: Timestamp,
    ) -> Result<Vec<Fact>, Refusal> {
        let header = block.header;
        let follows = self.tip().is_none_or(|tip| header.block.height <= tip.height.next());
        if !follows {
            return Err(Refusal::NotLinked { block: header.block });
        }
        let mut draft = Draft::new(self);
        for old in self.branch.blocks().rev().take_while(|old| old.height >= header.block.height) {
            let (chain, prev) = (self.chain().clone(), self.prev_of(old));
            draft.push(BlockDisconnected { chain, block: old, prev });
        }
        for followed in self.deposits.mined_from(header.block.height) {
            if let Stage::Mined(old) = followed.stage {
                draft.take_back(&followed.deposit, old, present);
            }
        }
        let conflicts = draft.conflicts(&block.credits, &block.spends);
        let mined = self.mine(block, &conflicts, now.min(header.time), &mut draft);
        draft.replace(&conflicts);
        for deposit in mined {
            let (chain, tip) = (self.chain().clone(), header.block);
            draft.push(DepositConfirmed { chain, deposit, depth: 1, tip, finalized: false });
        }
        let through = block.watched_through.max(self.watched_through());
        let method = block.method.as_deref();
        draft.push(self.connected_fact(header.block.height, header.prev, header, through, method, None));
        Ok(draft.into_facts())
    }

    /// Takes every block over the new block's parent off the branch, from the top down; each before its payments,
    /// so that what is cut off between two appends dangles over the tip, where it counts nowhere and is found.
    fn disconnect_to_parent(
        &self,
        block: &Scanned,
        present: Option<&HashSet<TxId>>,
        draft: &mut Draft<'_>,
    ) -> Result<(), Refusal> {
        let Some(tip) = self.tip() else { return Ok(()) };
        let new = block.header.block;
        let parent =
            new.height.get().checked_sub(1).map(Height::new).and_then(|height| self.block_at(height));
        if parent.is_none_or(|parent| parent.hash != block.header.prev || parent.height > tip.height) {
            return Err(Refusal::NotLinked { block: new });
        }
        for old in self.branch.blocks().rev().take_while(|old| old.height >= new.height) {
            draft.push(BlockDisconnected {
                chain: self.chain().clone(),
                block: old,
                prev: self.prev_of(old),
            });
            for followed in self.deposits.mined_at(old.height) {
                if draft.stage(&followed.deposit.key) == Some(Stage::Mined(old)) {
                    draft.take_back(&followed.deposit, old, present);
                }
            }
        }
        Ok(())
    }

    /// Reports the block's payments that are not known to be in it; answers all that are.
    fn mine(
        &self,
        block: &Scanned,
        conflicts: &Conflicts,
        met: Timestamp,
        draft: &mut Draft<'_>,
    ) -> BTreeSet<DepositKey> {
        let at = block.header.block;
        let mut mined: BTreeSet<DepositKey> = self
            .deposits
            .mined_at(at.height)
            .map(|followed| &followed.deposit.key)
            .filter(|key| draft.stage(key) == Some(Stage::Mined(at)))
            .cloned()
            .collect();
        for credit in block.credits.iter().filter(|credit| !credit.amount.is_zero()) {
            if matches!(draft.stage(&credit.key), Some(Stage::Mined(_))) {
                continue;
            }
            let (deposit, replaces) = draft.deposit_of(credit, conflicts, met);
            draft.set(&deposit.key, Stage::Mined(at));
            mined.insert(deposit.key.clone());
            let fact = draft.mined_fact(deposit, at, replaces);
            draft.push(fact);
        }
        mined
    }

    /// Reports the deposits that reach a told depth under the new tip.
    fn confirm(&self, tip: BlockRef, mined: &BTreeSet<DepositKey>, draft: &mut Draft<'_>) {
        for depth in CONFIRMED_DEPTHS {
            let below = u64::from(depth).saturating_sub(1);
            let Some(height) = tip.height.get().checked_sub(below).map(Height::new) else { break };
            let reached: Vec<DepositKey> = match below {
                0 => mined.iter().cloned().collect(),
                _ => self.deposits.mined_at(height).map(|followed| followed.deposit.key.clone()).collect(),
            };
            for deposit in reached {
                let chain = self.chain().clone();
                draft.push(DepositConfirmed { chain, deposit, depth, tip, finalized: false });
            }
        }
    }

    pub(super) fn decide_found(&self, block: &Scanned, now: Timestamp) -> Result<Vec<Fact>, Refusal> {
        let at = block.header.block;
        let Some(tip) = self.tip().filter(|_| self.is_on_branch(at)) else {
            return Err(Refusal::NotLinked { block: at });
        };
        let mut draft = Draft::new(self);
        let conflicts = draft.conflicts(&block.credits, &block.spends);
        let known: BTreeSet<DepositKey> =
            self.deposits.mined_at(at.height).map(|followed| followed.deposit.key.clone()).collect();
        let mined = self.mine(block, &conflicts, now.min(block.header.time), &mut draft);
        draft.replace(&conflicts);
        let deep = at.height.depth_under(tip.height);
        for deposit in mined.difference(&known) {
            let told = CONFIRMED_DEPTHS.into_iter().filter(|depth| u64::from(*depth) <= deep);
            let mut told: Vec<(u32, bool)> = told.map(|depth| (depth, false)).collect();
            if at.height <= self.finalized {
                told.push((u32::try_from(deep).unwrap_or(u32::MAX), true));
            }
            for (depth, finalized) in told {
                let (chain, deposit) = (self.chain().clone(), deposit.clone());
                draft.push(DepositConfirmed { chain, deposit, depth, tip, finalized });
            }
        }
        Ok(draft.into_facts())
    }
}
