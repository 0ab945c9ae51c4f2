//! Builds blocks as the real networks have them: coinbase, witness commitment, order, HogEx, Merkle root, proof
//! of work.
//!
//! Not here: which transactions go into one, and which branch it belongs to.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::script::Builder;
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
    TxOut, VarInt, Witness,
};
use tally_matcher::{check_pow, sha256d as double_sha256};

use super::coins::Coin;
use super::faucet::Faucet;
use super::rules::{BITS, CoinRules};
use super::transaction::{PegOut, PoolTx};
use crate::error::SandboxError;

/// What a block pays its miner, which here is always the faucet: many coins, so that payments need not spend
/// each other's change. More than on the real networks, and never halved, so that no test runs dry.
const COINBASE_OUTPUTS: u64 = 20;
const COINBASE_OUTPUT: Amount = Amount::from_sat(5_000_000_000);

/// A block of any branch.
#[derive(Debug)]
pub(crate) struct StoredBlock {
    pub(crate) hash: BlockHash,
    pub(crate) header: Header,
    pub(crate) height: u64,
    pub(crate) txs: Vec<Transaction>,
    /// As `getblock` gives it.
    pub(crate) raw: Vec<u8>,
    /// What its HogEx pays out, if it has one.
    pub(crate) peg_outs: Option<Vec<PegOut>>,
    /// What its transactions spent when it was connected.
    pub(crate) spent: Vec<(OutPoint, Coin)>,
}

/// What a new block is made of.
#[derive(Debug)]
pub(crate) struct Template<'a> {
    pub(crate) rules: &'static CoinRules,
    pub(crate) faucet: &'a Faucet,
    pub(crate) prev: BlockHash,
    pub(crate) height: u64,
    pub(crate) time: u32,
    /// Differs for every block ever made, so that two of the same height and content do.
    pub(crate) extra_nonce: u64,
    pub(crate) txs: Vec<PoolTx>,
    pub(crate) fees: u64,
    /// The first output of the HogEx before, once there was one.
    pub(crate) hog: Option<(OutPoint, Amount)>,
}

impl StoredBlock {
    /// The chain's first block.
    pub(crate) fn genesis(rules: &CoinRules) -> Self {
        let block = (rules.genesis)();
        let raw = serialize(&block);
        Self {
            hash: block.block_hash(),
            header: block.header,
            height: 0,
            txs: block.txdata,
            raw,
            peg_outs: None,
            spent: Vec::new(),
        }
    }

    /// The first output of its HogEx, which the next one spends.
    pub(crate) fn hog(&self) -> Option<(OutPoint, Amount)> {
        let hogex = self.txs.last().filter(|_| self.peg_outs.is_some())?;
        Some((OutPoint::new(hogex.compute_txid(), 0), hogex.output.first()?.value))
    }

    /// Its transactions as they would stand in a mempool: without coinbase and HogEx, with what that paid out.
    pub(crate) fn pool_transactions(&self) -> Vec<PoolTx> {
        let hogex = usize::from(self.peg_outs.is_some());
        let plain = self.txs.iter().skip(1).take(self.txs.len().saturating_sub(1).saturating_sub(hogex));
        let peg_outs = self.peg_outs.iter().flatten().cloned().map(PoolTx::PegOut);
        plain.cloned().map(PoolTx::Plain).chain(peg_outs).collect()
    }

    /// The same header over other contents: each output of an ordinary transaction is one unit off. `None`
    /// where there is no such transaction.
    pub(crate) fn forged(&self) -> Option<Vec<u8>> {
        if self.txs.len() < 2 {
            return None;
        }
        let mut txs = self.txs.clone();
        for output in txs.iter_mut().skip(1).flat_map(|tx| &mut tx.output) {
            output.value = Amount::from_sat(output.value.to_sat() ^ 1);
        }
        Some(encode(&self.header, &txs, self.peg_outs.is_some()))
    }
}

