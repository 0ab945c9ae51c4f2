//! Public rates: `/rate/:from/:to` as the bare number, the same with all particulars, all pairs, and a page
//! for people.
//!
//! Everything is answered from the table that was published last; whether that is still fresh is looked at
//! anew for every answer. Not here: what the rates are (`tally-pricing`), and the quotes of orders.

mod board;
mod limit;
mod meter;
mod page;
mod spark;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll};

use axum::body::Bytes;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::future::Either;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tally_pricing::{RETRY_AFTER, RateAnswer, RateError, RateTable, format_significant};
use tally_types::{Span, Timestamp};
use tower::Service;

use crate::app::App;
use crate::extract::Segments;
use crate::problem::Problem;
use board::{Board, CACHE, Rendered};
use limit::{Limiter, client};
use meter::Meter;

/// Where the bare number is.
const BARE: &str = "/rate/{from}/{to}";
/// The document of all pairs is made anew at most this often.
const ALL_HOLDS: Span = Span::from_secs(1);
/// Nothing but our own style: the page has no script.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
    base-uri 'none'; frame-ancestors 'none'";

/// What rates are answered from.
pub(crate) struct Rates {
    app: App,
    board: RwLock<Arc<Board>>,
    all: Mutex<Option<(Timestamp, Bytes)>>,
    limiter: Limiter,
    meter: Meter,
}

impl Rates {
    /// One set for all routes.
    pub(crate) fn new(app: &App) -> Arc<Self> {
        let mut seed = [0; 8];
        app.entropy.fill(&mut seed);
        let table = app.rates.borrow().clone();
        Arc::new(Self {
            app: app.clone(),
            board: RwLock::new(Arc::new(Board::new(table))),
            all: Mutex::new(None),
            limiter: Limiter::new(u64::from_le_bytes(seed)),
            meter: Meter::default(),
        })
    }

    /// The routes that stand under the same guards as all others.
    pub(crate) fn routes<S: Clone + Send + Sync + 'static>(self: &Arc<Self>) -> Router<S> {
        Router::new()
            .route("/v1/rate/{from}/{to}", get(full))
            .route(BARE, get(nothing))
            .route("/v1/rates", get(all))
            .route("/rates", get(page))
            .route_layer(middleware::from_fn_with_state(self.clone(), limited))
            .route("/assets/rates.css", get(css))
            .with_state(self.clone())
    }

    /// Puts the bare number in front of all other routes. It reads no body, waits for nothing and counts
    /// itself, so none of the guards around the others has anything to do for it but take time.
    pub(crate) fn in_front_of(self: Arc<Self>, others: Router) -> Router {
        Router::new().fallback_service(Front { rates: self, others })
    }

    /// The answers of the table of now.
    fn board(&self) -> Arc<Board> {
        let table = self.app.rates.borrow();
        {
            let board = self.board.read().unwrap_or_else(PoisonError::into_inner);
            if board.is_of(&table) {
                return board.clone();
            }
        }
        let board = Arc::new(Board::new(table.clone()));
        drop(table);
        *self.board.write().unwrap_or_else(PoisonError::into_inner) = board.clone();
        board
    }

    fn table(&self) -> Arc<RateTable> {
        self.app.rates.borrow().clone()
    }

    /// May this client ask now? If not, for how long not.
    fn admit(&self, request: &Request, now: Timestamp) -> Result<(), Problem> {
        let Some(client) = client(request.headers(), request.extensions()) else { return Ok(()) };
        self.limiter.admit(client, now).map_err(|wait| Problem {
            retry_after_secs: Some(wait.secs() + 1),
            ..Problem::too_many("that is too many requests for rates from this address")
        })
    }

    fn bare(&self, request: &Request, (from, to): (&str, &str)) -> Result<Response, Problem> {
        let now = self.app.clock.now();
        self.admit(request, now)?;
        let known = request.headers().get(header::IF_NONE_MATCH);
        let board = self.board();
        if let Some(rendered) = board.answer(from, to, now) {
            return Ok(rendered.respond(known));
        }
        let answer = board.table().rate_named(from, to, now).map_err(no_rate)?;
        Ok(Rendered::of(&answer).respond(known))
    }
}

/// Answers what asks for a bare number, and leaves the rest to the others.
#[derive(Clone)]
struct Front {
    rates: Arc<Rates>,
    others: Router,
}

impl Service<Request> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response, Infallible>>, <Router as Service<Request>>::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The others are always ready too: each waits for itself once it is called.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let started = tokio::time::Instant::now();
        let Some(pair) = bare(&request) else { return Either::Right(self.others.call(request)) };
        let response = match self.rates.bare(&request, pair) {
            Ok(response) => response,
            Err(problem) => refused(problem),
        };
        self.rates.meter.count(response.status(), started.elapsed());
        Either::Left(ready(Ok(response)))
    }
}

