//! OKX: all spot pairs with one call. Its `ts` says when the ticker was made, book included. Errors come with
//! status 200, as a `code` other than 0.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::http::RETRY_AFTER_UNSAID;
use crate::sheet::{Sheet, json, millis, number, row};
use crate::venue::{Calls, Pair, ReadError, VenueSpec, pair};

pub(crate) const VENUE: VenueSpec = VenueSpec {
    name: "okx",
    host: "https://www.okx.com",
    calls: Calls::Together("/api/v5/market/tickers?instType=SPOT"),
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

/// Too many requests.
const CODE_TOO_MANY: &str = "50011";

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
    #[serde(default)]
    msg: String,
    #[serde(borrow, default)]
    data: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    #[serde(borrow)]
    inst_id: Cow<'a, str>,
    #[serde(borrow)]
    bid_px: Option<&'a RawValue>,
    #[serde(borrow)]
    ask_px: Option<&'a RawValue>,
    #[serde(borrow)]
    ts: Option<&'a RawValue>,
}

fn read(body: &str, _: Option<&'static Pair>, sheet: &mut Sheet) -> Result<(), ReadError> {
    let answer: Answer<'_> = json(body)?;
    if answer.code == CODE_TOO_MANY {
        return Err(ReadError::TooMany { message: answer.msg, retry_after: RETRY_AFTER_UNSAID });
    }
    if answer.code != "0" {
        return Err(ReadError::venue(&format!("{} {}", answer.code, answer.msg)));
    }
    for row in answer.data.into_iter().filter_map(row::<Row<'_>>) {
        if let Some(pair) = sheet.pair(&row.inst_id) {
            sheet.book(pair, number(row.bid_px, "bid"), number(row.ask_px, "ask"), millis(row.ts));
        }
    }
    Ok(())
}
