//! What each kind of fact changes, and the cause it must have at the node.
//!
//! Not here: whether the whole agrees with the chain (`judge`).

use std::collections::{BTreeMap, BTreeSet};

use tally_events::{ChainCheckpointed, CheckpointStage, Deposit, DepositConfirmed, Fact, Recorded};
use tally_types::{BlockRef, DepositKey, Height, Position, Span, Timestamp};

use crate::judge::{Batch, Entry, Judge, Standing, Watched, name, name_block};
use crate::truth::Truth;

/// The depths that subscribers are told of.
const DEPTHS: [u32; 7] = [1, 2, 3, 6, 12, 15, 30];
/// The shortest absence that is a disappearance.
const GONE_AFTER: Span = Span::from_secs(60);
/// The longest that an answer may be on its way, and a round take: what was seen may be as old.
const STALE_MS: u64 = 15_000;

fn ensure(holds: bool, fault: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(fault.to_owned()) }
}

impl Judge {
    /// Folds one fact; says what is wrong with it.
    pub(crate) fn fold(&mut self, recorded: &Recorded, batch: &mut Batch) -> Result<(), String> {
        match &recorded.event.fact {
            Fact::OrderQuoted(fact) => {
                let watched = Watched { since: recorded.position, birth: fact.birth_height, ended: false };
                self.watched.insert(fact.script.clone(), watched);
            }
            Fact::OrderUnwatched(fact) => {
                for (_, script) in &fact.scripts {
                    self.watched.entry(script.clone()).and_modify(|watched| watched.ended = true);
                }
            }
            Fact::BlockConnected(fact) => {
                self.connect(fact.from, fact.block)?;
                self.claim((fact.observed_at, fact.watched_through), recorded.position, batch)?;
                self.check_told()?;
            }
            Fact::BlockDisconnected(fact) => {
                ensure(self.truth().was_left(&fact.block), "the node never left the block")?;
                self.leave(fact.block)?;
                ensure(self.tip().is_none_or(|tip| tip.hash == fact.prev), "another block comes before it")?;
            }
            Fact::ChainObserved(fact) => {
                ensure(self.tip() == Some(fact.tip), "that is not the tip")?;
                self.claim((fact.observed_at, fact.watched_through), recorded.position, batch)?;
            }
            Fact::ChainCheckpointed(fact) => self.check_checkpoint(fact)?,
            Fact::DepositSeen(fact) => self.seen(&fact.deposit)?,
            Fact::DepositMined(fact) => self.mined(&fact.deposit, fact.block)?,
            Fact::DepositUnmined(fact) => self.unmined(&fact.deposit, fact.block, fact.in_mempool)?,
            Fact::DepositReplaced(fact) => {
                let truth = self.truth();
                let by = truth.transaction(&fact.by).ok_or("there is no such transaction")?;
                let old = truth.transaction(&fact.deposit.txid).ok_or("there is no such deposit")?;
                ensure(Truth::conflict(&by.payment, &old.payment), "the two do not spend the same")?;
                let now_ms = self.now_ms();
                let lately_ms = now_ms.saturating_sub(STALE_MS);
                let there = by.was_in_mempool(lately_ms, now_ms) || by.was_in_block(lately_ms, now_ms);
                ensure(there, "what is to replace it is nowhere")?;
                drop(truth);
                self.counts.add("transactions replaced");
                self.gone(&fact.deposit)?;
            }
            Fact::DepositVanished(fact) => {
                self.check_absent(&fact.deposit)?;
                self.counts.add("transactions vanished");
                self.gone(&fact.deposit)?;
            }
            Fact::DepositConfirmed(fact) => self.confirmed(fact)?,
            _ => {}
        }
        Ok(())
    }

    /// A block, or a run of them; the first of all with everything below it.
    fn connect(&mut self, from: Height, block: BlockRef) -> Result<(), String> {
        self.first.get_or_insert(from);
        let lowest = if self.tip().is_none() { Height::default() } else { from };
        let mut run = Vec::new();
        let mut at = block.hash;
        loop {
            let (header, _) = self.chain.body(&at).ok_or("the node has no such block")?;
            run.push(header.block);
            if header.block.height <= lowest {
                break;
            }
            at = header.prev;
        }
        run.into_iter().rev().try_for_each(|block| self.join(block))
    }

    fn claim(
        &mut self,
        (observed_at, through): (Timestamp, Position),
        at: Position,
        batch: &mut Batch,
    ) -> Result<(), String> {
        ensure(observed_at <= self.now(), "observed_at is in the future")?;
        ensure(observed_at >= self.observed_at, "observed_at goes back")?;
        ensure(through < at, "watched_through is not behind it")?;
        ensure(through >= self.watched_through, "watched_through goes back")?;
        (self.observed_at, self.watched_through) = (observed_at, through);
        batch.claims.push((observed_at, through));
        Ok(())
    }

