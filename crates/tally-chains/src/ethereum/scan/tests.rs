use serde_json::{Value, json};
use tally_types::{BlockHash, BlockRef, Height, Timestamp};

use super::*;
use crate::testing::{settings, watching};

const HASH: &str = "0x1111111111111111111111111111111111111111111111111111111111111111";
const TX: &str = "0x2222222222222222222222222222222222222222222222222222222222222222";
const PAYER: &str = "0x00000000000000000000000000000000000000aa";
const CONTRACT: &str = "0x00000000000000000000000000000000000000cc";
const SHOP: &str = "0x00000000000000000000000000000000000000dd";
const TOKEN: &str = "0x5fbdb2315678afecb367f032d93f642f64180aa3";
const TRANSFER_TOPIC: &str = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";

/// A block with one transaction, as nodes tell it.
struct Case {
    to: Value,
    value: &'static str,
    status: &'static str,
    logs: Value,
    trace: Option<Value>,
    bloom: Bloom,
}

impl Case {
    /// A payment of 5 wei by the payer, in the words of the trace where there is one.
    fn new(to: &str, trace: Option<Value>) -> Self {
        Self { to: json!(to), value: "0x5", status: "0x1", logs: json!([]), trace, bloom: full_bloom() }
    }

    fn told(&self) -> Told {
        let block = json!({
            "hash": HASH, "number": "0x7", "parentHash": HASH, "timestamp": "0x1", "logsBloom": self.bloom,
            "transactions": [{"hash": TX, "from": PAYER, "to": self.to, "value": self.value, "input": "0x"}],
        });
        let receipt = json!({
            "transactionHash": TX, "blockHash": HASH, "blockNumber": "0x7", "status": self.status,
            "contractAddress": if self.to.is_null() { json!(SHOP) } else { Value::Null },
            "logs": self.logs, "type": "0x2",
        });
        let trace = |trace: &Value| serde_json::from_value(json!([{"txHash": TX, "result": trace}])).unwrap();
        Told {
            block: serde_json::from_value(block).unwrap(),
            receipts: serde_json::from_value(json!([receipt])).unwrap(),
            traces: self.trace.as_ref().map(trace),
        }
    }

    fn slots(&self) -> Result<Vec<String>, String> {
        find(&self.told())
    }
}

fn full_bloom() -> Bloom {
    Bloom::from([0xff; 256])
}

fn expected() -> Header {
    let hash: BlockHash = HASH.parse().unwrap();
    let block = BlockRef { height: Height::new(7), hash };
    Header { block, prev: hash, time: Timestamp::from_secs(1) }
}

fn find(told: &Told) -> Result<Vec<String>, String> {
    let keys = format!(
        r#"{{"id": "eth", "kind": "ethereum", "chain_id": 1,
            "tokens": [{{"symbol": "USDT", "contract": "{TOKEN}", "decimals": 6}}]}}"#
    );
    let plan = Plan::of(&settings(&keys)).unwrap();
    let credits =
        told.credits(&expected(), &plan, &watching(&[&SHOP[2..]])).map_err(|error| error.to_string())?;
    for credit in &credits {
        assert_eq!(format!("0x{}", credit.script), SHOP);
        assert_eq!(format!("0x{}", credit.key.txid), TX);
    }
    Ok(credits.iter().map(|one| format!("{}={} {}", one.key.slot, one.amount, one.currency)).collect())
}

fn call(kind: &str, from: &str, to: &str, value: &str, calls: Value) -> Value {
    json!({"type": kind, "from": from, "to": to, "value": value, "calls": calls, "gas": "0x1", "input": "0x"})
}

/// What the contract calls when it is paid 5 wei.
fn calls(inner: Value) -> Case {
    Case::new(CONTRACT, Some(call("CALL", PAYER, CONTRACT, "0x5", inner)))
}

fn failed(mut frame: Value) -> Value {
    frame["error"] = json!("execution reverted");
    frame
}

#[test]
fn natives_at_the_top_level() {
    let to_self = json!(PAYER);
    for (name, case, slots) in [
        ("a payment", Case::new(SHOP, None), &["value=5 ETH"][..]),
        ("a failed one", Case { status: "0x0", ..Case::new(SHOP, None) }, &[]),
        ("to somebody else", Case::new(CONTRACT, None), &[]),
        ("of nothing", Case { value: "0x0", ..Case::new(SHOP, None) }, &[]),
        ("with a new contract", Case { to: Value::Null, ..Case::new(SHOP, None) }, &["value=5 ETH"]),
        ("to oneself", Case { to: to_self, ..Case::new(SHOP, None) }, &[]),
    ] {
        assert_eq!(case.slots().unwrap(), slots, "{name}");
    }
}

