//! Nodes that lag, lie and break off, beside one that does not; and blocks over either transport.

use tally_testkit::Meters;

use super::chain::{Known, mine, node};
use super::*;

fn bytes_at(known: &Mutex<Known>, height: usize) -> Vec<u8> {
    known.lock().unwrap().best[height].clone()
}

/// The node answers under `/rest`.
fn serve_rest(node: &FakeNode, known: &Mutex<Known>) {
    node.serves("/rest/chaininfo.json", b"{}".to_vec());
    for block in &known.lock().unwrap().best {
        node.serves(format!("/rest/block/{}.bin", Known::hash(block)), block.clone());
    }
}

fn fetched(node: &FakeNode, known: &Mutex<Known>) -> (usize, usize) {
    let by_rest = known.lock().unwrap().best.iter().map(|block| Known::hash(block)).collect::<Vec<_>>();
    let by_rest = by_rest.iter().map(|hash| node.asked(&format!("/rest/block/{hash}.bin"))).sum();
    (by_rest, node.asked("getblock"))
}

#[tokio::test]
async fn blocks_come_as_bytes_where_the_node_has_them_so() {
    for (name, rest, expected) in [("rest", true, (2, 0)), ("hexadecimal digits", false, (0, 2))] {
        let (node, known) = node(2, CORE, -5);
        let pay = tx(&[elsewhere(1)], &[(700, script(P2WPKH))]);
        {
            let mut known = known.lock().unwrap();
            let block = mine(&known.best[1].clone(), 9, &[pay]);
            known.best[2] = block;
        }
        if rest {
            serve_rest(&node, &known);
        }
        let source = source("btc", &[&node]);
        source.check().await.unwrap();
        let tip = source.tip().await.unwrap();
        for _ in 0..2 {
            assert_eq!(source.scan(&tip, &watching(&[P2WPKH])).await.unwrap().credits.len(), 1, "{name}");
        }
        assert_eq!(fetched(&node, &known), expected, "{name}");
        assert_eq!(node.asked("/rest/chaininfo.json"), 1, "{name}: asked once");
    }
}

#[tokio::test]
async fn a_block_that_rest_does_not_give_is_asked_for_otherwise() {
    let (node, known) = node(3, CORE, -5);
    serve_rest(&node, &known);
    let source = source("btc", &[&node]);
    source.check().await.unwrap();
    let grown = mine(&bytes_at(&known, 3), 9, &[]);
    known.lock().unwrap().best.push(grown);
    let tip = source.tip().await.unwrap();
    source.scan(&tip, &watching(&[])).await.unwrap();
    assert_eq!(fetched(&node, &known), (1, 1));
}

#[tokio::test]
async fn blocks_are_read_at_the_same_time_over_kept_connections() {
    for rest in [true, false] {
        let (node, known) = node(12, CORE, -5);
        if rest {
            serve_rest(&node, &known);
        }
        let source = source("btc", &[&node]);
        source.check().await.unwrap();
        let mut headers = Vec::new();
        for height in 1..=12 {
            headers.push(source.at(Height::new(height)).await.unwrap().unwrap());
        }
        let (connections, watch) = (node.connections(), watching(&[P2WPKH]));
        node.delays(Duration::from_millis(100));
        for _ in 0..3 {
            let begin = Instant::now();
            let blocks = headers.iter().map(|header| source.scan(header, &watch));
            assert!(futures::future::join_all(blocks).await.iter().all(Result::is_ok));
            assert!(begin.elapsed() < Duration::from_millis(800), "{rest} {:?}", begin.elapsed());
        }
        assert!(node.busiest() >= 12, "{rest} {}", node.busiest());
        let made = node.connections() - connections;
        assert!(made <= 12, "{rest} {made} for 36 blocks");
    }
}

#[tokio::test]
async fn headers_far_below_the_tip_are_read_ahead() {
    let (node, known) = node(200, CORE, -5);
    let source = source("btc", &[&node]);
    source.check().await.unwrap();
    let tip = source.tip().await.unwrap();
    let before = node.asked("getblockheader");
    let mut prev = source.at(Height::new(0)).await.unwrap().unwrap();
    for height in 1..=200 {
        let header = source.at(Height::new(height)).await.unwrap().unwrap();
        assert_eq!((header.prev, header.block.height.get()), (prev.block.hash, height));
        prev = header;
    }
    assert_eq!(prev, tip);
    assert!(node.asked("getblockheader") - before <= 205, "{}", node.asked("getblockheader") - before);
    // What is told in numbers is checked as what is told alone.
    let lie = mine(&bytes_at(&known, 4), 5, &[])[..80].to_vec();
    let honest = Arc::clone(&known);
    node.answers("getblockheader", move |params| {
        let known = honest.lock().unwrap();
        let (height, block) = known.find(&params[0])?;
        let head = if height == 50 { &lie[..] } else { &block[..80] };
        Ok(match params[1].as_bool().unwrap() {
            true => json!({"height": height}),
            false => json!(const_hex::encode(head)),
        })
    });
    for height in 48..=60 {
        let told = source.at(Height::new(height)).await;
        assert_eq!(told.is_err(), height == 50, "{height}");
    }
}

