//! Administration from the command line: over the admin API of a running instance, or, where none runs,
//! over one made for the moment from the same configuration.

use std::fmt::Write as _;

use anyhow::{Context, bail};
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use serde_json::{Map, Value, json};
use tower::ServiceExt;

use crate::cli::{
    AddressArgs, Command, Common, FaceArg, KeyCommand, Late, MerchantArgs, MerchantCommand, OrderCommand,
    WalletCommand,
};
use crate::compose::{Keys, Offline};
use crate::config::{Config, ConfigError};

/// The largest answer that is read.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// One call of the admin API.
pub(crate) struct Call {
    method: Method,
    path: String,
    body: Option<Value>,
}

impl Call {
    pub(crate) fn new(method: Method, path: String, body: Option<Value>) -> Self {
        Self { method, path, body }
    }

    fn get(path: String) -> Self {
        Self { method: Method::GET, path, body: None }
    }

    fn post(path: String, body: Value) -> Self {
        Self { method: Method::POST, path, body: Some(body) }
    }
}

/// Does an administrative command and prints its answer.
pub(crate) async fn run(command: &Command, common: &Common) -> anyhow::Result<()> {
    let Some(call) = call_for(command) else { bail!("this is not an administrative command") };
    let config = Config::load(&common.config)?;
    let answer = match remote(&config, &call).await? {
        Some(answer) => answer,
        None => local(&config, call, keys_for(command)).await?,
    };
    if common.json {
        println!("{answer}");
    } else {
        print!("{}", readable(&answer));
    }
    Ok(())
}

/// What a command says to the admin API.
fn call_for(command: &Command) -> Option<Call> {
    Some(match command {
        Command::Merchant(command) => merchant(command),
        Command::Key(command) => key(command),
        Command::Wallet(command) => wallet(command),
        Command::Order(command) => return order(command),
        _ => return None,
    })
}

fn merchant(command: &MerchantCommand) -> Call {
    match command {
        MerchantCommand::Create(args) => Call::post("/v1/admin/merchants".into(), settings(args)),
        MerchantCommand::List => Call::get("/v1/admin/merchants".into()),
        MerchantCommand::Show { merchant } => Call::get(format!("/v1/admin/merchants/{merchant}")),
        MerchantCommand::Set { merchant, settings: args } => Call {
            method: Method::PATCH,
            path: format!("/v1/admin/merchants/{merchant}"),
            body: Some(settings(args)),
        },
    }
}

fn settings(args: &MerchantArgs) -> Value {
    let late = args.late.map(|late| match late {
        Late::Hold => "hold",
        Late::Accept => "accept",
        Late::Reprice => "reprice",
    });
    let all = json!({
        "name": args.name,
        "quote_secs": args.quote.map(|span| span.secs()),
        "new_order_secs": args.new_order.map(|span| span.secs()),
        "tolerance_percent": args.tolerance_percent,
        "tolerance_absolute": args.tolerance_absolute,
        "spread_percent": args.spread_percent,
        "late": late,
        "reopen": args.reopen,
        "require_hmac": args.require_hmac,
    });
    let given = all.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    Value::Object(given.map(|(key, value)| (key.clone(), value.clone())).collect::<Map<_, _>>())
}

fn key(command: &KeyCommand) -> Call {
    match command {
        KeyCommand::Create { merchant, face } => {
            let face = match face {
                FaceArg::Deepay => "deepay",
                FaceArg::Payscrypt => "payscrypt",
            };
            Call::post(format!("/v1/admin/merchants/{merchant}/keys"), json!({ "face": face }))
        }
        KeyCommand::List { merchant } => Call::get(format!("/v1/admin/merchants/{merchant}/keys")),
        KeyCommand::Revoke { merchant, key } => Call {
            method: Method::DELETE,
            path: format!("/v1/admin/merchants/{merchant}/keys/{key}"),
            body: None,
        },
    }
}

fn wallet(command: &WalletCommand) -> Call {
    match command {
        WalletCommand::Add { merchant, chain, kind, start_index, public_key } => Call::post(
            format!("/v1/admin/merchants/{merchant}/wallets"),
            json!({ "chain": chain, "type": kind, "start_index": start_index, "public_key": public_key }),
        ),
        WalletCommand::List { merchant } => Call::get(format!("/v1/admin/merchants/{merchant}/wallets")),
        WalletCommand::Addresses(AddressArgs { merchant, wallet, from, count }) => Call::get(format!(
            "/v1/admin/merchants/{merchant}/wallets/{wallet}/addresses?from={from}&count={count}"
        )),
        WalletCommand::Export { merchant, wallet } => {
            Call::get(format!("/v1/admin/merchants/{merchant}/wallets/{wallet}/addresses?count=0"))
        }
    }
}

