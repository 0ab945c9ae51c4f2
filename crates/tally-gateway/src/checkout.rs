//! The payment page: choose a coin, pay, and see the status move without a reload.

mod events;
mod page;

use axum::Router;
use axum::extract::{Form, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use tally_account::Merchant;
use tally_order::Order;
use tally_types::{Currency, OrderId};

use crate::app::{App, Gateway};
use crate::problem::Problem;

/// Scripts, styles and requests from ourselves only; the page may not be framed to trick a payer.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'";

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/order/{order}", get(show))
        .route("/order/{order}/panel", get(panel))
        .route("/order/{order}/checkout", post(choose))
        .route("/order/{order}/events", get(events::stream))
        .route("/assets/checkout.css", get(crate::assets::css))
        .route("/assets/checkout.js", get(crate::assets::js))
}

#[derive(Debug, Deserialize)]
struct Choice {
    pay_currency: String,
}

/// An order and whose it is.
async fn load(app: &Gateway, id: &str) -> Result<(Order, Merchant), Problem> {
    let id: OrderId = id.parse().map_err(|_| Problem::order_not_found())?;
    let order = app.order_by_id(&id).await?;
    let merchant = app.model.merchant(order.merchant()).await?.ok_or_else(Problem::order_not_found)?;
    Ok((order, merchant))
}

async fn show(State(app): State<App>, Path(id): Path<String>) -> Response {
    match load(&app, &id).await {
        Ok((order, merchant)) => html(StatusCode::OK, page::whole(&app, &order, &merchant, None).await),
        Err(problem) => failed(&problem),
    }
}

async fn panel(State(app): State<App>, Path(id): Path<String>) -> Response {
    match load(&app, &id).await {
        Ok((order, merchant)) => html(StatusCode::OK, page::panel(&app, &order, &merchant).await),
        Err(problem) => failed(&problem),
    }
}

/// A payer chose a coin. No key is needed: who has the page may pay.
async fn choose(State(app): State<App>, Path(id): Path<String>, Form(choice): Form<Choice>) -> Response {
    let chosen = async {
        let (order, merchant) = load(&app, &id).await?;
        let currency = choice.pay_currency.parse::<Currency>();
        let currency = currency.map_err(|error| Problem::field("pay_currency", error))?;
        let quoted = app.quote_order(order.id(), &merchant, &currency).await;
        Ok::<_, Problem>((order, merchant, quoted))
    };
    match chosen.await {
        Ok((order, _, Ok(_))) => Redirect::to(&format!("/order/{}", order.id())).into_response(),
        Ok((order, merchant, Err(problem))) => {
            let page = page::whole(&app, &order, &merchant, Some(&problem.message)).await;
            html(problem.status, page)
        }
        Err(problem) => failed(&problem),
    }
}

fn html(status: StatusCode, page: Result<String, Problem>) -> Response {
    match page {
        Ok(page) => {
            let headers = [(header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, "no-store")];
            (status, headers, Html(page)).into_response()
        }
        Err(problem) => failed(&problem),
    }
}

/// A page for people about what is wrong.
fn failed(problem: &Problem) -> Response {
    let page = page::failure(problem).unwrap_or_else(|_| problem.message.clone());
    (problem.status, [(header::CONTENT_SECURITY_POLICY, POLICY)], Html(page)).into_response()
}
