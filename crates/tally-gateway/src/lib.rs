//! *Service.* The use cases of merchants, payers and operators, under thin faces: DeePay, the payment page,
//! rates, and the admin API.
//!
//! Commands become facts in the log; answers are read from the folded state, never from a fold that is behind
//! what it answers about. Not here: opening ports, listening (the composition root does both).

mod admin;
mod app;
mod assets;
mod checkout;
mod deepay;
mod health;
mod observe;
mod orders;
mod problem;
mod rates;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;

pub use app::{App, ChainInfo, CoinInfo, Gateway};
use problem::Problem;

/// No request of ours is larger.
const BODY_MAX: usize = 1024 * 1024;

impl Gateway {
    /// The payment page of an order.
    pub(crate) fn payment_url(&self, order: &tally_types::OrderId) -> String {
        format!("{}/order/{order}", self.public_url)
    }
}

/// Everything on the public listener.
pub fn public(app: App) -> Router {
    let routes = Router::new()
        .merge(deepay::routes())
        .merge(checkout::routes())
        .merge(rates::routes())
        .merge(health::routes());
    finish(routes, app)
}

/// Everything on the admin listener.
pub fn admin(app: App) -> Router {
    finish(admin::routes(app.clone()).merge(health::routes()), app)
}

fn finish(routes: Router<App>, app: App) -> Router {
    routes
        .fallback(|| async { Problem::not_found("there is nothing at this address") })
        .method_not_allowed_fallback(|| async {
            Problem {
                status: StatusCode::METHOD_NOT_ALLOWED,
                ..Problem::bad_request("this method is not for this address")
            }
        })
        .layer(CatchPanicLayer::custom(|_| axum::response::IntoResponse::into_response(Problem::internal())))
        .layer(RequestBodyLimitLayer::new(BODY_MAX))
        .layer(middleware::from_fn_with_state(app.clone(), observe::count))
        .with_state(app)
}
