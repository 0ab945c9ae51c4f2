//! Facts of one chain, by its watcher, on `tally.v1.chain.<chain>.<generation>-<shard>`.

use serde::{Deserialize, Serialize};
use tally_types::{
    BaseUnits, BlockHash, BlockRef, ChainId, Currency, DepositKey, Difference, Height, OutPoint, Position,
    Script, Span, Timestamp, TxId,
};

/// A payment to a watched script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deposit {
    /// Its identity.
    pub key: DepositKey,
    /// What was paid.
    pub currency: Currency,
    /// How much.
    pub amount: BaseUnits,
    /// To where.
    pub script: Script,
    /// The watcher's clock when a mempool snapshot first held it; if first met in a block, the earlier of
    /// its clock and the header's time.
    pub first_seen: Timestamp,
    /// The outputs its transaction spends, where the chain has such: what spends one of them in its place
    /// has replaced it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<OutPoint>,
    /// What it is the rest of, where it was found as a difference of balances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
}

/// A block, or a run of blocks without a hit, joined the branch that the log follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockConnected {
    /// The chain.
    pub chain: ChainId,
    /// The block; of a run, the last.
    pub block: BlockRef,
    /// The hash of the block before; of a run, before its first.
    pub prev: BlockHash,
    /// The height of the run's first block: equal to the block's own height where it is one block.
    pub from: Height,
    /// The header's time.
    pub time: Timestamp,
    /// The log position whose addresses the block was matched against.
    pub watched_through: Position,
    /// The watcher's clock.
    pub observed_at: Timestamp,
    /// How deposits were found, where a chain has more than one way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// A block left the branch that the log follows. Descending, one fact a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockDisconnected {
    /// The chain.
    pub chain: ChainId,
    /// The block.
    pub block: BlockRef,
    /// The hash of the block before, which is now the tip.
    pub prev: BlockHash,
}

/// The watcher looked at the tip and the mempool and is alive: what had not been seen by then was not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainObserved {
    /// The chain.
    pub chain: ChainId,
    /// The tip of the log's branch.
    pub tip: BlockRef,
    /// The log position whose addresses the mempool and the chain were matched against.
    pub watched_through: Position,
    /// The watcher's clock.
    pub observed_at: Timestamp,
}

/// How far a report must lie before what was reported already, to say that the watcher's clock was wrong then.
pub const CLOCK_SET_BACK_MIN: Span = Span::from_secs(60);

impl ChainObserved {
    /// When the chain was last looked at, where `before` was said until now, and this is said at `told_at`. Never
    /// earlier, for what is told late moves nothing back; unless a clock that was ahead was put right: then it is of
    /// now and far behind. Else a chain would pass for watched until time has caught up with the wrong clock.
    pub fn last_look(&self, before: Timestamp, told_at: Timestamp) -> Timestamp {
        let is_of_now = told_at.since(self.observed_at) < CLOCK_SET_BACK_MIN;
        if is_of_now && before.since(self.observed_at) >= CLOCK_SET_BACK_MIN {
            self.observed_at
        } else {
            before.max(self.observed_at)
        }
    }
}

/// A payment is in the mempool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepositSeen {
    /// The chain.
    pub chain: ChainId,
    /// The payment.
    pub deposit: Deposit,
    /// The payment that this one took the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<DepositKey>,
}

/// A payment is in a block. It counts once that block's `block_connected` is folded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepositMined {
    /// The chain.
    pub chain: ChainId,
    /// The payment.
    pub deposit: Deposit,
    /// The block.
    pub block: BlockRef,
    /// The payment that this one took the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<DepositKey>,
}

/// A payment's block left the chain, or was never connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepositUnmined {
    /// The chain.
    pub chain: ChainId,
    /// The payment.
    pub deposit: DepositKey,
    /// The block that is gone.
    pub block: BlockRef,
    /// Whether it counts as being in the mempool again until something else is known of it.
    pub in_mempool: bool,
}

/// A payment's inputs were spent by another transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepositReplaced {
    /// The chain.
    pub chain: ChainId,
    /// The payment.
    pub deposit: DepositKey,
    /// The transaction that took its place.
    pub by: TxId,
}

/// A payment is in neither chain nor mempool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepositVanished {
    /// The chain.
    pub chain: ChainId,
    /// The payment.
    pub deposit: DepositKey,
}

