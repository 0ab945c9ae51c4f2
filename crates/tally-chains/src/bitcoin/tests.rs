use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;
use tally_matcher::{OutPoint as RawOutPoint, sha256d};
use tally_ports::Credit;
use tokio::time::Instant;

use self::chain::{Known, elsewhere, mine, node, printed, tx};
use super::*;
use crate::testing::{FakeNode, settings, watching};

mod chain;
mod faults;
mod moving;
mod proof;

const P2WPKH: &str = "00141111111111111111111111111111111111111111";
const P2PKH: &str = "76a914222222222222222222222222222222222222222288ac";
const CORE: &str = "/Satoshi:28.1.0/";

fn script(text: &str) -> Vec<u8> {
    const_hex::decode(text).unwrap()
}

fn source(coin: &str, nodes: &[&FakeNode]) -> Arc<dyn BlockSource> {
    let rpc: Vec<_> = nodes.iter().map(|node| json!({"url": node.url})).collect();
    let settings = json!({"id": coin, "kind": "bitcoin", "coin": coin, "network": "regtest", "rpc": rpc});
    crate::open(&settings_of(&settings)).unwrap()
}

fn settings_of(json: &serde_json::Value) -> ChainSettings {
    settings(&json.to_string())
}

fn lines(credits: &[Credit]) -> Vec<String> {
    let line =
        |one: &Credit| format!("{} {} {} from {}", one.key, one.amount, one.currency, one.inputs.len());
    credits.iter().map(line).collect()
}

#[tokio::test]
async fn a_node_must_be_of_the_configured_chain() {
    for (name, coin, agent, told) in [
        ("core", "btc", CORE, None),
        ("bcoin", "btc", "/bcoin:v1.0.2/", None),
        ("an unknown node", "btc", "/new:1/", None),
        ("bcash", "bch", "/bcash:1.1.1/", None),
        ("bcash for btc", "btc", "/bcash:1.1.1/", Some("it calls itself \"/bcash:1.1.1/\"")),
        ("core for bch", "bch", CORE, Some("it calls itself \"/Satoshi:28.1.0/\"")),
        ("another genesis block", "ltc", "/LitecoinCore:0.21.2.1/", Some("its genesis block is 0f9188f1")),
    ] {
        let (node, _) = node(2, agent, -5);
        let outcome = source(coin, &[&node]).check().await;
        match (outcome, told) {
            (Ok(()), None) => {}
            (Err(error), Some(told)) => {
                let text = error.to_string();
                assert!(text.contains(told) && text.starts_with(&node.url), "{name}: {text}");
                assert!(!error.is_transient(), "{name}");
            }
            (outcome, _) => panic!("{name}: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn faults_say_whether_they_may_pass() {
    for (name, status, warming_up, transient, told) in [
        ("no answer", Some(0), false, true, "the node is too busy to answer, or gone"),
        ("wrong password", Some(401), false, false, "the node refuses user and password, or the cookie"),
        ("work queue full", Some(503), false, true, "the node is too busy to answer, or gone"),
        ("something else in front", Some(502), false, true, "getblockhash: http status 502"),
        ("starting", None, true, true, "getblockhash: \"Loading block index...\" (code -28)"),
    ] {
        let (node, _) = node(1, CORE, -5);
        node.fails(status);
        if warming_up {
            node.says("getblockhash", Err((-28, "Loading block index...")));
        }
        let error = source("btc", &[&node]).check().await.unwrap_err();
        assert_eq!(error.to_string(), format!("{}: {told}", node.url), "{name}");
        assert_eq!(error.is_transient(), transient, "{name}");
    }
}

#[tokio::test]
async fn a_node_that_is_not_there_is_told() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rpc = json!([{"url": format!("http://{free}")}]);
    let keys = json!({"id": "btc", "kind": "bitcoin", "coin": "btc", "network": "regtest", "rpc": rpc});
    let error = crate::open(&settings_of(&keys)).unwrap().check().await.unwrap_err();
    assert_eq!(
        (error.to_string(), error.is_transient()),
        (format!("http://{free}: the node does not answer"), true)
    );
}

#[tokio::test]
async fn users_and_cookies_sign_in() {
    let (node, _) = node(1, CORE, -5);
    node.wants("Basic dXNlcjpnZWhlaW0=");
    let open = |auth: serde_json::Value| {
        let mut rpc = json!({"url": node.url});
        rpc.as_object_mut().unwrap().extend(auth.as_object().unwrap().clone());
        let settings =
            json!({"id": "btc", "kind": "bitcoin", "coin": "btc", "network": "regtest", "rpc": [rpc]});
        crate::open(&settings_of(&settings)).unwrap()
    };
    open(json!({"user": "user", "password": "geheim"})).check().await.unwrap();
    let error = open(json!({"user": "user", "password": "falsch"})).check().await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("falsch"));
    let file = tempfile::NamedTempFile::new().unwrap();
    let source = open(json!({"cookie": file.path()}));
    let error = source.check().await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("cannot be read"), "{error}");
    std::fs::write(file.path(), "user:geheim\n").unwrap();
    source.check().await.unwrap();
}

