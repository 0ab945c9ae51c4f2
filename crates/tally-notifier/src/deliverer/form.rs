//! The notification of the DeePay API: its fields, in their order, and their sign.
//!
//! Amounts are plain decimals. Not here: sending.

use tally_order::{Order, Status};
use tally_sign::{Secret, SignType, sign};
use tally_types::Timestamp;

/// The media type of the body.
pub(super) const CONTENT_TYPE: &str = "application/x-www-form-urlencoded";

/// The body of the notification of an order's current version.
pub(super) fn body(order: &Order, key: &Secret, sign_type: SignType, now: Timestamp) -> Vec<u8> {
    let fields = fields(order, key, sign_type, now);
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish().into_bytes()
}

fn fields(order: &Order, key: &Secret, sign_type: SignType, now: Timestamp) -> Vec<(String, String)> {
    let quote = order.latest_quote();
    let pay_currency = quote.map_or_else(String::new, |quote| quote.terms().currency.to_string());
    let received = quote.map_or_else(
        || "0".to_owned(),
        |quote| order.received_like(quote).to_decimal_string(quote.terms().decimals),
    );
    let mut fields: Vec<(String, String)> = [
        ("merchant_id", order.merchant().to_string()),
        ("transaction_id", order.id().to_string()),
        ("out_trade_id", order.own_id().to_owned()),
        ("price_currency", order.price_currency().to_string()),
        ("price_amount", order.price_text()),
        ("pay_currency", pay_currency),
        ("pay_amount", received),
        ("status", status(order.status()).to_owned()),
        ("attach", order.attach().unwrap_or_default().to_owned()),
        ("exception", order.exceptions().word().to_owned()),
        ("version", order.version().to_string()),
        ("timestamp", now.secs().to_string()),
        ("paid_value", order.paid_value().normalize().to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if sign_type != SignType::Md5 {
        fields.push(("sign_type".to_owned(), sign_type.to_string()));
    }
    let sign = sign(&fields, key.expose(), sign_type);
    fields.push(("sign".to_owned(), sign));
    fields
}

/// The status as DeePay names it: it has no `canceled`.
fn status(status: Status) -> &'static str {
    match status {
        Status::Canceled => Status::Expired.as_str(),
        Status::New
        | Status::Pending
        | Status::Paid
        | Status::Confirmed
        | Status::Complete
        | Status::Expired
        | Status::Invalid => status.as_str(),
    }
}
