//! A node whose best branch changes between two questions that belong together.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

type Move = fn(&mut Known, u32);

fn one_more(known: &mut Known, time: u32) {
    let block = mine(known.best.last().unwrap(), time, &[]);
    known.best.push(block);
}

/// The last block is another now.
fn another(known: &mut Known, time: u32) {
    let old = known.best.pop().unwrap();
    known.stale.push((known.best.len(), old));
    one_more(known, time);
}

/// Two blocks are one other now.
fn shorter(known: &mut Known, time: u32) {
    let old = known.best.pop().unwrap();
    known.stale.push((known.best.len(), old));
    another(known, time);
}

/// Right after its `at`th answers to `method`, `times` times, the node's best branch changes.
fn moves(
    node: &FakeNode,
    known: &Arc<Mutex<Known>>,
    method: &'static str,
    answer: fn(&Known, &[serde_json::Value]) -> crate::testing::Say,
    (change, times): (Move, usize),
) -> Arc<AtomicUsize> {
    let (known, moved) = (Arc::clone(known), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&moved);
    node.answers(method, move |params| {
        let mut known = known.lock().unwrap();
        let told = answer(&known, params);
        if count.load(Ordering::SeqCst) < times {
            let time = 1_800_000_000 + u32::try_from(count.fetch_add(1, Ordering::SeqCst)).unwrap();
            change(&mut known, time);
        }
        told
    });
    moved
}

fn tip_of(known: &Mutex<Known>) -> (u64, String) {
    let known = known.lock().unwrap();
    (known.best.len() as u64 - 1, Known::hash(known.best.last().unwrap()))
}

#[tokio::test]
async fn the_tip_is_one_block_however_the_branch_moves_meanwhile() {
    let changes: [(&str, Move); 3] =
        [("one more block", one_more), ("another block", another), ("a shorter branch", shorter)];
    for (name, change) in changes {
        for times in [1, 2, 3, 50] {
            let (node, known) = node(60, CORE, -5);
            let count = |known: &Known, _: &[serde_json::Value]| Ok(json!(known.best.len() - 1));
            let moved = moves(&node, &known, "getblockcount", count, (change, times));
            let source = source("btc", &[&node]);
            let tip = source.tip().await.unwrap();
            let (name, told) =
                (format!("{name} {times}"), (tip.block.height.get(), tip.block.hash.to_string()));
            assert!(moved.load(Ordering::SeqCst) >= 1, "{name}");
            assert_eq!(told, tip_of(&known), "{name}: height and hash are of one block, the last");
            let height = usize::try_from(told.0).unwrap();
            let below = Known::hash(&known.lock().unwrap().best[height - 1]);
            assert_eq!(tip.prev.to_string(), below, "{name}");
        }
    }
}

#[tokio::test]
async fn a_block_that_leaves_between_its_hash_and_its_header_is_still_that_block() {
    for (name, forgets) in [("the node keeps it", false), ("the node forgets it", true)] {
        let (node, known) = node(60, CORE, -5);
        let hash_at = |known: &Known, params: &[serde_json::Value]| {
            let height = usize::try_from(params[0].as_u64().unwrap()).unwrap();
            let block = known.best.get(height).ok_or((-8, "Block height out of range"))?;
            Ok(json!(Known::hash(block)))
        };
        let source = source("btc", &[&node]);
        source.tip().await.unwrap();
        let (_, left) = tip_of(&known);
        let forget: Move = |known, time| {
            another(known, time);
            known.stale.clear();
        };
        let change = if forgets { forget } else { another };
        moves(&node, &known, "getblockhash", hash_at, (change, 1));
        let told = source.at(Height::new(60)).await;
        if forgets {
            let error = told.unwrap_err();
            assert!(
                error.is_transient() && error.to_string().contains("and then not found"),
                "{name}: {error}"
            );
        } else {
            assert_eq!(told.unwrap().unwrap().block.hash.to_string(), left, "{name}");
        }
        let now = source.at(Height::new(60)).await.unwrap().unwrap();
        assert_eq!((60, now.block.hash.to_string()), tip_of(&known), "{name}: the next answer");
    }
}

#[tokio::test]
async fn a_mempool_over_which_a_block_comes_says_nothing() {
    let (node, known) = node(5, CORE, -5);
    let source = source("btc", &[&node]);
    source.tip().await.unwrap();
    let ids = |_: &Known, _: &[serde_json::Value]| Ok(json!([]));
    moves(&node, &known, "getrawmempool", ids, (one_more, 1));
    let watch = watching(&[P2WPKH]);
    assert_eq!(source.mempool(&HashSet::new(), &watch).await.unwrap(), None);
    let seen = source.mempool(&HashSet::new(), &watch).await.unwrap().unwrap();
    assert_eq!(seen.tip.to_string(), tip_of(&known).1);
}
