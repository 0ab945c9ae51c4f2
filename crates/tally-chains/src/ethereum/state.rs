//! Balances asked of a node, and the payments that their differences are.
//!
//! Not here: the sums (`balance`), and payments by call traces and logs (`scan`).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ethers_core::types::{Address, H256, U64, U256};
use futures::StreamExt;
use metrics::counter;
use serde_json::{Value, json};
use tally_ports::{Credit, Header, SharedWatch};
use tally_types::{BaseUnits, BlockHash, BlockRef, DepositKey, Difference, Height, Script, TxId};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::balance::{Back, Balances, Base, Ledger, Moves, Rest, moves, rest};
use super::node::EthereumNode;
use super::scan::Told;
use super::wire::Quantity;
use crate::fault::{Fault, FaultKind};
use crate::pool::Node as _;

/// Addresses whose balances are asked for with every block.
const ADDRESSES_MAX: usize = 20_000;
/// Addresses in one batch, and batches at once.
const BATCH_MAX: usize = 100;
const BATCHES_MAX: usize = 4;
/// For blocks below that are being read at the same time: longer than one takes whose traces come slowly.
const BELOW_TIMEOUT: Duration = Duration::from_secs(90);

/// How natives of a block were found.
pub(crate) enum Found {
    /// By the difference of balances: these beside what the transactions themselves paid.
    ByBalance(Vec<Credit>),
    /// The state is gone: by the transactions alone. What else was paid shows at the end of the gap.
    TopLevel,
}

/// What is remembered of balances, by all that reads blocks of a chain.
#[derive(Default)]
pub(crate) struct Books {
    ledger: Mutex<Ledger>,
    news: Notify,
}

/// A block that is being read, for as long as this lives.
pub(crate) struct Reading<'a> {
    books: &'a Books,
    hash: BlockHash,
}

/// Addresses watched, and balances of them.
struct Watched {
    addresses: Vec<Address>,
    set: HashSet<Address>,
}

impl Books {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a block is being read: what others find out of those above it may hang on it.
    pub(crate) fn read(&self, hash: BlockHash) -> Reading<'_> {
        self.ledger().begin(hash);
        Reading { books: self, hash }
    }

    /// Whether payments below a block are still to come, as a difference. A block that is being read is waited for.
    pub(crate) async fn is_open(&self, block: &BlockHash) -> Result<bool, Fault> {
        let read = async {
            loop {
                let news = self.news.notified();
                if !self.ledger().is_pending(block) {
                    return;
                }
                news.await;
            }
        };
        timeout(BELOW_TIMEOUT, read).await.map_err(|_| {
            Fault::new(FaultKind::Internal, format!("block {block}, which is below, takes too long"))
        })?;
        Ok(self.ledger().is_open(block))
    }

    /// A block without transactions was read without its state.
    pub(crate) fn pass(&self, header: &Header) {
        self.ledger().pass(header.block.hash, header.prev);
    }

    /// Takes what was paid to scripts up to a block as what they had there; `open` where payments below are still to
    /// come.
    pub(crate) fn recall(&self, through: BlockRef, open: bool, paid: &[(Script, BaseUnits)]) {
        let mut balances = Balances::new();
        for (script, amount) in paid {
            if let Some(address) = address(script.as_bytes()) {
                let sum = balances.entry(address).or_default();
                *sum = sum.saturating_add(U256::from(amount.units()));
            }
        }
        self.ledger().presume(through, balances, open);
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.books.ledger().end(&self.hash);
        self.books.news.notify_waiters();
    }
}

fn address(script: &[u8]) -> Option<Address> {
    script.try_into().ok().map(|bytes: [u8; 20]| ethers_core::types::H160(bytes))
}

fn watched(watch: &SharedWatch) -> Watched {
    let set = watch.read().unwrap_or_else(PoisonError::into_inner);
    let addresses: Vec<Address> = set.scripts().filter_map(|script| address(&script)).collect();
    Watched { set: addresses.iter().copied().collect(), addresses }
}

