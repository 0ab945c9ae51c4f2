//! Bitstamp: all its pairs with one call. What its `timestamp` dates is not documented, so it is not used.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::sheet::{Sheet, json, number, row};
use crate::venue::{Calls, Pair, ReadError, VenueSpec, pair};

pub(crate) const VENUE: VenueSpec = VenueSpec {
    name: "bitstamp",
    host: "https://www.bitstamp.net",
    calls: Calls::Together("/api/v2/ticker/"),
    pairs: &[
        pair("BTC/USD", "BTC", "USD"),
        pair("ETH/USD", "ETH", "USD"),
        pair("LTC/USD", "LTC", "USD"),
        pair("BCH/USD", "BCH", "USD"),
        pair("USDT/USD", "USDT", "USD"),
        pair("USDC/USD", "USDC", "USD"),
    ],
    key: None,
    by_default: true,
    read,
};

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    pair: Cow<'a, str>,
    #[serde(borrow)]
    bid: Option<&'a RawValue>,
    #[serde(borrow)]
    ask: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Refusal {
    reason: Option<String>,
}

fn read(body: &str, _: Option<&'static Pair>, sheet: &mut Sheet) -> Result<(), ReadError> {
    if body.trim_start().starts_with('{') {
        let refusal: Refusal = json(body)?;
        return Err(ReadError::venue(&refusal.reason.unwrap_or_default()));
    }
    let rows: Vec<&RawValue> = json(body)?;
    for row in rows.into_iter().filter_map(row::<Row<'_>>) {
        if let Some(pair) = sheet.pair(&row.pair) {
            sheet.book(pair, number(row.bid, "bid"), number(row.ask, "ask"), None);
        }
    }
    Ok(())
}