#[tokio::test]
async fn whatever_is_wrong_with_a_node_another_takes_over_and_it_is_named() {
    type Spoil = fn(&FakeNode, &Mutex<Known>);
    let spoils: [(&str, &str, Spoil); 9] = [
        ("another block", "contradiction", |node, known| {
            let other = const_hex::encode(bytes_at(known, 1));
            node.says("getblock", Ok(json!(other)));
        }),
        ("a transaction too few", "contradiction", |node, known| {
            let block = bytes_at(known, 3);
            let [head, body] = [&block[..80], &block[81..]];
            let other = [head, &[2], body, body].concat();
            node.says("getblock", Ok(json!(const_hex::encode(other))));
        }),
        ("half a block", "truncated", |node, known| {
            let block = bytes_at(known, 3);
            node.says("getblock", Ok(json!(const_hex::encode(&block[..block.len() / 2]))));
        }),
        ("a body that breaks off", "truncated", |node, _| {
            node.cuts(Some(60));
        }),
        ("a null", "malformed", |node, _| {
            node.says("getblock", Ok(json!(null)));
        }),
        ("a block that was thrown away", "pruned", |node, _| {
            node.says("getblock", Err((-1, "Block not available (pruned data)")));
        }),
        ("a wrong password", "refused", |node, _| {
            node.fails(Some(401));
        }),
        ("too many questions", "busy", |node, _| {
            node.fails(Some(503));
        }),
        ("no answer", "unreachable", |node, _| {
            node.fails(Some(0));
        }),
    ];
    for rest in [false, true] {
        for (name, kind, spoil) in spoils {
            let counts = Meters::default();
            let _counting = counts.begin();
            let ((bad, known), (good, all)) = (node(3, CORE, -5), node(3, CORE, -5));
            if rest {
                serve_rest(&good, &all);
            }
            let source = source("btc", &[&bad, &good]);
            source.check().await.unwrap();
            let tip = source.tip().await.unwrap();
            assert_eq!(source.endpoint(), 0, "{name}");
            spoil(&bad, &known);
            let watch = watching(&[P2WPKH]);
            assert_eq!(source.scan(&tip, &watch).await.unwrap().header, tip, "{name}");
            assert_eq!(source.endpoint(), 1, "{name}");
            let endpoint = bad.url.trim_start_matches("http://");
            let label = format!("chain=btc endpoint={endpoint} kind={kind}");
            assert_eq!(counts.count("tally_endpoint_faults_total", &label), 1, "{name}");
            let alarms = counts.count("tally_incidents_total", "kind=endpoint_pruned");
            assert_eq!(alarms, u64::from(kind == "pruned"), "{name}");
            // It is not used again, for a while.
            let asked = bad.asked("getblock");
            source.scan(&tip, &watch).await.unwrap();
            assert_eq!(bad.asked("getblock"), asked, "{name}");
            assert_eq!(source.at(Height::new(2)).await.unwrap().unwrap().block.hash, tip.prev);
        }
    }
}

#[tokio::test]
async fn a_node_that_lags_or_is_on_another_branch_is_not_followed_blindly() {
    let counts = Meters::default();
    let _counting = counts.begin();
    let ((first, known), (behind, _)) = (node(8, CORE, -5), node(2, CORE, -5));
    let source = source("btc", &[&first, &behind]);
    let tip = source.tip().await.unwrap();
    for height in 0..8 {
        source.at(Height::new(height)).await.unwrap();
    }
    first.fails(Some(0));
    assert!(source.tip().await.is_err(), "who takes over is six blocks behind");
    let endpoint = behind.url.trim_start_matches("http://");
    let label = format!("endpoint={endpoint} kind=lagging");
    assert!(counts.count("tally_endpoint_faults_total", &label) > 0);
    first.fails(None);
    assert_eq!(source.tip().await.unwrap(), tip);
    // Back on its feet, it leaves the branch at 5 for a longer one: that is the watcher's to judge.
    {
        let mut known = known.lock().unwrap();
        known.best.truncate(6);
        for time in 0..5 {
            let block = mine(&known.best.last().unwrap().clone(), 1_800_000_000 + time, &[]);
            known.best.push(block);
        }
    }
    let forked = source.tip().await.unwrap();
    assert_eq!(forked.block.height.get(), 10);
    // One whose branch meets nothing that was told.
    let (foreign, known) = node(0, CORE, -5);
    {
        let mut known = known.lock().unwrap();
        for time in 0..140 {
            let block = mine(&known.best.last().unwrap().clone(), 1_900_000_000 + time, &[]);
            known.best.push(block);
        }
    }
    let (first, _) = node(140, CORE, -5);
    let source = super::source("btc", &[&first, &foreign]);
    for height in 0..140 {
        source.at(Height::new(height)).await.unwrap();
    }
    source.tip().await.unwrap();
    first.fails(Some(0));
    assert!(source.tip().await.is_err());
    let label = format!("endpoint={} kind=unconnected", foreign.url.trim_start_matches("http://"));
    assert!(counts.count("tally_endpoint_faults_total", &label) > 0);
    assert_eq!(counts.count("tally_incidents_total", "kind=endpoint_branch"), 1);
}
