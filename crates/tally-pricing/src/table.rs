//! The rates that hold, as a fold of what was published, and every question asked of them.
//!
//! Not here: where the rates come from (`aggregate`). Every instance answers from the published facts, so
//! all say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rust_decimal::Decimal;
use tally_events::{AssetRate, DroppedSource, FiatRate, RatesPublished};
use tally_types::{Currency, Span, Timestamp};

use crate::history::{History, PricePoint};
use crate::ratio::Ratio;
use crate::rules::{FIAT_AGE_MAX, RATES_AGE_MAX, RETRY_AFTER, RateRules, VENUE_AHEAD_MAX, canonical};

/// Why there is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// Nobody prices this currency here.
    #[error("unknown currency {0:?}")]
    UnknownCurrency(String),
    /// The rate is too old, or too few sources answered. Ask again later.
    #[error("no rate of {currency} at the moment")]
    Unavailable {
        /// The currency without a rate.
        currency: Currency,
        /// When to ask again.
        retry_after: Span,
    },
    /// The sources disagree. Ask again later.
    #[error("the sources disagree about {currency}")]
    Inconsistent {
        /// The currency they disagree about.
        currency: Currency,
        /// When to ask again.
        retry_after: Span,
    },
}

/// One currency's part in a rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLeg {
    /// The currency.
    pub currency: Currency,
    /// One of it in US dollars.
    pub usd: Decimal,
    /// Half the width of the band that lies in, in US dollars; zero for fiat.
    pub confidence: Decimal,
    /// The oldest vote's time; for fiat, the source's own.
    pub at: Timestamp,
    /// The sources that counted.
    pub sources: Vec<String>,
    /// Those that did not, and why.
    pub dropped: Vec<DroppedSource>,
}

/// A rate with all its particulars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateAnswer {
    /// One whole unit of this …
    pub from: Currency,
    /// … in units of this.
    pub to: Currency,
    /// The rate, to 28 significant digits.
    pub rate: Decimal,
    /// The rate as it is shown: at most 10 significant digits, no exponent.
    pub text: String,
    /// The older leg's time; for `X/X` the time of asking.
    pub at: Timestamp,
    /// The sources that counted, each once, by name.
    pub sources: Vec<String>,
    /// Those that did not, and why, by name.
    pub dropped: Vec<DroppedSource>,
    /// Half the width of the band the rate lies in.
    pub confidence: Decimal,
    /// What it was made of; empty for `X/X`.
    pub legs: Vec<RateLeg>,
    /// The same table gives the same answer (but for the time of a dollar leg) from then on …
    pub since: Timestamp,
    /// … through then.
    pub until: Timestamp,
}

/// All rates, as they were last published.
#[derive(Debug, Clone)]
pub struct RateTable {
    assets: BTreeMap<Currency, AssetRate>,
    fiat: BTreeMap<Currency, FiatRate>,
    known: BTreeSet<Currency>,
    published_at: Option<Timestamp>,
    history: Arc<History>,
}

/// A currency in US dollars, exactly.
struct Dollars {
    exact: Ratio,
    leg: RateLeg,
    /// It holds from then on …
    since: Timestamp,
    /// … through then.
    until: Timestamp,
}

impl RateTable {
    /// A table before anything was published: it knows the names in `rules`, and no rate.
    pub fn new(rules: &RateRules) -> Self {
        let assets = rules.assets.iter().map(|rule| &rule.asset);
        let always = ["USD", "EUR"].into_iter().filter_map(|name| name.parse().ok());
        let known = assets.chain(&rules.fiat).map(canonical).chain(always).collect();
        Self {
            assets: BTreeMap::new(),
            fiat: BTreeMap::new(),
            known,
            published_at: None,
            history: Arc::default(),
        }
    }

    /// Takes in what was published before the table began: it counts for the history alone.
    pub fn recall(&mut self, published: &RatesPublished) {
        Arc::make_mut(&mut self.history).record(published);
    }

    /// Takes in what was published: it replaces all that was before, and adds to the history.
    pub fn apply(&mut self, published: &RatesPublished) {
        self.recall(published);
        self.assets = published.assets.iter().map(|rate| (rate.asset.clone(), rate.clone())).collect();
        self.fiat = published.fiat.iter().map(|rate| (rate.currency.clone(), rate.clone())).collect();
        self.published_at = Some(published.at);
    }

    /// When the rates were put together; `None` before the first.
    pub fn published_at(&self) -> Option<Timestamp> {
        self.published_at
    }

