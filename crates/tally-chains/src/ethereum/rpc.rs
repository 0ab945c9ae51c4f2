//! JSON-RPC over HTTP, for nodes of the EVM.
//!
//! Not here: what an answer means, and trying again.

use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::json::{self, JsonError};
use crate::endpoint::Endpoint;
use crate::fault::{Fault, FaultKind};
use crate::http::{Body, Http, HttpError, sign_in};

/// For an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// For traces, which the node computes anew.
const TRACE_TIMEOUT: Duration = Duration::from_secs(60);
/// The largest answer that is taken: several times the traces of a full block.
const BODY_BYTES_MAX: usize = 256 << 20;
/// Answers above this are read on a thread that may take its time.
const INLINE_BYTES_MAX: usize = 128 << 10;
/// Calls in one batch.
const BATCH_MAX: usize = 100;

/// A call without the answer that was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RpcError {
    /// The node answered with an error of its own.
    #[error("{message:?} (code {code})")]
    Refused { code: i64, message: String },
    /// The HTTP server refused the request.
    #[error("http status {0}")]
    Status(u16),
    /// No answer came, or not the whole of it.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The answer cannot be read.
    #[error("an answer of another form")]
    Json(#[source] JsonError),
    /// The answer is not one to the question.
    #[error("{0}")]
    Malformed(&'static str),
}

impl RpcError {
    /// The node, or the plan it is paid by, does not have the method.
    pub(crate) fn is_unknown_method(&self) -> bool {
        const WORDS: [&str; 7] = [
            "method not found",
            "does not exist/is not available",
            "method is not available",
            "not supported",
            "unsupported method",
            "method not allowed",
            "is not whitelisted",
        ];
        match self {
            Self::Refused { code: -32601 | -32004, .. } => true,
            Self::Refused { message, .. } => says(message, &WORDS) && !self.is_state_missing(),
            _ => false,
        }
    }

    /// The node no longer has the state that the block was executed on.
    pub(crate) fn is_state_missing(&self) -> bool {
        const WORDS: [&str; 8] = [
            "missing trie node",
            "historical state",
            "no state available",
            "state is pruned",
            "state not available",
            "state is not available",
            "state has been pruned",
            "old data not available",
        ];
        matches!(self, Self::Refused { message, .. } if says(message, &WORDS))
    }

    /// The parameters were not understood: some nodes take a block's number where others take its hash.
    pub(crate) const fn is_invalid_params(&self) -> bool {
        matches!(self, Self::Refused { code: -32602, .. })
    }

    fn kind(&self) -> FaultKind {
        match self {
            Self::Refused { .. } if self.is_unknown_method() => FaultKind::Unable,
            Self::Refused { .. } => FaultKind::Error,
            Self::Status(401 | 403) => FaultKind::Refused,
            Self::Status(429 | 503) => FaultKind::Busy,
            Self::Status(_) => FaultKind::Unreachable,
            Self::Http(error) => error.kind(),
            Self::Json(error) if error.is_truncated() => FaultKind::Truncated,
            Self::Json(_) | Self::Malformed(_) => FaultKind::Malformed,
        }
    }

    /// The fault of the node that was asked for `method`.
    pub(crate) fn fault(self, endpoint: &Endpoint, method: &str) -> Fault {
        let node = endpoint.label();
        let message = match &self {
            Self::Status(401 | 403) => format!("{node}: the node refuses user and password, or its key"),
            Self::Http(HttpError::Transport(_)) => format!("{node}: the node does not answer"),
            other => format!("{node}: {method}: {other}"),
        };
        Fault::new(self.kind(), message).because(self)
    }
}

fn says(message: &str, words: &[&str]) -> bool {
    let message = message.to_ascii_lowercase();
    words.iter().any(|word| message.contains(word))
}

/// A client of one node.
pub(crate) struct Rpc {
    http: Http,
    endpoint: Endpoint,
}

#[derive(Deserialize)]
struct Answer<T> {
    #[serde(default)]
    id: Value,
    result: Option<T>,
    error: Option<ErrorObject>,
}

#[derive(Deserialize)]
struct ErrorObject {
    code: i64,
    #[serde(default)]
    message: String,
}

/// A batch can be refused as a whole.
#[derive(Deserialize)]
#[serde(untagged)]
enum Refusal {
    Whole { error: ErrorObject },
}

impl Rpc {
    /// A client; it connects when it is used.
    pub(crate) fn new(endpoint: Endpoint) -> Result<Self, reqwest::Error> {
        Ok(Self { http: Http::new(&endpoint, TRACE_TIMEOUT)?, endpoint })
    }

    /// The node.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Asks for a value; `None` if the node answers null.
    pub(crate) async fn call<T>(&self, method: &str, params: Value) -> Result<Option<T>, RpcError>
    where
        T: DeserializeOwned + Send + 'static,
    {
        self.call_within(ANSWER_TIMEOUT, method, params).await
    }

    /// The same with the patience that traces take.
    pub(crate) async fn call_slow<T>(&self, method: &str, params: Value) -> Result<Option<T>, RpcError>
    where
        T: DeserializeOwned + Send + 'static,
    {
        self.call_within(TRACE_TIMEOUT, method, params).await
    }

    async fn call_within<T>(
        &self,
        timeout: Duration,
        method: &str,
        params: Value,
    ) -> Result<Option<T>, RpcError>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let body = self.post(timeout, &request).await?;
        let status = body.status;
        match read::<Answer<T>>(body).await {
            Ok(answer) => answer.outcome(),
            // What is not JSON-RPC comes from something in front of the node, and its status says more.
            Err(_) if !status.is_success() => Err(RpcError::Status(status.as_u16())),
            Err(error) => Err(error),
        }
    }

    /// Asks for one value for each of `params`, in their order, in batches.
    pub(crate) async fn batch<T>(&self, method: &str, params: Vec<Value>) -> Result<Vec<Option<T>>, RpcError>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let mut values = Vec::with_capacity(params.len());
        for params in params.chunks(BATCH_MAX) {
            let call = |(id, params)| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
            let request: Vec<Value> = params.iter().enumerate().map(call).collect();
            let body = self.post(ANSWER_TIMEOUT, &Value::Array(request)).await?;
            let status = body.status;
            if let Ok(Refusal::Whole { error }) = serde_json::from_slice(&body.bytes) {
                return Err(error.into());
            }
            let answers = match read::<Vec<Answer<T>>>(body).await {
                Ok(answers) => answers,
                Err(_) if !status.is_success() => return Err(RpcError::Status(status.as_u16())),
                Err(error) => return Err(error),
            };
            values.extend(in_order(answers, params.len())?);
        }
        Ok(values)
    }

    async fn post(&self, timeout: Duration, request: &Value) -> Result<Body, RpcError> {
        let post = |client: &Client| -> RequestBuilder {
            let post = client.post(self.endpoint.url.clone()).timeout(timeout).json(request);
            sign_in(&self.endpoint, None, post)
        };
        Ok(self.http.ask(post, BODY_BYTES_MAX).await?)
    }
}

