use bitcoin::bip32::{DerivationPath, Xpriv};
use bitcoin::secp256k1::SignOnly;
use proptest::prelude::*;

use super::*;

/// The seed of the published test phrase "abandon … about" (BIP 39), which BIP 49, 84 and 86 use.
const SEED: &str = "5eb00bbddcf069084889a8ab9155568165f5c453ccb85e70811aaed6f6da5fc1\
                    9a5ac40b389cd370d086206dec8aa6c43daea6690f20ad3d8d48b2d2ce9e38e4";

fn utxo(coin: &str, network: &str) -> AddressParams {
    AddressParams::bitcoin(coin, network).unwrap()
}

fn private(path: &str, network: NetworkKind) -> Xpriv {
    let secp: Secp256k1<SignOnly> = Secp256k1::signing_only();
    let root = Xpriv::new_master(network, &const_hex::decode(SEED).unwrap()).unwrap();
    root.derive_priv(&secp, &path.parse::<DerivationPath>().unwrap()).unwrap()
}

/// The extended public key at a path of the test seed, as `xpub` or `tpub`.
fn public(path: &str, network: NetworkKind) -> String {
    let secp: Secp256k1<SignOnly> = Secp256k1::signing_only();
    Xpub::from_priv(&secp, &private(path, network)).to_string()
}

/// The same key under other version bytes.
fn with_version(key: &str, version: u32) -> String {
    let mut payload = base58::decode_check(key).unwrap();
    payload.splice(..4, version.to_be_bytes());
    base58::encode_check(&payload)
}

fn address(key: &ExtendedKey, index: u32) -> String {
    key.derive(index).unwrap().addresses.remove(0)
}

const MAIN: NetworkKind = NetworkKind::Main;
const TEST: NetworkKind = NetworkKind::Test;

#[test]
fn published_vectors() {
    let zpub84 = "zpub6rFR7y4Q2AijBEqTUquhVz398htDFrtymD9xYYfG1m4wAcvPhXNfE3EfH1r1ADqtfSdVCToUG868RvUUkgDKf31mGDtKsAYz2oz2AGutZYs";
    let xpub86 = "xpub6BgBgsespWvERF3LHQu6CnqdvfEvtMcQjYrcRzx53QJjSxarj2afYWcLteoGVky7D3UKDP9QyrLprQ3VCECoY49yfdDEHGCtMMj92pReUsQ";
    let tpub49 = "tpubDD7tXK8KeQ3YY83yWq755fHY2JW8Ha8Q765tknUM5rSvjPcGWfUppDFMpQ1ScziKfW3ZNtZvAD7M3u7bSs7HofjTD3KP3YxPK7X6hwV8Rk2";
    let eth44 = public("m/44h/60h/0h", MAIN);
    for (name, key, params, kind, addresses) in [
        (
            "BIP 84",
            zpub84,
            utxo("btc", "mainnet"),
            None,
            &["bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu", "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g"][..],
        ),
        (
            "BIP 86",
            xpub86,
            utxo("btc", "mainnet"),
            Some(ScriptKind::P2tr),
            &[
                "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr",
                "bc1p4qhjn9zdvkux4e44uhx8tc55attvtyu358kutcqkudyccelu0was9fqzwh",
            ],
        ),
        (
            "BIP 49",
            tpub49,
            utxo("btc", "testnet"),
            Some(ScriptKind::P2shP2wpkh),
            &["2Mww8dCYPUpKHofjgcXcBCEGmniw9CoaiD2"],
        ),
        (
            "BIP 44, the phrase of BIP 39",
            &public("m/44h/0h/0h", MAIN),
            utxo("btc", "mainnet"),
            Some(ScriptKind::P2pkh),
            &["1LqBGSKuX5yYUonjxT5qGfpUsXKYYWeabA"],
        ),
        (
            "Ethereum, the phrase of BIP 39",
            &eth44,
            AddressParams::ethereum(1),
            None,
            &["0x9858EfFD232B4033E47d90003D41EC34EcaEda94"],
        ),
    ] {
        let key = ExtendedKey::parse(key, params, kind).unwrap();
        for (index, expected) in (0..).zip(addresses) {
            assert_eq!(address(&key, index), *expected, "{name}");
        }
    }
}

