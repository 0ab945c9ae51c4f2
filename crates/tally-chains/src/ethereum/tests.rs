use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::testing::{FakeNode, settings, watching};

const PAYER: &str = "0x00000000000000000000000000000000000000aa";
const SHOP: &str = "0x00000000000000000000000000000000000000dd";

fn hash(height: u64) -> String {
    format!("0x{height:064x}")
}

fn source(keys: &Value, nodes: &[&FakeNode]) -> Arc<dyn BlockSource> {
    let rpc: Vec<_> = nodes.iter().map(|node| json!({"url": node.url})).collect();
    let mut all = json!({"id": "eth", "kind": "ethereum", "chain_id": 31337, "rpc": rpc});
    all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    crate::open(&settings(&all.to_string())).unwrap()
}

/// A block whose hash is its height, with a payment of its height in wei.
fn block(height: u64, whole: bool) -> Value {
    let payment =
        json!({"hash": hash(1_000 + height), "from": PAYER, "to": SHOP, "value": format!("{height:#x}")});
    json!({
        "hash": hash(height), "number": format!("{height:#x}"), "parentHash": hash(height - 1),
        "timestamp": "0x5", "logsBloom": format!("0x{}", "00".repeat(256)),
        "transactions": [if whole { payment } else { payment["hash"].clone() }],
    })
}

fn receipt(height: u64) -> Value {
    json!({
        "transactionHash": hash(1_000 + height), "blockHash": hash(height),
        "blockNumber": format!("{height:#x}"), "status": "0x1", "logs": [], "contractAddress": null,
        "gasUsed": "0x5208", "effectiveGasPrice": "0x2",
    })
}

fn number(text: &Value) -> u64 {
    let text = text.as_str().unwrap().trim_start_matches("0x").trim_start_matches('0');
    if text.is_empty() { 0 } else { u64::from_str_radix(text, 16).unwrap_or(u64::MAX) }
}

/// A node with blocks 1 to `tip`, as anvil answers.
fn node(chain_id: u64, tip: u64) -> (FakeNode, Arc<Mutex<u64>>) {
    let (node, tip) = (FakeNode::start(), Arc::new(Mutex::new(tip)));
    let known = Arc::clone(&tip);
    node.says("eth_chainId", Ok(json!(format!("{chain_id:#x}"))));
    node.answers("eth_blockNumber", move |_| Ok(json!(format!("{:#x}", *known.lock().unwrap()))));
    let known = Arc::clone(&tip);
    node.answers("eth_getBlockByNumber", move |params| {
        let tip = *known.lock().unwrap();
        let height = if params[0] == "latest" { tip } else { number(&params[0]) };
        Ok(if height <= tip { block(height, params[1] == true) } else { Value::Null })
    });
    let known = Arc::clone(&tip);
    node.answers("eth_getBlockByHash", move |params| {
        let height = number(&params[0]);
        let found = height <= *known.lock().unwrap();
        Ok(if found { block(height, params[1] == true) } else { Value::Null })
    });
    // Whoever is asked for has as much as was paid to the shop so far.
    node.answers("eth_getBalance", |params| {
        let height = number(&params[1]["blockHash"]);
        Ok(json!(format!("{:#x}", height * (height + 1) / 2)))
    });
    node.answers("eth_getBlockReceipts", |params| Ok(json!([receipt(number(&params[0]))])));
    node.answers("debug_traceBlockByHash", |params| {
        assert_eq!(params[1], json!({"tracer": "callTracer"}));
        match number(&params[0]) {
            0 => Err((-32001, "Resource not found")),
            height => Ok(json!([{"txHash": hash(1_000 + height), "result": {
                "type": "CALL", "from": PAYER, "to": SHOP, "value": format!("{height:#x}"), "input": "0x"}}])),
        }
    });
    (node, tip)
}

#[tokio::test]
async fn a_node_must_be_of_the_configured_chain() {
    let (main, _) = node(1, 3);
    let error = source(&json!({}), &[&main]).check().await.unwrap_err();
    let told = format!("{}: its chain id is 1, not chain_id = 31337", main.url);
    assert_eq!((error.to_string(), error.is_transient()), (told, false));
    let (ours, _) = node(31_337, 3);
    source(&json!({}), &[&ours]).check().await.unwrap();
}

#[tokio::test]
async fn faults_say_whether_they_may_pass() {
    for (name, status, transient, told) in [
        ("no answer", Some(0), true, "the node does not answer"),
        ("wrong key", Some(401), false, "the node refuses user and password, or its key"),
        ("too many questions", Some(429), true, "eth_chainId: http status 429"),
    ] {
        let (node, _) = node(31_337, 3);
        node.fails(status);
        let error = source(&json!({}), &[&node]).check().await.unwrap_err();
        assert_eq!(error.to_string(), format!("{}: {told}", node.url), "{name}");
        assert_eq!(error.is_transient(), transient, "{name}");
    }
}

