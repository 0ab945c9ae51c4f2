//! Where the coins of payments come from: one script that anybody can spend, so that no key is needed and every
//! transaction is still valid.
//!
//! Not here: which coins are spent.

use bitcoin::opcodes::OP_TRUE;
use bitcoin::opcodes::all::OP_DROP;
use bitcoin::script::Builder;
use bitcoin::{OutPoint, ScriptBuf, Sequence, TxIn, Witness};

use super::rules::CoinRules;

/// The script that holds the coins: `<8 bytes> OP_DROP OP_TRUE` behind its hash (P2WSH, or P2SH where there is
/// no SegWit).
#[derive(Debug)]
pub(crate) struct Faucet {
    /// What outputs to the faucet carry.
    pub(crate) script_pubkey: ScriptBuf,
    redeem: ScriptBuf,
    segwit: bool,
    rbf: bool,
}

impl Faucet {
    /// The faucet that `tag` names.
    pub(crate) fn new(tag: u64, rules: &CoinRules) -> Self {
        let redeem = Builder::new()
            .push_slice(tag.to_be_bytes())
            .push_opcode(OP_DROP)
            .push_opcode(OP_TRUE)
            .into_script();
        let script_pubkey = if rules.segwit { redeem.to_p2wsh() } else { redeem.to_p2sh() };
        Self { script_pubkey, redeem, segwit: rules.segwit, rbf: rules.rbf }
    }

    /// An input that spends one of the faucet's coins.
    pub(crate) fn input(&self, outpoint: OutPoint) -> TxIn {
        let (script_sig, witness) = if self.segwit {
            (ScriptBuf::new(), Witness::from_slice(&[self.redeem.as_bytes()]))
        } else {
            // The script is shorter than 76 bytes, so its length is the opcode that pushes it.
            let push = [&[self.redeem.len() as u8], self.redeem.as_bytes()].concat();
            (ScriptBuf::from_bytes(push), Witness::new())
        };
        let sequence = if self.rbf { Sequence::ENABLE_RBF_NO_LOCKTIME } else { Sequence::MAX };
        TxIn { previous_output: outpoint, script_sig, sequence, witness }
    }
}
