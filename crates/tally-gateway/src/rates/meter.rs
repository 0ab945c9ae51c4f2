//! Counts the requests for the bare number, under the same names as all others (`observe`), with handles that
//! are looked up once.

use std::sync::OnceLock;
use std::time::Duration;

use axum::http::StatusCode;
use metrics::{Counter, Histogram, counter, histogram};

use super::BARE;

/// The handles, each made when it is first needed.
#[derive(Default)]
pub(super) struct Meter {
    ok: OnceLock<Counter>,
    seconds: OnceLock<Histogram>,
}

impl Meter {
    /// Counts one request.
    pub(super) fn count(&self, status: StatusCode, took: Duration) {
        if status == StatusCode::OK {
            self.ok.get_or_init(|| requests(status)).increment(1);
        } else {
            requests(status).increment(1);
        }
        self.seconds.get_or_init(|| histogram!("tally_http_request_seconds", "route" => BARE)).record(took);
    }
}

fn requests(status: StatusCode) -> Counter {
    counter!("tally_http_requests_total", "route" => BARE, "code" => status.as_str().to_owned())
}
