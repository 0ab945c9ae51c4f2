//! Liveness and readiness.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tally_types::Span;
use tokio::time::timeout;

use crate::app::WATCHER_SILENCE_MAX;
use crate::instance::Instance;

/// How far the fold may be behind before this instance says so.
const FOLD_WAIT: Span = Span::from_millis(200);

/// How long the log may take to answer before this instance says so.
const LOG_WAIT: Duration = Duration::from_secs(1);

pub(crate) fn routes() -> Router<Instance> {
    Router::new().route("/livez", get(live)).route("/readyz", get(ready))
}

async fn live() -> &'static str {
    "ok"
}

/// Ready: the log answers and is folded. What stands beside it (chains, rates) is named, and does not make
/// the instance unready: orders can be created and read without.
async fn ready(State(app): State<Instance>) -> Response {
    let head = timeout(LOG_WAIT, app.log.head()).await.ok().and_then(Result::ok);
    let folded = match head {
        Some(head) => app.model.wait_for(head, FOLD_WAIT).await,
        None => false,
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
        "log": head.is_some(),
        "folded": app.model.position(),
        "chains": chains,
        "rates_published_at": app.rates.borrow().published_at(),
    });
    let status = if folded { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}
