//! What the payment page shows.

use std::sync::OnceLock;

use minijinja::{AutoEscape, Environment, Error, context};
use qrcode::QrCode;
use qrcode::render::svg;
use serde::Serialize;
use tally_account::Merchant;
use tally_events::Price;
use tally_order::{Exception, Order, QuoteState, Status};
use tally_types::{BaseUnits, Timestamp};

use crate::app::{CoinInfo, Gateway};
use crate::orders::Offer;
use crate::problem::Problem;

fn templates() -> &'static Environment<'static> {
    static TEMPLATES: OnceLock<Environment<'static>> = OnceLock::new();
    TEMPLATES.get_or_init(|| {
        let mut templates = Environment::new();
        templates.set_auto_escape_callback(|_| AutoEscape::Html);
        let all = [
            ("order.html", include_str!("../../templates/order.html")),
            ("panel.html", include_str!("../../templates/panel.html")),
            ("failure.html", include_str!("../../templates/failure.html")),
        ];
        for (name, source) in all {
            // Proven by the test below; a template that does not parse would fail to render, not panic.
            if let Err(error) = templates.add_template(name, source) {
                tracing::error!(name, %error, "a page template does not parse");
            }
        }
        templates
    })
}

#[derive(Serialize)]
struct OrderView {
    id: String,
    merchant: String,
    title: String,
    price_amount: String,
    price_currency: String,
    status: &'static str,
    status_text: &'static str,
    exception_text: Option<&'static str>,
    version: u32,
    callback_url: Option<String>,
    #[serde(rename = "final")]
    is_final: bool,
    choices: Vec<ChoiceView>,
}

#[derive(Serialize)]
struct ChoiceView {
    currency: String,
    usable: bool,
    amount: Option<String>,
    note: Option<&'static str>,
}

#[derive(Serialize)]
struct QuoteView {
    chain: String,
    currency: String,
    address: String,
    missing: String,
    open: bool,
    uri: String,
    qr: String,
    expires_at: i64,
    received: Option<String>,
    confirmations: u64,
    target: u32,
}

/// The whole page.
pub(super) async fn whole(
    app: &Gateway,
    order: &Order,
    merchant: &Merchant,
    problem: Option<&str>,
) -> Result<String, Problem> {
    render("order.html", app, order, merchant, problem).await
}

/// The part that changes.
pub(super) async fn panel(app: &Gateway, order: &Order, merchant: &Merchant) -> Result<String, Problem> {
    render("panel.html", app, order, merchant, None).await
}

/// A page about what is wrong.
pub(super) fn failure(problem: &Problem) -> Result<String, Problem> {
    let title = problem.status.canonical_reason().unwrap_or("Error");
    let page = templates().get_template("failure.html");
    page.and_then(|page| page.render(context! { title, message => problem.message })).map_err(unrendered)
}

async fn render(
    template: &str,
    app: &Gateway,
    order: &Order,
    merchant: &Merchant,
    problem: Option<&str>,
) -> Result<String, Problem> {
    let now = app.clock.now();
    let quote = match order.latest_quote() {
        Some(quote) => Some(quote_view(app, order, quote, now)?),
        None => None,
    };
    let choices = choices(app, order, merchant, now).await;
    let view = order_view(order, merchant, choices);
    let page = templates().get_template(template);
    let values = context! { order => view, quote, now => now.secs(), sandbox => app.sandbox, problem };
    page.and_then(|page| page.render(values)).map_err(unrendered)
}

fn unrendered(error: Error) -> Problem {
    tracing::error!(%error, "a page cannot be rendered");
    Problem::internal()
}

fn order_view(order: &Order, merchant: &Merchant, choices: Vec<ChoiceView>) -> OrderView {
    let price_currency = order.price_currency().to_string();
    OrderView {
        id: order.id().to_string(),
        merchant: merchant.settings().name.clone().unwrap_or_default(),
        title: order.title().to_owned(),
        price_amount: order.price_text(),
        price_currency,
        status: order.status().as_str(),
        status_text: status_text(order.status()),
        exception_text: order.exceptions().first().map(exception_text),
        version: order.version(),
        callback_url: order.callback_url().map(str::to_owned),
        is_final: order.status().is_final(),
        choices,
    }
}

fn status_text(status: Status) -> &'static str {
    match status {
        Status::New => "Waiting for your choice",
        Status::Pending => "Waiting for your payment",
        Status::Paid => "Payment seen, waiting for the network",
        Status::Confirmed => "Payment confirmed",
        Status::Complete => "Payment complete",
        Status::Expired => "The time to pay has run out",
        Status::Invalid => "The network did not confirm the payment",
        Status::Canceled => "The order was canceled",
    }
}

