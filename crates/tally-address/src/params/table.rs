//! The table of coins and networks: prefixes as the nodes' own chain parameters have them.
//!
//! Extended key versions: SLIP-132, and what wallets of each coin export. Not here: code.

use super::ScriptKind;

/// One coin on one network.
pub(crate) struct UtxoParams {
    /// The coin, as configuration names it.
    pub(crate) coin: &'static str,
    /// The network, as configuration names it.
    pub(crate) network: &'static str,
    /// Whether this is the network with coins of worth: decides between `xpub` and `tpub` when writing keys.
    pub(crate) main: bool,
    /// Base58 version of P2PKH.
    pub(crate) p2pkh: u8,
    /// Base58 versions of P2SH; addresses are written with the first.
    pub(crate) p2sh: &'static [u8],
    /// Human-readable part of SegWit addresses, where there is SegWit.
    pub(crate) hrp: Option<&'static str>,
    /// Human-readable part of addresses in Litecoin's extension blocks, which have no script.
    pub(crate) mweb: Option<&'static str>,
    /// CashAddr prefix, where the coin uses it.
    pub(crate) cashaddr: Option<&'static str>,
    /// Scheme of payment URIs.
    pub(crate) scheme: &'static str,
    /// Prefixes of extended public keys.
    pub(crate) key_versions: &'static [KeyVersion],
    /// SLIP-44 coin types; empty: any.
    pub(crate) coin_types: &'static [u32],
    /// What keys can be used for, the usual kind first.
    pub(crate) kinds: &'static [ScriptKind],
}

/// A prefix of extended public keys.
pub(crate) struct KeyVersion {
    /// As people see it.
    pub(crate) prefix: &'static str,
    /// As it is encoded.
    pub(crate) bytes: [u8; 4],
    /// What it says about scripts.
    pub(crate) meaning: Meaning,
}

/// What a prefix says about the kind of script.
#[derive(Clone, Copy)]
pub(crate) enum Meaning {
    /// Nothing: the kind must be given.
    Any,
    /// This kind, unless another is given.
    Usually(ScriptKind),
    /// This kind and no other.
    Only(ScriptKind),
}

const fn version(prefix: &'static str, bytes: u32, meaning: Meaning) -> KeyVersion {
    KeyVersion { prefix, bytes: bytes.to_be_bytes(), meaning }
}

const XPUB: KeyVersion = version("xpub", 0x0488_b21e, Meaning::Any);
const YPUB: KeyVersion = version("ypub", 0x049d_7cb2, Meaning::Only(ScriptKind::P2shP2wpkh));
const ZPUB: KeyVersion = version("zpub", 0x04b2_4746, Meaning::Only(ScriptKind::P2wpkh));
const TPUB: KeyVersion = version("tpub", 0x0435_87cf, Meaning::Any);
const UPUB: KeyVersion = version("upub", 0x044a_5262, Meaning::Only(ScriptKind::P2shP2wpkh));
const VPUB: KeyVersion = version("vpub", 0x045f_1cf6, Meaning::Only(ScriptKind::P2wpkh));
/// Some wallets export every kind of account under these two, so another kind may be given.
const LTUB: KeyVersion = version("Ltub", 0x019d_a462, Meaning::Usually(ScriptKind::P2pkh));
const TTUB: KeyVersion = version("ttub", 0x0436_f6e1, Meaning::Usually(ScriptKind::P2pkh));
const MTUB: KeyVersion = version("Mtub", 0x01b2_6ef6, Meaning::Only(ScriptKind::P2shP2wpkh));

const BTC_MAIN: &[KeyVersion] = &[XPUB, YPUB, ZPUB];
const BTC_TEST: &[KeyVersion] = &[TPUB, UPUB, VPUB];
/// Litecoin Core writes xpub and tpub; Electrum-LTC and Trezor write zpub for P2WPKH.
const LTC_MAIN: &[KeyVersion] = &[LTUB, MTUB, XPUB, YPUB, ZPUB];
const LTC_TEST: &[KeyVersion] = &[TTUB, TPUB, UPUB, VPUB];
const BCH_MAIN: &[KeyVersion] = &[XPUB];
const BCH_TEST: &[KeyVersion] = &[TPUB];