impl<T> Answer<T> {
    fn outcome(self) -> Result<Option<T>, RpcError> {
        match self.error {
            Some(error) => Err(error.into()),
            None => Ok(self.result),
        }
    }
}

impl From<ErrorObject> for RpcError {
    fn from(error: ErrorObject) -> Self {
        Self::Refused { code: error.code, message: error.message.chars().take(200).collect() }
    }
}

/// Answers come in any order.
fn in_order<T>(answers: Vec<Answer<T>>, count: usize) -> Result<Vec<Option<T>>, RpcError> {
    let mut places: Vec<Option<Answer<T>>> = (0..count).map(|_| None).collect();
    for answer in answers {
        let index = answer.id.as_u64().and_then(|id| usize::try_from(id).ok());
        match index.and_then(|index| places.get_mut(index)) {
            Some(place @ None) => *place = Some(answer),
            _ => return Err(RpcError::Malformed("a batch with an answer to another question")),
        }
    }
    let outcome = |place: Option<Answer<T>>| {
        place.ok_or(RpcError::Malformed("a batch with a call left out"))?.outcome()
    };
    places.into_iter().map(outcome).collect()
}

/// The body's part of the memory for answers is given back once it is read.
async fn read<T: DeserializeOwned + Send + 'static>(body: Body) -> Result<T, RpcError> {
    if body.bytes.len() <= INLINE_BYTES_MAX {
        return json::parse(&body.bytes).map_err(RpcError::Json);
    }
    let parsed = tokio::task::spawn_blocking(move || json::parse(&body.bytes)).await;
    parsed.unwrap_or(Err(JsonError::Lost)).map_err(RpcError::Json)
}