#[tokio::test]
async fn headers_by_height_and_hash() {
    let (node, tip) = node(31_337, 3);
    let source = source(&json!({}), &[&node]);
    let latest = source.tip().await.unwrap();
    assert_eq!((latest.block.height.get(), latest.time.secs()), (3, 5));
    assert_eq!(format!("0x{}", latest.prev), hash(2));
    assert_eq!(source.at(Height::new(3)).await.unwrap(), Some(latest));
    assert_eq!(source.header(&latest.block.hash).await.unwrap(), Some(latest));
    assert_eq!(source.at(Height::new(4)).await.unwrap(), None);
    assert_eq!(source.header(&BlockHash::from_display([7; 32])).await.unwrap(), None);
    // Another node behind the same address is ahead of the one that answered.
    node.says("eth_blockNumber", Ok(json!("0x9")));
    assert!(source.at(Height::new(4)).await.unwrap_err().is_transient());
    node.answers("eth_getBlockByNumber", |_| Ok(block(2, false)));
    assert!(source.at(Height::new(3)).await.unwrap_err().is_transient());
    node.answers("eth_getBlockByHash", |_| Ok(block(2, false)));
    assert!(source.header(&latest.block.hash).await.unwrap_err().to_string().contains("is told as block"));
    drop(tip);
}

#[tokio::test]
async fn a_block_by_whatever_the_node_offers() {
    let missing = (-32601, "the method does not exist/is not available");
    for (name, keys, without, method, receipts_alone) in [
        ("by trace", json!({}), &[][..], "trace", 0),
        ("no traces", json!({}), &["debug_traceBlockByHash"], "balance", 0),
        ("traces not wanted", json!({"trace": "off"}), &[], "balance", 0),
        ("receipts one by one", json!({}), &["eth_getBlockReceipts"], "trace", 1),
    ] {
        let (node, _) = node(31_337, 3);
        for method in without {
            node.says(method, Err(missing));
        }
        node.says("eth_getTransactionReceipt", Ok(receipt(3)));
        let source = source(&keys, &[&node]);
        let watch = watching(&[&SHOP[2..]]);
        let tip = source.tip().await.unwrap();
        for _ in 0..2 {
            let scanned = source.scan(&tip, &watch).await.unwrap();
            assert_eq!((scanned.header, scanned.method.as_deref()), (tip, Some(method)), "{name}");
            let [credit] = scanned.credits.as_slice() else { panic!("{name}: {scanned:?}") };
            assert_eq!((credit.key.slot.as_str(), credit.amount.units()), ("value", 3), "{name}");
        }
        let asked = node.asked("debug_traceBlockByHash");
        let expected = if method == "trace" { 2 } else { without.len() };
        assert_eq!(asked, expected, "{name}: a node without traces is asked once");
        assert_eq!(node.asked("eth_getTransactionReceipt"), 2 * receipts_alone, "{name}");
        assert_eq!(source.mempool(&HashSet::new(), &watch).await.unwrap(), None);
    }
}

#[tokio::test]
async fn traces_can_be_required() {
    let (node, _) = node(31_337, 3);
    let source = source(&json!({"trace": "required"}), &[&node]);
    source.check().await.unwrap();
    node.says("debug_traceBlockByHash", Err((-32601, "Method not found")));
    let error = source.check().await.unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("trace = \"required\""), "{error}");
}

#[tokio::test]
async fn what_is_absent_is_asked_for_again() {
    let pruned = Err((-32000, "required historical state unavailable (reexec=128)"));
    for (name, keys, spoiled, answer, outcome) in [
        ("no block", json!({}), "eth_getBlockByHash", Ok(Value::Null), Err("is absent")),
        ("no receipts", json!({}), "eth_getBlockReceipts", Ok(Value::Null), Err("are absent")),
        ("no traces", json!({}), "debug_traceBlockByHash", Ok(Value::Null), Err("are absent")),
        (
            "a fault",
            json!({}),
            "debug_traceBlockByHash",
            Err((-32000, "execution timeout")),
            Err("execution timeout"),
        ),
        ("no state to trace", json!({}), "debug_traceBlockByHash", pruned.clone(), Ok("balance")),
        (
            "no state, required",
            json!({"trace": "required"}),
            "debug_traceBlockByHash",
            pruned,
            Err("historical"),
        ),
    ] {
        let (node, _) = node(31_337, 3);
        let source = source(&keys, &[&node]);
        let tip = source.tip().await.unwrap();
        node.says(spoiled, answer);
        match (source.scan(&tip, &watching(&[])).await, outcome) {
            (Ok(block), Ok(method)) => assert_eq!(block.method.as_deref(), Some(method), "{name}"),
            (Err(error), Err(told)) => {
                assert!(error.is_transient() && error.to_string().contains(told), "{name}: {error}");
            }
            (outcome, _) => panic!("{name}: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn another_node_takes_over() {
    let (first, _) = node(31_337, 3);
    let (foreign, _) = node(1, 9);
    let (second, _) = node(31_337, 4);
    let source = source(&json!({}), &[&first, &foreign, &second]);
    assert_eq!(source.tip().await.unwrap().block.height.get(), 3);
    first.fails(Some(503));
    assert_eq!(source.tip().await.unwrap().block.height.get(), 4);
}

#[tokio::test]
async fn waiting_ends_with_another_tip_or_in_time() {
    let (node, tip) = node(31_337, 3);
    let source = source(&json!({}), &[&node]);
    let seen = source.tip().await.unwrap().block.hash;
    let begin = Instant::now();
    source.wait(&seen, Span::from_millis(300)).await;
    let waited = begin.elapsed();
    assert!((Duration::from_millis(280)..Duration::from_millis(900)).contains(&waited), "{waited:?}");
    let moved = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        *tip.lock().unwrap() = 4;
    };
    tokio::join!(source.wait(&seen, Span::from_secs(20)), moved);
    source.wait(&seen, Span::from_secs(20)).await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

mod balances;
mod faults;
