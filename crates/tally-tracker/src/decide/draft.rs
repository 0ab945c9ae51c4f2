//! A decision while it is made: the facts so far, and where they leave each deposit.

use std::collections::{BTreeMap, HashSet};

use tally_events::{Deposit, Fact};
use tally_types::{BlockRef, ChainId, DepositKey, Height, OutPoint, Timestamp, TxId};

use super::Conflicts;
use crate::{Credit, Spend, Stage, Tracker};

/// The most inputs of a transaction that are watched, which bounds the size of a fact. A replacement that
/// shares none of them is still noticed when the deposit is missing from the mempool.
const INPUTS_MAX: usize = 500;

/// An overlay over the tracker.
pub(super) struct Draft<'a> {
    tracker: &'a Tracker,
    stages: BTreeMap<DepositKey, Stage>,
    facts: Vec<Fact>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(tracker: &'a Tracker) -> Self {
        Self { tracker, stages: BTreeMap::new(), facts: Vec::new() }
    }

    pub(super) fn chain(&self) -> &ChainId {
        self.tracker.chain()
    }

    pub(super) fn push(&mut self, fact: impl Into<Fact>) {
        self.facts.push(fact.into());
    }

    pub(super) fn into_facts(self) -> Vec<Fact> {
        self.facts
    }

    /// Where a deposit stands after the facts so far.
    pub(super) fn stage(&self, key: &DepositKey) -> Option<Stage> {
        let known = || self.tracker.deposit(key).map(|followed| followed.stage);
        self.stages.get(key).copied().or_else(known)
    }

    pub(super) fn set(&mut self, key: &DepositKey, stage: Stage) {
        self.stages.insert(key.clone(), stage);
    }

    /// Takes a payment out of its block. It is in the mempool again if it is among those `present` there. Where
    /// the mempool could not be looked at, it counts as back there until a look says otherwise, if it can be
    /// there at all: its inputs tell, since a transaction that names none has no mempool stage.
    pub(super) fn take_back(&mut self, deposit: &Deposit, block: BlockRef, present: Option<&HashSet<TxId>>) {
        let seen = present.is_none_or(|present| present.contains(&deposit.key.txid));
        let in_mempool = seen && !deposit.inputs.is_empty();
        let stage = if in_mempool { Stage::Mempool } else { Stage::Gone(block.height) };
        self.set(&deposit.key, stage);
        let fact = self.unmined_fact(&deposit.key, block, in_mempool);
        self.push(fact);
    }

    /// Takes payments out of blocks that were announced and never connected, but for `except`, which is about
    /// to be.
    pub(super) fn take_back_dangling(&mut self, except: Option<BlockRef>, present: Option<&HashSet<TxId>>) {
        let tracker = self.tracker;
        let above = tracker.tip().map_or(Height::default(), |tip| tip.height.next());
        for followed in tracker.deposits.mined_from(above) {
            if let Stage::Mined(block) = followed.stage
                && Some(block) != except
            {
                self.take_back(&followed.deposit, block, present);
            }
        }
    }

    /// Which followed deposits lose their inputs to the transactions seen. One that is in a block of the
    /// branch loses nothing: what is seen under the same tip cannot spend the same again.
    pub(super) fn conflicts(&self, credits: &[Credit], spends: &[Spend]) -> Conflicts {
        let of_credits =
            credits.iter().flat_map(|credit| credit.inputs.iter().map(|input| (*input, credit.key.txid)));
        let of_spends = spends.iter().map(|spend| (spend.outpoint, spend.by));
        let mut conflicts = Conflicts::new();
        for (outpoint, by) in of_spends.chain(of_credits).filter(|(outpoint, _)| is_real(outpoint)) {
            for followed in self.tracker.deposits.spending(&outpoint) {
                let key = &followed.deposit.key;
                if key.txid != by && self.stage(key) == Some(Stage::Mempool) {
                    conflicts.insert(key.clone(), by);
                }
            }
        }
        conflicts
    }

    /// The deposit that a credit is, first seen at `met` unless it is known longer; and the deposit that it
    /// takes the place of. Only a payment to the same script inherits: to another, the payer would carry an
    /// early sighting to a quote that had none.
    pub(super) fn deposit_of(
        &self,
        credit: &Credit,
        conflicts: &Conflicts,
        met: Timestamp,
    ) -> (Deposit, Option<DepositKey>) {
        let known = self.tracker.deposit(&credit.key).map(|known| known.deposit.first_seen);
        let mut first_seen = known.unwrap_or(met);
        let mut replaces = None;
        for key in conflicts.iter().filter(|(_, by)| **by == credit.key.txid).map(|(key, _)| key) {
            if let Some(old) = self.tracker.deposit(key)
                && old.deposit.script == credit.script
                && old.deposit.currency == credit.currency
            {
                first_seen = first_seen.min(old.deposit.first_seen);
                replaces.get_or_insert_with(|| key.clone());
            }
        }
        let deposit = Deposit {
            key: credit.key.clone(),
            currency: credit.currency.clone(),
            amount: credit.amount,
            script: credit.script.clone(),
            first_seen,
            inputs: credit.inputs.iter().copied().filter(is_real).take(INPUTS_MAX).collect(),
            difference: credit.difference,
        };
        (deposit, replaces)
    }

    /// Reports what lost its inputs.
    pub(super) fn replace(&mut self, conflicts: &Conflicts) {
        for (key, by) in conflicts {
            self.set(key, Stage::Gone(Height::default()));
            let fact = self.replaced_fact(key, *by);
            self.push(fact);
        }
    }
}

/// Whether an input spends something: that of a coinbase names a transaction of zeros.
fn is_real(outpoint: &OutPoint) -> bool {
    outpoint.txid.display_bytes() != &[0; 32]
}
