//! The block sources against real nodes: bcoin, litecoind, bcash and anvil, as the end-to-end stand starts them.
//!
//! `TALLY_TEST_STAND` names the stand's JSON file. Its control port pays, mines and reorganises; what is proved
//! here is that the sources see what it did. Run with
//! `cargo test -p tally-chains --features real-nodes --test real_nodes`. One litecoind is started here, with `-rest`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bitcoincore_rpc::bitcoin::{Address, Network, ScriptBuf};
use serde_json::{Value, json};
use tally_chains::{ChainSettings, open};
use tally_matcher::{WatchSet, sha256d};
use tally_ports::{BlockSource, Credit, Header, ScannedBlock, SharedWatch};
use tally_types::{Height, Span};

/// The stand and one chain of it.
struct Chain {
    name: &'static str,
    stand: Value,
    source: Arc<dyn BlockSource>,
    /// Scripts made so far.
    made: u32,
}

impl Chain {
    fn of(name: &'static str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the stand is named by the environment")]
        let path = std::env::var("TALLY_TEST_STAND").expect("TALLY_TEST_STAND names the stand's JSON file");
        let stand: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let source = open(&settings(&stand, name, name)).unwrap();
        Self { name, stand, source, made: 0 }
    }

    /// One command of the stand.
    async fn control(&self, command: &str, mut body: Value) -> Value {
        body["chain"] = json!(self.name);
        let url = format!("{}/{command}", self.stand["control"].as_str().unwrap());
        let post = reqwest::Client::new().post(url).body(body.to_string());
        let answer = post.timeout(Duration::from_secs(120)).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{command} {body}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// A script that nobody was paid to before, the address it has, and a set that watches it.
    async fn fresh(&mut self) -> (String, SharedWatch) {
        let tip = self.source.tip().await.unwrap().block.hash;
        self.made += 1;
        let seed = sha256d(format!("{tip} {} {}", self.name, self.made).as_bytes());
        let mut set = WatchSet::new(1);
        let address = if self.name == "eth" {
            set.insert_script(&seed[..20]).unwrap();
            format!("0x{}", const_hex::encode(&seed[..20]))
        } else {
            let script = [&[0x76, 0xa9, 0x14], &seed[..20], &[0x88, 0xac]].concat();
            set.insert_script(&script).unwrap();
            Address::from_script(&ScriptBuf::from_bytes(script), Network::Regtest).unwrap().to_string()
        };
        (address, Arc::new(RwLock::new(set)))
    }

    async fn pay(&self, address: &str, amount: &str, mode: &str) -> Value {
        self.control("pay", json!({"address": address, "amount": amount, "mode": mode})).await
    }

    async fn mine(&self) {
        self.control("mine", json!({"blocks": 1})).await;
    }

    /// Scans every block above `below`, each linked to the one before.
    async fn scan_above(&self, below: &Header, watch: &SharedWatch) -> Vec<ScannedBlock> {
        let tip = self.source.tip().await.unwrap();
        let (mut prev, mut blocks) = (below.block.hash, Vec::new());
        for height in below.block.height.get() + 1..=tip.block.height.get() {
            let header = self.source.at(Height::new(height)).await.unwrap().unwrap();
            assert_eq!(header.prev, prev, "{} {height}", self.name);
            blocks.push(self.source.scan(&header, watch).await.unwrap());
            prev = header.block.hash;
        }
        blocks
    }

    async fn credits_above(&self, below: &Header, watch: &SharedWatch) -> Vec<Credit> {
        self.scan_above(below, watch).await.into_iter().flat_map(|block| block.credits).collect()
    }
}

fn settings(stand: &Value, node: &str, coin: &str) -> ChainSettings {
    let here = &stand[node];
    let keys = if coin == "eth" {
        let token = json!({"symbol": "USDT", "contract": here["token"], "decimals": here["token_decimals"]});
        let chain_id = &here["chain_id"];
        json!({"id": "eth", "kind": "ethereum", "chain_id": chain_id, "rpc": [{"url": here["rpc"]}], "tokens": [token], "trace": "required"})
    } else {
        let rpc = json!([{"url": here["rpc"], "user": here["user"], "password": here["password"]}]);
        json!({"id": coin, "kind": "bitcoin", "coin": coin, "network": "regtest", "rpc": rpc})
    };
    serde_json::from_value(keys).unwrap()
}

fn told(credits: &[Credit]) -> Vec<(String, u128)> {
    credits.iter().map(|one| (one.currency.to_string(), one.amount.units())).collect()
}

async fn headers_agree(chain: &Chain) {
    chain.source.check().await.unwrap();
    let tip = chain.source.tip().await.unwrap();
    let height = tip.block.height;
    assert_eq!(chain.source.at(height).await.unwrap(), Some(tip));
    assert_eq!(chain.source.header(&tip.block.hash).await.unwrap(), Some(tip));
    assert_eq!(chain.source.at(Height::new(height.get() + 1_000)).await.unwrap(), None);
    let nothing = tally_types::BlockHash::from_display([0x5a; 32]);
    assert_eq!(chain.source.header(&nothing).await.unwrap(), None);
    let nobody = Arc::new(RwLock::new(WatchSet::new(1)));
    let below = chain.source.at(height.below(40)).await.unwrap().unwrap();
    let blocks = chain.scan_above(&below, &nobody).await;
    assert_eq!(blocks.last().map(|block| block.header), (height.get() > 0).then_some(tip));
    assert!(blocks.iter().all(|block| block.credits.is_empty() && block.spends.is_empty()));
}

/// A payment in the mempool, in a block, and in another block after a reorg, under one identity.
async fn a_payment_is_followed(chain: &mut Chain, mode: &str, at_mode: &str) {
    let (address, watch) = chain.fresh().await;
    let before = chain.source.tip().await.unwrap();
    let quiet = chain.source.mempool(&HashSet::new(), &watch).await.unwrap().unwrap();
    assert!(quiet.credits.is_empty());
    let paid = chain.pay(&address, "0.5", mode).await;
    let txid = paid["txid"].as_str().unwrap();
    let seen = chain.source.mempool(&quiet.present, &watch).await.unwrap().unwrap();
    assert_eq!(told(&seen.credits), [(chain.name.to_uppercase(), 50_000_000)], "{at_mode}");
    let credit = &seen.credits[0];
    assert_eq!(credit.key.txid.to_string(), txid);
    assert!(seen.present.contains(&credit.key.txid) && !credit.inputs.is_empty());
    // Whoever spends the same inputs is noticed.
    let spent = &credit.inputs[0];
    let raw = tally_matcher::OutPoint { txid: spent.txid.internal_bytes(), vout: spent.vout };
    watch.write().unwrap().insert_outpoint(&raw).unwrap();

    chain.mine().await;
    let mined = chain.scan_above(&before, &watch).await;
    let credits: Vec<_> = mined.iter().flat_map(|block| &block.credits).collect();
    assert_eq!(credits, [credit], "{at_mode}: the same in the block");
    let spends: Vec<_> = mined.iter().flat_map(|block| &block.spends).collect();
    assert_eq!(spends, [&tally_ports::Spend { outpoint: *spent, by: credit.key.txid }]);
    let old = mined.iter().find(|block| !block.credits.is_empty()).unwrap().header;

    chain.control("reorg", json!({"txid": txid, "at": 1})).await;
    let stale = chain.source.header(&old.block.hash).await.unwrap();
    assert_eq!(stale, Some(old), "a block that left the branch is still told by its hash");
    assert_ne!(chain.source.at(old.block.height).await.unwrap(), Some(old));
    let again: Vec<_> = chain.credits_above(&before, &watch).await;
    assert_eq!(again.iter().collect::<Vec<_>>(), [credit], "{at_mode}: the same in another block");
}

async fn waiting_sees_a_block(chain: &Chain) {
    let tip = chain.source.tip().await.unwrap();
    let begin = tokio::time::Instant::now();
    let mine = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        chain.mine().await;
    };
    tokio::join!(chain.source.wait(&tip.block.hash, Span::from_secs(30)), mine);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_ne!(chain.source.tip().await.unwrap(), tip);
}

