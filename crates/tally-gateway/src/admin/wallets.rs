//! Wallets: extended public keys that addresses come from.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tally_account::{Refusal, Wallet};
use tally_address::{AddressParams, ExtendedKey, KeyError, ScriptKind};
use tally_events::{Event, Fact, KeyRegistered, Subject};
use tally_ports::Expectation;
use tally_types::{ChainId, MerchantId, WalletId};

use super::merchants::{check_size, load};
use super::{broken, refused};
use crate::app::{App, ChainInfo, Gateway, TRIES};
use crate::extract::{JsonBody, Params, Segments};
use crate::problem::Problem;

/// How many addresses are shown to compare with one's own wallet.
const SHOWN: u32 = 3;

/// How many addresses one answer may list.
const LIST_MAX: u32 = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WalletBody {
    chain: ChainId,
    public_key: String,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    start_index: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    #[serde(default)]
    from: u32,
    #[serde(default)]
    count: Option<u32>,
}

pub(super) fn view(wallet: &Wallet) -> Value {
    json!({
        "wallet": wallet.id,
        "chain": wallet.chain,
        "currencies": wallet.currencies,
        "type": wallet.script_kind,
        "public_key": wallet.public_key,
        "fingerprint": wallet.fingerprint,
        "added_at": wallet.added_at,
    })
}

/// A key's addresses from an index on.
fn derive(key: &ExtendedKey, from: u32, count: u32) -> Result<Vec<Value>, KeyError> {
    let mut addresses = Vec::new();
    for index in (0..count).map(|step| from.saturating_add(step)) {
        let derived = key.derive(index)?;
        addresses.push(json!({ "index": index, "addresses": derived.addresses, "script": derived.script }));
    }
    Ok(addresses)
}

fn parse_key(chain: &ChainInfo, body: &WalletBody) -> Result<ExtendedKey, Problem> {
    let kind = body.kind.as_deref().map(str::parse::<ScriptKind>).transpose();
    let kind = kind.map_err(|error| Problem::field("type", error))?;
    ExtendedKey::parse(&body.public_key, chain.params, kind)
        .map_err(|error| Problem::field("public_key", error))
}

/// Refuses a body that holds a private key, wherever it stands: nothing of it may be shown or kept, not even
/// in the text of another error.
fn refuse_private(body: &Value) -> Result<(), Problem> {
    let is_private = |text: &str| {
        matches!(ExtendedKey::parse(text, AddressParams::ethereum(1), None), Err(KeyError::Private))
    };
    let found = match body {
        Value::String(text) => is_private(text),
        Value::Array(items) => return items.iter().try_for_each(refuse_private),
        Value::Object(members) => {
            members.values().try_for_each(refuse_private)?;
            members.keys().any(|name| is_private(name))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    };
    if found { Err(Problem::field("public_key", KeyError::Private)) } else { Ok(()) }
}

pub(super) async fn add(
    State(app): State<App>,
    Segments(id): Segments<MerchantId>,
    JsonBody(body): JsonBody<Value>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    refuse_private(&body)?;
    let body: WalletBody =
        serde_json::from_value(body).map_err(|error| Problem::invalid(error.to_string()))?;
    let chain = app.chain(&body.chain);
    let chain = chain.ok_or_else(|| Problem::field("chain", app.no_chain(body.chain.as_str())))?;
    let key = parse_key(chain, &body)?;
    let first = derive(&key, body.start_index, SHOWN);
    let first = first.map_err(|error| Problem::field("start_index", error))?;
    for _ in 0..TRIES {
        if let Some(wallet) = try_add(&app, id, chain, &key, body.start_index).await? {
            let mut answer = view(&wallet);
            answer["merchant_id"] = json!(id);
            answer["first_addresses"] = json!(first);
            return Ok((StatusCode::CREATED, Json(answer)));
        }
    }
    Err(Problem::behind())
}

/// One try: the wallet, and the key's registration where it is new, in one batch.
async fn try_add(
    app: &Gateway,
    id: MerchantId,
    chain: &ChainInfo,
    key: &ExtendedKey,
    start_index: u32,
) -> Result<Option<Wallet>, Problem> {
    let (merchant, position) = load(app, id).await?;
    let fingerprint = key.fingerprint();
    let key_subject = Subject::key(&fingerprint);
    let key_position = app.caught_up(&key_subject).await?;
    let counter = app.model.key_counter(&fingerprint).await.map_err(broken)?;
    if counter.as_ref().is_some_and(|counter| counter.merchant() != id) {
        return Err(refused(Refusal::KeyTaken(fingerprint)));
    }
    let now = app.clock.now();
    let last = merchant.wallets().iter().map(|wallet| wallet.id.get()).max().unwrap_or(0);
    let wallet = Wallet {
        id: WalletId::new(last + 1),
        chain: chain.id.clone(),
        currencies: chain.coins.iter().map(|coin| coin.currency.clone()).collect(),
        public_key: key.to_string(),
        script_kind: key.kind().as_str().to_owned(),
        fingerprint: fingerprint.clone(),
        added_at: now,
    };
    let added: Fact = merchant.add_wallet(wallet.clone()).map_err(refused)?.into();
    check_size(&merchant, &added)?;
    let subject = Subject::merchant(id);
    let registered = KeyRegistered { fingerprint, merchant: id, next_index: start_index };
    let batch =
        vec![Event::new(subject.clone(), added, now), Event::new(key_subject.clone(), registered, now)];
    let expectations = vec![Expectation::new(subject, position), Expectation::new(key_subject, key_position)];
    let Some(positions) = app.append(expectations, batch).await? else { return Ok(None) };
    app.settle(&positions).await?;
    Ok(Some(wallet))
}

pub(super) async fn list(
    State(app): State<App>,
    Segments(id): Segments<MerchantId>,
) -> Result<Json<Value>, Problem> {
    let (merchant, _) = load(&app, id).await?;
    Ok(Json(json!({ "wallets": merchant.wallets().iter().map(view).collect::<Vec<_>>() })))
}

pub(super) async fn addresses(
    State(app): State<App>,
    Segments((id, wallet)): Segments<(MerchantId, WalletId)>,
    Params(range): Params<Range>,
) -> Result<Json<Value>, Problem> {
    let (merchant, _) = load(&app, id).await?;
    let wallet = merchant.wallets().iter().find(|known| known.id == wallet);
    let wallet = wallet.ok_or_else(|| Problem::not_found(format!("merchant {id} has no such wallet")))?;
    let key = app.wallet_key(wallet)?;
    let counter = app.model.key_counter(&wallet.fingerprint).await.map_err(broken)?;
    let next = counter.map_or(0, |counter| counter.next_index());
    let count = range.count.unwrap_or(20).min(LIST_MAX);
    let addresses = derive(&key, range.from, count).map_err(|error| Problem::field("from", error))?;
    Ok(Json(json!({
        "wallet": wallet.id,
        "chain": wallet.chain,
        "next_index": next,
        "descriptor": key.descriptor(),
        "addresses": addresses,
    })))
}
