//! Public rates: `/rate/:from/:to` as the bare number, and the same with all particulars.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tally_pricing::{RateAnswer, RateError};
use tally_types::Span;

use crate::app::App;
use crate::problem::Problem;

/// How long an answer may be used again.
const CACHE: &str = "public, max-age=15";

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/rate/{from}/{to}", get(bare))
        .route("/v1/rate/{from}/{to}", get(full))
        .route("/v1/rates", get(all))
}

async fn bare(
    State(app): State<App>,
    Path((from, to)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let table = app.rates.borrow().clone();
    let answer = table.rate_named(&from, &to, app.clock.now()).map_err(no_rate)?;
    let mut response = answer.text.clone().into_response();
    let tag = format!("\"{}-{}\"", answer.text, answer.at.millis());
    describe(response.headers_mut(), &answer, &tag);
    let same = headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes());
    if same {
        let mut unchanged = StatusCode::NOT_MODIFIED.into_response();
        describe(unchanged.headers_mut(), &answer, &tag);
        return Ok(unchanged);
    }
    Ok(response)
}

fn describe(headers: &mut HeaderMap, answer: &RateAnswer, tag: &str) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHE));
    let values = [
        ("x-rate-timestamp", answer.at.secs().to_string()),
        ("x-rate-sources", answer.sources.join(",")),
        ("x-rate-confidence", answer.confidence.normalize().to_string()),
        ("etag", tag.to_owned()),
    ];
    for (name, value) in values {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

async fn full(State(app): State<App>, Path((from, to)): Path<(String, String)>) -> Result<Response, Problem> {
    let table = app.rates.borrow().clone();
    let answer = table.rate_named(&from, &to, app.clock.now()).map_err(no_rate)?;
    Ok(([(header::CACHE_CONTROL, CACHE)], Json(view(&answer))).into_response())
}

async fn all(State(app): State<App>) -> Json<Value> {
    let table = app.rates.borrow().clone();
    let now = app.clock.now();
    let currencies = table.currencies();
    let mut rates = Vec::new();
    for from in &currencies {
        let answer = table.rate_named(from.as_str(), "USD", now);
        rates.push(match answer {
            Ok(answer) => view(&answer),
            Err(error) => {
                let problem = no_rate(error);
                json!({ "from": from, "to": "USD", "error": problem.reason, "message": problem.message })
            }
        });
    }
    Json(json!({ "published_at": table.published_at(), "rates": rates }))
}

fn view(answer: &RateAnswer) -> Value {
    let legs = answer.legs.iter().map(|leg| {
        json!({
            "currency": leg.currency,
            "usd": leg.usd.normalize().to_string(),
            "confidence": leg.confidence.normalize().to_string(),
            "timestamp": leg.at,
            "sources": leg.sources,
            "dropped": leg.dropped,
        })
    });
    json!({
        "from": answer.from,
        "to": answer.to,
        "rate": answer.text,
        "timestamp": answer.at,
        "sources": answer.sources,
        "dropped": answer.dropped,
        "confidence": answer.confidence.normalize().to_string(),
        "legs": legs.collect::<Vec<_>>(),
    })
}

fn no_rate(error: RateError) -> Problem {
    let secs = |span: Span| span.secs().max(1);
    match &error {
        RateError::UnknownCurrency(_) => Problem::not_found(error.to_string()),
        RateError::Unavailable { retry_after, .. } => {
            Problem::unavailable("RateUnavailable", error.to_string(), secs(*retry_after))
        }
        RateError::Inconsistent { retry_after, .. } => {
            Problem::unavailable("RateInconsistent", error.to_string(), secs(*retry_after))
        }
    }
}