#[tokio::test]
async fn headers_come_from_their_bytes() {
    for not_found in [-5, -1] {
        let (node, known) = node(3, CORE, not_found);
        let source = source("btc", &[&node]);
        let tip = source.tip().await.unwrap();
        assert_eq!((tip.block.height.get(), tip.time.secs()), (3, 1_700_000_003));
        assert_eq!(source.at(Height::new(3)).await.unwrap(), Some(tip));
        assert_eq!(source.at(Height::new(4)).await.unwrap(), None);
        let below = source.at(Height::new(2)).await.unwrap().unwrap();
        assert_eq!(tip.prev, below.block.hash);
        let stale = {
            let mut known = known.lock().unwrap();
            let stale = mine(&known.best[1].clone(), 5, &[]);
            known.stale.push((2, stale.clone()));
            Known::hash(&stale)
        };
        let stale = source.header(&stale.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!((stale.block.height.get(), stale.prev), (2, below.prev));
        assert_eq!(source.header(&BlockHash::from_display([7; 32])).await.unwrap(), None);
    }
}

#[tokio::test]
async fn work_is_told_of_blocks_of_any_branch() {
    let (node, known) = node(2, CORE, -5);
    let source = source("btc", &[&node]);
    let stale = mine(&known.lock().unwrap().best[1].clone(), 5, &[]);
    known.lock().unwrap().stale.push((2, stale.clone()));
    let easiest = Some(2);
    assert_eq!(source.work(&source.tip().await.unwrap().block.hash).await.unwrap(), easiest);
    assert_eq!(source.work(&Known::hash(&stale).parse().unwrap()).await.unwrap(), easiest);
    assert_eq!(source.work(&BlockHash::from_display([7; 32])).await.unwrap(), None);
    for (bits, work) in [
        (0x207f_ffff, 2),
        (0x1d00_ffff, 0x1_0001_0001),
        // Half the target is twice the work.
        (0x1700_8000, 1 << (256 - 160 - 15)),
        (0x1700_4000, 1 << (256 - 160 - 14)),
        (0x0300_0001, u128::MAX),
        (0x0000_0000, 0),
    ] {
        assert_eq!(super::scan::work_of(bits), work, "{bits:#x}");
    }
}

#[tokio::test]
async fn bytes_that_lie_are_never_a_result() {
    let (node, known) = node(2, CORE, -5);
    let source = source("btc", &[&node]);
    let watch = watching(&[P2WPKH]);
    let pay = tx(&[elsewhere(1)], &[(700, script(P2WPKH))]);
    {
        let mut known = known.lock().unwrap();
        known.best[2] = mine(&known.best[1].clone(), 9, &[pay]);
    }
    let tip = source.tip().await.unwrap();
    let (good, other) = {
        let known = known.lock().unwrap();
        (known.best[2].clone(), known.best[1].clone())
    };
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let value_at = good.windows(8).position(|bytes| bytes == 700_u64.to_le_bytes()).unwrap();
    for (name, bytes, told) in [
        ("good", good.clone(), None),
        ("another amount", with(value_at, 9), Some("merkle root")),
        ("paid to somebody else", with(value_at + 9, 1), Some("merkle root")),
        ("another block", other, Some("is that of")),
        ("cut off", good[..good.len() - 9].to_vec(), Some("the bytes end")),
        ("bytes behind", [&good[..], &[0]].concat(), Some("1 bytes too many")),
        ("an easier target than regtest's", with(75, 0x21), Some("is that of")),
    ] {
        let hex = const_hex::encode(&bytes);
        node.says("getblock", Ok(json!(hex)));
        match (source.scan(&tip, &watch).await, told) {
            (Ok(block), None) => assert_eq!(block.credits.len(), 1, "{name}"),
            (Err(error), Some(told)) => {
                assert!(error.is_transient() && error.to_string().contains(told), "{name}: {error}");
            }
            (outcome, _) => panic!("{name}: {outcome:?}"),
        }
    }
    node.says("getblock", Err((-1, "Block not available (pruned data)")));
    let error = source.scan(&tip, &watch).await.unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("pruned"), "{error}");
    node.says("getblockheader", Ok(json!("00".repeat(80))));
    assert!(source.tip().await.unwrap_err().is_transient());
}

