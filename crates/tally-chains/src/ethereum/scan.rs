//! What a block pays to watched addresses, from what the node told of it. Pure.
//!
//! Identities hold across re-mining: `value` for what a transaction itself transfers, whichever way it is found;
//! the path of the call for transfers by contracts (`0_1`: the second call of the first); `log-N` for tokens, N
//! counted within the transaction, since the index of a log in its block changes.

use std::sync::PoisonError;

use ethers_core::abi::ethereum_types::BloomInput;
use ethers_core::types::{Bloom, H256, U256};
use tally_matcher::WatchSet;
use tally_ports::{Credit, Header, SharedWatch};
use tally_types::{BaseUnits, Currency, DepositKey, Script, TxId};

use super::plan::Plan;
use super::wire::{Account, Block, BloomBits, Frame, Hash, Log, Receipt, Trace, Transaction};

/// keccak-256 of `Transfer(address,address,uint256)`.
const TRANSFER: H256 = H256([
    0xdd, 0xf2, 0x52, 0xad, 0x1b, 0xe2, 0xc8, 0x9b, 0x69, 0xc2, 0xb0, 0x68, 0xfc, 0x37, 0x8d, 0xaa, 0x95,
    0x2b, 0xa7, 0xf1, 0x63, 0xc4, 0xa1, 0x16, 0x28, 0xf5, 0x5a, 0x4d, 0xf5, 0x23, 0xb3, 0xef,
]);

/// The slot of what a transaction itself transfers.
const SLOT_VALUE: &str = "value";

/// Answers that contradict each other, in words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Contradiction(pub(crate) String);

pub(super) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Contradiction> {
    if holds { Ok(()) } else { Err(Contradiction(what())) }
}

/// Everything the node told of one block.
pub(crate) struct Told {
    pub(crate) block: Block<Transaction>,
    pub(crate) receipts: Vec<Receipt>,
    /// `None` where natives are found at the top level.
    pub(crate) traces: Option<Vec<Trace>>,
}

impl Told {
    /// Proves that the parts belong together and to `expected`, and finds what is watched.
    pub(crate) fn credits(
        &self,
        expected: &Header,
        plan: &Plan,
        watch: &SharedWatch,
    ) -> Result<Vec<Credit>, Contradiction> {
        self.check_receipts(expected)?;
        let set = watch.read().unwrap_or_else(PoisonError::into_inner);
        let mut finder =
            Finder { plan, set: &set, bloom: self.block.logs_bloom.as_ref(), credits: Vec::new() };
        for (index, (transaction, receipt)) in self.block.transactions.iter().zip(&self.receipts).enumerate()
        {
            let done = succeeded(receipt);
            match &self.traces {
                None => finder.top_level(transaction, receipt, done),
                Some(traces) => finder.traced(transaction, traces.get(index), done)?,
            }
            if done {
                finder.tokens(receipt)?;
            }
        }
        Ok(finder.credits)
    }

    /// One receipt for each transaction, in order, all of this very block.
    fn check_receipts(&self, expected: &Header) -> Result<(), Contradiction> {
        let (block, hash) = (&self.block.transactions, expected.block.hash);
        let ours = |what: Hash| what.0 == *hash.display_bytes();
        ensure(self.receipts.len() == block.len(), || {
            format!("block {hash} has {} transactions and {} receipts", block.len(), self.receipts.len())
        })?;
        for (transaction, receipt) in block.iter().zip(&self.receipts) {
            let here = receipt.block_number.get() == Some(expected.block.height.get());
            let place = here && ours(receipt.block_hash);
            let logs = receipt.logs.iter();
            let logs = logs.map(|log| ours(log.block_hash) && log.transaction_hash == transaction.hash);
            ensure(
                receipt.transaction_hash == transaction.hash && place && logs.into_iter().all(|good| good),
                || format!("the receipt of {:?} is not one of block {hash}", transaction.hash),
            )?;
            ensure(receipt.status.is_some(), || {
                format!("the receipt of {:?} has no status", transaction.hash)
            })?;
        }
        if let Some(traces) = &self.traces {
            ensure(traces.len() == block.len(), || {
                format!("block {hash} has {} transactions and {} traces", block.len(), traces.len())
            })?;
        }
        Ok(())
    }
}

struct Finder<'a> {
    plan: &'a Plan,
    set: &'a WatchSet,
    bloom: Option<&'a BloomBits>,
    credits: Vec<Credit>,
}

