//! What the follower of the log and the worker share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tally_events::{Epoch, Fact, Recorded, Shard, Subject};
use tally_matcher::WatchSet;
use tally_ports::SharedWatch;
use tally_tracker::Rescans;
use tally_types::{ChainId, OutPoint, Position, Script};
use tokio::sync::{Notify, watch};

use crate::addresses::{Address, Change, change_of};
use crate::convert;

/// A fact of the watched chain, as the log has it.
#[derive(Debug)]
pub(crate) struct OwnFact {
    pub(crate) position: Position,
    pub(crate) epoch: Epoch,
    pub(crate) fact: Fact,
}

/// The watch set with its log position, addresses that may have been paid before they were known, and the
/// chain's facts that are not folded yet.
pub(crate) struct Shared {
    chain: ChainId,
    seed: u64,
    /// The part of the chain's scripts that is watched.
    pub(crate) shard: Shard,
    pub(crate) subject: Subject,
    pub(crate) rescan_subject: Subject,
    pub(crate) watch: SharedWatch,
    state: Mutex<State>,
    /// Rings when a fact of the chain has come.
    pub(crate) arrived: Notify,
    /// Moves with each fact of a rescan that has come.
    rescanned: watch::Sender<Position>,
    /// Moves with each fact of the chain that the persister was told of.
    noted: watch::Sender<Position>,
}

#[derive(Default)]
struct State {
    /// Everything up to here is in the watch set.
    position: Position,
    /// Ascending by position.
    late: VecDeque<Address>,
    inbox: VecDeque<OwnFact>,
    rescans: Rescans,
}

impl Shared {
    /// Of a shard whose facts stand on `subject`.
    pub(crate) fn new(chain: ChainId, seed: u64, shard: Shard, subject: Subject) -> Self {
        Self {
            shard,
            subject,
            rescan_subject: Subject::chain_rescan(&chain),
            chain,
            seed,
            watch: Arc::new(RwLock::new(WatchSet::new(seed))),
            state: Mutex::default(),
            arrived: Notify::new(),
            rescanned: watch::Sender::new(Position::START),
            noted: watch::Sender::new(Position::START),
        }
    }

    /// Forgets everything.
    pub(crate) fn reset(&self) {
        *self.watch.write().unwrap_or_else(PoisonError::into_inner) = WatchSet::new(self.seed);
        let mut state = self.state();
        let rescans = std::mem::take(&mut state.rescans);
        *state = State { rescans, ..State::default() };
    }

