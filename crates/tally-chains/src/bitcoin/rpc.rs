//! One call to a node of the family, over bitcoincore-rpc; blocking.
//!
//! The crate's typed calls are not used: on bcoin and bcash several of them fail, and on Litecoin its blocks do
//! not parse. It carries method, parameters and bytes.
//!
//! Not here: what an answer means.

use std::time::Duration;

use bitcoincore_rpc::jsonrpc::minreq_http::{self, MinreqHttpTransport};
use bitcoincore_rpc::jsonrpc::{self, Client as JsonRpcClient};
use bitcoincore_rpc::{Auth as RpcAuth, Client, RpcApi};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tally_types::TxId;

use crate::endpoint::{Auth, Endpoint};
use crate::fault::{Fault, FaultKind};
use crate::http::HttpError;

/// The node is starting and answers nothing yet.
const CODE_WARMING_UP: i32 = -28;

/// A call without the answer that was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RpcError {
    /// The node answered with an error of its own.
    #[error("{message:?} (code {code})")]
    Refused { code: i32, message: String },
    /// The node's HTTP server refused the request.
    #[error("http status {0}")]
    Status(i32),
    /// No answer came, or none that can be read.
    #[error("no usable answer")]
    Failed(#[source] Box<bitcoincore_rpc::Error>),
    /// The answer is not of the form it should be.
    #[error("{0}")]
    Malformed(String),
    /// The answer ends in the middle.
    #[error("{0}")]
    Truncated(String),
    /// The same over connections that are kept.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The cookie file cannot be read.
    #[error("cookie file {0:?} cannot be read")]
    Cookie(std::path::PathBuf, #[source] Box<dyn std::error::Error + Send + Sync>),
}

impl RpcError {
    /// Core, litecoind and BCHN say −5; bcoin and bcash say −1, which elsewhere stands for other things.
    pub(crate) fn is_not_found(&self) -> bool {
        match self {
            Self::Refused { code: -5, .. } => true,
            Self::Refused { code: -1, message } => {
                let message = message.to_ascii_lowercase();
                message.contains("not found") && !message.contains("on disk")
            }
            _ => false,
        }
    }

    /// A height above the tip.
    pub(crate) const fn is_out_of_range(&self) -> bool {
        matches!(self, Self::Refused { code: -8, .. })
    }

    /// The node does not have the method.
    pub(crate) const fn is_unknown_method(&self) -> bool {
        matches!(self, Self::Refused { code: -32601, .. })
    }

    /// The node has thrown the block away.
    pub(crate) fn is_pruned(&self) -> bool {
        matches!(self, Self::Refused { message, .. } if message.contains("pruned"))
    }

    fn kind(&self) -> FaultKind {
        match self {
            Self::Refused { code: CODE_WARMING_UP, .. } => FaultKind::Busy,
            Self::Refused { code: -32601, .. } => FaultKind::Unable,
            Self::Refused { .. } if self.is_pruned() => FaultKind::Pruned,
            Self::Refused { .. } => FaultKind::Error,
            Self::Status(401 | 403) => FaultKind::Refused,
            Self::Status(429 | 503) => FaultKind::Busy,
            Self::Status(_) | Self::Failed(_) | Self::Cookie(..) => FaultKind::Unreachable,
            Self::Malformed(_) => FaultKind::Malformed,
            Self::Truncated(_) => FaultKind::Truncated,
            Self::Http(error) => error.kind(),
        }
    }

    /// The fault of the node that was asked for `method`.
    pub(crate) fn fault(self, endpoint: &Endpoint, method: &str) -> Fault {
        let node = endpoint.label();
        let message = match &self {
            Self::Status(401 | 403) => format!("{node}: the node refuses user and password, or the cookie"),
            // What minreq also says of a connection that was closed without a word.
            Self::Status(503) => format!("{node}: the node is too busy to answer, or gone"),
            Self::Failed(_) | Self::Http(HttpError::Transport(_)) => {
                format!("{node}: the node does not answer")
            }
            other => format!("{node}: {method}: {other}"),
        };
        Fault::new(self.kind(), message).because(self)
    }
}

/// A client of one node. It keeps no connection and costs nothing to make.
pub(crate) struct Rpc {
    client: Client,
}

impl Rpc {
    /// A client that waits `timeout` for an answer; a cookie is read afresh.
    pub(crate) fn new(endpoint: &Endpoint, timeout: Duration) -> Result<Self, RpcError> {
        let failed = |error: minreq_http::Error| RpcError::Malformed(error.to_string());
        let mut builder =
            MinreqHttpTransport::builder().timeout(timeout).url(endpoint.url.as_str()).map_err(failed)?;
        match &endpoint.auth {
            Auth::None => {}
            Auth::Basic { user, password } => {
                builder = builder.basic_auth(user.clone(), Some(password.expose().to_owned()));
            }
            Auth::Cookie(path) => {
                let read = RpcAuth::CookieFile(path.clone()).get_user_pass();
                let (user, password) =
                    read.map_err(|error| RpcError::Cookie(path.clone(), Box::new(error)))?;
                builder = builder.basic_auth(user.unwrap_or_default(), password);
            }
        }
        let client = Client::from_jsonrpc(JsonRpcClient::with_transport(builder.build()));
        Ok(Self { client })
    }

    /// Asks for a value.
    pub(crate) fn call<T: DeserializeOwned>(&self, method: &str, params: &[Value]) -> Result<T, RpcError> {
        self.client.call(method, params).map_err(explain)
    }

    /// Asks for bytes that come as hexadecimal, and decodes them in place.
    pub(crate) fn bytes(&self, method: &str, params: &[Value]) -> Result<Vec<u8>, RpcError> {
        let text: Box<RawValue> = self.call(method, params)?;
        unhex(method, &text)
    }

    /// Asks for transactions in one batch; `None` for each that the node does not have.
    pub(crate) fn transactions(&self, ids: &[TxId]) -> Result<Vec<Option<Vec<u8>>>, RpcError> {
        const METHOD: &str = "getrawtransaction";
        let client = self.client.get_jsonrpc_client();
        let params: Result<Vec<_>, _> = ids.iter().map(|id| to_raw_value(&json!([id.to_string()]))).collect();
        let params = params.map_err(|error| RpcError::Malformed(error.to_string()))?;
        let requests: Vec<_> = params.iter().map(|one| client.build_request(METHOD, Some(one))).collect();
        let answers = client.send_batch(&requests).map_err(|error| explain(error.into()))?;
        let read = |answer: Option<jsonrpc::Response>| {
            let answer =
                answer.ok_or_else(|| RpcError::Malformed("a batch with a call left out".to_owned()))?;
            match answer.result::<Box<RawValue>>().map_err(|error| explain(error.into())) {
                Ok(text) => unhex(METHOD, &text).map(Some),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error),
            }
        };
        answers.into_iter().map(read).collect()
    }
}

