//! The routes under `/sandbox`: JSON in and out. Errors are `{"error", "message"}`, where `error` is a word for
//! programs and `message` names the fault.
//!
//! Not here: what the calls do (`sandbox`), and which listener shows them. What moves the clock and the rates
//! comes from outside as [`Controls`].

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use axum::{Json, Router};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tally_types::{Currency, PriceAmount, Span, Timestamp, TxId};
use tokio::task::spawn_blocking;

use crate::error::SandboxError;
use crate::node::FaultKind;
use crate::sandbox::{Pay, Sandbox};

#[cfg(test)]
mod tests;

/// The most by which one call moves the clock: ten years.
const ADVANCE_MAX: Span = Span::from_secs(10 * 365 * 86_400);

/// Moves the clock of everything on; answers the new time, or why not.
pub type Advance = Box<dyn Fn(Span) -> Result<Timestamp, String> + Send + Sync>;
/// Sets the price of a currency in USD, or says why not.
pub type SetRate = Box<dyn Fn(&Currency, Decimal) -> Result<(), String> + Send + Sync>;

/// What the routes move that is not the sandbox's own. The composition root knows how.
pub struct Controls {
    /// For `/sandbox/clock`.
    pub advance: Advance,
    /// For `/sandbox/rate`.
    pub set_rate: SetRate,
}

impl fmt::Debug for Controls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controls").finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Face {
    sandbox: Sandbox,
    controls: Arc<Controls>,
}

/// The routes `/sandbox/pay`, `mine`, `reorg`, `replace`, `clock`, `rate` and `fault`, to be merged into the
/// public router. Development only: whoever reaches them mints money.
pub fn router(sandbox: Sandbox, controls: Controls) -> Router {
    Router::new()
        .route("/sandbox/pay", only_post(post(pay)))
        .route("/sandbox/mine", only_post(post(mine)))
        .route("/sandbox/reorg", only_post(post(reorg)))
        .route("/sandbox/replace", only_post(post(replace)))
        .route("/sandbox/clock", only_post(post(clock)))
        .route("/sandbox/rate", only_post(post(rate)))
        .route("/sandbox/fault", only_post(post(fault)))
        .with_state(Face { sandbox, controls: Arc::new(controls) })
}

