//! What waits in a mempool, or goes into a block.
//!
//! Not here: choosing coins to spend.

use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{OutPoint, ScriptBuf, Transaction, TxIn, TxOut, Txid};

/// A transaction of the mempool.
#[derive(Debug, Clone)]
pub(crate) enum PoolTx {
    /// An ordinary one.
    Plain(Transaction),
    /// One within Litecoin's extension blocks that pays somebody outside.
    PegOut(PegOut),
}

/// A payment from Litecoin's extension blocks to an ordinary script. The mempool shows it under the hash of its
/// kernel; in a block it is an output of the HogEx.
#[derive(Debug, Clone)]
pub(crate) struct PegOut {
    /// The hash of its kernel, under which the mempool shows it.
    pub(crate) kernel: Txid,
    /// The output that brought the coins into the extension blocks, of exactly `value`.
    pub(crate) peg_in: OutPoint,
    /// Who is paid.
    pub(crate) script: ScriptBuf,
    /// How much, in base units.
    pub(crate) value: u64,
    /// What stands for the extension's own data, which nobody outside can read.
    pub(crate) payload: [u8; 32],
}

impl PoolTx {
    /// The id under which the mempool shows it.
    pub(crate) fn txid(&self) -> Txid {
        match self {
            Self::Plain(tx) => tx.compute_txid(),
            Self::PegOut(peg_out) => peg_out.kernel,
        }
    }

    /// What it spends.
    pub(crate) fn inputs(&self) -> Vec<OutPoint> {
        match self {
            Self::Plain(tx) => tx.input.iter().map(|input: &TxIn| input.previous_output).collect(),
            Self::PegOut(peg_out) => vec![peg_out.peg_in],
        }
    }

    /// What it makes that others can spend before it is mined.
    pub(crate) fn outputs(&self) -> &[TxOut] {
        match self {
            Self::Plain(tx) => &tx.output,
            Self::PegOut(_) => &[],
        }
    }

    /// What it pays in all, in base units.
    pub(crate) fn value_out(&self) -> u64 {
        match self {
            Self::Plain(tx) => value_of(&tx.output),
            Self::PegOut(peg_out) => peg_out.value,
        }
    }

    /// As `getrawtransaction` gives it.
    pub(crate) fn raw(&self) -> Vec<u8> {
        match self {
            Self::Plain(tx) => serialize(tx),
            Self::PegOut(peg_out) => peg_out.raw(),
        }
    }
}

impl PegOut {
    /// Version, flag `08`, no inputs, no outputs, the extension's data (01 and bytes), lock time.
    fn raw(&self) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0, 0, 0x08, 0, 0, 1];
        bytes.extend(self.payload);
        bytes.extend(sha256d::Hash::hash(&self.payload).to_byte_array());
        bytes.extend([0; 4]);
        bytes
    }
}

/// The sum of outputs, held at the largest number: decoded transactions may name any values.
pub(crate) fn value_of(outputs: &[TxOut]) -> u64 {
    outputs.iter().fold(0, |sum, output| sum.saturating_add(output.value.to_sat()))
}

/// The outpoints that a transaction's outputs are spent by.
pub(crate) fn outpoints(txid: Txid, outputs: &[TxOut]) -> impl Iterator<Item = (OutPoint, &TxOut)> {
    (0_u32..).zip(outputs).map(move |(vout, output)| (OutPoint::new(txid, vout), output))
}
