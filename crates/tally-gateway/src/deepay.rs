//! The DeePay API: `create`, `checkout`, `query`, signed by the merchant's key.

mod answer;
mod create;
mod form;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Serialize;
use tally_account::Merchant;
use tally_events::{KeySecret, Subject};
use tally_order::Order;
use tally_sign::{RequestFault, check_request};
use tally_types::{Currency, Face, MerchantId, OrderId};

use crate::app::Gateway;
use crate::extract::read_body;
use crate::instance::Instance;
use crate::problem::Problem;
use form::Form;

/// The routes of this face.
pub(crate) fn routes() -> Router<Instance> {
    Router::new()
        .route("/order/create", post(create))
        .route("/payment/create", post(create))
        .route("/order/checkout", post(checkout))
        .route("/order/query", post(query))
        .route("/payment/query", post(query))
}

async fn create(State(app): State<Instance>, request: Request) -> Response {
    respond(async {
        let (form, merchant) = authenticate(&app, request).await?;
        let order = create::create(&app, &merchant, &form).await?;
        Ok(answer::created(&app, &order))
    })
    .await
}

async fn checkout(State(app): State<Instance>, request: Request) -> Response {
    respond(async {
        let (form, merchant) = authenticate(&app, request).await?;
        let currency = form.require("pay_currency")?;
        let currency: Currency = currency.parse().map_err(|error| Problem::field("pay_currency", error))?;
        let currency = tally_pricing::canonical(&currency);
        if let Some(email) = form.text("email", 254)? {
            create::check_email(email)?;
        }
        let order = find(&app, &merchant, &form).await?;
        let order = app.quote_order(order.id(), &merchant, &currency).await?;
        answer::checked_out(&app, &order, &currency)
    })
    .await
}

async fn query(State(app): State<Instance>, request: Request) -> Response {
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
async fn authenticate(app: &Instance, request: Request) -> Result<(Form, Merchant), Problem> {
    let (parts, body) = request.into_parts();
    let body = read_body(body, form::BODY_MAX).await?;
    let form = Form::parse(&parts.headers, &body)?;
    let id = form.get("merchant_id").ok_or_else(Problem::credentials_missing)?;
    let id: MerchantId = id.parse().map_err(|_| Problem::bad_credentials())?;
    app.fresh().await?;
    let merchant = match signer(app, id, &form).await? {
        Some(merchant) => merchant,
        None => {
            // The key may have been made a moment ago, on another instance.
            app.caught_up(&Subject::merchant(id)).await?;
            signer(app, id, &form).await?.ok_or_else(Problem::bad_credentials)?
        }
    };
    check_request(form.pairs()).map_err(|fault| match fault {
        RequestFault::Notification => Problem::bad_credentials(),
        RequestFault::Repeated(_) | RequestFault::Smuggled { .. } => Problem::invalid(fault.to_string()),
    })?;
    Ok((form, merchant))
}

/// The merchant, if one of the merchant's keys signed the request.
async fn signer(app: &Gateway, id: MerchantId, form: &Form) -> Result<Option<Merchant>, Problem> {
    let Some(merchant) = app.model.merchant(id).await? else { return Ok(None) };
    Ok(is_signed_by(app, &merchant, form)?.then_some(merchant))
}

fn is_signed_by(app: &Gateway, merchant: &Merchant, form: &Form) -> Result<bool, Problem> {
    let require_hmac = merchant.settings().require_hmac.unwrap_or(false);
    let mut unreadable = false;
    for key in merchant.active_keys(Face::Deepay) {
        let KeySecret::Sealed(sealed) = &key.secret else { continue };
        match tally_sign::open(&app.master, &merchant.key_purpose(key.face, key.key), sealed) {
            Ok(secret) if tally_sign::verify(form.pairs(), secret.expose(), require_hmac).is_ok() => {
                return Ok(true);
            }
            Ok(_) => {}
            Err(error) => {
                let (merchant, key) = (merchant.id(), key.key);
                tracing::error!(%merchant, key, %error, "an API key was made under another master key");
                unreadable = true;
            }
        }
    }
    if unreadable { Err(Problem::internal()) } else { Ok(false) }
}

/// The order a request names, by either id; of this merchant and this face only.
async fn find(app: &Gateway, merchant: &Merchant, form: &Form) -> Result<Order, Problem> {
    let (id, own_id) = (form.get("transaction_id"), form.get("out_trade_id"));
    let order = match (id, own_id) {
        (Some(id), _) => {
            let id: OrderId = id.parse().map_err(|_| Problem::order_not_found())?;
            app.order_by_id(&id).await?
        }
        (None, Some(own_id)) => app.order_by_own_id(merchant.id(), Face::Deepay, own_id).await?,
        (None, None) => {
            return Err(Problem::field("transaction_id", "or out_trade_id is needed to name the order"));
        }
    };
    if order.merchant() != merchant.id() || order.face() != Face::Deepay {
        return Err(Problem::order_not_found());
    }
    match own_id {
        Some(own_id) if own_id != order.own_id() => {
            Err(Problem::field("out_trade_id", "is not that of transaction_id; one of them is enough"))
        }
        _ => Ok(order),
    }
}
