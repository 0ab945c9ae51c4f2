//! Changing the number of a chain's shards: in one append, once all of them stand at one common block.
//!
//! The shards there were take nothing more after it, whoever writes them: each append expects its subject's last
//! fact, which is then the end. Meanwhile whoever changes the number stands by for all of them, so that one whose
//! writer is gone reaches the common block too.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tally_events::{Event, Fact, Recorded, Subject};
use tally_ports::{AppendError, Clock, EventLog, EventStream, Expectation, PortError};
use tally_tracker::{Handover, Settings, Tracker};
use tally_types::{ChainId, Position};

use crate::plan::Plan;

/// Silence after which everything that was on its way is taken as folded.
const SILENCE: Duration = Duration::from_millis(30);
/// The pause before a log that failed is read again.
const PAUSE: Duration = Duration::from_millis(500);

/// Changes the number of shards.
pub(crate) struct Resharder {
    pub(crate) chain: ChainId,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Settings,
    /// The shards there are.
    pub(crate) plan: Plan,
    /// How many there are to be.
    pub(crate) count: u32,
}

/// One of the shards there are, as folded.
struct Old {
    subject: Subject,
    tracker: Tracker,
    last: Position,
}

/// What became of an attempt.
enum Attempt {
    Done,
    /// Something has to come first.
    Early,
}

impl Resharder {
    /// Tries until the number is changed, by this or by anybody else.
    pub(crate) async fn run(self) -> Result<(), PortError> {
        tracing::info!(chain = %self.chain, from = self.plan.count, to = self.count, "changing the number of shards");
        loop {
            match self.change().await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_transient() => {
                    tracing::warn!(chain = %self.chain, %error, "the number of shards is not changed yet");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn change(&self) -> Result<(), PortError> {
        let mut old: Vec<Old> = self
            .plan
            .shards()
            .map(|shard| Old {
                subject: self.plan.subject(&self.chain, shard),
                tracker: Tracker::new(self.chain.clone(), self.settings),
                last: Position::START,
            })
            .collect();
        let head = self.log.head().await?;
        let mut stream = self.log.read(Position::START).await?;
        let mut at = Position::START;
        while at < head {
            let Ok(next) = tokio::time::timeout(Duration::from_secs(2), stream.next()).await else { break };
            let next = next.ok_or_else(ended)??;
            at = next.position;
            if !self.take(&mut old, next) {
                return Ok(());
            }
        }
        loop {
            if let Attempt::Done = self.attempt(&old).await? {
                return Ok(());
            }
            if !self.follow(&mut old, &mut stream).await? {
                return Ok(());
            }
        }
    }

    /// Folds what comes, until nothing more does for a moment. False once the number is changed.
    async fn follow(&self, old: &mut [Old], stream: &mut EventStream) -> Result<bool, PortError> {
        let mut next = Some(stream.next().await);
        while let Some(recorded) = next {
            if !self.take(old, recorded.ok_or_else(ended)??) {
                return Ok(false);
            }
            next = tokio::time::timeout(SILENCE, stream.next()).await.ok();
        }
        Ok(true)
    }

    /// Folds a fact. False if it changes the number of shards.
    fn take(&self, old: &mut [Old], recorded: Recorded) -> bool {
        let Recorded { position, event } = recorded;
        if let Fact::ChainSharded(fact) = &event.fact
            && fact.chain == self.chain
            && fact.generation > self.plan.generation
        {
            return false;
        }
        if let Some(own) = old.iter_mut().find(|own| own.subject == event.subject) {
            own.tracker.apply(&event.fact);
            own.last = position;
        }
        true
    }

    async fn attempt(&self, old: &[Old]) -> Result<Attempt, PortError> {
        let trackers: Vec<&Tracker> = old.iter().map(|own| &own.tracker).collect();
        let generation = self.plan.generation.saturating_add(1);
        let Some(handover) = Handover::from(&trackers, generation, self.count) else {
            return Ok(Attempt::Early);
        };
        let now = self.clock.now();
        let plan = Subject::chain_plan(&self.chain);
        let sharded = Fact::from(handover.sharded);
        let mut batch = vec![Event::new(plan.clone(), sharded.clone(), now)];
        let mut expected = vec![Expectation::new(plan, self.plan.position)];
        for own in old {
            batch.push(Event::new(own.subject.clone(), sharded.clone(), now));
            expected.push(Expectation::new(own.subject.clone(), own.last));
        }
        for (shard, start) in handover.starts {
            let subject = Subject::chain(&self.chain, generation, shard.index());
            if !start.is_empty() {
                expected.push(Expectation::none(subject.clone()));
            }
            let event = |fact| Event::new(subject.clone(), fact, now).of_shard(shard);
            batch.extend(start.into_iter().map(event));
        }
        match self.log.append(expected, batch).await {
            Ok(_) => {
                tracing::info!(chain = %self.chain, generation, count = self.count, "the number of shards is changed");
                Ok(Attempt::Done)
            }
            Err(AppendError::Stale { .. }) => Ok(Attempt::Early),
            Err(AppendError::Port(error)) => Err(error),
            Err(invalid @ AppendError::Invalid(_)) => Err(PortError::persistent(invalid.to_string())),
        }
    }
}

fn ended() -> PortError {
    PortError::transient("the log's stream ended")
}