    /// A set of these scripts alone.
    pub(crate) fn watch_only(&self, addresses: &[Address]) -> SharedWatch {
        let mut watch = WatchSet::with_capacity(self.seed, addresses.len());
        for address in addresses {
            // A few of what the whole set holds do not fill one.
            let _ = watch.insert_script(address.script.as_bytes());
        }
        Arc::new(RwLock::new(watch))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log position up to which addresses are in the watch set.
    pub(crate) fn position(&self) -> Position {
        self.state().position
    }

    pub(crate) fn set_position(&self, position: Position) {
        self.state().position = position;
    }

    /// Takes a fact of the log: its addresses go into the watch set before the position moves past it. A fact
    /// of the chain itself is handed back. What cannot be watched is as bad as a log that cannot be read.
    pub(crate) fn take(&self, recorded: Recorded) -> (Option<Change>, Option<OwnFact>) {
        let Recorded { position, event } = recorded;
        let change = change_of(&self.chain, self.shard, position, &event.fact);
        match &change {
            Some(Change::Watch(address)) => {
                self.watch(&address.script);
                self.state().late.push_back(address.clone());
            }
            Some(Change::Unwatch(scripts)) => {
                self.unwatch(scripts);
                self.state().late.retain(|address| !scripts.contains(&address.script));
            }
            Some(Change::Mined { .. } | Change::Unmined(_)) | None => {}
        }
        self.set_position(position);
        if event.subject == self.rescan_subject {
            self.take_rescan(position, event.shard, &event.fact);
        }
        let own = event.subject == self.subject;
        (change, own.then_some(OwnFact { position, epoch: event.epoch, fact: event.fact }))
    }

    /// Takes a fact of a rescan; one that was taken before changes nothing.
    pub(crate) fn take_rescan(&self, position: Position, of: Shard, fact: &Fact) {
        if position > self.rescan_position() {
            self.state().rescans.apply(position, of, fact);
            self.rescanned.send_replace(position);
        }
    }

    /// Starts from rescans that are open already, and the position of the last fact about one.
    pub(crate) fn set_rescans(&self, rescans: Rescans, position: Position) {
        self.state().rescans = rescans;
        self.rescanned.send_replace(position);
    }

    /// Where the last fact of a rescan stands.
    pub(crate) fn rescan_position(&self) -> Position {
        *self.rescanned.borrow()
    }

    /// Waits until the facts of rescans are known through `position`.
    pub(crate) async fn wait_for_rescans(&self, position: Position) {
        let mut rescanned = self.rescanned.subscribe();
        // The sender lives as long as we do.
        let _ = rescanned.wait_for(|at| *at >= position).await;
    }

    /// Waits for another fact of a rescan.
    pub(crate) async fn wait_for_another_rescan(&self, after: Position) {
        self.wait_for_rescans(after.next()).await;
    }

    /// Reads the open rescans, with the position they stand at.
    pub(crate) fn with_rescans<T>(&self, read: impl FnOnce(&Rescans, Position) -> T) -> T {
        let state = self.state();
        read(&state.rescans, self.rescan_position())
    }

    pub(crate) fn watch(&self, script: &Script) {
        let mut watch = self.watch.write().unwrap_or_else(PoisonError::into_inner);
        if let Err(full) = watch.insert_script(script.as_bytes()) {
            tracing::error!(chain = %self.chain, %full, "an address cannot be watched: add shards");
        }
    }

    fn unwatch(&self, scripts: &[Script]) {
        let mut watch = self.watch.write().unwrap_or_else(PoisonError::into_inner);
        for script in scripts {
            watch.remove_script(script.as_bytes());
        }
    }

    /// Whether a script is watched.
    pub(crate) fn watches(&self, script: &Script) -> bool {
        self.watch.read().unwrap_or_else(PoisonError::into_inner).contains_script(script.as_bytes())
    }

    pub(crate) fn script_count(&self) -> usize {
        self.watch.read().unwrap_or_else(PoisonError::into_inner).script_count()
    }

    /// Watches outpoints (`true`) or no longer, in order.
    pub(crate) fn watch_inputs(&self, changes: &[(OutPoint, bool)]) {
        if changes.is_empty() {
            return;
        }
        let mut watch = self.watch.write().unwrap_or_else(PoisonError::into_inner);
        for (outpoint, on) in changes {
            let outpoint = convert::outpoint(outpoint);
            if !on {
                watch.remove_outpoint(&outpoint);
            } else if let Err(full) = watch.insert_outpoint(&outpoint) {
                tracing::error!(chain = %self.chain, %full, "an input cannot be watched: add shards");
            }
        }
    }

    /// Hands a fact of the chain to the worker.
    pub(crate) fn deliver(&self, own: OwnFact) {
        self.state().inbox.push_back(own);
        self.arrived.notify_one();
    }

    /// The persister has been told of the chain's facts up to `position`.
    pub(crate) fn note(&self, position: Position) {
        self.noted.send_replace(position);
    }

    /// Waits until the persister has been told of the chain's facts up to `position`.
    pub(crate) async fn wait_for_note(&self, position: Position) {
        // The sender lives as long as we do.
        let _ = self.noted.subscribe().wait_for(|at| *at >= position).await;
    }

    /// The facts of the chain that have come since this was last asked.
    pub(crate) fn collect(&self) -> VecDeque<OwnFact> {
        std::mem::take(&mut self.state().inbox)
    }

    /// Addresses that were named after `watched_through` and are still to be looked for in what went by.
    pub(crate) fn late(&self) -> Vec<Address> {
        self.state().late.iter().cloned().collect()
    }

    /// Adds addresses, of any position.
    pub(crate) fn add_late(&self, more: Vec<Address>) {
        let mut state = self.state();
        state.late.extend(more);
        state.late.make_contiguous().sort_by_key(|address| address.position);
    }

    /// Addresses up to `position` have been looked for everywhere.
    pub(crate) fn settle(&self, position: Position) {
        let mut state = self.state();
        while state.late.front().is_some_and(|address| address.position <= position) {
            state.late.pop_front();
        }
    }

    /// The position up to which addresses were matched against everything since their birth, given that the
    /// newest blocks were matched against those up to `matched`.
    pub(crate) fn watched_through(&self, matched: Position) -> Position {
        match self.state().late.front() {
            Some(first) if first.position <= matched => Position::new(first.position.get().saturating_sub(1)),
            _ => matched,
        }
    }
}
