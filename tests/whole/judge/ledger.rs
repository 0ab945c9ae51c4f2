//! No deposit is lost or counted twice: what each order has received is what the chain holds, on the branch that the
//! log names.
//!
//! Not here: what an order makes of its deposits.

use std::collections::BTreeMap;
use std::sync::Arc;

use tally_events::{ChainSharded, Fact, Recorded, Shard, Subject};
use tally_order::Stage;
use tally_ports::Clock;
use tally_testkit::{FakeChain, Payment};
use tally_types::{
    BlockHash, BlockRef, ChainId, DepositKey, Height, OrderId, Position, Script, Timestamp, TxId,
};

use super::{Judge, Verdict, broken, name_block};
use crate::timeline::Timeline;

/// A watcher's report, and when it was appended by the right clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report {
    pub(crate) at: Timestamp,
    pub(crate) observed_at: Timestamp,
    pub(crate) through: Position,
}

/// A chain, and the branches of it that the log's block facts make: one for each shard.
pub(crate) struct Branch {
    id: ChainId,
    pub(crate) chain: Arc<FakeChain>,
    shards: BTreeMap<Shard, Followed>,
    generation: u32,
    /// The tips after each change, by position.
    tips: Vec<(Position, BTreeMap<Shard, BlockRef>)>,
    pub(crate) reports: Vec<(Shard, Report)>,
    /// The first block that the log knows.
    pub(crate) first: Option<Height>,
    /// Every transaction that was ever made.
    pub(crate) made: BTreeMap<TxId, Payment>,
}

/// The branch of one shard.
#[derive(Debug, Clone, Default)]
struct Followed {
    blocks: BTreeMap<Height, BlockHash>,
    through: Position,
}

impl Followed {
    fn tip(&self) -> Option<BlockRef> {
        self.blocks.last_key_value().map(|(height, hash)| BlockRef { height: *height, hash: *hash })
    }
}

impl Branch {
    pub(crate) fn new(id: ChainId, chain: Arc<FakeChain>) -> Self {
        Self {
            id,
            chain,
            shards: BTreeMap::from([(Shard::WHOLE, Followed::default())]),
            generation: 0,
            tips: Vec::new(),
            reports: Vec::new(),
            first: None,
            made: BTreeMap::new(),
        }
    }

    /// The tips of all shards.
    pub(crate) fn tips(&self) -> BTreeMap<Shard, BlockRef> {
        self.shards.iter().filter_map(|(shard, followed)| Some((*shard, followed.tip()?))).collect()
    }

    /// The tips as of a position.
    pub(crate) fn tips_at(&self, position: Position) -> BTreeMap<Shard, BlockRef> {
        let count = self.tips.partition_point(|(at, _)| *at <= position);
        let last = count.checked_sub(1).and_then(|last| self.tips.get(last));
        last.map(|(_, tips)| tips.clone()).unwrap_or_default()
    }

    /// The shard's tip, if it has this block.
    pub(crate) fn tip_over(&self, shard: Shard, block: &BlockRef) -> Option<BlockRef> {
        let followed = self.shards.get(&shard)?;
        (followed.blocks.get(&block.height) == Some(&block.hash)).then(|| followed.tip())?
    }

    /// Whether every shard's branch ends here.
    pub(crate) fn is_at(&self, tip: BlockRef) -> bool {
        self.shards.values().all(|followed| followed.tip() == Some(tip))
    }

    /// The name of the lease of one of the shards there are, by any number.
    pub(crate) fn lease(&self, number: u64) -> String {
        let index = number % self.shards.len() as u64;
        format!("watch.{}.{}-{index}", self.id, self.generation)
    }

    fn of(&self, script: &Script) -> Option<&Followed> {
        self.shards.iter().find(|(shard, _)| shard.has(script)).map(|(_, followed)| followed)
    }

    pub(super) fn fold(&mut self, recorded: &Recorded, timeline: &Timeline) -> Verdict {
        let (fact, shard) = (&recorded.event.fact, recorded.event.shard);
        if let Fact::ChainSharded(fact) = fact {
            if recorded.event.subject == Subject::chain_plan(&self.id) {
                self.divide(fact)?;
                self.tips.push((recorded.position, self.tips()));
            }
            return Ok(());
        }
        let (observed_at, through) = match fact {
            Fact::BlockConnected(fact) => (fact.observed_at, fact.watched_through),
            Fact::ChainObserved(fact) => (fact.observed_at, fact.watched_through),
            Fact::ChainCheckpointed(fact) => (fact.observed_at, fact.watched_through),
            Fact::BlockDisconnected(_) => (Timestamp::EPOCH, Position::START),
            _ => return Ok(()),
        };
        let ended = recorded.event.subject != Subject::chain(&self.id, self.generation, shard.index());
        let Some(followed) = self.shards.get_mut(&shard).filter(|_| !ended) else {
            return broken("branch", format!("{shard} of {} has ended", recorded.event.subject));
        };
        if observed_at > Timestamp::EPOCH {
            followed.through = followed.through.max(through);
            self.reports.push((shard, Report { at: timeline.now(), observed_at, through }));
        }
        match fact {
            Fact::BlockConnected(fact) => {
                self.first.get_or_insert(fact.from);
                connect(&self.chain, followed, fact.from, fact.block)?;
            }
            Fact::BlockDisconnected(fact) => {
                if followed.tip() != Some(fact.block) {
                    return broken("branch", format!("{} is not the tip", name_block(&fact.block)));
                }
                followed.blocks.remove(&fact.block.height);
            }
            _ => {}
        }
        self.tips.push((recorded.position, self.tips()));
        Ok(())
    }