/// Asks a node for balances.
#[derive(Default)]
pub(crate) struct Asking {
    /// The node takes a block's number where others take its hash.
    by_number: AtomicBool,
}

impl EthereumNode {
    /// What was paid to watched addresses in a block, or in those without state before it, and is not among `credits`.
    pub(crate) async fn by_balance(
        &self,
        told: &Told,
        credits: &[Credit],
        header: &Header,
        watch: &SharedWatch,
        books: &Books,
    ) -> Result<Found, Fault> {
        let watched = watched(watch);
        if watched.addresses.len() > ADDRESSES_MAX {
            return Err(Fault::new(
                FaultKind::Unable,
                format!(
                    "{}: {} addresses are watched; without call traces (debug_traceBlockByHash) at most \
                     {ADDRESSES_MAX} can be: a node with them is required",
                    self.label(),
                    watched.addresses.len()
                ),
            ));
        }
        let hash = header.block.hash;
        let mut moved = moves(told, &watched.set).map_err(|error| self.contradiction(error))?;
        let Some(after) = self.balances(&watched.addresses, header.block).await? else {
            books.ledger().skip(hash, header.prev, moved);
            return Ok(Found::TopLevel);
        };
        if told.traces.is_some() {
            self.receive(credits, &mut moved);
        }
        let before = self.before(&watched, header, books).await?;
        let credits = self.differences(header, &before, &moved, &after);
        books.ledger().remember(hash, after);
        if before.gap > 0 || books.ledger().presumes(&header.prev) {
            books.ledger().settle(hash, &watched.set);
        }
        if before.gap > 0 {
            let (chain, node, blocks) = (&self.plan().id, self.label(), before.gap);
            let paid = credits.len();
            tracing::error!(%chain, node, %hash, blocks, paid, "blocks without state: settled by one difference");
            counter!("tally_incidents_total", "kind" => "state_gap").increment(1);
        }
        Ok(Found::ByBalance(credits))
    }

    /// Takes what traces told as what the block's own transactions moved to the addresses.
    fn receive(&self, credits: &[Credit], moved: &mut HashMap<Address, Moves>) {
        moved.values_mut().for_each(|moves| moves.received = U256::zero());
        for credit in credits.iter().filter(|credit| credit.currency == self.plan().native) {
            if let Some(address) = address(credit.script.as_bytes()) {
                let received = U256::from(credit.amount.units());
                moved.entry(address).or_default().add(Moves { received, sent: U256::zero() });
            }
        }
    }

    /// What addresses have more after a block than is known to have been moved.
    fn differences(
        &self,
        header: &Header,
        before: &Before,
        moved: &HashMap<Address, Moves>,
        after: &Balances,
    ) -> Vec<Credit> {
        let mut credits = Vec::new();
        for (address, after) in after {
            let here = moved.get(address).copied().unwrap_or_default();
            let (base, mut since) = before.of(address);
            since.add(here);
            let found = rest(base.map_or(U256::zero(), |base| base.balance), since, *after);
            match (base, found) {
                (_, Rest::None) => {}
                (Some(base), Rest::Paid(amount)) => {
                    let height = header.block.height;
                    // All that is told of the address is in a sum that begins with what was told.
                    let (first, earlier) = match base.blocks {
                        Some(blocks) => {
                            (height.below(u64::try_from(blocks).unwrap_or(u64::MAX)), U256::zero())
                        }
                        None => (Height::default(), base.balance),
                    };
                    let received = earlier.saturating_add(since.received).saturating_add(amount);
                    let difference = Difference { since: first, received: units(received) };
                    credits.extend(self.credit(header, address, amount, difference));
                }
                (Some(_), Rest::Missing(amount)) => self.unaccounted(header, address, amount),
                (None, Rest::Paid(amount) | Rest::Missing(amount)) => self.unsettled(header, address, amount),
            }
        }
        credits.sort_by(|one, other| one.key.cmp(&other.key));
        credits
    }