    /// Every currency that has, or may get, a rate, by name.
    pub fn currencies(&self) -> Vec<Currency> {
        let all: BTreeSet<_> = self.known.iter().chain(self.assets.keys()).chain(self.fiat.keys()).collect();
        all.into_iter().cloned().collect()
    }

    /// Every asset that is priced from venues' votes, as it was last published.
    pub fn assets(&self) -> impl Iterator<Item = &AssetRate> {
        self.assets.values()
    }

    /// Every fiat currency, as it was last published.
    pub fn fiat_rates(&self) -> impl Iterator<Item = &FiatRate> {
        self.fiat.values()
    }

    /// How the price of an asset moved in the last [`HISTORY_SPAN`](crate::HISTORY_SPAN), oldest first; a
    /// bounded number of points.
    pub fn history(&self, asset: &Currency) -> impl Iterator<Item = PricePoint> + '_ {
        self.history.of(asset)
    }

    /// Whether a currency, by any of its names, has or may get a rate.
    pub fn knows(&self, currency: &Currency) -> bool {
        let currency = canonical(currency);
        self.known.contains(&currency)
            || self.assets.contains_key(&currency)
            || self.fiat.contains_key(&currency)
    }

    /// The same as [`RateTable::rate`], of names as someone wrote them.
    ///
    /// # Errors
    /// As there; a text that is no symbol is an unknown currency.
    pub fn rate_named(&self, from: &str, to: &str, now: Timestamp) -> Result<RateAnswer, RateError> {
        let unknown = |text: &str| RateError::UnknownCurrency(text.chars().take(40).collect());
        let read = |text: &str| text.parse::<Currency>().map_err(|_| unknown(text));
        self.rate(&read(from)?, &read(to)?, now)
    }

    /// How many `to` one whole `from` is worth.
    ///
    /// # Errors
    /// [`RateError`]; there is never a stale rate, and never one of which the sources disagree.
    pub fn rate(&self, from: &Currency, to: &Currency, now: Timestamp) -> Result<RateAnswer, RateError> {
        let (from, to) = (canonical(from), canonical(to));
        for currency in [&from, &to] {
            if !self.knows(currency) {
                return Err(RateError::UnknownCurrency(currency.to_string()));
            }
        }
        if from == to {
            return Ok(identity(from, now));
        }
        let (left, right) = (self.dollars(&from, now)?, self.dollars(&to, now)?);
        let exact = left.exact.over(&right.exact);
        let (since, until) = (left.since.max(right.since), left.until.min(right.until));
        let unavailable = || unavailable(&from);
        let rate = exact.to_decimal().ok_or_else(unavailable)?;
        let confidence = confidence(rate, &[&left.leg, &right.leg]).ok_or_else(unavailable)?;
        let legs = vec![left.leg, right.leg];
        let at = legs.iter().map(|leg| leg.at).min().unwrap_or(now);
        let (since, until) = match legs.iter().any(|leg| leg.currency.as_str() == "USD") {
            false => (since, until),
            // The dollar's leg is of now, so the other one's time is the answer's only from then on.
            true if at < now => (since.max(at), until),
            true => (now, now),
        };
        Ok(RateAnswer {
            rate,
            text: exact.to_significant(),
            at,
            sources: sources(&legs),
            dropped: dropped(&legs),
            confidence,
            legs,
            since,
            until,
            from,
            to,
        })
    }

    /// Every pair that has a rate at `now`, as [`RateAnswer::text`] shows it.
    pub fn pairs(&self, now: Timestamp) -> Vec<(Currency, Vec<(Currency, String)>)> {
        let priced = |currency: Currency| Some((self.dollars(&currency, now).ok()?.exact, currency));
        let priced: Vec<_> = self.currencies().into_iter().filter_map(priced).collect();
        let row = |from: &Ratio| {
            let text =
                |(to, currency): &(Ratio, Currency)| (currency.clone(), from.over(to).to_significant());
            priced.iter().map(text).collect()
        };
        priced.iter().map(|(from, currency)| (currency.clone(), row(from))).collect()
    }

    fn dollars(&self, currency: &Currency, now: Timestamp) -> Result<Dollars, RateError> {
        match self.assets.get(currency) {
            Some(rate) => self.asset(rate, now),
            None => self.fiat(currency, now),
        }
    }

    fn asset(&self, rate: &AssetRate, now: Timestamp) -> Result<Dollars, RateError> {
        let missing = || unavailable(&rate.asset);
        let fresh = |at: &Timestamp| now.since(*at) <= RATES_AGE_MAX && at.since(now) <= VENUE_AHEAD_MAX;
        let published_at = self.published_at.filter(fresh).ok_or_else(missing)?;
        if rate.inconsistent {
            let (currency, retry_after) = (rate.asset.clone(), RETRY_AFTER);
            return Err(RateError::Inconsistent { currency, retry_after });
        }
        let usd = rate.usd.ok_or_else(missing)?;
        let leg = RateLeg {
            currency: rate.asset.clone(),
            usd,
            confidence: rate.confidence.unwrap_or_default(),
            at: rate.at,
            sources: rate.sources.clone(),
            dropped: rate.dropped.clone(),
        };
        Ok(Dollars {
            exact: Ratio::from_decimal(usd).ok_or_else(missing)?,
            leg,
            since: published_at.minus(VENUE_AHEAD_MAX),
            until: published_at.plus(RATES_AGE_MAX),
        })
    }

    /// Fiat: dollars per euro over units per euro. The dollar itself needs no source.
    fn fiat(&self, currency: &Currency, now: Timestamp) -> Result<Dollars, RateError> {
        let missing = || unavailable(currency);
        let leg = |usd: Decimal, at: Timestamp, sources: Vec<String>| RateLeg {
            currency: currency.clone(),
            usd,
            confidence: Decimal::ZERO,
            at,
            sources,
            dropped: Vec::new(),
        };
        if currency.as_str() == "USD" {
            let leg = leg(Decimal::ONE, now, Vec::new());
            let (since, until) = (Timestamp::EPOCH, Timestamp::from_millis(i64::MAX));
            return Ok(Dollars { exact: Ratio::one(), leg, since, until });
        }
        let fresh = |rate: &&FiatRate| now.since(rate.at) <= FIAT_AGE_MAX;
        let per_euro = |rate: &FiatRate| Ratio::from_decimal(rate.per_eur).ok_or_else(missing);
        let dollar = self.fiat.iter().find(|(name, _)| name.as_str() == "USD").map(|(_, rate)| rate);
        let dollar = dollar.filter(fresh).ok_or_else(missing)?;
        let mut until = dollar.at.plus(FIAT_AGE_MAX);
        let (exact, at, sources) = if currency.as_str() == "EUR" {
            (per_euro(dollar)?, dollar.at, dollar.sources.clone())
        } else {
            let own = self.fiat.get(currency).filter(fresh).ok_or_else(missing)?;
            let sources: BTreeSet<_> = own.sources.iter().chain(&dollar.sources).cloned().collect();
            let exact = per_euro(dollar)?.over(&per_euro(own)?);
            until = until.min(own.at.plus(FIAT_AGE_MAX));
            (exact, dollar.at.min(own.at), sources.into_iter().collect())
        };
        let usd = exact.to_decimal().ok_or_else(missing)?;
        Ok(Dollars { exact, leg: leg(usd, at, sources), since: Timestamp::EPOCH, until })
    }
}

