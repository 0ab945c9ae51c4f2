//! Merchants' API keys. A key's secret is in one answer, that to its making, and never in the clear again.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tally_account::{ApiKey, Merchant};
use tally_events::KeySecret;
use tally_sign::{NONCE_BYTES, Secret};
use tally_types::{Face, MerchantId};

use super::merchants::{amend, load};
use crate::app::{App, Gateway};
use crate::extract::{JsonBody, Segments};
use crate::problem::Problem;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyBody {
    face: Face,
}

pub(super) fn view(key: &ApiKey) -> Value {
    json!({ "key": key.key, "face": key.face, "hint": key.hint, "revoked": key.revoked })
}

pub(super) async fn list(
    State(app): State<App>,
    Segments(id): Segments<MerchantId>,
) -> Result<Json<Value>, Problem> {
    let (merchant, _) = load(&app, id).await?;
    Ok(Json(json!({ "keys": merchant.keys().iter().map(view).collect::<Vec<_>>() })))
}

pub(super) async fn create(
    State(app): State<App>,
    Segments(id): Segments<MerchantId>,
    JsonBody(body): JsonBody<KeyBody>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let secret = match body.face {
        Face::Deepay => tally_sign::new_deepay_key(random(&app)),
        Face::Payscrypt => tally_sign::new_key(random(&app)),
    };
    let (created, _) = amend(&app, id, |merchant| {
        let kept = keep(&app, merchant, body.face, &secret)?;
        Ok(merchant.add_key(body.face, kept, tally_sign::hint(&secret)))
    })
    .await?;
    let answer = json!({
        "merchant_id": id,
        "key": created.key,
        "face": created.face,
        "api_key": secret.expose(),
        "hint": created.hint,
    });
    Ok((StatusCode::CREATED, Json(answer)))
}

/// The secret as the log may hold it.
fn keep(app: &Gateway, merchant: &Merchant, face: Face, secret: &Secret) -> Result<KeySecret, Problem> {
    match face {
        Face::Deepay => {
            same_master(app, merchant)?;
            let nonce: [u8; NONCE_BYTES] = random(app);
            let purpose = merchant.key_purpose(face, merchant.next_key());
            let sealed = tally_sign::seal(&app.master, &purpose, nonce, secret);
            Ok(KeySecret::Sealed(sealed.map_err(|_| Problem::internal())?))
        }
        Face::Payscrypt => Ok(KeySecret::Hashed(tally_sign::hash_key(secret.expose()))),
    }
}

/// Refuses to seal under another master key than the merchant's keys were sealed under: two instances with
/// unlike ones would each make keys that the other cannot open.
fn same_master(app: &Gateway, merchant: &Merchant) -> Result<(), Problem> {
    for key in merchant.active_keys(Face::Deepay) {
        let KeySecret::Sealed(sealed) = &key.secret else { continue };
        if tally_sign::open(&app.master, &merchant.key_purpose(key.face, key.key), sealed).is_err() {
            let (key, merchant) = (key.key, merchant.id());
            return Err(Problem::misconfigured(format!(
                "key {key} of merchant {merchant} was sealed under another master key than this instance has: give \
                 every instance the same secrets.master, or take that key back first"
            )));
        }
    }
    Ok(())
}

fn random<const BYTES: usize>(app: &Gateway) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    app.entropy.fill(&mut bytes);
    bytes
}

pub(super) async fn revoke(
    State(app): State<App>,
    Segments((id, key)): Segments<(MerchantId, u32)>,
) -> Result<Json<Value>, Problem> {
    let revoked = amend(&app, id, |merchant| {
        merchant.revoke_key(key).map_err(|refusal| Problem::not_found(refusal.to_string()))
    });
    revoked.await?;
    Ok(Json(json!({ "merchant_id": id, "key": key, "revoked": true })))
}