fn order(command: &OrderCommand) -> Option<Call> {
    Some(match command {
        // It answers a table, and has its own way there.
        OrderCommand::Export(_) => return None,
        OrderCommand::List { merchant, status, before, limit } => {
            let mut path = format!("/v1/admin/orders?limit={limit}");
            if let Some(merchant) = merchant {
                let _ = write!(path, "&merchant={merchant}");
            }
            if let Some(status) = status {
                let _ = write!(path, "&status={status}");
            }
            if let Some(before) = before {
                let _ = write!(path, "&before={before}");
            }
            Call::get(path)
        }
        OrderCommand::Show { order } => Call::get(format!("/v1/admin/orders/{order}")),
        OrderCommand::Accept { order, by } => {
            Call::post(format!("/v1/admin/orders/{order}/accept"), json!({ "by": by }))
        }
        OrderCommand::Cancel { order } => Call::post(format!("/v1/admin/orders/{order}/cancel"), json!({})),
    })
}

/// What a command does with keys where no instance runs.
fn keys_for(command: &Command) -> Keys {
    match command {
        Command::Key(KeyCommand::List { .. } | KeyCommand::Revoke { .. }) => Keys::Name,
        _ => Keys::Open,
    }
}

/// Over the network; `None` where nothing listens.
pub(crate) async fn remote(config: &Config, call: &Call) -> anyhow::Result<Option<Value>> {
    let response = ask(config, call.method.clone(), &call.path, call.body.as_ref()).await?;
    let Some(response) = response else { return Ok(None) };
    response.json().await.context("the instance's answer is not JSON").map(Some)
}

/// A request to the running instance and its answer, if that is no refusal; `None` where nothing listens, and
/// without a token: then there is none to be asked.
pub(crate) async fn ask(
    config: &Config,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<Option<reqwest::Response>> {
    let Some(named) = &config.admin.token else { return Ok(None) };
    let token = named.resolve("admin.token")?;
    let listen = config.admin.listen;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut request = client.request(method, format!("http://{listen}{path}")).bearer_auth(token);
    if let Some(body) = body {
        request = request.json(body);
    }
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_connect() => return Ok(None),
        Err(error) => return Err(error).context("the running instance could not be asked"),
    };
    let status = response.status();
    if status.is_success() {
        return Ok(Some(response));
    }
    if status == StatusCode::UNAUTHORIZED {
        let fault = format!(
            "the instance on {listen} (admin.listen) was not started with what {named:?} is here, or without any: \
             give this command the same"
        );
        return Err(ConfigError::new("admin.token", fault).into());
    }
    match response.json::<Value>().await {
        Ok(body) => checked(false, body).map(|_| None),
        Err(_) => {
            bail!("{status} from {listen} (admin.listen), which seems to be no instance of this program")
        }
    }
}

/// Why the log was to be opened, for whoever is told that it cannot be.
pub(crate) fn not_asked(config: &Config) -> String {
    let listen = config.admin.listen;
    if config.admin.token.is_some() {
        return format!("nothing listens on {listen} (admin.listen), and the log cannot be opened instead");
    }
    format!(
        "admin.token is not set, so an instance that runs here cannot be asked over {listen} (admin.listen), and \
         the log cannot be opened instead; to ask it, set token = \"env:TALLY_ADMIN_TOKEN\" under [admin] for both, \
         and start it again"
    )
}

/// Over an instance made for the moment: the same routes, without a listener.
async fn local(config: &Config, call: Call, keys: Keys) -> anyhow::Result<Value> {
    let offline = Offline::open(config, keys).await?;
    let mut request = Request::builder()
        .method(call.method)
        .uri(call.path)
        .header(header::AUTHORIZATION, format!("Bearer {}", offline.token));
    let body = match &call.body {
        Some(body) => {
            request = request.header(header::CONTENT_TYPE, "application/json");
            Body::from(body.to_string())
        }
        None => Body::empty(),
    };
    let response = offline.admin.clone().oneshot(request.body(body)?).await?;
    let status = response.status();
    let bytes = to_bytes(response.into_body(), ANSWER_MAX).await?;
    offline.close().await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::String(text));
    checked(status.is_success(), body)
}

fn checked(success: bool, body: Value) -> anyhow::Result<Value> {
    if success {
        return Ok(body);
    }
    let message = body.get("message").and_then(Value::as_str).map(str::to_owned);
    bail!("{}", message.unwrap_or_else(|| body.to_string()))
}

/// An answer for people: `key: value` lines, lists indented.
pub(crate) fn readable(value: &Value) -> String {
    let mut out = String::new();
    write_lines(&mut out, value, 0);
    out
}

fn write_lines(out: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(members) => {
            for (key, value) in members.iter().filter(|(_, value)| !value.is_null()) {
                match value {
                    Value::Object(_) | Value::Array(_) => {
                        let _ = writeln!(out, "{indent}{key}:");
                        write_lines(out, value, depth + 1);
                    }
                    _ => {
                        let _ = writeln!(out, "{indent}{key}: {}", plain(value));
                    }
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                if item.is_object() {
                    let _ = writeln!(out, "{indent}-");
                    write_lines(out, item, depth + 1);
                } else {
                    let _ = writeln!(out, "{indent}{}", plain(item));
                }
            }
        }
        _ => {
            let _ = writeln!(out, "{indent}{}", plain(value));
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
