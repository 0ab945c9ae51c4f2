//! A shop, four chains and a gateway, told in a few words.

mod ask;
mod chain;
mod fields;
mod line;

use std::sync::{Arc, Mutex};

use axum::Router;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tally_account::PolicyDefaults;
use tally_address::AddressParams;
use tally_events::{AssetRate, Counts, FiatRate, RatesPublished};
use tally_gateway::{App, ChainInfo, CoinInfo, Gateway};
use tally_order::Order;
use tally_ports::{Clock, ReadModel};
use tally_pricing::{RateRules, RateTable};
use tally_projector::{Model, Options, Projector};
use tally_sign::MasterKey;
use tally_testkit::{ManualClock, MemoryLog, MemoryStore, SeededEntropy, chain_id, currency};
use tally_types::{BaseUnits, Span};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use ask::{FORM, ask, get as ask_get, post as ask_post};
pub(crate) use fields::Fields;
pub(crate) use line::Line;

/// The admin token.
pub(crate) const TOKEN: &str = "an admin token of these tests";

/// Account keys of the mnemonic that BIP 39 prints as its first test vector, on test networks.
pub(crate) const KEYS: [(&str, Option<&str>, &str); 4] = [
    ("btc", Some("p2wpkh"), BTC_KEY),
    (
        "ltc",
        Some("p2wpkh"),
        "tpubDC8msFGeGuwnP2xwTZBBZSie1BLgRAkJhgzpFYTdpGgZNzguXQhNDVWp7mJbHJUjQQvV2myLU9dkx67a7VAUnzY7yT7nvhHj7FgS4oNivvq",
    ),
    (
        "bch",
        Some("p2pkh"),
        "tpubDC5FSnBiZDMmhiuCmWAYsLwgLYrrT9rAqvTySfuCCrgsWz8wxMXUS9Tb9iVMvcRbvFcAHGkMD5Kx8koh4GquNGNTfohfk7pgjhaPCdXpoba",
    ),
    ("eth", None, ETH_KEY),
];
pub(crate) const BTC_KEY: &str = "tpubDC8msFGeGuwnKG9Upg7DM2b4DaRqg3CUZa5g8v2SRQ6K4NSkxUgd7HsL2XVWbVm39yBA4LAxysQAm397zwQSQoQgewGiYZqrA9DsP4zbQ1M";
pub(crate) const ETH_KEY: &str = "xpub6DCoCpSuQZB2jawqnGMEPS63ePKWkwWPH4TU45Q7LPXWuNd8TMtVxRrgjtEshuqpK3mdhaWHPFsBngh5GFZaM6si3yZdUsT8ddYM3PwnATt";

pub(crate) struct World {
    /// The log itself, to look into and to append to by hand.
    pub(crate) log: MemoryLog,
    /// The log as the gateways reach it.
    pub(crate) line: Arc<Line>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) rates: watch::Sender<Arc<RateTable>>,
    pub(crate) here: Side,
    /// The shop's id and DeePay key.
    pub(crate) merchant: u64,
    pub(crate) key: String,
    heights: Mutex<std::collections::HashMap<String, u64>>,
    deposits: Mutex<u8>,
}

/// One gateway with its own fold of the log.
pub(crate) struct Side {
    pub(crate) app: App,
    pub(crate) public: Router,
    pub(crate) admin: Router,
    pub(crate) model: Arc<Model>,
    pub(crate) stop: CancellationToken,
    projector: JoinHandle<()>,
}

impl Side {
    /// The fold stands still from here on.
    pub(crate) async fn halt_fold(&mut self) {
        self.projector.abort();
        let _ = (&mut self.projector).await;
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.projector.abort();
    }
}

impl World {
    /// A shop that takes everything on four live chains.
    pub(crate) async fn new() -> Self {
        Self::with(PolicyDefaults::default(), json!({ "name": "Tea & Co" })).await
    }

    pub(crate) async fn with(policy: PolicyDefaults, settings: Value) -> Self {
        let log = MemoryLog::new();
        let line = Arc::new(Line::new(log.clone()));
        let clock = Arc::new(ManualClock::default());
        let rates = watch::Sender::new(Arc::new(table(&*clock)));
        let here = side(&line, &clock, &rates, policy, 1).await;
        let mut world = Self {
            log,
            line,
            clock,
            rates,
            here,
            merchant: 0,
            key: String::new(),
            heights: Mutex::default(),
            deposits: Mutex::default(),
        };
        (world.merchant, world.key) = world.shop(settings).await;
        for (chain, kind, key) in KEYS {
            let body = json!({ "chain": chain, "type": kind, "public_key": key });
            let path = format!("/v1/admin/merchants/{}/wallets", world.merchant);
            assert_eq!(world.admin("POST", &path, body).await.status, 201, "{chain}");
            world.connect(chain, 100);
        }
        world.folded().await;
        world
    }

    /// Another gateway on the same log.
    pub(crate) async fn side(&self, seed: u64) -> Side {
        side(&self.line, &self.clock, &self.rates, self.here.app.policy.clone(), seed).await
    }

    /// A merchant with a DeePay key and no wallet.
    pub(crate) async fn shop(&self, settings: Value) -> (u64, String) {
        let made = self.admin("POST", "/v1/admin/merchants", settings).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let id = made.json()["merchant_id"].as_u64().unwrap();
        (id, self.new_key(id).await)
    }

