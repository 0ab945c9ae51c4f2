//! Blocks as bytes, many at a time, over connections that are kept: `/rest/block/….bin` where the node has it, else
//! `getblock` in hexadecimal, decoded in the memory that it came in.
//!
//! Not here: what the bytes say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tally_ports::PortError;
use tally_types::BlockHash;

use super::network::Network;
use super::rpc::{ErrorObject, RpcError};
use crate::endpoint::{Auth, Endpoint};
use crate::http::{Body, Http, sign_in};

/// How long a node may say nothing.
const SILENCE: Duration = Duration::from_secs(15);
/// For a small answer.
const SMALL_BYTES_MAX: usize = 4 << 20;
/// Around a block in hexadecimal.
const ENVELOPE_BYTES: usize = 4096;
/// Decoded at once.
const CHUNK_BYTES: usize = 4096;

/// Fetches blocks of one node.
pub(crate) struct Bodies {
    http: Http,
    endpoint: Arc<Endpoint>,
    /// The largest block that is taken, in bytes.
    block_bytes_max: usize,
    /// The node answers under `/rest`.
    has_rest: AtomicBool,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    result: Option<&'a str>,
    error: Option<ErrorObject>,
}

#[derive(Deserialize)]
struct Numbered<T> {
    id: usize,
    result: Option<T>,
    error: Option<ErrorObject>,
}

impl Bodies {
    pub(crate) fn new(endpoint: &Arc<Endpoint>, network: &Network) -> Result<Self, PortError> {
        let http = Http::new(endpoint, SILENCE).map_err(|error| {
            PortError::persistent(format!("{}: no http client can be made", endpoint.label())).because(error)
        })?;
        let (endpoint, block_bytes_max) = (Arc::clone(endpoint), network.block_bytes_max());
        Ok(Self { http, endpoint, block_bytes_max, has_rest: AtomicBool::new(false) })
    }

    /// Finds out whether the node answers under `/rest`.
    pub(crate) async fn probe(&self) {
        let url = self.rest("chaininfo.json");
        let told = self.http.ask(|client| client.get(url.clone()), SMALL_BYTES_MAX).await;
        let has = told.is_ok_and(|body| body.status == StatusCode::OK && body.bytes.first() == Some(&b'{'));
        if has != self.has_rest.swap(has, Ordering::Relaxed) {
            tracing::info!(node = self.endpoint.label(), rest = has, "how blocks are fetched");
        }
    }

    /// A block's bytes.
    pub(crate) async fn block(&self, hash: &BlockHash) -> Result<Body, RpcError> {
        if self.has_rest.load(Ordering::Relaxed) {
            let url = self.rest(&format!("block/{hash}.bin"));
            let body = self.http.ask(|client| client.get(url.clone()), self.block_bytes_max).await?;
            if body.status == StatusCode::OK {
                return Ok(body);
            }
            // Why not is told by the call below; and the node may have been started anew without it.
            if body.status != StatusCode::NOT_FOUND {
                self.has_rest.store(false, Ordering::Relaxed);
            }
        }
        let request = json!({"jsonrpc": "1.0", "id": 0, "method": "getblock", "params": [hash, 0]});
        let limit = self.block_bytes_max.saturating_mul(2).saturating_add(ENVELOPE_BYTES);
        let mut body = self.post(&request, limit).await?;
        let digits = {
            let answer: Answer<'_> = read(&body)?;
            span(&body.bytes, outcome(answer.result, answer.error)?)
        };
        decode_in_place(&mut body.bytes, digits)?;
        Ok(body)
    }

