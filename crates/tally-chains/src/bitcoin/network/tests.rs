use tally_types::BlockHash;

use super::*;
use crate::testing::settings;

#[test]
fn hashes_are_hashes_and_no_two_networks_look_alike() {
    for (index, network) in NETWORKS.iter().enumerate() {
        assert!(network.genesis.parse::<BlockHash>().is_ok(), "{network:?}");
        assert!(network.landmarks.iter().all(|one| one.hash.parse::<BlockHash>().is_ok()), "{network:?}");
        for other in NETWORKS.iter().skip(index + 1).filter(|other| other.genesis == network.genesis) {
            let told_apart = network.landmarks.iter().any(|mark| {
                other.landmarks.iter().any(|one| (one.hash, one.ours) == (mark.hash, !mark.ours))
            });
            assert!(told_apart || network.name == "regtest", "{network:?} and {other:?}");
        }
    }
}

#[test]
fn nodes_are_known_by_what_they_call_themselves() {
    for (agent, coin) in [
        ("/Satoshi:28.1.0/", Some(Coin::Btc)),
        ("/bcoin:v1.0.2/", Some(Coin::Btc)),
        ("/LitecoinCore:0.21.2.1/", Some(Coin::Ltc)),
        ("/Bitcoin Cash Node:28.0.1(EB32.0)/", Some(Coin::Bch)),
        ("/bcash:1.1.1/", Some(Coin::Bch)),
        ("/Shibetoshi:1.14.9/", None),
        ("", None),
    ] {
        assert_eq!(Coin::of_agent(agent), coin, "{agent}");
    }
}

#[test]
fn what_is_not_known_is_named() {
    for (keys, told) in [
        (r#""network": "regtest""#, "chain \"x\": coin is missing"),
        (
            r#""coin": "doge", "network": "regtest""#,
            "chain \"x\": coin = \"doge\" is not one of btc, ltc, bch",
        ),
        (r#""coin": "btc""#, "chain \"x\": network is missing"),
        (
            r#""coin": "ltc", "network": "signet""#,
            "chain \"x\": network = \"signet\" is not one of mainnet, testnet, regtest (coin = \"ltc\")",
        ),
        (
            r#""coin": "btc", "network": "regtest", "tokens": [{"symbol": "USDT", "contract": "0x", "decimals": 6}]"#,
            "chain \"x\": token does not exist for kind = \"bitcoin\"",
        ),
    ] {
        let settings = settings(&format!(r#"{{"id": "x", "kind": "bitcoin", {keys}}}"#));
        let error = Network::of(&settings).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.is_transient()), (told, false));
    }
}
