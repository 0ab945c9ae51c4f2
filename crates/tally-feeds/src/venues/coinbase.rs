//! Coinbase Exchange: a call for each pair. Its `time` is the last trade's, not the book's.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::sheet::{Sheet, json, number};
use crate::venue::{Calls, Pair, ReadError, VenueSpec, pair};

pub(crate) const VENUE: VenueSpec = VenueSpec {
    name: "coinbase",
    host: "https://api.exchange.coinbase.com",
    calls: Calls::PerPair("/products/", "/ticker"),
    pairs: &[
        pair("BTC-USD", "BTC", "USD"),
        pair("ETH-USD", "ETH", "USD"),
        pair("LTC-USD", "LTC", "USD"),
        pair("BCH-USD", "BCH", "USD"),
        pair("USDT-USD", "USDT", "USD"),
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
    message: Option<String>,
}

fn read(body: &str, pair: Option<&'static Pair>, sheet: &mut Sheet) -> Result<(), ReadError> {
    let answer: Answer<'_> = json(body)?;
    if let (None, Some(message)) = (answer.bid, &answer.message) {
        return Err(ReadError::venue(message));
    }
    if let Some(pair) = pair {
        sheet.book(pair, number(answer.bid, "bid"), number(answer.ask, "ask"), None);
    }
    Ok(())
}