    fn seen(&mut self, deposit: &Deposit) -> Result<(), String> {
        let now_ms = self.now_ms();
        let since_ms = match self.deposits.get(&deposit.key) {
            None => 0,
            Some(Entry { standing: Standing::Gone, changed_ms, .. }) => *changed_ms,
            Some(entry) => return Err(format!("it is {:?} already", entry.standing)),
        };
        let truth = self.truth();
        let transaction = truth.transaction(&deposit.key.txid).ok_or("there is no such transaction")?;
        let since_ms = since_ms.max(now_ms.saturating_sub(STALE_MS));
        ensure(transaction.was_in_mempool(since_ms, now_ms), "it was not in the mempool")?;
        drop(truth);
        self.check_deposit(deposit, None)?;
        self.counts.add("payments seen");
        self.put(deposit, Standing::Mempool);
        Ok(())
    }

    fn mined(&mut self, deposit: &Deposit, block: BlockRef) -> Result<(), String> {
        if let Some(entry) = self.deposits.get(&deposit.key)
            && let Standing::Mined(other) = entry.standing
        {
            return Err(format!("it is in {} already", name_block(&other)));
        }
        let (_, payments) = self.chain.body(&block.hash).ok_or("the node has no such block")?;
        ensure(payments.iter().any(|payment| key_of(payment) == deposit.key), "it is not in that block")?;
        let joins = self.tip().is_none_or(|tip| tip.height.next() == block.height);
        ensure(joins || self.is_on_branch(&block), "the block is not on the branch, and not next")?;
        self.check_deposit(deposit, Some(block))?;
        self.counts.add("payments mined");
        if self.is_on_branch(&block) {
            self.counts.add("late addresses paid before, found");
        }
        self.put(deposit, Standing::Mined(block));
        Ok(())
    }

    fn unmined(&mut self, key: &DepositKey, block: BlockRef, in_mempool: bool) -> Result<(), String> {
        let standing = self.deposits.get(key).map(|entry| entry.standing);
        ensure(standing == Some(Standing::Mined(block)), &format!("it is {standing:?}"))?;
        ensure(!self.is_on_branch(&block), "the block stays")?;
        self.counts.add(if in_mempool { "payments back in the mempool" } else { "payments lost by a reorg" });
        if in_mempool {
            let now_ms = self.now_ms();
            let lately_ms = now_ms.saturating_sub(STALE_MS);
            let truth = self.truth();
            let transaction = truth.transaction(&key.txid).ok_or("there is no such transaction")?;
            // What is in a block of the node's branch that is yet to be connected is not gone either.
            let held =
                transaction.was_in_mempool(lately_ms, now_ms) || transaction.was_in_block(lately_ms, now_ms);
            ensure(held, "it is neither in the mempool nor in a block")?;
        }
        self.change(key, if in_mempool { Standing::Mempool } else { Standing::Gone });
        Ok(())
    }

    /// It was missing a minute ago, and lately.
    fn check_absent(&self, key: &DepositKey) -> Result<(), String> {
        let now_ms = self.now_ms();
        let told_ms = self.deposits.get(key).map_or(0, |entry| entry.changed_ms);
        let truth = self.truth();
        let transaction = truth.transaction(&key.txid).ok_or("there is no such deposit")?;
        let lately = transaction.was_outside(now_ms.saturating_sub(STALE_MS), now_ms);
        let minute_ago_ms = self.timeline.moment(self.now().minus(GONE_AFTER));
        let before = minute_ago_ms >= told_ms && transaction.was_outside(told_ms, minute_ago_ms);
        ensure(lately && before, "it was in the mempool within a minute")
    }

    fn gone(&mut self, key: &DepositKey) -> Result<(), String> {
        let standing = self.deposits.get(key).map(|entry| entry.standing);
        ensure(standing == Some(Standing::Mempool), &format!("it is {standing:?}"))?;
        self.change(key, Standing::Gone);
        Ok(())
    }

    fn confirmed(&mut self, fact: &DepositConfirmed) -> Result<(), String> {
        let entry = self.deposits.get(&fact.deposit).ok_or("it is not known")?;
        let Standing::Mined(block) = entry.standing else {
            return Err(format!("it is {:?}", entry.standing));
        };
        ensure(u64::from(fact.depth) <= block.height.depth_under(fact.tip.height), "it is not that deep")?;
        let told = entry.told.get(&fact.depth).is_some_and(|tip| self.was_joined(tip));
        ensure(!told, "that was told before")?;
        if let Some(entry) = self.deposits.get_mut(&fact.deposit) {
            entry.told.insert(fact.depth, fact.tip);
        }
        Ok(())
    }

