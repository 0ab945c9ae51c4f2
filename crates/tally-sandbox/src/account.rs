//! A simulated Ethereum: blocks, branches, pending transactions, balances. A state machine without I/O; the
//! time is an argument.
//!
//! Transactions are signed, and hashes, receipts, blooms and the roots of transactions and receipts are those of
//! the real chain. No contract code is run: tokens and the contract that passes payments on are known by their
//! addresses, and each payment comes from an account of its own.
//!
//! Not here: JSON-RPC, addresses as text, decimal amounts.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use bitcoin::secp256k1::{Secp256k1, SignOnly};
use tally_types::{Currency, Span, Timestamp, TxId};

mod block;
mod ledger;
pub(crate) mod rlp;
#[cfg(test)]
mod tests;
mod transaction;
mod trie;

pub(crate) use block::{AccountBlock, GAS_LIMIT};
pub(crate) use transaction::{AccountMode, AccountTx, Frame, GAS_PRICE, Log, Payment, word};

use ledger::Ledger;
use transaction::Sender;

use crate::error::SandboxError;
use crate::seeded::Seeded;
use crate::utxo::Reorged;

/// Seconds between blocks.
const SPACING_SECS: u64 = 12;
/// Blocks below the tip at which a block counts as `safe`, and as `finalized`: one and two epochs.
pub(crate) const SAFE_DEPTH: u64 = 32;
pub(crate) const FINALIZED_DEPTH: u64 = 64;
/// What each paying account has from the beginning: ten million ether.
const ENDOWMENT_WEI: u128 = 10_000_000 * 10_u128.pow(18);
/// And a billion of each token.
const ENDOWMENT_TOKENS: u128 = 1_000_000_000;
/// Contract code, of which only its presence is ever asked.
pub(crate) const CODE: [u8; 2] = [0x60, 0x00];

/// The 20 bytes of an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address(pub(crate) [u8; 20]);

/// The 32 bytes of a hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Hash(pub(crate) [u8; 32]);

impl Address {
    pub(crate) const ZERO: Self = Self([0; 20]);

    /// The address in a hash: its last 20 bytes.
    pub(crate) fn of_hash(hash: &[u8; 32]) -> Self {
        Self(hash.last_chunk().copied().unwrap_or_default())
    }

    /// Padded to 32 bytes, as topics and arguments have it.
    pub(crate) fn to_word(self) -> Hash {
        let mut word = [0; 32];
        if let Some(low) = word.last_chunk_mut() {
            *low = self.0;
        }
        Hash(word)
    }
}

impl Hash {
    /// In the form of the rest of the system.
    pub(crate) const fn to_txid(self) -> TxId {
        TxId::from_display(self.0)
    }
}

impl From<&TxId> for Hash {
    fn from(txid: &TxId) -> Self {
        Self(*txid.display_bytes())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&const_hex::encode_prefixed(self.0))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&const_hex::encode_prefixed(self.0))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A token contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) symbol: Currency,
    pub(crate) contract: Address,
    pub(crate) decimals: u8,
}

/// A simulated Ethereum.
#[derive(Debug)]
pub(crate) struct SimulatedAccountChain {
    chain_id: u64,
    tokens: Vec<Token>,
    batcher: Address,
    seeded: Seeded,
    secp: Secp256k1<SignOnly>,
    blocks: HashMap<Hash, Arc<AccountBlock>>,
    /// The active branch; the place is the number.
    active: Vec<Arc<AccountBlock>>,
    pending: Vec<AccountTx>,
    ledger: Ledger,
    blocks_made: u64,
}

impl SimulatedAccountChain {
    /// A chain whose `initial_blocks` were made up to `now` at the usual pace.
    pub(crate) fn new(
        chain_id: u64,
        tokens: Vec<Token>,
        seed: u64,
        now: Timestamp,
        initial_blocks: u32,
    ) -> Self {
        let genesis = Arc::new(AccountBlock::new(None, 0, chain_id.to_be_bytes().to_vec(), Vec::new()));
        let mut chain = Self {
            chain_id,
            tokens,
            batcher: Address::of_hash(&rlp::keccak(b"the contract that passes payments on")),
            seeded: Seeded::new(seed, "ethereum"),
            secp: Secp256k1::signing_only(),
            blocks: HashMap::from([(genesis.hash, Arc::clone(&genesis))]),
            active: vec![genesis],
            pending: Vec::new(),
            ledger: Ledger::default(),
            blocks_made: 0,
        };
        for left in (0..u64::from(initial_blocks)).rev() {
            let age = Span::from_secs(left.saturating_mul(SPACING_SECS));
            chain.mine_block(now.minus(age), Vec::new());
        }
        chain
    }