#[tokio::test]
async fn btc_on_bcoin() {
    let mut chain = Chain::of("btc");
    headers_agree(&chain).await;
    a_payment_is_followed(&mut chain, "normal", "btc").await;
    waiting_sees_a_block(&chain).await;
}

#[tokio::test]
async fn bch_on_bcash() {
    let mut chain = Chain::of("bch");
    headers_agree(&chain).await;
    a_payment_is_followed(&mut chain, "normal", "bch").await;
    a_payment_is_followed(&mut chain, "cashtokens", "bch behind a token").await;
    waiting_sees_a_block(&chain).await;
}

#[tokio::test]
async fn ltc_on_litecoind() {
    let mut chain = Chain::of("ltc");
    headers_agree(&chain).await;
    a_payment_is_followed(&mut chain, "normal", "ltc").await;
    waiting_sees_a_block(&chain).await;

    let (address, watch) = chain.fresh().await;
    let before = chain.source.tip().await.unwrap();
    let paid = chain.pay(&address, "0.25", "mweb").await;
    let credits = chain.credits_above(&before, &watch).await;
    assert_eq!(told(&credits), [("LTC".to_owned(), 25_000_000)]);
    assert_eq!(json!(credits[0].key.txid), paid["txid"]);

    let (address, watch) = chain.fresh().await;
    let before = chain.source.tip().await.unwrap();
    let paid = chain.pay(&address, "0.125", "pegout").await;
    let mempool = chain.source.mempool(&HashSet::new(), &watch).await.unwrap().unwrap();
    assert!(
        mempool.credits.is_empty() && !mempool.present.is_empty(),
        "a peg-out is credited from its block"
    );
    chain.mine().await;
    let credits = chain.credits_above(&before, &watch).await;
    assert_eq!(told(&credits), [("LTC".to_owned(), 12_500_000)]);
    assert_ne!(json!(credits[0].key.txid), paid["txid"]);
    assert_ne!(credits[0].key.slot, "0");
}

