//! POST to an endpoint somebody else named: no redirects, a limit on time and on what is read, and only to
//! addresses that are public.
//!
//! Each delivery makes its own connection, so that the check of the address cannot be outlived by one. Not
//! here: retries.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use tally_ports::{Answer, Courier, CourierError, Parcel, PortError};
use tally_types::Span;
use url::{Host, Url};

use crate::public::is_public;

mod resolver;
mod retry_after;
#[cfg(test)]
mod tests;

use resolver::{NotPublic, PublicResolver};

/// What is read of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How deliveries are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CourierOptions {
    /// Whether private, loopback and link-local addresses are allowed: for development only.
    pub allow_private: bool,
    /// The limit on a delivery as a whole: name, connection, request and answer.
    pub timeout: Span,
    /// The header `User-Agent`.
    pub user_agent: String,
}

impl Default for CourierOptions {
    fn default() -> Self {
        Self { allow_private: false, timeout: Span::from_secs(15), user_agent: "tallystick".to_owned() }
    }
}

/// Delivers over HTTP and HTTPS.
#[derive(Debug, Clone)]
pub struct HttpCourier {
    client: Client,
    allow_private: bool,
}

impl HttpCourier {
    /// A courier with its own connections.
    ///
    /// # Errors
    /// [`PortError`], persistent, when TLS cannot be set up or the user agent is no header.
    pub fn new(options: &CourierOptions) -> Result<Self, PortError> {
        let timeout = options.timeout.to_duration();
        let client = Client::builder()
            .dns_resolver(Arc::new(PublicResolver { allow_private: options.allow_private }))
            .no_proxy()
            .pool_max_idle_per_host(0)
            .redirect(Policy::none())
            .referer(false)
            .timeout(timeout)
            .connect_timeout(timeout)
            .user_agent(&options.user_agent)
            .build()
            .map_err(|error| PortError::persistent("deliveries over HTTP cannot be set up").because(error))?;
        Ok(Self { client, allow_private: options.allow_private })
    }

    /// Checks what can be told without a connection. Names are checked when they are resolved.
    fn destination(&self, text: &str) -> Result<Url, CourierError> {
        let refused = |url: String, reason: &str| CourierError::Refused { url, reason: reason.to_owned() };
        let url = Url::parse(text).map_err(|_| refused(clip(text), "it is not a URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused(shown(&url), "only http and https are delivered to"));
        }
        // A literal address never meets the resolver.
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) => None,
            None => return Err(refused(shown(&url), "it has no host")),
        };
        match literal {
            Some(address) if !self.allow_private && !is_public(address) => {
                Err(refused(shown(&url), &NotPublic(vec![address]).to_string()))
            }
            _ => Ok(url),
        }
    }
}

#[async_trait]
impl Courier for HttpCourier {
    async fn post(&self, parcel: Parcel) -> Result<Answer, CourierError> {
        let url = self.destination(&parcel.url)?;
        let mut request = self.client.post(url.clone()).header("content-type", parcel.content_type);
        for (name, value) in parcel.headers {
            request = request.header(name, value);
        }
        let response = request.body(parcel.body).send().await.map_err(|error| failure(&url, error))?;
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers());
        let body = read_body(response).await.map_err(|error| failure(&url, error))?;
        Ok(Answer { status, body, retry_after })
    }
}

/// The beginning of the body; what comes after it is not waited for.
async fn read_body(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while body.len() < ANSWER_BYTES_MAX {
        let Some(chunk) = response.chunk().await? else { break };
        let room = ANSWER_BYTES_MAX - body.len();
        body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
    }
    Ok(body)
}

fn retry_after(headers: &HeaderMap) -> Option<Span> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    retry_after::parse(text(RETRY_AFTER)?, text(DATE))
}

fn failure(url: &Url, error: reqwest::Error) -> CourierError {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = cause {
        if let Some(blocked) = inner.downcast_ref::<NotPublic>() {
            return CourierError::Refused { url: shown(url), reason: blocked.to_string() };
        }
        cause = inner.source();
    }
    let what = if error.is_timeout() {
        "did not answer in time"
    } else if error.is_connect() {
        "cannot be reached"
    } else if error.is_builder() {
        return PortError::persistent(format!("{} cannot be asked: a header is malformed", shown(url)))
            .because(error.without_url())
            .into();
    } else {
        "broke off"
    };
    PortError::transient(format!("{} {what}", shown(url))).because(error.without_url()).into()
}

/// A URL without what may be secret in it: user, password, query and fragment.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Fails only for URLs that cannot have either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    clip(url.as_str())
}

fn clip(text: &str) -> String {
    text.chars().take_while(|c| *c != '?').take(200).collect()
}