#[test]
fn natives_by_trace() {
    let pay = |kind: &str, value: &str| call(kind, CONTRACT, SHOP, value, Value::Null);
    let through = |frame: Value| call("CALL", CONTRACT, PAYER, "0x0", json!([frame]));
    let direct = || call("CALL", PAYER, SHOP, "0x5", Value::Null);
    let reverted = Case { status: "0x0", ..Case::new(SHOP, Some(failed(direct()))) };
    for (name, case, slots) in [
        ("a plain payment keeps its slot", Case::new(SHOP, Some(direct())), vec!["value=5 ETH"]),
        ("a failed transaction", reverted, vec![]),
        ("by a contract", calls(json!([pay("CALL", "0x5")])), vec!["0=5 ETH"]),
        (
            "twice, in order",
            calls(json!([pay("CALL", "0x3"), through(pay("CALL", "0x1")), pay("CALL", "0x1")])),
            vec!["0=3 ETH", "1_0=1 ETH", "2=1 ETH"],
        ),
        (
            "by creation",
            calls(json!([pay("CREATE", "0x1"), pay("CREATE2", "0x2")])),
            vec!["0=1 ETH", "1=2 ETH"],
        ),
        ("by self-destruction", calls(json!([pay("SELFDESTRUCT", "0x8")])), vec!["0=8 ETH"]),
        (
            "what moves nothing",
            calls(json!([pay("DELEGATECALL", "0x8"), pay("CALLCODE", "0x8"), pay("STATICCALL", "0x8")])),
            vec![],
        ),
        ("a failed call", calls(json!([failed(pay("CALL", "0x5"))])), vec![]),
        ("a call within a failed one", calls(json!([failed(through(pay("CALL", "0x5")))])), vec![]),
        (
            "a failed grandparent, and its sibling that stands",
            calls(json!([failed(through(through(pay("CALL", "0x5")))), pay("CALL", "0x6")])),
            vec!["1=6 ETH"],
        ),
        ("without a value", calls(json!([{"type": "CALL", "from": CONTRACT, "to": SHOP}])), vec![]),
    ] {
        assert_eq!(case.slots().unwrap(), slots, "{name}");
    }
}

