use std::collections::HashSet;
use std::sync::RwLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tally_address::{AddressParams, address_of};
use tally_matcher::WatchSet;
use tally_ports::{BlockSource, Credit, SharedWatch};
use tally_types::{Script, Span};
use tokio::time::Instant;

use super::*;

/// A clock that stands still until it is moved.
struct Standing(AtomicI64);

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

fn clock() -> Arc<Standing> {
    Arc::new(Standing(AtomicI64::new(1_750_000_000_000)))
}

async fn start() -> Sandbox {
    Sandbox::start(SandboxSettings::four_chains(clock(), 7).unwrap()).await.unwrap()
}

/// The script that payments of a chain go to, and its address.
fn payee(chain: &str) -> (Script, String) {
    let (params, script) = match chain {
        "eth" => (AddressParams::ethereum(31_337), "11".repeat(20)),
        "bch" => {
            (AddressParams::bitcoin(chain, "regtest").unwrap(), format!("76a914{}88ac", "11".repeat(20)))
        }
        _ => (AddressParams::bitcoin(chain, "regtest").unwrap(), format!("0014{}", "11".repeat(20))),
    };
    let script: Script = script.parse().unwrap();
    let address = address_of(&script, params).unwrap().remove(0);
    (script, address)
}

fn pay(chain: &str, amount: &str) -> Pay {
    let (chain, address) = (chain.to_owned(), payee(chain).1);
    Pay { chain, address, amount: amount.to_owned(), asset: None, mode: None }
}

/// The watcher's own adapter on a simulated node.
fn source(sandbox: &Sandbox, id: &str) -> Arc<dyn BlockSource> {
    let node = sandbox.nodes().into_iter().find(|node| node.chain.id.as_str() == id).unwrap();
    let mut settings = serde_json::json!({
        "id": id, "rpc": [{ "url": node.rpc_url, "user": "any", "password": "thing" }],
    });
    let more = match node.chain.kind {
        ChainKind::Bitcoin(coin) => {
            serde_json::json!({ "kind": "bitcoin", "coin": coin.as_str(), "network": "regtest" })
        }
        ChainKind::Ethereum { chain_id, tokens } => {
            let tokens: Vec<_> = tokens
                .iter()
                .map(|one| {
                    serde_json::json!({
                        "symbol": one.symbol, "contract": one.contract, "decimals": one.decimals,
                    })
                })
                .collect();
            serde_json::json!({ "kind": "ethereum", "chain_id": chain_id, "tokens": tokens })
        }
    };
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    tally_chains::open(&serde_json::from_value(settings).unwrap()).unwrap()
}

fn watching(script: &Script) -> SharedWatch {
    let mut set = WatchSet::new(1);
    set.insert_script(script.as_bytes()).unwrap();
    Arc::new(RwLock::new(set))
}

async fn credits(source: &Arc<dyn BlockSource>, watch: &SharedWatch, height: u64) -> Vec<Credit> {
    let header = source.at(Height::new(height)).await.unwrap().unwrap();
    source.scan(&header, watch).await.unwrap().credits
}

#[tokio::test]
async fn it_starts_quickly_and_knows_its_nodes() {
    let begin = Instant::now();
    let sandbox = start().await;
    let took = begin.elapsed();
    println!("started in {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    for id in ["btc", "ltc", "bch", "eth"] {
        assert_eq!(sandbox.tip(id).unwrap().height.get(), 110);
        assert!(sandbox.rpc_url(id).unwrap().starts_with("http://127.0.0.1:"));
    }
    assert!(matches!(sandbox.tip("doge"), Err(SandboxError::UnknownChain { .. })));
    let mut twice = SandboxSettings::four_chains(clock(), 7).unwrap();
    twice.chains.push(twice.chains[0].clone());
    assert!(matches!(Sandbox::start(twice).await, Err(SandboxError::DuplicateChain(_))));
}

