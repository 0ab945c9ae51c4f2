//! How often each thing that a run is about truly happened: a schedule that never loses an answer proves nothing
//! about lost answers.
//!
//! Not here: what happens (`schedule`), and what is right (`judge`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What must happen in any twenty runs.
pub(crate) const INGREDIENTS: [&str; 20] = [
    "payments seen",
    "payments mined",
    "reorgs of the node",
    "reorgs of the log",
    "reorgs of the log, 11 to 20 deep",
    "payments back in the mempool",
    "payments lost by a reorg",
    "transactions replaced",
    "transactions vanished",
    "late addresses paid before, found",
    "answers of the log lost",
    "appends failed",
    "calls of the node failed",
    "processes killed",
    "processes stopped and started anew",
    "stores lost",
    "leases taken away",
    "writers changed",
    "standbys took over",
    "jumps of the clock",
];

/// The counts of one run, or of many.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    happened: BTreeMap<&'static str, u64>,
    /// At which step of its life a watcher was killed.
    steps: BTreeSet<u64>,
    /// The most blocks that left the log's branch at once.
    deepest: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, what: &'static str, count: u64) {
        *self.happened.entry(what).or_default() += count;
    }

    pub(crate) fn died_at(&mut self, step: u64) {
        self.steps.insert(step);
    }

    /// Blocks left the log's branch.
    pub(crate) fn reorg(&mut self, depth: u64) {
        self.deepest = self.deepest.max(depth);
        self.add("reorgs of the log", 1);
        if (11..=20).contains(&depth) {
            self.add("reorgs of the log, 11 to 20 deep", 1);
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        other.happened.into_iter().for_each(|(what, count)| self.add(what, count));
        self.steps.extend(other.steps);
        self.deepest = self.deepest.max(other.deepest);
    }

    /// What never happened and should have.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let happened = |what: &&&str| self.happened.get(**what).is_some_and(|count| *count > 0);
        INGREDIENTS.iter().filter(|what| !happened(what)).copied().collect()
    }

    /// Everything, a line each.
    pub(crate) fn report(&self) -> String {
        let mut lines: Vec<String> =
            self.happened.iter().map(|(what, count)| format!("{count:>8} {what}")).collect();
        let every = (1..).take_while(|step| self.steps.contains(step)).count();
        lines.push(format!(
            "{:>8} steps of a life at which a process was killed, each of the first {every} among them",
            self.steps.len()
        ));
        lines.push(format!("{:>8} blocks in the deepest reorg of the log", self.deepest));
        lines.join("\n")
    }
}

/// Tally that the parts of a run share.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedTally(Arc<Mutex<Tally>>);

impl SharedTally {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, what: &'static str) {
        self.lock().add(what, 1);
    }
}
