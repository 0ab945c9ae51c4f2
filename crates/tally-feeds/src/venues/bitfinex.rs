//! Bitfinex: all pairs with one call, each a row `[symbol, bid, bid size, ask, …]`. No time of its own. Its
//! name of USDT is UST.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::sheet::{Sheet, json, number, row};
use crate::venue::{Calls, Pair, ReadError, VenueSpec, pair};

pub(crate) const VENUE: VenueSpec = VenueSpec {
    name: "bitfinex",
    host: "https://api-pub.bitfinex.com",
    calls: Calls::Listed("/v2/tickers?symbols=", ",", ""),
    pairs: &[
        pair("tBTCUSD", "BTC", "USD"),
        pair("tETHUSD", "ETH", "USD"),
        pair("tLTCUSD", "LTC", "USD"),
        pair("tBCHN:USD", "BCH", "USD"),
        pair("tUSTUSD", "USDT", "USD"),
    ],
    key: None,
    by_default: true,
    read,
};

fn read(body: &str, _: Option<&'static Pair>, sheet: &mut Sheet) -> Result<(), ReadError> {
    let rows: Vec<&RawValue> = json(body)?;
    // An error is itself a row: `["error", code, message]`.
    if rows.first().and_then(|first| row::<Cow<'_, str>>(first)).as_deref() == Some("error") {
        let message = rows.get(2).map_or("", |message| message.get());
        let symbol = message.contains("symbol");
        return Err(if symbol { ReadError::symbol(message) } else { ReadError::venue(message) });
    }
    for cells in rows.into_iter().filter_map(row::<Vec<&RawValue>>) {
        let symbol = cells.first().and_then(|cell| row::<Cow<'_, str>>(cell));
        let Some(pair) = symbol.and_then(|symbol| sheet.pair(&symbol)) else { continue };
        let (bid, ask) = (cells.get(1).copied(), cells.get(3).copied());
        sheet.book(pair, number(bid, "bid"), number(ask, "ask"), None);
    }
    Ok(())
}
