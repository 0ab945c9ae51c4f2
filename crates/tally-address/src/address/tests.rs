use proptest::prelude::*;

use super::*;

fn utxo(coin: &str, network: &str) -> AddressParams {
    AddressParams::bitcoin(coin, network).unwrap()
}

fn script_of(text: &str, params: AddressParams) -> String {
    parse_address(text, params).map_or_else(|error| error.to_string(), |script| script.to_string())
}

#[test]
fn published_addresses_name_their_scripts() {
    let btc = utxo("btc", "mainnet");
    for (name, params, text, script) in [
        (
            "BIP 173 P2WPKH",
            btc,
            "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
            "0014751e76e8199196d454941c45d1b3a323f1433bd6",
        ),
        (
            "BIP 173 P2WSH",
            utxo("btc", "testnet"),
            "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7",
            "00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262",
        ),
        (
            "BIP 350 P2TR",
            btc,
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
            "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        ),
        (
            "P2PKH",
            btc,
            "1BpEi6DfDAUFd7GtittLSdBeYJvcoaVggu",
            "76a91476a04053bda0a88bda5177b86a15c3b29f55987388ac",
        ),
        ("P2SH", btc, "3CWFddi6m4ndiGyKqzYvsFYagqDLPVMTzC", "a91476a04053bda0a88bda5177b86a15c3b29f55987387"),
        (
            "LTC, the shared form",
            utxo("ltc", "mainnet"),
            "3CWFddi6m4ndiGyKqzYvsFYagqDLPVMTzC",
            "a91476a04053bda0a88bda5177b86a15c3b29f55987387",
        ),
    ] {
        assert_eq!(script_of(text, params), script, "{name}");
    }
}

#[test]
fn cashaddr_vectors_of_the_specification() {
    let main = utxo("bch", "mainnet");
    for (legacy, cash) in [
        ("1BpEi6DfDAUFd7GtittLSdBeYJvcoaVggu", "bitcoincash:qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a"),
        ("1KXrWXciRDZUpQwQmuM1DbwsKDLYAYsVLR", "bitcoincash:qr95sy3j9xwd2ap32xkykttr4cvcu7as4y0qverfuy"),
        ("16w1D5WRVKJuZUsSRzdLp9w3YGcgoxDXb", "bitcoincash:qqq3728yw0y47sqn6l2na30mcw6zm78dzqre909m2r"),
        ("3CWFddi6m4ndiGyKqzYvsFYagqDLPVMTzC", "bitcoincash:ppm2qsznhks23z7629mms6s4cwef74vcwvn0h829pq"),
        ("3LDsS579y7sruadqu11beEJoTjdFiFCdX4", "bitcoincash:pr95sy3j9xwd2ap32xkykttr4cvcu7as4yc93ky28e"),
        ("31nwvkZwyPdgzjBJZXfDmSWsC4ZLKpYyUw", "bitcoincash:pqq3728yw0y47sqn6l2na30mcw6zm78dzq5ucqzc37"),
    ] {
        let script = parse_address(legacy, main).unwrap();
        assert_eq!(address_of(&script, main).unwrap(), [cash, legacy]);
        for form in [cash, &cash[12..], &cash.to_ascii_uppercase(), &cash[12..].to_ascii_uppercase()] {
            assert_eq!(parse_address(form, main).unwrap(), script, "{form}");
        }
    }
    let test = utxo("bch", "chipnet");
    for (params, text, script) in [
        (
            main,
            "bitcoincash:qr6m7j9njldwwzlg9v7v53unlr4jkmx6eylep8ekg2",
            "76a914f5bf48b397dae70be82b3cca4793f8eb2b6cdac988ac",
        ),
        (
            test,
            "bchtest:pr6m7j9njldwwzlg9v7v53unlr4jkmx6eyvwc0uz5t",
            "a914f5bf48b397dae70be82b3cca4793f8eb2b6cdac987",
        ),
        (
            main,
            "bitcoincash:zr6m7j9njldwwzlg9v7v53unlr4jkmx6eycnjehshe",
            "76a914f5bf48b397dae70be82b3cca4793f8eb2b6cdac988ac",
        ),
        (
            test,
            "bchtest:pvch8mmxy0rtfrlarg7ucrxxfzds5pamg73h7370aa87d80gyhqxq7fqng6m6",
            "aa203173ef6623c6b48ffd1a3dcc0cc6489b0a07bb47a37f47cfef4fe69de825c06087",
        ),
    ] {
        assert_eq!(script_of(text, params), script, "{text}");
    }
}

#[test]
fn token_aware_forms_name_the_same_script() {
    let main = utxo("bch", "mainnet");
    let hash = [7_u8; 20];
    for (version, destination) in
        [(0b0001_0000, Destination::P2pkh(hash)), (0b0001_1000, Destination::P2sh(hash))]
    {
        let plain = cashaddr::encode(&destination, "bitcoincash").unwrap();
        let token = cashaddr::encode_version(version, &hash, "bitcoincash").unwrap();
        assert_eq!(&token[12..13], if version == 0b0001_0000 { "z" } else { "r" });
        assert_eq!(parse_address(&token, main).unwrap(), parse_address(&plain, main).unwrap());
    }
}

#[test]
fn eip55_vectors() {
    let eth = AddressParams::ethereum(1);
    for text in [
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0xde709f2102306220921060314715629080e2fb77",
    ] {
        let script = parse_address(text, eth).unwrap();
        assert_eq!(address_of(&script, eth).unwrap(), [text]);
        assert_eq!(parse_address(&text.to_ascii_lowercase(), eth).unwrap(), script);
        let upper = format!("0x{}", text[2..].to_ascii_uppercase());
        assert_eq!(parse_address(&upper, eth).unwrap(), script);
    }
    for bad in [
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD",
        "5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
        "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beae",
        "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaedd",
        "0x0x5aaeb6053f3e94c9b9a09f33669435e7ef1bea",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
    ] {
        assert!(parse_address(bad, eth).is_err(), "{bad}");
    }
}

#[test]
fn litecoin_has_its_own_and_the_old_script_prefix() {
    let script = Destination::P2sh([9; 20]).to_script().unwrap();
    for (network, first, old) in [("mainnet", 'M', 5_u8), ("testnet", 'Q', 196), ("regtest", 'Q', 196)] {
        let params = utxo("ltc", network);
        let forms = address_of(&script, params).unwrap();
        assert_eq!((forms.len(), forms[0].chars().next()), (1, Some(first)));
        assert_eq!(parse_address(&forms[0], params).unwrap(), script);
        let shared = base58::encode_check(&[&[old][..], &[9; 20]].concat());
        assert_eq!(parse_address(&shared, params).unwrap(), script);
    }
    let script = Destination::P2pkh([9; 20]).to_script().unwrap();
    assert!(address_of(&script, utxo("ltc", "mainnet")).unwrap()[0].starts_with('L'));
}

/// One word for what is wrong.
fn fault(text: &str, params: AddressParams) -> &'static str {
    match parse_address(text, params) {
        Ok(_) => "good",
        Err(AddressError::NotAnAddress { .. }) => "none",
        Err(AddressError::OtherNetwork { .. }) => "other",
        Err(AddressError::Checksum { .. }) => "checksum",
        Err(AddressError::MixedCase(_)) => "mixed",
        Err(AddressError::Mweb(_)) => "mweb",
        Err(AddressError::UnknownProgram { .. }) => "program",
    }
}

