//! Nodes that lag, lie and break off, beside one that does not.

use tally_testkit::Meters;

use super::*;

#[tokio::test]
async fn whatever_is_wrong_with_a_node_another_takes_over_and_it_is_named() {
    type Spoil = fn(&FakeNode);
    let spoils: [(&str, &str, Spoil); 11] = [
        ("a null for a block", "absent", |node| {
            node.says("eth_getBlockByHash", Ok(Value::Null));
        }),
        ("a null for receipts", "absent", |node| {
            node.says("eth_getBlockReceipts", Ok(Value::Null));
        }),
        ("a null for traces", "absent", |node| {
            node.says("debug_traceBlockByHash", Ok(Value::Null));
        }),
        ("another block", "contradiction", |node| {
            node.answers("eth_getBlockByHash", |_| Ok(block(2, true)));
        }),
        ("all of it but its hash", "contradiction", |node| {
            node.answers("eth_getBlockByHash", |_| {
                let mut other = block(3, true);
                other["hash"] = json!(hash(7));
                Ok(other)
            });
        }),
        ("all of it but its parent", "contradiction", |node| {
            node.answers("eth_getBlockByHash", |_| {
                let mut other = block(3, true);
                other["parentHash"] = json!(hash(7));
                Ok(other)
            });
        }),
        ("receipts of another block", "contradiction", |node| {
            node.answers("eth_getBlockReceipts", |_| Ok(json!([receipt(2)])));
        }),
        ("receipts left out", "contradiction", |node| {
            node.answers("eth_getBlockReceipts", |_| Ok(json!([])));
        }),
        ("a body that breaks off", "truncated", |node| {
            node.cuts(Some(300));
        }),
        ("an answer of another form", "malformed", |node| {
            node.says("eth_getBlockReceipts", Ok(json!([{"blockHash": 7}])));
        }),
        ("no answer", "unreachable", |node| {
            node.fails(Some(0));
        }),
    ];
    for (name, kind, spoil) in spoils {
        let counts = Meters::default();
        let _counting = counts.begin();
        let ((bad, _), (good, _)) = (node(31_337, 3), node(31_337, 3));
        let source = source(&json!({}), &[&bad, &good]);
        source.check().await.unwrap();
        let tip = source.tip().await.unwrap();
        assert_eq!(source.endpoint(), 0, "{name}");
        spoil(&bad);
        let watch = watching(&[&SHOP[2..]]);
        let scanned = source.scan(&tip, &watch).await.unwrap();
        assert_eq!((scanned.header, scanned.credits.len()), (tip, 1), "{name}");
        assert_eq!(source.endpoint(), 1, "{name}");
        let endpoint = bad.url.trim_start_matches("http://");
        let label = format!("chain=eth endpoint={endpoint} kind={kind}");
        assert_eq!(counts.count("tally_endpoint_faults_total", &label), 1, "{name}");
        let incidents = counts.count("tally_incidents_total", "kind=endpoint_lies");
        assert_eq!(incidents, u64::from(kind == "contradiction"), "{name}");
        // It is not used again, for a while.
        let asked = bad.asked("eth_getBlockByHash");
        source.scan(&tip, &watch).await.unwrap();
        assert_eq!(bad.asked("eth_getBlockByHash"), asked, "{name}");
    }
}

#[tokio::test]
async fn blocks_are_read_at_the_same_time_over_kept_connections() {
    let (node, _) = node(31_337, 16);
    let source = source(&json!({}), &[&node]);
    source.check().await.unwrap();
    node.delays(Duration::from_millis(50));
    let watch = watching(&[&SHOP[2..]]);
    let mut headers = Vec::new();
    for height in 1..=16 {
        headers.push(source.at(Height::new(height)).await.unwrap().unwrap());
    }
    let connections = node.connections();
    let begin = Instant::now();
    let blocks = futures::future::join_all(headers.iter().map(|header| source.scan(header, &watch))).await;
    assert!(begin.elapsed() < Duration::from_millis(700), "{:?}", begin.elapsed());
    assert!(blocks.iter().all(Result::is_ok));
    assert!(node.busiest() >= 16, "{}", node.busiest());
    assert!(connections <= 4, "{connections}");
}

#[tokio::test]
async fn what_is_final_is_told_where_the_chain_says() {
    let (node, _) = node(31_337, 9);
    let source = source(&json!({}), &[&node]);
    source.check().await.unwrap();
    node.says("eth_getBlockByNumber", Ok(Value::Null));
    assert_eq!(source.finalized().await.unwrap(), None);
    node.says("eth_getBlockByNumber", Err((-39001, "finalized block not found")));
    assert_eq!(source.finalized().await.unwrap(), None);
    node.answers("eth_getBlockByNumber", |params| {
        assert_eq!(params[0], "finalized");
        Ok(block(5, false))
    });
    assert_eq!(source.finalized().await.unwrap(), Some(Height::new(5)));
    node.fails(Some(500));
    assert!(source.finalized().await.is_err());
}

/// The tip moves between the question for a block and the one for the tip's number.
#[tokio::test]
async fn a_block_that_comes_between_two_questions_is_not_taken_for_absent() {
    let (node, tip) = node(31_337, 3);
    let source = source(&json!({}), &[&node]);
    assert_eq!(source.at(Height::new(4)).await.unwrap(), None, "nothing moves: it is above the tip");
    let moved = Arc::clone(&tip);
    node.answers("eth_getBlockByNumber", move |params| {
        let mut tip = moved.lock().unwrap();
        let height = if params[0] == "latest" { *tip } else { number(&params[0]) };
        let told = if height <= *tip { block(height, params[1] == true) } else { Value::Null };
        // The next block comes right after the answer.
        *tip = (*tip).max(4);
        Ok(told)
    });
    let error = source.at(Height::new(4)).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("absent under the tip 4"), "{error}");
    assert_eq!(source.at(Height::new(4)).await.unwrap().unwrap().block.height.get(), 4);
    assert_eq!(source.at(Height::new(5)).await.unwrap(), None);
}

/// The other way round: what the tip's number promised is gone when its block is asked for.
#[tokio::test]
async fn a_tip_that_goes_back_between_two_questions_is_not_believed_half() {
    type Row = (&'static str, fn(u64) -> Value, &'static str);
    let rows: [Row; 2] = [
        ("null", |_| Value::Null, "absent"),
        ("another block", |height| block(height.saturating_sub(1), false), "is told as block"),
    ];
    for (name, answer, told) in rows {
        let (node, tip) = node(31_337, 5);
        let source = source(&json!({}), &[&node]);
        let seen = source.tip().await.unwrap();
        assert_eq!(seen.block.height.get(), 5);
        node.answers("eth_getBlockByNumber", move |params| {
            Ok(if params[0] == "latest" { block(4, false) } else { answer(number(&params[0])) })
        });
        let error = source.at(Height::new(5)).await.unwrap_err();
        assert!(error.is_transient() && error.to_string().contains(told), "{name}: {error}");
        // The node has gone back by now.
        *tip.lock().unwrap() = 4;
        let (header, watch) = (seen, watching(&[&SHOP[2..]]));
        let error = source.scan(&header, &watch).await.unwrap_err();
        assert!(error.is_transient() && error.to_string().contains("is absent"), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_chain_without_a_latest_block_is_asked_again() {
    let (node, _) = node(31_337, 5);
    node.says("eth_getBlockByNumber", Ok(Value::Null));
    let error = source(&json!({}), &[&node]).tip().await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("there is no latest block"), "{error}");
}
