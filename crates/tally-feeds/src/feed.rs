//! A venue as a price feed: makes its calls side by side and reads what comes.
//!
//! A venue that refuses a whole list of pairs for one it does not have is asked for each alone, once, and then
//! for the rest without that one.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::future::join_all;
use tally_ports::{Poll, PortError, PriceFeed};
use tally_pricing::Venue;
use tally_types::{Span, Timestamp};

use crate::http::{Http, Reply};
use crate::sheet::Sheet;
use crate::venue::{Calls, Pair, ReadError, VenueSpec};

/// For so long a pair that the venue does not have is not asked for again.
const REFUSED_FOR: Span = Span::from_secs(3_600);

/// One venue, at its own host or another.
pub(crate) struct HttpFeed {
    spec: &'static VenueSpec,
    host: String,
    key: Option<String>,
    http: Http,
    /// The symbols that the venue does not have, and since when that is known.
    refused: Mutex<BTreeMap<&'static str, Timestamp>>,
}

/// Where to ask, and for which pair where it is for one alone.
type Call = (String, Option<&'static Pair>);

/// Why a call brought nothing.
struct Failed {
    pair: Option<&'static Pair>,
    error: PortError,
    /// It asks for a symbol that the venue does not have.
    not_there: bool,
}

impl HttpFeed {
    /// A feed of `spec`, at `host` where that is given.
    pub(crate) fn new(spec: &'static VenueSpec, host: Option<&str>, key: Option<&str>, http: Http) -> Self {
        let host = host.unwrap_or(spec.host).trim_end_matches('/').to_owned();
        Self { spec, host, key: key.map(str::to_owned), http, refused: Mutex::default() }
    }

    fn refused(&self) -> MutexGuard<'_, BTreeMap<&'static str, Timestamp>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pairs to ask for.
    fn wanted(&self, now: Timestamp) -> Vec<&'static Pair> {
        let mut refused = self.refused();
        // A clock that was set back says nothing about how long it has been.
        refused.retain(|_, since| *since <= now && now.since(*since) < REFUSED_FOR);
        self.spec.pairs.iter().filter(|pair| !refused.contains_key(pair.symbol)).collect()
    }

    fn calls(&self, wanted: &[&'static Pair]) -> Vec<Call> {
        match self.spec.calls {
            Calls::Together(path) => vec![(format!("{}{path}", self.host), None)],
            Calls::Listed(before, between, after) => {
                let symbols: Vec<_> = wanted.iter().map(|pair| pair.symbol).collect();
                vec![(format!("{}{before}{}{after}", self.host, symbols.join(between)), None)]
            }
            Calls::PerPair(before, after) => self.each(wanted, before, after),
        }
    }

    fn each(&self, wanted: &[&'static Pair], before: &str, after: &str) -> Vec<Call> {
        let url = |pair: &Pair| format!("{}{before}{}{after}", self.host, pair.symbol);
        wanted.iter().map(|pair| (url(pair), Some(*pair))).collect()
    }

    /// Makes all calls and enters what comes; answers what did not.
    async fn ask(&self, calls: &[Call], sheet: &mut Sheet, now: Timestamp) -> Vec<Failed> {
        let header = self.spec.key.as_ref().map(|key| key.name);
        let replies = calls.iter().map(|(url, _)| self.http.get(url, header.zip(self.key.as_deref()), now));
        let replies = join_all(replies).await;
        let entered = calls.iter().zip(replies).map(|((_, pair), reply)| self.enter(sheet, *pair, reply));
        entered.filter_map(Result::err).collect()
    }

    /// Asks for each pair of a list that was refused, and remembers which of them the venue does not have.
    async fn ask_each(&self, wanted: &[&'static Pair], sheet: &mut Sheet, now: Timestamp) -> Vec<Failed> {
        let Calls::Listed(before, _, after) = self.spec.calls else { return Vec::new() };
        let failed = self.ask(&self.each(wanted, before, after), sheet, now).await;
        // If it refuses each of them, it is not for one of them.
        if failed.len() < wanted.len() {
            let symbols = failed.iter().filter(|failed| failed.not_there).filter_map(|failed| failed.pair);
            self.refused().extend(symbols.map(|pair| (pair.symbol, now)));
        }
        failed
    }

    /// Enters one reply. What concerns the whole call is an error.
    fn enter(
        &self,
        sheet: &mut Sheet,
        pair: Option<&'static Pair>,
        reply: Result<Reply, PortError>,
    ) -> Result<(), Failed> {
        let named = |error: PortError, not_there: bool| {
            let message = format!("{} {error}", self.spec.name);
            let named = if error.is_transient() { PortError::transient } else { PortError::persistent };
            Failed { pair, error: named(message).because(error), not_there }
        };
        match reply.map_err(|error| named(error, false))? {
            Reply::Refused(error) => Err(named(error, false)),
            Reply::NotThere(error) => Err(named(error, true)),
            Reply::TooMany(span) => {
                sheet.leave_alone(span);
                let secs = span.secs();
                Err(named(PortError::transient(format!("asks to be left alone for {secs} s")), false))
            }
            Reply::Body(body) => (self.spec.read)(&body, pair, sheet).map_err(|error| {
                if let ReadError::TooMany { retry_after, .. } = &error {
                    sheet.leave_alone(*retry_after);
                }
                let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})"));
                let words = format!("{error}{}", cause.unwrap_or_default());
                named(PortError::transient(words), matches!(error, ReadError::Symbol(_)))
            }),
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
        let mut sheet = Sheet::new(Venue::named(self.spec.name), self.spec.pairs, now);
        let wanted = self.wanted(now);
        let mut failed = self.ask(&self.calls(&wanted), &mut sheet, now).await;
        let listed = matches!(self.spec.calls, Calls::Listed(..));
        if listed && wanted.len() > 1 && failed.iter().any(|failed| failed.not_there) {
            failed = self.ask_each(&wanted, &mut sheet, now).await;
        }
        for failed in &failed {
            match failed.pair {
                Some(pair) => sheet.without(pair, &failed.error.to_string()),
                None => sheet.fault(failed.error.to_string()),
            }
        }
        let (empty, answered) = (sheet.is_empty(), failed.is_empty());
        if answered {
            sheet.note_missing();
        }
        let poll = sheet.into_poll();
        match failed.into_iter().next() {
            Some(failed) if empty && poll.retry_after.is_none() => Err(failed.error),
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