#[test]
fn prefixes_say_the_kind_where_they_can() {
    let main = public("m/84h/0h/0h", MAIN);
    let test = public("m/84h/1h/0h", TEST);
    let (p2pkh, nested, p2wpkh) = (ScriptKind::P2pkh, ScriptKind::P2shP2wpkh, ScriptKind::P2wpkh);
    for (prefix, version, key, coin, network, kind, start) in [
        ("ypub", 0x049d_7cb2, &main, "btc", "mainnet", nested, "3"),
        ("zpub", 0x04b2_4746, &main, "btc", "mainnet", p2wpkh, "bc1q"),
        ("upub", 0x044a_5262, &test, "btc", "testnet4", nested, "2"),
        ("vpub", 0x045f_1cf6, &test, "btc", "signet", p2wpkh, "tb1q"),
        ("vpub", 0x045f_1cf6, &test, "btc", "regtest", p2wpkh, "bcrt1q"),
        ("Ltub", 0x019d_a462, &main, "ltc", "mainnet", p2pkh, "L"),
        ("Mtub", 0x01b2_6ef6, &main, "ltc", "mainnet", nested, "M"),
        ("zpub", 0x04b2_4746, &main, "ltc", "mainnet", p2wpkh, "ltc1q"),
        ("ttub", 0x0436_f6e1, &test, "ltc", "regtest", p2pkh, "m"),
        ("xpub", 0x0488_b21e, &main, "bch", "mainnet", p2pkh, "bitcoincash:q"),
        ("tpub", 0x0435_87cf, &test, "bch", "regtest", p2pkh, "bchreg:q"),
    ] {
        let text = with_version(key, version);
        assert!(text.starts_with(prefix), "{text}");
        let read = ExtendedKey::parse(&text, utxo(coin, network), None).unwrap();
        assert_eq!(read.kind(), kind, "{prefix} on {coin}");
        let first = address(&read, 0);
        assert!(first.starts_with(start) || start == "m" && first.starts_with('n'), "{prefix}: {first}");
        let again = ExtendedKey::parse(&read.to_string(), utxo(coin, network), Some(kind)).unwrap();
        assert_eq!(again, read, "the normalised form reads back");
    }
}

#[test]
fn one_key_under_many_names_is_one_key() {
    let btc = utxo("btc", "mainnet");
    let xpub = public("m/84h/0h/0h", MAIN);
    let zpub = with_version(&xpub, 0x04b2_4746);
    let receiving = public("m/84h/0h/0h/0", MAIN);
    let kind = Some(ScriptKind::P2wpkh);
    let first = ExtendedKey::parse(&xpub, btc, kind).unwrap();
    for text in [
        zpub,
        format!("wpkh({xpub}/0/*)"),
        format!("wpkh([73c5da0a/84'/0'/0']{xpub}/<0;1>/*)"),
        format!("[73C5DA0A/84h/0h/0h]{xpub}"),
        format!("{xpub}/0/*"),
        format!("wpkh({receiving}/*)"),
        format!("  {xpub}\n"),
    ] {
        let other = ExtendedKey::parse(&text, btc, kind).unwrap();
        assert_eq!(other.fingerprint(), first.fingerprint(), "{text}");
        assert_eq!(other.derive(7), first.derive(7), "{text}");
    }
    let ltc = ExtendedKey::parse(&xpub, utxo("ltc", "mainnet"), kind).unwrap();
    assert_eq!(ltc.fingerprint(), first.fingerprint(), "the counter is the key's, on whatever chain");
    let change = ExtendedKey::parse(&format!("wpkh({xpub}/1/*)"), btc, None).unwrap();
    assert_ne!(change.fingerprint(), first.fingerprint());
    assert_eq!(change.to_string(), format!("{xpub}/1/*"));
}

