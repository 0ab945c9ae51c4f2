//! A simulated chain of the Bitcoin family: blocks, branches, unspent outputs, mempool. A state machine without
//! I/O; the time is an argument.
//!
//! Blocks and transactions are serialised as the real ones, and their ids, Merkle roots, witness commitments,
//! order and proof of work hold. Scripts are not run, and difficulty is that of `regtest` for ever.
//!
//! Not here: JSON-RPC, addresses.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, OutPoint, TxOut, Txid};
use tally_types::{Span, Timestamp, TxId};

mod block;
mod coins;
mod faucet;
mod pay;
mod pool;
mod rules;
mod submit;
#[cfg(test)]
mod tests;
mod transaction;

pub(crate) use block::StoredBlock;
#[cfg(test)]
pub(crate) use pay::UtxoMode;
pub(crate) use rules::{BITS, CoinRules};
pub(crate) use submit::SubmitError;

use block::Template;
use coins::{Coins, select};
use faucet::Faucet;
use pool::Pool;
use transaction::PoolTx;

use crate::error::SandboxError;
use crate::seeded::Seeded;

/// Blocks whose median time a new block must exceed.
const MEDIAN_SPAN: usize = 11;

/// A simulated chain of the Bitcoin family.
#[derive(Debug)]
pub(crate) struct SimulatedUtxoChain {
    rules: &'static CoinRules,
    faucet: Faucet,
    seeded: Seeded,
    blocks: HashMap<BlockHash, Arc<StoredBlock>>,
    /// The active branch; the place is the height.
    active: Vec<Arc<StoredBlock>>,
    stale_tips: Vec<Arc<StoredBlock>>,
    coins: Coins,
    pool: Pool,
    blocks_made: u64,
}

/// What a reorg came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reorged<H, T> {
    /// The last common block.
    pub(crate) fork_height: u64,
    /// The new tip.
    pub(crate) height: u64,
    /// The new tip.
    pub(crate) hash: H,
    /// Transactions that are in neither the new branch nor the mempool: those named, and what depended on them.
    pub(crate) dropped: Vec<T>,
}

impl SimulatedUtxoChain {
    /// A chain whose `initial_blocks` were mined up to `now` at the coin's usual pace.
    pub(crate) fn new(
        rules: &'static CoinRules,
        seed: u64,
        now: Timestamp,
        initial_blocks: u32,
    ) -> Result<Self, SandboxError> {
        let mut seeded = Seeded::new(seed, rules.name);
        let faucet = Faucet::new(seeded.next(), rules);
        let genesis = Arc::new(StoredBlock::genesis(rules));
        let mut chain = Self {
            rules,
            coins: Coins::new(faucet.script_pubkey.clone()),
            faucet,
            seeded,
            blocks: HashMap::from([(genesis.hash, Arc::clone(&genesis))]),
            active: vec![genesis],
            stale_tips: Vec::new(),
            pool: Pool::default(),
            blocks_made: 0,
        };
        for left in (0..u64::from(initial_blocks)).rev() {
            let age = Span::from_secs(left.saturating_mul(u64::from(rules.spacing_secs)));
            chain.mine_block(now.minus(age), Vec::new())?;
        }
        Ok(chain)
    }

