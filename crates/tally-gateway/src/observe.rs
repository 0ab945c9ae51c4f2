//! Counting requests, by route and outcome.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use metrics::{counter, histogram};

/// Counts one request under its route's pattern, so that ids make no new series.
pub(crate) async fn count(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_else(|| "unknown".to_owned());
    let started = tokio::time::Instant::now();
    let response = next.run(request).await;
    let code = response.status().as_u16().to_string();
    counter!("tally_http_requests_total", "route" => route.clone(), "code" => code).increment(1);
    histogram!("tally_http_request_seconds", "route" => route).record(started.elapsed());
    response
}