    /// What addresses had before a block: from the state of its parent, else, and where payments below the parent are
    /// still to come, from before the gap that ends here.
    async fn before(&self, watched: &Watched, header: &Header, books: &Books) -> Result<Before, Fault> {
        let (parent, height) = (header.prev, header.block.height);
        let open = books.is_open(&parent).await?;
        let mut known = match open {
            true => Balances::new(),
            false => books.ledger().at(&parent).cloned().unwrap_or_default(),
        };
        let mut lacking: HashSet<Address> =
            watched.set.iter().filter(|address| !known.contains_key(*address)).copied().collect();
        if lacking.is_empty() || height.get() == 0 {
            return Ok(Before { known, ..Before::default() });
        }
        let mut back = None;
        if open {
            let way = self.whole_way_back(header, &lacking, books).await?;
            lacking.retain(|address| !way.known.contains_key(address));
            back = Some(way);
        }
        let asked: Vec<Address> = lacking.iter().copied().collect();
        let state = self.balances(&asked, BlockRef { height: height.below(1), hash: parent }).await?;
        let back = match (state, back) {
            (Some(more), back) => {
                if back.is_some() {
                    self.unsettled_below(header, more.len());
                }
                known.extend(more);
                back
            }
            (None, Some(back)) => Some(back),
            (None, None) => Some(self.way_back(header, &lacking, books).await?),
        };
        let gap = back.as_ref().map_or(0, |back| back.blocks.max(1));
        Ok(Before { known, gap, back: back.unwrap_or_default() })
    }

    /// The same, where the gap must be settled: the state at its bottom is asked for if need be.
    async fn whole_way_back(
        &self,
        header: &Header,
        lacking: &HashSet<Address>,
        books: &Books,
    ) -> Result<Back, Fault> {
        let mut way = self.way_back(header, lacking, books).await?;
        if let Some(hash) = way.bottom {
            let below = u64::try_from(way.blocks).unwrap_or(u64::MAX).saturating_add(1);
            let asked: Vec<Address> =
                lacking.iter().filter(|address| !way.known.contains_key(*address)).copied().collect();
            let bottom = BlockRef { height: header.block.height.below(below), hash };
            for (address, balance) in self.balances(&asked, bottom).await?.unwrap_or_default() {
                let moved = way.moved.get(&address).copied().unwrap_or_default();
                way.known.insert(address, Base { balance, moved, blocks: Some(way.blocks) });
            }
        }
        Ok(way)
    }

    /// The way back from a block's parent to where balances of addresses are known. Blocks on it that are being read
    /// are waited for.
    async fn way_back(
        &self,
        header: &Header,
        lacking: &HashSet<Address>,
        books: &Books,
    ) -> Result<Back, Fault> {
        loop {
            let news = books.news.notified();
            let back = books.ledger().back(header.prev, header.block.hash, lacking);
            match back.awaits {
                None => return Ok(back),
                Some(below) => timeout(BELOW_TIMEOUT, news).await.map_err(|_| {
                    let what = format!("{}: block {below} takes too long", self.label());
                    Fault::new(FaultKind::Internal, what)
                })?,
            }
        }
    }

    /// The balances of addresses at a block; `None` if the node does not have its state any more.
    async fn balances(&self, addresses: &[Address], block: BlockRef) -> Result<Option<Balances>, Fault> {
        let asked = addresses.chunks(BATCH_MAX).map(|addresses| self.batch(addresses, block));
        let mut answers = futures::stream::iter(asked.collect::<Vec<_>>()).buffered(BATCHES_MAX);
        let mut balances = Balances::with_capacity(addresses.len());
        while let Some(answer) = answers.next().await {
            match answer? {
                Some(some) => balances.extend(some),
                None => return Ok(None),
            }
        }
        Ok(Some(balances))
    }

