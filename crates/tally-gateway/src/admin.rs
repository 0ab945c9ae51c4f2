//! The admin API: merchants, their keys and wallets, and orders. Behind one bearer token, on its own listener.
//!
//! The command line speaks the same API, to a running instance or to one made for the moment.

mod keys;
mod merchants;
mod orders;
mod wallets;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use tally_ports::PortError;

use crate::app::App;
use crate::instance::Instance;
use crate::problem::Problem;

/// The routes below `/v1/admin`.
pub(crate) fn routes(app: App) -> Router<Instance> {
    Router::new()
        .route("/v1/admin/merchants", get(merchants::list).post(merchants::create))
        .route("/v1/admin/merchants/{merchant}", get(merchants::show).patch(merchants::change))
        .route("/v1/admin/merchants/{merchant}/keys", get(keys::list).post(keys::create))
        .route("/v1/admin/merchants/{merchant}/keys/{key}", delete(keys::revoke))
        .route("/v1/admin/merchants/{merchant}/wallets", get(wallets::list).post(wallets::add))
        .route("/v1/admin/merchants/{merchant}/wallets/{wallet}/addresses", get(wallets::addresses))
        .route("/v1/admin/orders", get(orders::list))
        .route("/v1/admin/orders/{order}", get(orders::show))
        .route("/v1/admin/orders/{order}/cancel", post(orders::cancel))
        .route("/v1/admin/orders/{order}/accept", post(orders::accept))
        .route_layer(middleware::from_fn_with_state(app, authorize))
}

/// Lets a request pass that carries the token.
async fn authorize(State(app): State<App>, request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let good = match (&app.admin_token, given) {
        // An empty token is none: it would open to everybody.
        (Some(token), Some(given)) if !token.is_empty() => {
            tally_sign::verify_key(given, &tally_sign::hash_key(token))
        }
        _ => false,
    };
    if good { next.run(request).await } else { unauthorized() }
}

fn unauthorized() -> Response {
    let problem = Problem {
        status: StatusCode::UNAUTHORIZED,
        reason: "BadCredentials",
        message: "send the admin token as `Authorization: Bearer …`".into(),
        retry_after_secs: None,
    };
    let mut response = problem.into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    response
}

/// A command on an account that was refused.
fn refused(refusal: tally_account::Refusal) -> Problem {
    Problem::invalid(refusal.to_string())
}

/// What a projector that cannot read its store says.
fn broken(error: PortError) -> Problem {
    error.into()
}