fn exception_text(exception: Exception) -> &'static str {
    match exception {
        Exception::Reorged => "The network is reorganising: the payment is being confirmed again.",
        Exception::Replaced => "The payment was replaced by another transaction.",
        Exception::PaidLate => "Money arrived after the time had run out. The shop will get in touch.",
        Exception::Overpaid => "More arrived than was asked for. The shop will get in touch.",
        Exception::Underpaid => "Less arrived than was asked for.",
    }
}

/// The coins a payer may choose now, with what each would cost; none once a choice is no longer possible.
async fn choices(app: &Gateway, order: &Order, merchant: &Merchant, now: Timestamp) -> Vec<ChoiceView> {
    if matches!(order.price(), Price::Exactly { .. }) {
        return Vec::new();
    }
    let mut choices = Vec::new();
    for Offer { chain, coin, .. } in app.offers(merchant) {
        if order.check_quotable(&coin.currency, now).is_err() {
            continue;
        }
        let due = match app.live_tip(&chain.id, now).await {
            Ok(_) => app.full_due(order, merchant, coin, now).map(|(full, _)| full),
            Err(problem) => Err(problem),
        };
        choices.push(choice(order, coin, due));
    }
    choices
}

fn choice(order: &Order, coin: &CoinInfo, full: Result<BaseUnits, Problem>) -> ChoiceView {
    let currency = coin.currency.to_string();
    let view = |usable: bool, amount: Option<String>, note: Option<&'static str>| ChoiceView {
        currency,
        usable,
        amount,
        note,
    };
    match full {
        // What is left after a partial payment is not known before the quote is made.
        Ok(_) if !order.received().is_empty() => view(true, None, Some("the rest")),
        Ok(full) if full < coin.dust => view(false, None, Some("too little for this coin")),
        Ok(full) => view(true, Some(full.to_decimal_string(coin.decimals)), None),
        Err(problem) if problem.reason == "RateUnavailable" => view(false, None, Some("no rate right now")),
        Err(_) => view(false, None, Some("not available right now")),
    }
}

fn quote_view(
    app: &Gateway,
    order: &Order,
    quote: &QuoteState,
    now: Timestamp,
) -> Result<QuoteView, Problem> {
    let terms = quote.terms();
    let missing = order.remaining_due(quote);
    let received = order.received_like(quote);
    let address = terms.addresses.first().cloned().unwrap_or_default();
    let open = order.status() == Status::Pending && quote.is_live(now);
    let uri = if open { payment_uri(app, quote, &address, missing)? } else { String::new() };
    let qr = if open { qr_svg(&uri)? } else { String::new() };
    Ok(QuoteView {
        chain: terms.chain.to_string(),
        currency: terms.currency.to_string(),
        address,
        missing: missing.to_decimal_string(terms.decimals),
        open,
        uri,
        qr,
        expires_at: terms.expires_at.secs(),
        received: (!received.is_zero()).then(|| received.to_decimal_string(terms.decimals)),
        confirmations: order.confirmations(),
        target: order.target_confirmations(),
    })
}

fn payment_uri(
    app: &Gateway,
    quote: &QuoteState,
    address: &str,
    amount: BaseUnits,
) -> Result<String, Problem> {
    let terms = quote.terms();
    let Some(chain) = app.chain(&terms.chain) else { return Ok(address.to_owned()) };
    let contract = chain.coin(&terms.currency).and_then(|coin| coin.contract.as_deref());
    let uri = match contract {
        Some(contract) => tally_address::token_payment_uri(contract, address, amount, chain.params),
        None => tally_address::payment_uri(address, amount, chain.params),
    };
    uri.map_err(|error| {
        tracing::error!(%error, "a payment URI cannot be made");
        Problem::internal()
    })
}

fn qr_svg(text: &str) -> Result<String, Problem> {
    let code = QrCode::new(text.as_bytes()).map_err(|error| {
        tracing::error!(%error, "a QR code cannot be made");
        Problem::internal()
    })?;
    let image = code.render::<svg::Color<'_>>().min_dimensions(208, 208).quiet_zone(false).build();
    // Without the XML declaration, which has no place within a page.
    let start = image.find("<svg").unwrap_or(0);
    Ok(image.get(start..).unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_parses() {
        for name in ["order.html", "panel.html", "failure.html"] {
            assert!(templates().get_template(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_failure_page_escapes_what_it_shows() {
        let page = failure(&Problem::bad_request("<script>alert(1)</script>")).unwrap();
        assert!(!page.contains("<script>alert"), "{page}");
    }

    #[test]
    fn qr_codes_are_bare_svg() {
        assert!(qr_svg("bitcoin:bc1q?amount=1").unwrap().starts_with("<svg"));
    }
}
