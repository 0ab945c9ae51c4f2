//! Merchants and their settings.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tally_account::Merchant;
use tally_events::{Counts, Event, Fact, LatePolicy, MerchantSettings, Subject};
use tally_ports::Expectation;
use tally_types::{ChainId, MerchantId, Position, Span};

use super::{broken, keys, refused, wallets};
use crate::app::{App, Gateway, TRIES};
use crate::extract::{JsonBody, Segments};
use crate::problem::Problem;

/// The first merchant's id.
const FIRST_MERCHANT: u64 = 10_001;

/// The longest display name, in characters.
const NAME_MAX: usize = 200;

/// How large a merchant may grow, all keys and wallets included: what one row of a read model takes.
const MERCHANT_BYTES_MAX: usize = 60_000;

/// Settings as the admin API takes and shows them; lengths of time in seconds, decimals as texts.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SettingsBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quote_secs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_order_secs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tolerance_percent: Option<Decimal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tolerance_absolute: Option<Decimal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spread_percent: Option<Decimal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    late: Option<LatePolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reopen: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    require_hmac: Option<bool>,
    /// By chain: how many confirmations count.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    counts: BTreeMap<ChainId, Counts>,
}

impl From<&MerchantSettings> for SettingsBody {
    fn from(settings: &MerchantSettings) -> Self {
        Self {
            name: settings.name.clone(),
            quote_secs: settings.quote.map(Span::secs),
            new_order_secs: settings.new_order.map(Span::secs),
            tolerance_percent: settings.tolerance_percent,
            tolerance_absolute: settings.tolerance_absolute,
            spread_percent: settings.spread_percent,
            late: settings.late,
            reopen: settings.reopen,
            require_hmac: settings.require_hmac,
            counts: settings.counts.iter().cloned().collect(),
        }
    }
}

impl SettingsBody {
    fn settings(self, app: &Gateway) -> Result<MerchantSettings, Problem> {
        if let Some(name) = &self.name
            && (name.chars().count() > NAME_MAX || name.chars().any(char::is_control))
        {
            let fault = format!("must have at most {NAME_MAX} characters and no control characters");
            return Err(Problem::field("name", fault));
        }
        if let Some(chain) = self.counts.keys().find(|chain| app.chain(chain).is_none()) {
            return Err(Problem::field("counts", app.no_chain(chain.as_str())));
        }
        Ok(MerchantSettings {
            name: self.name,
            quote: self.quote_secs.map(Span::from_secs),
            new_order: self.new_order_secs.map(Span::from_secs),
            tolerance_percent: self.tolerance_percent,
            tolerance_absolute: self.tolerance_absolute,
            spread_percent: self.spread_percent,
            late: self.late,
            reopen: self.reopen,
            require_hmac: self.require_hmac,
            counts: self.counts.into_iter().collect(),
        })
    }
}

fn view(merchant: &Merchant) -> Value {
    json!({
        "merchant_id": merchant.id(),
        "settings": SettingsBody::from(merchant.settings()),
        "keys": merchant.keys().iter().map(keys::view).collect::<Vec<_>>(),
        "wallets": merchant.wallets().iter().map(wallets::view).collect::<Vec<_>>(),
    })
}

/// A merchant, with the position its next fact expects.
pub(super) async fn load(app: &Gateway, id: MerchantId) -> Result<(Merchant, Position), Problem> {
    let position = app.caught_up(&Subject::merchant(id)).await?;
    let merchant = app.model.merchant(id).await.map_err(broken)?;
    let merchant = merchant.ok_or_else(|| Problem::not_found(format!("there is no merchant {id}")))?;
    Ok((merchant, position))
}

/// One fact on a merchant's subject, decided again when someone else was faster. Answers the fact, and the
/// merchant with it.
pub(super) async fn amend<F: Clone + Into<Fact>>(
    app: &Gateway,
    id: MerchantId,
    decide: impl Fn(&Merchant) -> Result<F, Problem>,
) -> Result<(F, Merchant), Problem> {
    let subject = Subject::merchant(id);
    for _ in 0..TRIES {
        let (merchant, position) = load(app, id).await?;
        let fact = decide(&merchant)?;
        check_size(&merchant, &fact.clone().into())?;
        let event = Event::new(subject.clone(), fact.clone(), app.clock.now());
        let expectations = vec![Expectation::new(subject.clone(), position)];
        if let Some(positions) = app.append(expectations, vec![event]).await? {
            app.settle(&positions).await?;
            return Ok((fact, load(app, id).await?.0));
        }
    }
    Err(Problem::behind())
}

/// Refuses a fact that would make a merchant larger than a read model can hold.
pub(super) fn check_size(merchant: &Merchant, fact: &Fact) -> Result<(), Problem> {
    let mut grown = merchant.clone();
    grown.apply(fact);
    match serde_json::to_vec(&grown) {
        Ok(bytes) if bytes.len() <= MERCHANT_BYTES_MAX => Ok(()),
        Ok(_) => Err(Problem::invalid("this merchant has as many keys and wallets as one can have")),
        Err(_) => Err(Problem::internal()),
    }
}

pub(super) async fn create(
    State(app): State<App>,
    JsonBody(body): JsonBody<SettingsBody>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let settings = body.settings(&app)?;
    app.caught_up_with_all().await?;
    let known = app.model.merchants().await.map_err(broken)?;
    let next = known.iter().map(|merchant| merchant.id().get() + 1).max().unwrap_or(FIRST_MERCHANT);
    for id in (next..).take(TRIES).map(MerchantId::new) {
        let created = Merchant::create(id, settings.clone()).map_err(refused)?;
        let subject = Subject::merchant(id);
        let event = Event::new(subject.clone(), created, app.clock.now());
        if let Some(positions) = app.append(vec![Expectation::none(subject)], vec![event]).await? {
            app.settle(&positions).await?;
            let (merchant, _) = load(&app, id).await?;
            return Ok((StatusCode::CREATED, Json(view(&merchant))));
        }
    }
    Err(Problem::behind())
}

pub(super) async fn list(State(app): State<App>) -> Result<Json<Value>, Problem> {
    app.caught_up_with_all().await?;
    let merchants = app.model.merchants().await.map_err(broken)?;
    Ok(Json(json!({ "merchants": merchants.iter().map(view).collect::<Vec<_>>() })))
}

pub(super) async fn show(
    State(app): State<App>,
    Segments(id): Segments<MerchantId>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(view(&load(&app, id).await?.0)))
}

pub(super) async fn change(
    State(app): State<App>,
    Segments(id): Segments<MerchantId>,
    JsonBody(body): JsonBody<SettingsBody>,
) -> Result<Json<Value>, Problem> {
    let settings = body.settings(&app)?;
    let changed = amend(&app, id, |merchant| merchant.change(settings.clone()).map_err(refused));
    Ok(Json(view(&changed.await?.1)))
}
