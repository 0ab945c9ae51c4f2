//! JSON-RPC over HTTP, as both families of nodes speak it: single calls and batches.
//!
//! Users and passwords are not looked at. Not here: the methods (`bitcoin`, `ethereum`).

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

pub(crate) mod bitcoin;
pub(crate) mod ethereum;
#[cfg(test)]
mod tests;

/// The largest request that is read.
const BODY_BYTES_MAX: usize = 32 << 20;

/// An error as the node names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RpcError {
    code: i32,
    message: String,
}

impl RpcError {
    pub(crate) fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// What a call comes to.
pub(crate) type Answer = Result<Box<RawValue>, RpcError>;

/// A result that can be written as JSON.
pub(crate) fn answer(value: &(impl Serialize + ?Sized)) -> Answer {
    to_raw_value(value).map_err(|error| RpcError::new(-32603, error.to_string()))
}

/// A node's methods.
pub(crate) trait Methods: Send + Sync + 'static {
    /// Whether errors also show in the HTTP status, as with Bitcoin Core's answers to JSON-RPC 1.
    const STATUS_SHOWS_ERRORS: bool;

    /// Returns when the node takes calls.
    fn ready(&self) -> impl Future<Output = ()> + Send;

    /// Answers a call.
    fn call(&self, method: &str, params: &[Value]) -> impl Future<Output = Answer> + Send;

    /// Whether the answer to that method ends in the middle.
    fn cuts(&self, method: &str) -> bool;
}

#[derive(Deserialize)]
struct Call {
    #[serde(default)]
    jsonrpc: Option<String>,
    #[serde(default)]
    id: Value,
    method: String,
    #[serde(default)]
    params: Value,
}

/// An answer of JSON-RPC 1: both fields are there.
#[derive(Serialize)]
struct Legacy {
    result: Option<Box<RawValue>>,
    error: Option<RpcError>,
    id: Value,
}

/// An answer of JSON-RPC 2: one of both is there.
#[derive(Serialize)]
struct Modern {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<RpcError>,
    id: Value,
}

/// The HTTP side of a node: calls are taken on every path.
pub(crate) fn router<M: Methods>(node: Arc<M>) -> Router {
    Router::new()
        .route("/", post(handle::<M>))
        .route("/{*path}", post(handle::<M>))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(node)
}

async fn handle<M: Methods>(State(node): State<Arc<M>>, body: Bytes) -> Response {
    node.ready().await;
    match serde_json::from_slice::<Value>(&body) {
        Ok(Value::Array(calls)) => {
            let mut answers = Vec::with_capacity(calls.len());
            let mut cut = false;
            for call in calls {
                let done = one(&*node, call).await;
                cut |= done.cut;
                answers.push(done.body);
            }
            respond(StatusCode::OK, format!("[{}]", answers.join(",")), cut)
        }
        Ok(call) => {
            let done = one(&*node, call).await;
            respond(done.status, done.body, done.cut)
        }
        Err(_) => {
            let error = RpcError::new(-32700, "Parse error");
            let status = status::<M>(false, Some(&error));
            respond(status, write::<M>(false, Value::Null, Err(error)), false)
        }
    }
}

struct Done {
    status: StatusCode,
    body: String,
    cut: bool,
}

async fn one<M: Methods>(node: &M, call: Value) -> Done {
    let call: Call = match serde_json::from_value(call) {
        Ok(call) => call,
        Err(_) => {
            let error = RpcError::new(-32600, "Invalid Request object");
            let status = status::<M>(false, Some(&error));
            return Done { status, body: write::<M>(false, Value::Null, Err(error)), cut: false };
        }
    };
    let modern = call.jsonrpc.as_deref() == Some("2.0");
    let result = match &call.params {
        Value::Null => node.call(&call.method, &[]).await,
        Value::Array(params) => node.call(&call.method, params).await,
        _ => Err(RpcError::new(-32602, "params must be an array")),
    };
    let status = status::<M>(modern, result.as_ref().err());
    Done { status, body: write::<M>(modern, call.id, result), cut: node.cuts(&call.method) }
}

fn status<M: Methods>(modern: bool, error: Option<&RpcError>) -> StatusCode {
    match error {
        Some(error) if M::STATUS_SHOWS_ERRORS && !modern => match error.code {
            -32600 => StatusCode::BAD_REQUEST,
            -32601 => StatusCode::NOT_FOUND,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        },
        _ => StatusCode::OK,
    }
}

fn write<M: Methods>(modern: bool, id: Value, result: Answer) -> String {
    let (result, error) = match result {
        Ok(result) => (Some(result), None),
        Err(error) => (None, Some(error)),
    };
    let text = if modern || !M::STATUS_SHOWS_ERRORS {
        serde_json::to_string(&Modern { jsonrpc: "2.0", result, error, id })
    } else {
        serde_json::to_string(&Legacy { result, error, id })
    };
    text.unwrap_or_default()
}

fn respond(status: StatusCode, mut body: String, cut: bool) -> Response {
    if cut {
        // Answers are ASCII but for what a caller put into `id`.
        let middle = (0..=body.len() / 2).rev().find(|at| body.is_char_boundary(*at));
        body.truncate(middle.unwrap_or_default());
    }
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
