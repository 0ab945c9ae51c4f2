//! Native payments by difference of balances, where there are no call traces: what an address has more after a
//! block than before, beside what the block's own transactions moved. Pure.
//!
//! A usual node has the state of some 128 blocks. Older blocks only leave behind what their transactions moved, and
//! the first block whose state is there again settles the whole gap.

use std::collections::{HashMap, HashSet, VecDeque};

use ethers_core::types::{Address, U256};
use tally_types::{BlockHash, BlockRef};

use super::scan::{Contradiction, Told, ensure, succeeded};
use super::wire::{Receipt, Transaction};

/// Blocks whose balances are remembered.
const SNAPSHOTS_MAX: usize = 16;
/// Blocks that something was presumed of: as many as there may be shards.
const RECALLED_MAX: usize = 1024;
/// Blocks of a gap that are remembered: some four weeks of Ethereum.
const GAP_MAX: usize = 200_000;

/// What a block's own transactions moved to and from an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Moves {
    pub(crate) received: U256,
    /// Values and fees.
    pub(crate) sent: U256,
}

impl Moves {
    pub(crate) fn add(&mut self, other: Self) {
        self.received = self.received.saturating_add(other.received);
        self.sent = self.sent.saturating_add(other.sent);
    }
}

/// What an address has beyond what is known to have been moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Nothing.
    None,
    /// It was paid by other means than a transaction of its own.
    Paid(U256),
    /// It paid by such means.
    Missing(U256),
}

/// The balance after, less the one before, less what was moved.
pub(crate) fn rest(before: U256, moves: Moves, after: U256) -> Rest {
    let (after, before) = (after.saturating_add(moves.sent), before.saturating_add(moves.received));
    match (after.checked_sub(before), before.checked_sub(after)) {
        (Some(rest), _) if rest.is_zero() => Rest::None,
        (Some(rest), _) => Rest::Paid(rest),
        (None, Some(rest)) => Rest::Missing(rest),
        (None, None) => Rest::None,
    }
}

/// What the block's transactions moved to and from the addresses, without those that nothing was moved of.
pub(crate) fn moves(
    told: &Told,
    addresses: &HashSet<Address>,
) -> Result<HashMap<Address, Moves>, Contradiction> {
    let mut all: HashMap<Address, Moves> = HashMap::new();
    let mut add = |address: Address, moves: Moves| {
        if addresses.contains(&address) {
            all.entry(address).or_default().add(moves);
        }
    };
    for (transaction, receipt) in told.block.transactions.iter().zip(&told.receipts) {
        let (from, value) = (transaction.from.address(), transaction.value.0);
        let to = transaction.to.or(receipt.contract_address).map(|to| to.address());
        // What one pays to oneself stays.
        let moved = if succeeded(receipt) && to != Some(from) { value } else { U256::zero() };
        if addresses.contains(&from) {
            let sent = moved.saturating_add(fee(transaction, receipt)?);
            add(from, Moves { received: U256::zero(), sent });
        }
        if let Some(to) = to {
            add(to, Moves { received: moved, sent: U256::zero() });
        }
    }
    Ok(all)
}

/// What the transaction cost its sender beside its value, whether it succeeded or not.
fn fee(transaction: &Transaction, receipt: &Receipt) -> Result<U256, Contradiction> {
    let price = receipt.effective_gas_price.or(transaction.gas_price);
    ensure(receipt.gas_used.is_some() && price.is_some(), || {
        format!("the receipt of {:?} does not tell its fee", transaction.hash)
    })?;
    let cost = |used: Option<super::wire::Quantity>, price: Option<super::wire::Quantity>| {
        let (used, price) = (used.unwrap_or_default().0, price.unwrap_or_default().0);
        used.checked_mul(price).unwrap_or(U256::MAX)
    };
    let blobs = cost(receipt.blob_gas_used, receipt.blob_gas_price);
    Ok(cost(receipt.gas_used, price).saturating_add(blobs))
}

/// The balances that addresses had at a block.
pub(crate) type Balances = HashMap<Address, U256>;

