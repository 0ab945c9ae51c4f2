//! A venue that answers what it was told to.

use std::collections::VecDeque;
use std::sync::Mutex;

use async_trait::async_trait;
use tally_ports::{Poll, PortError, PriceFeed};
use tally_types::Timestamp;

use crate::lock;

/// A [`PriceFeed`] with prepared answers, given in order; the last one again and again.
#[derive(Debug)]
pub struct ScriptedFeed {
    venue: String,
    polls: Mutex<VecDeque<Result<Poll, String>>>,
}

impl ScriptedFeed {
    /// A venue that has nothing to say yet: its polls fail.
    pub fn new(venue: &str) -> Self {
        Self { venue: venue.to_owned(), polls: Mutex::default() }
    }

    /// Then it answers `poll`.
    #[must_use]
    pub fn then(self, poll: Poll) -> Self {
        self.push(Ok(poll));
        self
    }

    /// Then a poll fails, for a time.
    #[must_use]
    pub fn then_fail(self, message: &str) -> Self {
        self.push(Err(message.to_owned()));
        self
    }

    /// Appends an answer; an error is a transient one.
    pub fn push(&self, poll: Result<Poll, String>) {
        lock(&self.polls).push_back(poll);
    }
}

#[async_trait]
impl PriceFeed for ScriptedFeed {
    fn venue(&self) -> &str {
        &self.venue
    }

    async fn poll(&self, _now: Timestamp) -> Result<Poll, PortError> {
        let mut polls = lock(&self.polls);
        let next = if polls.len() > 1 { polls.pop_front() } else { polls.front().cloned() };
        next.unwrap_or_else(|| Err(format!("{} has no prices", self.venue))).map_err(PortError::transient)
    }
}
