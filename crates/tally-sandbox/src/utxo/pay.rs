//! Payments out of the faucet, and their replacement.
//!
//! Not here: addresses and decimal amounts (`sandbox`).

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid};

use super::block::witness_program;
use super::transaction::{PegOut, PoolTx, outpoints, value_of};
use super::{SimulatedUtxoChain, public};
use crate::error::SandboxError;

/// What a transaction leaves to the miner: as much and per input as much again, in base units.
const FEE: u64 = 1_000;
const FEE_PER_INPUT: u64 = 300;
/// A change below this is left to the miner, since no node would pass it on.
const DUST: u64 = 1_000;

/// How a payment is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UtxoMode {
    /// An ordinary output.
    Normal,
    /// An output that also carries a token, in front of its script.
    CashTokens,
    /// An output of a HogEx.
    PegOut,
}

impl UtxoMode {
    const ALL: [(&'static str, Self); 3] =
        [("normal", Self::Normal), ("cashtokens", Self::CashTokens), ("pegout", Self::PegOut)];
}

impl SimulatedUtxoChain {
    /// A mode by its name, if this coin has it.
    pub(crate) fn mode(&self, name: &str) -> Result<UtxoMode, SandboxError> {
        let has = |mode| match mode {
            UtxoMode::Normal => true,
            UtxoMode::CashTokens => self.rules.tokens,
            UtxoMode::PegOut => self.rules.mweb,
        };
        let known = UtxoMode::ALL.into_iter().filter(|(_, mode)| has(*mode));
        known.clone().find(|(known, _)| *known == name).map(|(_, mode)| mode).ok_or_else(|| {
            let known: Vec<_> = known.map(|(name, _)| name).collect();
            SandboxError::Mode { mode: name.chars().take(40).collect(), known: known.join(", ") }
        })
    }

    /// Pays a script out of the faucet, into the mempool. Answers the id that the mempool shows.
    pub(crate) fn pay(
        &mut self,
        script: &ScriptBuf,
        amount: u64,
        mode: UtxoMode,
    ) -> Result<Txid, SandboxError> {
        match mode {
            UtxoMode::Normal => self.spend_to(amount, |_| Some(script.clone()), |_| true),
            UtxoMode::CashTokens => {
                let tag = self.seeded.next();
                let token = |inputs: &[OutPoint]| Some(with_token(inputs, script, tag));
                self.spend_to(amount, token, |outpoint| outpoint.vout == 0)
            }
            UtxoMode::PegOut => self.peg_out(script, amount),
        }
    }

    /// Brings coins into the extension blocks, and pays them out again.
    fn peg_out(&mut self, script: &ScriptBuf, amount: u64) -> Result<Txid, SandboxError> {
        let kernel = self.seeded.bytes();
        let program = witness_program(9, &kernel);
        let into = self.spend_to(amount, |_| Some(program.clone()), |_| true)?;
        let outputs = self.pool.get(&into).map(|tx| tx.outputs().to_vec()).unwrap_or_default();
        let peg_in = outpoints(into, &outputs).find(|(_, output)| output.script_pubkey == program);
        let peg_in = peg_in.map_or(OutPoint::new(into, 0), |(outpoint, _)| outpoint);
        Ok(self.pool.insert(PoolTx::PegOut(PegOut {
            kernel: Txid::from_byte_array(self.seeded.bytes()),
            peg_in,
            script: script.clone(),
            value: amount,
            payload: kernel,
        })))
    }

    /// Puts a transaction into the mempool that pays `amount` to what `script` makes of its inputs. The first
    /// input is one that `suits`.
    fn spend_to(
        &mut self,
        amount: u64,
        script: impl Fn(&[OutPoint]) -> Option<ScriptBuf>,
        suits: impl Fn(&OutPoint) -> bool,
    ) -> Result<Txid, SandboxError> {
        let (inputs, total) = self.choose(amount, suits)?;
        let script_pubkey = script(&inputs).ok_or(SandboxError::NoTokenOrigin)?;
        let mut output = vec![TxOut { value: Amount::from_sat(amount), script_pubkey }];
        let change = total.saturating_sub(amount).saturating_sub(fee(inputs.len()));
        if change >= DUST {
            let place = usize::from(self.seeded.coin_toss());
            let script_pubkey = self.faucet.script_pubkey.clone();
            output.insert(place, TxOut { value: Amount::from_sat(change), script_pubkey });
        }
        let tx = self.transaction(&inputs, output);
        Ok(self.pool.insert(PoolTx::Plain(tx)))
    }

    fn transaction(&self, inputs: &[OutPoint], output: Vec<TxOut>) -> Transaction {
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: inputs.iter().map(|outpoint| self.faucet.input(*outpoint)).collect(),
            output,
        }
    }

    /// Chooses coins of the faucet for `amount` and the fee: the oldest one that is enough, else the largest
    /// ones; the change of payments that are not yet mined only where the rest is too little.
    fn choose(
        &self,
        amount: u64,
        suits: impl Fn(&OutPoint) -> bool,
    ) -> Result<(Vec<OutPoint>, u64), SandboxError> {
        let next = self.height().saturating_add(1);
        let free = |outpoint: &OutPoint| self.pool.spender(outpoint).is_none();
        let mined =
            self.coins.faucet_coins().filter(|(outpoint, coin)| coin.is_mature_at(next) && free(outpoint));
        let mined = mined.map(|(outpoint, coin)| (outpoint, coin.output.value.to_sat()));
        let waiting = self.pool.transactions().flat_map(|tx| outpoints(tx.txid(), tx.outputs()));
        let waiting = waiting
            .filter(|(outpoint, output)| self.coins.is_faucet(&output.script_pubkey) && free(outpoint))
            .map(|(outpoint, output)| (outpoint, output.value.to_sat()));
        let enough = amount.saturating_add(fee(1));
        let mut coins: Vec<(OutPoint, u64)> = Vec::new();
        for (outpoint, value) in mined.chain(waiting) {
            if value >= enough && suits(&outpoint) {
                return Ok((vec![outpoint], value));
            }
            coins.push((outpoint, value));
        }
        // The largest first, but before all others one that suits.
        coins.sort_by_key(|(_, value)| std::cmp::Reverse(*value));
        let first = coins
            .iter()
            .position(|(outpoint, _)| suits(outpoint))
            .ok_or_else(|| if coins.is_empty() { empty(enough, 0) } else { SandboxError::NoTokenOrigin })?;
        let first = coins.remove(first);
        let (mut inputs, mut total) = (Vec::new(), 0_u64);
        for (outpoint, value) in std::iter::once(first).chain(coins) {
            inputs.push(outpoint);
            total = total.saturating_add(value);
            if total >= amount.saturating_add(fee(inputs.len())) {
                return Ok((inputs, total));
            }
        }
        Err(empty(amount.saturating_add(fee(inputs.len())), total))
    }

    /// Replaces a transaction of the mempool by one with the same inputs that pays the faucet and a higher fee.
    /// What depended on the old one leaves with it. On a coin without replacement this is a double spend that
    /// won.
    pub(crate) fn replace(&mut self, txid: &Txid) -> Result<Txid, SandboxError> {
        let old = match self.pool.get(txid) {
            Some(PoolTx::Plain(tx)) => tx.clone(),
            Some(PoolTx::PegOut(_)) => {
                let why = "a peg-out has no inputs that could be spent again";
                return Err(SandboxError::NotReplaceable { txid: public(txid), why });
            }
            None => return Err(self.not_in_pool(txid)),
        };
        let inputs: Vec<_> = old.input.iter().map(|input| input.previous_output).collect();
        let total = inputs.iter().fold(0_u64, |sum, outpoint| sum.saturating_add(self.value(outpoint)));
        let old_fee = total.saturating_sub(value_of(&old.output));
        let rest = total.saturating_sub(old_fee).saturating_sub(fee(inputs.len()));
        if rest < DUST {
            let why = "its inputs are worth too little for a higher fee";
            return Err(SandboxError::NotReplaceable { txid: public(txid), why });
        }
        let output =
            TxOut { value: Amount::from_sat(rest), script_pubkey: self.faucet.script_pubkey.clone() };
        // The inputs are taken as they are: one may be somebody else's, who sent a transaction himself.
        let mut tx = self.transaction(&inputs, vec![output]);
        for (new, old) in tx.input.iter_mut().zip(old.input) {
            *new = old;
        }
        self.pool.remove(txid);
        let successor = self.pool.insert(PoolTx::Plain(tx));
        self.pool.evict_invalid(&self.coins, self.height().saturating_add(1));
        Ok(successor)
    }

    fn value(&self, outpoint: &OutPoint) -> u64 {
        let mined = self.coins.get(outpoint).map(|coin| &coin.output);
        mined.or_else(|| self.pool.output(outpoint)).map_or(0, |output| output.value.to_sat())
    }

    fn not_in_pool(&self, txid: &Txid) -> SandboxError {
        let txid_is = |block: &std::sync::Arc<super::StoredBlock>| {
            block.txs.iter().any(|tx| tx.compute_txid() == *txid)
                || block.peg_outs.iter().flatten().any(|peg_out| peg_out.kernel == *txid)
        };
        if self.active.iter().any(txid_is) {
            let why = "it is mined; take its block out by a reorg that drops it";
            SandboxError::NotReplaceable { txid: public(txid), why }
        } else {
            SandboxError::UnknownTransaction { txid: public(txid), expected: "in the mempool" }
        }
    }
}

fn fee(inputs: usize) -> u64 {
    let inputs = u64::try_from(inputs).unwrap_or(u64::MAX);
    FEE.saturating_add(FEE_PER_INPUT.saturating_mul(inputs))
}

fn empty(needed: u64, available: u64) -> SandboxError {
    SandboxError::FaucetEmpty { needed: u128::from(needed), available: u128::from(available) }
}

/// A script behind a token's prefix (CHIP-2022-02-CashTokens). A new token's category is the id of a
/// transaction whose first output is spent here, which the first input does. Half of them carry an NFT as well.
fn with_token(inputs: &[OutPoint], script: &ScriptBuf, tag: u64) -> ScriptBuf {
    const PREFIX: u8 = 0xef;
    const AMOUNT: u8 = 0x10;
    const AMOUNT_NFT_COMMITMENT: u8 = 0x70;
    let category = inputs.first().map_or([0; 32], |outpoint| outpoint.txid.to_byte_array());
    let mut bytes = vec![PREFIX];
    bytes.extend(category);
    let [fungible, commitment @ .., kind] = tag.to_le_bytes();
    if kind & 1 == 0 {
        bytes.push(AMOUNT);
    } else {
        bytes.push(AMOUNT_NFT_COMMITMENT);
        bytes.push(commitment.len() as u8);
        bytes.extend(commitment);
    }
    // Below 0xfd a compact size is one byte; an amount of zero is not allowed.
    bytes.push(fungible.clamp(1, 0xfc));
    bytes.extend(script.as_bytes());
    ScriptBuf::from_bytes(bytes)
}
