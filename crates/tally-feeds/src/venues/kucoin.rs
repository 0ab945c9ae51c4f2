//! KuCoin: a call for each pair. Its `time` is the last trade's, not the book's. Errors come with status 200,
//! as a `code` other than 200000; an unknown pair as no data.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::http::RETRY_AFTER_UNSAID;
use crate::sheet::{Sheet, json, number};
use crate::venue::{Calls, Pair, ReadError, VenueSpec, pair};

pub(crate) const VENUE: VenueSpec = VenueSpec {
    name: "kucoin",
    host: "https://api.kucoin.com",
    calls: Calls::PerPair("/api/v1/market/orderbook/level1?symbol=", ""),
    pairs: &[
        pair("BTC-USDT", "BTC", "USDT"),
        pair("ETH-USDT", "ETH", "USDT"),
        pair("LTC-USDT", "LTC", "USDT"),
        pair("BCH-USDT", "BCH", "USDT"),
        pair("USDC-USDT", "USDC", "USDT"),
    ],
    key: None,
    by_default: true,
    read,
};

/// All is well.
const CODE_OK: &str = "200000";
/// Too many requests.
const CODE_TOO_MANY: &str = "429000";

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    code: Option<Cow<'a, str>>,
    msg: Option<String>,
    #[serde(borrow)]
    data: Option<Ticker<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ticker<'a> {
    #[serde(borrow)]
    best_bid: Option<&'a RawValue>,
    #[serde(borrow)]
    best_ask: Option<&'a RawValue>,
}

fn read(body: &str, pair: Option<&'static Pair>, sheet: &mut Sheet) -> Result<(), ReadError> {
    let answer: Answer<'_> = json(body)?;
    let message = answer.msg.unwrap_or_default();
    match answer.code.as_deref() {
        None | Some(CODE_OK) => {}
        Some(CODE_TOO_MANY) => return Err(ReadError::TooMany { message, retry_after: RETRY_AFTER_UNSAID }),
        Some(code) => return Err(ReadError::venue(&format!("{code} {message}"))),
    }
    let ticker = answer.data.ok_or(ReadError::Missing("data"))?;
    if let Some(pair) = pair {
        sheet.book(pair, number(ticker.best_bid, "bid"), number(ticker.best_ask, "ask"), None);
    }
    Ok(())
}