    pub(crate) fn chain_id(&self) -> u64 {
        self.chain_id
    }

    pub(crate) fn height(&self) -> u64 {
        u64::try_from(self.active.len()).unwrap_or(u64::MAX).saturating_sub(1)
    }

    /// The block at a number of the active branch.
    pub(crate) fn at(&self, number: u64) -> Option<&Arc<AccountBlock>> {
        self.active.get(usize::try_from(number).ok()?)
    }

    /// A block of any branch.
    pub(crate) fn block(&self, hash: &Hash) -> Option<&Arc<AccountBlock>> {
        self.blocks.get(hash)
    }

    /// Where a transaction of the active branch stands.
    pub(crate) fn mined(&self, hash: &Hash) -> Option<(&Arc<AccountBlock>, usize)> {
        let place = |block: &AccountBlock| block.txs.iter().position(|tx| tx.hash == *hash);
        self.active.iter().rev().find_map(|block| Some((block, place(block)?)))
    }

    /// What is not mined yet.
    pub(crate) fn pending(&self) -> &[AccountTx] {
        &self.pending
    }

    pub(crate) fn token(&self, contract: Address) -> Option<&Token> {
        self.tokens.iter().find(|token| token.contract == contract)
    }

    pub(crate) fn token_by_symbol(&self, symbol: &Currency) -> Option<&Token> {
        self.tokens.iter().find(|token| token.symbol == *symbol)
    }

    /// The symbols of the tokens.
    pub(crate) fn symbols(&self) -> impl Iterator<Item = &Currency> {
        self.tokens.iter().map(|token| &token.symbol)
    }

    /// Whether there is code at an address.
    pub(crate) fn is_contract(&self, address: Address) -> bool {
        address == self.batcher || self.token(address).is_some()
    }

    /// What somebody held after a block of the active branch; ether where `token` is none.
    pub(crate) fn balance(&self, token: Option<Address>, owner: Address, number: u64) -> u128 {
        self.ledger.balance(token, owner, number)
    }

    /// How many transactions an account has sent up to a block of the active branch.
    pub(crate) fn sent(&self, owner: Address, number: u64) -> u64 {
        let blocks = self.active.iter().take_while(|block| block.number <= number);
        let sent = blocks.flat_map(|block| &block.txs).filter(|tx| tx.sender.address == owner);
        u64::try_from(sent.count()).unwrap_or(u64::MAX)
    }

    /// Makes a payment that waits for the next block.
    pub(crate) fn pay(&mut self, payment: Payment) -> Result<Hash, SandboxError> {
        let sender = self.new_sender();
        let available = self.ledger.balance(payment.token, sender.address, 0);
        let tx = AccountTx::new(&self.secp, self.chain_id, sender, payment, self.batcher, GAS_PRICE);
        let needed = match payment.token {
            None => payment.amount.saturating_add(tx.fee()),
            Some(_) => payment.amount,
        };
        if needed > available {
            return Err(SandboxError::FaucetEmpty { needed, available });
        }
        let hash = tx.hash;
        self.pending.push(tx);
        Ok(hash)
    }

    /// Replaces a pending transaction by one of the same account and nonce that pays nobody we know, at a
    /// higher gas price.
    pub(crate) fn replace(&mut self, hash: &Hash) -> Result<Hash, SandboxError> {
        let Some(place) = self.pending.iter().position(|tx| tx.hash == *hash) else {
            let txid = hash.to_txid();
            return Err(if self.mined(hash).is_some() {
                let why = "it is mined; take its block out by a reorg that drops it";
                SandboxError::NotReplaceable { txid, why }
            } else {
                SandboxError::UnknownTransaction { txid, expected: "pending" }
            });
        };
        let elsewhere = Address::of_hash(&self.seeded.bytes());
        let old = self.pending.remove(place);
        let payment = Payment { to: elsewhere, ..old.payment };
        let price = old.gas_price.saturating_add(old.gas_price / 8).saturating_add(1);
        let tx = AccountTx::new(&self.secp, self.chain_id, old.sender, payment, self.batcher, price);
        let successor = tx.hash;
        self.pending.insert(place, tx);
        Ok(successor)
    }

