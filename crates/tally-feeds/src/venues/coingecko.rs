//! CoinGecko: an average over many exchanges, without a book, dated. Needs a key, so it is off by default.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use tally_types::Timestamp;

use crate::sheet::{Sheet, json, number, row};
use crate::venue::{Calls, KeyHeader, Pair, ReadError, VenueSpec, pair};

pub(crate) const VENUE: VenueSpec = VenueSpec {
    name: "coingecko",
    host: "https://api.coingecko.com",
    calls: Calls::Together(concat!(
        "/api/v3/simple/price?ids=bitcoin,ethereum,litecoin,bitcoin-cash",
        "&vs_currencies=usd,eur,cny&include_last_updated_at=true"
    )),
    pairs: &[
        pair("bitcoin", "BTC", "USD"),
        pair("ethereum", "ETH", "USD"),
        pair("litecoin", "LTC", "USD"),
        pair("bitcoin-cash", "BCH", "USD"),
    ],
    key: Some(KeyHeader { name: "x-cg-demo-api-key", required: true }),
    by_default: false,
    read,
};

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    usd: Option<&'a RawValue>,
    #[serde(borrow)]
    last_updated_at: Option<&'a RawValue>,
}

fn read(body: &str, _: Option<&'static Pair>, sheet: &mut Sheet) -> Result<(), ReadError> {
    let answer: BTreeMap<Cow<'_, str>, &RawValue> = json(body)?;
    if let Some(refusal) = answer.get("status").or_else(|| answer.get("error")) {
        return Err(ReadError::venue(refusal.get()));
    }
    for (symbol, text) in &answer {
        let Some(pair) = sheet.pair(symbol) else { continue };
        match row::<Row<'_>>(text) {
            Some(row) => {
                let updated = row.last_updated_at.and_then(|at| at.get().parse().ok());
                sheet.last(pair, number(row.usd, "usd"), updated.map(Timestamp::from_secs));
            }
            None => sheet.without(pair, "not a price"),
        }
    }
    Ok(())
}
