//! Merchants and their API keys.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tally_account::{ApiKey, Merchant};
use tally_events::{Event, KeySecret, LatePolicy, MerchantSettings, Subject};
use tally_ports::Expectation;
use tally_sign::{NONCE_BYTES, Secret};
use tally_types::{Face, MerchantId, Position, Span};

use super::{broken, refused};
use crate::app::{App, Gateway, TRIES};
use crate::problem::Problem;

/// The first merchant's id.
const FIRST_MERCHANT: u64 = 10_001;

/// Settings as the admin API takes them; lengths of time in seconds.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SettingsBody {
    name: Option<String>,
    quote_secs: Option<u64>,
    new_order_secs: Option<u64>,
    tolerance_percent: Option<Decimal>,
    tolerance_absolute: Option<Decimal>,
    spread_percent: Option<Decimal>,
    late: Option<LatePolicy>,
    reopen: Option<bool>,
    require_hmac: Option<bool>,
}

impl From<SettingsBody> for MerchantSettings {
    fn from(body: SettingsBody) -> Self {
        Self {
            name: body.name,
            quote: body.quote_secs.map(Span::from_secs),
            new_order: body.new_order_secs.map(Span::from_secs),
            tolerance_percent: body.tolerance_percent,
            tolerance_absolute: body.tolerance_absolute,
            spread_percent: body.spread_percent,
            late: body.late,
            reopen: body.reopen,
            require_hmac: body.require_hmac,
            counts: Vec::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyBody {
    face: Face,
}

#[derive(Serialize)]
struct KeyView<'a> {
    key: u32,
    face: Face,
    hint: &'a str,
    revoked: bool,
}

fn key_view(key: &ApiKey) -> KeyView<'_> {
    KeyView { key: key.key, face: key.face, hint: &key.hint, revoked: key.revoked }
}

fn view(merchant: &Merchant) -> Value {
    let wallets: Vec<Value> = merchant.wallets().iter().map(super::wallets::view).collect();
    let keys: Vec<_> = merchant.keys().iter().map(key_view).collect();
    json!({
        "merchant_id": merchant.id(),
        "settings": merchant.settings(),
        "keys": keys,
        "wallets": wallets,
    })
}

/// A merchant, with the position its next fact expects.
pub(super) async fn load(app: &Gateway, id: MerchantId) -> Result<(Merchant, Position), Problem> {
    let position = app.caught_up(&Subject::merchant(id)).await?;
    let merchant = app.model.merchant(id).await.map_err(broken)?;
    let merchant = merchant.ok_or_else(|| Problem::not_found(format!("there is no merchant {id}")))?;
    Ok((merchant, position))
}

pub(super) async fn create(
    State(app): State<App>,
    Json(body): Json<SettingsBody>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let settings = MerchantSettings::from(body);
    let known = app.model.merchants().await.map_err(broken)?;
    let next = known.iter().map(|merchant| merchant.id().get() + 1).max().unwrap_or(FIRST_MERCHANT);
    for id in (next..).take(TRIES).map(MerchantId::new) {
        let created = Merchant::create(id, settings.clone()).map_err(refused)?;
        let subject = Subject::merchant(id);
        let event = Event::new(subject.clone(), created, app.clock.now());
        if let Some(positions) = app.append(vec![Expectation::none(subject)], vec![event]).await? {
            settle(&app, &positions).await?;
            let (merchant, _) = load(&app, id).await?;
            return Ok((StatusCode::CREATED, Json(view(&merchant))));
        }
    }
    Err(Problem::behind())
}

/// Waits until what was just appended is folded here.
pub(super) async fn settle(app: &Gateway, positions: &[Position]) -> Result<(), Problem> {
    match positions.last() {
        Some(position) => app.folded(*position).await,
        None => Ok(()),
    }
}

pub(super) async fn list(State(app): State<App>) -> Result<Json<Value>, Problem> {
    let merchants = app.model.merchants().await.map_err(broken)?;
    Ok(Json(json!({ "merchants": merchants.iter().map(view).collect::<Vec<_>>() })))
}

pub(super) async fn show(State(app): State<App>, Path(id): Path<MerchantId>) -> Result<Json<Value>, Problem> {
    Ok(Json(view(&load(&app, id).await?.0)))
}

pub(super) async fn change(
    State(app): State<App>,
    Path(id): Path<MerchantId>,
    Json(body): Json<SettingsBody>,
) -> Result<Json<Value>, Problem> {
    let settings = MerchantSettings::from(body);
    for _ in 0..TRIES {
        let (merchant, position) = load(&app, id).await?;
        let changed = merchant.change(settings.clone()).map_err(refused)?;
        let subject = Subject::merchant(id);
        let event = Event::new(subject.clone(), changed, app.clock.now());
        if let Some(positions) = app.append(vec![Expectation::new(subject, position)], vec![event]).await? {
            settle(&app, &positions).await?;
            return Ok(Json(view(&load(&app, id).await?.0)));
        }
    }
    Err(Problem::behind())
}

pub(super) async fn keys(State(app): State<App>, Path(id): Path<MerchantId>) -> Result<Json<Value>, Problem> {
    let (merchant, _) = load(&app, id).await?;
    Ok(Json(json!({ "keys": merchant.keys().iter().map(key_view).collect::<Vec<_>>() })))
}

/// Makes a key. The only answer that ever holds its secret.
pub(super) async fn create_key(
    State(app): State<App>,
    Path(id): Path<MerchantId>,
    Json(body): Json<KeyBody>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let secret = match body.face {
        Face::Deepay => {
            let mut random = [0; 16];
            app.entropy.fill(&mut random);
            tally_sign::new_deepay_key(random)
        }
        Face::Payscrypt => {
            let mut random = [0; 32];
            app.entropy.fill(&mut random);
            tally_sign::new_key(random)
        }
    };
    for _ in 0..TRIES {
        let (merchant, position) = load(&app, id).await?;
        let kept = keep(&app, &merchant, body.face, &secret)?;
        let created = merchant.add_key(body.face, kept, tally_sign::hint(&secret));
        let key = created.key;
        let subject = Subject::merchant(id);
        let event = Event::new(subject.clone(), created, app.clock.now());
        if let Some(positions) = app.append(vec![Expectation::new(subject, position)], vec![event]).await? {
            settle(&app, &positions).await?;
            let answer = json!({
                "merchant_id": id,
                "key": key,
                "face": body.face,
                "api_key": secret.expose(),
                "hint": tally_sign::hint(&secret),
            });
            return Ok((StatusCode::CREATED, Json(answer)));
        }
    }
    Err(Problem::behind())
}

/// The secret as the log may hold it.
fn keep(app: &Gateway, merchant: &Merchant, face: Face, secret: &Secret) -> Result<KeySecret, Problem> {
    match face {
        Face::Deepay => {
            let mut nonce = [0; NONCE_BYTES];
            app.entropy.fill(&mut nonce);
            let purpose = merchant.key_purpose(face, merchant.next_key());
            let sealed = tally_sign::seal(&app.master, &purpose, nonce, secret);
            Ok(KeySecret::Sealed(sealed.map_err(|_| Problem::internal())?))
        }
        Face::Payscrypt => Ok(KeySecret::Hashed(tally_sign::hash_key(secret.expose()))),
    }
}

pub(super) async fn revoke_key(
    State(app): State<App>,
    Path((id, key)): Path<(MerchantId, u32)>,
) -> Result<Json<Value>, Problem> {
    for _ in 0..TRIES {
        let (merchant, position) = load(&app, id).await?;
        let revoked = merchant.revoke_key(key).map_err(|refusal| Problem::not_found(refusal.to_string()))?;
        let subject = Subject::merchant(id);
        let event = Event::new(subject.clone(), revoked, app.clock.now());
        if let Some(positions) = app.append(vec![Expectation::new(subject, position)], vec![event]).await? {
            settle(&app, &positions).await?;
            return Ok(Json(json!({ "merchant_id": id, "key": key, "revoked": true })));
        }
    }
    Err(Problem::behind())
}
