//! The routes of a running instance, on the admin listener, behind its token.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::TryStreamExt;
use futures::stream::{self, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tally_log::copy;
use tally_ports::{EventLog, OrderFilter, ReadModel};
use tally_types::{MerchantId, Position};

use super::export::Table;
use super::{Rebuilder, backup, export};

/// The position that a stream of facts ends with.
pub(super) const THROUGH: &str = "tally-through";

/// What upkeep needs of a running instance.
pub(crate) struct Upkeep {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) model: Arc<dyn ReadModel>,
    pub(crate) rebuilder: Option<Rebuilder>,
    pub(crate) token: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    merchant: Option<MerchantId>,
    #[serde(default)]
    status: Option<String>,
}

/// The routes below `/v1/admin`.
pub(crate) fn routes(upkeep: Arc<Upkeep>) -> Router {
    Router::new()
        .route("/v1/admin/rebuild", post(rebuild))
        .route("/v1/admin/facts", get(facts))
        .route("/v1/admin/export/orders.csv", get(orders))
        .route("/v1/admin/export/deposits.csv", get(deposits))
        .route_layer(middleware::from_fn_with_state(upkeep.clone(), authorize))
        .with_state(upkeep)
}

async fn authorize(State(upkeep): State<Arc<Upkeep>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer "));
    let good = match (&upkeep.token, given) {
        (Some(token), Some(given)) => tally_sign::verify_key(given, &tally_sign::hash_key(token)),
        _ => false,
    };
    if good {
        return next.run(request).await;
    }
    let message = "send the admin token as `Authorization: Bearer …`";
    let bearer = [(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
    (StatusCode::UNAUTHORIZED, bearer, Json(json!({ "reason": "BadCredentials", "message": message })))
        .into_response()
}

fn failed(error: &dyn std::fmt::Display) -> Response {
    let body = json!({ "reason": "Unavailable", "message": error.to_string() });
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

async fn rebuild(State(upkeep): State<Arc<Upkeep>>) -> Response {
    // Whoever asked may go away; what was begun is ended.
    let rebuilt = tokio::spawn(async move {
        match &upkeep.rebuilder {
            Some(rebuilder) => rebuilder.rebuild().await,
            None => anyhow::bail!("this process has no read model of its own"),
        }
    });
    match rebuilt.await {
        Ok(Ok(report)) => Json(report).into_response(),
        Ok(Err(error)) => failed(&format!("{error:#}")),
        Err(error) => failed(&error),
    }
}

/// Every fact through the head of this moment, as lines of a copy.
async fn facts(State(upkeep): State<Arc<Upkeep>>) -> Response {
    let opened = async {
        let head = upkeep.log.head().await?;
        Ok::<_, tally_ports::PortError>((head, backup::facts_through(&*upkeep.log, head).await?))
    };
    let (head, facts) = match opened.await {
        Ok(opened) => opened,
        Err(error) => return failed(&error),
    };
    let lines = facts
        .scan(Position::START, |last, fact| {
            let line = fact.and_then(|fact| {
                let mut line = copy::to_line(&fact, *last)?;
                *last = fact.position;
                line.push(b'\n');
                Ok(line)
            });
            std::future::ready(Some(line))
        })
        .ready_chunks(256)
        .map(|lines| Ok(lines.into_iter().collect::<Result<Vec<_>, _>>()?.concat()))
        .map_err(|error: tally_ports::PortError| std::io::Error::other(error));
    let headers = [("content-type", "application/x-ndjson".to_owned()), (THROUGH, head.to_string())];
    (headers, Body::from_stream(lines)).into_response()
}

async fn orders(State(upkeep): State<Arc<Upkeep>>, Query(wanted): Query<Wanted>) -> Response {
    csv(upkeep, wanted, Table::Orders)
}

async fn deposits(State(upkeep): State<Arc<Upkeep>>, Query(wanted): Query<Wanted>) -> Response {
    csv(upkeep, wanted, Table::Deposits)
}

fn csv(upkeep: Arc<Upkeep>, wanted: Wanted, table: Table) -> Response {
    let Wanted { merchant, status } = wanted;
    if let Some(Err(error)) = status.as_ref().map(|status| status.parse::<tally_order::Status>()) {
        let body = json!({ "reason": "Invalid", "message": error.to_string() });
        return (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response();
    }
    let filter = OrderFilter { merchant, status, ..OrderFilter::default() };
    let (pieces, taken) = tokio::sync::mpsc::channel(2);
    tokio::spawn(async move {
        let mut lines = export::table(&*upkeep.model, filter, table);
        while let Some(piece) = lines.next().await {
            if pieces.send(piece.map_err(std::io::Error::other)).await.is_err() {
                return;
            }
        }
    });
    let body = stream::unfold(taken, |mut taken| async move { Some((taken.recv().await?, taken)) });
    let kind = [(header::CONTENT_TYPE, "text/csv; charset=utf-8")];
    (kind, Body::from_stream(body)).into_response()
}
