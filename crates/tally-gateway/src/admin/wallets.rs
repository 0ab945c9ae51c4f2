//! Wallets: extended public keys that addresses come from.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tally_account::{Refusal, Wallet};
use tally_address::{ExtendedKey, ScriptKind};
use tally_events::{Event, KeyRegistered, Subject};
use tally_ports::Expectation;
use tally_types::{ChainId, MerchantId, WalletId};

use super::merchants::{load, settle};
use super::{broken, refused};
use crate::app::{App, ChainInfo, Gateway, TRIES};
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
fn derive(key: &ExtendedKey, from: u32, count: u32) -> Result<Vec<Value>, Problem> {
    let mut addresses = Vec::new();
    for index in (from..).take(count as usize) {
        let derived = key.derive(index).map_err(|error| Problem::field("from", error))?;
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

pub(super) async fn add(
    State(app): State<App>,
    Path(id): Path<MerchantId>,
    Json(body): Json<WalletBody>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let chain = app.chain(&body.chain).ok_or_else(|| {
        let known: Vec<_> = app.chains.iter().map(|chain| chain.id.as_str()).collect();
        Problem::field("chain", format!("no chain {}; configured are: {}", body.chain, known.join(", ")))
    })?;
    let key = parse_key(chain, &body)?;
    let first = derive(&key, body.start_index, SHOWN)?;
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
    let added = merchant.add_wallet(wallet.clone()).map_err(refused)?;
    let subject = Subject::merchant(id);
    let registered = KeyRegistered { fingerprint, merchant: id, next_index: start_index };
    let batch =
        vec![Event::new(subject.clone(), added, now), Event::new(key_subject.clone(), registered, now)];
    let expectations = vec![Expectation::new(subject, position), Expectation::new(key_subject, key_position)];
    let Some(positions) = app.append(expectations, batch).await? else { return Ok(None) };
    settle(app, &positions).await?;
    Ok(Some(wallet))
}

pub(super) async fn list(State(app): State<App>, Path(id): Path<MerchantId>) -> Result<Json<Value>, Problem> {
    let (merchant, _) = load(&app, id).await?;
    Ok(Json(json!({ "wallets": merchant.wallets().iter().map(view).collect::<Vec<_>>() })))
}

pub(super) async fn addresses(
    State(app): State<App>,
    Path((id, wallet)): Path<(MerchantId, WalletId)>,
    Query(range): Query<Range>,
) -> Result<Json<Value>, Problem> {
    let (merchant, _) = load(&app, id).await?;
    let wallet = merchant.wallets().iter().find(|known| known.id == wallet);
    let wallet = wallet.ok_or_else(|| Problem::not_found(format!("merchant {id} has no such wallet")))?;
    let key = wallet_key(&app, wallet)?;
    let counter = app.model.key_counter(&wallet.fingerprint).await.map_err(broken)?;
    let next = counter.map_or(0, |counter| counter.next_index());
    let count = range.count.unwrap_or(20).min(LIST_MAX);
    Ok(Json(json!({
        "wallet": wallet.id,
        "chain": wallet.chain,
        "next_index": next,
        "descriptor": key.descriptor(),
        "addresses": derive(&key, range.from, count)?,
    })))
}

/// A wallet's key, ready to derive.
pub(crate) fn wallet_key(app: &Gateway, wallet: &Wallet) -> Result<ExtendedKey, Problem> {
    let chain = app.chain(&wallet.chain).ok_or_else(|| {
        let message = format!("the chain {} of this wallet is not configured here", wallet.chain);
        Problem::unavailable("ChainUnavailable", message, 60)
    })?;
    let kind = wallet.script_kind.parse::<ScriptKind>().ok();
    ExtendedKey::parse(&wallet.public_key, chain.params, kind).map_err(|error| {
        tracing::error!(wallet = %wallet.id, %error, "a stored wallet key cannot be read");
        Problem::internal()
    })
}
