//! Whether everything is right, looked at after every append, every message and every answer.
//!
//! The judge folds the log on its own: the branches that the block facts make (`ledger`), and every order by the pure
//! fold alone, without indexes, caches, commits or restarts. Against that it holds what the chains hold, what the
//! processes have in their stores, what shops are told and what subscribers get.
//!
//! Not here: what happens (`schedule`); the rules by what they are about: deposits (`ledger`), facts (`rules`), what
//! leaves the system (`outside`), stores and the end (`shelves`).

mod ledger;
mod outside;
mod rules;
pub(crate) mod shelves;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tally_events::{DeliveryAttempted, Fact, Recorded, Subject};
use tally_order::Order;
use tally_testkit::{FakeChain, MemoryLog};
use tally_types::{BlockRef, ChainId, Fingerprint, Height, OrderId, Position, Script};

use crate::timeline::Timeline;
pub(crate) use ledger::Branch;
pub(crate) use outside::{Notice, Told};

/// How far a process's clock may be off, in milliseconds.
pub(crate) const SKEW_MAX_MS: u64 = 8_000;

/// What is wrong: the rule that is broken, and how.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) rule: &'static str,
    pub(crate) text: String,
}

pub(crate) type Verdict = Result<(), Fault>;

/// A broken rule.
pub(crate) fn broken(rule: &'static str, text: impl Into<String>) -> Verdict {
    Err(Fault { rule, text: text.into() })
}

/// An address that was given to an order.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) order: OrderId,
    pub(crate) quote: u32,
    pub(crate) since: Position,
    pub(crate) birth: Height,
    pub(crate) address: String,
    pub(crate) due: u128,
}

pub(crate) struct Judge {
    log: MemoryLog,
    timeline: Arc<Timeline>,
    pub(crate) branches: BTreeMap<ChainId, Branch>,
    checked: Position,
    /// Every order as it was after each fact that changed it.
    pub(crate) orders: BTreeMap<OrderId, Vec<(Position, Order)>>,
    pub(crate) given: BTreeMap<(ChainId, Script), Given>,
    allocated: BTreeSet<(Fingerprint, u32)>,
    own_ids: BTreeMap<(u64, String), OrderId>,
    epochs: BTreeMap<(Subject, String), u64>,
    done: BTreeSet<(OrderId, &'static str, String)>,
    deliveries: BTreeMap<OrderId, DeliveryAttempted>,
    /// What shops were told of their orders' creation.
    acknowledged: BTreeMap<(u64, String), OrderId>,
    shown: BTreeMap<String, OrderId>,
    /// Ids of public messages, and the last version that was announced of each order.
    announced: BTreeSet<String>,
    announced_versions: BTreeMap<String, u32>,
    announced_through: Option<Position>,
    /// The first thing that is wrong.
    pub(crate) fault: Option<Fault>,
    /// How often each rule was applied, so that a run which never came to it is seen.
    pub(crate) applied: BTreeMap<&'static str, u64>,
}

impl Judge {
    pub(crate) fn new(
        log: &MemoryLog,
        timeline: &Arc<Timeline>,
        chains: &[(ChainId, Arc<FakeChain>)],
    ) -> Self {
        let branch = |(id, chain): &(ChainId, _)| (id.clone(), Branch::new(id.clone(), Arc::clone(chain)));
        let branches = chains.iter().map(branch).collect();
        Self {
            log: log.clone(),
            timeline: Arc::clone(timeline),
            branches,
            checked: Position::START,
            orders: BTreeMap::new(),
            given: BTreeMap::new(),
            allocated: BTreeSet::new(),
            own_ids: BTreeMap::new(),
            epochs: BTreeMap::new(),
            done: BTreeSet::new(),
            deliveries: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            shown: BTreeMap::new(),
            announced: BTreeSet::new(),
            announced_versions: BTreeMap::new(),
            announced_through: None,
            fault: None,
            applied: BTreeMap::new(),
        }
    }

    /// Takes what was appended since, as one append, and judges it.
    pub(crate) fn look(&mut self) {
        let batch = self.log.facts_after(self.checked);
        let Some(last) = batch.last() else { return };
        self.checked = last.position;
        let verdict = self.judge(&batch).map_err(|fault| {
            let said: Vec<String> = batch.iter().map(say).collect();
            Fault { text: format!("{}\n  in {}", fault.text, said.join(" ")), ..fault }
        });
        self.keep(verdict);
    }

    /// Takes down the first thing that is wrong.
    pub(crate) fn keep(&mut self, verdict: Verdict) {
        if let Err(fault) = verdict
            && self.fault.is_none()
        {
            self.fault = Some(fault);
        }
    }

    fn applies(&mut self, rule: &'static str) {
        *self.applied.entry(rule).or_default() += 1;
    }

    /// Something happened that the runs are about.
    pub(crate) fn happened(&mut self, what: &'static str) {
        self.applies(what);
    }

    fn judge(&mut self, facts: &[Recorded]) -> Verdict {
        for recorded in facts {
            self.count(recorded);
            self.check_fact(recorded)?;
            self.fold(recorded)?;
        }
        let chains: BTreeSet<ChainId> =
            facts.iter().filter_map(|recorded| chain_of(&recorded.event.fact)).collect();
        for chain in chains {
            self.check_ledger(&chain)?;
        }
        Ok(())
    }