/// An error of the node in an answer over a connection that is kept.
#[derive(Debug, Deserialize)]
pub(crate) struct ErrorObject {
    pub(crate) code: i32,
    #[serde(default)]
    pub(crate) message: String,
}

impl From<ErrorObject> for RpcError {
    fn from(error: ErrorObject) -> Self {
        Self::Refused { code: error.code, message: error.message.chars().take(200).collect() }
    }
}

fn unhex(method: &str, text: &RawValue) -> Result<Vec<u8>, RpcError> {
    let digits = text.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    digits.and_then(|digits| const_hex::decode(digits).ok()).ok_or_else(|| {
        RpcError::Malformed(format!("{method} answers something other than hexadecimal digits"))
    })
}

fn explain(error: bitcoincore_rpc::Error) -> RpcError {
    match error {
        bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Rpc(error)) => {
            RpcError::Refused { code: error.code, message: error.message.chars().take(200).collect() }
        }
        bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Transport(inner)) => {
            match inner.downcast_ref::<minreq_http::Error>() {
                Some(minreq_http::Error::Http(http)) => RpcError::Status(http.status_code),
                _ => RpcError::Failed(Box::new(jsonrpc::Error::Transport(inner).into())),
            }
        }
        bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Json(error)) => {
            let told = format!("an answer of another form ({error})");
            if error.is_eof() { RpcError::Truncated(told) } else { RpcError::Malformed(told) }
        }
        other => RpcError::Failed(Box::new(other)),
    }
}