#[test]
fn descriptors_of_each_kind_and_their_checksums() {
    let btc = utxo("btc", "mainnet");
    let xpub = public("m/84h/0h/0h", MAIN);
    for (form, kind) in [
        ("pkh(K)", ScriptKind::P2pkh),
        ("wpkh(K)", ScriptKind::P2wpkh),
        ("sh(wpkh(K))", ScriptKind::P2shP2wpkh),
        ("tr(K)", ScriptKind::P2tr),
    ] {
        let text = form.replace('K', &format!("[73c5da0a/84h/0h/0h]{xpub}/0/*"));
        let key = ExtendedKey::parse(&text, btc, None).unwrap();
        assert_eq!(key.kind(), kind);
        let written = key.descriptor().unwrap();
        assert_eq!(written.split('#').next(), Some(text.as_str()));
        assert_eq!(ExtendedKey::parse(&written, btc, Some(kind)).unwrap(), key);
        let mut damaged = written.clone();
        damaged.pop();
        assert!(matches!(ExtendedKey::parse(&damaged, btc, None), Err(KeyError::Descriptor(_))));
    }
    // The vector of BIP 380.
    assert_eq!(descriptor::checksum("raw(deadbeef)").as_deref(), Some("89f8spxm"));
}

/// One word for what is wrong.
fn fault(text: &str, params: AddressParams, kind: Option<ScriptKind>) -> &'static str {
    match ExtendedKey::parse(text, params, kind) {
        Ok(_) => "good",
        Err(KeyError::Private) => "private",
        Err(KeyError::NotAKey(_)) => "no key",
        Err(KeyError::OtherNetwork { .. }) => "other",
        Err(KeyError::Multisig(_)) => "multisig",
        Err(KeyError::TypeNeeded { .. }) => "type needed",
        Err(KeyError::TypeConflict { .. }) => "conflict",
        Err(KeyError::TypeUnknown { .. }) => "no such type",
        Err(KeyError::Hardened) => "hardened",
        Err(KeyError::Descriptor(_)) => "descriptor",
        Err(KeyError::Index(_)) => "index",
    }
}

#[test]
fn what_cannot_be_used_is_refused_for_its_reason() {
    let (btc, test) = (utxo("btc", "mainnet"), utxo("btc", "testnet"));
    let (ltc, bch, eth) = (utxo("ltc", "mainnet"), utxo("bch", "mainnet"), AddressParams::ethereum(1));
    let xpub = public("m/84h/0h/0h", MAIN);
    let tpub = public("m/84h/1h/0h", TEST);
    let wpkh = Some(ScriptKind::P2wpkh);
    let v = with_version;
    let mut mistyped = xpub.clone();
    mistyped.replace_range(50..51, if &xpub[50..51] == "a" { "b" } else { "a" });
    for (name, text, params, kind, expected) in [
        ("no type", xpub.clone(), btc, None, "type needed"),
        ("no type", tpub.clone(), test, None, "type needed"),
        ("another network", tpub.clone(), btc, wpkh, "other"),
        ("another network", xpub.clone(), test, wpkh, "other"),
        ("another coin", v(&xpub, 0x019d_a462), btc, wpkh, "other"),
        ("another coin", v(&xpub, 0x01b2_6ef6), bch, None, "other"),
        ("SegWit key on Bitcoin Cash", v(&xpub, 0x04b2_4746), bch, None, "other"),
        ("Ethereum takes xpub only", v(&xpub, 0x04b2_4746), eth, None, "other"),
        ("another coin's origin", format!("wpkh([73c5da0a/84h/2h/0h]{xpub}/0/*)"), btc, None, "other"),
        ("another coin's origin", format!("[73c5da0a/44h/0h/0h]{xpub}"), eth, None, "other"),
        ("contradiction", v(&xpub, 0x04b2_4746), btc, Some(ScriptKind::P2pkh), "conflict"),
        ("contradiction", format!("pkh({xpub}/0/*)"), btc, wpkh, "conflict"),
        ("contradiction", format!("pkh({}/0/*)", v(&xpub, 0x04b2_4746)), btc, None, "conflict"),
        ("contradiction", xpub.clone(), eth, wpkh, "conflict"),
        ("no SegWit there", xpub.clone(), bch, wpkh, "no such type"),
        ("no accounts there", xpub.clone(), btc, Some(ScriptKind::Address), "no such type"),
        ("several signers", v(&xpub, 0x02aa_7ed3), btc, None, "multisig"),
        ("hardened step", format!("wpkh({xpub}/0h/*)"), btc, None, "hardened"),
        ("hardened step", format!("wpkh({xpub}/0/*')"), btc, None, "hardened"),
        ("hardened step", format!("{xpub}/0'/0/*"), eth, None, "hardened"),
        ("a single key", format!("wpkh({xpub})"), btc, None, "descriptor"),
        ("no range", format!("wpkh({xpub}/0/5)"), btc, None, "descriptor"),
        ("star inside", format!("wpkh({xpub}/*/0)"), btc, None, "descriptor"),
        ("step out of range", format!("wpkh({xpub}/2147483648/*)"), btc, None, "descriptor"),
        ("several keys", format!("wsh(multi(1,{xpub}/0/*,{xpub}/1/*))"), btc, None, "descriptor"),
        ("a tree", format!("tr({xpub}/0/*,pk({xpub}/1/*))"), btc, None, "descriptor"),
        ("an open bracket", format!("wpkh([73c5da0a/84h{xpub}/0/*)"), btc, None, "descriptor"),
        ("a bad origin", format!("wpkh([73c5/84h]{xpub}/0/*)"), btc, None, "descriptor"),
        ("mistyped", mistyped, btc, wpkh, "no key"),
        ("an address", "1BpEi6DfDAUFd7GtittLSdBeYJvcoaVggu".to_owned(), ltc, None, "no key"),
        ("nothing", String::new(), btc, wpkh, "no key"),
        ("unknown prefix", v(&xpub, 0x0101_0101), btc, wpkh, "no key"),
    ] {
        assert_eq!(fault(&text, params, kind), expected, "{name}: {text}");
    }
    let key = ExtendedKey::parse(&xpub, btc, wpkh).unwrap();
    assert_eq!(key.derive(1 << 31), Err(KeyError::Index(1 << 31)));
    assert!(key.derive((1 << 31) - 1).is_ok());
}

