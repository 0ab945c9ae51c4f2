//! Binance: the best bid and ask of all pairs with one call, without a time. This host serves public data
//! everywhere; the main one refuses addresses in the United States.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::sheet::{Sheet, json, number, row};
use crate::venue::{Calls, Pair, ReadError, VenueSpec, pair};

pub(crate) const VENUE: VenueSpec = VenueSpec {
    name: "binance",
    host: "https://data-api.binance.vision",
    // A list in JSON: `["…","…"]`.
    calls: Calls::Listed("/api/v3/ticker/bookTicker?symbols=%5B%22", "%22,%22", "%22%5D"),
    pairs: &[
        pair("BTCUSDT", "BTC", "USDT"),
        pair("ETHUSDT", "ETH", "USDT"),
        pair("LTCUSDT", "LTC", "USDT"),
        pair("BCHUSDT", "BCH", "USDT"),
        pair("USDCUSDT", "USDC", "USDT"),
    ],
    key: None,
    by_default: true,
    read,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow)]
    bid_price: Option<&'a RawValue>,
    #[serde(borrow)]
    ask_price: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Refusal {
    code: Option<i64>,
    msg: Option<String>,
}

/// No such symbol.
const CODE_SYMBOL: i64 = -1121;

fn read(body: &str, _: Option<&'static Pair>, sheet: &mut Sheet) -> Result<(), ReadError> {
    if body.trim_start().starts_with('{') {
        let refusal: Refusal = json(body)?;
        let message = refusal.msg.unwrap_or_default();
        let symbol = refusal.code == Some(CODE_SYMBOL);
        return Err(if symbol { ReadError::symbol(&message) } else { ReadError::venue(&message) });
    }
    let rows: Vec<&RawValue> = json(body)?;
    for row in rows.into_iter().filter_map(row::<Row<'_>>) {
        if let Some(pair) = sheet.pair(&row.symbol) {
            sheet.book(pair, number(row.bid_price, "bid"), number(row.ask_price, "ask"), None);
        }
    }
    Ok(())
}
