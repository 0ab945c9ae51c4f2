//! `tally rescan`: a range of blocks is matched again, by all watchers of the chain.
//!
//! A running instance is asked over its admin listener; where none runs, the request goes into the log and watchers
//! do it when they start. Not here: the work (`tally-watcher`).

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tally_ports::{Clock, EventLog, PortError, ReadModel};
use tally_types::{ChainId, Height};
use tally_watcher::{request_rescan, rescan_progress};

use crate::admin_client::{Call, readable, remote};
use crate::cli::{Common, RescanArgs};
use crate::compose::{Keys, Offline};
use crate::config::Config;

/// How often a running rescan is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(300);

/// What the routes need of a running instance.
pub(crate) struct Rescans {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) model: Arc<dyn ReadModel>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chains: Vec<ChainId>,
    pub(crate) token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    from: u64,
    #[serde(default)]
    to: Option<u64>,
}

/// The routes below `/v1/admin`.
pub(crate) fn routes(rescans: Arc<Rescans>) -> Router {
    Router::new()
        .route("/v1/admin/chains/{chain}/rescans", post(create))
        .route("/v1/admin/chains/{chain}/rescans/{rescan}", get(show))
        .route_layer(middleware::from_fn_with_state(rescans.clone(), authorize))
        .with_state(rescans)
}

async fn authorize(State(rescans): State<Arc<Rescans>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer "));
    let good = match (&rescans.token, given) {
        (Some(token), Some(given)) if !token.is_empty() => {
            tally_sign::verify_key(given, &tally_sign::hash_key(token))
        }
        _ => false,
    };
    if good {
        return next.run(request).await;
    }
    let message = "send the admin token as `Authorization: Bearer …`";
    let bearer = [(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
    (StatusCode::UNAUTHORIZED, bearer, problem("BadCredentials", message)).into_response()
}

fn problem(reason: &str, message: &str) -> Json<Value> {
    Json(json!({ "reason": reason, "message": message }))
}

fn refused(error: &PortError) -> Response {
    let status =
        if error.is_transient() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::UNPROCESSABLE_ENTITY };
    (status, problem("Refused", &error.to_string())).into_response()
}

async fn create(
    State(rescans): State<Arc<Rescans>>,
    Path(chain): Path<ChainId>,
    Json(wanted): Json<Wanted>,
) -> Response {
    match rescans.request(&chain, &wanted).await {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => refused(&error),
    }
}

async fn show(State(rescans): State<Arc<Rescans>>, Path((chain, rescan)): Path<(ChainId, u32)>) -> Response {
    match rescan_progress(&*rescans.log, &chain, rescan).await {
        Ok(Some(open)) => Json(json!({
            "chain": chain, "rescan": rescan, "state": "running", "from": open.from, "to": open.to,
            "parts": open.parts, "parts_done": open.done,
        }))
        .into_response(),
        Ok(None) => Json(json!({ "chain": chain, "rescan": rescan, "state": "done" })).into_response(),
        Err(error) => refused(&error),
    }
}

impl Rescans {
    async fn request(&self, chain: &ChainId, wanted: &Wanted) -> Result<Value, PortError> {
        if !self.chains.contains(chain) {
            return Err(PortError::persistent(format!("no chain {chain} is configured")));
        }
        let tip = self.model.chain(chain).await?.map(|view| view.tip.height);
        let Some(tip) = tip else {
            return Err(PortError::persistent(format!("chain {chain} was never watched: nothing to rescan")));
        };
        let to = wanted.to.map_or(tip, Height::new);
        let from = Height::new(wanted.from);
        let rescan = request_rescan(&*self.log, chain, from, to, self.clock.now()).await?;
        Ok(json!({ "chain": chain, "rescan": rescan, "state": "requested", "from": from, "to": to }))
    }
}

/// Asks for a rescan and, where an instance runs, waits until it is done.
pub(crate) async fn run(args: &RescanArgs, common: &Common) -> anyhow::Result<()> {
    let config = Config::load(&common.config)?;
    config.chain(&args.chain)?;
    if args.to.is_some_and(|to| to < args.from) {
        bail!("--to {} lies before --from {}", args.to.unwrap_or_default(), args.from);
    }
    let path = format!("/v1/admin/chains/{}/rescans", args.chain);
    let call = Call::new(Method::POST, path.clone(), Some(json!({ "from": args.from, "to": args.to })));
    let Some(mut answer) = remote(&config, &call).await? else {
        let answer = stopped(&config, args).await?;
        say(common, &answer);
        return Ok(());
    };
    if !args.detach {
        let rescan = answer.get("rescan").and_then(Value::as_u64).context("the instance names no rescan")?;
        let call = Call::new(Method::GET, format!("{path}/{rescan}"), None);
        while answer.get("state").and_then(Value::as_str) != Some("done") {
            tokio::time::sleep(ASK_EVERY).await;
            let now = remote(&config, &call).await?;
            answer = now.context("the running instance has ended; the rescan goes on when it is started")?;
        }
    }
    say(common, &answer);
    Ok(())
}

fn say(common: &Common, answer: &Value) {
    if common.json {
        println!("{answer}");
    } else {
        print!("{}", readable(answer));
    }
}

/// Into the log of an installation that does not run.
async fn stopped(config: &Config, args: &RescanArgs) -> anyhow::Result<Value> {
    let offline = Offline::open(config, Keys::Open).await?;
    let rescans = Rescans {
        log: offline.log(),
        model: offline.model.clone(),
        clock: Arc::new(crate::clock::WallClock::default()),
        chains: vec![args.chain.clone()],
        token: None,
    };
    let answer = rescans.request(&args.chain, &Wanted { from: args.from, to: args.to }).await;
    drop(rescans);
    offline.close().await;
    Ok(answer?)
}