/// The pair of `GET /rate/:from/:to`. A symbol has no character that would be escaped.
fn bare(request: &Request) -> Option<(&str, &str)> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let (from, to) = request.uri().path().strip_prefix("/rate/")?.split_once('/')?;
    (!from.is_empty() && !to.is_empty() && !to.contains('/')).then_some((from, to))
}

/// A refusal is never kept by a cache on the way.
fn refused(problem: Problem) -> Response {
    let mut response = problem.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// Lets requests through that have turns left. Any page on any site may read what comes of it, refusals too.
async fn limited(State(rates): State<Arc<Rates>>, request: Request, next: Next) -> Response {
    let mut response = match rates.admit(&request, rates.app.clock.now()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// What is left of `/rate/…` behind the front: other methods, which the fallback refuses, and empty segments.
async fn nothing() -> Problem {
    Problem::nothing_here()
}

async fn full(
    State(rates): State<Arc<Rates>>,
    Segments((from, to)): Segments<(String, String)>,
) -> Result<Response, Problem> {
    let answer = rates.table().rate_named(&from, &to, rates.app.clock.now()).map_err(no_rate)?;
    Ok(([(header::CACHE_CONTROL, CACHE)], Json(view(&answer))).into_response())
}

async fn all(State(rates): State<Arc<Rates>>) -> Result<Response, Problem> {
    let now = rates.app.clock.now();
    let known = rates.all.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let fresh = known.filter(|(made, _)| *made <= now && now.since(*made) < ALL_HOLDS);
    let document = match fresh {
        Some((_, document)) => document,
        None => {
            let table = rates.table();
            let made = tokio::task::spawn_blocking(move || every(&table, now));
            let made = made.await.map_err(|error| {
                tracing::error!(%error, "the document of all rates could not be made");
                Problem::internal()
            })?;
            let document = Bytes::from(made?.to_string());
            *rates.all.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, document.clone()));
            document
        }
    };
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, document).into_response())
}

/// What the page is in.
#[derive(Debug, Default, Deserialize)]
struct PageQuery {
    #[serde(default, rename = "in")]
    currency: Option<String>,
}

async fn page(
    State(rates): State<Arc<Rates>>,
    query: Result<Query<PageQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let wanted = query.map(|Query(query)| query.currency.unwrap_or_default()).unwrap_or_default();
    let page = page::render(&rates.table(), &wanted, rates.app.clock.now()).map_err(|error| {
        tracing::error!(%error, "the page of rates cannot be rendered");
        Problem::internal()
    })?;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    Ok((headers, page).into_response())
}

async fn css() -> impl IntoResponse {
    let headers =
        [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "public, max-age=300")];
    (headers, include_str!("../assets/rates.css"))
}

/// Every currency in dollars with its particulars, and every pair as a bare number; refused where there is not
/// one rate but that of the dollar to itself.
fn every(table: &RateTable, now: Timestamp) -> Result<Value, Problem> {
    let particulars = table.currencies().into_iter().map(|from| {
        table.rate_named(from.as_str(), "USD", now).map_or_else(
            |error| {
                let problem = no_rate(error);
                json!({ "from": from, "to": "USD", "error": problem.reason, "message": problem.message })
            },
            |answer| view(&answer),
        )
    });
    let pairs = table.pairs(now);
    if pairs.len() < 2 {
        let message = "there is no rate at the moment";
        return Err(Problem::unavailable("RateUnavailable", message, RETRY_AFTER.secs()));
    }
    let pairs = pairs.into_iter().map(|(from, row)| {
        let row = row.into_iter().map(|(to, text)| (to.to_string(), Value::String(text)));
        (from.to_string(), Value::Object(row.collect()))
    });
    Ok(json!({
        "published_at": table.published_at(),
        "rates": particulars.collect::<Vec<_>>(),
        "pairs": pairs.collect::<Map<_, _>>(),
    }))
}

fn view(answer: &RateAnswer) -> Value {
    let legs = answer.legs.iter().map(|leg| {
        json!({
            "currency": leg.currency,
            "usd": leg.usd.normalize().to_string(),
            "confidence": format_significant(leg.confidence),
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
        "confidence": format_significant(answer.confidence),
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

/// Whether a condition of `If-None-Match` names this tag. Compared weakly, as that header is.
fn names(condition: &HeaderValue, tag: &HeaderValue) -> bool {
    let (condition, tag) = (condition.as_bytes(), tag.as_bytes());
    condition
        .split(|b| *b == b',')
        .map(<[u8]>::trim_ascii)
        .any(|one| one == b"*" || one.strip_prefix(b"W/").unwrap_or(one) == tag)
}

/// The headers of an answer.
fn describe(answer: &RateAnswer, tag: &HeaderValue) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    for (name, value) in [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, CACHE),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in [
        ("x-rate-timestamp", answer.at.secs().to_string()),
        ("x-rate-sources", answer.sources.join(",")),
        ("x-rate-confidence", format_significant(answer.confidence)),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    headers.insert(header::ETAG, tag.clone());
    headers
}

#[cfg(test)]
mod tests;
