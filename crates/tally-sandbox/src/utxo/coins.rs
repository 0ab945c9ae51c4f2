//! The outputs that are not spent on the active branch, and which transactions could be mined on top of them.
//!
//! Scripts are not run: whoever names an output may spend it.

use std::collections::{BTreeSet, HashMap, HashSet};

use bitcoin::{OutPoint, Script, ScriptBuf, Transaction, TxOut};

use super::transaction::{PoolTx, outpoints};

/// Blocks until a coinbase can be spent.
const MATURITY: u64 = 100;

/// An unspent output.
#[derive(Debug, Clone)]
pub(crate) struct Coin {
    pub(crate) output: TxOut,
    pub(crate) height: u64,
    pub(crate) coinbase: bool,
}

impl Coin {
    /// Whether a block at `height` may spend it.
    pub(crate) fn is_mature_at(&self, height: u64) -> bool {
        !self.coinbase || height.saturating_sub(self.height) >= MATURITY
    }
}

/// Every unspent output, those of the faucet also in the order of their age.
#[derive(Debug)]
pub(crate) struct Coins {
    all: HashMap<OutPoint, Coin>,
    faucet: BTreeSet<(u64, OutPoint)>,
    faucet_script: ScriptBuf,
}

impl Coins {
    pub(crate) fn new(faucet_script: ScriptBuf) -> Self {
        Self { all: HashMap::new(), faucet: BTreeSet::new(), faucet_script }
    }

    pub(crate) fn get(&self, outpoint: &OutPoint) -> Option<&Coin> {
        self.all.get(outpoint)
    }

    pub(crate) fn is_faucet(&self, script: &Script) -> bool {
        script == self.faucet_script.as_script()
    }

    /// The faucet's coins, the oldest first.
    pub(crate) fn faucet_coins(&self) -> impl Iterator<Item = (OutPoint, &Coin)> {
        self.faucet.iter().filter_map(|(_, outpoint)| Some((*outpoint, self.all.get(outpoint)?)))
    }

    /// Takes in a block's transactions and answers what they spent. Outputs first: on BCH a transaction may
    /// stand before the one whose output it spends.
    pub(crate) fn connect(&mut self, txs: &[Transaction], height: u64) -> Vec<(OutPoint, Coin)> {
        for tx in txs {
            for (outpoint, output) in outpoints(tx.compute_txid(), &tx.output) {
                if !output.script_pubkey.is_op_return() {
                    let coin = Coin { output: output.clone(), height, coinbase: tx.is_coinbase() };
                    self.insert(outpoint, coin);
                }
            }
        }
        let inputs = txs.iter().flat_map(|tx| &tx.input).map(|input| input.previous_output);
        inputs.filter_map(|outpoint| Some((outpoint, self.remove(&outpoint)?))).collect()
    }

    /// Takes a block's transactions out again.
    pub(crate) fn disconnect(&mut self, txs: &[Transaction], spent: &[(OutPoint, Coin)]) {
        for (outpoint, coin) in spent {
            self.insert(*outpoint, coin.clone());
        }
        for tx in txs {
            for (outpoint, _) in outpoints(tx.compute_txid(), &tx.output) {
                self.remove(&outpoint);
            }
        }
    }

    fn insert(&mut self, outpoint: OutPoint, coin: Coin) {
        if self.is_faucet(&coin.output.script_pubkey) {
            self.faucet.insert((coin.height, outpoint));
        }
        self.all.insert(outpoint, coin);
    }

    fn remove(&mut self, outpoint: &OutPoint) -> Option<Coin> {
        let coin = self.all.remove(outpoint)?;
        self.faucet.remove(&(coin.height, *outpoint));
        Some(coin)
    }
}

/// Which of some transactions can be mined together.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// Those that can, parents before children.
    pub(crate) chosen: Vec<PoolTx>,
    /// What they leave to the miner, in base units.
    pub(crate) fees: u64,
    /// Those whose inputs are missing, immature, spent by an earlier one, or worth too little.
    pub(crate) refused: Vec<PoolTx>,
}

/// Chooses what a block at `height` on top of `coins` can hold. Of two that spend the same, the first wins.
pub(crate) fn select(coins: &Coins, height: u64, candidates: Vec<PoolTx>) -> Selection {
    let mut made: HashMap<OutPoint, u64> = HashMap::new();
    let mut spent: HashSet<OutPoint> = HashSet::new();
    let mut selection = Selection { refused: candidates, ..Selection::default() };
    // Each pass takes at least one, or is the last.
    loop {
        let waiting = std::mem::take(&mut selection.refused);
        let before = waiting.len();
        for tx in waiting {
            let inputs = tx.inputs();
            let value = |outpoint: &OutPoint| {
                let mature = coins.get(outpoint).filter(|coin| coin.is_mature_at(height));
                let value =
                    mature.map(|coin| coin.output.value.to_sat()).or_else(|| made.get(outpoint).copied());
                value.filter(|_| !spent.contains(outpoint))
            };
            let total: Option<u64> =
                inputs.iter().try_fold(0_u64, |sum, outpoint| sum.checked_add(value(outpoint)?));
            match total.and_then(|total| total.checked_sub(tx.value_out())) {
                Some(fee) => {
                    selection.fees = selection.fees.saturating_add(fee);
                    spent.extend(inputs);
                    made.extend(
                        outpoints(tx.txid(), tx.outputs()).map(|(at, output)| (at, output.value.to_sat())),
                    );
                    selection.chosen.push(tx);
                }
                None => selection.refused.push(tx),
            }
        }
        if selection.refused.is_empty() || selection.refused.len() == before {
            return selection;
        }
    }
}
