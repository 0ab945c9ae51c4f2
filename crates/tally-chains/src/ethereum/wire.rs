//! What nodes answer, cut down to what is read. All else is ignored, so that new fields break nothing.

use ethers_core::types::{Address, Bloom, Bytes, H256, U64, U256};
use serde::Deserialize;

/// A block; its transactions are hashes, whole, or not looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Block<T> {
    /// Absent in pending blocks.
    pub(crate) hash: Option<H256>,
    pub(crate) number: Option<U64>,
    pub(crate) parent_hash: H256,
    pub(crate) timestamp: U64,
    pub(crate) logs_bloom: Option<Bloom>,
    pub(crate) transactions: Vec<T>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Transaction {
    pub(crate) hash: H256,
    pub(crate) from: Address,
    /// Absent where a contract is made.
    pub(crate) to: Option<Address>,
    pub(crate) value: U256,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Receipt {
    pub(crate) transaction_hash: H256,
    pub(crate) block_hash: H256,
    pub(crate) block_number: U64,
    /// 1 if the transaction was executed to its end. Absent before Byzantium (2017).
    pub(crate) status: Option<U64>,
    pub(crate) contract_address: Option<Address>,
    pub(crate) logs: Vec<Log>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Log {
    pub(crate) address: Address,
    pub(crate) topics: Vec<H256>,
    pub(crate) data: Bytes,
    /// Within the block.
    pub(crate) log_index: U64,
    pub(crate) block_hash: H256,
    pub(crate) transaction_hash: H256,
}

/// One transaction's trace.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trace {
    /// Not told by older nodes.
    #[serde(default)]
    pub(crate) tx_hash: Option<H256>,
    #[serde(default)]
    pub(crate) result: Option<Frame>,
    /// The trace failed, not the transaction.
    #[serde(default)]
    pub(crate) error: Option<String>,
}

/// One call, as `callTracer` tells it.
#[derive(Debug, Deserialize)]
pub(crate) struct Frame {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) from: Address,
    #[serde(default)]
    pub(crate) to: Option<Address>,
    #[serde(default)]
    pub(crate) value: Option<U256>,
    #[serde(default)]
    pub(crate) error: Option<String>,
    #[serde(default)]
    pub(crate) calls: Option<Vec<Frame>>,
}

impl Frame {
    /// What it did was undone, and what was called from it.
    pub(crate) fn failed(&self) -> bool {
        self.error.as_ref().is_some_and(|error| !error.is_empty())
    }
}