impl Finder<'_> {
    /// What the transaction itself transfers.
    fn top_level(&mut self, transaction: &Transaction, receipt: &Receipt, done: bool) {
        if let (true, Some(to)) = (done, transaction.to.or(receipt.contract_address)) {
            self.native(
                transaction.hash,
                || SLOT_VALUE.to_owned(),
                transaction.from,
                to,
                transaction.value.0,
            );
        }
    }

    /// What the transaction and all it calls transfer.
    fn traced(
        &mut self,
        transaction: &Transaction,
        trace: Option<&Trace>,
        done: bool,
    ) -> Result<(), Contradiction> {
        let txid = transaction.hash;
        let Some(Trace { tx_hash, result: Some(root), error: None }) = trace else {
            let why = trace.and_then(|trace| trace.error.as_deref()).unwrap_or("absent");
            return Err(Contradiction(format!("the trace of {txid:?} failed: {why}")));
        };
        ensure(tx_hash.is_none_or(|told| told == txid), || format!("the trace of {txid:?} is another's"))?;
        if !done {
            return Ok(());
        }
        let same = root.value.unwrap_or_default() == transaction.value
            && root.from == transaction.from
            && (transaction.to.is_none() || root.to == transaction.to);
        ensure(same, || format!("the trace of {txid:?} begins with another call"))?;
        ensure(!root.failed(), || format!("{txid:?} succeeded by its receipt and failed by its trace"))?;
        self.calls(txid, root);
        Ok(())
    }

    /// Every call that stands, the outer before the inner. What a failed call or any call below it transferred
    /// was undone.
    fn calls(&mut self, txid: Hash, root: &Frame) {
        let mut stack = vec![(root, String::new())];
        while let Some((frame, path)) = stack.pop() {
            if frame.failed() {
                continue;
            }
            if let (true, Some(to), Some(value)) = (transfers(&frame.kind), frame.to, frame.value) {
                let slot = || if path.is_empty() { SLOT_VALUE.to_owned() } else { path.clone() };
                self.native(txid, slot, frame.from, to, value.0);
            }
            let inner = frame.calls.iter().flatten().enumerate();
            let inner = inner.map(|(index, call)| {
                (call, if path.is_empty() { index.to_string() } else { format!("{path}_{index}") })
            });
            let first = stack.len();
            stack.extend(inner);
            if let Some(added) = stack.get_mut(first..) {
                added.reverse();
            }
        }
    }

    fn native(&mut self, txid: Hash, slot: impl FnOnce() -> String, from: Account, to: Account, value: U256) {
        let currency = &self.plan.native;
        credit(&mut self.credits, self.set, currency, txid, slot, (from, to), value);
    }

    /// The transfers of allow-listed tokens in a receipt's logs.
    fn tokens(&mut self, receipt: &Receipt) -> Result<(), Contradiction> {
        if !receipt.logs.iter().any(|log| self.plan.tokens.contains_key(&log.address.address())) {
            return Ok(());
        }
        let mut logs: Vec<&Log> = receipt.logs.iter().collect();
        logs.sort_by_key(|log| log.log_index.0);
        for (ordinal, log) in logs.into_iter().enumerate() {
            let Some(token) = self.plan.tokens.get(&log.address.address()) else { continue };
            let Some((from, to, amount)) = transfer(log) else { continue };
            let (txid, slot) = (receipt.transaction_hash, || format!("log-{ordinal}"));
            let found = self.credits.len();
            credit(&mut self.credits, self.set, &token.currency, txid, slot, (from, to), amount);
            if self.credits.len() > found {
                ensure(self.bloom.is_some_and(|bloom| covers(bloom, log)), || {
                    format!("the block's bloom filter does not have a log of {txid:?}")
                })?;
            }
        }
        Ok(())
    }
}

/// Adds a credit if it pays something to a watched address. What one pays to oneself is no payment.
fn credit(
    credits: &mut Vec<Credit>,
    set: &WatchSet,
    currency: &Currency,
    txid: Hash,
    slot: impl FnOnce() -> String,
    (from, to): (Account, Account),
    value: U256,
) {
    if value.is_zero() || from == to || !set.contains_script(&to.0) {
        return;
    }
    let Ok(script) = Script::from_bytes(&to.0) else { return };
    // No chain has issued as much; a token that claims to has paid any order.
    let units = u128::try_from(value).unwrap_or(u128::MAX);
    credits.push(Credit {
        key: DepositKey { txid: TxId::from_display(txid.0), slot: slot() },
        currency: currency.clone(),
        amount: BaseUnits::from_units(units),
        script,
        inputs: Vec::new(),
        difference: None,
    });
}

/// Whether a call of this kind moves its value from `from` to `to`. The others run with what their caller has.
fn transfers(kind: &str) -> bool {
    ["CALL", "CREATE", "CREATE2", "SELFDESTRUCT"].iter().any(|known| known.eq_ignore_ascii_case(kind))
}

/// Executed to its end.
pub(super) fn succeeded(receipt: &Receipt) -> bool {
    receipt.status.and_then(|status| status.get()) == Some(1)
}

/// An ERC-20 transfer: three topics (an ERC-721 transfer has four) and 32 bytes of data.
fn transfer(log: &Log) -> Option<(Account, Account, U256)> {
    let [topic, from, to] = log.topics.as_slice() else { return None };
    if topic.0 != TRANSFER.0 {
        return None;
    }
    Some((from.address()?, to.address()?, U256::from_big_endian(&log.data.0?)))
}

fn covers(bloom: &BloomBits, log: &Log) -> bool {
    let bloom = Bloom(bloom.0);
    let has = |bytes: &[u8]| bloom.contains_input(BloomInput::Raw(bytes));
    has(&log.address.0) && log.topics.as_slice().iter().all(|topic| has(&topic.0))
}

#[cfg(test)]
mod tests;