#[tokio::test]
async fn a_block_shows_payments_and_spends() {
    let (node, known) = node(1, CORE, -5);
    let source = source("btc", &[&node]);
    let pay =
        tx(&[elsewhere(1), elsewhere(2)], &[(5, script(P2PKH)), (700, script(P2WPKH)), (0, script(P2WPKH))]);
    let id = sha256d(&pay);
    let spend = tx(&[RawOutPoint { txid: id, vout: 1 }, elsewhere(3)], &[(600, vec![0x51])]);
    {
        let mut known = known.lock().unwrap();
        let block = mine(&known.best[1].clone(), 9, &[pay, spend.clone()]);
        known.best.push(block);
    }
    let watch = watching(&[P2WPKH]);
    watch.write().unwrap().insert_outpoint(&elsewhere(3)).unwrap();
    let tip = source.tip().await.unwrap();
    let block = source.scan(&tip, &watch).await.unwrap();
    assert_eq!((block.header, block.method), (tip, None));
    assert_eq!(
        lines(&block.credits),
        [format!("{}:1 700 BTC from 2", printed(id))],
        "a payment of nothing is none"
    );
    assert_eq!(block.credits[0].script.to_string(), P2WPKH);
    let by = TxId::from_internal(sha256d(&spend));
    let spent: Vec<_> = block.spends.iter().map(|one| (one.outpoint.txid.internal_bytes(), one.by)).collect();
    assert_eq!(spent, [(id, by), (elsewhere(3).txid, by)]);
}

#[tokio::test]
async fn tokens_of_bitcoin_cash_do_not_hide_the_script() {
    let (node, known) = node(1, "/bcash:1.1.1/", -1);
    let source = source("bch", &[&node]);
    let behind = [&[0xef], &[0x11; 32][..], &[0x10, 0x01], &script(P2PKH)].concat();
    let pay = tx(&[elsewhere(1)], &[(700, behind)]);
    let id = printed(sha256d(&pay));
    {
        let mut known = known.lock().unwrap();
        let block = mine(&known.best[1].clone(), 9, std::slice::from_ref(&pay));
        known.best.push(block);
        known.mempool.push(pay);
    }
    let watch = watching(&[P2PKH]);
    let tip = source.tip().await.unwrap();
    let block = source.scan(&tip, &watch).await.unwrap();
    assert_eq!(lines(&block.credits), [format!("{id}:0 700 BCH from 1")]);
    assert_eq!(block.credits[0].script.to_string(), P2PKH);
    let diff = source.mempool(&HashSet::new(), &watch).await.unwrap().unwrap();
    assert_eq!(diff.credits, block.credits);
}

/// Mined by litecoind 0.21.2.1 on regtest: the HogEx pays 3 LTC out of the extension block.
#[test]
fn a_real_peg_out_of_litecoin_is_credited_from_its_block() {
    let bytes = script(include_str!("../../testdata/ltc_regtest_434_block.hex").trim());
    let ltc = json!({"id": "ltc", "kind": "bitcoin", "coin": "ltc", "network": "regtest"});
    let network = Network::of(&settings_of(&ltc)).unwrap();
    let hash = "3fd17c39e1e97554b5e505a09b95c201b57283f5743776b5bb0497191fc7a319".parse().unwrap();
    let work = scan::Work::new(network);
    let header = scan::header(&bytes[..80], hash, Height::new(434), &work).unwrap();
    let currency = network.currency().unwrap();
    // The HogEx's own first output, and the peg-out behind it.
    let hogaddr = {
        let at = bytes.windows(2).rposition(|bytes| bytes == [0x58, 0x20]).unwrap();
        const_hex::encode(&bytes[at..at + 34])
    };
    let watch = watching(&["00144bd81867d359512e16b86fd2d457a0a07213b0c5", &hogaddr]);
    let block = scan::block(&bytes, &header, &work, &currency, &watch).unwrap();
    let id = "1e526c2cc0ccfb3df7ceedfcb8fe1bb0aa406020e7260c1ba0132e031524ac8c";
    assert_eq!(lines(&block.credits), [format!("{id}:1 300000000 LTC from 1")]);

    for (name, hex, id) in [
        (
            "peg-in",
            include_str!("../../testdata/ltc_pegin_tx.hex"),
            "c5a214a3a554f3eb172bfd3ad8475fd087c3ecee616e0ef5409d08f5b6f8d856",
        ),
        ("all mweb, named by its kernel", include_str!("../../testdata/ltc_mweb_only_tx.hex"), P2PKH_ID),
    ] {
        let bytes = script(hex.trim());
        let found = scan::transaction(&bytes, id.parse().unwrap(), network, &currency, &watch);
        assert_eq!(found, Ok(Some(scan::Found::default())), "{name}");
    }
    let without_mweb = script("02000000000000000000");
    let found = scan::transaction(&without_mweb, P2PKH_ID.parse().unwrap(), network, &currency, &watch);
    assert_eq!(found, Ok(None));
}

