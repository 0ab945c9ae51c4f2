//! One chain's node, or several of them, as a watcher sees it.

use std::collections::HashSet;
use std::sync::{Arc, RwLock};

use async_trait::async_trait;
use tally_matcher::WatchSet;
use tally_types::{
    BaseUnits, BlockHash, BlockRef, Currency, DepositKey, Difference, Height, OutPoint, Script, Span,
    Timestamp, TxId,
};

use crate::PortError;

/// The scripts and outpoints to look for: written by the watcher, read while a block is matched.
pub type SharedWatch = Arc<RwLock<WatchSet>>;

/// A block's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The block.
    pub block: BlockRef,
    /// The block before.
    pub prev: BlockHash,
    /// The header's time.
    pub time: Timestamp,
}

/// A payment to a watched script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credit {
    /// Its identity.
    pub key: DepositKey,
    /// What was paid.
    pub currency: Currency,
    /// How much.
    pub amount: BaseUnits,
    /// To where.
    pub script: Script,
    /// What its transaction spends.
    pub inputs: Vec<OutPoint>,
    /// What it is the rest of, where it was found as a difference of balances; `amount` is then what is left of the
    /// sum by this source's own reading.
    pub difference: Option<Difference>,
}

/// A transaction that spends a watched outpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Spend {
    /// What it spends.
    pub outpoint: OutPoint,
    /// The spending transaction.
    pub by: TxId,
}

/// What a block holds of interest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedBlock {
    /// Its header, checked against its bytes.
    pub header: Header,
    /// Payments to watched scripts, in block order.
    pub credits: Vec<Credit>,
    /// Spends of watched outpoints.
    pub spends: Vec<Spend>,
    /// How deposits were found, where the chain has more than one way.
    pub method: Option<String>,
}

/// The mempool between two equal tips.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MempoolDiff {
    /// The tip before and after.
    pub tip: BlockHash,
    /// Every transaction in it.
    pub present: HashSet<TxId>,
    /// Payments to watched scripts in the transactions that were not `known`.
    pub credits: Vec<Credit>,
    /// Spends of watched outpoints in the transactions that were not `known`.
    pub spends: Vec<Spend>,
}

/// A chain's node. Reads only; never a second cursor: where the watcher stands is in the log.
///
/// An answer that contradicts itself (a body that does not hash to its id, receipts of another block) is a
/// transient error, never a result: the caller asks again, perhaps another endpoint.
#[async_trait]
pub trait BlockSource: Send + Sync {
    /// Checks that the node can be reached, is of the configured network (by its genesis block or chain id)
    /// and answers what is needed. A node of another network is a persistent error.
    async fn check(&self) -> Result<(), PortError>;

    /// The tip of the node's best branch.
    async fn tip(&self) -> Result<Header, PortError>;

    /// The block at a height of the node's best branch; `None` above its tip.
    async fn at(&self, height: Height) -> Result<Option<Header>, PortError>;

    /// A block of any branch by its hash; `None` if the node does not have it.
    async fn header(&self, hash: &BlockHash) -> Result<Option<Header>, PortError>;

    /// Fetches a block and matches it.
    async fn scan(&self, block: &Header, watch: &SharedWatch) -> Result<ScannedBlock, PortError>;

    /// The mempool, with what is of interest in the transactions that are not `known`. `None` where the
    /// chain has no mempool stage, or where the tip moved meanwhile.
    async fn mempool(
        &self,
        known: &HashSet<TxId>,
        watch: &SharedWatch,
    ) -> Result<Option<MempoolDiff>, PortError>;

    /// Returns when the tip may no longer be `tip`, at the latest after `at_most`.
    async fn wait(&self, tip: &BlockHash, at_most: Span);

    /// Which endpoint answers now. Another number after a switch, where there are several: what is absent from
    /// the new one's mempool is unknown then, not gone, and its branch is not followed blindly.
    fn endpoint(&self) -> u64 {
        0
    }

    /// The last block that the chain itself says will not change any more; `None` where it does not say, or not
    /// yet. It may be above what the caller has connected, and fall behind after a change of endpoint.
    async fn finalized(&self) -> Result<Option<Height>, PortError> {
        Ok(None)
    }

    /// The work that a block of any branch stands for, by which branches are compared: about how many hashes it takes to
    /// find one. `None` where the chain has no such measure, or the node does not have the block.
    async fn work(&self, _block: &BlockHash) -> Result<Option<u128>, PortError> {
        Ok(None)
    }

    /// Tells what the log has of payments in the chain's own currency to each watched script (zero where nothing
    /// was paid) up to a block, and how that block was scanned ([`ScannedBlock::method`]). At a start and after a
    /// reorg, before blocks are scanned from there on: where payments are found by balances, it stands for those of
    /// a block whose state no node has any more, or below which payments are still to be found.
    fn recall(&self, _through: BlockRef, _method: Option<&str>, _paid: &[(Script, BaseUnits)]) {}
}
