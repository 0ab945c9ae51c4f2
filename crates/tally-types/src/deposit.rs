//! What identifies a deposit, across re-mining.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{BaseUnits, Height, TxId};

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

/// What a deposit is that was not found as a transfer of its own, but as the rest of a sum: the difference of two
/// balances, less what was found otherwise in the blocks between. Whatever is found in them later is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Difference {
    /// The first block of the sum; the last is the deposit's own.
    pub since: Height,
    /// The whole sum: all that the address received in these blocks, however it was or will be found.
    pub received: BaseUnits,
}

/// A transaction output that a payment spends, watched so that a double spend is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OutPoint {
    /// The transaction that made the output.
    pub txid: TxId,
    /// Its index there.
    pub vout: u32,
}
