//! A chain without a node: blocks, forks and a mempool as a test wants them.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tally_matcher::WatchSet;
use tally_ports::{BlockSource, Credit, Header, MempoolDiff, PortError, ScannedBlock, SharedWatch, Spend};
use tally_types::{
    BaseUnits, BlockHash, BlockRef, Currency, DepositKey, Height, OutPoint, Script, Span, Timestamp, TxId,
};
use tokio::sync::Notify;

mod accounts;

pub use accounts::Finding;

use crate::{currency, lock};

/// The genesis block's time, and the time between two blocks, in seconds.
const GENESIS_SECS: i64 = 1_740_000_000;
const BLOCK_SECS: i64 = 600;

/// A transaction that pays one output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// Its id.
    pub txid: TxId,
    /// To where.
    pub script: Script,
    /// How much.
    pub amount: BaseUnits,
    /// What it spends; on a chain of accounts a number that is used once, which nobody is told.
    pub inputs: Vec<OutPoint>,
    /// Whether it is made by a contract that the transaction calls, where a chain has accounts.
    pub by_contract: bool,
}

/// A [`BlockSource`] whose blocks the test makes. Block and transaction ids are numbers, counted up, so that
/// failures can be read; a block's hash ends in its height.
#[derive(Debug)]
pub struct FakeChain {
    currency: Currency,
    /// How payments by contracts are found, where the chain has accounts in place of outputs, and no mempool stage.
    finding: Option<Mutex<Finding>>,
    state: Mutex<State>,
    /// Of each change of tip or mempool. Who waits is woken in the order in which he came, so that runs can be repeated.
    news: Notify,
    failures: AtomicUsize,
}

#[derive(Debug)]
struct Block {
    header: Header,
    payments: Vec<Payment>,
    work: Option<u128>,
}

#[derive(Debug, Default)]
struct State {
    /// Every block ever mined, on any branch.
    blocks: HashMap<BlockHash, Block>,
    /// The best branch, genesis first.
    best: Vec<BlockHash>,
    mempool: Vec<Payment>,
    /// Counts blocks and transactions, so that no two ids are equal.
    made: u64,
    /// What each block from now on stands for, where the chain measures work.
    work: Option<u128>,
}

/// An id that reads as its number, with the height at the end.
fn id_bytes(number: u64, height: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    let (_, tail) = bytes.split_at_mut(16);
    let (left, right) = tail.split_at_mut(8);
    left.copy_from_slice(&number.to_be_bytes());
    right.copy_from_slice(&height.to_be_bytes());
    bytes
}

impl State {
    fn tip(&self) -> Option<Header> {
        self.best.last().and_then(|hash| self.blocks.get(hash)).map(|block| block.header)
    }

    fn next_number(&mut self) -> u64 {
        self.made = self.made.saturating_add(1);
        self.made
    }

    fn mine(&mut self, payments: Vec<Payment>) -> BlockRef {
        let tip = self.tip();
        let height = tip.map_or(Height::new(0), |tip| tip.block.height.next());
        let prev = tip.map_or(BlockHash::from_display([0; 32]), |tip| tip.block.hash);
        let hash = BlockHash::from_display(id_bytes(self.next_number(), height.get()));
        let secs = i64::try_from(height.get()).unwrap_or(i64::MAX).saturating_mul(BLOCK_SECS);
        let time = Timestamp::from_secs(GENESIS_SECS.saturating_add(secs));
        let block = BlockRef { height, hash };
        self.blocks.insert(hash, Block { header: Header { block, prev, time }, payments, work: self.work });
        self.best.push(hash);
        block
    }

    /// Takes blocks above `height` off the best branch; what they paid is in the mempool again, unless something
    /// there spends the same.
    fn fork_at(&mut self, height: Height) {
        let keep = usize::try_from(height.get()).unwrap_or(usize::MAX).saturating_add(1);
        let gone = self.best.split_off(keep.min(self.best.len()));
        for hash in gone {
            let payments = self.blocks.get(&hash).map(|block| block.payments.clone()).unwrap_or_default();
            for payment in payments {
                let conflict = self.mempool.iter().any(|other| {
                    other.txid == payment.txid || other.inputs.iter().any(|i| payment.inputs.contains(i))
                });
                if !conflict {
                    self.mempool.push(payment);
                }
            }
        }
    }
}