/// What is remembered of balances, and of the blocks since whose state was not there.
#[derive(Default)]
pub(crate) struct Ledger {
    snapshots: VecDeque<(BlockHash, Balances)>,
    presumed: HashMap<Address, Presumed>,
    /// The blocks up to which something was presumed, and whether payments below are still to come.
    recalled: VecDeque<(BlockHash, bool)>,
    gap: HashMap<BlockHash, Without>,
    order: VecDeque<BlockHash>,
    /// Blocks that are being read.
    pending: HashMap<BlockHash, usize>,
}

/// What was said to have been paid to an address up to a block, in place of its state.
struct Presumed {
    at: BlockHash,
    balance: U256,
    /// By which block's state it was settled: it counts once.
    settled: Option<BlockHash>,
    /// What was paid below and is not told yet is still to come: the block's own state would hide it.
    open: bool,
}

/// A block without state.
struct Without {
    prev: BlockHash,
    /// What contracts paid in it is still to come. Not of an empty block, which only leads further down.
    open: bool,
    moves: Vec<(Address, Moves)>,
}

/// From where on what was paid to an address is a difference of balances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    /// What it had.
    pub(crate) balance: U256,
    /// What was moved since by blocks without state.
    pub(crate) moved: Moves,
    /// How many of them there are; `None` where its balance is but what was told of all blocks before.
    pub(crate) blocks: Option<usize>,
}

/// The way back from a block to where balances are known.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Back {
    /// What each address had, and what was moved since.
    pub(crate) known: HashMap<Address, Base>,
    /// What was moved of the others, as far as is known.
    pub(crate) moved: HashMap<Address, Moves>,
    /// Blocks without state on the way.
    pub(crate) blocks: usize,
    /// The block that the way ends at, where not all balances are known on it.
    pub(crate) bottom: Option<BlockHash>,
    /// The way leads to a block that is being read.
    pub(crate) awaits: Option<BlockHash>,
}

impl Ledger {
    /// The balances at a block, as far as remembered.
    pub(crate) fn at(&self, hash: &BlockHash) -> Option<&Balances> {
        self.snapshots.iter().find(|(known, _)| known == hash).map(|(_, balances)| balances)
    }

    /// Remembers balances at a block.
    pub(crate) fn remember(&mut self, hash: BlockHash, balances: Balances) {
        match self.snapshots.iter_mut().find(|(known, _)| *known == hash) {
            Some((_, known)) => known.extend(balances),
            None => self.snapshots.push_back((hash, balances)),
        }
        while self.snapshots.len() > SNAPSHOTS_MAX {
            self.snapshots.pop_front();
        }
    }

    /// Takes what was paid up to a block as what addresses had there; `open` where payments below are still to come.
    pub(crate) fn presume(&mut self, block: BlockRef, paid: Balances, open: bool) {
        let presumed =
            |(address, balance)| (address, Presumed { at: block.hash, balance, settled: None, open });
        self.presumed.extend(paid.into_iter().map(presumed));
        self.recalled.retain(|(at, _)| *at != block.hash);
        self.recalled.push_back((block.hash, open));
        while self.recalled.len() > RECALLED_MAX {
            self.recalled.pop_front();
        }
    }

    /// Whether payments below a block are still to come, by what was read or by what was presumed of it.
    pub(crate) fn is_open(&self, block: &BlockHash) -> bool {
        let recalled = self.recalled.iter().any(|(at, open)| *open && at == block);
        recalled || self.gap.get(block).is_some_and(|block| block.open)
    }

    /// Whether something is presumed of a block.
    pub(crate) fn presumes(&self, block: &BlockHash) -> bool {
        self.recalled.iter().any(|(at, _)| at == block)
    }

    /// What was presumed of these addresses has been settled by a block's state.
    pub(crate) fn settle(&mut self, end: BlockHash, addresses: &HashSet<Address>) {
        for (address, presumed) in &mut self.presumed {
            if addresses.contains(address) {
                presumed.settled.get_or_insert(end);
            }
        }
    }

