//! What stands around every route: bounds on addresses and time, and headers that every answer carries.

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::observe;
use crate::problem::Problem;

/// The longest path with its query. Ours are far shorter.
const ADDRESS_MAX: usize = 4 * 1024;

/// When an answer has to have begun: longer than all waits of one request together.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Puts routes, fallbacks included, under all guards.
pub(crate) fn around<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    let set = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    routes
        .layer(middleware::from_fn(address))
        .layer(middleware::from_fn(in_time))
        .layer(CatchPanicLayer::custom(|_| Problem::internal().into_response()))
        .layer(middleware::from_fn(observe::count))
        .layer(set(header::CACHE_CONTROL, "no-store"))
        .layer(set(header::REFERRER_POLICY, "no-referrer"))
        .layer(set(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
}

/// Refuses addresses that are too long, or no text once they are decoded.
async fn address(request: Request, next: Next) -> Response {
    let uri = request.uri();
    if uri.path().len() + uri.query().map_or(0, str::len) > ADDRESS_MAX {
        let problem = Problem::bad_request(format!("an address has at most {ADDRESS_MAX} characters"));
        return Problem { status: StatusCode::URI_TOO_LONG, ..problem }.into_response();
    }
    if percent_encoding::percent_decode_str(uri.path()).decode_utf8().is_err() {
        return Problem::nothing_here().into_response();
    }
    next.run(request).await
}

/// Gives up on a request that hangs. What it may have appended, the same request again finds.
async fn in_time(request: Request, next: Next) -> Response {
    match timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!("a request took longer than {} s", ANSWER_WITHIN.as_secs());
            Problem::busy().into_response()
        }
    }
}