impl State {
    /// Adds to the mempool what the best branch does not hold, and drops from it what contradicts that branch or
    /// what was there before. Always true.
    fn readmit(&mut self, more: Vec<Payment>) -> bool {
        let blocks = self.best.iter().filter_map(|hash| self.blocks.get(hash));
        let mined: Vec<&Payment> = blocks.flat_map(|block| &block.payments).collect();
        let ids: HashSet<TxId> = mined.iter().map(|payment| payment.txid).collect();
        let mut spent: HashSet<OutPoint> = mined.iter().flat_map(|p| p.inputs.iter().copied()).collect();
        let mut held = HashSet::new();
        let before = std::mem::take(&mut self.mempool);
        self.mempool = before
            .into_iter()
            .chain(more)
            .filter(|payment| {
                let fits = !ids.contains(&payment.txid)
                    && !payment.inputs.iter().any(|input| spent.contains(input))
                    && held.insert(payment.txid);
                if fits {
                    spent.extend(payment.inputs.iter().copied());
                }
                fits
            })
            .collect();
        true
    }
}

impl FakeChain {
    /// A chain of `currency` with a genesis block.
    pub fn new(currency: Currency) -> Self {
        let mut state = State::default();
        state.mine(Vec::new());
        Self {
            currency,
            finding: None,
            state: Mutex::new(state),
            news: Notify::new(),
            failures: AtomicUsize::new(0),
        }
    }

    /// A chain of accounts, as Ethereum is one, whose node has call traces.
    pub fn accounts(currency: Currency) -> Self {
        Self { finding: Some(Mutex::new(Finding::Traces)), ..Self::new(currency) }
    }

    /// From now on the node of a chain of accounts finds payments by contracts so.
    pub fn find_by(&self, finding: Finding) {
        if let Some(place) = &self.finding {
            *lock(place) = finding;
        }
    }

    /// Whether payments are told of in the mempool.
    pub fn has_mempool(&self) -> bool {
        self.finding.is_none()
    }

