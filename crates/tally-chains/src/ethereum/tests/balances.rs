//! Payments by difference of balances, against a fake node with state of a few blocks only.

use std::collections::HashMap;
use tally_testkit::Meters;

use super::*;

const OTHER: &str = "0x00000000000000000000000000000000000000ee";
const GAS: u64 = 21_000 * 2;

/// What happens in a block: transactions `(from, to, value, succeeds)`, and what contracts pay or take.
#[derive(Clone, Default)]
struct Happened {
    transactions: Vec<(&'static str, &'static str, u64, bool)>,
    by_contract: Vec<(&'static str, i64)>,
}

fn paid(to: &'static str, value: u64) -> Happened {
    Happened { transactions: vec![(PAYER, to, value, true)], ..Happened::default() }
}

fn by_contract(to: &'static str, value: i64) -> Happened {
    Happened { by_contract: vec![(to, value)], ..Happened::default() }
}

/// A chain in which this happens from block 1 on, its node having the state from `state_from` on.
struct World {
    node: FakeNode,
    state_from: Arc<Mutex<u64>>,
    by_number_only: Arc<Mutex<bool>>,
}

fn balance_at(blocks: &[Happened], who: &str, height: u64) -> i64 {
    let mut balance = 1_000_000;
    for block in blocks.iter().take(usize::try_from(height).unwrap()) {
        for (from, to, value, succeeds) in &block.transactions {
            let value = if *succeeds { i64::try_from(*value).unwrap() } else { 0 };
            balance += if *to == who { value } else { 0 };
            balance -= if *from == who { value + i64::try_from(GAS).unwrap() } else { 0 };
        }
        balance += block.by_contract.iter().filter(|(to, _)| *to == who).map(|(_, value)| value).sum::<i64>();
    }
    balance
}

fn world(blocks: Vec<Happened>) -> World {
    let (node, _) = node(31_337, blocks.len() as u64);
    let blocks = Arc::new(blocks);
    let transactions = |blocks: &[Happened], height: u64| match height {
        0 => Vec::new(),
        height => blocks[usize::try_from(height - 1).unwrap()].transactions.clone(),
    };
    let id = |height: u64, place: usize| hash(1_000 * height + place as u64);
    let told = Arc::clone(&blocks);
    let block = move |height: u64| {
        if height > told.len() as u64 {
            return Value::Null;
        }
        let one = |(place, (from, to, value, _)): (usize, (&str, &str, u64, bool))| json!({"hash": id(height, place), "from": from, "to": to, "value": format!("{value:#x}")});
        let all: Vec<_> = transactions(&told, height).into_iter().enumerate().map(one).collect();
        json!({"hash": hash(height), "number": format!("{height:#x}"), "parentHash": hash(height.saturating_sub(1)),
               "timestamp": "0x5", "transactions": all})
    };
    let by_number = block.clone();
    let tip = blocks.len() as u64;
    node.answers("eth_getBlockByNumber", move |params| {
        Ok(by_number(if params[0] == "latest" { tip } else { number(&params[0]) }))
    });
    node.answers("eth_getBlockByHash", move |params| Ok(block(number(&params[0]))));
    let told = Arc::clone(&blocks);
    node.answers("eth_getBlockReceipts", move |params| {
        let height = number(&params[0]);
        let one = |(place, (_, _, _, succeeds)): (usize, (&str, &str, u64, bool))| {
            let mut receipt = receipt(height);
            receipt["transactionHash"] = json!(id(height, place));
            receipt["status"] = json!(if succeeds { "0x1" } else { "0x0" });
            receipt
        };
        Ok(transactions(&told, height).into_iter().enumerate().map(one).collect())
    });
    node.says("debug_traceBlockByHash", Err((-32601, "the method does not exist/is not available")));
    let (state_from, by_number_only) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(false)));
    let (from, only) = (Arc::clone(&state_from), Arc::clone(&by_number_only));
    node.answers("eth_getBalance", move |params| {
        let by_hash = params[1].is_object();
        if by_hash && *only.lock().unwrap() {
            return Err((-32602, "invalid argument 1: json: cannot unmarshal object into string"));
        }
        let height = number(if by_hash { &params[1]["blockHash"] } else { &params[1] });
        if height < *from.lock().unwrap() {
            return Err((-32000, "missing trie node 00 (path ) state 0x00 is not available"));
        }
        Ok(json!(format!("{:#x}", balance_at(&blocks, params[0].as_str().unwrap(), height))))
    });
    World { node, state_from, by_number_only }
}