#[tokio::test]
async fn eth_on_anvil() {
    let mut chain = Chain::of("eth");
    headers_agree(&chain).await;
    for (mode, amount, expected) in [
        ("normal", "0.5", &[("value", "ETH", 500_000_000_000_000_000)][..]),
        ("contract", "0.25", &[("0", "ETH", 250_000_000_000_000_000)]),
        ("reverted", "0.25", &[]),
        ("token", "1.5", &[("log-0", "USDT", 1_500_000)]),
    ] {
        let (address, watch) = chain.fresh().await;
        let before = chain.source.tip().await.unwrap();
        let txid = chain.pay(&address, amount, mode).await["txid"].as_str().unwrap().to_owned();
        assert_eq!(chain.source.mempool(&HashSet::new(), &watch).await.unwrap(), None);
        chain.mine().await;
        let check = async |at: &str| {
            let blocks = chain.scan_above(&before, &watch).await;
            assert!(blocks.iter().all(|block| block.method.as_deref() == Some("trace")));
            let found: Vec<_> = blocks.iter().flat_map(|block| &block.credits).collect();
            let told: Vec<_> = found
                .iter()
                .map(|one| (one.key.slot.as_str(), one.currency.as_str(), one.amount.units()))
                .collect();
            assert_eq!(told, expected, "{mode} {at}");
            assert!(found.iter().all(|one| format!("0x{}", one.key.txid) == txid), "{mode} {at}");
        };
        check("mined").await;
        chain.control("reorg", json!({"txid": txid, "at": 1})).await;
        check("after a reorg").await;
    }
    waiting_sees_a_block(&chain).await;
}

/// The same chain by another source of its own, with these settings on top.
fn another(stand: &Value, keys: &Value) -> Arc<dyn BlockSource> {
    let mut settings = settings(stand, "eth", "eth");
    settings.trace = keys["trace"].as_str().map(str::to_owned);
    if let Some(url) = keys["heads"].as_str() {
        let mut heads = settings.rpc[0].clone();
        heads.url = url.to_owned();
        settings.rpc.push(heads);
    }
    open(&settings).unwrap()
}