    /// A chain of BTC whose tip is at `height`.
    pub fn with_height(height: u64) -> Self {
        let chain = Self::new(currency("BTC"));
        chain.mine(height);
        chain
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut lock(&self.state));
        self.news.notify_waiters();
        result
    }

    /// The tip of the best branch.
    pub fn tip_block(&self) -> BlockRef {
        let tip = lock(&self.state).tip().map(|tip| tip.block);
        tip.unwrap_or(BlockRef { height: Height::new(0), hash: BlockHash::from_display([0; 32]) })
    }

    /// The header at a height of the best branch.
    pub fn block_at(&self, height: u64) -> Option<Header> {
        let state = lock(&self.state);
        let hash = usize::try_from(height).ok().and_then(|height| state.best.get(height));
        hash.and_then(|hash| state.blocks.get(hash)).map(|block| block.header)
    }

    /// Mines `blocks` blocks; the whole mempool goes into the first. Answers the new tip.
    pub fn mine(&self, blocks: u64) -> BlockRef {
        self.change(|state| {
            for _ in 0..blocks {
                let payments = std::mem::take(&mut state.mempool);
                state.mine(payments);
            }
        });
        self.tip_block()
    }

    /// Mines one block with these transactions of the mempool alone.
    pub fn mine_only(&self, txids: &[TxId]) -> BlockRef {
        self.change(|state| {
            let (mined, left) =
                std::mem::take(&mut state.mempool).into_iter().partition(|p| txids.contains(&p.txid));
            state.mempool = left;
            state.mine(mined)
        })
    }

    /// A payment into the mempool, from an output nobody else spends.
    pub fn pay(&self, script: &Script, units: u128) -> TxId {
        let input = self
            .change(|state| OutPoint { txid: TxId::from_display(id_bytes(state.next_number(), 0)), vout: 0 });
        self.pay_from(script, units, vec![input])
    }

    /// A payment into the mempool that spends `inputs`; what spent one of them there is gone.
    pub fn pay_from(&self, script: &Script, units: u128, inputs: Vec<OutPoint>) -> TxId {
        self.change(|state| {
            let txid = TxId::from_display(id_bytes(state.next_number(), 0));
            state.mempool.retain(|other| !other.inputs.iter().any(|input| inputs.contains(input)));
            let amount = BaseUnits::from_units(units);
            let script = script.clone();
            state.mempool.push(Payment { txid, script, amount, inputs, by_contract: false });
            txid
        })
    }

    /// A payment that a contract makes, within a transaction to it.
    pub fn pay_by_contract(&self, script: &Script, units: u128) -> TxId {
        let txid = self.pay(script, units);
        self.change(|state| {
            let made = state.mempool.iter_mut().filter(|payment| payment.txid == txid);
            made.for_each(|payment| payment.by_contract = true);
        });
        txid
    }

    /// Replaces a payment in the mempool by one with the same inputs to `script`; `None` if it is not there.
    pub fn replace(&self, txid: &TxId, script: &Script, units: u128) -> Option<TxId> {
        let inputs = lock(&self.state).mempool.iter().find(|p| p.txid == *txid)?.inputs.clone();
        Some(self.pay_from(script, units, inputs))
    }

    /// Drops a payment from the mempool; false if it is not there.
    pub fn evict(&self, txid: &TxId) -> bool {
        self.change(|state| {
            let before = state.mempool.len();
            state.mempool.retain(|payment| payment.txid != *txid);
            state.mempool.len() < before
        })
    }

    /// Cuts the best branch back to `height`; what is mined next starts another branch from there. What the
    /// lost blocks paid is in the mempool again.
    pub fn fork_at(&self, height: u64) -> &Self {
        self.change(|state| state.fork_at(Height::new(height)));
        self
    }

    /// The last `depth` blocks are replaced by `blocks` others, in one step. Transactions in `drop` are in
    /// neither chain nor mempool then; the others of the lost blocks, and the mempool, are in the first new block.
    pub fn reorg(&self, depth: u64, blocks: u64, drop: &[TxId]) -> BlockRef {
        self.change(|state| {
            let tip = state.tip().map_or(Height::new(0), |tip| tip.block.height);
            state.fork_at(tip.below(depth));
            state.mempool.retain(|payment| !drop.contains(&payment.txid));
            for _ in 0..blocks {
                let payments = std::mem::take(&mut state.mempool);
                state.mine(payments);
            }
        });
        self.tip_block()
    }

    /// As [`FakeChain::reorg`], with empty blocks: what the lost ones paid and is not in `drop` is in the mempool
    /// again.
    pub fn reorg_into_mempool(&self, depth: u64, blocks: u64, drop: &[TxId]) -> BlockRef {
        self.change(|state| {
            let tip = state.tip().map_or(Height::new(0), |tip| tip.block.height);
            state.fork_at(tip.below(depth));
            state.mempool.retain(|payment| !drop.contains(&payment.txid));
            for _ in 0..blocks {
                state.mine(Vec::new());
            }
        });
        self.tip_block()
    }

    /// Goes back to the branch whose tip is `hash`, as a node does that is told to prefer it; false if there is none.
    /// The mempool stays as it is.
    pub fn switch_to(&self, hash: &BlockHash) -> bool {
        self.change(|state| {
            let mut branch = Vec::new();
            let mut at = *hash;
            while let Some(block) = state.blocks.get(&at) {
                branch.push(at);
                at = block.header.prev;
            }
            branch.reverse();
            if branch.is_empty() {
                return false;
            }
            state.best = branch;
            true
        })
    }

    /// Goes to the branch whose tip is `hash` as a node does by itself: what the blocks left behind paid is in the
    /// mempool again, and what the new branch holds, or spends otherwise, is not. False if there is no such block.
    pub fn prefer(&self, hash: &BlockHash) -> bool {
        let left = {
            let state = lock(&self.state);
            state
                .best
                .iter()
                .filter_map(|block| state.blocks.get(block))
                .flat_map(|b| b.payments.clone())
                .collect()
        };
        self.switch_to(hash) && self.change(|state| state.readmit(left))
    }

    /// Puts a transaction into the mempool again, as its sender does; false where it is there, is in a block of
    /// the best branch, or something else spends the same.
    pub fn rebroadcast(&self, payment: &Payment) -> bool {
        self.change(|state| {
            let before = state.mempool.len();
            state.readmit(vec![payment.clone()]);
            state.mempool.len() > before
        })
    }

    /// The transactions in the mempool.
    pub fn mempool_payments(&self) -> Vec<Payment> {
        lock(&self.state).mempool.clone()
    }

    /// A block of any branch and what it holds.
    pub fn body(&self, hash: &BlockHash) -> Option<(Header, Vec<Payment>)> {
        lock(&self.state).blocks.get(hash).map(|block| (block.header, block.payments.clone()))
    }

    /// Leaves out numbers, so that ids differ from those of another chain.
    pub fn skip_numbers(&self, count: u64) {
        let mut state = lock(&self.state);
        state.made = state.made.saturating_add(count);
    }

    /// From now on each block that is mined stands for so much work.
    pub fn set_work(&self, work: u128) {
        lock(&self.state).work = Some(work);
    }

    /// The next `calls` calls fail, transiently.
    pub fn fail_next(&self, calls: usize) {
        self.failures.store(calls, Ordering::SeqCst);
    }

    fn answer(&self) -> Result<(), PortError> {
        let fail = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if fail.is_ok() { Err(PortError::transient("the node does not answer")) } else { Ok(()) }
    }

    fn match_payments(&self, payments: &[Payment], watch: &SharedWatch) -> (Vec<Credit>, Vec<Spend>) {
        let watch = watch.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let credits = payments.iter().filter(|payment| watch.contains_script(payment.script.as_bytes()));
        let spends = payments.iter().flat_map(|payment| {
            let spent = payment.inputs.iter().filter(|outpoint| watches(&watch, outpoint));
            spent.map(|outpoint| Spend { outpoint: *outpoint, by: payment.txid })
        });
        (credits.map(|payment| self.credit(payment)).collect(), spends.collect())
    }

    fn credit(&self, payment: &Payment) -> Credit {
        Credit {
            key: DepositKey { txid: payment.txid, slot: "0".to_owned() },
            currency: self.currency.clone(),
            amount: payment.amount,
            script: payment.script.clone(),
            inputs: payment.inputs.clone(),
            difference: None,
        }
    }
}