impl World {
    fn source(&self) -> Arc<dyn BlockSource> {
        source(&json!({}), &[&self.node])
    }
}

async fn header(source: &Arc<dyn BlockSource>, height: u64) -> Header {
    source.at(Height::new(height)).await.unwrap().unwrap()
}

/// `method: slot=amount …` of a block.
async fn scan(source: &Arc<dyn BlockSource>, height: u64, watch: &SharedWatch) -> String {
    let header = header(source, height).await;
    let block = source.scan(&header, watch).await.unwrap();
    let credits = block.credits.iter().map(|one| {
        let slot = match one.key.slot.strip_prefix("balance-") {
            Some(address) => {
                assert_eq!(
                    (address, one.key.txid.to_string()),
                    (&*one.script.to_string(), hash(height)[2..].to_owned())
                );
                "balance"
            }
            None => &one.key.slot,
        };
        format!(" {slot}={}", one.amount)
    });
    format!("{}:{}", block.method.as_deref().unwrap(), credits.collect::<String>())
}

fn shop() -> SharedWatch {
    watching(&[&SHOP[2..]])
}

#[tokio::test]
async fn each_block_pays_what_its_balances_say() {
    for (name, happened, expected, negative) in [
        ("a transaction", paid(SHOP, 5), "balance: value=5", 0),
        ("a contract", by_contract(SHOP, 7), "balance: balance=7", 0),
        ("both", Happened { by_contract: vec![(SHOP, 7)], ..paid(SHOP, 5) }, "balance: value=5 balance=7", 0),
        ("to somebody else", by_contract(OTHER, 7), "balance:", 0),
        (
            "a failed transaction",
            Happened { transactions: vec![(PAYER, SHOP, 5, false)], ..Happened::default() },
            "balance:",
            0,
        ),
        (
            "paid out and in",
            Happened { transactions: vec![(SHOP, OTHER, 9, true)], by_contract: vec![(SHOP, 3)] },
            "balance: balance=3",
            0,
        ),
        (
            "a failed payment out costs its fee",
            Happened { transactions: vec![(SHOP, OTHER, 9, false)], by_contract: vec![(SHOP, 3)] },
            "balance: balance=3",
            0,
        ),
        (
            "to itself",
            Happened { transactions: vec![(SHOP, SHOP, 9, true)], ..Happened::default() },
            "balance: balance=9",
            0,
        ),
        ("paid out by a contract", by_contract(SHOP, -7), "balance:", 1),
    ] {
        let counts = Meters::default();
        let _counting = counts.begin();
        let happened = match name {
            // The fake moves what is paid to oneself out and in again, as a node does.
            "to itself" => Happened { by_contract: vec![(SHOP, 9)], ..happened },
            _ => happened,
        };
        let world = world(vec![Happened::default(), happened]);
        let source = world.source();
        for _ in 0..2 {
            assert_eq!(scan(&source, 2, &shop()).await, expected, "{name}");
        }
        let told = counts.count("tally_incidents_total", "kind=balance_negative");
        assert_eq!(told, 2 * negative, "{name}");
        assert_eq!(counts.count("tally_incidents_total", "kind=state_gap"), 0, "{name}");
    }
}

#[tokio::test]
async fn a_run_of_blocks_is_asked_for_once_each() {
    let world = world(vec![by_contract(SHOP, 1); 6]);
    let source = world.source();
    for height in 1..=6 {
        assert_eq!(scan(&source, height, &shop()).await, "balance: balance=1");
    }
    assert_eq!(world.node.asked("eth_getBalance"), 7, "the parent's are those of the block before");
}

