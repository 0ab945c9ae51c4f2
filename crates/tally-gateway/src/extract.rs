//! Reading requests so that what cannot be read is answered in the documented shape.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::problem::Problem;

/// How long a body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// The largest JSON body.
const JSON_MAX: usize = 64 * 1024;

/// The variable segments of a path. What they cannot be, is at no address.
pub(crate) struct Segments<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(segments)) => Ok(Self(segments)),
            Err(rejection) => Err(Problem::not_found(rejection.body_text())),
        }
    }
}

/// The pairs behind the question mark.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => Err(Problem::invalid(rejection.body_text())),
        }
    }
}

/// A JSON body; an empty one reads as `{}`.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let body = read_body(body, JSON_MAX).await?;
        if body.is_empty() {
            return from_json(b"{}").map(Self);
        }
        let kind = media_type(&parts.headers);
        if kind != "application/json" {
            return Err(Problem::bad_request(format!("content type {kind:?}: send application/json")));
        }
        from_json(&body).map(Self)
    }
}

fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        if error.is_data() {
            Problem::invalid(error.to_string())
        } else {
            Problem::bad_request(format!("the body is not JSON: {error}"))
        }
    })
}

/// The content type without its parameters, in lower case; empty where there is none.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default();
    String::from_utf8_lossy(kind).trim().to_ascii_lowercase()
}

/// A whole body of at most `max` bytes, if it comes in time.
pub(crate) async fn read_body(body: Body, max: usize) -> Result<Bytes, Problem> {
    match timeout(BODY_WITHIN, to_bytes(body, max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Problem::bad_request(format!("the body is over {} KiB, or broke off", max / 1024))),
        Err(_) => Err(Problem::bad_request("the body did not arrive in time")),
    }
}
