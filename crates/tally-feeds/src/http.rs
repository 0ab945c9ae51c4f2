//! One HTTP client for all venues, with a limit on everything.

use std::error::Error;
use std::time::Duration;

use tally_ports::PortError;
use tally_types::{Span, Timestamp};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// Connecting may take this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer that is read: the longest list of all pairs has some 500 KiB.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a venue is left alone that does not say for how long.
pub(crate) const RETRY_AFTER_UNSAID: Span = Span::from_secs(60);
/// The longest that a venue is left alone.
const RETRY_AFTER_MAX: Span = Span::from_secs(3600);

/// A call's outcome, as far as HTTP goes.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Status 200, and text.
    Body(String),
    /// Another status, which names what is wrong.
    Refused(PortError),
    /// Status 400 or 404: the call asks for what is not there.
    NotThere(PortError),
    /// Too many calls.
    TooMany(Span),
}

/// The client.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: reqwest::Client,
}

impl Http {
    /// A client with the limits above, where a call may take no longer than `timeout` in all.
    pub(crate) fn within(timeout: Duration) -> Result<Self, PortError> {
        let client = reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .redirect(reqwest::redirect::Policy::limited(2))
            .user_agent(concat!("tallystick/", env!("CARGO_PKG_VERSION")))
            .build();
        let client = client.map_err(|error| {
            PortError::persistent("the HTTP client for price feeds cannot be built").because(error)
        })?;
        Ok(Self { client })
    }

    /// Fetches `url`, with a header where a key is needed.
    pub(crate) async fn get(
        &self,
        url: &str,
        key: Option<(&'static str, &str)>,
        now: Timestamp,
    ) -> Result<Reply, PortError> {
        let mut request = self.client.get(url).header(reqwest::header::ACCEPT, "application/json, */*;q=0.5");
        if let Some((name, key)) = key {
            request = request.header(name, key);
        }
        let response = request.send().await.map_err(|error| failed("did not answer", error))?;
        match response.status().as_u16() {
            200 => read(response).await.map(Reply::Body),
            // 418 is how Binance bans those who went on after a 429.
            418 | 429 => Ok(Reply::TooMany(retry_after(&response, now))),
            status @ (401 | 403 | 451) => {
                let message = format!("refuses us with status {status}: a key, or another host, is needed");
                Ok(Reply::Refused(PortError::persistent(message)))
            }
            status @ (400 | 404) => {
                Ok(Reply::NotThere(PortError::transient(format!("answered with status {status}"))))
            }
            status => Ok(Reply::Refused(PortError::transient(format!("answered with status {status}")))),
        }
    }
}

/// The whole text of an answer, up to the limit.
async fn read(mut response: reqwest::Response) -> Result<String, PortError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed("broke off", error))? {
        if body.len().saturating_add(chunk.len()) > BODY_BYTES_MAX {
            return Err(PortError::transient(format!("answered more than {BODY_BYTES_MAX} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).map_err(|error| PortError::transient("answered what is no UTF-8").because(error))
}

fn retry_after(response: &reqwest::Response, now: Timestamp) -> Span {
    let header = response.headers().get(reqwest::header::RETRY_AFTER);
    let span = header.and_then(|value| value.to_str().ok()).and_then(|text| parse_retry_after(text, now));
    span.unwrap_or(RETRY_AFTER_UNSAID).min(RETRY_AFTER_MAX)
}

/// `Retry-After` in either of its forms: seconds, or a date.
fn parse_retry_after(text: &str, now: Timestamp) -> Option<Span> {
    if let Ok(secs) = text.trim().parse() {
        return Some(Span::from_secs(secs));
    }
    let date = OffsetDateTime::parse(text.trim(), &Rfc2822).ok()?;
    Some(Timestamp::from_secs(date.unix_timestamp()).since(now))
}

/// An error whose text does not repeat the URL, which may carry a key.
fn failed(what: &str, error: reqwest::Error) -> PortError {
    let error = error.without_url();
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    let timeout = if error.is_timeout() { " in time" } else { "" };
    let message =
        if cause.is_empty() { format!("{what}{timeout}") } else { format!("{what}{timeout} ({cause})") };
    PortError::transient(message).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_has_two_forms() {
        let now = Timestamp::from_secs(1_445_412_400);
        for (text, secs) in [
            ("30", Some(30)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(80)),
            ("Wed, 21 Oct 2015 07:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(parse_retry_after(text, now), secs.map(Span::from_secs), "{text}");
        }
    }
}