#[tokio::test]
async fn nodes_that_take_numbers_only_are_asked_by_number() {
    let world = world(vec![Happened::default(), by_contract(SHOP, 7)]);
    *world.by_number_only.lock().unwrap() = true;
    let source = world.source();
    assert_eq!(scan(&source, 2, &shop()).await, "balance: balance=7");
    // A block that is no longer the one at its height.
    let mut gone = header(&source, 2).await;
    gone.block.hash = BlockHash::from_display([9; 32]);
    let told = block(2, true);
    world.node.answers("eth_getBlockByHash", move |params| {
        let mut told = told.clone();
        told["hash"] = params[0].clone();
        told["parentHash"] = json!(hash(1));
        Ok(told)
    });
    world.node.says("eth_getBlockReceipts", Ok(json!([{
        "transactionHash": hash(1_002), "blockHash": format!("0x{}", "09".repeat(32)), "blockNumber": "0x2",
        "status": "0x1", "logs": [], "contractAddress": null, "gasUsed": "0x1", "effectiveGasPrice": "0x1"}])));
    let error = source.scan(&gone, &shop()).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("left the best branch"), "{error}");
}

/// Blocks 3 to 6 without state; the shop is paid by transactions in 4 and by contracts in 3, 5 and 8.
fn gap() -> World {
    world(gap_blocks())
}

fn gap_blocks() -> Vec<Happened> {
    vec![
        Happened::default(),
        Happened::default(),
        by_contract(SHOP, 10),
        paid(SHOP, 100),
        by_contract(SHOP, 1_000),
        Happened { transactions: vec![(SHOP, OTHER, 50, true)], ..Happened::default() },
        Happened::default(),
        by_contract(SHOP, 7),
    ]
}

const AFTER_GAP: [&str; 6] = [
    "toplevel:",
    "toplevel: value=100",
    "toplevel:",
    "toplevel:",
    "balance: balance=1010",
    "balance: balance=7",
];

#[tokio::test]
async fn blocks_without_state_are_settled_by_one_difference() {
    let counts = Meters::default();
    let _counting = counts.begin();
    let world = gap();
    let source = world.source();
    assert_eq!(scan(&source, 2, &shop()).await, "balance:");
    *world.state_from.lock().unwrap() = 7;
    for round in ["first", "again"] {
        for (height, expected) in (3..).zip(AFTER_GAP) {
            assert_eq!(scan(&source, height, &shop()).await, expected, "{round} {height}");
        }
    }
    assert_eq!(counts.count("tally_incidents_total", "kind=state_gap"), 2, "once each time it is read");
    assert_eq!(counts.count("tally_incidents_total", "kind=balance_negative"), 0);
}

#[tokio::test]
async fn blocks_read_at_the_same_time_are_waited_for() {
    let world = gap();
    let source = world.source();
    assert_eq!(scan(&source, 2, &shop()).await, "balance:");
    *world.state_from.lock().unwrap() = 7;
    world.node.delays(Duration::from_millis(20));
    // The last first.
    let watch = shop();
    let all = (3..=8).rev().map(|height| scan(&source, height, &watch));
    let mut told = futures::future::join_all(all).await;
    told.reverse();
    assert_eq!(told, AFTER_GAP);
}

#[tokio::test]
async fn what_was_paid_before_a_restart_stands_for_its_state() {
    for (name, paid, expected, unsettled) in [
        ("told", Some(1_000_000), "balance: balance=1010", 0),
        ("told less than there was", Some(999_999), "balance: balance=1011", 0),
        ("not told", None, "balance:", 1),
    ] {
        let counts = Meters::default();
        let _counting = counts.begin();
        let world = gap();
        *world.state_from.lock().unwrap() = 7;
        let source = world.source();
        if let Some(paid) = paid {
            let shop = Script::from_bytes(&const_hex::decode(&SHOP[2..]).unwrap()).unwrap();
            source.recall(header(&source, 2).await.block, None, &[(shop, BaseUnits::from_units(paid))]);
        }
        for (height, expected) in (3..7).zip(AFTER_GAP) {
            assert_eq!(scan(&source, height, &shop()).await, expected, "{name} {height}");
        }
        assert_eq!(scan(&source, 7, &shop()).await, expected, "{name}");
        assert_eq!(counts.count("tally_incidents_total", "kind=state_gap_unsettled"), unsettled, "{name}");
        assert_eq!(scan(&source, 8, &shop()).await, AFTER_GAP[5], "{name}");
    }
}