#[tokio::test]
async fn the_watchers_adapter_follows_every_chain() {
    let sandbox = start().await;
    for (id, modes) in [
        ("btc", &["normal"][..]),
        ("ltc", &["normal", "pegout"]),
        ("bch", &["normal", "cashtokens"]),
        ("eth", &["normal", "contract"]),
    ] {
        let (script, _) = payee(id);
        let watch = watching(&script);
        let source = source(&sandbox, id);
        source.check().await.unwrap();
        assert_eq!(source.tip().await.unwrap().block, sandbox.tip(id).unwrap(), "{id}");
        for (mode, height) in modes.iter().zip(111_u64..) {
            let name = format!("{id} {mode}");
            let txid = sandbox.pay(&Pay { mode: Some((*mode).to_owned()), ..pay(id, "0.5") }).unwrap();
            let pool = source.mempool(&HashSet::new(), &watch).await.unwrap();
            if id == "eth" {
                assert_eq!(pool, None, "{name}");
            } else {
                let pool = pool.unwrap();
                assert!(pool.present.contains(&txid), "{name}");
                let seen: Vec<_> = pool.credits.iter().map(|credit| credit.key.txid).collect();
                assert_eq!(seen, if *mode == "pegout" { vec![] } else { vec![txid] }, "{name}");
            }
            let tip = sandbox.mine(id, 1).unwrap();
            assert_eq!(source.tip().await.unwrap().block, tip, "{name}");
            let found = credits(&source, &watch, height).await;
            assert_eq!(found.len(), 1, "{name}");
            assert_eq!(found[0].key.txid == txid, *mode != "pegout", "{name}");
            let half = if id == "eth" { 500_000_000_000_000_000 } else { 50_000_000 };
            assert_eq!((found[0].amount.units(), &found[0].script), (half, &script), "{name}");
        }
    }
}

#[tokio::test]
async fn tokens_are_found_and_failed_payments_are_not() {
    let sandbox = start().await;
    let (script, _) = payee("eth");
    let (watch, source) = (watching(&script), source(&sandbox, "eth"));
    source.check().await.unwrap();
    let with = |asset: Option<&str>, mode: &str| {
        let (asset, mode) = (asset.map(str::to_owned), Some(mode.to_owned()));
        sandbox.pay(&Pay { asset, mode, ..pay("eth", "2.5") }).unwrap()
    };
    let paid = [
        with(Some("USDT"), "normal"),
        with(Some("usdt"), "contract"),
        with(None, "contract"),
        with(Some("ETH"), "normal"),
    ];
    for asset in [None, Some("USDT")] {
        with(asset, "failed");
        with(asset, "reverted");
    }
    sandbox.mine("eth", 1).unwrap();
    let found = credits(&source, &watch, 111).await;
    let lines: HashSet<_> =
        found.iter().map(|one| format!("{} {} {}", one.key.txid, one.amount, one.currency)).collect();
    let expected = [
        format!("{} 2500000 USDT", paid[0]),
        format!("{} 2500000 USDT", paid[1]),
        format!("{} 2500000000000000000 ETH", paid[2]),
        format!("{} 2500000000000000000 ETH", paid[3]),
    ];
    assert_eq!(lines, HashSet::from(expected));
}

#[tokio::test]
async fn a_reorg_shows_through_the_adapter() {
    let sandbox = start().await;
    for id in ["btc", "ltc", "bch", "eth"] {
        let (script, _) = payee(id);
        let (watch, source) = (watching(&script), source(&sandbox, id));
        source.check().await.unwrap();
        let kept = sandbox.pay(&pay(id, "1")).unwrap();
        let dropped = sandbox.pay(&pay(id, "2")).unwrap();
        let old = sandbox.mine(id, 1).unwrap();
        assert_eq!(credits(&source, &watch, 111).await.len(), 2);
        let reorg = sandbox.reorg(id, 1, &[dropped]).unwrap();
        assert_eq!((reorg.fork_height.get(), reorg.height.get(), reorg.dropped), (110, 112, vec![dropped]));
        assert_eq!(source.tip().await.unwrap().block.hash, reorg.hash);
        let found = credits(&source, &watch, 111).await;
        assert_eq!(found.iter().map(|one| one.key.txid).collect::<Vec<_>>(), [kept], "{id}");
        let stale = source.header(&old.hash).await.unwrap();
        assert_eq!(stale.map(|header| header.block), Some(old), "{id}");
        let waiting = sandbox.pay(&pay(id, "3")).unwrap();
        let successor = sandbox.replace(id, &waiting).unwrap();
        assert_ne!(successor, waiting);
        sandbox.mine(id, 1).unwrap();
        assert_eq!(credits(&source, &watch, 113).await, [], "{id}");
    }
}

