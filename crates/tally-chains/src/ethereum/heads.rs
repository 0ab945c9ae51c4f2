//! Hears of new blocks by `eth_subscribe` over a WebSocket. What it hears is a hint that wakes, never a source: a
//! subscription can die silently.
//!
//! The connection is made by HTTP like any other, so TLS, proxies and passwords are as for calls.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use reqwest::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use reqwest::{StatusCode, Upgraded};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use crate::endpoint::Endpoint;
use crate::http::{builder, sign_in};
use crate::wake::Ringer;

/// The largest message that is taken: a header.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A node that says nothing for so long is asked for a sign of life, and left if it gives none.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Between two attempts.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Whether an endpoint is known to take subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It is configured for them.
    Known,
    /// It is tried, and left if it refuses.
    Unknown,
}

/// Why a subscription ended.
#[derive(Debug, thiserror::Error)]
enum HeadsError {
    /// The node does not offer it.
    #[error("the node takes no subscription ({0})")]
    Refused(String),
    #[error("the node does not answer")]
    Transport(#[source] reqwest::Error),
    #[error("the connection broke")]
    Socket(#[from] tungstenite::Error),
    #[error("the node fell silent")]
    Silence,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

/// Rings with every block that the node tells of, for as long as it is polled, or until the node refuses.
pub(crate) async fn listen(endpoint: Endpoint, offer: Offer, ringer: Ringer) {
    let mut pause = PAUSE_MIN;
    loop {
        let Err(error) = hear(&endpoint, &ringer, &mut pause).await;
        ringer.set_live(false);
        tracing::debug!(node = endpoint.label(), %error, "newHeads is not heard");
        if offer == Offer::Unknown && matches!(error, HeadsError::Refused(_)) {
            return;
        }
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(PAUSE_MAX);
    }
}

async fn hear(
    endpoint: &Endpoint,
    ringer: &Ringer,
    pause: &mut Duration,
) -> Result<std::convert::Infallible, HeadsError> {
    let connected = timeout(HANDSHAKE_TIMEOUT, connect(endpoint)).await;
    let stream = connected.map_err(|_| HeadsError::Silence)??;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await;
    let subscribe = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]});
    socket.send(Message::text(subscribe.to_string())).await?;
    let mut asked = false;
    loop {
        let message = match timeout(SILENCE_MAX, socket.next()).await {
            Ok(Some(message)) => message?,
            Ok(None) => return Err(tungstenite::Error::ConnectionClosed.into()),
            Err(_) if asked => return Err(HeadsError::Silence),
            Err(_) => {
                asked = true;
                socket.send(Message::Ping(Default::default())).await?;
                continue;
            }
        };
        asked = false;
        let Message::Text(text) = message else { continue };
        match serde_json::from_str::<Said>(&text) {
            Ok(Said { error: Some(_), .. }) => return Err(HeadsError::Refused("eth_subscribe".to_owned())),
            Ok(Said { method: Some(method), .. }) if method == "eth_subscription" => ringer.ring(),
            Ok(Said { method: None, .. }) => {
                *pause = PAUSE_MIN;
                ringer.set_live(true);
                // What came while nobody listened.
                ringer.ring();
            }
            _ => {}
        }
    }
}

/// A connection that speaks WebSocket (RFC 6455).
async fn connect(endpoint: &Endpoint) -> Result<Upgraded, HeadsError> {
    let transport = |error: reqwest::Error| HeadsError::Transport(error.without_url());
    let client = builder(endpoint).http1_only().build().map_err(transport)?;
    let mut url = endpoint.url.clone();
    let scheme = if matches!(url.scheme(), "ws" | "http") { "http" } else { "https" };
    if url.set_scheme(scheme).is_err() {
        return Err(HeadsError::Refused(format!("{}://", url.scheme())));
    }
    let key = generate_key();
    let request = client
        .get(url)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key);
    let response = sign_in(endpoint, None, request).send().await.map_err(transport)?;
    let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT).map(|accept| accept.as_bytes().to_vec());
    let expected = derive_accept_key(key.as_bytes());
    if response.status() != StatusCode::SWITCHING_PROTOCOLS
        || accepted.as_deref() != Some(expected.as_bytes())
    {
        return Err(HeadsError::Refused(format!("http status {}", response.status().as_u16())));
    }
    response.upgrade().await.map_err(transport)
}

#[cfg(test)]
mod tests;
