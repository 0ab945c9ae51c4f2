//! What really happened at the node, and when: the causes that facts must have.
//!
//! Not here: the log.

use std::collections::{BTreeMap, HashSet};

use tally_testkit::{FakeChain, Payment};
use tally_types::{BlockHash, BlockRef, OutPoint, TxId};

/// A transaction's history.
pub(crate) struct Transaction {
    pub(crate) payment: Payment,
    /// When it was in the mempool: from (inclusive) to (exclusive), in milliseconds of the run.
    spans: Vec<(u64, u64)>,
}

impl Transaction {
    /// Whether it was in the mempool at some moment between two, both inclusive.
    pub(crate) fn was_in_mempool(&self, from_ms: u64, to_ms: u64) -> bool {
        self.spans.iter().any(|(entered, left)| *entered <= to_ms && *left > from_ms)
    }

    /// Whether it was outside the mempool at some moment between two, both inclusive.
    pub(crate) fn was_outside(&self, from_ms: u64, to_ms: u64) -> bool {
        !self.spans.iter().any(|(entered, left)| *entered <= from_ms && *left > to_ms)
    }

    /// Since when it has been in the mempool, if it is there.
    pub(crate) fn in_mempool_since(&self) -> Option<u64> {
        self.spans.last().filter(|(_, left)| *left == u64::MAX).map(|(entered, _)| *entered)
    }

    /// When the mempool first held it.
    pub(crate) fn first_held(&self) -> Option<u64> {
        self.spans.first().map(|(entered, _)| *entered)
    }
}

/// Everything that happened so far.
#[derive(Default)]
pub(crate) struct Truth {
    transactions: BTreeMap<TxId, Transaction>,
    tip: Option<BlockRef>,
    /// Blocks whose transactions are taken down.
    read: HashSet<BlockHash>,
    /// Blocks that left the node's best branch at some time.
    left: HashSet<BlockHash>,
}

impl Truth {
    /// Takes down how the node stands now. To be called after each change, before anybody can look.
    pub(crate) fn record(&mut self, now_ms: u64, chain: &FakeChain) {
        self.record_blocks(chain);
        let held = chain.mempool_payments();
        for (txid, transaction) in &mut self.transactions {
            if let Some((_, left)) = transaction.spans.last_mut().filter(|(_, left)| *left == u64::MAX)
                && !held.iter().any(|payment| payment.txid == *txid)
            {
                *left = now_ms;
            }
        }
        for payment in held {
            let fresh = Transaction { payment: payment.clone(), spans: Vec::new() };
            let known = self.transactions.entry(payment.txid).or_insert(fresh);
            if known.in_mempool_since().is_none() {
                known.spans.push((now_ms, u64::MAX));
            }
        }
    }

    fn record_blocks(&mut self, chain: &FakeChain) {
        let tip = chain.tip_block();
        let mut at = tip.hash;
        while self.read.insert(at)
            && let Some((header, payments)) = chain.body(&at)
        {
            for payment in payments {
                let fresh = Transaction { payment: payment.clone(), spans: Vec::new() };
                self.transactions.entry(payment.txid).or_insert(fresh);
            }
            at = header.prev;
        }
        let Some(before) = self.tip.replace(tip).filter(|before| *before != tip) else { return };
        let mut at = before.hash;
        while let Some((header, _)) = chain.body(&at)
            && !is_ancestor(chain, header.block, tip)
        {
            self.left.insert(at);
            at = header.prev;
        }
    }

    /// Whether a block left the node's best branch at some time.
    pub(crate) fn was_left(&self, block: &BlockRef) -> bool {
        self.left.contains(&block.hash)
    }

    pub(crate) fn transaction(&self, txid: &TxId) -> Option<&Transaction> {
        self.transactions.get(txid)
    }

    pub(crate) fn transactions(&self) -> impl Iterator<Item = &Transaction> {
        self.transactions.values()
    }

    /// Whether two transactions cannot both be in one chain.
    pub(crate) fn conflict(one: &Payment, other: &Payment) -> bool {
        let spends = |input: &OutPoint| other.inputs.contains(input);
        one.txid != other.txid && one.inputs.iter().any(spends)
    }
}

/// Whether `tip`'s branch holds `block`.
fn is_ancestor(chain: &FakeChain, block: BlockRef, tip: BlockRef) -> bool {
    let mut at = tip.hash;
    while let Some((header, _)) = chain.body(&at)
        && header.block.height >= block.height
    {
        if at == block.hash {
            return true;
        }
        at = header.prev;
    }
    false
}
