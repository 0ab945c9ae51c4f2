use super::*;
use crate::testing::settings;

fn facts_of(json: &str) -> Result<ChainFacts, PortError> {
    facts(&settings(json))
}

#[test]
fn chains_of_the_bitcoin_family_count_in_satoshi() {
    for (coin, symbol) in [("btc", "BTC"), ("ltc", "LTC"), ("bch", "BCH")] {
        let found =
            facts_of(&format!(r#"{{"id": "x", "kind": "bitcoin", "coin": "{coin}", "network": "mainnet"}}"#))
                .unwrap();
        let native = &found.native;
        assert_eq!((native.currency.as_str(), native.decimals), (symbol, 8));
        assert_eq!((native.payable_unit.units(), native.dust.units()), (1, 1_000));
        assert_eq!((found.has_mempool, found.confirmed, found.complete), (true, 1, 6));
        assert!(found.tokens.is_empty());
    }
}

#[test]
fn chains_of_the_ethereum_family_have_tokens() {
    let contract = "0x5fbdb2315678afecb367f032d93f642f64180aa3";
    let found = facts_of(&format!(
        r#"{{"id": "eth", "kind": "ethereum", "chain_id": 1, "tokens": [
            {{"symbol": "USDT", "contract": "{contract}", "decimals": 6}},
            {{"symbol": "DAI", "contract": "0x1111111111111111111111111111111111111111", "decimals": 18}}]}}"#
    ))
    .unwrap();
    assert!(!found.has_mempool);
    let told: Vec<_> = found
        .currencies()
        .map(|one| (one.currency.as_str(), one.decimals, one.payable_unit.units()))
        .collect();
    assert_eq!(told, [("ETH", 18, 10_u128.pow(10)), ("USDT", 6, 1), ("DAI", 18, 10_u128.pow(12))]);
    let usdt = found.currency(&"USDT".parse().unwrap()).unwrap();
    assert_eq!(usdt.contract.as_ref().map(|script| format!("0x{script}")).as_deref(), Some(contract));
    let other = facts_of(r#"{"id": "pol", "kind": "ethereum", "coin": "pol", "chain_id": 137}"#).unwrap();
    assert_eq!(other.native.currency.as_str(), "POL");
}

#[test]
fn an_unknown_family_is_named() {
    let settings = settings(r#"{"id": "sol", "kind": "solana"}"#);
    let told = r#"chain "sol": kind = "solana" is not one of bitcoin, ethereum"#;
    assert_eq!(facts(&settings).unwrap_err().to_string(), told);
    let error = open(&settings).err().unwrap();
    assert_eq!((error.to_string().as_str(), error.is_transient()), (told, false));
}

#[test]
fn a_chain_without_nodes_is_refused() {
    let settings = settings(r#"{"id": "eth", "kind": "ethereum", "chain_id": 1}"#);
    assert_eq!(open(&settings).err().unwrap().to_string(), r#"chain "eth": rpc names no node"#);
}
