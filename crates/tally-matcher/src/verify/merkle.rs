//! The Merkle tree over a block's transaction ids.

use thiserror::Error;

use super::Printed;
use crate::ids::sha256d_of;
use crate::walk::{RawTx, Visitor, walk};
use crate::{Header, WalkError};

/// The block's transactions are not those that its header commits to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MerkleError {
    /// The bytes are not a block.
    #[error("the bytes are not a block")]
    Walk(#[from] WalkError),
    /// A block has at least its coinbase.
    #[error("the block has no transactions")]
    NoTransactions,
    /// The first transaction is no coinbase, so the "transactions" may be inner nodes of the tree.
    #[error("the first transaction, {}, is no coinbase", Printed(txid))]
    NoCoinbase {
        /// Id of the first transaction.
        txid: [u8; 32],
    },
    /// Two neighbours are the same, which gives the root of a block without the second
    /// (CVE-2012-2459).
    #[error("hash {} stands twice side by side in the merkle tree", Printed(hash))]
    Repeated {
        /// The repeated id or inner node.
        hash: [u8; 32],
    },
    /// Another root.
    #[error("merkle root {} computed, {} in the header", Printed(computed), Printed(claimed))]
    Mismatch {
        /// From the transactions.
        computed: [u8; 32],
        /// From the header.
        claimed: [u8; 32],
    },
}

/// Checks that the block has exactly the transactions its header commits to: nothing added, left
/// out or repeated. Witnesses are not covered, nor is Litecoin's extension block.
///
/// # Errors
/// [`MerkleError`], which means that these bytes must not be believed; the header may still be good.
pub fn verify_merkle_root(block: &[u8]) -> Result<(), MerkleError> {
    let mut ids = Ids::default();
    let walked = walk(block, &mut ids)?;
    check(&walked.header, ids)
}

fn check(header: &Header, ids: Ids) -> Result<(), MerkleError> {
    let txid = *ids.txids.first().ok_or(MerkleError::NoTransactions)?;
    if !ids.begins_with_coinbase {
        return Err(MerkleError::NoCoinbase { txid });
    }
    let (computed, claimed) = (root(ids.txids)?, header.merkle_root());
    if computed == claimed { Ok(()) } else { Err(MerkleError::Mismatch { computed, claimed }) }
}

/// The root over at least one id. Every level but the last has a last node paired with itself if
/// their number is odd.
fn root(mut level: Vec<[u8; 32]>) -> Result<[u8; 32], MerkleError> {
    while level.len() > 1 {
        let mut above = Vec::with_capacity(level.len().div_ceil(2));
        for pair in level.chunks(2) {
            match pair {
                [left, right] if left == right => {
                    return Err(MerkleError::Repeated { hash: *left });
                }
                [left, right] => above.push(sha256d_of(&[left, right])),
                [last] => above.push(sha256d_of(&[last, last])),
                _ => {}
            }
        }
        level = above;
    }
    level.first().copied().ok_or(MerkleError::NoTransactions)
}

#[derive(Default)]
struct Ids {
    txids: Vec<[u8; 32]>,
    begins_with_coinbase: bool,
}

impl<'a> Visitor<'a> for Ids {
    fn end_tx(&mut self, tx: &RawTx<'a>) {
        if self.txids.is_empty() {
            self.begins_with_coinbase = tx.is_coinbase();
        }
        self.txids.push(tx.txid());
    }
}