#[tokio::test]
async fn eth_by_balance_on_anvil() {
    let mut chain = Chain::of("eth");
    chain.source = another(&chain.stand, &json!({"trace": "off"}));
    chain.source.check().await.unwrap();
    for (mode, amount, expected) in [
        ("normal", "0.5", &[("value", "ETH", 500_000_000_000_000_000)][..]),
        ("contract", "0.25", &[("balance", "ETH", 250_000_000_000_000_000)]),
        ("reverted", "0.25", &[]),
        ("token", "1.5", &[("log-0", "USDT", 1_500_000)]),
    ] {
        let (address, watch) = chain.fresh().await;
        let before = chain.source.tip().await.unwrap();
        chain.pay(&address, amount, mode).await;
        chain.mine().await;
        let blocks = chain.scan_above(&before, &watch).await;
        assert!(blocks.iter().all(|block| block.method.as_deref() == Some("balance")), "{mode}");
        let found: Vec<_> = blocks
            .iter()
            .flat_map(|block| block.credits.iter().map(move |credit| (block.header.block.hash, credit)))
            .collect();
        let told: Vec<_> = found
            .iter()
            .map(|(_, one)| (one.key.slot.split('-').next().unwrap(), one))
            .map(|(slot, one)| {
                let slot = if slot == "log" { one.key.slot.as_str() } else { slot };
                (slot, one.currency.as_str(), one.amount.units())
            })
            .collect();
        assert_eq!(told, expected, "{mode}");
        for (block, credit) in found.iter().filter(|(_, credit)| credit.key.slot.starts_with("balance")) {
            assert_eq!(credit.key.txid.to_string(), block.to_string());
            assert_eq!(credit.key.slot, format!("balance-{}", credit.script));
        }
    }
    let tip = chain.source.tip().await.unwrap();
    let finalized = chain.source.finalized().await.unwrap();
    assert!(finalized.is_some_and(|finalized| finalized <= tip.block.height), "{finalized:?}");
}

#[tokio::test]
async fn new_heads_wake() {
    let chain = Chain::of("eth");
    let url = chain.stand["eth"]["rpc"].as_str().unwrap().replace("http://", "ws://");
    for (name, source) in [
        ("at the same address", another(&chain.stand, &json!({}))),
        ("configured", another(&chain.stand, &json!({"heads": url}))),
    ] {
        source.check().await.unwrap();
        // Until the subscription stands.
        let tip = source.tip().await.unwrap().block.hash;
        source.wait(&tip, Span::from_secs(1)).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut took = Vec::new();
        for _ in 0..5 {
            let tip = source.tip().await.unwrap().block.hash;
            source.wait(&tip, Span::from_millis(1)).await;
            let (news, mined) = tokio::join!(
                async {
                    while source.tip().await.unwrap().block.hash == tip {
                        source.wait(&tip, Span::from_secs(10)).await;
                    }
                    tokio::time::Instant::now()
                },
                async {
                    tokio::time::sleep(Duration::from_millis(700)).await;
                    chain.mine().await;
                    tokio::time::Instant::now()
                }
            );
            took.push(news.saturating_duration_since(mined));
        }
        took.sort();
        println!("{name}: {took:?}");
        assert!(took[2] < Duration::from_millis(100), "{name}: {took:?}");
    }
}

/// A litecoind of this test's own.
struct Litecoind {
    process: std::process::Child,
    _home: tempfile::TempDir,
    settings: ChainSettings,
    url: String,
}