/// A payment reached a depth that subscribers are told of. Orders derive depth from the block facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepositConfirmed {
    /// The chain.
    pub chain: ChainId,
    /// The payment.
    pub deposit: DepositKey,
    /// Its confirmations.
    pub depth: u32,
    /// The tip it was reached at.
    pub tip: BlockRef,
    /// Whether its block is final: no reorg can take it any more. Told once, whatever the depth.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub finalized: bool,
}

/// Where a followed deposit stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointStage {
    /// In the mempool.
    Mempool,
    /// In this block.
    Mined(BlockRef),
    /// In neither.
    Gone,
}

/// A deposit as a checkpoint holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointDeposit {
    /// The payment.
    pub deposit: Deposit,
    /// Where it stands.
    pub stage: CheckpointStage,
}

/// The watcher's state, whole, so that the next start need not read further back. In parts of at most 512 KiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainCheckpointed {
    /// The chain.
    pub chain: ChainId,
    /// Which part this is, from 0.
    pub part: u32,
    /// How many parts there are.
    pub parts: u32,
    /// The last headers of the branch, ascending; in the first part.
    pub headers: Vec<BlockRef>,
    /// Deposits still followed.
    pub deposits: Vec<CheckpointDeposit>,
    /// As in `block_connected`.
    pub watched_through: Position,
    /// The watcher's clock.
    pub observed_at: Timestamp,
    /// The height of the last final block; none where none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finalized: Option<Height>,
    /// How payments were found in the blocks of `headers`, where a chain has more than one way; in the first part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<(Height, String)>,
}

/// The chain itself says that a block, and all before it, can no longer leave the branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainFinalized {
    /// The chain.
    pub chain: ChainId,
    /// The last final block.
    pub block: BlockRef,
}

/// From here on the chain's scripts are divided among so many shards. Stands, in one append, on the chain's plan,
/// on the subject of each shard that ends (which takes nothing more), and is followed there by what the new ones
/// start from: a checkpoint on each one's own subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainSharded {
    /// The chain.
    pub chain: ChainId,
    /// The number of this division, counted up; it stands in the new shards' subjects.
    pub generation: u32,
    /// How many shards there are now.
    pub count: u32,
    /// The block that all shards before had as their tip; none where nothing was watched yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<BlockRef>,
    /// As in `block_connected`: the least of the shards before.
    pub watched_through: Position,
    /// The clock of that shard's watcher which had reported least lately.
    pub observed_at: Timestamp,
}

/// A range of blocks is to be matched again, in parts, by whoever has time. On the chain's rescan subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescanRequested {
    /// The chain.
    pub chain: ChainId,
    /// The number of this rescan, counted up.
    pub rescan: u32,
    /// The first block.
    pub from: Height,
    /// The last block.
    pub to: Height,
    /// How many blocks a part has; the last may have fewer.
    pub part_blocks: u64,
    /// Where the oldest request stands that was not done when this was written; 0: this is the oldest.
    pub since: Position,
}

/// A block with payments to watched scripts, as a rescan found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundBlock {
    /// The block.
    pub block: BlockRef,
    /// The hash of the block before.
    pub prev: BlockHash,
    /// The header's time.
    pub time: Timestamp,
    /// The payments.
    pub deposits: Vec<Deposit>,
}

/// A part of a rescan was matched, against the scripts of the shard named in the envelope. What was found does not
/// count by this: only the shard's writer can say that the blocks are on its branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescanReported {
    /// The chain.
    pub chain: ChainId,
    /// Which rescan.
    pub rescan: u32,
    /// Which part of it, from 0.
    pub part: u64,
    /// The last block that was matched.
    pub last: BlockRef,
    /// What was found, ascending.
    pub found: Vec<FoundBlock>,
    /// Whether more of this part follows, too much for one fact.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// As in `rescan.requested`.
    pub since: Position,
}

/// The writer of the shard named in the envelope has made what a part of a rescan found its own: what was not
/// known is in the log before this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescanApplied {
    /// The chain.
    pub chain: ChainId,
    /// Which rescan.
    pub rescan: u32,
    /// Which part of it.
    pub part: u64,
    /// As in `rescan.requested`: 0 where this was the last that was open. But where a later one was done before it, there
    /// the last request stands, so that its number is known.
    pub since: Position,
}
