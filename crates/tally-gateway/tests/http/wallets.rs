//! Wallets: public keys only, each of one merchant, and their addresses.

use serde_json::{Value, json};

use crate::world::{BTC_KEY, ETH_KEY, World};

/// The account key that BIP 84 prints for its test phrase, and the private one beside it.
const ZPUB: &str = "zpub6rFR7y4Q2AijBEqTUquhVz398htDFrtymD9xYYfG1m4wAcvPhXNfE3EfH1r1ADqtfSdVCToUG868RvUUkgDKf31mGDtKsAYz2oz2AGutZYs";
const ZPRV: &str = "zprvAdG4iTXWBoARxkkzNpNh8r6Qag3irQB8PzEMkAFeTRXxHpbF9z4QgEvBRmfvqWvGp42t42nvgGpNgYSJA9iefm1yYNZKEm7z6qUWCroSQnE";
const PHRASE: &str =
    "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";

#[tokio::test]
async fn a_private_key_is_refused_and_not_repeated_wherever_it_stands() {
    let world = World::new().await;
    let path = format!("/v1/admin/merchants/{}/wallets", world.merchant);
    for secret in [ZPRV, PHRASE] {
        for (name, body) in [
            ("as the key", json!({ "chain": "btc", "public_key": secret })),
            ("as the chain", json!({ "chain": secret, "public_key": BTC_KEY })),
            ("as the type", json!({ "chain": "btc", "public_key": BTC_KEY, "type": secret })),
            ("as the index", json!({ "chain": "btc", "public_key": BTC_KEY, "start_index": secret })),
            ("as a field's name", json!({ "chain": "btc", secret: "x" })),
            ("in a list", json!({ "chain": "btc", "public_key": [secret] })),
        ] {
            let answer = world.admin("POST", &path, body).await;
            let message = answer.refused(422, "OrderIsNotValid");
            assert!(message.starts_with("public_key: this is a private key"), "{name}: {message}");
            assert!(!answer.text.contains(&secret[..8]), "{name}: {}", answer.text);
        }
    }
    assert_eq!(world.count("merchant.wallet_added"), 4);
}

#[tokio::test]
async fn keys_that_do_not_fit_are_refused() {
    let world = World::new().await;
    let (other, _) = world.shop(json!({})).await;
    let path = format!("/v1/admin/merchants/{other}/wallets");
    for (name, body, needle) in [
        ("of another network", json!({ "chain": "btc", "public_key": ZPUB }), "public_key: "),
        (
            "of no chain here",
            json!({ "chain": "doge", "public_key": BTC_KEY }),
            "chain: no chain \"doge\"; configured are: btc, ltc, bch, eth",
        ),
        ("nonsense", json!({ "chain": "btc", "public_key": "hello" }), "public_key: "),
        ("without a type", json!({ "chain": "btc", "public_key": BTC_KEY }), "public_key: "),
        ("of an unknown type", json!({ "chain": "btc", "public_key": BTC_KEY, "type": "p2sh" }), "type: "),
        (
            "without SegWit",
            json!({ "chain": "bch", "public_key": BTC_KEY, "type": "p2wpkh" }),
            "public_key: ",
        ),
        (
            "another merchant's",
            json!({ "chain": "btc", "public_key": BTC_KEY, "type": "p2wpkh" }),
            "in use by another merchant",
        ),
        (
            "another merchant's on another chain",
            json!({ "chain": "ltc", "public_key": BTC_KEY, "type": "p2wpkh" }),
            "in use by another merchant",
        ),
        (
            "another merchant's for ether",
            json!({ "chain": "eth", "public_key": ETH_KEY }),
            "in use by another merchant",
        ),
        (
            "no index",
            json!({ "chain": "btc", "public_key": BTC_KEY, "type": "p2wpkh", "start_index": 2_147_483_648_u32 }),
            "start_index: ",
        ),
        ("a field too many", json!({ "chain": "btc", "public_key": BTC_KEY, "type": "p2wpkh", "x": 1 }), "x"),
        ("no key", json!({ "chain": "btc" }), "public_key"),
    ] {
        let message = world.admin("POST", &path, body).await.refused(422, "OrderIsNotValid");
        assert!(message.contains(needle), "{name}: {message}");
    }
    let own = format!("/v1/admin/merchants/{}/wallets", world.merchant);
    let twice = json!({ "chain": "btc", "type": "p2wpkh", "public_key": BTC_KEY });
    let message = world.admin("POST", &own, twice).await.refused(422, "OrderIsNotValid");
    assert!(message.contains("already a wallet"), "{message}");
    let nobody = "/v1/admin/merchants/10999/wallets";
    let body = json!({ "chain": "btc", "type": "p2wpkh", "public_key": BTC_KEY });
    world.admin("POST", nobody, body).await.refused(404, "RecordNotFound");
}

#[tokio::test]
async fn one_key_on_two_chains_has_one_counter() {
    let world = World::new().await;
    let path = format!("/v1/admin/merchants/{}/wallets", world.merchant);
    // The BTC key on LTC too: from now on the one added last takes LTC.
    let body = json!({ "chain": "ltc", "type": "p2wpkh", "public_key": BTC_KEY, "start_index": 7 });
    let added = world.admin("POST", &path, body).await;
    assert_eq!((added.status, &added.json()["first_addresses"][0]["index"]), (201, &json!(7)));
    let id = world.create("E1").await;
    for currency in ["BTC", "LTC"] {
        assert_eq!(world.checkout(&id, currency).await.status, 200);
    }
    let order = world.order(&id).await;
    let indexes: Vec<u32> = order.quotes().iter().map(|quote| quote.terms().index).collect();
    assert_eq!(indexes, [7, 8]);
}

#[tokio::test]
async fn addresses_can_be_looked_up() {
    let world = World::new().await;
    let wallets = format!("/v1/admin/merchants/{}/wallets", world.merchant);
    let list = world.admin("GET", &wallets, Value::Null).await.json();
    assert_eq!(list["wallets"].as_array().unwrap().len(), 4);
    assert_eq!(list["wallets"][3]["currencies"], json!(["ETH", "USDT"]));
    let id = world.create("E1").await;
    let given = world.checkout(&id, "BTC").await.text_of("payment_address");
    let path = format!("{wallets}/1/addresses");
    let shown = world.admin("GET", &format!("{path}?count=2"), Value::Null).await.json();
    assert_eq!((&shown["next_index"], shown["addresses"].as_array().unwrap().len()), (&json!(1), 2));
    assert_eq!(shown["addresses"][0]["addresses"][0], json!(given));
    assert!(shown["descriptor"].as_str().unwrap().starts_with("wpkh("));
    let last = world.admin("GET", &format!("{path}?from=2147483647&count=1"), Value::Null).await;
    assert_eq!(last.status, 200);
    for (name, query) in [
        ("past the end", "from=2147483647&count=2"),
        ("far past the end", "from=4294967295&count=2"),
        ("no number", "from=x"),
        ("negative", "count=-1"),
        ("an unknown one", "until=7"),
    ] {
        let answer = world.admin("GET", &format!("{path}?{query}"), Value::Null).await;
        assert!(!answer.refused(422, "OrderIsNotValid").is_empty(), "{name}");
    }
    let bounded = world.admin("GET", &format!("{path}?count=4000000000"), Value::Null).await.json();
    assert_eq!(bounded["addresses"].as_array().unwrap().len(), 1_000);
    world.admin("GET", &format!("{wallets}/9/addresses"), Value::Null).await.refused(404, "RecordNotFound");
}
