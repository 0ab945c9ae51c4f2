//! What makes a well-signed request ambiguous: since values are not escaped in the signed text, one message
//! can be cut into fields in more than one way, and a notification can be sent back to us as a request.
//!
//! Not here: whether values make sense.

use std::collections::HashSet;

use super::Pairs;

/// Every field that a request or a notification of the DeePay API has.
const KNOWN_FIELDS: &[&str] = &[
    "attach",
    "callback_url",
    "email",
    "exception",
    "key",
    "merchant_id",
    "notify_url",
    "out_trade_id",
    "paid_value",
    "pay_amount",
    "pay_currency",
    "price_amount",
    "price_currency",
    "sign",
    "sign_type",
    "status",
    "timestamp",
    "title",
    "transaction_id",
    "version",
];

/// Fields whose text comes from a shop's customers or is passed through.
const FREE_TEXTS: &[&str] = &["attach", "email", "out_trade_id", "title"];

/// Fields that hold addresses, whose own query may look like anything.
const URLS: &[&str] = &["callback_url", "notify_url"];

/// Why a request is refused, whatever its sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestFault {
    /// A field comes twice; parsers disagree about which one counts. (422)
    #[error("{0:?} is given more than once")]
    Repeated(String),
    /// A free text contains what would be a field of its own in the signed text. (422)
    #[error("{field} must not contain \"&{inner}=\"")]
    Smuggled {
        /// The field.
        field: String,
        /// The field within its value.
        inner: String,
    },
    /// It has both `status` and `pay_amount`, as only notifications have. (401)
    #[error("this is a notification, not a request")]
    Notification,
}

/// Refuses requests that could be read in two ways.
///
/// # Errors
/// [`RequestFault`]
pub fn check_request(pairs: &Pairs) -> Result<(), RequestFault> {
    let mut seen = HashSet::new();
    for (key, _) in pairs {
        if !seen.insert(key.as_str()) {
            return Err(RequestFault::Repeated(key.chars().take(40).collect()));
        }
    }
    for (field, value) in pairs.iter().filter(|(field, _)| FREE_TEXTS.contains(&field.as_str())) {
        if let Some(inner) = inner_fields(value).find(|inner| KNOWN_FIELDS.contains(inner)) {
            return Err(RequestFault::Smuggled { field: field.clone(), inner: inner.to_owned() });
        }
    }
    // A notification may also have been joined into fewer fields: the signed text is the same.
    let named = |name: &str| {
        pairs.iter().any(|(key, value)| {
            key == name || (!URLS.contains(&key.as_str()) && inner_fields(value).any(|inner| inner == name))
        })
    };
    if named("status") && named("pay_amount") { Err(RequestFault::Notification) } else { Ok(()) }
}

/// The names that `&name=` within a value would make fields of.
fn inner_fields(value: &str) -> impl Iterator<Item = &str> {
    value.split('&').skip(1).filter_map(|part| part.split_once('=').map(|(name, _)| name))
}
