//! Whether the log tells the truth, looked at after every append.
//!
//! A fold of its own, written for this alone and sharing no code with the product: what each deposit's last fact says,
//! and the branch that the block facts make. It must agree with the chain that the log's last `block_connected` names,
//! and each change of a deposit must have a cause at the node.
//!
//! Not here: what happened at the node (`truth`); the rules by kind of fact (`causes`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tally_events::{Fact, Recorded, Subject};
use tally_ports::Clock;
use tally_testkit::{FakeChain, MemoryLog};
use tally_types::{BaseUnits, BlockHash, BlockRef, DepositKey, Height, Position, Script, Timestamp};

use crate::tally::SharedTally;
use crate::timeline::Timeline;
use crate::truth::Truth;

/// Where a deposit stands by its last fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Mempool,
    Mined(BlockRef),
    Gone,
}

/// A deposit by its facts.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) standing: Standing,
    pub(crate) first_seen: Timestamp,
    /// When its standing last changed, in milliseconds of the run.
    pub(crate) changed_ms: u64,
    /// The depths that were told since it was mined, each at which tip: it counts once that was on the branch.
    pub(crate) told: BTreeMap<u32, BlockRef>,
}

/// A watched script.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watched {
    pub(crate) since: Position,
    pub(crate) birth: Height,
    pub(crate) ended: bool,
}

/// What one append changed.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) joined: BTreeSet<BlockHash>,
    pub(crate) left: BTreeSet<BlockHash>,
    /// It says that everything up to a time was looked at.
    pub(crate) claims: Vec<(Timestamp, Position)>,
}

/// The fold, and what is wrong with it.
pub(crate) struct Judge {
    pub(crate) chain: Arc<FakeChain>,
    pub(crate) truth: Arc<Mutex<Truth>>,
    pub(crate) timeline: Arc<Timeline>,
    log: MemoryLog,
    subject: Subject,
    checked: Position,
    pub(crate) branch: BTreeMap<Height, BlockHash>,
    pub(crate) deposits: BTreeMap<DepositKey, Entry>,
    pub(crate) watched: BTreeMap<Script, Watched>,
    pub(crate) watched_through: Position,
    pub(crate) observed_at: Timestamp,
    epoch: u64,
    /// Every block that was on the branch at some time.
    joined: BTreeSet<BlockHash>,
    /// The height of the first block in the log.
    pub(crate) first: Option<Height>,
    /// What the branch's blocks hold.
    mined: BTreeMap<DepositKey, (BlockRef, Script, BaseUnits)>,
    /// The first thing that is wrong.
    pub(crate) fault: Option<String>,
    pub(crate) counts: SharedTally,
}

impl Judge {
    pub(crate) fn new(
        chain: &Arc<FakeChain>,
        log: &MemoryLog,
        subject: Subject,
        timeline: &Arc<Timeline>,
        truth: &Arc<Mutex<Truth>>,
        counts: &SharedTally,
    ) -> Self {
        Self {
            chain: Arc::clone(chain),
            truth: Arc::clone(truth),
            timeline: Arc::clone(timeline),
            log: log.clone(),
            subject,
            checked: Position::START,
            branch: BTreeMap::new(),
            deposits: BTreeMap::new(),
            watched: BTreeMap::new(),
            watched_through: Position::START,
            observed_at: Timestamp::EPOCH,
            epoch: 0,
            joined: BTreeSet::new(),
            first: None,
            mined: BTreeMap::new(),
            fault: None,
            counts: counts.clone(),
        }
    }

    /// Takes what was appended since, as one append, and judges it.
    pub(crate) fn look(&mut self) {
        let batch = self.log.facts_after(self.checked);
        let Some(last) = batch.last() else { return };
        self.checked = last.position;
        if self.fault.is_none()
            && let Err(fault) = self.judge(&batch)
        {
            self.fault = Some(format!("at position {}: {fault}", self.checked));
        }
    }

    pub(crate) fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tip(&self) -> Option<BlockRef> {
        self.branch.last_key_value().map(|(height, hash)| BlockRef { height: *height, hash: *hash })
    }

    /// The lowest block that the log may go back to: what lies below its first block it does not know.
    pub(crate) fn floor(&self) -> u64 {
        self.first.map_or(u64::MAX, Height::get)
    }