    /// What the runs are about: one that never came to it proves nothing of it.
    fn count(&mut self, recorded: &Recorded) {
        match &recorded.event.fact {
            Fact::ChainSharded(fact) if recorded.event.subject == Subject::chain_plan(&fact.chain) => {
                self.applies("changes of shards");
            }
            Fact::DepositMined(fact) if fact.deposit.key.slot.starts_with("balance-") => {
                self.applies("deposits by balance");
            }
            Fact::DepositMined(fact) if fact.deposit.key.slot == "0_1" => self.applies("deposits by trace"),
            Fact::DepositMined(_) if !recorded.event.shard.is_whole() => self.applies("deposits of a shard"),
            Fact::DepositReplaced(_) => self.applies("deposits replaced"),
            Fact::DepositUnmined(_) => self.applies("deposits unmined"),
            Fact::RescanReported(fact) if !fact.found.is_empty() => self.applies("finds of rescans"),
            Fact::RescanApplied(_) => self.applies("parts of rescans"),
            _ => {}
        }
    }

    /// The order as it is at the log's end.
    pub(crate) fn order(&self, id: &OrderId) -> Option<&Order> {
        self.orders.get(id).and_then(|history| history.last()).map(|(_, order)| order)
    }

    /// The order as it was at a position.
    pub(crate) fn order_at(&self, id: &OrderId, position: Position) -> Option<&Order> {
        let history = self.orders.get(id)?;
        let count = history.partition_point(|(at, _)| *at <= position);
        history.get(count.checked_sub(1)?).map(|(_, order)| order)
    }

    fn fold(&mut self, recorded: &Recorded) -> Verdict {
        if let Some(order) = Order::from_created(recorded) {
            self.orders.insert(order.id().clone(), vec![(recorded.position, order)]);
            return Ok(());
        }
        let chain = chain_of(&recorded.event.fact);
        if let Some(chain) = &chain
            && let Some(branch) = self.branches.get_mut(chain)
        {
            branch.fold(recorded, &self.timeline)?;
        }
        let branch = chain.as_ref().and_then(|chain| self.branches.get(chain));
        let shard = recorded.event.shard;
        for history in self.orders.values_mut() {
            let Some((_, before)) = history.last() else { continue };
            let mut order = before.clone();
            order.apply(recorded);
            if let (Fact::DepositMined(fact), Some(branch)) = (&recorded.event.fact, branch)
                && let Some(tip) = branch.tip_over(shard, &fact.block)
                && order.quote_by_script(&fact.chain, &fact.deposit.script).is_some()
            {
                order.connect(&fact.chain, shard, fact.block, (tip.height, Height::new(0)), recorded);
            }
            if order != *before {
                history.push((recorded.position, order));
            }
        }
        Ok(())
    }
}

/// The chain that a fact is about.
fn chain_of(fact: &Fact) -> Option<ChainId> {
    let chain = match fact {
        Fact::BlockConnected(fact) => &fact.chain,
        Fact::BlockDisconnected(fact) => &fact.chain,
        Fact::ChainObserved(fact) => &fact.chain,
        Fact::ChainCheckpointed(fact) => &fact.chain,
        Fact::ChainSharded(fact) => &fact.chain,
        Fact::DepositSeen(fact) => &fact.chain,
        Fact::DepositMined(fact) => &fact.chain,
        Fact::DepositUnmined(fact) => &fact.chain,
        Fact::DepositReplaced(fact) => &fact.chain,
        Fact::DepositVanished(fact) => &fact.chain,
        Fact::DepositConfirmed(fact) => &fact.chain,
        _ => return None,
    };
    Some(chain.clone())
}

/// Ids of the fake chains are numbers.
pub(crate) fn number(id: &[u8; 32]) -> u64 {
    id.get(16..24).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

pub(crate) fn name_block(block: &BlockRef) -> String {
    format!("{}#{}", block.height, number(block.hash.display_bytes()))
}

/// A fact in a few words.
pub(crate) fn say(recorded: &Recorded) -> String {
    let words = match &recorded.event.fact {
        Fact::BlockConnected(fact) => format!("+{}", name_block(&fact.block)),
        Fact::BlockDisconnected(fact) => format!("-{}", name_block(&fact.block)),
        Fact::DepositSeen(fact) => format!("seen(t{})", number(fact.deposit.key.txid.display_bytes())),
        Fact::DepositMined(fact) => {
            format!("mined(t{}@{})", number(fact.deposit.key.txid.display_bytes()), name_block(&fact.block))
        }
        Fact::DepositUnmined(fact) => format!("unmined(t{})", number(fact.deposit.txid.display_bytes())),
        Fact::DepositReplaced(fact) => format!("replaced(t{})", number(fact.deposit.txid.display_bytes())),
        Fact::DepositVanished(fact) => format!("vanished(t{})", number(fact.deposit.txid.display_bytes())),
        Fact::ChainSharded(fact) => format!("sharded({} {})", fact.chain, fact.count),
        Fact::RescanReported(fact) => format!("reported({} {})", fact.rescan, fact.part),
        Fact::OrderCreated(fact) => format!("created({} {})", fact.own_id, fact.order),
        Fact::OrderQuoted(fact) => format!("quoted({} {} #{})", fact.order, fact.chain, fact.index),
        Fact::OrderExpired(fact) => format!("expired({})", fact.order),
        Fact::DeliveryAttempted(fact) => {
            format!("delivery({} v{} a{} {:?})", fact.order, fact.version, fact.attempt, fact.outcome)
        }
        other => other.kind().to_owned(),
    };
    let shard = Some(recorded.event.shard).filter(|shard| !shard.is_whole());
    let shard = shard.map(|shard| format!(" {shard}")).unwrap_or_default();
    format!("{}:{words}@{}{shard}", recorded.position, recorded.event.epoch.get())
}
