//! The answers, with the fields and types that published clients read.

use serde::Serialize;
use serde_json::value::RawValue;
use tally_order::{Order, QuoteState};
use tally_types::Currency;

use crate::app::Gateway;
use crate::problem::Problem;

/// A number that keeps its plain decimal text.
type Number = Box<RawValue>;

#[derive(Serialize)]
pub(super) struct Created {
    payment_url: String,
    price_currency: String,
    price_amount: Number,
    transaction_id: String,
    out_trade_id: String,
    status: &'static str,
    created_at: i64,
    expire_at: i64,
    #[serde(flatten)]
    extra: Extra,
}

#[derive(Serialize)]
pub(super) struct CheckedOut {
    payment_url: String,
    price_currency: String,
    price_amount: Number,
    transaction_id: String,
    out_trade_id: String,
    pay_currency: String,
    pay_amount: Number,
    status: &'static str,
    created_at: i64,
    expire_at: i64,
    payment_address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    attach: Option<String>,
    #[serde(flatten)]
    extra: Extra,
}

#[derive(Serialize)]
pub(super) struct Queried {
    merchant_id: String,
    out_trade_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pay_amount: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pay_currency: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_address: Option<String>,
    price_amount: Number,
    price_currency: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    attach: Option<String>,
    created_at: i64,
    expire_at: i64,
    transaction_id: String,
    status: &'static str,
    #[serde(flatten)]
    extra: Extra,
}

/// What we add to the documented fields.
#[derive(Serialize)]
struct Extra {
    exception: &'static str,
    exceptions: Vec<&'static str>,
    version: u32,
    received: Number,
}

impl Extra {
    /// `received` is in the currency of `quote`.
    fn of(order: &Order, quote: Option<&QuoteState>) -> Self {
        Self {
            exception: order.exceptions().word(),
            exceptions: order.exceptions().iter().map(tally_order::Exception::as_str).collect(),
            version: order.version(),
            received: number(quote.map_or_else(|| "0".to_owned(), |quote| received(order, quote))),
        }
    }
}

/// What was received in a quote's currency, over all quotes in it.
fn received(order: &Order, quote: &QuoteState) -> String {
    order.received_like(quote).to_decimal_string(quote.terms().decimals)
}

fn due(quote: &QuoteState) -> String {
    quote.terms().due.to_decimal_string(quote.terms().decimals)
}

/// A plain decimal as a JSON number.
fn number(plain: String) -> Number {
    RawValue::from_string(plain).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// `canceled` is not one of this face's statuses: it reads as `expired`.
fn status(order: &Order) -> &'static str {
    match order.status() {
        tally_order::Status::Canceled => tally_order::Status::Expired.as_str(),
        other => other.as_str(),
    }
}

pub(super) fn created(app: &Gateway, order: &Order) -> Created {
    Created {
        payment_url: app.payment_url(order.id()),
        price_currency: order.price_currency().to_string(),
        price_amount: number(order.price_text()),
        transaction_id: order.id().to_string(),
        out_trade_id: order.own_id().to_owned(),
        status: status(order),
        created_at: order.created_at().secs(),
        expire_at: order.expire_at().secs(),
        extra: Extra::of(order, order.latest_quote()),
    }
}

pub(super) fn checked_out(app: &Gateway, order: &Order, currency: &Currency) -> Result<CheckedOut, Problem> {
    let quote = order.quotes().iter().rev().find(|quote| quote.terms().currency == *currency);
    let quote = quote.ok_or_else(Problem::internal)?;
    Ok(CheckedOut {
        payment_url: app.payment_url(order.id()),
        price_currency: order.price_currency().to_string(),
        price_amount: number(order.price_text()),
        transaction_id: order.id().to_string(),
        out_trade_id: order.own_id().to_owned(),
        pay_currency: currency.to_string(),
        pay_amount: number(due(quote)),
        status: status(order),
        created_at: order.created_at().secs(),
        expire_at: order.expire_at().secs(),
        payment_address: quote.terms().addresses.first().cloned().unwrap_or_default(),
        attach: order.attach().map(str::to_owned),
        extra: Extra::of(order, Some(quote)),
    })
}

pub(super) fn queried(order: &Order) -> Queried {
    let quote = order.latest_quote();
    Queried {
        merchant_id: order.merchant().to_string(),
        out_trade_id: order.own_id().to_owned(),
        pay_amount: quote.map(|quote| number(due(quote))),
        pay_currency: quote.map(|quote| quote.terms().currency.to_string()),
        payment_address: quote.and_then(|quote| quote.terms().addresses.first().cloned()),
        price_amount: number(order.price_text()),
        price_currency: order.price_currency().to_string(),
        attach: order.attach().map(str::to_owned),
        created_at: order.created_at().secs(),
        expire_at: order.expire_at().secs(),
        transaction_id: order.id().to_string(),
        status: status(order),
        extra: Extra::of(order, quote),
    }
}
