//! What really happened at the node, and when: the causes that facts must have.
//!
//! Not here: the log.

use std::collections::{BTreeMap, HashMap, HashSet};

use tally_testkit::{FakeChain, Payment};
use tally_types::{BlockHash, BlockRef, OutPoint, TxId};

/// A transaction's history.
pub(crate) struct Transaction {
    pub(crate) payment: Payment,
    /// When it was in the mempool: from (inclusive) to (exclusive), in milliseconds of the run.
    spans: Vec<(u64, u64)>,
    /// The same, for the blocks of the node's best branch.
    in_blocks: Vec<(u64, u64)>,
}

/// Whether some of the spans reaches into a time, both its ends inclusive.
fn touch(spans: &[(u64, u64)], from_ms: u64, to_ms: u64) -> bool {
    spans.iter().any(|(entered, left)| *entered <= to_ms && *left > from_ms)
}

/// Notes whether it is there now.
fn note(spans: &mut Vec<(u64, u64)>, is_there: bool, now_ms: u64) {
    let open = spans.last_mut().filter(|(_, left)| *left == u64::MAX);
    match (open, is_there) {
        (Some((_, left)), false) => *left = now_ms,
        (None, true) => spans.push((now_ms, u64::MAX)),
        _ => {}
    }
}

impl Transaction {
    /// Whether it was in the mempool at some moment between two, both inclusive.
    pub(crate) fn was_in_mempool(&self, from_ms: u64, to_ms: u64) -> bool {
        touch(&self.spans, from_ms, to_ms)
    }

    /// Whether it was in a block of the node's best branch at some moment between two, both inclusive.
    pub(crate) fn was_in_block(&self, from_ms: u64, to_ms: u64) -> bool {
        touch(&self.in_blocks, from_ms, to_ms)
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
    /// Blocks that were on the node's best branch at some time, with the one before and their transactions.
    read: HashMap<BlockHash, (BlockHash, Vec<TxId>)>,
    /// Blocks that left the node's best branch at some time.
    left: HashSet<BlockHash>,
}

impl Truth {
    /// Takes down how the node stands now. To be called after each change, before anybody can look.
    pub(crate) fn record(&mut self, now_ms: u64, chain: &FakeChain) {
        self.record_blocks(now_ms, chain);
        let held = chain.mempool_payments();
        let ids: HashSet<TxId> = held.iter().map(|payment| payment.txid).collect();
        held.into_iter().for_each(|payment| self.meet(payment));
        for (txid, transaction) in &mut self.transactions {
            note(&mut transaction.spans, ids.contains(txid), now_ms);
        }
    }

    fn meet(&mut self, payment: Payment) {
        let txid = payment.txid;
        let fresh = Transaction { payment, spans: Vec::new(), in_blocks: Vec::new() };
        self.transactions.entry(txid).or_insert(fresh);
    }

    fn record_blocks(&mut self, now_ms: u64, chain: &FakeChain) {
        let tip = chain.tip_block();
        if self.tip == Some(tip) {
            return;
        }
        let mut at = tip.hash;
        while !self.read.contains_key(&at)
            && let Some((header, payments)) = chain.body(&at)
        {
            let ids = payments.iter().map(|payment| payment.txid).collect();
            self.read.insert(at, (header.prev, ids));
            payments.into_iter().for_each(|payment| self.meet(payment));
            at = header.prev;
        }
        let mut mined = HashSet::new();
        let mut at = tip.hash;
        while let Some((prev, ids)) = self.read.get(&at) {
            mined.extend(ids.iter().copied());
            at = *prev;
        }
        for (txid, transaction) in &mut self.transactions {
            note(&mut transaction.in_blocks, mined.contains(txid), now_ms);
        }
        let Some(before) = self.tip.replace(tip) else { return };
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