#[tokio::test]
async fn faults_are_errors_that_pass() {
    let sandbox = start().await;
    for id in ["btc", "ltc", "bch", "eth"] {
        let (script, _) = payee(id);
        let (watch, source) = (watching(&script), source(&sandbox, id));
        source.check().await.unwrap();
        sandbox.pay(&pay(id, "1")).unwrap();
        sandbox.mine(id, 1).unwrap();
        let header = source.tip().await.unwrap();
        for kind in [FaultKind::Lie, FaultKind::Truncate] {
            sandbox.set_fault(id, kind, true).unwrap();
            let error = source.scan(&header, &watch).await.unwrap_err();
            assert!(error.is_transient(), "{id} {kind}: {error}");
            sandbox.set_fault(id, kind, false).unwrap();
            assert_eq!(source.scan(&header, &watch).await.unwrap().credits.len(), 1, "{id} {kind}");
        }
        sandbox.set_fault(id, FaultKind::Lag, true).unwrap();
        assert_eq!(source.tip().await.unwrap().block.height.get(), 108, "{id}");
        sandbox.set_fault(id, FaultKind::Lag, false).unwrap();
        sandbox.set_fault(id, FaultKind::Stall, true).unwrap();
        let stalled = tokio::time::timeout(Duration::from_millis(200), source.tip()).await;
        assert!(stalled.is_err(), "{id}");
        sandbox.set_fault(id, FaultKind::Stall, false).unwrap();
        assert_eq!(source.tip().await.unwrap().block.height.get(), 111, "{id}");
    }
}

#[tokio::test]
async fn waiting_ends_when_a_block_is_mined() {
    let sandbox = start().await;
    for id in ["btc", "eth"] {
        let source = source(&sandbox, id);
        source.check().await.unwrap();
        let tip = source.tip().await.unwrap().block.hash;
        let begin = Instant::now();
        let waiting = source.wait(&tip, Span::from_secs(20));
        let mining = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            sandbox.mine(id, 1).unwrap();
        };
        tokio::join!(waiting, mining);
        assert!(begin.elapsed() < Duration::from_secs(5), "{id}: {:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn blocks_follow_the_clock_and_come_by_themselves_when_told() {
    let clock = clock();
    let shared: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
    let mut settings = SandboxSettings::four_chains(shared, 7).unwrap();
    settings.auto_mine = Some(Span::from_millis(20));
    let sandbox = Sandbox::start(settings).await.unwrap();
    let later = clock.0.fetch_add(1_200_000, Ordering::SeqCst) / 1000 + 1200;
    for id in ["btc", "ltc", "bch", "eth"] {
        let source = source(&sandbox, id);
        let height = sandbox.tip(id).unwrap().height;
        let grown = async {
            while sandbox.tip(id).unwrap().height.get() < height.get() + 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), grown).await.unwrap();
        assert!(source.tip().await.unwrap().time.secs() >= later, "{id}");
    }
}