/// Ethereum's wallets write xpub on every network.
pub(crate) const ETHEREUM_VERSIONS: &[KeyVersion] =
    &[version("xpub", 0x0488_b21e, Meaning::Only(ScriptKind::Address))];
/// SLIP-44: Ether.
pub(crate) const ETHEREUM_COIN_TYPES: &[u32] = &[60];

/// Prefixes of keys for multi-signature scripts, which one key alone cannot make.
pub(crate) const MULTISIG_PREFIXES: &[&str] = &["Ypub", "Zpub", "Upub", "Vpub"];
/// Prefixes of extended private keys.
pub(crate) const PRIVATE_PREFIXES: &[&str] =
    &["xprv", "yprv", "zprv", "tprv", "uprv", "vprv", "Yprv", "Zprv", "Uprv", "Vprv", "Ltpv", "Mtpv", "ttpv"];

const SEGWIT_KINDS: &[ScriptKind] =
    &[ScriptKind::P2wpkh, ScriptKind::P2tr, ScriptKind::P2shP2wpkh, ScriptKind::P2pkh];
/// Without SegWit anyone could spend a witness program.
const CASH_KINDS: &[ScriptKind] = &[ScriptKind::P2pkh];

const BTC: UtxoParams = UtxoParams {
    coin: "btc",
    network: "mainnet",
    main: true,
    p2pkh: 0,
    p2sh: &[5],
    hrp: Some("bc"),
    mweb: None,
    cashaddr: None,
    scheme: "bitcoin",
    key_versions: BTC_MAIN,
    coin_types: &[0],
    kinds: SEGWIT_KINDS,
};
const BTC_TESTNET: UtxoParams = UtxoParams {
    network: "testnet",
    main: false,
    p2pkh: 111,
    p2sh: &[196],
    hrp: Some("tb"),
    key_versions: BTC_TEST,
    coin_types: &[],
    ..BTC
};
/// P2SH: the second version is the one Litecoin shared with Bitcoin before it got its own.
const LTC: UtxoParams = UtxoParams {
    coin: "ltc",
    p2pkh: 48,
    p2sh: &[50, 5],
    hrp: Some("ltc"),
    mweb: Some("ltcmweb"),
    scheme: "litecoin",
    key_versions: LTC_MAIN,
    coin_types: &[2],
    ..BTC
};
const LTC_TESTNET: UtxoParams = UtxoParams {
    network: "testnet",
    main: false,
    p2pkh: 111,
    p2sh: &[58, 196],
    hrp: Some("tltc"),
    mweb: Some("tmweb"),
    key_versions: LTC_TEST,
    coin_types: &[],
    ..LTC
};
/// Coin type 0: wallets from before the fork.
const BCH: UtxoParams = UtxoParams {
    coin: "bch",
    hrp: None,
    cashaddr: Some("bitcoincash"),
    scheme: "bitcoincash",
    key_versions: BCH_MAIN,
    coin_types: &[145, 0],
    kinds: CASH_KINDS,
    ..BTC
};
const BCH_TESTNET: UtxoParams = UtxoParams {
    network: "testnet",
    main: false,
    p2pkh: 111,
    p2sh: &[196],
    cashaddr: Some("bchtest"),
    scheme: "bchtest",
    key_versions: BCH_TEST,
    coin_types: &[],
    ..BCH
};

/// Every coin on every network, rows of a coin together.
pub(crate) static UTXO: &[UtxoParams] = &[
    BTC,
    BTC_TESTNET,
    UtxoParams { network: "testnet4", ..BTC_TESTNET },
    UtxoParams { network: "signet", ..BTC_TESTNET },
    UtxoParams { network: "regtest", hrp: Some("bcrt"), ..BTC_TESTNET },
    LTC,
    LTC_TESTNET,
    UtxoParams { network: "regtest", hrp: Some("rltc"), ..LTC_TESTNET },
    BCH,
    BCH_TESTNET,
    UtxoParams { network: "testnet4", ..BCH_TESTNET },
    UtxoParams { network: "chipnet", ..BCH_TESTNET },
    UtxoParams { network: "regtest", cashaddr: Some("bchreg"), scheme: "bchreg", ..BCH_TESTNET },
];
