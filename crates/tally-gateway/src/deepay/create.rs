//! `create`: what the fields must be, and when a request is the same as one before.

use tally_account::Merchant;
use tally_events::{OrderCreated, Price};
use tally_order::Order;
use tally_types::{Currency, Face, OrderId, PriceAmount, Timestamp};
use time::UtcOffset;
use time::macros::format_description;
use url::Url;

use super::form::Form;
use crate::app::{Gateway, TRIES};
use crate::orders::Creation;
use crate::problem::Problem;

/// Random digits behind the time in a `transaction_id`; the original's six could be guessed.
const RANDOM_DIGITS: usize = 12;

/// Currencies an order may always be priced in, whether or not there is a rate right now.
const PRICED: [&str; 7] = ["CNY", "USD", "EUR", "ETH", "BTC", "LTC", "BCH"];

/// Creates the order, or answers the one that the same request made before.
pub(super) async fn create(app: &Gateway, merchant: &Merchant, form: &Form) -> Result<Order, Problem> {
    let mut created = read(app, merchant, form)?;
    for _ in 0..TRIES {
        match app.create_order(&created).await? {
            Creation::Created(order) => return Ok(*order),
            Creation::Existing(order) if order.is_same_request(&created) => return Ok(*order),
            Creation::Existing(_) => {
                return Err(Problem::field("out_trade_id", "is taken by another order with other content"));
            }
            Creation::IdTaken => created.order = new_id(app, created.created_at)?,
        }
    }
    Err(Problem::behind())
}

fn read(app: &Gateway, merchant: &Merchant, form: &Form) -> Result<OrderCreated, Problem> {
    let own_id =
        form.text("out_trade_id", 128)?.ok_or_else(|| Problem::field("out_trade_id", "is missing"))?;
    let currency = price_currency(app, form.require("price_currency")?)?;
    let amount = form.require("price_amount")?;
    let amount: PriceAmount = amount.parse().map_err(|error| Problem::field("price_amount", error))?;
    let notify_url = http_url("notify_url", form.require("notify_url")?)?;
    let callback_url = http_url("callback_url", form.require("callback_url")?)?;
    let title = form.text("title", 512)?.ok_or_else(|| Problem::field("title", "is missing"))?;
    let attach = form.text("attach", 2048)?;
    let now = app.clock.now();
    Ok(OrderCreated {
        order: new_id(app, now)?,
        merchant: merchant.id(),
        face: Face::Deepay,
        own_id: own_id.to_owned(),
        price: Price::In { currency, amount },
        title: title.to_owned(),
        attach: attach.map(str::to_owned),
        notify_url: Some(notify_url),
        callback_url: Some(callback_url),
        wallet: None,
        policy: merchant.policy(&app.policy),
        created_at: now,
    })
}

fn price_currency(app: &Gateway, text: &str) -> Result<Currency, Problem> {
    let currency: Currency = text.parse().map_err(|error| Problem::field("price_currency", error))?;
    let currency = tally_pricing::canonical(&currency);
    if PRICED.contains(&currency.as_str()) || app.rates.borrow().knows(&currency) {
        Ok(currency)
    } else {
        Err(Problem::field("price_currency", format!("{currency} is not known here")))
    }
}

/// A URL as it was given, if it is one of http or https. Where it leads is checked when it is called.
fn http_url(field: &str, text: &str) -> Result<String, Problem> {
    let fault = |fault: &str| Problem::field(field, fault);
    if text.len() > 2048 {
        return Err(fault("is longer than 2048 bytes"));
    }
    // The parser passes over some of these, and others who read the text may not.
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(fault("has white space or control characters in it"));
    }
    let url = Url::parse(text).map_err(|_| fault("is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(fault("must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(fault("must not carry a user name or password"));
    }
    Ok(text.to_owned())
}

/// The creation time in UTC+8 and random digits: the shape of the original's ids, but not to be guessed.
fn new_id(app: &Gateway, now: Timestamp) -> Result<OrderId, Problem> {
    let offset = UtcOffset::from_hms(8, 0, 0).map_err(|_| Problem::internal())?;
    let format = format_description!("[year][month][day][hour][minute][second]");
    let time = now.to_utc().to_offset(offset).format(&format).map_err(|_| Problem::internal())?;
    format!("{time}{}", app.random_digits(RANDOM_DIGITS)).parse().map_err(|_| Problem::internal())
}

/// The shape of an address for mail.
pub(super) fn check_email(email: &str) -> Result<(), Problem> {
    let good = email.split_once('@').is_some_and(|(user, host)| {
        !user.is_empty() && host.contains('.') && !host.starts_with('.') && !host.ends_with('.')
    });
    if good && !email.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | ',')) {
        Ok(())
    } else {
        Err(Problem::field("email", "is not an e-mail address"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_http_only_and_kept_as_given() {
        for good in ["http://example.com", "https://shop.test/n?a=1&b=2", "http://127.0.0.1:9/x"] {
            assert_eq!(http_url("notify_url", good).unwrap(), good);
        }
        for bad in [
            "",
            "example.com",
            "ftp://example.com",
            "javascript:alert(1)",
            "http://",
            "http://u:p@h/",
            " http://example.com",
            "http://example.com/\n",
            "http://exa\tmple.com/",
        ] {
            let problem = http_url("notify_url", bad).unwrap_err();
            assert!(problem.status == 422 && problem.message.starts_with("notify_url"), "{bad}");
        }
    }

    #[test]
    fn mail_addresses_are_checked_roughly() {
        assert!(check_email("a@example.com").is_ok());
        for bad in ["a", "@x.y", "a@x", "a@.x.", "a b@x.y", "a@x.y\r\nbcc: c@d.e"] {
            assert!(check_email(bad).is_err(), "{bad}");
        }
    }
}
