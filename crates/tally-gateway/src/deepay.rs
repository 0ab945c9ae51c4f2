//! The DeePay API: `create`, `checkout`, `query`, signed by the merchant's key.

mod answer;
mod create;
mod form;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Serialize;
use tally_account::Merchant;
use tally_events::KeySecret;
use tally_order::Order;
use tally_sign::{RequestFault, check_request};
use tally_types::{Currency, Face, MerchantId, OrderId};

use crate::app::{App, Gateway};
use crate::problem::Problem;
use form::Form;

/// The routes of this face.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/order/create", post(create))
        .route("/payment/create", post(create))
        .route("/order/checkout", post(checkout))
        .route("/order/query", post(query))
        .route("/payment/query", post(query))
}

async fn create(State(app): State<App>, request: Request) -> Response {
    respond(async {
        let (form, merchant) = authenticate(&app, request).await?;
        let order = create::create(&app, &merchant, &form).await?;
        Ok(answer::created(&app, &order))
    })
    .await
}

async fn checkout(State(app): State<App>, request: Request) -> Response {
    respond(async {
        let (form, merchant) = authenticate(&app, request).await?;
        let currency = form.require("pay_currency")?;
        let currency: Currency = currency.parse().map_err(|error| Problem::field("pay_currency", error))?;
        if let Some(email) = form.text("email", 254)? {
            create::check_email(email)?;
        }
        let order = find(&app, &merchant, &form).await?;
        let order = app.quote_order(order.id(), &merchant, &currency).await?;
        answer::checked_out(&app, &order, &currency)
    })
    .await
}

async fn query(State(app): State<App>, request: Request) -> Response {
    respond(async {
        let (form, merchant) = authenticate(&app, request).await?;
        Ok(answer::queried(&find(&app, &merchant, &form).await?))
    })
    .await
}

async fn respond<T: Serialize>(handled: impl Future<Output = Result<T, Problem>>) -> Response {
    match handled.await {
        Ok(answer) => Json(answer).into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// Reads a request and checks who sent it. What is wrong with the sign and with the merchant reads the same.
async fn authenticate(app: &Gateway, request: Request) -> Result<(Form, Merchant), Problem> {
    let (parts, body) = request.into_parts();
    let body = read_body(body).await?;
    let form = Form::parse(&parts.headers, &body)?;
    let id = form.get("merchant_id").ok_or_else(Problem::credentials_missing)?;
    let id: MerchantId = id.parse().map_err(|_| Problem::bad_credentials())?;
    let merchant = app.model.merchant(id).await?.ok_or_else(Problem::bad_credentials)?;
    verify(app, &merchant, &form)?;
    Ok((form, merchant))
}

async fn read_body(body: Body) -> Result<axum::body::Bytes, Problem> {
    let too_large =
        |_| Problem::bad_request(format!("the body is over {} KiB, or broke off", form::BODY_MAX / 1024));
    to_bytes(body, form::BODY_MAX).await.map_err(too_large)
}

fn verify(app: &Gateway, merchant: &Merchant, form: &Form) -> Result<(), Problem> {
    let require_hmac = merchant.settings().require_hmac.unwrap_or(false);
    for key in merchant.active_keys(Face::Deepay) {
        let KeySecret::Sealed(sealed) = &key.secret else { continue };
        let purpose = merchant.key_purpose(key.face, key.key);
        let secret = tally_sign::open(&app.master, &purpose, sealed).map_err(|error| {
            let merchant = merchant.id();
            tracing::error!(%merchant, %error, "an API key does not open: was it made under another master key?");
            Problem::internal()
        })?;
        if tally_sign::verify(form.pairs(), secret.expose(), require_hmac).is_ok() {
            return check_request(form.pairs()).map_err(|fault| match fault {
                RequestFault::Notification => Problem::bad_credentials(),
                RequestFault::Repeated(_) | RequestFault::Smuggled { .. } => {
                    Problem::invalid(fault.to_string())
                }
            });
        }
    }
    Err(Problem::bad_credentials())
}

/// The order a request names, by either id; of this merchant and this face only.
async fn find(app: &Gateway, merchant: &Merchant, form: &Form) -> Result<Order, Problem> {
    let order = match (form.get("transaction_id"), form.get("out_trade_id")) {
        (Some(id), own) => {
            let id: OrderId = id.parse().map_err(|_| Problem::order_not_found())?;
            let order = app.order_by_id(&id).await?;
            if own.is_some_and(|own| own != order.own_id()) {
                return Err(Problem::field(
                    "out_trade_id",
                    "is not that of transaction_id; one of them is enough",
                ));
            }
            order
        }
        (None, Some(own)) => app.order_by_own_id(merchant.id(), Face::Deepay, own).await?,
        (None, None) => {
            return Err(Problem::field("transaction_id", "or out_trade_id is needed to name the order"));
        }
    };
    if order.merchant() == merchant.id() && order.face() == Face::Deepay {
        Ok(order)
    } else {
        Err(Problem::order_not_found())
    }
}