/// What a rescan reads again without state was told when the state was there.
#[tokio::test]
async fn a_rescan_over_blocks_found_by_balance_pays_nothing_twice() {
    let counts = Meters::default();
    let _counting = counts.begin();
    // More blocks follow than balances are remembered of.
    let world = world([gap_blocks(), vec![Happened::default(); 20]].concat());
    let source = world.source();
    let shop_script = Script::from_bytes(&const_hex::decode(&SHOP[2..]).unwrap()).unwrap();
    source.recall(header(&source, 2).await.block, None, &[(shop_script, BaseUnits::from_units(1_000_000))]);
    let with_state = [
        "balance: balance=10",
        "balance: value=100",
        "balance: balance=1000",
        "balance:",
        "balance:",
        "balance: balance=7",
    ];
    for (height, expected) in (3..).zip(with_state) {
        assert_eq!(scan(&source, height, &shop()).await, expected, "{height}");
    }
    for height in 9..=28 {
        assert_eq!(scan(&source, height, &shop()).await, "balance:", "{height}");
    }
    // So much later that the node has the state of the last blocks only.
    *world.state_from.lock().unwrap() = 7;
    let again =
        ["toplevel:", "toplevel: value=100", "toplevel:", "toplevel:", "balance:", "balance: balance=7"];
    for (height, expected) in (3..).zip(again) {
        assert_eq!(scan(&source, height, &shop()).await, expected, "again {height}");
    }
    assert_eq!(
        counts.count("tally_incidents_total", "kind=state_gap_unsettled"),
        1,
        "nobody knows, so it is said"
    );
}

/// What a block's difference is the rest of, as `since: received`.
async fn sum(source: &Arc<dyn BlockSource>, height: u64, watch: &SharedWatch) -> String {
    let header = header(source, height).await;
    let block = source.scan(&header, watch).await.unwrap();
    let sums = block.credits.iter().filter_map(|credit| credit.difference);
    sums.map(|sum| format!("{}: {}", sum.since, sum.received)).collect()
}

#[tokio::test]
async fn differences_say_which_blocks_they_are_over() {
    type Row = (&'static str, Option<(u128, Option<&'static str>)>, u64, &'static str, &'static str);
    // What is recalled, the state that there is at last, and the sums of blocks 7 and 8.
    let rows: [Row; 5] = [
        ("the state at the gap's beginning was read", None, 7, "3: 1110", "8: 7"),
        ("it can be read by now", None, 0, "3: 1110", "8: 7"),
        ("told at a start", Some((1_000_000, Some("balance"))), 7, "0: 1001110", "8: 7"),
        ("told at a start in a gap", Some((1_000_000, Some("toplevel"))), 7, "0: 1001110", "8: 7"),
        ("less was told than there was", Some((999_000, Some("toplevel"))), 0, "0: 1001110", "8: 7"),
    ];
    for (name, recalled, state_from, seventh, eighth) in rows {
        let world = gap();
        let source = world.source();
        if let Some((paid, method)) = recalled {
            let shop = Script::from_bytes(&const_hex::decode(&SHOP[2..]).unwrap()).unwrap();
            let through = header(&source, 2).await.block;
            source.recall(through, method, &[(shop, BaseUnits::from_units(paid))]);
        } else if state_from > 0 {
            assert_eq!(scan(&source, 2, &shop()).await, "balance:");
        }
        *world.state_from.lock().unwrap() = 7;
        for (height, expected) in (3..7).zip(AFTER_GAP) {
            assert_eq!(scan(&source, height, &shop()).await, expected, "{name} {height}");
        }
        *world.state_from.lock().unwrap() = state_from;
        let told = (sum(&source, 7, &shop()).await, sum(&source, 8, &shop()).await);
        assert_eq!(told, (seventh.to_owned(), eighth.to_owned()), "{name}");
    }
}

