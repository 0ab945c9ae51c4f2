//! How blocks, transactions, receipts, logs and call traces look in JSON (the execution API's schema).

use serde_json::{Value, json};

use super::quantity;
use crate::account::{AccountBlock, AccountTx, Address, Frame, GAS_LIMIT, GAS_PRICE, Hash, Log};

/// A block, with whole transactions or their hashes.
pub(super) fn block(block: &AccountBlock, full: bool) -> Value {
    let transactions: Vec<Value> = block
        .txs
        .iter()
        .enumerate()
        .map(
            |(place, tx)| {
                if full { transaction(tx, Some((block, place))) } else { json!(tx.hash.to_string()) }
            },
        )
        .collect();
    json!({
        "number": quantity(block.number),
        "hash": block.hash.to_string(),
        "parentHash": block.parent.to_string(),
        "sha3Uncles": AccountBlock::uncles_hash().to_string(),
        "miner": Address::ZERO.to_string(),
        "stateRoot": block.state_root.to_string(),
        "transactionsRoot": block.transactions_root.to_string(),
        "receiptsRoot": block.receipts_root.to_string(),
        "logsBloom": const_hex::encode_prefixed(block.bloom),
        "difficulty": "0x0",
        "totalDifficulty": "0x0",
        "gasLimit": quantity(GAS_LIMIT),
        "gasUsed": quantity(block.gas_used),
        "timestamp": quantity(block.timestamp),
        "extraData": const_hex::encode_prefixed(&block.extra),
        "mixHash": Hash([0; 32]).to_string(),
        "nonce": "0x0000000000000000",
        "baseFeePerGas": quantity(GAS_PRICE),
        "size": quantity(block.size as u64),
        "uncles": [],
        "transactions": transactions,
    })
}

/// A block that is not made yet: without what only a made one has.
pub(super) fn pending_block(made: &AccountBlock, full: bool) -> Value {
    let mut value = block(made, false);
    for field in ["hash", "nonce", "miner"] {
        value[field] = Value::Null;
    }
    if full {
        value["transactions"] = made.txs.iter().map(|tx| transaction(tx, None)).collect();
    }
    value
}

/// A transaction, and where it stands if it is mined.
pub(super) fn transaction(tx: &AccountTx, mined: Option<(&AccountBlock, usize)>) -> Value {
    json!({
        "type": "0x0",
        "hash": tx.hash.to_string(),
        "nonce": quantity(tx.nonce),
        "blockHash": mined.map(|(block, _)| block.hash.to_string()),
        "blockNumber": mined.map(|(block, _)| quantity(block.number)),
        "transactionIndex": mined.map(|(_, place)| quantity(place as u64)),
        "from": tx.sender.address.to_string(),
        "to": tx.to.to_string(),
        "value": quantity(tx.value),
        "gas": quantity(tx.gas),
        "gasPrice": quantity(tx.gas_price),
        "input": const_hex::encode_prefixed(&tx.input),
        "v": quantity(tx.v),
        "r": signature_part(&tx.r),
        "s": signature_part(&tx.s),
    })
}

/// The receipt of a block's transaction, said to be of the block `shown`.
pub(super) fn receipt(block: &AccountBlock, place: usize, shown: Hash) -> Option<Value> {
    let (tx, receipt) = (block.txs.get(place)?, block.receipts.get(place)?);
    Some(json!({
        "type": "0x0",
        "transactionHash": tx.hash.to_string(),
        "transactionIndex": quantity(place as u64),
        "blockHash": shown.to_string(),
        "blockNumber": quantity(block.number),
        "from": tx.sender.address.to_string(),
        "to": tx.to.to_string(),
        "contractAddress": Value::Null,
        "status": quantity(u64::from(receipt.succeeded)),
        "gasUsed": quantity(receipt.gas_used),
        "cumulativeGasUsed": quantity(receipt.cumulative_gas),
        "effectiveGasPrice": quantity(tx.gas_price),
        "logsBloom": const_hex::encode_prefixed(receipt.bloom),
        "logs": logs(block, place, shown, |_| true),
    }))
}

/// Those logs of a block's transaction that `takes` accepts, said to be of the block `shown`.
pub(super) fn logs(
    block: &AccountBlock,
    place: usize,
    shown: Hash,
    takes: impl Fn(&Log) -> bool,
) -> Vec<Value> {
    let (Some(tx), Some(receipt)) = (block.txs.get(place), block.receipts.get(place)) else {
        return Vec::new();
    };
    let numbered = (receipt.first_log..).zip(&receipt.logs).filter(|(_, log)| takes(log));
    let log = |(index, log): (u64, &Log)| {
        json!({
            "address": log.address.to_string(),
            "topics": log.topics.iter().map(Hash::to_string).collect::<Vec<_>>(),
            "data": const_hex::encode_prefixed(&log.data),
            "blockHash": shown.to_string(),
            "blockNumber": quantity(block.number),
            "transactionHash": tx.hash.to_string(),
            "transactionIndex": quantity(place as u64),
            "logIndex": quantity(index),
            "removed": false,
        })
    };
    numbered.map(log).collect()
}

/// A frame of a call trace with those within it.
pub(super) fn frame(call: &Frame) -> Value {
    let mut value = json!({
        "type": "CALL",
        "from": call.from.to_string(),
        "to": call.to.to_string(),
        "value": quantity(call.value),
        "gas": quantity(call.gas),
        "gasUsed": quantity(call.gas),
        "input": const_hex::encode_prefixed(&call.input),
        "output": "0x",
    });
    if let Some(error) = call.error {
        value["error"] = json!(error);
    }
    if !call.calls.is_empty() {
        value["calls"] = call.calls.iter().map(frame).collect();
    }
    value
}

/// A number of up to 32 bytes, as nodes print it.
fn signature_part(bytes: &[u8]) -> String {
    let digits = const_hex::encode(bytes);
    let digits = digits.trim_start_matches('0');
    format!("0x{}", if digits.is_empty() { "0" } else { digits })
}