impl Drop for Litecoind {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Litecoind {
    async fn start(rest: bool) -> Self {
        let home = tempfile::tempdir().unwrap();
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port = free();
        let process = std::process::Command::new("litecoind")
            .args(["-regtest", "-server", "-listen=0", "-dnsseed=0", "-rpcuser=u", "-rpcpassword=p"])
            .args(["-rpcbind=127.0.0.1", "-rpcallowip=127.0.0.1", "-disablewallet"])
            .arg(format!("-rpcport={port}"))
            .arg(format!("-rest={}", u8::from(rest)))
            .arg(format!("-datadir={}", home.path().display()))
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("litecoind is on PATH");
        let url = format!("http://127.0.0.1:{port}");
        let rpc = json!([{"url": url, "user": "u", "password": "p"}]);
        let keys = json!({"id": "ltc", "kind": "bitcoin", "coin": "ltc", "network": "regtest", "rpc": rpc});
        let settings = serde_json::from_value(keys).unwrap();
        let node = Self { process, _home: home, settings, url };
        let source = node.source();
        for _ in 0..300 {
            if source.check().await.is_ok() {
                return node;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("litecoind does not start");
    }

    fn source(&self) -> Arc<dyn BlockSource> {
        open(&self.settings).unwrap()
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        let request = json!({"id": 0, "method": method, "params": params});
        let post = reqwest::Client::new().post(&self.url).basic_auth("u", Some("p"));
        let answer = post.body(request.to_string()).send().await.unwrap().text().await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    async fn mine(&self, blocks: u32) {
        let script = "raw(0014751e76e8199196d454941c45d1b3a323f1433bd6)#vct3nqpm";
        let told = self.call("getdescriptorinfo", json!([script.split('#').next()])).await;
        let target = told["descriptor"].clone();
        self.call("generatetodescriptor", json!([blocks, target])).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_by_rest_are_those_by_digits() {
    let mut found: Vec<Vec<ScannedBlock>> = Vec::new();
    let node = Litecoind::start(true).await;
    node.mine(300).await;
    let without = Litecoind::start(false).await;
    for height in 1..=300 {
        let hash = node.call("getblockhash", json!([height])).await;
        let block = node.call("getblock", json!([hash, 0])).await;
        without.call("submitblock", json!([block])).await;
    }
    let mut set = WatchSet::new(1);
    set.insert_script(&const_hex::decode("0014751e76e8199196d454941c45d1b3a323f1433bd6").unwrap()).unwrap();
    let watch = Arc::new(RwLock::new(set));
    for (name, node) in [("rest", &node), ("digits", &without)] {
        let source = node.source();
        source.check().await.unwrap();
        source.tip().await.unwrap();
        let begin = tokio::time::Instant::now();
        let mut headers = Vec::new();
        for height in 1..=300 {
            headers.push(source.at(Height::new(height)).await.unwrap().unwrap());
        }
        let read = begin.elapsed();
        let scans = headers.iter().map(|header| source.scan(header, &watch)).collect::<Vec<_>>();
        let blocks = futures::StreamExt::collect::<Vec<_>>(futures::StreamExt::buffered(
            futures::stream::iter(scans),
            8,
        ));
        found.push(blocks.await.into_iter().collect::<Result<_, _>>().unwrap());
        println!("{name}: 300 headers in {read:?}, with blocks in {:?}", begin.elapsed());
    }
    assert!(found[0].iter().all(|block| block.credits.len() == 1));
    assert_eq!(found[0], found[1]);
    // Both as endpoints of one chain: when one is gone, the other goes on from the same branch.
    let mut both = node.settings.clone();
    both.rpc.extend(without.settings.rpc.clone());
    let source = open(&both).unwrap();
    source.check().await.unwrap();
    let tip = source.tip().await.unwrap();
    drop(node);
    assert_eq!(source.tip().await.unwrap(), tip);
    assert_eq!(source.endpoint(), 1);
    assert_eq!(&source.scan(&tip, &watch).await.unwrap(), found[0].last().unwrap());
}

#[tokio::test]
async fn a_node_of_another_chain_is_refused() {
    let stand = Chain::of("btc").stand;
    for (node, coin) in [("bch", "btc"), ("btc", "bch"), ("ltc", "btc"), ("btc", "ltc")] {
        let error = open(&settings(&stand, node, coin)).unwrap().check().await.unwrap_err();
        assert!(!error.is_transient(), "{error}");
        assert!(error.to_string().contains(&format!("not a node of coin = {coin:?}")), "{error}");
    }
    let mut eth = settings(&stand, "eth", "eth");
    eth.chain_id = Some(1);
    assert!(!open(&eth).unwrap().check().await.unwrap_err().is_transient());
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let stand = Chain::of("btc").stand;
    for node in ["btc", "ltc", "bch"] {
        let mut wrong = settings(&stand, node, node);
        wrong.rpc[0].password = Some("wrong".to_owned().into());
        let error = open(&wrong).unwrap().check().await.unwrap_err();
        assert!(
            !error.is_transient() && error.to_string().contains("refuses user and password"),
            "{node}: {error}"
        );
    }
}