fn watches(watch: &WatchSet, outpoint: &OutPoint) -> bool {
    let txid = outpoint.txid.internal_bytes();
    watch.contains_outpoint(&tally_matcher::OutPoint { txid, vout: outpoint.vout })
}

#[async_trait]
impl BlockSource for FakeChain {
    async fn check(&self) -> Result<(), PortError> {
        self.answer()
    }

    async fn tip(&self) -> Result<Header, PortError> {
        self.answer()?;
        lock(&self.state).tip().ok_or_else(|| PortError::transient("the chain has no block"))
    }

    async fn at(&self, height: Height) -> Result<Option<Header>, PortError> {
        self.answer()?;
        let state = lock(&self.state);
        let hash = usize::try_from(height.get()).ok().and_then(|height| state.best.get(height));
        Ok(hash.and_then(|hash| state.blocks.get(hash)).map(|block| block.header))
    }

    async fn header(&self, hash: &BlockHash) -> Result<Option<Header>, PortError> {
        self.answer()?;
        Ok(lock(&self.state).blocks.get(hash).map(|block| block.header))
    }

    async fn scan(&self, block: &Header, watch: &SharedWatch) -> Result<ScannedBlock, PortError> {
        self.answer()?;
        let state = lock(&self.state);
        let found = state.blocks.get(&block.block.hash);
        let found = found.ok_or_else(|| PortError::transient(format!("no block {}", block.block.hash)))?;
        let (header, (mut credits, mut spends)) = (found.header, self.match_payments(&found.payments, watch));
        let finding = self.finding.as_ref().map(|finding| *lock(finding));
        if let Some(finding) = finding {
            let watch = watch.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            let paid = found.payments.iter().filter(|paid| watch.contains_script(paid.script.as_bytes()));
            credits = finding.credits(&self.currency, header.block, paid);
            spends.clear();
        }
        let method = finding.map(|finding| finding.method().to_owned());
        Ok(ScannedBlock { header, credits, spends, method })
    }

    async fn mempool(
        &self,
        known: &HashSet<TxId>,
        watch: &SharedWatch,
    ) -> Result<Option<MempoolDiff>, PortError> {
        self.answer()?;
        let state = lock(&self.state);
        let Some(tip) = state.tip().filter(|_| self.has_mempool()) else { return Ok(None) };
        let new: Vec<Payment> = state.mempool.iter().filter(|p| !known.contains(&p.txid)).cloned().collect();
        let (credits, spends) = self.match_payments(&new, watch);
        let present = state.mempool.iter().map(|payment| payment.txid).collect();
        Ok(Some(MempoolDiff { tip: tip.block.hash, present, credits, spends }))
    }