#[test]
fn what_is_no_address_here_is_refused_for_its_reason() {
    let (btc, ltc, bch) = (utxo("btc", "mainnet"), utxo("ltc", "mainnet"), utxo("bch", "mainnet"));
    let mweb = format!("ltcmweb1qq{}", "q".repeat(110));
    for (name, params, text, expected) in [
        (
            "bech32 where bech32m belongs",
            btc,
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd",
            "checksum",
        ),
        ("bech32m where bech32 belongs", btc, "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh", "checksum"),
        ("mixed case", btc, "bc1qW508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "mixed"),
        ("mixed case in the prefix", btc, "Bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "mixed"),
        ("one letter off", btc, "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5", "checksum"),
        ("one letter off", btc, "1BpEi6DfDAUFd7GtittLSdBeYJvcoaVggv", "checksum"),
        ("test network", btc, "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx", "other"),
        ("test network", btc, "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn", "other"),
        ("Litecoin", btc, "ltc1qw508d6qejxtdg4y5r3zarvary0c5xw7kgmn4n9", "other"),
        ("Bitcoin", ltc, "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "other"),
        ("Bitcoin's P2PKH", ltc, "1BpEi6DfDAUFd7GtittLSdBeYJvcoaVggu", "other"),
        ("MWEB", ltc, &mweb, "mweb"),
        ("MWEB", ltc, "tmweb1qqw508d6qejxtdg4y5r3zarvary0c5xw7k", "mweb"),
        ("SegWit on Bitcoin Cash", bch, "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "other"),
        ("CashAddr on Bitcoin", btc, "bitcoincash:qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a", "other"),
        ("CashAddr of a test network", bch, "bchtest:pr6m7j9njldwwzlg9v7v53unlr4jkmx6eyvwc0uz5t", "other"),
        ("another network's without prefix", bch, "pr6m7j9njldwwzlg9v7v53unlr4jkmx6eyvwc0uz5t", "checksum"),
        ("mixed case", bch, "bitcoincash:QPM2QSZNHKS23Z7629MMS6S4CWEF74VCWVY22GDX6A", "mixed"),
        ("a script with a name", bch, "ecash:qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a", "none"),
        ("an unused witness version", btc, "BC1SW50QGDZ25J", "program"),
        ("pay to anchor", btc, "bc1pfeessrawgf", "program"),
        ("nothing", btc, "", "none"),
        ("space around it", btc, " 1BpEi6DfDAUFd7GtittLSdBeYJvcoaVggu", "none"),
        ("a URI", btc, "bitcoin:1BpEi6DfDAUFd7GtittLSdBeYJvcoaVggu", "none"),
        ("other letters", btc, "1BpEi6DfDAUFd7GtittLSdBeYJvcoaVggü", "none"),
    ] {
        assert_eq!(fault(text, params), expected, "{name}: {text}");
    }
}

#[test]
fn a_private_key_given_by_mistake_is_not_echoed() {
    let wif = "5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ";
    let hex = "0x0000000000000000000000000000000000000000000000000000000000000001";
    for params in [utxo("btc", "mainnet"), utxo("bch", "mainnet"), AddressParams::ethereum(1)] {
        for secret in [wif, hex] {
            let error = parse_address(secret, params).unwrap_err();
            assert!(!format!("{error} {error:?}").contains(&secret[..10]), "{error:?}");
        }
    }
}

#[test]
fn other_scripts_have_no_address() {
    let btc = utxo("btc", "mainnet");
    for hex in ["6a0568656c6c6f", "51", "0014751e", "aa20", "5121030000"] {
        assert_eq!(address_of(&hex.parse().unwrap(), btc), None, "{hex}");
    }
    let witness = Destination::Witness { version: 0, program: vec![1; 20] }.to_script().unwrap();
    assert_eq!(address_of(&witness, utxo("bch", "mainnet")), None);
    let p2sh32 = Destination::P2sh32([1; 32]).to_script().unwrap();
    assert_eq!(address_of(&p2sh32, btc), None);
    assert_eq!(address_of(&witness, AddressParams::ethereum(1)), None);
}

fn destinations() -> impl Strategy<Value = Destination> {
    prop_oneof![
        any::<[u8; 20]>().prop_map(Destination::P2pkh),
        any::<[u8; 20]>().prop_map(Destination::P2sh),
        any::<[u8; 32]>().prop_map(Destination::P2sh32),
        any::<[u8; 20]>().prop_map(|p| Destination::Witness { version: 0, program: p.to_vec() }),
        any::<[u8; 32]>().prop_map(|p| Destination::Witness { version: 0, program: p.to_vec() }),
        any::<[u8; 32]>().prop_map(|p| Destination::Witness { version: 1, program: p.to_vec() }),
    ]
}

proptest! {
    #[test]
    fn every_form_of_every_address_reads_back(destination in destinations()) {
        let script = destination.to_script().unwrap();
        prop_assert_eq!(Destination::from_script(script.as_bytes()), Some(destination));
        for row in UTXO {
            let params = utxo(row.coin, row.network);
            for form in address_of(&script, params).unwrap_or_default() {
                prop_assert_eq!(parse_address(&form, params), Ok(script.clone()));
            }
        }
    }

    #[test]
    fn one_changed_letter_is_always_noticed(hash in any::<[u8; 20]>(), place in 0_usize..42, by in 1_usize..32) {
        let params = utxo("bch", "mainnet");
        let address = cashaddr::encode(&Destination::P2pkh(hash), "bitcoincash").unwrap();
        let mut letters = address.into_bytes();
        let charset = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
        let old = charset.iter().position(|c| *c == letters[12 + place]).unwrap();
        letters[12 + place] = charset[(old + by) % 32];
        prop_assert!(parse_address(&String::from_utf8(letters).unwrap(), params).is_err());
    }

    #[test]
    fn ethereum_addresses_read_back(bytes in any::<[u8; 20]>()) {
        let params = AddressParams::ethereum(1);
        let script = Script::from_bytes(&bytes).unwrap();
        let text = address_of(&script, params).unwrap().remove(0);
        prop_assert_eq!(parse_address(&text, params), Ok(script));
    }

    #[test]
    fn no_text_makes_it_fall_over(text in "\\PC{0,120}") {
        for row in UTXO {
            let _ = parse_address(&text, utxo(row.coin, row.network));
        }
        let _ = parse_address(&text, AddressParams::ethereum(1));
    }
}
