//! Liveness and readiness.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tally_types::Span;

use crate::app::{App, WATCHER_SILENCE_MAX};

/// How far the fold may be behind before this instance says so.
const FOLD_WAIT: Span = Span::from_millis(200);

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/livez", get(live)).route("/readyz", get(ready))
}

async fn live() -> &'static str {
    "ok"
}

/// Ready: the log answers and is folded. What stands beside it (chains, rates) is named, and does not make
/// the instance unready: orders can be created and read without.
async fn ready(State(app): State<App>) -> Response {
    let head = app.log.head().await;
    let folded = match &head {
        Ok(head) => app.model.wait_for(*head, FOLD_WAIT).await,
        Err(_) => false,
    };
    let now = app.clock.now();
    let mut chains = serde_json::Map::new();
    for chain in &app.chains {
        let view = app.model.chain(&chain.id).await.ok().flatten();
        let fresh = |view: &tally_ports::ChainView| now.since(view.observed_at) <= WATCHER_SILENCE_MAX;
        chains.insert(
            chain.id.to_string(),
            json!({
                "tip": view.as_ref().map(|view| view.tip.height),
                "observed_at": view.as_ref().map(|view| view.observed_at),
                "usable": view.as_ref().is_some_and(fresh),
            }),
        );
    }
    let body = json!({
        "ready": folded,
        "log": head.is_ok(),
        "folded": app.model.position(),
        "chains": chains,
        "rates_published_at": app.rates.borrow().published_at(),
    });
    let status = if folded { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}
