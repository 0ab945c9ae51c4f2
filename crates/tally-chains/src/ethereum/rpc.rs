//! JSON-RPC over HTTP, for nodes of the EVM.
//!
//! Not here: what an answer means, and trying again.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::json::{self, JsonError};
use crate::endpoint::{Auth, Endpoint};

/// To connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
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
    /// No answer came.
    #[error("the node does not answer")]
    Transport(#[source] reqwest::Error),
    /// The answer is larger than any that is expected.
    #[error("an answer of more than {BODY_BYTES_MAX} bytes")]
    TooLarge,
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
        const WORDS: [&str; 6] = [
            "missing trie node",
            "historical state",
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

    /// Whether the same call may go through later, with nothing changed by hand.
    pub(crate) const fn may_pass(&self) -> bool {
        match self {
            Self::Refused { code, .. } => *code != -32601,
            Self::Status(status) => !matches!(*status, 401 | 403),
            _ => true,
        }
    }
}

fn says(message: &str, words: &[&str]) -> bool {
    let message = message.to_ascii_lowercase();
    words.iter().any(|word| message.contains(word))
}

/// A client of one node.
pub(crate) struct Rpc {
    client: Client,
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
        let builder = Client::builder().connect_timeout(CONNECT_TIMEOUT).redirect(Policy::none());
        let builder = if endpoint.is_loopback() { builder.no_proxy() } else { builder };
        Ok(Self { client: builder.build()?, endpoint })
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
        let (status, body) = self.post(timeout, &request).await?;
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
            let (status, body) = self.post(ANSWER_TIMEOUT, &Value::Array(request)).await?;
            if let Ok(Refusal::Whole { error }) = serde_json::from_slice(&body) {
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

    async fn post(&self, timeout: Duration, request: &Value) -> Result<(StatusCode, Vec<u8>), RpcError> {
        let transport = |error: reqwest::Error| RpcError::Transport(error.without_url());
        let mut post = self.client.post(self.endpoint.url.clone()).timeout(timeout).json(request);
        if let Auth::Basic { user, password } = &self.endpoint.auth {
            post = post.basic_auth(user, Some(password.expose()));
        }
        let mut response = post.send().await.map_err(transport)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            if body.len().saturating_add(chunk.len()) > BODY_BYTES_MAX {
                return Err(RpcError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status(), body))
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

async fn read<T: DeserializeOwned + Send + 'static>(body: Vec<u8>) -> Result<T, RpcError> {
    if body.len() <= INLINE_BYTES_MAX {
        return json::parse(&body).map_err(RpcError::Json);
    }
    let parsed = tokio::task::spawn_blocking(move || json::parse(&body)).await;
    parsed.unwrap_or(Err(JsonError::Lost)).map_err(RpcError::Json)
}
