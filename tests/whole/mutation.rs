//! Faults that no product can live with: each shows that a rule of the judge can be broken.
//!
//! Not here: the faults that it must live with (`ports`).

use rust_decimal::Decimal;
use tally_events::{Epoch, Fact, NewEvent, Recorded, Subject};
use tally_ports::{Message, WriteBatch};
use tally_types::{BaseUnits, Position};

use crate::ports::{is_mined, is_on};
use crate::timeline::{Lane, mix};

/// What is broken in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// Nothing.
    None,
    /// Payments in blocks are not told.
    LosesDeposits,
    /// Payments in blocks are told with twice their amount.
    DoublesDeposits,
    /// A store answers commits of which it kept a part.
    TearsCommits,
    /// The log answers gateways as it would have a while ago: where it ends, and what it holds of an order.
    StaleLog,
    /// The log does not look at what appends to aggregates of a kind take for granted.
    Unconditional(&'static str),
    /// The watchers' clocks run ahead.
    FastWatchers,
    /// A gateway answers a creation that is not in the log.
    AnswersEarly,
    /// What duties append to aggregates of a kind is in the log twice.
    Repeats(&'static str),
    /// Some of what duties append is of the first term.
    OldTerms,
    /// Process 0 does not get to read some facts.
    SkipsFacts,
    /// Outcomes of deliveries are acknowledged and forgotten.
    ForgetsOutcomes,
    /// Public messages come twice, under other ids.
    AnnouncesTwice,
}

impl Mutation {
    /// The batch as the log takes it.
    pub(crate) fn batch(self, mut batch: Vec<NewEvent>) -> Vec<NewEvent> {
        match self {
            Self::LosesDeposits => batch.retain(|event| !is_mined(&event.fact)),
            Self::DoublesDeposits => {
                for event in &mut batch {
                    if let Fact::DepositMined(fact) = &mut event.fact {
                        let units = fact.deposit.amount.units();
                        fact.deposit.amount = BaseUnits::from_units(units.saturating_mul(2));
                    }
                }
            }
            Self::Repeats(kind) => {
                let again = |event: &&NewEvent| is_on(event, kind) && event.epoch.get() > 0;
                batch.extend(batch.last().filter(again).cloned());
            }
            Self::OldTerms => {
                for event in batch.iter_mut().filter(|event| event.epoch.get() > 0) {
                    if mix([u64::try_from(event.time.millis()).unwrap_or(0), 5, 5]).is_multiple_of(3) {
                        event.epoch = Epoch::new(1);
                    }
                }
            }
            _ => {}
        }
        batch
    }

    /// Whether the log acknowledges a batch and forgets it.
    pub(crate) fn forgets(self, batch: &[NewEvent]) -> bool {
        match self {
            Self::ForgetsOutcomes => batch.iter().any(|event| is_on(event, "delivery")),
            _ => false,
        }
    }

    pub(crate) fn ignores_expectations(self, batch: &[NewEvent]) -> bool {
        matches!(self, Self::Unconditional(kind) if batch.iter().any(|event| is_on(event, kind)))
    }

    /// Whether a reader does not get a fact.
    pub(crate) fn hides(self, process: usize, lane: Lane, fact: &Recorded) -> bool {
        self == Self::SkipsFacts
            && process == 0
            && lane == Lane::ProjectorFacts
            && mix([fact.position.get(), 0, 0]).is_multiple_of(9)
    }

    /// Where the log ends, as it says.
    pub(crate) fn head(self, to_gateway: bool, head: Position) -> Position {
        if self == Self::StaleLog && to_gateway { Position::new(head.get() / 2) } else { head }
    }

    /// Whether the log knows nothing of an order yet, when a gateway asks.
    pub(crate) fn withholds(self, to_gateway: bool, subject: &Subject) -> bool {
        self == Self::StaleLog && to_gateway && subject.aggregate() == "order"
    }

    /// The rows that a commit keeps.
    pub(crate) fn rows(self, mut batch: WriteBatch) -> WriteBatch {
        if self == Self::TearsCommits && batch.rows.len() > 4 {
            let count = batch.rows.len() as u64;
            if mix([count, 7, 7]).is_multiple_of(3) {
                // The last rows carry the checkpoint; the first are lost.
                batch.rows.drain(..batch.rows.len() / 2);
            }
        }
        batch
    }

    pub(crate) fn messages(self, mut messages: Vec<Message>) -> Vec<Message> {
        if self == Self::AnnouncesTwice {
            let again =
                messages.iter().map(|message| Message { id: format!("{}-", message.id), ..message.clone() });
            messages = messages.iter().cloned().chain(again.collect::<Vec<_>>()).collect();
        }
        messages
    }

    /// How far the watchers' clocks are ahead, in milliseconds.
    pub(crate) fn watchers_ahead_ms(self) -> i64 {
        if self == Self::FastWatchers { 900_000 } else { 0 }
    }

    /// A price; here so that no test computes with floats.
    pub(crate) fn price(whole: i64) -> Decimal {
        Decimal::from(whole)
    }
}