    pub(crate) fn rules(&self) -> &'static CoinRules {
        self.rules
    }

    pub(crate) fn height(&self) -> u64 {
        u64::try_from(self.active.len()).unwrap_or(u64::MAX).saturating_sub(1)
    }

    /// The block at a height of the active branch.
    pub(crate) fn at(&self, height: u64) -> Option<&Arc<StoredBlock>> {
        self.active.get(usize::try_from(height).ok()?)
    }

    /// A block of any branch.
    pub(crate) fn block(&self, hash: &BlockHash) -> Option<&Arc<StoredBlock>> {
        self.blocks.get(hash)
    }

    pub(crate) fn is_active(&self, block: &StoredBlock) -> bool {
        self.at(block.height).is_some_and(|active| active.hash == block.hash)
    }

    /// The tips of branches that were left.
    pub(crate) fn stale_tips(&self) -> &[Arc<StoredBlock>] {
        &self.stale_tips
    }

    /// How many blocks of the branch that ends in `tip` are not on the active one.
    pub(crate) fn branch_length(&self, tip: &Arc<StoredBlock>) -> u64 {
        let mut block = Some(tip);
        let mut length = 0_u64;
        while let Some(stale) = block.filter(|block| !self.is_active(block)) {
            length = length.saturating_add(1);
            block = self.block(&stale.header.prev_blockhash);
        }
        length
    }

    /// The ids of the mempool, in the order in which they came.
    pub(crate) fn pool_txids(&self) -> impl Iterator<Item = Txid> + '_ {
        self.pool.txids()
    }

    /// A transaction of the mempool, as `getrawtransaction` gives it.
    pub(crate) fn pool_raw(&self, txid: &Txid) -> Option<Vec<u8>> {
        self.pool.get(txid).map(PoolTx::raw)
    }

    /// An unspent output, the height of its block (none: it waits in the mempool) and whether it is a
    /// coinbase's. With `mempool`, what the mempool spends is spent.
    pub(crate) fn unspent(&self, outpoint: &OutPoint, mempool: bool) -> Option<(&TxOut, Option<u64>, bool)> {
        if mempool && self.pool.spender(outpoint).is_some() {
            return None;
        }
        let mined = self.coins.get(outpoint).map(|coin| (&coin.output, Some(coin.height), coin.coinbase));
        mined.or_else(|| self.pool.output(outpoint).filter(|_| mempool).map(|output| (output, None, false)))
    }

    /// Mines one block that holds the mempool.
    pub(crate) fn mine(&mut self, now: Timestamp) -> Result<Arc<StoredBlock>, SandboxError> {
        let candidates = self.pool.transactions().cloned().collect();
        self.mine_block(now, candidates)
    }

    /// Leaves the last `depth` blocks for a branch that is one longer. What they held is mined again, each at
    /// the same height; but not `dropped` and what depends on it, which leave the mempool, too.
    pub(crate) fn reorg(
        &mut self,
        depth: u64,
        dropped: &[Txid],
        now: Timestamp,
    ) -> Result<Reorged<BlockHash, Txid>, SandboxError> {
        let height = self.height();
        if depth == 0 || depth > height {
            return Err(SandboxError::Blocks { found: depth, max: height });
        }
        let fork_height = height.saturating_sub(depth);
        let drops = self.drops(fork_height, dropped)?;
        self.next_time(now)?;
        let old_tip = self.tip();
        let mut orphaned = Vec::new();
        while self.height() > fork_height {
            let Some(block) = self.active.pop() else { break };
            self.coins.disconnect(&block.txs, &block.spent);
            orphaned.push(block);
        }
        self.stale_tips.push(old_tip);
        let mut gone: Vec<Txid> = Vec::new();
        for block in orphaned.iter().rev() {
            let (dropped, kept) =
                block.pool_transactions().into_iter().partition::<Vec<_>, _>(|tx| drops.contains(&tx.txid()));
            let wanted: Vec<_> = kept.iter().map(PoolTx::txid).collect();
            let mined = self.mine_block(now, kept)?;
            let held: HashSet<_> = mined.pool_transactions().iter().map(PoolTx::txid).collect();
            gone.extend(dropped.iter().map(PoolTx::txid));
            gone.extend(wanted.into_iter().filter(|txid| !held.contains(txid)));
        }
        let tip = self.mine_block(now, Vec::new())?;
        for txid in drops.iter().filter(|txid| self.pool.contains(txid)).copied().collect::<Vec<_>>() {
            self.pool.remove(&txid);
            gone.push(txid);
        }
        gone.extend(self.pool.evict_invalid(&self.coins, tip.height.saturating_add(1)));
        Ok(Reorged { fork_height, height: tip.height, hash: tip.hash, dropped: gone })
    }

    /// The transactions to drop: each is in a block above the fork or in the mempool. A HogEx stands for all
    /// that it pays out.
    fn drops(&self, fork_height: u64, named: &[Txid]) -> Result<HashSet<Txid>, SandboxError> {
        let above = usize::try_from(fork_height).unwrap_or(usize::MAX).saturating_add(1);
        let blocks = self.active.get(above..).unwrap_or_default();
        let mut drops = HashSet::new();
        for txid in named {
            let hogex =
                blocks.iter().find(|block| block.hog().is_some_and(|(outpoint, _)| outpoint.txid == *txid));
            if let Some(block) = hogex {
                drops.extend(block.peg_outs.iter().flatten().map(|peg_out| peg_out.kernel));
                continue;
            }
            let mined =
                blocks.iter().any(|block| block.pool_transactions().iter().any(|tx| tx.txid() == *txid));
            if !mined && !self.pool.contains(txid) {
                let expected = "in a block that the reorg takes out, nor in the mempool";
                return Err(SandboxError::UnknownTransaction { txid: public(txid), expected });
            }
            drops.insert(*txid);
        }
        Ok(drops)
    }

    fn tip(&self) -> Arc<StoredBlock> {
        // The genesis block is never taken out.
        self.active.last().map_or_else(|| Arc::new(StoredBlock::genesis(self.rules)), Arc::clone)
    }

    /// Mines those of `candidates` that can be mined now.
    fn mine_block(
        &mut self,
        now: Timestamp,
        candidates: Vec<PoolTx>,
    ) -> Result<Arc<StoredBlock>, SandboxError> {
        let tip = self.tip();
        let height = tip.height.saturating_add(1);
        let time = self.next_time(now)?;
        let selection = select(&self.coins, height, candidates);
        let template = Template {
            rules: self.rules,
            faucet: &self.faucet,
            prev: tip.hash,
            height,
            time,
            extra_nonce: self.blocks_made,
            txs: selection.chosen,
            fees: selection.fees,
            hog: tip.hog(),
        };
        let mut block = template.build()?;
        self.blocks_made = self.blocks_made.saturating_add(1);
        block.spent = self.coins.connect(&block.txs, height);
        for tx in block.pool_transactions() {
            self.pool.remove(&tx.txid());
        }
        let block = Arc::new(block);
        self.blocks.insert(block.hash, Arc::clone(&block));
        self.active.push(Arc::clone(&block));
        Ok(block)
    }

    /// The time of the next block: now, but not before its predecessor, and above the median of the last
    /// eleven, as the real networks demand.
    fn next_time(&self, now: Timestamp) -> Result<u32, SandboxError> {
        let now = u32::try_from(now.secs()).map_err(|_| SandboxError::HeaderTime(now.secs()))?;
        let tip = self.tip();
        let median = self.median_time(&tip);
        let after_median = median.checked_add(1).ok_or(SandboxError::HeaderTime(i64::from(median)))?;
        Ok(now.max(after_median).max(tip.header.time))
    }

    /// The median time of a block and the ten before it.
    pub(crate) fn median_time(&self, block: &Arc<StoredBlock>) -> u32 {
        let mut times = Vec::with_capacity(MEDIAN_SPAN);
        let mut next = Some(block);
        while let Some(block) = next.filter(|_| times.len() < MEDIAN_SPAN) {
            times.push(block.header.time);
            next = self.block(&block.header.prev_blockhash);
        }
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }
}

/// An id in the form of the rest of the system.
pub(crate) fn public(txid: &Txid) -> TxId {
    TxId::from_internal(txid.to_byte_array())
}

/// An id as this module has it.
pub(crate) fn internal(txid: &TxId) -> Txid {
    Txid::from_byte_array(txid.internal_bytes())
}