impl Template<'_> {
    /// Makes the block; what its transactions spend is left for whoever connects it.
    pub(crate) fn build(self) -> Result<StoredBlock, SandboxError> {
        let mut plain = Vec::new();
        let mut peg_outs = Vec::new();
        for tx in &self.txs {
            match tx {
                PoolTx::Plain(tx) => plain.push(tx.clone()),
                PoolTx::PegOut(peg_out) => peg_outs.push(peg_out.clone()),
            }
        }
        if self.rules.ordered_by_txid {
            plain.sort_by_cached_key(|tx| {
                let mut printed = tx.compute_txid().to_byte_array();
                printed.reverse();
                printed
            });
        }
        let has_hogex = self.rules.mweb && (self.hog.is_some() || !peg_outs.is_empty());
        if has_hogex {
            plain.push(self.hogex(&peg_outs));
        }
        plain.insert(0, self.coinbase());
        let mut block = Block { header: self.header(), txdata: plain };
        if self.rules.segwit {
            commit_to_witnesses(&mut block);
        }
        if let Some(root) = block.compute_merkle_root() {
            block.header.merkle_root = root;
        }
        grind(&mut block.header, self.rules, self.height)?;
        Ok(StoredBlock {
            hash: block.block_hash(),
            header: block.header,
            height: self.height,
            raw: encode(&block.header, &block.txdata, has_hogex),
            txs: block.txdata,
            peg_outs: has_hogex.then_some(peg_outs),
            spent: Vec::new(),
        })
    }

    fn header(&self) -> Header {
        Header {
            version: Version::from_consensus(0x2000_0000),
            prev_blockhash: self.prev,
            merkle_root: TxMerkleNode::all_zeros(),
            time: self.time,
            bits: CompactTarget::from_consensus(BITS),
            nonce: 0,
        }
    }

    fn coinbase(&self) -> Transaction {
        let script_sig = Builder::new()
            .push_int(i64::try_from(self.height).unwrap_or(i64::MAX))
            .push_slice(self.extra_nonce.to_le_bytes())
            .into_script();
        let fees = Amount::from_sat(self.fees);
        let output = (0..COINBASE_OUTPUTS).map(|index| TxOut {
            value: if index == 0 { COINBASE_OUTPUT + fees } else { COINBASE_OUTPUT },
            script_pubkey: self.faucet.script_pubkey.clone(),
        });
        Transaction {
            version: TxVersion::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig,
                sequence: Sequence::MAX,
                witness: Witness::new(),
            }],
            output: output.collect(),
        }
    }

    /// The transaction that stands for the extension block among the others (LIP 0003): it spends its
    /// predecessor's first output and the peg-ins, and pays the rest on and the peg-outs.
    fn hogex(&self, peg_outs: &[PegOut]) -> Transaction {
        let inputs = self.hog.iter().map(|(outpoint, _)| *outpoint);
        let inputs = inputs.chain(peg_outs.iter().map(|peg_out| peg_out.peg_in));
        let input = inputs.map(|previous_output| TxIn {
            previous_output,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        });
        let extension = [&self.prev.to_byte_array()[..], &self.extra_nonce.to_le_bytes()].concat();
        let hog = TxOut {
            value: self.hog.map_or(Amount::ZERO, |(_, value)| value),
            script_pubkey: witness_program(8, &double_sha256(&extension)),
        };
        let paid = peg_outs.iter().map(|peg_out| TxOut {
            value: Amount::from_sat(peg_out.value),
            script_pubkey: peg_out.script.clone(),
        });
        Transaction {
            version: TxVersion::TWO,
            lock_time: LockTime::ZERO,
            input: input.collect(),
            output: std::iter::once(hog).chain(paid).collect(),
        }
    }
}

/// A witness program of a version from 1 to 16.
pub(crate) fn witness_program(version: u8, program: &[u8; 32]) -> ScriptBuf {
    let opcode = 0x50_u8.saturating_add(version);
    ScriptBuf::from_bytes([&[opcode, 32][..], program].concat())
}

/// BIP 141: the coinbase commits to the witnesses, its own being 32 zeros.
fn commit_to_witnesses(block: &mut Block) {
    const RESERVED: [u8; 32] = [0; 32];
    const MAGIC: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
    let Some(root) = block.witness_root() else { return };
    let commitment = Block::compute_witness_commitment(&root, &RESERVED);
    let script = [&MAGIC[..], commitment.as_byte_array()].concat();
    let Some(coinbase) = block.txdata.first_mut() else { return };
    coinbase.output.push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) });
    for input in &mut coinbase.input {
        input.witness = Witness::from_slice(&[RESERVED]);
    }
}

/// Finds the nonce that gives the header its proof of work: the second, on average.
fn grind(header: &mut Header, rules: &CoinRules, height: u64) -> Result<(), SandboxError> {
    for nonce in 0..=u32::MAX {
        header.nonce = nonce;
        let bytes = serialize(&*header);
        let bytes: &[u8; 80] = bytes.as_slice().try_into().map_err(|_| SandboxError::NoNonce(height))?;
        if check_pow(bytes, rules.pow).is_ok() {
            return Ok(());
        }
    }
    Err(SandboxError::NoNonce(height))
}

/// The bytes of a block. A HogEx is written with flag `08` and the byte that says that its data stand behind
/// the transactions; there, `01` and the extension block, which here is only a hash.
fn encode(header: &Header, txs: &[Transaction], has_hogex: bool) -> Vec<u8> {
    let mut bytes = serialize(header);
    bytes.extend(serialize(&VarInt::from(txs.len())));
    let ordinary = txs.len().saturating_sub(usize::from(has_hogex));
    for tx in txs.iter().take(ordinary) {
        bytes.extend(serialize(tx));
    }
    if let Some(hogex) = txs.get(ordinary) {
        let plain = serialize(hogex);
        let (version, rest) = plain.split_at(4);
        let (body, lock_time) = rest.split_at(rest.len().saturating_sub(4));
        for part in [version, &[0, 0x08], body, &[0], lock_time, &[1]] {
            bytes.extend(part);
        }
        bytes.extend(sha256d::Hash::hash(&plain).to_byte_array());
    }
    bytes
}