    /// What is presumed of an address at a block, for a gap that ends at another.
    fn presumed_at(&self, at: &BlockHash, end: &BlockHash, address: &Address) -> Option<&Presumed> {
        let presumed = self.presumed.get(address).filter(|presumed| presumed.at == *at)?;
        presumed.settled.is_none_or(|settled| settled == *end).then_some(presumed)
    }

    /// Remembers a block whose state is not there.
    pub(crate) fn skip(&mut self, hash: BlockHash, prev: BlockHash, moves: HashMap<Address, Moves>) {
        self.lead(hash, prev, moves, true);
    }

    /// Remembers a block without transactions, whose state was not asked for: a way back may lead through it.
    pub(crate) fn pass(&mut self, hash: BlockHash, prev: BlockHash) {
        self.lead(hash, prev, HashMap::new(), false);
    }

    fn lead(&mut self, hash: BlockHash, prev: BlockHash, moves: HashMap<Address, Moves>, open: bool) {
        let moves: Vec<_> = moves.into_iter().collect();
        match self.gap.get_mut(&hash) {
            // Looked at again for other addresses.
            Some(known) => {
                known.open |= open;
                known.moves.retain(|(address, _)| !moves.iter().any(|(other, _)| other == address));
                known.moves.extend(moves);
            }
            None => {
                self.gap.insert(hash, Without { prev, open, moves });
                self.order.push_back(hash);
            }
        }
        while self.order.len() > GAP_MAX {
            if let Some(old) = self.order.pop_front() {
                self.gap.remove(&old);
            }
        }
    }

    pub(crate) fn is_pending(&self, hash: &BlockHash) -> bool {
        self.pending.contains_key(hash)
    }

    pub(crate) fn begin(&mut self, hash: BlockHash) {
        let count = self.pending.entry(hash).or_default();
        *count = count.saturating_add(1);
    }

    pub(crate) fn end(&mut self, hash: &BlockHash) {
        if let Some(count) = self.pending.get_mut(hash) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.pending.remove(hash);
            }
        }
    }

    /// From the block `from` back to where the balances of `addresses` are known, to settle a gap at `end`. What is
    /// presumed stands in where no balance is known further down either.
    pub(crate) fn back(&self, from: BlockHash, end: BlockHash, addresses: &HashSet<Address>) -> Back {
        let (mut back, mut at) = (Back::default(), from);
        let mut presumed: HashMap<Address, Base> = HashMap::new();
        loop {
            let (state, presumes) = (self.at(&at), self.presumes(&at));
            if state.is_some() || presumes {
                let lacking: Vec<&Address> =
                    addresses.iter().filter(|address| !back.known.contains_key(*address)).collect();
                for address in lacking {
                    let moved = back.moved.get(address).copied().unwrap_or_default();
                    let said = self.presumed_at(&at, &end, address);
                    // A state over payments that are still to come would hide them.
                    let state = state.filter(|_| said.is_none_or(|said| !said.open));
                    if let Some(balance) = state.and_then(|balances| balances.get(address)).copied() {
                        back.known.insert(*address, Base { balance, moved, blocks: Some(back.blocks) });
                    } else if let Some(said) = said {
                        let base = Base { balance: said.balance, moved, blocks: None };
                        presumed.entry(*address).or_insert(base);
                    }
                }
            }
            let next = self.gap.get(&at).filter(|_| back.known.len() < addresses.len());
            let Some(block) = next else {
                for (address, base) in presumed {
                    back.known.entry(address).or_insert(base);
                }
                back.bottom = (back.known.len() < addresses.len()).then_some(at);
                back.awaits = back.bottom.filter(|at| self.pending.contains_key(at));
                return back;
            };
            for (address, moves) in &block.moves {
                if addresses.contains(address) {
                    back.moved.entry(*address).or_default().add(*moves);
                }
            }
            (at, back.blocks) = (block.prev, back.blocks.saturating_add(1));
        }
    }
}

#[cfg(test)]
mod tests;
