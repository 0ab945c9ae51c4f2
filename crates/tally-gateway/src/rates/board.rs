//! Answers made ready: one for each pair, made when it is first asked for, and all thrown away with the table
//! they were made from.

use std::sync::{Arc, OnceLock};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use tally_pricing::{ALIASES, RateAnswer, RateTable};
use tally_types::Timestamp;

use super::{describe, names};

/// How long an answer may be used again.
pub(super) const CACHE: &str = "public, max-age=15";
/// Of more currencies than this no answers are kept: they would be too many.
const CURRENCIES_MAX: usize = 128;
/// The longest symbol.
const SYMBOL_MAX: usize = 12;

/// A symbol in upper case, padded with zeros.
type Symbol = [u8; SYMBOL_MAX];

fn symbol(text: &str) -> Option<Symbol> {
    let mut symbol = Symbol::default();
    for (upper, byte) in symbol.get_mut(..text.len())?.iter_mut().zip(text.bytes()) {
        *upper = byte.to_ascii_uppercase();
    }
    Some(symbol)
}

/// An answer as it goes out.
#[derive(Debug)]
pub(super) struct Rendered {
    body: Bytes,
    headers: HeaderMap,
    tag: HeaderValue,
    since: Timestamp,
    until: Timestamp,
}

impl Rendered {
    /// The bare number.
    pub(super) fn of(answer: &RateAnswer) -> Self {
        let tag = format!("\"{}-{}\"", answer.text, answer.at.millis());
        let tag = HeaderValue::from_str(&tag).unwrap_or_else(|_| HeaderValue::from_static("\"\""));
        Self {
            body: Bytes::from(answer.text.clone()),
            headers: describe(answer, &tag),
            tag,
            since: answer.since,
            until: answer.until,
        }
    }

    /// The answer, or that nothing has changed for who has it already.
    pub(super) fn respond(&self, known: Option<&HeaderValue>) -> Response {
        let unchanged = known.is_some_and(|condition| names(condition, &self.tag));
        let mut response =
            Response::new(if unchanged { Body::empty() } else { Body::from(self.body.clone()) });
        *response.headers_mut() = self.headers.clone();
        if unchanged {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        response
    }

    fn holds(&self, now: Timestamp) -> bool {
        self.since <= now && now <= self.until
    }
}

/// The answers of one table.
pub(super) struct Board {
    table: Arc<RateTable>,
    /// Every name with its place, by name.
    names: Vec<(Symbol, usize)>,
    width: usize,
    /// For each `from` a row of each `to`.
    answers: Vec<OnceLock<Box<Rendered>>>,
}

impl Board {
    /// A board without answers yet.
    pub(super) fn new(table: Arc<RateTable>) -> Self {
        let currencies = table.currencies();
        let width = if currencies.len() > CURRENCIES_MAX { 0 } else { currencies.len() };
        let place = |name: &str| currencies.iter().position(|known| known.as_str() == name);
        let own = currencies.iter().map(|currency| (currency.as_str(), currency.as_str()));
        let named = own.chain(ALIASES).filter_map(|(name, of)| Some((symbol(name)?, place(of)?)));
        let mut names: Vec<_> = if width == 0 { Vec::new() } else { named.collect() };
        names.sort_unstable();
        let answers = std::iter::repeat_with(OnceLock::new).take(width * width).collect();
        Self { table, names, width, answers }
    }

    /// Whether it was made from this very table.
    pub(super) fn is_of(&self, table: &Arc<RateTable>) -> bool {
        Arc::ptr_eq(&self.table, table)
    }

    /// The table.
    pub(super) fn table(&self) -> &RateTable {
        &self.table
    }

    /// The answer for a pair, if the table has one at `now` that can be kept.
    pub(super) fn answer(&self, from: &str, to: &str, now: Timestamp) -> Option<&Rendered> {
        let slot = self.answers.get(self.place(from)? * self.width + self.place(to)?)?;
        let rendered = match slot.get() {
            Some(rendered) => rendered,
            None => {
                let answer = self.table.rate_named(from, to, now).ok()?;
                if answer.since == answer.until {
                    return None;
                }
                slot.get_or_init(|| Box::new(Rendered::of(&answer)))
            }
        };
        rendered.holds(now).then_some(rendered)
    }

    fn place(&self, name: &str) -> Option<usize> {
        let symbol = symbol(name)?;
        let found = self.names.binary_search_by(|(known, _)| known.cmp(&symbol)).ok()?;
        self.names.get(found).map(|(_, place)| *place)
    }
}