    pub(crate) async fn new_key(&self, merchant: u64) -> String {
        let path = format!("/v1/admin/merchants/{merchant}/keys");
        let made = self.admin("POST", &path, json!({ "face": "deepay" })).await;
        assert_eq!(made.status, 201, "{}", made.text);
        made.json()["api_key"].as_str().unwrap().to_owned()
    }

    /// Waits until all of the log is folded here.
    pub(crate) async fn folded(&self) {
        let head = self.log.facts().last().unwrap().position;
        assert!(self.here.model.wait_for(head, Span::from_secs(10)).await, "the fold is stuck");
    }

    /// An order as folded here.
    pub(crate) async fn order(&self, id: &str) -> Order {
        self.here.model.order(&id.parse().unwrap()).await.unwrap().unwrap()
    }

    /// How many facts of a kind the log holds.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.log.facts().iter().filter(|fact| fact.event.fact.kind() == kind).count()
    }

    /// Moves the clock on; watchers report and rates are published again at the new time.
    pub(crate) async fn wait(&self, span: Span) {
        self.clock.advance(span);
        for (chain, ..) in KEYS {
            self.observe(chain);
        }
        self.rates.send_replace(Arc::new(table(&*self.clock)));
        self.folded().await;
    }
}

async fn side(
    line: &Arc<Line>,
    clock: &Arc<ManualClock>,
    rates: &watch::Sender<Arc<RateTable>>,
    policy: PolicyDefaults,
    seed: u64,
) -> Side {
    let store = Arc::new(MemoryStore::new());
    let projector = Projector::open(line.clone(), store, Options::default()).await.unwrap();
    projector.catch_up().await.unwrap();
    let model = projector.model();
    let projector = tokio::spawn(async move {
        let Err(error) = projector.run().await;
        panic!("the fold stopped: {error}");
    });
    let app = Arc::new(Gateway {
        log: line.clone(),
        model: model.clone(),
        rates: rates.subscribe(),
        clock: clock.clone(),
        entropy: Arc::new(SeededEntropy::new(seed)),
        chains: chains(),
        public_url: "https://pay.example".to_owned(),
        master: MasterKey::from_bytes([7; 32]),
        policy,
        admin_token: Some(TOKEN.to_owned()),
        sandbox: false,
    });
    let stop = CancellationToken::new();
    let public = tally_gateway::public_until(app.clone(), stop.clone());
    let admin = tally_gateway::admin(app.clone());
    Side { app, public, admin, model, stop, projector }
}

fn chains() -> Vec<ChainInfo> {
    let chain = |id: &str, params: AddressParams, coins: Vec<CoinInfo>| ChainInfo {
        id: chain_id(id),
        network: "regtest".to_owned(),
        params,
        coins,
        counts: Counts { confirmed: 1, complete: 6, thresholds: Vec::new(), finalized: false },
    };
    let coin = |symbol: &str, decimals: u8, unit: u128, dust: u128, contract: Option<&str>| CoinInfo {
        currency: currency(symbol),
        decimals,
        payable_unit: BaseUnits::from_units(unit),
        dust: BaseUnits::from_units(dust),
        contract: contract.map(str::to_owned),
    };
    let utxo = |id: &str| {
        let coin = coin(&id.to_uppercase(), 8, 1, 1_000, None);
        chain(id, AddressParams::bitcoin(id, "regtest").unwrap(), vec![coin])
    };
    let unit = 10_u128.pow(10);
    let ether = coin("ETH", 18, unit, unit, None);
    let token = coin("USDT", 6, 1, 1, Some("0x5fbdb2315678afecb367f032d93f642f64180aa3"));
    let eth = chain("eth", AddressParams::ethereum(31_337), vec![ether, token]);
    vec![utxo("btc"), utxo("ltc"), utxo("bch"), eth]
}

/// Rates as published at this moment: BTC 65000, LTC 80, BCH 400, ETH 3200, USDT 1 in dollars; a dollar is
/// 7.2 yuan.
pub(crate) fn table(clock: &dyn Clock) -> RateTable {
    let assets = [("BTC", 65_000), ("LTC", 80), ("BCH", 400), ("ETH", 3_200), ("USDT", 1)];
    let now = clock.now();
    let asset = |(symbol, usd): (&str, i64)| AssetRate {
        asset: currency(symbol),
        usd: Some(Decimal::from(usd)),
        confidence: Some(Decimal::ZERO),
        inconsistent: false,
        at: now,
        sources: vec!["kraken".to_owned(), "coinbase".to_owned()],
        dropped: Vec::new(),
    };
    let fiat = |(symbol, per_eur): (&str, i64)| FiatRate {
        currency: currency(symbol),
        per_eur: Decimal::new(per_eur, 2),
        at: now,
        sources: vec!["ecb".to_owned()],
    };
    let mut table = RateTable::new(&RateRules::default());
    table.apply(&RatesPublished {
        assets: assets.into_iter().map(asset).collect(),
        fiat: [("USD", 125), ("CNY", 900)].into_iter().map(fiat).collect(),
        at: now,
    });
    table
}
