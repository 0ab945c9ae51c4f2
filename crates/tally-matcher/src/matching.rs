//! A block, or a mempool transaction, against a watch set: which outputs pay a watched script and
//! which inputs spend a watched outpoint.
//!
//! The first pass (`finder`) only finds offsets; what is reported about a hit is read again from
//! its transaction (`report`), so that the many transactions without one cost nothing. Whether a
//! hit is a deposit, of which order and how deep, is decided elsewhere.

mod finder;
mod lane;
mod report;

use std::sync::Arc;

use self::finder::Finder;
use self::report::Report;
use crate::walk::{Mweb, RawTx, Scope, Visitor, walk, walk_tx};
use crate::{OutPoint, WalkError, WatchSet};

/// What differs between chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Take a CashTokens prefix off before comparing: Bitcoin Cash only.
    pub strip_token_prefix: bool,
}

/// What a block holds of interest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMatch {
    /// The header's bytes, for [`crate::check_pow`].
    pub header: [u8; 80],
    /// The block's own id, computed from the header.
    pub block_hash: [u8; 32],
    /// The id of the block before, as the header has it.
    pub prev_hash: [u8; 32],
    /// As the header has it; proved by [`crate::verify_merkle_root`] only.
    pub merkle_root: [u8; 32],
    /// The miner's time, seconds since 1970.
    pub time: u32,
    /// The target in its compact form.
    pub bits: u32,
    /// Number of transactions.
    pub tx_count: u32,
    /// Bytes behind the last transaction: Litecoin's extension block, or else something is wrong.
    pub trailing_bytes: usize,
    /// Outputs to watched scripts, by transaction and index.
    pub hits: Vec<Hit>,
    /// Inputs that spend a watched outpoint or one of `hits`, by transaction and index.
    pub spends: Vec<Spend>,
}

/// What a mempool transaction holds of interest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxMatch {
    /// The transaction's id, or `None` if it is all MWEB: such a one is named by a hash of what is
    /// not read here, and it has no hits.
    pub txid: Option<[u8; 32]>,
    /// Outputs to watched scripts.
    pub hits: Vec<Hit>,
    /// Inputs that spend a watched outpoint.
    pub spends: Vec<Spend>,
}

/// An output that pays a watched script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The transaction's place in the block; 0 for a mempool transaction.
    pub tx_index: u32,
    /// Id of the transaction, without witnesses and MWEB data.
    pub txid: [u8; 32],
    /// Index of the output.
    pub vout: u32,
    /// Base units, as the bytes have it: up to 2^64 − 1 if a node lies.
    pub value: u64,
    /// The watched script, without a token prefix.
    pub script: Vec<u8>,
    /// A CashTokens prefix was taken off: the output holds a token beside its coins.
    pub carries_token: bool,
    /// The transaction is a HogEx: the output is a peg-out, mature after 6 blocks (unless it is
    /// the first).
    pub is_hogex: bool,
    /// The transaction is a coinbase: mature after 100 blocks.
    pub is_coinbase: bool,
    /// All that the transaction spends: another transaction with any of them replaces this one.
    /// Shared by the hits of a transaction. A coinbase has the null outpoint.
    pub inputs: Arc<[OutPoint]>,
}

impl Hit {
    /// The output itself.
    #[must_use]
    pub const fn outpoint(&self) -> OutPoint {
        OutPoint { txid: self.txid, vout: self.vout }
    }
}

/// An input that spends a watched outpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spend {
    /// The spending transaction's place in the block; 0 for a mempool transaction.
    pub tx_index: u32,
    /// Id of the spending transaction.
    pub txid: [u8; 32],
    /// Index of the input.
    pub vin: u32,
    /// What it spends.
    pub outpoint: OutPoint,
}

/// Matches a whole block.
///
/// Outputs first, then inputs: an input that spends a hit of the same block is a spend, even if its
/// transaction stands before (Bitcoin Cash orders by id). The set itself is not changed.
///
/// # Errors
/// [`WalkError`] where the bytes are not a block. Neither proof of work nor Merkle root is checked.
pub fn match_block(set: &WatchSet, block: &[u8], options: Options) -> Result<BlockMatch, WalkError> {
    let mut finder = Finder::new(set, options, block.len());
    let walked = walk(block, &mut finder)?;
    let report = Report::of(block, Scope::Block, finder.finish(), options)?;
    let header = walked.header;
    Ok(BlockMatch {
        header: *header.as_bytes(),
        block_hash: header.block_hash(),
        prev_hash: header.prev_hash(),
        merkle_root: header.merkle_root(),
        time: header.time(),
        bits: header.bits(),
        tx_count: walked.tx_count,
        trailing_bytes: walked.trailing_bytes,
        hits: report.hits,
        spends: report.spends,
    })
}

/// Matches one transaction that stands alone.
///
/// # Errors
/// [`WalkError`] where the bytes are not a transaction, or more than one.
pub fn match_tx(set: &WatchSet, tx: &[u8], options: Options) -> Result<TxMatch, WalkError> {
    let mut single = Single { finder: Finder::new(set, options, tx.len()), txid: None };
    walk_tx(tx, &mut single)?;
    let report = Report::of(tx, Scope::Single, single.finder.finish(), options)?;
    Ok(TxMatch { txid: single.txid, hits: report.hits, spends: report.spends })
}

/// Finds as for a block and takes the id on the way.
struct Single<'s> {
    finder: Finder<'s>,
    txid: Option<[u8; 32]>,
}

impl<'a> Visitor<'a> for Single<'_> {
    fn begin_tx(&mut self, index: u32, offset: u32) {
        self.finder.begin_tx(index, offset);
    }

    fn input(&mut self, outpoint: &'a [u8; 36], offset: u32) {
        self.finder.input(outpoint, offset);
    }

    fn output(&mut self, value: u64, script: &'a [u8], offset: u32) {
        self.finder.output(value, script, offset);
    }

    fn end_tx(&mut self, tx: &RawTx<'a>) {
        self.txid = if tx.is_mweb_only() { None } else { Some(tx.txid()) };
    }
}

const fn is_hogex(tx: &RawTx<'_>) -> bool {
    matches!(tx.mweb, Mweb::HogEx)
}

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