    async fn work(&self, block: &BlockHash) -> Result<Option<u128>, PortError> {
        self.answer()?;
        Ok(lock(&self.state).blocks.get(block).and_then(|block| block.work))
    }

    async fn wait(&self, tip: &BlockHash, at_most: Span) {
        let moved = async {
            loop {
                let mut news = pin!(self.news.notified());
                news.as_mut().enable();
                if self.tip_block().hash != *tip {
                    return;
                }
                news.await;
            }
        };
        // Whether it moved or not, the caller looks.
        let _ = tokio::time::timeout(at_most.to_duration(), moved).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, RwLock};

    use super::*;
    use crate::script;

    pub(super) fn watching(scripts: &[u64]) -> SharedWatch {
        let mut watch = WatchSet::new(1);
        for number in scripts {
            watch.insert_script(script(*number).as_bytes()).unwrap();
        }
        Arc::new(RwLock::new(watch))
    }

    #[tokio::test]
    async fn a_payment_goes_into_a_block_and_out_again() {
        let chain = FakeChain::with_height(3);
        let watch = watching(&[7]);
        let txid = chain.pay(&script(7), 100);
        chain.pay(&script(8), 100);
        let seen = chain.mempool(&HashSet::new(), &watch).await.unwrap().unwrap();
        assert_eq!((seen.present.len(), seen.credits.len()), (2, 1));
        let block = chain.mine(1);
        let header = chain.header(&block.hash).await.unwrap().unwrap();
        let scanned = chain.scan(&header, &watch).await.unwrap();
        assert_eq!(scanned.credits.iter().map(|credit| credit.key.txid).collect::<Vec<_>>(), [txid]);
        chain.fork_at(3).mine_only(&[]);
        assert_ne!(chain.tip_block(), block);
        assert_eq!(chain.tip_block().height, block.height);
        assert_eq!(chain.mempool(&HashSet::new(), &watch).await.unwrap().unwrap().credits.len(), 1);
        assert!(chain.switch_to(&block.hash));
        assert_eq!(chain.tip_block(), block);
    }

    #[tokio::test]
    async fn a_preferred_branch_takes_its_payments_and_leaves_the_others() {
        let chain = FakeChain::with_height(3);
        let (kept, spent) = (chain.pay(&script(1), 1), chain.pay(&script(2), 1));
        let first = chain.mine(1);
        chain.fork_at(3);
        let other = chain.replace(&spent, &script(3), 1).unwrap();
        chain.mine_only(&[other]);
        let second = chain.mine_only(&[]);
        let mempool = || chain.mempool_payments().iter().map(|p| p.txid).collect::<Vec<_>>();
        assert_eq!(mempool(), [kept]);
        assert!(chain.prefer(&first.hash));
        assert_eq!(mempool(), [], "what spends the same twice is nowhere");
        let gone = chain.body(&first.hash).unwrap().1.remove(1);
        assert!(chain.prefer(&second.hash));
        assert_eq!(mempool(), [kept]);
        assert!(!chain.rebroadcast(&gone), "its input is spent");
        chain.evict(&kept);
        let again = chain.body(&first.hash).unwrap().1.remove(0);
        assert!(chain.rebroadcast(&again) && !chain.rebroadcast(&again));
        assert_eq!(mempool(), [kept]);
    }

    #[tokio::test]
    async fn a_replacement_spends_the_watched_outpoint() {
        let chain = FakeChain::with_height(1);
        let watch = watching(&[7]);
        let first = chain.pay(&script(7), 100);
        let credit = chain.mempool(&HashSet::new(), &watch).await.unwrap().unwrap().credits.remove(0);
        for input in &credit.inputs {
            let outpoint = tally_matcher::OutPoint { txid: input.txid.internal_bytes(), vout: input.vout };
            watch.write().unwrap().insert_outpoint(&outpoint).unwrap();
        }
        let second = chain.replace(&first, &script(8), 90).unwrap();
        let diff = chain.mempool(&HashSet::from([first]), &watch).await.unwrap().unwrap();
        assert!(!diff.present.contains(&first));
        assert_eq!(diff.spends.iter().map(|spend| spend.by).collect::<Vec<_>>(), [second]);
    }
}
