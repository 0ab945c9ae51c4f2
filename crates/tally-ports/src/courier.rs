//! Deliveries to merchants' endpoints, and mail.

use async_trait::async_trait;
use tally_types::Span;

use crate::PortError;

/// A request to a merchant's endpoint. Always a POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// Where to; its own query string is kept.
    pub url: String,
    /// `application/x-www-form-urlencoded` or `application/json`.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What the endpoint answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, cut at 64 KiB.
    pub body: Vec<u8>,
    /// How long it asks to be left alone.
    pub retry_after: Option<Span>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CourierError {
    /// The URL leads nowhere a delivery may go.
    #[error("{url} is not allowed: {reason}")]
    Refused {
        /// The URL, without its query.
        url: String,
        /// Why.
        reason: String,
    },
    /// The endpoint could not be reached, or did not answer in time.
    #[error(transparent)]
    Failed(#[from] PortError),
}

/// Brings parcels. No redirects, 15 s in all, and where a URL leads is checked at each connect.
#[async_trait]
pub trait Courier: Send + Sync {
    /// Delivers one parcel.
    async fn post(&self, parcel: Parcel) -> Result<Answer, CourierError>;
}

/// A mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The address.
    pub to: String,
    /// The subject line.
    pub subject: String,
    /// The text.
    pub text: String,
}

/// Sends mail.
#[async_trait]
pub trait Mailer: Send + Sync {
    /// Hands one mail to the server.
    async fn send(&self, mail: Mail) -> Result<(), PortError>;
}
