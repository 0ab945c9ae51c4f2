//! The payment page: choose a coin, pay, and see the status move without a reload.

mod events;
mod page;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use tally_account::Merchant;
use tally_order::Order;
use tally_types::{Currency, OrderId};

use crate::app::Gateway;
use crate::extract::{Segments, read_body};
use crate::instance::Instance;
use crate::problem::Problem;

/// Scripts, styles and requests from ourselves only; the page may not be framed to trick a payer.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The largest body that a choice of a coin has.
const CHOICE_MAX: usize = 4 * 1024;

pub(crate) fn routes() -> Router<Instance> {
    Router::new()
        .route("/order/{order}", get(show))
        .route("/order/{order}/panel", get(panel))
        .route("/order/{order}/checkout", post(choose))
        .route("/order/{order}/events", get(events::stream))
        .route("/assets/checkout.css", get(crate::assets::css))
        .route("/assets/checkout.js", get(crate::assets::js))
}

/// An order and whose it is.
async fn load(app: &Gateway, id: &str) -> Result<(Order, Merchant), Problem> {
    let id: OrderId = id.parse().map_err(|_| Problem::order_not_found())?;
    let order = app.order_by_id(&id).await?;
    let merchant = app.model.merchant(order.merchant()).await?.ok_or_else(Problem::order_not_found)?;
    Ok((order, merchant))
}

async fn show(State(app): State<Instance>, Segments(id): Segments<String>) -> Response {
    match load(&app, &id).await {
        Ok((order, merchant)) => html(StatusCode::OK, page::whole(&app, &order, &merchant, None).await),
        Err(problem) => failed(&problem),
    }
}

async fn panel(State(app): State<Instance>, Segments(id): Segments<String>) -> Response {
    match load(&app, &id).await {
        Ok((order, merchant)) => html(StatusCode::OK, page::panel(&app, &order, &merchant).await),
        Err(problem) => failed(&problem),
    }
}

/// A payer chose a coin. No key is needed: who has the page may pay.
async fn choose(State(app): State<Instance>, Segments(id): Segments<String>, body: Body) -> Response {
    let chosen = async {
        let currency = chosen_currency(body).await?;
        let (order, merchant) = load(&app, &id).await?;
        let quoted = app.quote_order(order.id(), &merchant, &currency).await;
        Ok::<_, Problem>((order, merchant, quoted))
    };
    match chosen.await {
        Ok((order, _, Ok(_))) => Redirect::to(&format!("/order/{}", order.id())).into_response(),
        Ok((order, merchant, Err(problem))) => {
            let page = page::whole(&app, &order, &merchant, Some(&problem.message)).await;
            retry_after(html(problem.status, page), &problem)
        }
        Err(problem) => failed(&problem),
    }
}

async fn chosen_currency(body: Body) -> Result<Currency, Problem> {
    let body = read_body(body, CHOICE_MAX).await?;
    let mut pairs = form_urlencoded::parse(&body);
    let chosen = pairs.find(|(name, _)| name == "pay_currency");
    let (_, chosen) = chosen.ok_or_else(|| Problem::field("pay_currency", "is missing"))?;
    let currency: Currency = chosen.parse().map_err(|error| Problem::field("pay_currency", error))?;
    Ok(tally_pricing::canonical(&currency))
}

fn html(status: StatusCode, page: Result<String, Problem>) -> Response {
    match page {
        Ok(page) => (status, [(header::CONTENT_SECURITY_POLICY, POLICY)], Html(page)).into_response(),
        Err(problem) => failed(&problem),
    }
}

/// A page for people about what is wrong.
fn failed(problem: &Problem) -> Response {
    let policy = [(header::CONTENT_SECURITY_POLICY, POLICY)];
    let page = match page::failure(problem) {
        Ok(page) => (problem.status, policy, Html(page)).into_response(),
        Err(_) => (problem.status, policy, problem.message.clone()).into_response(),
    };
    retry_after(page, problem)
}

fn retry_after(mut response: Response, problem: &Problem) -> Response {
    if let Some(secs) = problem.retry_after_secs {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
    }
    response
}