const P2PKH_ID: &str = "0535352734597f5a75b8a2e9263a1ce3b49181fed3aa73c426e19bb112c0823f";

#[tokio::test]
async fn the_mempool_shows_what_was_not_known() {
    let (node, known) = node(1, CORE, -1);
    let source = source("btc", &[&node]);
    let watch = watching(&[P2WPKH]);
    let empty = source.mempool(&HashSet::new(), &watch).await.unwrap().unwrap();
    assert_eq!((empty.present.len(), empty.credits.len()), (0, 0));
    let first = tx(&[elsewhere(1)], &[(700, script(P2WPKH))]);
    let second = tx(&[elsewhere(2)], &[(800, script(P2WPKH))]);
    let gone = printed([9; 32]);
    {
        let mut known = known.lock().unwrap();
        known.mempool = vec![first.clone(), second.clone(), vec![1, 2, 3]];
        known.gone = vec![gone.clone()];
    }
    watch.write().unwrap().insert_outpoint(&elsewhere(2)).unwrap();
    let ids = [&first, &second].map(|tx| TxId::from_internal(sha256d(tx)));
    let garbage = TxId::from_internal(sha256d(&[1, 2, 3]));
    let diff = source.mempool(&HashSet::from([ids[0]]), &watch).await.unwrap().unwrap();
    assert_eq!(diff.tip, source.tip().await.unwrap().block.hash);
    assert_eq!(diff.present, HashSet::from([ids[0], ids[1], garbage]), "what is gone is not told as present");
    assert_eq!(lines(&diff.credits), [format!("{}:0 800 BTC from 1", ids[1])]);
    assert_eq!(diff.spends.iter().map(|one| (one.outpoint.vout, one.by)).collect::<Vec<_>>(), [(2, ids[1])]);
    let asked = node.asked("getrawtransaction");
    source.mempool(&diff.present, &watch).await.unwrap().unwrap();
    assert_eq!(node.asked("getrawtransaction"), asked + 1, "the one that was gone is asked for again");
    // The tip moves between the two looks at it.
    let mut tips = [[1_u8; 32], [2; 32]].into_iter().cycle();
    node.answers("getbestblockhash", move |_| Ok(json!(printed(tips.next().unwrap()))));
    assert_eq!(source.mempool(&HashSet::new(), &watch).await.unwrap(), None);
}

#[tokio::test]
async fn another_node_takes_over() {
    let (first, _) = node(2, CORE, -5);
    let (foreign, _) = node(2, "/bcash:1.1.1/", -1);
    let (second, _) = node(3, CORE, -5);
    let source = source("btc", &[&first, &foreign, &second]);
    assert_eq!(source.tip().await.unwrap().block.height.get(), 2);
    first.fails(Some(0));
    assert_eq!(source.tip().await.unwrap().block.height.get(), 3);
    first.fails(None);
    assert_eq!(source.tip().await.unwrap().block.height.get(), 3);
    second.fails(Some(503));
    assert_eq!(source.tip().await.unwrap().block.height.get(), 2);
}

#[tokio::test]
async fn waiting_ends_with_another_tip_or_in_time() {
    for long_poll in [false, true] {
        let (node, known) = node(1, CORE, -1);
        let grow = |known: &Mutex<Known>| {
            let mut known = known.lock().unwrap();
            let block = mine(&known.best.last().unwrap().clone(), 77, &[]);
            known.best.push(block);
        };
        let source = source("btc", &[&node]);
        let tip = source.tip().await.unwrap().block.hash;
        let begin = Instant::now();
        source.wait(&tip, Span::from_millis(300)).await;
        let waited = begin.elapsed();
        assert!((Duration::from_millis(280)..Duration::from_millis(900)).contains(&waited), "{waited:?}");
        if long_poll {
            let known = Arc::clone(&known);
            node.answers("waitfornewblock", move |_| {
                std::thread::sleep(Duration::from_millis(50));
                grow(&known);
                let known = known.lock().unwrap();
                Ok(json!({"hash": Known::hash(known.best.last().unwrap()), "height": 2}))
            });
            source.check().await.unwrap();
        } else {
            grow(&known);
        }
        source.wait(&tip, Span::from_secs(20)).await;
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        assert_ne!(source.tip().await.unwrap().block.hash, tip);
        assert_eq!(
            node.asked("waitfornewblock"),
            if long_poll { 2 } else { 1 },
            "asked once where it is absent"
        );
    }
}