    /// Makes one block that holds what is pending, as far as its gas reaches.
    pub(crate) fn mine(&mut self, now: Timestamp) -> Arc<AccountBlock> {
        let mut gas = 0_u64;
        let fits = |tx: &&AccountTx| {
            gas = gas.saturating_add(tx.gas);
            gas <= GAS_LIMIT
        };
        let count = self.pending.iter().take_while(fits).count();
        let txs = self.pending.drain(..count).collect();
        self.mine_block(now, txs)
    }

    /// Leaves the last `depth` blocks for a branch that is one longer. What they held is mined again, each at
    /// the same number, but not `dropped`, which are no longer pending either.
    pub(crate) fn reorg(
        &mut self,
        depth: u64,
        dropped: &[Hash],
        now: Timestamp,
    ) -> Result<Reorged<Hash, Hash>, SandboxError> {
        let height = self.height();
        if depth == 0 || depth > height {
            return Err(SandboxError::Blocks { found: depth, max: height });
        }
        let fork_height = height.saturating_sub(depth);
        let above = usize::try_from(fork_height).unwrap_or(usize::MAX).saturating_add(1);
        let drops: HashSet<Hash> = dropped.iter().copied().collect();
        let known: HashSet<Hash> = {
            let mined = self.active.iter().skip(above).flat_map(|block| &block.txs);
            mined.chain(&self.pending).map(|tx| tx.hash).collect()
        };
        if let Some(unknown) = dropped.iter().find(|hash| !known.contains(*hash)) {
            let expected = "in a block that the reorg takes out, nor pending";
            return Err(SandboxError::UnknownTransaction { txid: unknown.to_txid(), expected });
        }
        let orphaned = self.active.split_off(above);
        self.ledger.rewind(fork_height);
        for block in orphaned {
            let kept = block.txs.iter().filter(|tx| !drops.contains(&tx.hash)).cloned().collect();
            self.mine_block(now, kept);
        }
        self.pending.retain(|tx| !drops.contains(&tx.hash));
        let tip = self.mine_block(now, Vec::new());
        Ok(Reorged { fork_height, height: tip.number, hash: tip.hash, dropped: drops.into_iter().collect() })
    }

    fn mine_block(&mut self, now: Timestamp, txs: Vec<AccountTx>) -> Arc<AccountBlock> {
        let parent = self.active.last().cloned();
        // Each block is later than its parent, whatever the clock says.
        let earliest = parent.as_ref().map_or(0, |parent| parent.timestamp.saturating_add(1));
        let timestamp = u64::try_from(now.secs()).unwrap_or_default().max(earliest);
        let extra = self.blocks_made.to_be_bytes().to_vec();
        self.blocks_made = self.blocks_made.saturating_add(1);
        let block = Arc::new(AccountBlock::new(parent.as_deref(), timestamp, extra, txs));
        for tx in &block.txs {
            self.settle(tx, block.number);
        }
        self.blocks.insert(block.hash, Arc::clone(&block));
        self.active.push(Arc::clone(&block));
        block
    }

    /// Moves what a transaction moves: its fee, which is burnt, and the payment.
    fn settle(&mut self, tx: &AccountTx, number: u64) {
        let from = tx.sender.address;
        self.ledger.transfer(None, from, None, tx.fee(), number);
        if tx.succeeds() {
            let Payment { token, to, amount, .. } = tx.payment;
            self.ledger.transfer(token, from, Some(to), amount, number);
        }
    }

    /// An account that has paid nobody yet.
    fn new_sender(&mut self) -> Sender {
        let sender = loop {
            if let Some(sender) = Sender::new(&self.secp, &self.seeded.bytes()) {
                break sender;
            }
        };
        self.ledger.endow(None, sender.address, ENDOWMENT_WEI);
        for token in &self.tokens {
            let unit = 10_u128.saturating_pow(u32::from(token.decimals));
            let amount = ENDOWMENT_TOKENS.saturating_mul(unit);
            self.ledger.endow(Some(token.contract), sender.address, amount);
        }
        sender
    }
}
