//! The Merkle root, by recursion.

use tally_matcher::{MerkleError, sha256d};

use super::parse::block;

/// A block: believed exactly if its transactions give the root and no other block gives the same. So that it
/// is believed at all, the true root is put into a copy.
pub fn verify_merkle_root(data: &[u8]) {
    let verdict = tally_matcher::verify_merkle_root(data);
    let Some(read) = block(data) else {
        assert!(matches!(verdict, Err(MerkleError::Walk(_))), "{verdict:?}");
        return;
    };
    let Some(first) = read.txs.first() else {
        assert_eq!(verdict, Err(MerkleError::NoTransactions));
        return;
    };
    if !first.is_coinbase() {
        assert_eq!(verdict, Err(MerkleError::NoCoinbase { txid: first.txid }));
        return;
    }
    let mut depth = 0;
    while 1_usize << depth < read.txs.len() {
        depth += 1;
    }
    let txids: Vec<[u8; 32]> = read.txs.iter().map(|tx| tx.txid).collect();
    let (root, repeated) = node(&txids, depth);
    let claimed = &read.header[36..68];
    match verdict {
        Ok(()) => assert!(!repeated && claimed == root),
        Err(MerkleError::Repeated { .. }) => assert!(repeated),
        Err(MerkleError::Mismatch { computed, .. }) => {
            assert!(!repeated && computed == root && claimed != root)
        }
        other => panic!("{other:?}"),
    }
    let mut mended = data.to_vec();
    mended[36..68].copy_from_slice(&root);
    assert_eq!(tally_matcher::verify_merkle_root(&mended).is_ok(), !repeated);
}

/// The hash of a tree of that depth over these leaves, and whether two different nodes that are paired are the
/// same. A right half that is missing is as the left one.
fn node(leaves: &[[u8; 32]], depth: u32) -> ([u8; 32], bool) {
    if depth == 0 {
        return (leaves[0], false);
    }
    let half = (1 << (depth - 1)).min(leaves.len());
    let (left, right) = leaves.split_at(half);
    let (left, in_left) = node(left, depth - 1);
    if right.is_empty() {
        return (sha256d(&[left, left].concat()), in_left);
    }
    let (right, in_right) = node(right, depth - 1);
    (sha256d(&[left, right].concat()), in_left || in_right || left == right)
}
