//! Every venue by its name.

use std::sync::Arc;

use tally_ports::{PortError, PriceFeed};
use tally_types::Span;

use crate::feed::HttpFeed;
use crate::http::Http;
use crate::venue::VenueSpec;
use crate::venues::{
    binance, bitfinex, bitstamp, coinbase, coingecko, ecb, frankfurter, gemini, kraken, kucoin, okx,
};

/// The venues there are: one line each.
pub(crate) const VENUES: [&VenueSpec; 11] = [
    &kraken::VENUE,
    &coinbase::VENUE,
    &bitstamp::VENUE,
    &gemini::VENUE,
    &bitfinex::VENUE,
    &binance::VENUE,
    &okx::VENUE,
    &kucoin::VENUE,
    &coingecko::VENUE,
    &ecb::VENUE,
    &frankfurter::VENUE,
];

/// Why a feed cannot be opened: a fault of the configuration.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// No venue of that name.
    #[error("unknown venue {name:?}; there are {known}")]
    UnknownVenue {
        /// The name that was asked for.
        name: String,
        /// Those there are.
        known: String,
    },
    /// Not a base address.
    #[error("{url:?} is not an http or https address without query")]
    Url {
        /// What was given.
        url: String,
    },
    /// The venue answers nothing without a key.
    #[error("{venue} needs a key")]
    KeyMissing {
        /// The venue.
        venue: &'static str,
    },
    /// A key that cannot stand in a header.
    #[error("the key for {venue} has characters that no key has")]
    KeyUnfit {
        /// The venue.
        venue: &'static str,
    },
    /// The HTTP client cannot be built.
    #[error(transparent)]
    Client(#[from] PortError),
}

/// Opens feeds; all of them share one HTTP client.
#[derive(Debug, Clone)]
pub struct Feeds {
    http: Http,
}

impl Feeds {
    /// With a client of its own. Who polls waits `poll` for a feed, so one call may take nine tenths of that:
    /// a pair that hangs must fail before its venue does.
    ///
    /// # Errors
    /// [`FeedError::Client`] where the machine cannot do TLS.
    pub fn new(poll: Span) -> Result<Self, FeedError> {
        let call = Span::from_millis(poll.millis().saturating_mul(9) / 10);
        Ok(Self { http: Http::within(call.to_duration())? })
    }

    /// The names of all venues.
    pub fn venues() -> impl Iterator<Item = &'static str> {
        VENUES.iter().map(|venue| venue.name)
    }

    /// The names of the venues to ask where the configuration names none: those that need no key.
    pub fn default_venues() -> impl Iterator<Item = &'static str> {
        VENUES.iter().filter(|venue| venue.by_default).map(|venue| venue.name)
    }

    /// The feed of `venue`; `url` stands in for the venue's host (tests, mirrors).
    ///
    /// # Errors
    /// [`FeedError`], which names what is wrong with the configuration.
    pub fn open(
        &self,
        venue: &str,
        url: Option<&str>,
        key: Option<&str>,
    ) -> Result<Arc<dyn PriceFeed>, FeedError> {
        let spec = VENUES.iter().find(|spec| spec.name == venue).ok_or_else(|| FeedError::UnknownVenue {
            name: venue.chars().take(40).collect(),
            known: Self::venues().collect::<Vec<_>>().join(", "),
        })?;
        if let Some(url) = url.filter(|url| !is_base(url)) {
            return Err(FeedError::Url { url: url.chars().take(200).collect() });
        }
        if spec.key.is_some_and(|header| header.required) && key.is_none() {
            return Err(FeedError::KeyMissing { venue: spec.name });
        }
        if key.is_some_and(|key| key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(FeedError::KeyUnfit { venue: spec.name });
        }
        Ok(Arc::new(HttpFeed::new(spec, url, key, self.http.clone())))
    }
}

fn is_base(url: &str) -> bool {
    let parsed = reqwest::Url::parse(url);
    parsed.is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.query().is_none()
            && url.fragment().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feeds_are_opened_by_name_or_the_fault_is_named() {
        let feeds = Feeds::new(Span::from_secs(10)).unwrap();
        for venue in Feeds::default_venues() {
            assert_eq!(feeds.open(venue, None, None).unwrap().venue(), venue);
        }
        let error = |venue, url, key| match feeds.open(venue, url, key) {
            Ok(_) => "opened".to_owned(),
            Err(error) => error.to_string(),
        };
        let unknown = error("mtgox", None, None);
        assert!(unknown.starts_with("unknown venue \"mtgox\"") && unknown.contains("kraken, "), "{unknown}");
        assert_eq!(error("coingecko", None, None), "coingecko needs a key");
        assert_eq!(error("coingecko", None, Some("CG-abc")), "opened");
        assert_eq!(
            error("coingecko", None, Some("a b")),
            "the key for coingecko has characters that no key has"
        );
        for url in ["", "kraken", "ftp://a", "http://", "http://a?x=1", "file:///etc"] {
            assert!(error("kraken", Some(url), None).contains("is not an http or https address"), "{url}");
        }
        assert_eq!(error("kraken", Some("http://127.0.0.1:9/mirror/"), None), "opened");
    }

    #[test]
    fn names_are_unique_and_fit_facts() {
        let names: std::collections::BTreeSet<_> = Feeds::venues().collect();
        assert_eq!(names.len(), VENUES.len());
        assert!(names.iter().all(|name| name.parse::<tally_pricing::Venue>().is_ok()));
    }

    #[test]
    fn every_pair_names_currencies() {
        for venue in VENUES {
            for pair in venue.pairs {
                for name in [pair.base, pair.quote] {
                    assert!(name.parse::<tally_types::Currency>().is_ok(), "{} {}", venue.name, pair.symbol);
                }
            }
        }
    }
}