fn unavailable(currency: &Currency) -> RateError {
    RateError::Unavailable { currency: currency.clone(), retry_after: RETRY_AFTER }
}

fn identity(currency: Currency, now: Timestamp) -> RateAnswer {
    RateAnswer {
        from: currency.clone(),
        to: currency,
        rate: Decimal::ONE,
        text: "1".to_owned(),
        at: now,
        sources: Vec::new(),
        dropped: Vec::new(),
        confidence: Decimal::ZERO,
        legs: Vec::new(),
        since: now,
        until: now,
    }
}

/// The legs' bands, as parts of their prices, add up.
fn confidence(rate: Decimal, legs: &[&RateLeg]) -> Option<Decimal> {
    let mut part = Decimal::ZERO;
    for leg in legs {
        part = part.checked_add(leg.confidence.checked_div(leg.usd)?)?;
    }
    Some(rate.checked_mul(part)?.normalize())
}

fn sources(legs: &[RateLeg]) -> Vec<String> {
    let all: BTreeSet<_> = legs.iter().flat_map(|leg| &leg.sources).collect();
    all.into_iter().cloned().collect()
}

/// What was dropped from any leg; a venue that counts in another leg stands in both lists.
fn dropped(legs: &[RateLeg]) -> Vec<DroppedSource> {
    let mut all: Vec<_> = legs.iter().flat_map(|leg| &leg.dropped).cloned().collect();
    all.sort_by(|a, b| (&a.venue, &a.reason).cmp(&(&b.venue, &b.reason)));
    all.dedup();
    all
}

#[cfg(test)]
mod tests;