#[test]
fn natives_as_deep_as_the_evm_goes() {
    let open = |from: &str, to: &str, value: u8| {
        format!(r#"{{"type":"CALL","from":"{from}","to":"{to}","value":"{value:#x}","calls":["#)
    };
    let open = open(PAYER, CONTRACT, 5) + &open(CONTRACT, PAYER, 0).repeat(1_000);
    let inner = format!(r#"{{"type":"CALL","from":"{CONTRACT}","to":"{SHOP}","value":"0x9"}}"#);
    let trace = format!("{open}{inner}{}", "]}".repeat(1_001));
    let mut told = Case::new(CONTRACT, Some(call("CALL", PAYER, CONTRACT, "0x5", Value::Null))).told();
    told.traces.as_mut().unwrap()[0].result = Some(super::super::json::parse(trace.as_bytes()).unwrap());
    assert_eq!(find(&told).unwrap(), [format!("{}=9 ETH", ["0"; 1_001].join("_"))]);
}

fn log(contract: &str, topics: &[&str], data: &str, index: u64) -> Value {
    let word = |text: &&str| match text.len() {
        66 => (*text).to_owned(),
        _ => format!("0x{:0>64}", &text[2..]),
    };
    json!({
        "address": contract, "topics": topics.iter().map(word).collect::<Vec<_>>(), "data": data,
        "logIndex": format!("{index:#x}"), "blockHash": HASH, "transactionHash": TX,
    })
}

fn word(value: u128) -> String {
    format!("0x{value:064x}")
}

#[test]
fn tokens_by_their_logs() {
    let amount = word(25_000_000);
    let good = |index| log(TOKEN, &[TRANSFER_TOPIC, PAYER, SHOP], &amount, index);
    let dirty = format!("0x{}{}", "ff".repeat(12), &SHOP[2..]);
    let huge = format!("0x{}", "ff".repeat(32));
    let other = log(CONTRACT, &[TRANSFER_TOPIC, PAYER, SHOP], &amount, 3);
    for (name, logs, slots) in [
        ("a transfer", json!([good(0)]), vec!["log-0=25000000 USDT"]),
        ("its ordinal within the transaction", json!([other, good(9)]), vec!["log-1=25000000 USDT"]),
        ("logs told in another order", json!([good(9), other]), vec!["log-1=25000000 USDT"]),
        ("two", json!([good(4), good(5)]), vec!["log-0=25000000 USDT", "log-1=25000000 USDT"]),
        ("a contract that is not listed", json!([other]), vec![]),
        (
            "erc-721: the token's id is a topic",
            json!([log(TOKEN, &[TRANSFER_TOPIC, PAYER, SHOP, "0x07"], "0x", 0)]),
            vec![],
        ),
        ("an approval", json!([log(TOKEN, &[HASH, PAYER, SHOP], &amount, 0)]), vec![]),
        ("long data", json!([log(TOKEN, &[TRANSFER_TOPIC, PAYER, SHOP], &format!("{amount}00"), 0)]), vec![]),
        ("no data", json!([log(TOKEN, &[TRANSFER_TOPIC, PAYER, SHOP], "0x", 0)]), vec![]),
        ("two topics", json!([log(TOKEN, &[TRANSFER_TOPIC, SHOP], &amount, 0)]), vec![]),
        (
            "a topic that is no address",
            json!([log(TOKEN, &[TRANSFER_TOPIC, PAYER, &dirty], &amount, 0)]),
            vec![],
        ),
        ("of nothing", json!([log(TOKEN, &[TRANSFER_TOPIC, PAYER, SHOP], &word(0), 0)]), vec![]),
        ("to oneself", json!([log(TOKEN, &[TRANSFER_TOPIC, SHOP, SHOP], &amount, 0)]), vec![]),
        (
            "more than can be counted",
            json!([log(TOKEN, &[TRANSFER_TOPIC, PAYER, SHOP], &huge, 0)]),
            vec!["log-0=340282366920938463463374607431768211455 USDT"],
        ),
    ] {
        let case = Case { value: "0x0", logs, ..Case::new(TOKEN, None) };
        assert_eq!(case.slots().unwrap(), slots, "{name}");
    }
}

#[test]
fn the_transfer_topic_is_what_it_says() {
    assert_eq!(TRANSFER.0, ethers_core::utils::keccak256("Transfer(address,address,uint256)"));
    assert_eq!(format!("{TRANSFER:?}"), TRANSFER_TOPIC);
}

#[test]
fn answers_that_contradict_each_other_are_no_result() {
    let logs = || json!([log(TOKEN, &[TRANSFER_TOPIC, PAYER, SHOP], &word(5), 0)]);
    let mut bloom = Bloom::default();
    for part in
        [&TOKEN[2..], &TRANSFER_TOPIC[2..], &format!("{:0>64}", &PAYER[2..]), &format!("{:0>64}", &SHOP[2..])]
    {
        bloom.accrue(BloomInput::Raw(&const_hex::decode(part).unwrap()));
    }
    let token = |bloom| Case { value: "0x0", logs: logs(), bloom, ..Case::new(TOKEN, None) };
    assert_eq!(token(bloom).slots().unwrap(), ["log-0=5 USDT"]);
    assert!(token(Bloom::default()).slots().unwrap_err().contains("bloom filter"));
    let mut without = token(bloom).told();
    without.block.logs_bloom = None;
    assert!(find(&without).unwrap_err().contains("bloom filter"));

    let wrong_root = Case::new(SHOP, Some(call("CALL", PAYER, SHOP, "0x6", Value::Null)));
    assert!(wrong_root.slots().unwrap_err().contains("begins with another call"));
    let disagree = Case::new(SHOP, Some(failed(call("CALL", PAYER, SHOP, "0x5", Value::Null))));
    assert!(disagree.slots().unwrap_err().contains("failed by its trace"));

    let good =
        || Case { logs: logs(), ..Case::new(SHOP, Some(call("CALL", PAYER, SHOP, "0x5", Value::Null))) };
    let other = Hash::from(H256::repeat_byte(9));
    type Spoil = fn(&mut Told, Hash);
    let spoils: [(&str, Spoil, &str); 9] = [
        ("a receipt left out", |told, _| told.receipts.clear(), "1 transactions and 0 receipts"),
        ("of another block", |told, other| told.receipts[0].block_hash = other, "is not one of block"),
        ("of another height", |told, _| told.receipts[0].block_number.0 = 8.into(), "is not one of block"),
        (
            "of another transaction",
            |told, other| told.receipts[0].transaction_hash = other,
            "is not one of block",
        ),
        (
            "a log of another block",
            |told, other| told.receipts[0].logs[0].block_hash = other,
            "is not one of block",
        ),
        ("no status", |told, _| told.receipts[0].status = None, "has no status"),
        ("a trace left out", |told, _| told.traces = Some(Vec::new()), "1 transactions and 0 traces"),
        (
            "another's trace",
            |told, other| told.traces.as_mut().unwrap()[0].tx_hash = Some(other),
            "is another's",
        ),
        (
            "a trace that broke off",
            |told, _| told.traces.as_mut().unwrap()[0].error = Some("timeout".to_owned()),
            "failed: timeout",
        ),
    ];
    for (name, spoil, told) in spoils {
        let mut case = good().told();
        assert_eq!(find(&case).unwrap().len(), 2, "{name}");
        spoil(&mut case, other);
        let error = find(&case).unwrap_err();
        assert!(error.contains(told), "{name}: {error}");
    }
}
