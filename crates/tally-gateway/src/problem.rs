//! Errors as the merchants' clients read them.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tally_ports::PortError;

/// A refusal or failure, with its HTTP status, its documented reason and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) retry_after_secs: Option<u64>,
}

impl Problem {
    fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into(), retry_after_secs: None }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn credentials_missing() -> Self {
        let message = "merchant_id is missing: send it with every request";
        Self::new(StatusCode::BAD_REQUEST, "CredentialsMissing", message)
    }

    /// Missing sign, unknown merchant and wrong sign say the same, so that none can be told from another.
    pub(crate) fn bad_credentials() -> Self {
        let message =
            "merchant_id and sign do not fit: check the merchant id, the API key and how the sign is made";
        Self::new(StatusCode::UNAUTHORIZED, "BadCredentials", message)
    }

    pub(crate) fn order_not_found() -> Self {
        let message = "there is no such order of this merchant";
        Self::new(StatusCode::NOT_FOUND, "OrderNotFound", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "RecordNotFound", message)
    }

    pub(crate) fn nothing_here() -> Self {
        Self::not_found("there is nothing at this address")
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "OrderIsNotValid", message)
    }

    pub(crate) fn field(field: &str, fault: impl std::fmt::Display) -> Self {
        Self::invalid(format!("{field}: {fault}"))
    }

    pub(crate) fn unavailable(
        reason: &'static str,
        message: impl Into<String>,
        retry_after_secs: u64,
    ) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, reason, message);
        Self { retry_after_secs: Some(retry_after_secs), ..problem }
    }

    /// The fold is behind the log, or nobody can say that it is not.
    pub(crate) fn behind() -> Self {
        Self::unavailable("ServiceUnavailable", "this instance is catching up: ask again in a second", 1)
    }

    /// More is asked of this instance than it can do.
    pub(crate) fn busy() -> Self {
        Self::unavailable("ServiceUnavailable", "this instance is busy: ask again in a few seconds", 5)
    }

    /// More than one may ask for.
    pub(crate) fn too_many(message: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "RateLimitException", message);
        Self { retry_after_secs: Some(15), ..problem }
    }

    /// A person must change how this instance is started.
    pub(crate) fn misconfigured(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", message)
    }

    pub(crate) fn internal() -> Self {
        let message = "something went wrong here, and nothing was changed: ask again later";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", message)
    }
}

impl From<PortError> for Problem {
    fn from(error: PortError) -> Self {
        tracing::error!(error = %error, cause = ?std::error::Error::source(&error), "a port failed");
        if error.is_transient() {
            let message = "a part of the service cannot be reached: ask again in a moment";
            Self::unavailable("ServiceUnavailable", message, 2)
        } else {
            // Of an append that failed nobody knows whether it was made: this must not say that nothing was changed.
            let message = "this instance cannot read or write its data: send the same again later";
            Self::unavailable("ServiceUnavailable", message, 30)
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "error": self.reason,
            "reason": self.reason,
            "message": self.message,
            "msg": self.message,
        });
        let mut response = (self.status, Json(body)).into_response();
        if let Some(secs) = self.retry_after_secs {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_failed_leaves_open_what_was_done() {
        for error in [PortError::persistent("the log has stopped"), PortError::transient("no answer")] {
            let problem = Problem::from(error);
            assert_eq!((problem.status.as_u16(), problem.reason), (503, "ServiceUnavailable"));
            assert!(problem.retry_after_secs.is_some());
            assert!(!problem.message.contains("nothing was changed") && !problem.message.contains("log"));
        }
    }
}
