//! Who may ask: signatures, missing and wrong credentials, and keys that come and go.

use std::time::Duration;

use serde_json::{Value, json};
use tally_account::PolicyDefaults;
use tally_events::{ApiKeyCreated, Event, KeySecret, Subject};
use tally_ports::Clock;
use tally_sign::{MasterKey, Secret, SignType};
use tally_types::{Face, MerchantId};

use crate::world::{FORM, Fields, World, ask_post};

#[tokio::test]
async fn what_is_wrong_with_credentials_reads_the_same() {
    let world = World::new().await;
    let good = Fields::order("E1").signed(world.merchant, &world.key);
    let message = world.send("/order/create", &good.clone().without("merchant_id")).await;
    message.refused(400, "CredentialsMissing");
    let empty = good.clone().set("merchant_id", "");
    world.send("/order/create", &empty).await.refused(400, "CredentialsMissing");

    let mut texts = Vec::new();
    for (name, fields) in [
        ("no sign", good.clone().without("sign")),
        ("an empty sign", good.clone().set("sign", "")),
        ("a wrong sign", good.clone().set("sign", "00000000000000000000000000000000")),
        ("the sign in lower case", good.clone().set("sign", &good.0.last().unwrap().1.to_lowercase())),
        ("another amount", good.clone().set("price_amount", "1")),
        ("an unknown merchant", good.clone().set("merchant_id", "10999")),
        ("a merchant that is none", good.clone().set("merchant_id", "shop")),
        ("a merchant beyond all", good.clone().set("merchant_id", "99999999999999999999999")),
        ("another key", Fields::order("E1").signed(world.merchant, "00112233445566778899aabbccddeeff")),
        ("another way to sign", good.clone().set("sign_type", "SHA1")),
        ("HMAC said, MD5 made", good.clone().set("sign_type", "HMAC-SHA256")),
    ] {
        for path in ["/order/create", "/order/checkout", "/order/query"] {
            let answer = world.send(path, &fields).await;
            assert!(!answer.refused(401, "BadCredentials").is_empty(), "{name}");
            texts.push(answer.text);
        }
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert_eq!(world.count("order.created"), 0);
}

#[tokio::test]
async fn hmac_is_taken_and_can_be_demanded() {
    let world = World::with(PolicyDefaults::default(), json!({ "require_hmac": true })).await;
    let fields = Fields::order("E1").set("merchant_id", &world.merchant.to_string());
    world
        .send("/order/create", &fields.clone().sign(&world.key, SignType::Md5))
        .await
        .refused(401, "BadCredentials");
    let hmac = fields.set("sign_type", "HMAC-SHA256").sign(&world.key, SignType::HmacSha256);
    assert_eq!(world.send("/order/create", &hmac).await.status, 200);
    // Not demanded, both are taken.
    let path = format!("/v1/admin/merchants/{}", world.merchant);
    assert_eq!(world.admin("PATCH", &path, json!({ "require_hmac": false })).await.status, 200);
    assert_eq!(world.call("/order/create", Fields::order("E2")).await.status, 200);
    assert_eq!(world.send("/order/create", &hmac).await.status, 200);
}

#[tokio::test]
async fn one_client_trims_ampersands_off_the_end() {
    let world = World::new().await;
    // `title` is the last key in sort order here.
    let fields = Fields::order("E1").set("merchant_id", &world.merchant.to_string()).set("title", "tea&&");
    let trimmed = fields.clone().set("title", "tea").sign(&world.key, SignType::Md5);
    let sign = trimmed.0.last().unwrap().1.clone();
    assert_eq!(world.send("/order/create", &fields.set("sign", &sign)).await.status, 200);
}

#[tokio::test]
async fn a_revoked_key_opens_nothing_at_once_and_another_still_does() {
    let world = World::new().await;
    let other = world.side(2).await;
    let second = world.new_key(world.merchant).await;
    let create = |own_id: &str, key: &str| Fields::order(own_id).signed(world.merchant, key).form();
    let path = "/order/create";
    // A key made a moment ago elsewhere is known here at once.
    assert_eq!(ask_post(&other.public, path, FORM, create("E1", &second)).await.status, 200);
    let revoke = format!("/v1/admin/merchants/{}/keys/1", world.merchant);
    assert_eq!(world.admin("DELETE", &revoke, Value::Null).await.status, 200);
    world.post(path, FORM, create("E2", &world.key)).await.refused(401, "BadCredentials");
    assert_eq!(world.post(path, FORM, create("E2", &second)).await.status, 200);
    // On another instance a revocation counts within 100 ms.
    tokio::time::sleep(Duration::from_millis(110)).await;
    ask_post(&other.public, path, FORM, create("E3", &world.key)).await.refused(401, "BadCredentials");
    // What was revoked cannot be revoked again.
    world.admin("DELETE", &revoke, Value::Null).await.refused(404, "RecordNotFound");
}

#[tokio::test]
async fn keys_of_the_other_face_do_not_sign() {
    let world = World::new().await;
    let path = format!("/v1/admin/merchants/{}/keys", world.merchant);
    let made = world.admin("POST", &path, json!({ "face": "payscrypt" })).await;
    let key = made.text_of("api_key");
    let fields = Fields::order("E1").signed(world.merchant, &key);
    world.send("/order/create", &fields).await.refused(401, "BadCredentials");
}

#[tokio::test]
async fn no_key_is_made_under_another_master_key_than_those_before() {
    let world = World::new().await;
    // A key that another instance made, with a master key of its own.
    let sealed = tally_sign::seal(
        &MasterKey::from_bytes([8; 32]),
        &format!("deepay-key/{}/2", world.merchant),
        [9; 24],
        &Secret::new("192006250b4c09247ec02edce69f6a2d"),
    );
    let merchant = MerchantId::new(world.merchant);
    let secret = KeySecret::Sealed(sealed.unwrap());
    let created = ApiKeyCreated { merchant, key: 2, face: Face::Deepay, secret, hint: "6a2d".into() };
    world.log.seed(vec![Event::new(Subject::merchant(merchant), created, world.clock.now())]);
    let path = format!("/v1/admin/merchants/{}/keys", world.merchant);
    let said = world.admin("POST", &path, json!({ "face": "deepay" })).await;
    let said = said.refused(500, "InternalServerError");
    assert!(said.contains("key 2 of merchant 10001") && said.contains("secrets.master"), "{said}");
    assert_eq!(world.admin("DELETE", &format!("{path}/2"), Value::Null).await.status, 200);
    assert_eq!(world.admin("POST", &path, json!({ "face": "deepay" })).await.status, 201);
}