    /// Whether a block was on the branch at some time, or is.
    pub(crate) fn was_joined(&self, block: &BlockRef) -> bool {
        self.joined.contains(&block.hash)
    }

    pub(crate) fn is_on_branch(&self, block: &BlockRef) -> bool {
        self.branch.get(&block.height) == Some(&block.hash)
    }

    fn judge(&mut self, facts: &[Recorded]) -> Result<(), String> {
        let mut batch = Batch::default();
        for recorded in facts {
            match &recorded.event.fact {
                Fact::BlockConnected(fact) => batch.joined.insert(fact.block.hash),
                Fact::BlockDisconnected(fact) => batch.left.insert(fact.block.hash),
                _ => false,
            };
        }
        for recorded in facts {
            if recorded.event.subject == self.subject {
                let epoch = recorded.event.epoch.get();
                if epoch < self.epoch {
                    return Err(format!("epoch {epoch} writes after epoch {}", self.epoch));
                }
                self.epoch = self.epoch.max(epoch);
            }
            self.fold(recorded, &mut batch).map_err(|fault| format!("{fault}\n  in {}", say(recorded)))?;
        }
        if !batch.left.is_empty() {
            self.counts.lock().reorg(batch.left.len() as u64);
        }
        if facts.iter().any(|recorded| recorded.event.subject == self.subject) {
            self.compare(facts)?;
            self.check_claims(&batch)?;
        }
        Ok(())
    }

    /// Puts the block on the branch, with what it really holds.
    pub(crate) fn join(&mut self, block: BlockRef) -> Result<(), String> {
        let (header, payments) = self.chain.body(&block.hash).ok_or("the node has no such block")?;
        if header.block != block {
            return Err(format!("the block's height is {}", header.block.height));
        }
        if let Some(tip) = self.tip()
            && (tip.hash != header.prev || tip.height.next() != block.height)
        {
            return Err(format!("it does not follow {}", name_block(&tip)));
        }
        self.branch.insert(block.height, block.hash);
        self.joined.insert(block.hash);
        for payment in payments {
            let key = DepositKey { txid: payment.txid, slot: "0".to_owned() };
            self.mined.insert(key, (block, payment.script, payment.amount));
        }
        Ok(())
    }

    pub(crate) fn leave(&mut self, block: BlockRef) -> Result<(), String> {
        if self.tip() != Some(block) {
            return Err("it is not the tip".to_owned());
        }
        self.branch.remove(&block.height);
        self.mined.retain(|_, (at, _, _)| *at != block);
        // What is no longer that deep is told again when it is.
        let tip = block.height.below(1);
        for entry in self.deposits.values_mut() {
            if let Standing::Mined(at) = entry.standing {
                entry.told.retain(|depth, _| u64::from(*depth) <= at.height.depth_under(tip));
            }
        }
        Ok(())
    }

    /// The fold against the branch's blocks.
    fn compare(&self, facts: &[Recorded]) -> Result<(), String> {
        let last = facts.last().map(|last| &last.event.fact);
        let complete = matches!(last, Some(Fact::BlockConnected(_) | Fact::ChainObserved(_)));
        for (key, entry) in &self.deposits {
            let Standing::Mined(block) = entry.standing else { continue };
            if !self.is_on_branch(&block) {
                // Within a block of several appends; over with its last.
                if complete {
                    return Err(format!(
                        "{} is in {}, which is not on the branch",
                        name(key),
                        name_block(&block)
                    ));
                }
                continue;
            }
            match self.mined.get(key) {
                Some((really, _, _)) if *really == block => {}
                other => {
                    return Err(format!("{} is said to be in {}: {other:?}", name(key), name_block(&block)));
                }
            }
        }
        for (key, (block, script, amount)) in &self.mined {
            let Some(watched) = self.watched.get(script) else { continue };
            let must = watched.since <= self.watched_through && block.height >= watched.birth;
            if must && !watched.ended && !amount.is_zero() {
                let standing = self.deposits.get(key).map(|entry| entry.standing);
                if standing != Some(Standing::Mined(*block)) {
                    let block = name_block(block);
                    return Err(format!("{} is in {block}, but by the log it is {standing:?}", name(key)));
                }
            }
        }
        Ok(())
    }

