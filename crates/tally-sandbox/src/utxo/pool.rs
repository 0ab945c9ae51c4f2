//! The mempool: what has not been mined, in the order in which it came.
//!
//! Not here: whether a transaction may enter.

use std::collections::{BTreeMap, HashMap};

use bitcoin::{OutPoint, TxOut, Txid};

use super::coins::{Coins, select};
use super::transaction::PoolTx;

/// The mempool.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    entries: BTreeMap<u64, PoolTx>,
    places: HashMap<Txid, u64>,
    spends: HashMap<OutPoint, Txid>,
    next: u64,
}

impl Pool {
    pub(crate) fn insert(&mut self, tx: PoolTx) -> Txid {
        let txid = tx.txid();
        self.spends.extend(tx.inputs().into_iter().map(|outpoint| (outpoint, txid)));
        self.places.insert(txid, self.next);
        self.entries.insert(self.next, tx);
        self.next = self.next.saturating_add(1);
        txid
    }

    pub(crate) fn remove(&mut self, txid: &Txid) -> Option<PoolTx> {
        let tx = self.entries.remove(&self.places.remove(txid)?)?;
        for outpoint in tx.inputs() {
            // A successor may have taken the outpoint over.
            if self.spends.get(&outpoint) == Some(txid) {
                self.spends.remove(&outpoint);
            }
        }
        Some(tx)
    }

    pub(crate) fn get(&self, txid: &Txid) -> Option<&PoolTx> {
        self.entries.get(self.places.get(txid)?)
    }

    pub(crate) fn contains(&self, txid: &Txid) -> bool {
        self.places.contains_key(txid)
    }

    /// The ids, in the order in which they came.
    pub(crate) fn txids(&self) -> impl Iterator<Item = Txid> + '_ {
        self.entries.values().map(PoolTx::txid)
    }

    /// Everything, in the order in which it came.
    pub(crate) fn transactions(&self) -> impl DoubleEndedIterator<Item = &PoolTx> {
        self.entries.values()
    }

    /// The transaction that spends an outpoint.
    pub(crate) fn spender(&self, outpoint: &OutPoint) -> Option<Txid> {
        self.spends.get(outpoint).copied()
    }

    /// An output of a transaction that waits here, spent or not.
    pub(crate) fn output(&self, outpoint: &OutPoint) -> Option<&TxOut> {
        self.get(&outpoint.txid)?.outputs().get(usize::try_from(outpoint.vout).ok()?)
    }

    /// Takes out what can no longer be mined in a block at `height`, and answers the ids.
    pub(crate) fn evict_invalid(&mut self, coins: &Coins, height: u64) -> Vec<Txid> {
        let refused = select(coins, height, self.entries.values().cloned().collect()).refused;
        let gone: Vec<_> = refused.iter().map(PoolTx::txid).collect();
        for txid in &gone {
            self.remove(txid);
        }
        gone
    }
}
