//! The venues: each file has one venue's calls and format.

pub(crate) mod binance;
pub(crate) mod bitfinex;
pub(crate) mod bitstamp;
pub(crate) mod coinbase;
pub(crate) mod coingecko;
pub(crate) mod ecb;
pub(crate) mod frankfurter;
pub(crate) mod gemini;
pub(crate) mod kraken;
pub(crate) mod kucoin;
pub(crate) mod okx;