    /// Who says that everything up to a time was looked at must have told of what was there.
    fn check_claims(&self, batch: &Batch) -> Result<(), String> {
        let truth = self.truth();
        for (observed_at, through) in &batch.claims {
            for transaction in truth.transactions() {
                let payment = &transaction.payment;
                let Some(since_ms) = transaction.in_mempool_since() else { continue };
                let Some(watched) = self.watched.get(&payment.script) else { continue };
                let in_time = self.timeline.at(since_ms) <= *observed_at;
                let key = DepositKey { txid: payment.txid, slot: "0".to_owned() };
                let told = self.deposits.get(&key).is_some_and(|entry| entry.standing != Standing::Gone);
                if in_time
                    && watched.since <= *through
                    && !watched.ended
                    && !payment.amount.is_zero()
                    && !told
                {
                    let held = self.timeline.at(since_ms);
                    return Err(format!(
                        "observed_at {observed_at} is claimed, but {} in the mempool since {held} is not told",
                        name(&key)
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether everything at the node is in the log, and nothing else: for a log that has come to rest.
    pub(crate) fn is_settled(&self) -> bool {
        let truth = self.truth();
        let node: BTreeSet<DepositKey> = truth
            .transactions()
            .filter(|transaction| transaction.in_mempool_since().is_some())
            .filter(|t| !t.payment.amount.is_zero() && self.watched.contains_key(&t.payment.script))
            .map(|transaction| DepositKey { txid: transaction.payment.txid, slot: "0".to_owned() })
            .collect();
        let mempool = |entry: &Entry| entry.standing == Standing::Mempool;
        let log: BTreeSet<DepositKey> =
            self.deposits.iter().filter(|(_, entry)| mempool(entry)).map(|(key, _)| key.clone()).collect();
        let ended = |key: &DepositKey| {
            let script = truth.transaction(&key.txid).map(|t| &t.payment.script);
            script.and_then(|script| self.watched.get(script)).is_none_or(|watched| watched.ended)
        };
        let last = self.watched.values().map(|watched| watched.since).max().unwrap_or(Position::START);
        self.tip() == Some(self.chain.tip_block())
            && self.watched_through >= last
            && node.symmetric_difference(&log).all(ended)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.timeline.elapsed_ms()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.timeline.now()
    }
}

/// A deposit's number, by which ids can be read.
pub(crate) fn name(key: &DepositKey) -> String {
    format!("t{}", number(key.txid.display_bytes()))
}

/// A block's height and number.
pub(crate) fn name_block(block: &BlockRef) -> String {
    format!("{}#{}", block.height, number(block.hash.display_bytes()))
}

/// Ids of the fake chain are numbers.
pub(crate) fn number(id: &[u8; 32]) -> u64 {
    id.get(16..24).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// A fact in a few words.
pub(crate) fn say(recorded: &Recorded) -> String {
    let at = recorded.position;
    let words = match &recorded.event.fact {
        Fact::BlockConnected(fact) if fact.from == fact.block.height => {
            format!("+{}", name_block(&fact.block))
        }
        Fact::BlockConnected(fact) => format!("+{}..{}", fact.from, name_block(&fact.block)),
        Fact::BlockDisconnected(fact) => format!("-{}", name_block(&fact.block)),
        Fact::ChainObserved(fact) => format!("observed({})", fact.watched_through),
        Fact::ChainCheckpointed(fact) => format!("checkpoint({}/{})", fact.part + 1, fact.parts),
        Fact::DepositSeen(fact) => format!("seen({})", name(&fact.deposit.key)),
        Fact::DepositMined(fact) => format!("mined({}@{})", name(&fact.deposit.key), name_block(&fact.block)),
        Fact::DepositUnmined(fact) => {
            let to = if fact.in_mempool { "mempool" } else { "nowhere" };
            format!("unmined({}@{} to {to})", name(&fact.deposit), name_block(&fact.block))
        }
        Fact::DepositReplaced(fact) => {
            format!("replaced({} by t{})", name(&fact.deposit), number(fact.by.display_bytes()))
        }
        Fact::DepositVanished(fact) => format!("vanished({})", name(&fact.deposit)),
        Fact::DepositConfirmed(fact) => format!("confirmed({} {})", name(&fact.deposit), fact.depth),
        Fact::OrderQuoted(fact) => format!("quoted({} from {})", fact.script, fact.birth_height),
        other => other.kind().to_owned(),
    };
    format!("{at}:{words}@{}", recorded.event.epoch.get())
}
