//! HTTP to a node over connections that are kept: several answers on their way at once, each within its limit and
//! all of them within one budget of memory.
//!
//! Not here: what is asked, and what an answer means.

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::endpoint::{Auth, Endpoint};
use crate::fault::FaultKind;

/// To connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Kept unused: below the 5 s after which bcoin closes a connection, and the 30 s of Bitcoin Core.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Connections kept unused.
const IDLE_MAX: usize = 16;
/// For other answers to make room.
const ROOM_TIMEOUT: Duration = Duration::from_secs(60);
/// The budget is counted in pieces of this size.
const PIECE_BYTES: usize = 16 * 1024;
/// The budget: what answers may hold together. One that is larger has it alone.
const BUDGET_PIECES: usize = (96 << 20) / PIECE_BYTES;
/// Taken as the size of an answer that does not tell it.
const UNTOLD_BYTES: usize = 4 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// None came.
    #[error("the node does not answer")]
    Transport(#[source] reqwest::Error),
    /// It broke off.
    #[error("an answer that breaks off after {0} bytes")]
    Cut(usize, #[source] reqwest::Error),
    /// It is larger than any that is expected.
    #[error("an answer of more than {0} bytes")]
    TooLarge(usize),
    /// Others hold all the memory that there is for answers.
    #[error("no room for an answer")]
    Crowded,
}

impl HttpError {
    pub(crate) fn kind(&self) -> FaultKind {
        match self {
            Self::Transport(_) => FaultKind::Unreachable,
            Self::Cut(_, why) if why.is_timeout() => FaultKind::Unreachable,
            Self::Cut(..) => FaultKind::Truncated,
            Self::TooLarge(_) => FaultKind::Malformed,
            Self::Crowded => FaultKind::Internal,
        }
    }
}

/// An answer. It holds its part of the budget.
pub(crate) struct Body {
    pub(crate) status: StatusCode,
    pub(crate) bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

/// A client of one node.
pub(crate) struct Http {
    client: Client,
    budget: Arc<Semaphore>,
}

impl Http {
    /// A client; it connects when it is used. `silence` is how long a node may say nothing.
    pub(crate) fn new(endpoint: &Endpoint, silence: Duration) -> Result<Self, reqwest::Error> {
        let client = builder(endpoint)
            .read_timeout(silence)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_MAX)
            .tcp_nodelay(true)
            .build()?;
        Ok(Self { client, budget: Arc::new(Semaphore::new(BUDGET_PIECES)) })
    }

    /// Asks, and once more if a kept connection turns out to be closed.
    pub(crate) async fn ask(
        &self,
        request: impl Fn(&Client) -> RequestBuilder + Send + Sync,
        limit: usize,
    ) -> Result<Body, HttpError> {
        let transport = |error: reqwest::Error| HttpError::Transport(error.without_url());
        let response = match request(&self.client).send().await {
            Err(error) if error.is_request() && !error.is_timeout() && !error.is_connect() => {
                request(&self.client).send().await.map_err(transport)?
            }
            outcome => outcome.map_err(transport)?,
        };
        self.read(response, limit).await
    }

    async fn read(&self, mut response: Response, limit: usize) -> Result<Body, HttpError> {
        let told = response.content_length().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        if told.is_some_and(|told| told > limit) {
            return Err(HttpError::TooLarge(limit));
        }
        let room = self.room(told.unwrap_or(UNTOLD_BYTES)).await?;
        let mut bytes = Vec::with_capacity(told.unwrap_or_default());
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if bytes.len().saturating_add(chunk.len()) > limit => {
                    return Err(HttpError::TooLarge(limit));
                }
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => return Ok(Body { status: response.status(), bytes, _room: room }),
                Err(error) => return Err(HttpError::Cut(bytes.len(), error.without_url())),
            }
        }
    }

    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, HttpError> {
        let pieces = bytes.div_ceil(PIECE_BYTES).clamp(1, BUDGET_PIECES);
        let pieces = u32::try_from(pieces).unwrap_or(u32::MAX);
        let room = timeout(ROOM_TIMEOUT, Arc::clone(&self.budget).acquire_many_owned(pieces)).await;
        room.ok().and_then(Result::ok).ok_or(HttpError::Crowded)
    }
}

/// What every client of a node has in common.
pub(crate) fn builder(endpoint: &Endpoint) -> reqwest::ClientBuilder {
    let builder = Client::builder().connect_timeout(CONNECT_TIMEOUT).redirect(Policy::none());
    if endpoint.is_loopback() { builder.no_proxy() } else { builder }
}

/// Signs in as configured. A cookie is read afresh.
pub(crate) fn sign_in(
    endpoint: &Endpoint,
    cookie: Option<&(String, String)>,
    request: RequestBuilder,
) -> RequestBuilder {
    match (&endpoint.auth, cookie) {
        (Auth::None, _) | (Auth::Cookie(_), None) => request,
        (Auth::Basic { user, password }, _) => request.basic_auth(user, Some(password.expose())),
        (Auth::Cookie(_), Some((user, password))) => request.basic_auth(user, Some(password)),
    }
}

#[cfg(test)]
mod tests;
