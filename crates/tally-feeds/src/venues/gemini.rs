//! Gemini: a call for each pair. The time in `volume` is that of the volume, not of the book.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::sheet::{Sheet, json, number};
use crate::venue::{Calls, Pair, ReadError, VenueSpec, pair};

pub(crate) const VENUE: VenueSpec = VenueSpec {
    name: "gemini",
    host: "https://api.gemini.com",
    calls: Calls::PerPair("/v1/pubticker/", ""),
    pairs: &[
        pair("btcusd", "BTC", "USD"),
        pair("ethusd", "ETH", "USD"),
        pair("ltcusd", "LTC", "USD"),
        pair("bchusd", "BCH", "USD"),
    ],
    key: None,
    by_default: true,
    read,
};

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    bid: Option<&'a RawValue>,
    #[serde(borrow)]
    ask: Option<&'a RawValue>,
    result: Option<String>,
    message: Option<String>,
}

fn read(body: &str, pair: Option<&'static Pair>, sheet: &mut Sheet) -> Result<(), ReadError> {
    let answer: Answer<'_> = json(body)?;
    if answer.result.as_deref() == Some("error") {
        return Err(ReadError::venue(&answer.message.unwrap_or_default()));
    }
    if let Some(pair) = pair {
        sheet.book(pair, number(answer.bid, "bid"), number(answer.ask, "ask"), None);
    }
    Ok(())
}