#[tokio::test]
async fn a_payment_that_cannot_be_made_names_the_fault() {
    let sandbox = start().await;
    let base = || pay("btc", "1");
    let ltc = payee("ltc").1;
    for (name, pay, code, told) in [
        (
            "chain",
            Pay { chain: "doge".into(), ..base() },
            "unknown_chain",
            "\"doge\" is not one of btc, ltc, bch, eth",
        ),
        ("address", Pay { address: "x".into(), ..base() }, "bad_address", "btc regtest address"),
        ("another coin's", Pay { address: ltc, ..base() }, "bad_address", "another network"),
        ("no amount", Pay { amount: "".into(), ..base() }, "bad_amount", "not a plain decimal"),
        ("zero", Pay { amount: "0.0".into(), ..base() }, "bad_amount", "not greater than zero"),
        ("negative", Pay { amount: "-1".into(), ..base() }, "bad_amount", "not a plain decimal"),
        ("too fine", Pay { amount: "0.000000001".into(), ..base() }, "bad_amount", "more digits"),
        ("too large", Pay { amount: "999999999999".into(), ..base() }, "bad_amount", "too large"),
        ("too much", Pay { amount: "20000000".into(), ..base() }, "faucet_empty", "mine blocks"),
        ("asset", Pay { asset: Some("ETH".into()), ..base() }, "unknown_asset", "\"ETH\" is not one of BTC"),
        ("token", Pay { asset: Some("DAI".into()), ..pay("eth", "1") }, "unknown_asset", "ETH, USDT"),
        ("mode", Pay { mode: Some("pegout".into()), ..base() }, "unknown_mode", "not one of normal on"),
        (
            "eth mode",
            Pay { mode: Some("pegout".into()), ..pay("eth", "1") },
            "unknown_mode",
            "normal, contract",
        ),
    ] {
        let error = sandbox.pay(&pay).unwrap_err();
        assert_eq!(error.code(), code, "{name}: {error}");
        assert!(error.to_string().contains(told), "{name}: {error}");
    }
    for blocks in [0, 1_001] {
        assert!(matches!(sandbox.mine("btc", blocks), Err(SandboxError::Blocks { .. })));
        assert!(matches!(sandbox.reorg("eth", blocks, &[]), Err(SandboxError::Blocks { .. })));
    }
    let nobody = TxId::from_display([1; 32]);
    for id in ["btc", "eth"] {
        assert!(matches!(sandbox.replace(id, &nobody), Err(SandboxError::UnknownTransaction { .. })));
        assert!(matches!(sandbox.reorg(id, 1, &[nobody]), Err(SandboxError::UnknownTransaction { .. })));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_is_kept_has_its_chains_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sandbox.jsonl");
    let clock = clock();
    let begin = async |seed: u64| {
        let settings = SandboxSettings::four_chains(clock.clone(), seed).unwrap();
        Sandbox::start(SandboxSettings { journal: Some(path.clone()), ..settings }).await
    };
    let chains = ["btc", "ltc", "bch", "eth"];
    let tips = |sandbox: &Sandbox| chains.map(|chain| sandbox.tip(chain).unwrap());
    let first = begin(7).await.unwrap();
    for chain in chains {
        let txid = first.pay(&pay(chain, "0.5")).unwrap();
        clock.0.fetch_add(600_000, Ordering::SeqCst);
        first.mine(chain, 3).unwrap();
        first.reorg(chain, 2, &[]).unwrap();
        assert!(first.pay(&pay(chain, "nonsense")).is_err());
        first.reorg(chain, 4, &[txid]).unwrap();
    }
    let by = first.pay(&pay("btc", "0.25")).unwrap();
    first.replace("btc", &by).unwrap();
    first.mine("btc", 1).unwrap();
    let kept = tips(&first);
    drop(first);

    // Another seed, another time, and a line that was cut off: the file decides.
    clock.0.fetch_add(86_400_000, Ordering::SeqCst);
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("{\"op\":\"mi");
    std::fs::write(&path, text).unwrap();
    let second = begin(8).await.unwrap();
    assert_eq!(tips(&second), kept);
    second.mine("ltc", 1).unwrap();
    let kept = tips(&second);
    drop(second);
    assert_eq!(tips(&begin(9).await.unwrap()), kept);

    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("{\"op\":\"mined\",\"chain\":\"doge\",\"at\":\"2026-01-01T00:00:00Z\"}\n");
    std::fs::write(&path, text).unwrap();
    assert!(matches!(begin(7).await, Err(SandboxError::Replay(_))));
}