    /// Every depth that is reached is told.
    fn check_told(&self) -> Result<(), String> {
        let Some(tip) = self.tip() else { return Ok(()) };
        for (key, entry) in &self.deposits {
            let Standing::Mined(block) = entry.standing else { continue };
            let deep = block.height.depth_under(tip.height);
            let due: BTreeSet<u32> = DEPTHS.into_iter().filter(|depth| u64::from(*depth) <= deep).collect();
            let told = |depth: &u32| entry.told.get(depth).is_some_and(|tip| self.was_joined(tip));
            if self.is_on_branch(&block) && !due.iter().all(told) {
                return Err(format!("{} is {deep} deep, told are {:?}", name(key), entry.told.keys()));
            }
        }
        Ok(())
    }

    /// A checkpoint holds every deposit in the mempool and on the last hundred blocks, as it stands.
    fn check_checkpoint(&self, fact: &ChainCheckpointed) -> Result<(), String> {
        for item in &fact.deposits {
            let standing = match item.stage {
                CheckpointStage::Mempool => Standing::Mempool,
                CheckpointStage::Mined(block) => Standing::Mined(block),
                CheckpointStage::Gone => Standing::Gone,
            };
            let known = self.deposits.get(&item.deposit.key).map(|entry| entry.standing);
            ensure(known == Some(standing), &format!("{} is {known:?}", name(&item.deposit.key)))?;
        }
        if fact.parts == 1 {
            let held: BTreeSet<&DepositKey> = fact.deposits.iter().map(|item| &item.deposit.key).collect();
            let recent = self.tip().map_or(Height::default(), |tip| tip.height.below(100));
            for (key, entry) in &self.deposits {
                let needed = match entry.standing {
                    Standing::Mempool => true,
                    Standing::Mined(block) => block.height > recent,
                    Standing::Gone => false,
                };
                ensure(!needed || held.contains(key), &format!("{} is left out", name(key)))?;
            }
        }
        Ok(())
    }

    /// A deposit says what its transaction says, and was first seen when it was.
    fn check_deposit(&self, deposit: &Deposit, block: Option<BlockRef>) -> Result<(), String> {
        let truth = self.truth();
        let transaction = truth.transaction(&deposit.key.txid).ok_or("there is no such transaction")?;
        let payment = &transaction.payment;
        ensure(deposit.script == payment.script && deposit.amount == payment.amount, "it pays otherwise")?;
        ensure(deposit.inputs == payment.inputs, "it spends otherwise")?;
        ensure(!deposit.amount.is_zero(), "it pays nothing")?;
        ensure(self.watched.contains_key(&deposit.script), "its script is not watched")?;
        ensure(deposit.first_seen <= self.now(), "first seen in the future")?;
        if let Some(known) = self.deposits.get(&deposit.key) {
            let known = known.first_seen;
            // Earlier, where it took the place of one that was seen before it; never later.
            return ensure(deposit.first_seen <= known, &format!("first seen at {known} before"));
        }
        // What it replaced may have been seen before it.
        let related = truth.transactions().filter(|other| {
            let other = &other.payment;
            other.txid == payment.txid || other.script == payment.script
        });
        // The clock is read before the node is asked, so that nobody loses by the way of the answer; it may have
        // jumped meanwhile.
        let held_ms = related.filter_map(|one| one.first_held()).min();
        let earliest = held_ms.map(|at_ms| self.timeline.at(at_ms.saturating_sub(STALE_MS)));
        let header = block.and_then(|block| self.chain.body(&block.hash)).map(|(header, _)| header.time);
        let inherited = self.deposits.iter().filter(|(key, _)| {
            truth.transaction(&key.txid).is_some_and(|other| other.payment.script == payment.script)
        });
        let inherited = inherited.map(|(_, entry)| entry.first_seen).min();
        let earliest = earliest.into_iter().chain(header).chain(inherited).min();
        ensure(
            earliest.is_none_or(|earliest| deposit.first_seen >= earliest),
            "first seen before it was there",
        )
    }

    fn put(&mut self, deposit: &Deposit, standing: Standing) {
        let entry = Entry {
            standing,
            first_seen: deposit.first_seen,
            changed_ms: self.now_ms(),
            told: BTreeMap::new(),
        };
        self.deposits.insert(deposit.key.clone(), entry);
    }

    fn change(&mut self, key: &DepositKey, standing: Standing) {
        let now_ms = self.now_ms();
        if let Some(entry) = self.deposits.get_mut(key) {
            entry.standing = standing;
            entry.changed_ms = now_ms;
            entry.told.clear();
        }
    }
}

fn key_of(payment: &tally_testkit::Payment) -> DepositKey {
    DepositKey { txid: payment.txid, slot: "0".to_owned() }
}
