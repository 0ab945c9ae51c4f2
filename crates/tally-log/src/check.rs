//! What every append is checked for before any log sees it.

use std::collections::HashMap;

use tally_events::{Event, NewEvent, Subject};
use tally_ports::{AppendError, Expectation};
use tally_types::Position;

/// Facts in one append.
const BATCH_MAX: usize = 1_000;
/// Bytes of one fact's envelope.
const FACT_BYTES_MAX: usize = 512 * 1024;

/// A fact as it will be read: written and read back once, so that nothing gets into a log that no reader could
/// take out, and live readers see what later ones will.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    /// The fact.
    pub(crate) event: Event,
    /// Its envelope.
    pub(crate) json: Vec<u8>,
}

/// An append that a log can take.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    /// Where the last fact of each subject is taken to stand; one entry for each subject, in the caller's order.
    pub(crate) expected: Vec<(Subject, Position)>,
    /// The facts, each on one of those subjects; at least one.
    pub(crate) facts: Vec<Prepared>,
}

impl Checked {
    /// Checks an append.
    ///
    /// # Errors
    /// [`AppendError::Invalid`]: no fact or too many, one without an expectation, two expectations that differ, or
    /// a fact that is too large or cannot be read again.
    pub(crate) fn new(expectations: Vec<Expectation>, batch: Vec<NewEvent>) -> Result<Self, AppendError> {
        if batch.is_empty() || batch.len() > BATCH_MAX {
            return invalid(format!("a batch of {} facts is not between 1 and {BATCH_MAX}", batch.len()));
        }
        let mut at: HashMap<Subject, Position> = HashMap::with_capacity(expectations.len());
        let mut expected = Vec::with_capacity(expectations.len());
        for expectation in expectations {
            match at.insert(expectation.subject.clone(), expectation.at) {
                None => expected.push((expectation.subject, expectation.at)),
                Some(other) if other == expectation.at => {}
                Some(_) => return invalid(format!("two different expectations on {}", expectation.subject)),
            }
        }
        let mut facts = Vec::with_capacity(batch.len());
        for event in batch {
            if !at.contains_key(&event.subject) {
                return invalid(format!("no expectation on {}", event.subject));
            }
            facts.push(prepare(&event)?);
        }
        Ok(Self { expected, facts })
    }

    /// The expectation on a subject.
    pub(crate) fn expected_on(&self, subject: &Subject) -> Option<Position> {
        self.expected.iter().find(|(other, _)| other == subject).map(|(_, at)| *at)
    }
}

fn prepare(event: &Event) -> Result<Prepared, AppendError> {
    let unwritable = |error: String| AppendError::Invalid(format!("a fact on {}: {error}", event.subject));
    let json = event.to_json().map_err(|error| unwritable(error.to_string()))?;
    if json.len() > FACT_BYTES_MAX {
        return invalid(format!("a fact of {} bytes is larger than {FACT_BYTES_MAX}", json.len()));
    }
    let event = Event::from_json(&json).map_err(|error| unwritable(error.to_string()))?;
    Ok(Prepared { event, json })
}

fn invalid<T>(message: String) -> Result<T, AppendError> {
    Err(AppendError::Invalid(message))
}