    async fn batch(
        &self,
        addresses: &[Address],
        block: BlockRef,
    ) -> Result<Option<Vec<(Address, U256)>>, Fault> {
        const METHOD: &str = "eth_getBalance";
        let by_number = &self.asking().by_number;
        let ask = |at: Value| {
            let params = addresses.iter().map(|address| json!([address, at])).collect();
            self.rpc().batch::<Quantity>(METHOD, params)
        };
        let mut outcome = None;
        if !by_number.load(Ordering::Relaxed) {
            outcome = match ask(json!({"blockHash": H256(*block.hash.display_bytes())})).await {
                Err(error) if error.is_invalid_params() => {
                    by_number.store(true, Ordering::Relaxed);
                    None
                }
                told => Some(told),
            };
        }
        let outcome = match outcome {
            Some(told) => told,
            None => {
                let told = ask(json!(U64::from(block.height.get()))).await;
                // The number must have stood for this very block.
                if self.at(block.height).await?.is_none_or(|there| there.block != block) {
                    let what = format!("{}: block {} left the best branch", self.label(), block.hash);
                    return Err(Fault::new(FaultKind::Absent, what));
                }
                told
            }
        };
        match outcome {
            Ok(told) => {
                let told: Option<Vec<Quantity>> = told.into_iter().collect();
                let told = told.ok_or_else(|| {
                    Fault::new(FaultKind::Absent, format!("{}: a balance is absent", self.label()))
                })?;
                Ok(Some(addresses.iter().copied().zip(told.into_iter().map(|balance| balance.0)).collect()))
            }
            Err(error) if error.is_state_missing() => Ok(None),
            Err(error) => Err(self.fault(METHOD, error)),
        }
    }

    fn credit(
        &self,
        header: &Header,
        address: &Address,
        amount: U256,
        difference: Difference,
    ) -> Option<Credit> {
        Some(Credit {
            key: DepositKey {
                txid: TxId::from_display(*header.block.hash.display_bytes()),
                slot: format!("balance-{}", const_hex::encode(address.0)),
            },
            currency: self.plan().native.clone(),
            amount: units(amount),
            script: Script::from_bytes(&address.0).ok()?,
            inputs: Vec::new(),
            difference: Some(difference),
        })
    }

    /// An address has less than it should.
    fn unaccounted(&self, header: &Header, address: &Address, amount: U256) {
        let (chain, node, block) = (&self.plan().id, self.label(), header.block.hash);
        tracing::error!(%chain, node, %block, ?address, %amount, "paid out other than by transactions of its own");
        counter!("tally_incidents_total", "kind" => "balance_negative").increment(1);
    }

    /// It is not known what addresses had before the gap: what was paid to them in it by contracts is not told.
    fn unsettled_below(&self, header: &Header, addresses: usize) {
        if addresses > 0 {
            let (chain, node, block) = (&self.plan().id, self.label(), header.block.hash);
            tracing::error!(%chain, node, %block, addresses, "blocks without state before this one are not settled");
            counter!("tally_incidents_total", "kind" => "state_gap_unsettled").increment(1);
        }
    }

    /// It is not known what an address had before the gap: what it has beyond what was moved since, it had then or
    /// was paid since.
    fn unsettled(&self, header: &Header, address: &Address, amount: U256) {
        let (chain, node, block) = (&self.plan().id, self.label(), header.block.hash);
        tracing::error!(%chain, node, %block, ?address, %amount, "held before the blocks without state, or paid in them");
        counter!("tally_incidents_total", "kind" => "state_gap_unsettled").increment(1);
    }
}

/// What addresses had.
#[derive(Default)]
struct Before {
    known: Balances,
    /// Blocks without state between.
    gap: usize,
    back: Back,
}

impl Before {
    /// What an address had, if it is known, and what was moved between then and the block's parent.
    fn of(&self, address: &Address) -> (Option<Base>, Moves) {
        match (self.known.get(address), self.back.known.get(address)) {
            (Some(had), _) => {
                let base = Base { balance: *had, moved: Moves::default(), blocks: Some(0) };
                (Some(base), Moves::default())
            }
            (None, Some(base)) => (Some(*base), base.moved),
            (None, None) => (None, self.back.moved.get(address).copied().unwrap_or_default()),
        }
    }
}

/// No chain has issued more than can be counted.
fn units(amount: U256) -> BaseUnits {
    BaseUnits::from_units(u128::try_from(amount).unwrap_or(u128::MAX))
}