    /// Other shards from here on: all of those before stand at one block.
    fn divide(&mut self, fact: &ChainSharded) -> Verdict {
        if let Some((shard, followed)) = self.shards.iter().find(|(_, followed)| followed.tip() != fact.at) {
            let tip = followed.tip();
            return broken("branch", format!("{shard} stands at {tip:?}, and is divided at {:?}", fact.at));
        }
        let mut start = self.shards.values().next().cloned().unwrap_or_default();
        start.through = fact.watched_through;
        self.generation = fact.generation;
        self.shards = Shard::all(fact.count).map(|shard| (shard, start.clone())).collect();
        Ok(())
    }

    /// What the branch's blocks pay to a script.
    fn mined(&self, script: &Script) -> BTreeMap<BlockHash, u128> {
        let mut mined = BTreeMap::<BlockHash, u128>::new();
        for hash in self.of(script).into_iter().flat_map(|followed| followed.blocks.values()) {
            let Some((_, payments)) = self.chain.body(hash) else { continue };
            for payment in payments.iter().filter(|payment| payment.script == *script) {
                *mined.entry(*hash).or_default() += payment.amount.units();
            }
        }
        mined
    }

    /// Whether a deposit is what was paid. What is told as a sum has the transactions' sum, by its block.
    fn is_made(&self, deposit: &DepositKey, units: u128, script: &Script) -> bool {
        let sum = deposit.slot.starts_with("balance-");
        let made = self.made.get(&deposit.txid);
        sum || made.is_some_and(|made| made.amount.units() == units && made.script == *script)
    }
}

/// A block joins, or a run of them.
fn connect(chain: &FakeChain, followed: &mut Followed, from: Height, block: BlockRef) -> Verdict {
    let mut run = Vec::new();
    let mut at = block.hash;
    let mut below = None;
    while let Some((header, _)) = chain.body(&at) {
        if header.block.height < from {
            below = Some(header.block);
            break;
        }
        run.push(header.block);
        at = header.prev;
    }
    if let (Some(tip), Some(below)) = (followed.tip(), below)
        && tip != below
    {
        return broken("branch", format!("{} does not follow {}", name_block(&block), name_block(&tip)));
    }
    followed.blocks.extend(run.into_iter().map(|block| (block.height, block.hash)));
    Ok(())
}

impl Judge {
    /// Every address's money against the blocks of the log's branch.
    pub(super) fn check_ledger(&mut self, chain: &ChainId) -> Verdict {
        let Some(branch) = self.branches.get(chain) else { return Ok(()) };
        let (mut checked, mut seen) = (0, BTreeMap::<DepositKey, OrderId>::new());
        for ((on, script), given) in &self.given {
            let through = branch.of(script).map_or(Position::START, |followed| followed.through);
            let too_early = branch.first.is_some_and(|first| given.birth < first);
            if on != chain || given.since > through || too_early {
                continue;
            }
            let Some(order) = self.order(&given.order) else { continue };
            let (mut blocks, mut sum) = (BTreeMap::<BlockHash, u128>::new(), 0_u128);
            for deposit in order.deposits().iter().filter(|d| d.chain() == chain && d.quote() == given.quote)
            {
                let units = deposit.amount().units();
                let twice = seen.insert(deposit.key().clone(), given.order.clone());
                if let Some(other) = twice {
                    return broken("deposits", format!("{} pays {other} and {}", deposit.key(), given.order));
                }
                if !branch.is_made(deposit.key(), units, script) {
                    return broken("deposits", format!("{} of {units} was never paid", deposit.key()));
                }
                match deposit.stage() {
                    Stage::Mined(block) => {
                        *blocks.entry(block.hash).or_default() += units;
                        sum += units;
                    }
                    Stage::Mempool => sum += units,
                    Stage::Gone => {}
                }
            }
            let really = branch.mined(script);
            if blocks != really {
                let order = &given.order;
                return broken(
                    "deposits",
                    format!("{order} has {blocks:?} in blocks, the branch {really:?}"),
                );
            }
            let received = order.quote_by_number(given.quote).map(|quote| order.received_at(quote).units());
            if received != Some(sum) {
                return broken("deposits", format!("{} received {received:?}, not {sum}", given.order));
            }
            checked += usize::from(sum > 0);
        }
        if checked > 0 {
            self.applies("deposits");
        }
        Ok(())
    }
}

impl Judge {
    /// A payment to an order's address that the log does not have as the node has it; none once it has come to rest.
    pub(crate) fn unsettled_deposits(&self) -> Option<String> {
        for ((chain, script), given) in &self.given {
            let Some(branch) = self.branches.get(chain) else { continue };
            if branch.first.is_some_and(|first| given.birth < first) {
                continue;
            }
            if branch.of(script).is_none_or(|followed| followed.through < given.since) {
                return Some(format!("{chain} is not watched for {}", given.order));
            }
            let mut held = branch.chain.mempool_payments();
            held.retain(|_| branch.chain.has_mempool());
            let held: BTreeMap<TxId, u128> =
                held.iter().filter(|p| p.script == *script).map(|p| (p.txid, p.amount.units())).collect();
            let told: BTreeMap<TxId, u128> = self
                .order(&given.order)?
                .deposits()
                .iter()
                .filter(|d| d.chain() == chain && d.quote() == given.quote && d.stage() == Stage::Mempool)
                .map(|d| (d.key().txid, d.amount().units()))
                .collect();
            if held != told {
                return Some(format!("{} has {told:?} in the mempool, the node {held:?}", given.order));
            }
        }
        None
    }
}
