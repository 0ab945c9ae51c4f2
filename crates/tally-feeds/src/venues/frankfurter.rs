//! Frankfurter: the rates of central banks, as units per dollar.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use tally_types::Currency;

use crate::sheet::{Sheet, fiat_day, json, number};
use crate::venue::{Calls, Pair, ReadError, VenueSpec};

pub(crate) const VENUE: VenueSpec = VenueSpec {
    name: "frankfurter",
    host: "https://api.frankfurter.dev",
    calls: Calls::Together("/v1/latest?base=USD"),
    pairs: &[],
    key: None,
    by_default: true,
    read,
};

#[derive(Deserialize)]
struct Answer<'a> {
    base: Option<Currency>,
    #[serde(borrow)]
    date: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    rates: BTreeMap<Cow<'a, str>, &'a RawValue>,
    message: Option<String>,
}

fn read(body: &str, _: Option<&'static Pair>, sheet: &mut Sheet) -> Result<(), ReadError> {
    let answer: Answer<'_> = json(body)?;
    if let Some(message) = &answer.message {
        return Err(ReadError::venue(message));
    }
    let base = answer.base.ok_or(ReadError::Missing("its base"))?;
    let day = answer.date.as_deref().and_then(fiat_day).ok_or(ReadError::Missing("a day"))?;
    for (currency, rate) in &answer.rates {
        sheet.fiat(&base, currency, number(Some(rate), "rate"), day);
    }
    if sheet.is_empty() { Err(ReadError::Missing("rates")) } else { Ok(()) }
}
