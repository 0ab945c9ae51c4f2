//! Deciding and appending: every append expects the chain's subject as it was folded.

use std::time::Duration;

use tally_events::{Event, Fact};
use tally_ports::{AppendError, Expectation, PortError};
use tally_tracker::Input;
use tally_types::{Position, Timestamp};

use crate::replay::is_first_part;
use crate::trouble::{Trouble, pause_after};
use crate::worker::Worker;

/// The most facts in one append. A block with more is several, `block_connected` last.
const APPEND_MAX: usize = 500;
/// How long to wait for a fact that is known to be in the log.
const ARRIVAL: Duration = Duration::from_secs(5);
/// How long to wait for what was just written to come back, before the log is asked for it.
const ECHO: Duration = Duration::from_millis(20);
/// How often an append is sent again before the round starts over.
const TRIES: u32 = 5;

impl Worker {
    /// Decides and appends; nothing where nothing follows.
    pub(crate) async fn say(&mut self, input: Input<'_>, now: Timestamp) -> Result<(), Trouble> {
        let facts = self.tracker.decide(input, now)?;
        self.append(facts).await
    }

    /// Appends facts in as many batches as it takes, and folds them.
    pub(crate) async fn append(&mut self, facts: Vec<Fact>) -> Result<(), Trouble> {
        let count = facts.len();
        let mut facts = facts.into_iter();
        for _ in 0..count.div_ceil(APPEND_MAX) {
            let batch: Vec<Fact> = facts.by_ref().take(APPEND_MAX).collect();
            self.append_batch(batch).await?;
        }
        Ok(())
    }

    async fn append_batch(&mut self, facts: Vec<Fact>) -> Result<(), Trouble> {
        self.stop_if_not_alone().await?;
        let now = self.ports.clock.now();
        let subject = &self.shared.subject;
        let (epoch, shard) = (self.epoch, self.shared.shard);
        let event = |fact: &Fact| Event::new(subject.clone(), fact.clone(), now).under(epoch).of_shard(shard);
        let batch: Vec<Event> = facts.iter().map(event).collect();
        let expected = vec![Expectation::new(subject.clone(), self.last)];
        let mut tries = 0_u32;
        let positions = loop {
            match self.ports.log.append(expected.clone(), batch.clone()).await {
                Ok(positions) => break positions,
                Err(AppendError::Stale { actual, .. }) => {
                    self.fold_up_to(actual).await?;
                    return Err(Trouble::Stale);
                }
                Err(AppendError::Port(error)) if error.is_transient() && tries < TRIES => {
                    tries = tries.saturating_add(1);
                    tracing::warn!(chain = %self.config.chain, %error, tries, "appending again");
                    tokio::time::sleep(pause_after(tries)).await;
                }
                Err(AppendError::Port(error)) => return Err(Trouble::Log(error)),
                Err(invalid @ AppendError::Invalid(_)) => {
                    return Err(Trouble::Log(PortError::persistent(invalid.to_string())));
                }
            }
        };
        self.wrote = self.epoch;
        self.gauges.appended(&facts);
        for (fact, position) in facts.iter().zip(positions) {
            self.memory.note(fact);
            self.forget_lost(fact);
            self.fold(fact, position);
        }
        self.after_fold();
        Ok(())
    }

    /// What others have written since the facts were decided speaks against them; a later lease, against us.
    ///
    /// What we wrote last must have come back first: where another had written the same before us, the log took ours
    /// for a repetition, and only the lease in it tells. A follower that is late is not waited for, the log is asked.
    async fn stop_if_not_alone(&mut self) -> Result<(), Trouble> {
        let known = self.last;
        let mut overtaken = self.fold_arrived();
        let echo = async {
            while self.arrived < known {
                self.shared.arrived.notified().await;
                overtaken |= self.fold_arrived();
            }
        };
        if tokio::time::timeout(ECHO, echo).await.is_err() {
            let last = self.ports.log.last(&self.shared.subject).await.map_err(Trouble::Log)?;
            overtaken |= last.is_some_and(|last| last.event.epoch > self.epoch);
        }
        match overtaken {
            _ if self.retired => Err(Trouble::Retired),
            true => Err(Trouble::Deposed),
            false if self.last != known => Err(Trouble::Stale),
            false => Ok(()),
        }
    }

    /// A transaction that left is news when it is in the mempool again, even if it was there a moment ago.
    fn forget_lost(&mut self, fact: &Fact) {
        match fact {
            Fact::DepositUnmined(fact) if !fact.in_mempool => self.known.remove(&fact.deposit.txid),
            Fact::DepositReplaced(fact) => self.known.remove(&fact.deposit.txid),
            Fact::DepositVanished(fact) => self.known.remove(&fact.deposit.txid),
            _ => false,
        };
    }

    /// Folds one fact of the chain.
    fn fold(&mut self, fact: &Fact, position: Position) {
        self.tracker.apply(fact);
        self.last = position;
        if is_first_part(fact) {
            self.checkpoint = position;
        }
        self.retired |= matches!(fact, Fact::ChainSharded(_));
    }

    /// What folded facts ask for: inputs to watch, and late addresses that another writer has settled.
    fn after_fold(&mut self) {
        self.shared.watch_inputs(&self.tracker.take_input_changes());
        self.shared.settle(self.tracker.watched_through());
    }

    /// Folds what has come from the log and is not our own. True if it was written under a later lease.
    ///
    /// The lease is looked at of all that comes: where another has written the same before us, the log has taken ours
    /// for a repetition, so that it looks like our own.
    pub(crate) fn fold_arrived(&mut self) -> bool {
        let mut overtaken = false;
        for own in self.shared.collect() {
            overtaken |= own.epoch > self.epoch;
            self.arrived = self.arrived.max(own.position);
            if own.position > self.last {
                self.fold(&own.fact, own.position);
            }
        }
        self.after_fold();
        overtaken
    }

    /// Waits until everything up to `position` is folded.
    pub(crate) async fn fold_up_to(&mut self, position: Position) -> Result<(), Trouble> {
        let arrival = async {
            let mut overtaken = self.fold_arrived();
            while self.last < position {
                self.shared.arrived.notified().await;
                overtaken |= self.fold_arrived();
            }
            overtaken
        };
        match tokio::time::timeout(ARRIVAL, arrival).await {
            Ok(_) if self.retired => Err(Trouble::Retired),
            Ok(false) => Ok(()),
            Ok(true) => Err(Trouble::Deposed),
            Err(_) => {
                let late = format!("the fact at position {position} has not come within 5 s");
                Err(Trouble::Log(PortError::transient(late)))
            }
        }
    }

    /// Writes the chain's state down whole when the log has grown enough, so that the next start reads less.
    pub(crate) async fn checkpoint_if_due(&mut self) -> Result<(), Trouble> {
        let grown = self.shared.position().get().saturating_sub(self.checkpoint.get());
        if grown < self.config.checkpoint_every {
            return Ok(());
        }
        self.say(Input::Checkpoint, self.ports.clock.now()).await
    }
}
