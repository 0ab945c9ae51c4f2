//! Ethereum blocks: headers, their hashes and roots, receipts.
//!
//! The root of the state is not a trie's: it is a hash over what came before and what changed, which is enough
//! for it to differ where the state does.

use super::rlp::{bytes, keccak, list, number};
use super::transaction::{AccountTx, GAS_PRICE, Log};
use super::trie::ordered_root;
use super::{Address, Hash};

/// Gas that a block may use.
pub(crate) const GAS_LIMIT: u64 = 30_000_000;

/// Bits of a bloom filter over logs.
pub(crate) type Bloom = [u8; 256];

/// A block of any branch, with its receipts.
#[derive(Debug, Clone)]
pub(crate) struct AccountBlock {
    pub(crate) hash: Hash,
    pub(crate) parent: Hash,
    pub(crate) number: u64,
    pub(crate) timestamp: u64,
    /// Differs for every block ever made.
    pub(crate) extra: Vec<u8>,
    pub(crate) state_root: Hash,
    pub(crate) transactions_root: Hash,
    pub(crate) receipts_root: Hash,
    pub(crate) bloom: Bloom,
    pub(crate) gas_used: u64,
    pub(crate) size: usize,
    pub(crate) txs: Vec<AccountTx>,
    pub(crate) receipts: Vec<Receipt>,
}

/// What came of a transaction.
#[derive(Debug, Clone)]
pub(crate) struct Receipt {
    pub(crate) succeeded: bool,
    pub(crate) gas_used: u64,
    pub(crate) cumulative_gas: u64,
    pub(crate) bloom: Bloom,
    pub(crate) logs: Vec<Log>,
    /// The place of its first log in the block.
    pub(crate) first_log: u64,
}

impl AccountBlock {
    /// A block on top of `parent`, or the first one.
    pub(crate) fn new(parent: Option<&Self>, timestamp: u64, extra: Vec<u8>, txs: Vec<AccountTx>) -> Self {
        let receipts = receipts(&txs);
        let encoded: Vec<_> = receipts.iter().map(Receipt::encode).collect();
        let raw: Vec<_> = txs.iter().map(|tx| tx.raw.clone()).collect();
        let before = parent.map_or([0; 32], |parent| parent.state_root.0);
        let mut bloom = [0; 256];
        for (all, one) in receipts.iter().flat_map(|receipt| bloom_places(&receipt.bloom)) {
            if let Some(byte) = bloom.get_mut(all) {
                *byte |= one;
            }
        }
        let mut block = Self {
            hash: Hash([0; 32]),
            parent: parent.map_or(Hash([0; 32]), |parent| parent.hash),
            number: parent.map_or(0, |parent| parent.number.saturating_add(1)),
            timestamp,
            extra,
            state_root: Hash(keccak(&[&before[..], &raw.concat()].concat())),
            transactions_root: Hash(ordered_root(&raw)),
            receipts_root: Hash(ordered_root(&encoded)),
            bloom,
            gas_used: receipts.last().map_or(0, |receipt| receipt.cumulative_gas),
            size: 0,
            txs,
            receipts,
        };
        let header = block.header();
        block.hash = Hash(keccak(&header));
        block.size = raw.iter().fold(header.len(), |size, tx| size.saturating_add(tx.len()));
        block
    }

    /// The header as it is since the fork called London.
    fn header(&self) -> Vec<u8> {
        list(&[
            bytes(&self.parent.0),
            bytes(&Self::uncles_hash().0),
            bytes(&Address::ZERO.0),
            bytes(&self.state_root.0),
            bytes(&self.transactions_root.0),
            bytes(&self.receipts_root.0),
            bytes(&self.bloom),
            number(0),
            number(u128::from(self.number)),
            number(u128::from(GAS_LIMIT)),
            number(u128::from(self.gas_used)),
            number(u128::from(self.timestamp)),
            bytes(&self.extra),
            bytes(&[0; 32]),
            bytes(&[0; 8]),
            number(GAS_PRICE),
        ])
    }

    /// The hash of an empty list.
    pub(crate) fn uncles_hash() -> Hash {
        Hash(keccak(&list(&[])))
    }
}

impl Receipt {
    fn encode(&self) -> Vec<u8> {
        let logs: Vec<_> = self.logs.iter().map(encode_log).collect();
        list(&[
            number(u128::from(self.succeeded)),
            number(u128::from(self.cumulative_gas)),
            bytes(&self.bloom),
            list(&logs),
        ])
    }
}

fn encode_log(log: &Log) -> Vec<u8> {
    let topics: Vec<_> = log.topics.iter().map(|topic| bytes(&topic.0)).collect();
    list(&[bytes(&log.address.0), list(&topics), bytes(&log.data)])
}

fn receipts(txs: &[AccountTx]) -> Vec<Receipt> {
    let (mut cumulative_gas, mut first_log) = (0_u64, 0_u64);
    let receipt = |tx: &AccountTx| {
        cumulative_gas = cumulative_gas.saturating_add(tx.gas);
        let logs = tx.logs();
        let receipt = Receipt {
            succeeded: tx.succeeds(),
            gas_used: tx.gas,
            cumulative_gas,
            bloom: bloom(&logs),
            first_log,
            logs,
        };
        first_log = first_log.saturating_add(u64::try_from(receipt.logs.len()).unwrap_or_default());
        receipt
    };
    txs.iter().map(receipt).collect()
}

/// Three bits for each address and topic: the low 11 bits of the first three pairs of bytes of its hash, counted
/// from the filter's end.
fn bloom(logs: &[Log]) -> Bloom {
    let mut bloom = [0; 256];
    for log in logs {
        let topics = log.topics.iter().map(|topic| &topic.0[..]);
        for entry in std::iter::once(&log.address.0[..]).chain(topics) {
            for pair in keccak(entry).chunks_exact(2).take(3) {
                let bit = pair.iter().fold(0_usize, |bits, byte| (bits << 8) | usize::from(*byte)) & 0x7ff;
                if let Some(byte) = bloom.iter_mut().rev().nth(bit / 8) {
                    *byte |= 1 << (bit % 8);
                }
            }
        }
    }
    bloom
}

fn bloom_places(bloom: &Bloom) -> impl Iterator<Item = (usize, u8)> {
    bloom.iter().copied().enumerate()
}