fn only_post(route: MethodRouter<Face>) -> MethodRouter<Face> {
    route.fallback(async || {
        let problem = Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "only POST is answered here".to_owned(),
        );
        ([(header::ALLOW, "POST")], problem)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PayBody {
    chain: String,
    address: String,
    amount: String,
    #[serde(default)]
    asset: Option<String>,
    #[serde(default)]
    mode: Option<String>,
}

async fn pay(State(face): State<Face>, body: Bytes) -> Result<Json<Value>, Problem> {
    let PayBody { chain, address, amount, asset, mode } = read(&body)?;
    let pay = Pay { chain, address, amount, asset, mode };
    let txid = blocking(move || face.sandbox.pay(&pay)).await?;
    Ok(Json(json!({ "txid": txid })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MineBody {
    chain: String,
    #[serde(default = "one")]
    blocks: u64,
}

const fn one() -> u64 {
    1
}

async fn mine(State(face): State<Face>, body: Bytes) -> Result<Json<Value>, Problem> {
    let MineBody { chain, blocks } = read(&body)?;
    let tip = blocking(move || face.sandbox.mine(&chain, blocks)).await?;
    Ok(Json(json!({ "height": tip.height, "hash": tip.hash })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReorgBody {
    chain: String,
    depth: u64,
    #[serde(default)]
    drop: Vec<TxId>,
}

async fn reorg(State(face): State<Face>, body: Bytes) -> Result<Json<Value>, Problem> {
    let ReorgBody { chain, depth, drop } = read(&body)?;
    let done = blocking(move || face.sandbox.reorg(&chain, depth, &drop)).await?;
    Ok(Json(json!(done)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplaceBody {
    chain: String,
    txid: TxId,
}

async fn replace(State(face): State<Face>, body: Bytes) -> Result<Json<Value>, Problem> {
    let ReplaceBody { chain, txid } = read(&body)?;
    let txid = blocking(move || face.sandbox.replace(&chain, &txid)).await?;
    Ok(Json(json!({ "txid": txid })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockBody {
    advance: String,
}

async fn clock(State(face): State<Face>, body: Bytes) -> Result<Json<Value>, Problem> {
    let ClockBody { advance } = read(&body)?;
    let span = read_span(&advance).ok_or_else(|| {
        let shown: String = advance.chars().take(40).collect();
        let message = format!("advance: {shown:?} is not a length of time such as 15s, 20m, 24h or 7d");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_span", message)
    })?;
    let now = (face.controls.advance)(span).map_err(SandboxError::Refused)?;
    Ok(Json(json!({ "now": now })))
}

async fn rate(State(face): State<Face>, body: Bytes) -> Result<Json<Value>, Problem> {
    let bad = |message| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_rate", message);
    let named: BTreeMap<String, String> = read(&body)?;
    let mut rates = Vec::new();
    for (currency, price) in &named {
        let currency: Currency = currency.parse().map_err(|error| bad(describe(&error)))?;
        let price: PriceAmount =
            price.parse().map_err(|error| bad(format!("{currency}: {}", describe(&error))))?;
        rates.push((currency, price));
    }
    if rates.is_empty() {
        return Err(bad("no rate is named".to_owned()));
    }
    for (currency, price) in &rates {
        (face.controls.set_rate)(currency, price.decimal()).map_err(SandboxError::Refused)?;
    }
    Ok(Json(json!(rates.into_iter().collect::<BTreeMap<_, _>>())))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultBody {
    chain: String,
    kind: String,
    on: bool,
}

async fn fault(State(face): State<Face>, body: Bytes) -> Result<Json<Value>, Problem> {
    let FaultBody { chain, kind, on } = read(&body)?;
    let kind: FaultKind = kind
        .parse()
        .map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown_fault", describe(&error)))?;
    face.sandbox.set_fault(&chain, kind, on)?;
    Ok(Json(json!({ "chain": chain, "kind": kind.as_str(), "on": on })))
}

/// Runs what may mine off the async threads.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, SandboxError> + Send + 'static,
) -> Result<T, Problem> {
    match spawn_blocking(act).await {
        Ok(result) => Ok(result?),
        Err(error) => {
            let message = error.to_string();
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message))
        }
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad_request", format!("body: {error}")))
}

/// A whole number with a unit, up to [`ADVANCE_MAX`].
fn read_span(text: &str) -> Option<Span> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let span = Span::from_millis(number.parse::<u64>().ok()?.checked_mul(millis)?);
    (Span::default() < span && span <= ADVANCE_MAX).then_some(span)
}

/// An error with its causes, in one line.
fn describe(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    message
}

/// What is answered to a call that was not done.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    error: &'static str,
    message: String,
}

impl Problem {
    fn new(status: StatusCode, error: &'static str, message: String) -> Self {
        Self { status, error, message }
    }
}

impl From<SandboxError> for Problem {
    fn from(error: SandboxError) -> Self {
        let status = match &error {
            SandboxError::UnknownChain { .. } | SandboxError::UnknownTransaction { .. } => {
                StatusCode::NOT_FOUND
            }
            SandboxError::NotReplaceable { .. }
            | SandboxError::FaucetEmpty { .. }
            | SandboxError::NoTokenOrigin
            | SandboxError::HeaderTime(_) => StatusCode::CONFLICT,
            SandboxError::UnknownAsset { .. }
            | SandboxError::Mode { .. }
            | SandboxError::Address(_)
            | SandboxError::Amount(_)
            | SandboxError::Blocks { .. }
            | SandboxError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            SandboxError::DuplicateChain(_)
            | SandboxError::Token { .. }
            | SandboxError::Journal { .. }
            | SandboxError::Replay(_)
            | SandboxError::Listen(_)
            | SandboxError::Bootstrap(_)
            | SandboxError::NoNonce(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.code(), describe(&error))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.error, "message": self.message }))).into_response()
    }
}
