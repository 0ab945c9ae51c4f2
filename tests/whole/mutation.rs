//! Faults that no product can live with: each shows that a rule of the judge can be broken.
//!
//! Not here: the faults that it must live with (`ports`).

use rust_decimal::Decimal;
use tally_events::{Epoch, Fact, NewEvent, Recorded, Subject};
use tally_ports::{Message, PortError, WriteBatch};
use tally_types::{BaseUnits, Position, Span};

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
    /// Facts on aggregates of a kind, or of a kind themselves, are acknowledged and forgotten.
    Forgets(&'static str),
    /// Public messages come twice, under other ids.
    AnnouncesTwice,
    /// Facts of a kind never get into the log, what comes with them does.
    Drops(&'static str),
    /// Shards begin at another block than where those before them stand.
    DividesElsewhere,
    /// What a rescan found has another identity than what was told before.
    RenamesFinds,
    /// A watcher's store loses which payments are in blocks.
    ForgetsMined,
    /// Another status than that of the order, to one of: `notices`, `answers`, `messages`.
    Misstates(&'static str),
    /// Notifications are of the next version.
    TellsAhead,
    /// Shops show payers another address.
    ShowsAnother,
    /// Leases end long before their holders think.
    ShortTerms,
    /// The store of process 0 loses rows that no answer is made of.
    LosesRows,
    /// Process 0 cannot read a fact.
    Unreadable,
    /// Gateways cannot read what is in their own read models.
    BreaksReads,
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
            Self::Drops(kind) => batch.retain(|event| event.fact.kind() != kind),
            Self::DividesElsewhere => {
                for event in &mut batch {
                    if let Fact::ChainSharded(fact) = &mut event.fact
                        && let Some(at) = &mut fact.at
                    {
                        at.height = at.height.next();
                    }
                }
            }
            Self::RenamesFinds => {
                for event in &mut batch {
                    if let Fact::RescanReported(fact) = &mut event.fact {
                        let deposits = fact.found.iter_mut().flat_map(|found| &mut found.deposits);
                        deposits.for_each(|deposit| deposit.key.slot.push('0'));
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
            Self::Forgets(kind) => batch.iter().any(|event| is_on(event, kind) || event.fact.kind() == kind),
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

    /// A fact as a reader gets it.
    pub(crate) fn read(self, process: usize, lane: Lane, fact: Recorded) -> Result<Recorded, PortError> {
        if self == Self::Unreadable && process == 0 && lane == Lane::ProjectorFacts {
            return Err(PortError::persistent("a fact of a kind that nobody knows"));
        }
        Ok(fact)
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
    pub(crate) fn rows(self, process: usize, of_watcher: bool, mut batch: WriteBatch) -> WriteBatch {
        match self {
            Self::TearsCommits if batch.rows.len() > 4 => {
                let count = batch.rows.len() as u64;
                if mix([count, 7, 7]).is_multiple_of(3) {
                    // The last rows carry the checkpoint; the first are lost.
                    batch.rows.drain(..batch.rows.len() / 2);
                }
            }
            // Counts of orders by status.
            Self::LosesRows if process == 0 => batch.rows.retain(|(key, _)| key.first() != Some(&b'n')),
            Self::ForgetsMined if of_watcher => batch.rows.retain(|(key, _)| key.first() != Some(&b'd')),
            _ => {}
        }
        batch
    }

    /// How long a lease lasts that is to last so long.
    pub(crate) fn term(self, asked: Span) -> Span {
        if self == Self::ShortTerms { Span::from_millis(asked.millis() / 4) } else { asked }
    }

    /// A status as it is told, in one way or another.
    pub(crate) fn status(self, way: &str, status: String) -> String {
        match self {
            Self::Misstates(to) if to == way => "refunded".to_owned(),
            _ => status,
        }
    }

    /// A version as it is notified.
    pub(crate) fn version(self, version: u32) -> u32 {
        if self == Self::TellsAhead { version + 1 } else { version }
    }

    /// An address as a payer sees it.
    pub(crate) fn address(self, address: String) -> String {
        if self == Self::ShowsAnother { format!("{address}0") } else { address }
    }

    /// Whether a gateway can read its read model.
    pub(crate) fn readable(self, of_request: bool) -> Result<(), PortError> {
        if self == Self::BreaksReads && of_request {
            return Err(PortError::persistent("a row that nobody understands"));
        }
        Ok(())
    }

    pub(crate) fn messages(self, mut messages: Vec<Message>) -> Vec<Message> {
        if self == Self::AnnouncesTwice {
            let again =
                messages.iter().map(|message| Message { id: format!("{}-", message.id), ..message.clone() });
            messages = messages.iter().cloned().chain(again.collect::<Vec<_>>()).collect();
        }
        if self == Self::Misstates("messages") {
            for message in &mut messages {
                let body = String::from_utf8_lossy(&message.body).replace("\"status\":\"", "\"status\":\"un");
                message.body = body.into_bytes();
            }
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
