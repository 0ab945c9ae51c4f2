//! One deposit as an order's fold keeps it.
//!
//! Not here: whether it counts towards the price (`order/standing.rs`).

use serde::{Deserialize, Serialize};
use tally_types::{BaseUnits, BlockRef, ChainId, Currency, DepositKey, Height, Position, Timestamp, TxId};

/// Where a deposit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// In the mempool.
    Mempool,
    /// In this block of the log's branch.
    Mined(BlockRef),
    /// In neither.
    Gone,
}

/// The block that a deposit was reported in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MinedIn {
    pub(crate) block: BlockRef,
    pub(crate) link: Link,
}

/// How a deposit's block stands to the log's branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Link {
    /// Its `block_connected` is not folded: it does not count yet.
    Awaited,
    /// It is part of the branch.
    Connected,
    /// It left the branch; what becomes of the deposit, the watcher says in the same append. Until then the
    /// deposit stands as it stood, so that one reorg makes one version of the order and not two.
    Leaving,
}

/// A deposit to one of an order's scripts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepositState {
    pub(crate) chain: ChainId,
    pub(crate) key: DepositKey,
    pub(crate) quote: u32,
    pub(crate) currency: Currency,
    pub(crate) amount: BaseUnits,
    pub(crate) first_seen: Timestamp,
    pub(crate) position: Position,
    pub(crate) in_mempool: bool,
    pub(crate) mined: Option<MinedIn>,
    pub(crate) reorged: bool,
    pub(crate) replaces: Option<DepositKey>,
    pub(crate) replaced_by: Option<TxId>,
}

impl DepositState {
    /// The chain.
    pub fn chain(&self) -> &ChainId {
        &self.chain
    }

    /// Its identity on the chain.
    pub fn key(&self) -> &DepositKey {
        &self.key
    }

    /// The number of the quote whose address it paid.
    pub fn quote(&self) -> u32 {
        self.quote
    }

    /// What was paid.
    pub fn currency(&self) -> &Currency {
        &self.currency
    }

    /// How much.
    pub fn amount(&self) -> BaseUnits {
        self.amount
    }

    /// When it was first met; of a replacement, when what it replaced was.
    pub fn first_seen(&self) -> Timestamp {
        self.first_seen
    }

    /// Where it stands in the log: the first fact about it.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The transaction that took its place, where one did.
    pub fn replaced_by(&self) -> Option<&TxId> {
        self.replaced_by.as_ref()
    }

    /// Whether a reorg took its block and it is in no block again yet.
    pub fn is_reorged(&self) -> bool {
        self.reorged
    }

    /// Where it is.
    pub fn stage(&self) -> Stage {
        match &self.mined {
            Some(MinedIn { block, link: Link::Connected | Link::Leaving }) => Stage::Mined(*block),
            Some(MinedIn { link: Link::Awaited, .. }) | None if self.in_mempool => Stage::Mempool,
            Some(MinedIn { link: Link::Awaited, .. }) | None => Stage::Gone,
        }
    }

    /// Whether it is in the mempool or in a block.
    pub fn is_present(&self) -> bool {
        self.stage() != Stage::Gone
    }

    /// Its confirmations under `tip`: 1 in the tip itself, 0 in no block.
    pub fn confirmations(&self, tip: Height) -> u64 {
        match self.stage() {
            Stage::Mined(block) => block.height.depth_under(tip).max(1),
            Stage::Mempool | Stage::Gone => 0,
        }
    }
}
