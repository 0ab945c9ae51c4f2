//! What makes a venue: its host, its calls, its symbols, and how its answers are read.

use tally_types::Span;

use crate::sheet::Sheet;

/// A pair under the venue's own symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    /// As the venue writes it.
    pub(crate) symbol: &'static str,
    pub(crate) base: &'static str,
    pub(crate) quote: &'static str,
}

/// A pair, `symbol` being the venue's own.
pub(crate) const fn pair(symbol: &'static str, base: &'static str, quote: &'static str) -> Pair {
    Pair { symbol, base, quote }
}

/// How the prices are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Calls {
    /// All with one call, at this path: the venue's own list of what it has.
    Together(&'static str),
    /// All with one call that names them: the symbols between the first and the last of these, divided by the
    /// one in the middle. Venues refuse the whole list for one symbol that they do not have.
    Listed(&'static str, &'static str, &'static str),
    /// A call for each pair: its symbol between these two.
    PerPair(&'static str, &'static str),
}

/// Where a venue takes a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyHeader {
    pub(crate) name: &'static str,
    /// Whether it answers nothing without.
    pub(crate) required: bool,
}

/// One venue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VenueSpec {
    /// Its name in configuration, facts and metrics.
    pub(crate) name: &'static str,
    /// Scheme and host; paths begin with a slash.
    pub(crate) host: &'static str,
    pub(crate) calls: Calls,
    /// The pairs that are expected; empty where the answer itself says what it holds (fiat).
    pub(crate) pairs: &'static [Pair],
    pub(crate) key: Option<KeyHeader>,
    /// Whether it is asked where the configuration names no venues.
    pub(crate) by_default: bool,
    /// Reads one answer into the sheet. The pair is given where each has its own call.
    pub(crate) read: fn(&str, Option<&'static Pair>, &mut Sheet) -> Result<(), ReadError>,
}

/// Why an answer as a whole cannot be read. A single pair that cannot is a fault on the sheet instead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// A web page instead of data: a maintenance notice, a challenge, a proxy's error.
    #[error("answered a web page instead of data")]
    WebPage,
    /// Not the expected shape.
    #[error("answered something that is not its format")]
    Shape(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The venue says no, with status 200.
    #[error("answered the error {0:?}")]
    Venue(String),
    /// The venue says no because of a symbol that it does not have.
    #[error("answered the error {0:?}")]
    Symbol(String),
    /// The venue asks to be left alone, with status 200.
    #[error("answered that there were too many requests: {message:?}")]
    TooMany {
        /// What it said.
        message: String,
        /// For how long.
        retry_after: Span,
    },
    /// Nothing that could be used.
    #[error("answered without {0}")]
    Missing(&'static str),
}

impl ReadError {
    /// The venue's own words, cut to what fits a message.
    pub(crate) fn venue(words: &str) -> Self {
        Self::Venue(words.chars().take(120).collect())
    }

    /// The same, about a symbol.
    pub(crate) fn symbol(words: &str) -> Self {
        Self::Symbol(words.chars().take(120).collect())
    }
}

impl From<serde_json::Error> for ReadError {
    fn from(error: serde_json::Error) -> Self {
        Self::Shape(error.into())
    }
}
