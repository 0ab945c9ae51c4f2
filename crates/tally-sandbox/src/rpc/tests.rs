use axum::body::{Body, to_bytes};
use axum::http::Request;
use serde_json::{Value, json};
use tally_types::Timestamp;
use tower::ServiceExt;

use super::bitcoin::BitcoinMethods;
use super::ethereum::EthereumMethods;
use super::*;
use crate::account::{AccountMode, Address, Hash, Payment, SimulatedAccountChain, Token};
use crate::node::{FaultKind, Node};
use crate::settings::Coin;
use crate::utxo::{CoinRules, SimulatedUtxoChain, UtxoMode};

const NOW: Timestamp = Timestamp::from_secs(1_750_000_000);
const TOKEN: Address = Address([0xda; 20]);

fn bitcoin_node() -> (Arc<Node<SimulatedUtxoChain>>, Router) {
    let chain = SimulatedUtxoChain::new(CoinRules::of(Coin::Btc), 7, NOW, 110).unwrap();
    let node = Arc::new(Node::new(chain));
    (Arc::clone(&node), router(Arc::new(BitcoinMethods(node))))
}

fn ethereum_node() -> (Arc<Node<SimulatedAccountChain>>, Router) {
    let token = Token { symbol: "USDT".parse().unwrap(), contract: TOKEN, decimals: 6 };
    let node = Arc::new(Node::new(SimulatedAccountChain::new(31_337, vec![token], 7, NOW, 110)));
    (Arc::clone(&node), router(Arc::new(EthereumMethods(node))))
}