#[test]
fn a_private_key_is_refused_and_never_shown() {
    let btc = utxo("btc", "mainnet");
    let xprv = private("m/84h/0h/0h", MAIN).to_string();
    let mut mistyped = xprv.clone();
    mistyped.pop();
    let phrase =
        "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";
    for text in [
        xprv.clone(),
        mistyped,
        with_version(&xprv, 0x04b2_430c),
        with_version(&xprv, 0x019d_9cfe),
        with_version(&xprv, 0x0101_0101),
        private("m", TEST).to_string(),
        format!("wpkh([73c5da0a/84h/0h/0h]{xprv}/0/*)"),
        format!("wpkh({xprv}/0/*)#xxxxxxxx"),
        "5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ".to_owned(),
        "wpkh(KwdMAjGmerYanjeui5SHS7JkmpZvVipYvB2LJGU1ZxJwYvP98617)".to_owned(),
        SEED[..64].to_owned(),
        format!("0x{}", &SEED[..64]),
        phrase.to_owned(),
    ] {
        let error = ExtendedKey::parse(&text, btc, None).unwrap_err();
        assert_eq!(error, KeyError::Private, "{text}");
        let said = format!("{error} {error:?}");
        assert!(!text.as_bytes().windows(12).any(|part| said.as_bytes().windows(12).any(|s| s == part)));
    }
}

#[test]
fn a_root_with_a_parent_is_refused() {
    let btc = utxo("btc", "mainnet");
    let mut payload = base58::decode_check(&public("m/84h", MAIN)).unwrap();
    payload[4] = 0;
    assert_eq!(fault(&base58::encode_check(&payload), btc, Some(ScriptKind::P2pkh)), "no key");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn public_derivation_agrees_with_private(index in 0_u32..1 << 31, account in 0_u32..1 << 31) {
        let path = format!("m/84h/0h/{account}h");
        let key = ExtendedKey::parse(&public(&path, MAIN), utxo("btc", "mainnet"), Some(ScriptKind::P2wpkh)).unwrap();
        let secp: Secp256k1<SignOnly> = Secp256k1::signing_only();
        let leaf = Xpub::from_priv(&secp, &private(&format!("{path}/0/{index}"), MAIN));
        let hash = hash160::Hash::hash(&leaf.public_key.serialize()).to_byte_array();
        let script = key.derive(index).unwrap().script;
        prop_assert_eq!(&script.as_bytes()[2..], &hash[..]);
    }

    #[test]
    fn no_text_makes_it_fall_over(text in "\\PC{0,200}") {
        let _ = ExtendedKey::parse(&text, utxo("btc", "mainnet"), None);
        let _ = ExtendedKey::parse(&format!("wpkh([{text}"), utxo("ltc", "regtest"), None);
    }
}