    /// Asks for one value for each of `params`, in their order, in one batch.
    pub(crate) async fn batch<T: DeserializeOwned>(
        &self,
        method: &str,
        params: impl Iterator<Item = Value>,
    ) -> Result<Vec<Result<T, RpcError>>, RpcError> {
        let call = |(id, params)| json!({"jsonrpc": "1.0", "id": id, "method": method, "params": params});
        let request: Vec<Value> = params.enumerate().map(call).collect();
        let count = request.len();
        let body = self.post(&Value::Array(request), SMALL_BYTES_MAX).await?;
        let mut answers: Vec<Numbered<T>> = read(&body)?;
        answers.sort_by_key(|answer| answer.id);
        if answers.len() != count || answers.iter().enumerate().any(|(place, answer)| answer.id != place) {
            return Err(RpcError::Malformed("a batch with a call left out".to_owned()));
        }
        Ok(answers.into_iter().map(|answer| outcome(answer.result, answer.error)).collect())
    }

    async fn post(&self, request: &Value, limit: usize) -> Result<Body, RpcError> {
        let cookie = self.cookie().await?;
        let post = |client: &Client| -> RequestBuilder {
            let post = client.post(self.endpoint.url.clone()).json(request);
            sign_in(&self.endpoint, cookie.as_ref(), post)
        };
        let body = self.http.ask(post, limit).await?;
        match body.status {
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(RpcError::Status(i32::from(status.as_u16())))
            }
            _ => Ok(body),
        }
    }

    async fn cookie(&self) -> Result<Option<(String, String)>, RpcError> {
        let Auth::Cookie(path) = &self.endpoint.auth else { return Ok(None) };
        let told = tokio::fs::read_to_string(path).await;
        let told = told.map_err(|error| RpcError::Cookie(path.clone(), Box::new(error)))?;
        let (user, password) = told.trim_end().split_once(':').unwrap_or_default();
        Ok(Some((user.to_owned(), password.to_owned())))
    }

    fn rest(&self, path: &str) -> Url {
        let mut url = self.endpoint.url.clone();
        url.set_path(&format!("/rest/{path}"));
        url.set_query(None);
        url
    }
}

/// Reads JSON-RPC. What is none comes from something in front of the node, and its status says more.
fn read<'a, T: Deserialize<'a>>(body: &'a Body) -> Result<T, RpcError> {
    serde_json::from_slice(&body.bytes).map_err(|error| match body.status.is_success() {
        true if error.is_eof() => RpcError::Truncated(format!("an answer that ends in the middle ({error})")),
        true => RpcError::Malformed(format!("an answer of another form ({error})")),
        false => RpcError::Status(i32::from(body.status.as_u16())),
    })
}

fn outcome<T>(result: Option<T>, error: Option<ErrorObject>) -> Result<T, RpcError> {
    match (result, error) {
        (_, Some(error)) => Err(error.into()),
        (Some(result), None) => Ok(result),
        (None, None) => Err(RpcError::Malformed("null".to_owned())),
    }
}

/// Where in `bytes` a part of them stands.
fn span(bytes: &[u8], part: &str) -> (usize, usize) {
    (part.as_ptr().addr().saturating_sub(bytes.as_ptr().addr()), part.len())
}

/// Leaves of `bytes` what the hexadecimal digits in it, `length` of them from `start`, stand for.
fn decode_in_place(bytes: &mut Vec<u8>, (start, length): (usize, usize)) -> Result<(), RpcError> {
    let malformed =
        || RpcError::Malformed("getblock answers something other than hexadecimal digits".to_owned());
    let mut chunk = [0; CHUNK_BYTES];
    let (mut read, mut written) = (start, 0_usize);
    let end = start.saturating_add(length);
    while read < end {
        let next = read.saturating_add(CHUNK_BYTES * 2).min(end);
        let digits = bytes.get(read..next).ok_or_else(malformed)?;
        let decoded = chunk.get_mut(..digits.len() / 2).ok_or_else(malformed)?;
        const_hex::decode_to_slice(digits, decoded).map_err(|_| malformed())?;
        let after = written.saturating_add(decoded.len());
        bytes.get_mut(written..after).ok_or_else(malformed)?.copy_from_slice(decoded);
        (read, written) = (next, after);
    }
    bytes.truncate(written);
    Ok(())
}

#[cfg(test)]
mod tests;
