//! Transactions that somebody sends to the node.
//!
//! Not here: the words and numbers in which the node refuses them (`rpc`).

use std::collections::HashSet;

use bitcoin::consensus::encode::deserialize;
use bitcoin::{OutPoint, Transaction, Txid};

use super::SimulatedUtxoChain;
use super::transaction::{PoolTx, outpoints};

/// Why a transaction that was sent does not enter the mempool. Scripts are not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubmitError {
    /// Not the bytes of a transaction.
    Malformed,
    /// A coinbase, or without inputs or outputs, or with the same input twice.
    Senseless,
    /// Mined already, and not yet spent.
    AlreadyMined,
    /// An input is unknown, spent or immature.
    MissingInput,
    /// The outputs are worth more than the inputs.
    TooMuchOut,
    /// An input is spent by a transaction that does not give way.
    Conflict,
    /// It pays no higher fee than what it would replace.
    FeeTooLow,
}

impl SimulatedUtxoChain {
    /// Takes a transaction into the mempool. One that is there already is no error.
    pub(crate) fn submit(&mut self, raw: &[u8]) -> Result<Txid, SubmitError> {
        let tx: Transaction = deserialize(raw).map_err(|_| SubmitError::Malformed)?;
        let distinct: HashSet<_> = tx.input.iter().map(|input| input.previous_output).collect();
        if tx.is_coinbase() || distinct.is_empty() || distinct.len() < tx.input.len() || tx.output.is_empty()
        {
            return Err(SubmitError::Senseless);
        }
        let txid = tx.compute_txid();
        if self.pool.contains(&txid) {
            return Ok(txid);
        }
        if outpoints(txid, &tx.output).any(|(outpoint, _)| self.coins.get(&outpoint).is_some()) {
            return Err(SubmitError::AlreadyMined);
        }
        let fee = self.fee(&PoolTx::Plain(tx.clone()))?;
        let rivals: HashSet<Txid> = distinct.iter().filter_map(|input| self.pool.spender(input)).collect();
        if !rivals.is_empty() && !self.rules.rbf {
            return Err(SubmitError::Conflict);
        }
        // It cannot spend what it pushes out.
        if distinct.iter().any(|input| rivals.contains(&input.txid)) {
            return Err(SubmitError::MissingInput);
        }
        for rival in &rivals {
            let rival = self.pool.get(rival).map_or(Ok(0), |rival| self.fee(rival))?;
            if fee <= rival {
                return Err(SubmitError::FeeTooLow);
            }
        }
        for rival in rivals {
            self.pool.remove(&rival);
        }
        self.pool.insert(PoolTx::Plain(tx));
        self.pool.evict_invalid(&self.coins, self.height().saturating_add(1));
        Ok(txid)
    }

    /// What a transaction leaves to the miner, whoever else spends its inputs.
    fn fee(&self, tx: &PoolTx) -> Result<u64, SubmitError> {
        let next = self.height().saturating_add(1);
        let value = |outpoint: &OutPoint| {
            let coin = self.coins.get(outpoint).filter(|coin| coin.is_mature_at(next));
            let output = coin.map(|coin| &coin.output).or_else(|| self.pool.output(outpoint))?;
            Some(output.value.to_sat())
        };
        let inputs = tx.inputs();
        let total = inputs.iter().try_fold(0_u64, |sum, outpoint| sum.checked_add(value(outpoint)?));
        total.ok_or(SubmitError::MissingInput)?.checked_sub(tx.value_out()).ok_or(SubmitError::TooMuchOut)
    }
}
