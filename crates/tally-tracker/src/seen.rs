//! What a watcher saw at its node, as the tracker takes it.
//!
//! Not here: how it was fetched and matched.

use std::collections::HashMap;

use tally_types::{
    BaseUnits, BlockHash, BlockRef, Currency, DepositKey, Difference, OutPoint, Position, Script, Timestamp,
    TxId,
};

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
    /// What was paid. A payment of nothing is passed over.
    pub currency: Currency,
    /// How much.
    pub amount: BaseUnits,
    /// To where.
    pub script: Script,
    /// What its transaction spends; none where payments have no mempool stage.
    pub inputs: Vec<OutPoint>,
    /// What it is the rest of, where it was found as a difference of balances. Its amount is what is left of it.
    pub difference: Option<Difference>,
}

/// A transaction that spends a watched outpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spend {
    /// What it spends.
    pub outpoint: OutPoint,
    /// The spending transaction.
    pub by: TxId,
}

/// A block and what it holds of interest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// Its header.
    pub header: Header,
    /// Payments to watched scripts.
    pub credits: Vec<Credit>,
    /// Spends of watched outpoints.
    pub spends: Vec<Spend>,
    /// How deposits were found, where the chain has more than one way.
    pub method: Option<String>,
    /// The log position whose addresses it was matched against, and every block before it too.
    pub watched_through: Position,
}

/// The mempool between two equal tips, less what was looked at before.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a> {
    /// The tip it was taken at.
    pub tip: BlockHash,
    /// Payments to watched scripts.
    pub credits: &'a [Credit],
    /// Spends of watched outpoints.
    pub spends: &'a [Spend],
    /// When a snapshot first held a transaction, where that was before this one.
    pub first_held: &'a HashMap<TxId, Timestamp>,
    /// Transactions that are gone, by [`crate::MempoolMemory::observe`].
    pub gone: &'a [TxId],
}
