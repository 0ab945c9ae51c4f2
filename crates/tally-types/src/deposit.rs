//! What identifies a deposit, across re-mining.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::TxId;

/// A deposit's identity on its chain: the transaction, and the place within it.
///
/// `slot` is the output's index on chains of the Bitcoin family; `value` or a trace path for native
/// Ethereum transfers; `log-N` (ordinal within the transaction) for tokens; `balance-<address>` for a
/// difference of balances, where `txid` is the block's hash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DepositKey {
    /// The transaction.
    pub txid: TxId,
    /// The place within it.
    pub slot: String,
}

impl fmt::Display for DepositKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.txid, self.slot)
    }
}

/// A transaction output that a payment spends, watched so that a double spend is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OutPoint {
    /// The transaction that made the output.
    pub txid: TxId,
    /// Its index there.
    pub vout: u32,
}