async fn post_text(router: &Router, body: String) -> (u16, String) {
    let request = Request::post("/").header("authorization", "Basic eDp5").body(Body::from(body)).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn post_json(router: &Router, body: Value) -> (u16, Value) {
    let (status, body) = post_text(router, body.to_string()).await;
    (status, serde_json::from_str(&body).unwrap())
}

/// The result of a call, or its error's code.
async fn ask(router: &Router, method: &str, params: Value) -> Result<Value, i64> {
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let (status, answer) = post_json(router, call).await;
    assert_eq!((status, &answer["id"]), (200, &json!(1)), "{method}");
    match answer.get("error") {
        Some(error) => Err(error["code"].as_i64().unwrap()),
        None => Ok(answer["result"].clone()),
    }
}

async fn text(router: &Router, method: &str, params: Value) -> String {
    ask(router, method, params).await.unwrap().as_str().unwrap().to_owned()
}

fn script() -> ::bitcoin::ScriptBuf {
    ::bitcoin::ScriptBuf::from_bytes(const_hex::decode(format!("0014{}", "11".repeat(20))).unwrap())
}

#[tokio::test]
async fn envelopes_are_those_of_both_versions() {
    let (_, core) = bitcoin_node();
    let (_, geth) = ethereum_node();
    let rows = [
        (
            "version 1",
            &core,
            json!({"id": "a", "method": "getblockcount"}),
            200,
            json!({"result": 110, "error": null, "id": "a"}),
        ),
        (
            "version 1, unknown",
            &core,
            json!({"id": 1, "method": "nope", "params": []}),
            404,
            json!({"result": null, "error": {"code": -32601, "message": "Method not found"}, "id": 1}),
        ),
        (
            "version 2, unknown",
            &core,
            json!({"jsonrpc": "2.0", "id": 1, "method": "nope"}),
            200,
            json!({"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": 1}),
        ),
        (
            "a batch",
            &core,
            json!([{"id": 1, "method": "getblockcount"}, {"id": 2, "method": "getblockhash", "params": [999]}]),
            200,
            json!([
                {"result": 110, "error": null, "id": 1},
                {"result": null, "error": {"code": -8, "message": "Block height out of range"}, "id": 2},
            ]),
        ),
        (
            "no call",
            &core,
            json!({"id": 1}),
            400,
            json!({"result": null, "error": {"code": -32600, "message": "Invalid Request object"}, "id": null}),
        ),
        (
            "ethereum",
            &geth,
            json!([{"jsonrpc": "2.0", "id": 9, "method": "eth_chainId", "params": []}]),
            200,
            json!([{"jsonrpc": "2.0", "result": "0x7a69", "id": 9}]),
        ),
    ];
    for (name, router, call, status, expected) in rows {
        assert_eq!(post_json(router, call).await, (status, expected), "{name}");
    }
    assert_eq!(post_text(&core, "{".to_owned()).await.0, 500);
    let (status, body) = post_text(&geth, "{".to_owned()).await;
    assert!(status == 200 && body.contains("-32700"), "{body}");
}

#[tokio::test]
async fn a_bitcoin_node_answers_about_its_chain() {
    let (node, rpc) = bitcoin_node();
    let txid = node.change(|chain| chain.pay(&script(), 70_000_000, UtxoMode::Normal)).unwrap().to_string();
    assert_eq!(ask(&rpc, "getrawmempool", json!([])).await, Ok(json!([txid])));
    let raw = text(&rpc, "getrawtransaction", json!([txid])).await;
    assert_eq!(ask(&rpc, "sendrawtransaction", json!([raw])).await, Ok(json!(txid)));
    let tx: ::bitcoin::Transaction = ::bitcoin::consensus::encode::deserialize_hex(&raw).unwrap();
    let vout = tx.output.iter().position(|output| output.script_pubkey == script()).unwrap();
    let (bytes, _) = post_text(&rpc, json!({"method": "gettxout", "params": [txid, vout]}).to_string()).await;
    assert_eq!(bytes, 200);
    let out = ask(&rpc, "gettxout", json!([txid, vout])).await.unwrap();
    assert_eq!((&out["confirmations"], &out["value"]), (&json!(0), &json!(0.7)));
    assert_eq!(ask(&rpc, "gettxout", json!([txid, vout, false])).await, Ok(Value::Null));
    node.change(|chain| chain.mine(NOW)).unwrap();

    let hash = text(&rpc, "getbestblockhash", json!([])).await;
    assert_eq!(ask(&rpc, "getblockhash", json!([111])).await, Ok(json!(hash)));
    let block = text(&rpc, "getblock", json!([hash, 0])).await;
    let header = text(&rpc, "getblockheader", json!([hash, false])).await;
    assert_eq!((header.len(), &block[..160]), (160, header.as_str()));
    let parsed: ::bitcoin::Block = ::bitcoin::consensus::encode::deserialize_hex(&block).unwrap();
    assert_eq!(
        (parsed.block_hash().to_string(), parsed.txdata[1].compute_txid().to_string()),
        (hash.clone(), txid.clone())
    );
    let described = ask(&rpc, "getblock", json!([hash])).await.unwrap();
    assert_eq!(
        (&described["height"], &described["confirmations"], &described["tx"][1]),
        (&json!(111), &json!(1), &json!(txid))
    );
    assert_eq!(ask(&rpc, "getrawtransaction", json!([txid])).await, Err(-5), "mined, and there is no index");
    assert_eq!(ask(&rpc, "getrawtransaction", json!([txid, false, hash])).await, Ok(json!(raw)));
    assert_eq!(ask(&rpc, "gettxout", json!([txid, vout])).await.unwrap()["confirmations"], json!(1));
    assert_eq!(ask(&rpc, "sendrawtransaction", json!([raw])).await, Err(-27));

    node.change(|chain| chain.reorg(1, &[], NOW)).unwrap();
    let tips = ask(&rpc, "getchaintips", json!([])).await.unwrap();
    assert_eq!((&tips[0]["height"], &tips[0]["status"]), (&json!(112), &json!("active")));
    assert_eq!(tips[1], json!({"height": 111, "hash": hash, "branchlen": 1, "status": "valid-fork"}));
    let stale = ask(&rpc, "getblockheader", json!([hash])).await.unwrap();
    assert_eq!(stale["confirmations"], json!(-1));
    let info = ask(&rpc, "getblockchaininfo", json!([])).await.unwrap();
    assert_eq!((&info["chain"], &info["blocks"]), (&json!("regtest"), &json!(112)));
    assert_eq!(ask(&rpc, "getnetworkinfo", json!([])).await.unwrap()["version"], json!(280_000));
}

#[tokio::test]
async fn a_bitcoin_node_names_what_is_wrong_by_cores_codes() {
    let (_, rpc) = bitcoin_node();
    let nothing = "00".repeat(32);
    for (method, params, code) in [
        ("getblockhash", json!([111]), -8),
        ("getblockhash", json!([-1]), -8),
        ("getblockhash", json!(["1"]), -3),
        ("getblockhash", json!([]), -1),
        ("getblock", json!([nothing, 0]), -5),
        ("getblock", json!(["abc", 0]), -8),
        ("getblock", json!(["zz".repeat(32), 0]), -8),
        ("getblockheader", json!([nothing, false]), -5),
        ("getrawtransaction", json!([nothing]), -5),
        ("sendrawtransaction", json!(["00"]), -22),
        ("sendrawtransaction", json!([1]), -3),
        ("getblockcount", json!({"a": 1}), -32602),
        ("getdsprooflist", json!([]), -32601),
    ] {
        assert_eq!(ask(&rpc, method, params.clone()).await, Err(code), "{method} {params}");
    }
    assert_eq!(ask(&rpc, "gettxout", json!([nothing, 0])).await, Ok(Value::Null));
}

#[tokio::test]
async fn waiting_for_a_block_ends_with_a_change() {
    let (node, rpc) = bitcoin_node();
    let begin = tokio::time::Instant::now();
    // The call is polled first, and waits before the block is mined.
    let mining = async { node.change(|chain| chain.mine(NOW)).unwrap() };
    let (tip, mined) = tokio::join!(ask(&rpc, "waitfornewblock", json!([10_000])), mining);
    assert_eq!(tip.unwrap(), json!({"hash": mined.hash.to_string(), "height": 111}));
    assert!(begin.elapsed() < std::time::Duration::from_millis(450));
}

#[tokio::test]
async fn faults_of_a_bitcoin_node() {
    let (node, rpc) = bitcoin_node();
    node.change(|chain| chain.pay(&script(), 70_000, UtxoMode::Normal)).unwrap();
    let tip = node.change(|chain| chain.mine(NOW)).unwrap();
    let hash = tip.hash.to_string();
    let block = || text(&rpc, "getblock", json!([hash, 0]));
    let good = block().await;

    node.set_fault(FaultKind::Truncate, true);
    assert_eq!(block().await, good[..good.len() / 4 * 2]);
    node.set_fault(FaultKind::Truncate, false);

    node.set_fault(FaultKind::Lie, true);
    let lie = block().await;
    assert!(lie != good && lie[..160] == good[..160], "the header is the true one");
    let empty = tip.header.prev_blockhash.to_string();
    let lie = text(&rpc, "getblock", json!([empty, 0])).await;
    let parsed: ::bitcoin::Block = ::bitcoin::consensus::encode::deserialize_hex(&lie).unwrap();
    assert_ne!(parsed.block_hash().to_string(), empty);
    node.set_fault(FaultKind::Lie, false);

    node.set_fault(FaultKind::Lag, true);
    assert_eq!(ask(&rpc, "getblockcount", json!([])).await, Ok(json!(108)));
    assert_eq!(ask(&rpc, "getblockhash", json!([109])).await, Err(-8));
    assert_eq!(ask(&rpc, "getblock", json!([hash, 0])).await, Err(-5));
    node.set_fault(FaultKind::Lag, false);

    node.set_fault(FaultKind::Stall, true);
    let asking = tokio::spawn({
        let rpc = rpc.clone();
        async move { ask(&rpc, "getblockcount", json!([])).await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(!asking.is_finished());
    node.set_fault(FaultKind::Stall, false);
    assert_eq!(asking.await.unwrap(), Ok(json!(111)));
    assert_eq!(block().await, good);
}

fn ether(to: u8, mode: AccountMode) -> Payment {
    Payment { token: None, to: Address([to; 20]), amount: 1_000, mode }
}

#[tokio::test]
async fn an_ethereum_node_answers_about_its_chain() {
    let (node, rpc) = ethereum_node();
    let hash = node.change(|chain| chain.pay(ether(1, AccountMode::Normal))).unwrap().to_string();
    let pending = ask(&rpc, "eth_getTransactionByHash", json!([hash])).await.unwrap();
    assert_eq!((&pending["blockHash"], &pending["value"]), (&Value::Null, &json!("0x3e8")));
    assert_eq!(ask(&rpc, "eth_getTransactionReceipt", json!([hash])).await, Ok(Value::Null));
    let block = ask(&rpc, "eth_getBlockByNumber", json!(["pending", true])).await.unwrap();
    assert_eq!((&block["hash"], &block["transactions"][0]["hash"]), (&Value::Null, &json!(hash)));
    let token = Payment { token: Some(TOKEN), to: Address([2; 20]), amount: 7, mode: AccountMode::Contract };
    let token = node.change(|chain| chain.pay(token)).unwrap().to_string();
    node.change(|chain| chain.mine(NOW));

    assert_eq!(ask(&rpc, "eth_blockNumber", json!([])).await, Ok(json!("0x6f")));
    let block = ask(&rpc, "eth_getBlockByNumber", json!(["latest", false])).await.unwrap();
    assert_eq!(block["transactions"], json!([hash, token]));
    let id = block["hash"].clone();
    assert_eq!(ask(&rpc, "eth_getBlockByHash", json!([id, false])).await, Ok(block.clone()));
    let receipts = ask(&rpc, "eth_getBlockReceipts", json!([id])).await.unwrap();
    assert_eq!(ask(&rpc, "eth_getBlockReceipts", json!(["0x6f"])).await, Ok(receipts.clone()));
    assert_eq!(ask(&rpc, "eth_getBlockReceipts", json!([{"blockHash": id}])).await, Ok(receipts.clone()));
    assert_eq!(ask(&rpc, "eth_getTransactionReceipt", json!([token])).await, Ok(receipts[1].clone()));
    assert_eq!((&receipts[0]["status"], &receipts[0]["blockHash"]), (&json!("0x1"), &id));
    let log = &receipts[1]["logs"][0];
    assert_eq!((&log["address"], &log["logIndex"]), (&json!(TOKEN.to_string()), &json!("0x0")));

    let traces = ask(&rpc, "debug_traceBlockByHash", json!([id, {"tracer": "callTracer"}])).await.unwrap();
    assert_eq!((&traces[0]["txHash"], &traces[0]["result"]["value"]), (&json!(hash), &json!("0x3e8")));
    assert_eq!(traces[1]["result"]["calls"][0]["to"], json!(TOKEN.to_string()));
    assert_eq!(ask(&rpc, "debug_traceBlockByHash", json!([id, {}])).await, Err(-32000));

    let payee = Address([1; 20]).to_string();
    for (block, balance) in
        [(json!("latest"), "0x3e8"), (json!("0x6e"), "0x0"), (json!({"blockHash": id}), "0x3e8")]
    {
        assert_eq!(ask(&rpc, "eth_getBalance", json!([payee, block])).await, Ok(json!(balance)), "{block}");
    }
    let word = |n: u8| format!("{n:064x}");
    let owner = Address([2; 20]).to_word().to_string();
    for (input, output) in [
        (format!("0x70a08231{}", &owner[2..]), format!("0x{}", word(7))),
        ("0x313ce567".to_owned(), format!("0x{}", word(6))),
        ("0x95d89b41".to_owned(), format!("0x{}{}{:0<64}", word(32), word(4), "55534454")),
    ] {
        let call = json!([{"to": TOKEN.to_string(), "data": input}, "latest"]);
        assert_eq!(ask(&rpc, "eth_call", call).await, Ok(json!(output)), "{input}");
    }
    assert_eq!(ask(&rpc, "eth_call", json!([{"to": TOKEN.to_string(), "data": "0x"}])).await, Err(3));
    assert_eq!(ask(&rpc, "eth_call", json!([{"to": payee, "data": "0x"}])).await, Ok(json!("0x")));
    assert_eq!(ask(&rpc, "eth_getCode", json!([TOKEN.to_string(), "latest"])).await, Ok(json!("0x6000")));
    assert_eq!(ask(&rpc, "net_version", json!([])).await, Ok(json!("31337")));
    assert_eq!(
        ask(&rpc, "eth_getTransactionCount", json!([pending["from"], "latest"])).await,
        Ok(json!("0x1"))
    );
}

#[tokio::test]
async fn tags_name_blocks_below_the_tip() {
    let (_, rpc) = ethereum_node();
    for (tag, number) in
        [("earliest", "0x0"), ("finalized", "0x2e"), ("safe", "0x4e"), ("latest", "0x6e"), ("0x5", "0x5")]
    {
        let block = ask(&rpc, "eth_getBlockByNumber", json!([tag, false])).await.unwrap();
        assert_eq!(block["number"], json!(number), "{tag}");
    }
    let (node, _) = ethereum_node();
    node.change(|chain| chain.reorg(110, &[], NOW)).unwrap();
    let short = Arc::new(Node::new(SimulatedAccountChain::new(1, Vec::new(), 1, NOW, 10)));
    let short = router(Arc::new(EthereumMethods(short)));
    assert_eq!(ask(&short, "eth_getBlockByNumber", json!(["safe", false])).await, Ok(Value::Null));
    assert_eq!(ask(&rpc, "eth_getBlockByNumber", json!(["0x6f", false])).await, Ok(Value::Null));
    for (method, params) in [
        ("eth_getBlockByNumber", json!(["newest", false])),
        ("eth_getBlockByNumber", json!([])),
        ("eth_getBlockByHash", json!(["0x12", false])),
        ("eth_getBalance", json!(["0x12", "latest"])),
    ] {
        assert_eq!(ask(&rpc, method, params).await, Err(-32602), "{method}");
    }
    assert_eq!(ask(&rpc, "eth_sign", json!([])).await, Err(-32601));
    assert_eq!(
        ask(&rpc, "eth_getBalance", json!([Address([1; 20]).to_string(), "0xffff"])).await,
        Err(-32000)
    );
}

#[tokio::test]
async fn logs_are_found_by_block_range_address_and_topics() {
    let (node, rpc) = ethereum_node();
    for to in [1, 2] {
        let token =
            Payment { token: Some(TOKEN), to: Address([to; 20]), amount: 7, mode: AccountMode::Normal };
        node.change(|chain| chain.pay(token)).unwrap();
        node.change(|chain| chain.mine(NOW));
    }
    let last = ask(&rpc, "eth_getBlockByNumber", json!(["latest", false])).await.unwrap()["hash"].clone();
    let transfer = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";
    let to = |n: u8| Address([n; 20]).to_word().to_string();
    for (name, filter, count) in [
        ("all", json!({"fromBlock": "0x0"}), 2),
        ("latest only", json!({}), 1),
        ("by hash", json!({"blockHash": last}), 1),
        ("by address", json!({"fromBlock": "0x0", "address": TOKEN.to_string()}), 2),
        ("another address", json!({"fromBlock": "0x0", "address": [Address([9; 20]).to_string()]}), 0),
        ("by payee", json!({"fromBlock": "0x0", "topics": [transfer, null, to(1)]}), 1),
        ("by some payees", json!({"fromBlock": "0x0", "topics": [null, [], [to(1), to(2)]]}), 2),
        ("four topics", json!({"fromBlock": "0x0", "topics": [null, null, null, null]}), 0),
        ("a range without any", json!({"fromBlock": "0x0", "toBlock": "0x6e"}), 0),
    ] {
        let logs = ask(&rpc, "eth_getLogs", json!([filter])).await.unwrap();
        assert_eq!(logs.as_array().unwrap().len(), count, "{name}");
    }
    assert_eq!(ask(&rpc, "eth_getLogs", json!([{"blockHash": last, "fromBlock": "0x0"}])).await, Err(-32602));
    let unknown = Hash([1; 32]).to_string();
    assert_eq!(ask(&rpc, "eth_getLogs", json!([{"blockHash": unknown}])).await, Err(-32000));
}

#[tokio::test]
async fn faults_of_an_ethereum_node() {
    let (node, rpc) = ethereum_node();
    node.change(|chain| chain.pay(ether(1, AccountMode::Normal))).unwrap();
    let block = node.change(|chain| chain.mine(NOW));
    let (id, parent) = (block.hash.to_string(), block.parent.to_string());

    node.set_fault(FaultKind::Lie, true);
    assert_eq!(ask(&rpc, "eth_getBlockByHash", json!([id, true])).await.unwrap()["hash"], json!(parent));
    let receipts = ask(&rpc, "eth_getBlockReceipts", json!([id])).await.unwrap();
    assert_eq!(receipts[0]["blockHash"], json!(parent));
    node.set_fault(FaultKind::Lie, false);

    node.set_fault(FaultKind::Lag, true);
    assert_eq!(ask(&rpc, "eth_blockNumber", json!([])).await, Ok(json!("0x6c")));
    assert_eq!(ask(&rpc, "eth_getBlockByHash", json!([id, true])).await, Ok(Value::Null));
    let hash = block.txs[0].hash.to_string();
    assert_eq!(ask(&rpc, "eth_getTransactionReceipt", json!([hash])).await, Ok(Value::Null));
    node.set_fault(FaultKind::Lag, false);

    node.set_fault(FaultKind::Truncate, true);
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByHash", "params": [id, true]});
    let (_, body) = post_text(&rpc, call.to_string()).await;
    assert!(serde_json::from_str::<Value>(&body).is_err() && body.contains("number"), "{body}");
    assert_eq!(ask(&rpc, "eth_blockNumber", json!([])).await, Ok(json!("0x6f")));
}
