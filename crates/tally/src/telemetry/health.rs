//! Readiness of the watchers of this process, beside its metrics.

use std::sync::{Arc, OnceLock};

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use tally_ports::Clock;
use tally_watcher::{HealthView, SILENCE_ALARM, WatcherHandle};

/// No answer of ours about readiness is larger.
const BODY_MAX: usize = 1024 * 1024;

/// How the watchers of this process are. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Health(Arc<OnceLock<Watched>>);

struct Watched {
    watchers: Vec<WatcherHandle>,
    clock: Arc<dyn Clock>,
}

impl Health {
    /// Tells of the watchers, once they run.
    pub(crate) fn attach(&self, watchers: Vec<WatcherHandle>, clock: Arc<dyn Clock>) {
        // Attached once, at the start.
        let _ = self.0.set(Watched { watchers, clock });
    }

    /// `/livez`, and `/readyz`: 503 until every watcher is at its node's tip, and once one has not been there for 45 s.
    pub(crate) fn routes(&self) -> Router {
        Router::new()
            .route("/livez", get(|| async { "ok" }))
            .route("/readyz", get(ready))
            .with_state(self.clone())
    }

    fn view(&self) -> (bool, Value) {
        let Some(watched) = self.0.get() else { return (false, json!({})) };
        let now = watched.clock.now();
        let mut all_ready = true;
        let mut views = Map::new();
        for watcher in &watched.watchers {
            let health = watcher.health();
            let ready = health.is_ready(now, SILENCE_ALARM);
            all_ready &= ready;
            let shards = watcher.shards().len();
            views.insert(watcher.chain().to_string(), describe(&health, ready, shards));
        }
        (all_ready, Value::Object(views))
    }
}

fn describe(health: &HealthView, ready: bool, shards: usize) -> Value {
    json!({
        "ready": ready,
        "writing": health.writing,
        "shards": shards,
        "tip": health.own_tip.map(|tip| tip.height),
        "node_tip": health.node_tip.map(|tip| tip.height),
        "lag_blocks": health.lag_blocks(),
        "looked_at": health.last_success,
        "scripts": health.scripts,
        "stalled": health.stalled,
        "log_unread": health.log_unread,
    })
}

async fn ready(State(health): State<Health>) -> Response {
    let (ready, watchers) = health.view();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready, "watchers": watchers }))).into_response()
}

/// Adds the watchers of this process to what the faces say of their readiness. A chain that stands makes no face
/// unready: orders in other coins go on.
pub(crate) async fn beside_faces(State(health): State<Health>, request: Request, next: Next) -> Response {
    let asked = request.uri().path() == "/readyz";
    let response = next.run(request).await;
    if !asked {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, BODY_MAX).await else { return StatusCode::BAD_GATEWAY.into_response() };
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(mut said)) => {
            said.insert("watchers".to_owned(), health.view().1);
            parts.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(parts, Value::Object(said).to_string().into())
        }
        _ => Response::from_parts(parts, bytes.into()),
    }
}
