//! No deposit is lost or counted twice: what each order has received is what the chain holds, on the branch that the
//! log names.
//!
//! Not here: what an order makes of its deposits.

use std::collections::BTreeMap;
use std::sync::Arc;

use tally_events::{Fact, Recorded};
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

/// A chain, and the branch of it that the log's block facts make.
pub(crate) struct Branch {
    pub(crate) chain: Arc<FakeChain>,
    blocks: BTreeMap<Height, BlockHash>,
    /// The tip after each change, by position.
    tips: Vec<(Position, BlockRef)>,
    pub(crate) through: Position,
    pub(crate) reports: Vec<Report>,
    /// The first block that the log knows.
    pub(crate) first: Option<Height>,
    /// Every transaction that was ever made.
    pub(crate) made: BTreeMap<TxId, Payment>,
}

impl Branch {
    pub(crate) fn new(chain: Arc<FakeChain>) -> Self {
        Self {
            chain,
            blocks: BTreeMap::new(),
            tips: Vec::new(),
            through: Position::START,
            reports: Vec::new(),
            first: None,
            made: BTreeMap::new(),
        }
    }

    pub(crate) fn tip(&self) -> Option<BlockRef> {
        self.blocks.last_key_value().map(|(height, hash)| BlockRef { height: *height, hash: *hash })
    }

    /// The tip as of a position.
    pub(crate) fn tip_at(&self, position: Position) -> Option<BlockRef> {
        let count = self.tips.partition_point(|(at, _)| *at <= position);
        self.tips.get(count.checked_sub(1)?).map(|(_, tip)| *tip)
    }

    pub(crate) fn holds(&self, block: &BlockRef) -> bool {
        self.blocks.get(&block.height) == Some(&block.hash)
    }

    pub(super) fn fold(&mut self, recorded: &Recorded, timeline: &Timeline) -> Verdict {
        match &recorded.event.fact {
            Fact::BlockConnected(fact) => {
                self.report(timeline, fact.observed_at, fact.watched_through);
                self.connect(fact.from, fact.block)?;
            }
            Fact::BlockDisconnected(fact) => {
                if self.tip() != Some(fact.block) {
                    return broken("branch", format!("{} is not the tip", name_block(&fact.block)));
                }
                self.blocks.remove(&fact.block.height);
            }
            Fact::ChainObserved(fact) => self.report(timeline, fact.observed_at, fact.watched_through),
            Fact::ChainCheckpointed(fact) => self.report(timeline, fact.observed_at, fact.watched_through),
            _ => return Ok(()),
        }
        if let Some(tip) = self.tip() {
            self.tips.push((recorded.position, tip));
        }
        Ok(())
    }

    fn report(&mut self, timeline: &Timeline, observed_at: Timestamp, through: Position) {
        self.through = self.through.max(through);
        self.reports.push(Report { at: timeline.now(), observed_at, through });
    }

    fn connect(&mut self, from: Height, block: BlockRef) -> Verdict {
        self.first.get_or_insert(from);
        let mut run = Vec::new();
        let mut at = block.hash;
        let mut below = None;
        while let Some((header, _)) = self.chain.body(&at) {
            if header.block.height < from {
                below = Some(header.block);
                break;
            }
            run.push(header.block);
            at = header.prev;
        }
        if let (Some(tip), Some(below)) = (self.tip(), below)
            && tip != below
        {
            return broken("branch", format!("{} does not follow {}", name_block(&block), name_block(&tip)));
        }
        self.blocks.extend(run.into_iter().map(|block| (block.height, block.hash)));
        Ok(())
    }

    /// What the branch's blocks pay to a script.
    fn mined(&self, script: &Script) -> BTreeMap<TxId, u128> {
        let mut mined = BTreeMap::new();
        for hash in self.blocks.values() {
            let Some((_, payments)) = self.chain.body(hash) else { continue };
            for payment in payments.iter().filter(|payment| payment.script == *script) {
                mined.insert(payment.txid, payment.amount.units());
            }
        }
        mined
    }
}

impl Judge {
    /// Every address's money against the blocks of the log's branch.
    pub(super) fn check_ledger(&mut self, chain: &ChainId) -> Verdict {
        let Some(branch) = self.branches.get(chain) else { return Ok(()) };
        let (mut checked, mut seen) = (0, BTreeMap::<DepositKey, OrderId>::new());
        for ((on, script), given) in &self.given {
            if on != chain
                || given.since > branch.through
                || branch.first.is_some_and(|first| given.birth < first)
            {
                continue;
            }
            let Some(order) = self.order(&given.order) else { continue };
            let (mut blocks, mut sum) = (BTreeMap::new(), 0_u128);
            for deposit in order.deposits().iter().filter(|d| d.chain() == chain && d.quote() == given.quote)
            {
                let units = deposit.amount().units();
                let twice = seen.insert(deposit.key().clone(), given.order.clone());
                if let Some(other) = twice {
                    return broken("deposits", format!("{} pays {other} and {}", deposit.key(), given.order));
                }
                let made = branch.made.get(&deposit.key().txid);
                if made.is_none_or(|made| made.amount.units() != units || made.script != *script) {
                    return broken(
                        "deposits",
                        format!("{} of {units} was never paid: {made:?}", deposit.key()),
                    );
                }
                match deposit.stage() {
                    Stage::Mined(_) => {
                        blocks.insert(deposit.key().txid, units);
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
            if branch.through < given.since {
                return Some(format!("{chain} is not watched for {}", given.order));
            }
            let held = branch.chain.mempool_payments();
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