#[tokio::test]
async fn a_start_in_a_gap_looks_below_the_state_that_is_there() {
    for (name, method, expected) in [
        ("the gap is open", "toplevel", "balance: balance=17"),
        ("it was settled", "balance", "balance: balance=7"),
        ("there was none", "trace", "balance: balance=7"),
    ] {
        let world = world(vec![Happened::default(), by_contract(SHOP, 10), by_contract(SHOP, 7)]);
        let source = world.source();
        let shop_script = Script::from_bytes(&const_hex::decode(&SHOP[2..]).unwrap()).unwrap();
        let told = BaseUnits::from_units(1_000_000);
        source.recall(header(&source, 2).await.block, Some(method), &[(shop_script, told)]);
        assert_eq!(scan(&source, 3, &shop()).await, expected, "{name}");
    }
}

#[tokio::test]
async fn calls_after_blocks_without_state_settle_them() {
    let counts = Meters::default();
    let _counting = counts.begin();
    let happened = [gap_blocks(), vec![Happened::default(), by_contract(SHOP, 5)]].concat();
    let world = world(happened);
    let source = world.source();
    assert_eq!(scan(&source, 2, &shop()).await, "balance:");
    *world.state_from.lock().unwrap() = 7;
    for (height, expected) in (3..7).zip(AFTER_GAP) {
        assert_eq!(scan(&source, height, &shop()).await, expected, "{height}");
    }
    // Another node stands in its place: it has calls, and the state from block 8 on.
    *world.state_from.lock().unwrap() = 8;
    world.node.answers("debug_traceBlockByHash", |params| {
        assert!(number(&params[0]) > 6);
        Ok(json!([]))
    });
    let again = self::source(&json!({}), &[&world.node]);
    // All that was told, less what the shop paid out.
    again.recall(
        header(&again, 6).await.block,
        Some("toplevel"),
        &[(
            Script::from_bytes(&const_hex::decode(&SHOP[2..]).unwrap()).unwrap(),
            BaseUnits::from_units(958_050),
        )],
    );
    assert_eq!(scan(&again, 7, &shop()).await, "toplevel:", "an empty block whose state is gone too");
    assert_eq!(scan(&again, 8, &shop()).await, "trace: balance=1017");
    assert_eq!(scan(&again, 9, &shop()).await, "trace:", "what calls do not tell is not asked for otherwise");
    assert_eq!(counts.count("tally_incidents_total", "kind=state_gap"), 1);
}

#[tokio::test]
async fn more_addresses_than_can_be_asked_for_need_traces() {
    let world = world(vec![Happened::default()]);
    let source = world.source();
    let watch = watching(&[]);
    let mut all = HashMap::new();
    for n in 0..20_001_u64 {
        let address = [&[1; 12][..], &n.to_be_bytes()].concat();
        watch.write().unwrap().insert_script(&address).unwrap();
        all.insert(n, address);
    }
    let tip = source.tip().await.unwrap();
    let error = source.scan(&tip, &watch).await.unwrap_err();
    let told = error.to_string();
    assert!(!error.is_transient() && told.contains("20001 addresses") && told.contains("required"), "{told}");
    assert_eq!(world.node.asked("eth_getBalance"), 0);
    watch.write().unwrap().remove_script(&all[&7]);
    source.scan(&tip, &watch).await.unwrap();
    assert_eq!(world.node.asked("eth_getBalance"), 40_000);
    // A node with traces is asked in place of one without.
    watch.write().unwrap().insert_script(&all[&7]).unwrap();
    let (traces, _) = node(31_337, 1);
    traces.answers("eth_getBlockByHash", |params| {
        Ok(if number(&params[0]) == 1 {
            json!({"hash": hash(1), "number": "0x1", "parentHash": hash(0),
            "timestamp": "0x5", "transactions": []})
        } else {
            Value::Null
        })
    });
    traces.answers("eth_getBlockByNumber", |_| {
        Ok(json!({"hash": hash(1), "number": "0x1",
        "parentHash": hash(0), "timestamp": "0x5", "transactions": []}))
    });
    let both = super::source(&json!({}), &[&world.node, &traces]);
    assert_eq!(both.scan(&tip, &watch).await.unwrap().method.as_deref(), Some("trace"));
}
