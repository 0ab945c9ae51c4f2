//! A venue as a price feed: makes its calls side by side and reads what comes.

use async_trait::async_trait;
use futures::future::join_all;
use tally_ports::{Poll, PortError, PriceFeed};
use tally_pricing::Venue;
use tally_types::Timestamp;

use crate::http::{Http, Reply};
use crate::sheet::Sheet;
use crate::venue::{Calls, Pair, ReadError, VenueSpec};

/// One venue, at its own host or another.
pub(crate) struct HttpFeed {
    spec: &'static VenueSpec,
    host: String,
    key: Option<String>,
    http: Http,
}

impl HttpFeed {
    /// A feed of `spec`, at `host` where that is given.
    pub(crate) fn new(spec: &'static VenueSpec, host: Option<&str>, key: Option<&str>, http: Http) -> Self {
        let host = host.unwrap_or(spec.host).trim_end_matches('/').to_owned();
        Self { spec, host, key: key.map(str::to_owned), http }
    }

    fn calls(&self) -> Vec<(String, Option<&'static Pair>)> {
        match self.spec.calls {
            Calls::Together(path) => vec![(format!("{}{path}", self.host), None)],
            Calls::PerPair(before, after) => {
                let url = |pair: &'static Pair| format!("{}{before}{}{after}", self.host, pair.symbol);
                self.spec.pairs.iter().map(|pair| (url(pair), Some(pair))).collect()
            }
        }
    }

    async fn call(&self, url: &str, now: Timestamp) -> Result<Reply, PortError> {
        let header = self.spec.key.as_ref().map(|key| key.name);
        self.http.get(url, header.zip(self.key.as_deref()), now).await
    }

    fn failed(&self, what: &ReadError) -> PortError {
        let cause = std::error::Error::source(what).map(|cause| format!(" ({cause})")).unwrap_or_default();
        PortError::transient(format!("{} {what}{cause}", self.spec.name))
    }

    /// Enters one reply. What concerns the whole call is an error.
    fn enter(
        &self,
        sheet: &mut Sheet,
        pair: Option<&'static Pair>,
        reply: Result<Reply, PortError>,
    ) -> Result<(), PortError> {
        let named = |error: PortError| {
            let message = format!("{} {error}", self.spec.name);
            let named = if error.is_transient() { PortError::transient } else { PortError::persistent };
            named(message).because(error)
        };
        match reply.map_err(named)? {
            Reply::Refused(error) => Err(named(error)),
            Reply::TooMany(span) => {
                sheet.leave_alone(span);
                let secs = span.secs();
                Err(PortError::transient(format!("{} asks to be left alone for {secs} s", self.spec.name)))
            }
            Reply::Body(body) => match (self.spec.read)(&body, pair, sheet) {
                Ok(()) => Ok(()),
                Err(error) => {
                    if let ReadError::TooMany { retry_after, .. } = &error {
                        sheet.leave_alone(*retry_after);
                    }
                    Err(self.failed(&error))
                }
            },
        }
    }
}

#[async_trait]
impl PriceFeed for HttpFeed {
    fn venue(&self) -> &str {
        self.spec.name
    }

    /// All pairs. An error only if nothing came and the venue did not ask to be left alone.
    async fn poll(&self, now: Timestamp) -> Result<Poll, PortError> {
        let calls = self.calls();
        let replies = join_all(calls.iter().map(|(url, _)| self.call(url, now))).await;
        let mut sheet = Sheet::new(Venue::named(self.spec.name), self.spec.pairs, now);
        let mut first_error = None;
        for ((_, pair), reply) in calls.iter().zip(replies) {
            if let Err(error) = self.enter(&mut sheet, *pair, reply) {
                match pair {
                    Some(pair) => sheet.without(pair, &error.to_string()),
                    None => sheet.fault(error.to_string()),
                }
                first_error = first_error.or(Some(error));
            }
        }
        let (empty, answered) = (sheet.is_empty(), first_error.is_none());
        if answered {
            sheet.note_missing();
        }
        let poll = sheet.into_poll();
        match first_error {
            Some(error) if empty && poll.retry_after.is_none() => Err(error),
            _ if empty && answered => {
                let faults = poll.faults.join("; ");
                Err(PortError::transient(format!("{} answered without a price ({faults})", self.spec.name)))
            }
            _ => Ok(poll),
        }
    }
}

#[cfg(test)]
mod failures;
#[cfg(test)]
mod tests;
