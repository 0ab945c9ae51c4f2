//! Kraken: all pairs with one call. Errors come with status 200, in `error`; the ticker has no time.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::http::RETRY_AFTER_UNSAID;
use crate::sheet::{Sheet, json, number, row};
use crate::venue::{Calls, Pair, ReadError, VenueSpec, pair};

pub(crate) const VENUE: VenueSpec = VenueSpec {
    name: "kraken",
    host: "https://api.kraken.com",
    calls: Calls::Listed("/0/public/Ticker?pair=", ",", ""),
    pairs: &[
        pair("XXBTZUSD", "BTC", "USD"),
        pair("XETHZUSD", "ETH", "USD"),
        pair("XLTCZUSD", "LTC", "USD"),
        pair("BCHUSD", "BCH", "USD"),
        pair("XXBTZEUR", "BTC", "EUR"),
        pair("USDTZUSD", "USDT", "USD"),
    ],
    key: None,
    by_default: true,
    read,
};

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default)]
    error: Vec<String>,
    #[serde(borrow, default)]
    result: BTreeMap<Cow<'a, str>, &'a RawValue>,
}

#[derive(Deserialize)]
struct Ticker<'a> {
    #[serde(borrow, default)]
    a: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    b: Vec<&'a RawValue>,
}

fn read(body: &str, _: Option<&'static Pair>, sheet: &mut Sheet) -> Result<(), ReadError> {
    let answer: Answer<'_> = json(body)?;
    // `E…` is an error, `W…` a warning beside a result.
    if let Some(error) = answer.error.iter().find(|error| !error.starts_with('W')) {
        let message: String = error.chars().take(120).collect();
        let too_many = message.contains("Rate limit") || message.contains("Too many requests");
        return Err(if too_many {
            ReadError::TooMany { message, retry_after: RETRY_AFTER_UNSAID }
        } else if message.contains("Unknown asset pair") {
            ReadError::Symbol(message)
        } else {
            ReadError::Venue(message)
        });
    }
    for (symbol, text) in &answer.result {
        let Some(pair) = sheet.pair(symbol) else { continue };
        match row::<Ticker<'_>>(text) {
            Some(ticker) => {
                let bid = number(ticker.b.first().copied(), "bid");
                sheet.book(pair, bid, number(ticker.a.first().copied(), "ask"), None);
            }
            None => sheet.without(pair, "not a ticker"),
        }
    }
    Ok(())
}
