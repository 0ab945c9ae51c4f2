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
mod extract;
mod guard;
mod health;
mod instance;
mod observe;
mod orders;
mod problem;
mod rates;

use axum::Router;
use axum::http::StatusCode;
use tokio_util::sync::CancellationToken;

pub use app::{App, ChainInfo, CoinInfo, Gateway};
use instance::Instance;
use problem::Problem;

/// Everything on the public listener.
pub fn public(app: App) -> Router {
    public_until(app, CancellationToken::new())
}

/// Everything on the public listener. Once `stop` is canceled, live streams end, which a listener that closes
/// gracefully would otherwise wait for.
pub fn public_until(app: App, stop: CancellationToken) -> Router {
    let rates = rates::Rates::new(&app);
    let routes = Router::new()
        .merge(deepay::routes())
        .merge(checkout::routes())
        .merge(rates.routes())
        .merge(health::routes());
    rates.in_front_of(finish(routes, Instance::new(app, stop)))
}

/// Everything on the admin listener.
pub fn admin(app: App) -> Router {
    let routes = admin::routes(app.clone()).merge(health::routes());
    finish(routes, Instance::new(app, CancellationToken::new()))
}

fn finish(routes: Router<Instance>, instance: Instance) -> Router {
    let routes =
        routes.fallback(|| async { Problem::nothing_here() }).method_not_allowed_fallback(|| async {
            Problem {
                status: StatusCode::METHOD_NOT_ALLOWED,
                ..Problem::bad_request("this method is not for this address")
            }
        });
    guard::around(routes).with_state(instance)
}
