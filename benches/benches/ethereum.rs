//! Blocks and receipts of Ethereum to deposits, against ethers' own types on the same bytes.
//!
//! The blocks have the shape of the main network's: 200 transactions, of which half move a token, a fifth are plain
//! payments and the rest call contracts that log much. Both sides look for the same 10,000 addresses and
//! must find the same deposits. The medians of rounds that alternate are compared.
//!
//! The last line is `{"bench":"ethereum","ratio_ethers","mb_per_second"}`.

#![allow(clippy::unwrap_used, clippy::float_arithmetic, clippy::disallowed_methods)]

use std::collections::HashSet;
use std::hint::black_box;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use ethers_core::types::{Address, Block, H256, Transaction, TransactionReceipt};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tally_chains::ChainSettings;
use tally_matcher::WatchSet;
use tally_ports::{Header, SharedWatch};
use tally_types::{BlockHash, BlockRef, Height, Timestamp};

const BLOCKS: usize = 32;
const TRANSACTIONS: usize = 200;
const WATCHED: usize = 10_000;
const ROUNDS: usize = 15;
const TOKEN: &str = "0xdac17f958d2ee523a2206206994597c13d831ec7";
const TRANSFER: &str = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";

/// Bytes that look random and are the same in every run.
struct Bytes(u64);

impl Bytes {
    fn take(&mut self) -> [u8; 32] {
        self.0 += 1;
        Sha256::digest(self.0.to_be_bytes()).into()
    }

    fn hash(&mut self) -> String {
        format!("0x{}", const_hex::encode(self.take()))
    }

    fn address(&mut self) -> String {
        format!("0x{}", const_hex::encode(&self.take()[..20]))
    }

    fn number(&mut self, below: u64) -> u64 {
        u64::from_be_bytes(self.take()[..8].try_into().unwrap()) % below
    }

    fn data(&mut self, words: u64) -> String {
        let words: String = (0..words).map(|_| const_hex::encode(self.take())).collect();
        format!("0x{words}")
    }
}

/// A block and its receipts as a node tells them.
struct Told {
    header: Header,
    block: Vec<u8>,
    receipts: Vec<u8>,
    bytes: usize,
}

fn word(address: &str) -> String {
    format!("0x{:0>64}", &address[2..])
}

fn transfer(contract: &str, from: &str, to: &str, amount: u64) -> Value {
    json!({"address": contract, "topics": [TRANSFER, word(from), word(to)], "data": format!("0x{amount:064x}")})
}

/// What a transaction does: to whom, its value, its input, its logs.
fn deed(bytes: &mut Bytes, place: usize, payee: &str, from: &str) -> (String, u64, String, Vec<Value>) {
    match place % 10 {
        0..=4 => {
            let input = format!("0xa9059cbb{}{:064x}", &word(payee)[2..], 1_000_000);
            (TOKEN.to_owned(), 0, input, vec![transfer(TOKEN, from, payee, 1_000_000)])
        }
        5 | 6 => (payee.to_owned(), 1_000_000_000_000, "0x".to_owned(), Vec::new()),
        _ => {
            let log = |bytes: &mut Bytes, index: usize| {
                let (contract, to) = (bytes.address(), bytes.address());
                match index % 2 {
                    0 => transfer(&contract, from, &to, 7),
                    _ => {
                        json!({"address": contract, "topics": [bytes.hash(), bytes.hash()], "data": bytes.data(5)})
                    }
                }
            };
            let logs = (0..7).map(|index| log(bytes, index)).collect();
            let words = 4 + bytes.number(30);
            (bytes.address(), 0, bytes.data(words), logs)
        }
    }
}

fn make(bytes: &mut Bytes, height: u64, watched: &[String]) -> Told {
    let (hash, prev) = (bytes.hash(), bytes.hash());
    let (mut transactions, mut receipts, mut log_index) = (Vec::new(), Vec::new(), 0);
    let bloom = |digit: &str| format!("0x{}", digit.repeat(512));
    for place in 0..TRANSACTIONS {
        let (txid, from) = (bytes.hash(), bytes.address());
        // One payment in twenty is a deposit.
        let payee = match bytes.number(20) {
            0 => watched[usize::try_from(bytes.number(watched.len() as u64)).unwrap()].clone(),
            _ => bytes.address(),
        };
        let (to, value, input, mut logs) = deed(bytes, place, &payee, &from);
        for log in &mut logs {
            let log = log.as_object_mut().unwrap();
            log.insert("blockHash".into(), json!(hash));
            log.insert("blockNumber".into(), json!(format!("{height:#x}")));
            log.insert("transactionHash".into(), json!(txid));
            log.insert("transactionIndex".into(), json!(format!("{place:#x}")));
            log.insert("logIndex".into(), json!(format!("{log_index:#x}")));
            log.insert("removed".into(), json!(false));
            log_index += 1;
        }
        transactions.push(json!({
            "blockHash": hash, "blockNumber": format!("{height:#x}"), "from": from, "gas": "0x5208",
            "gasPrice": "0x4a817c800", "maxFeePerGas": "0x59682f000", "maxPriorityFeePerGas": "0x3b9aca00",
            "hash": txid, "input": input, "nonce": format!("{place:#x}"), "to": to,
            "transactionIndex": format!("{place:#x}"), "value": format!("{value:#x}"), "type": "0x2",
            "accessList": [], "chainId": "0x1", "v": "0x1", "r": bytes.hash(), "s": bytes.hash(), "yParity": "0x1",
        }));
        receipts.push(json!({
            "blockHash": hash, "blockNumber": format!("{height:#x}"), "contractAddress": null,
            "cumulativeGasUsed": "0x1c9c380", "effectiveGasPrice": "0x4a817c800", "from": from, "gasUsed": "0x5208",
            "logs": logs, "logsBloom": bloom("0"), "status": "0x1", "to": to, "transactionHash": txid,
            "transactionIndex": format!("{place:#x}"), "type": "0x2",
        }));
    }
    let block = json!({
        "hash": hash, "parentHash": prev, "number": format!("{height:#x}"), "timestamp": "0x66000000",
        "logsBloom": bloom("f"), "transactions": transactions, "sha3Uncles": prev, "miner": TOKEN, "stateRoot": prev,
        "transactionsRoot": prev, "receiptsRoot": prev, "difficulty": "0x0", "gasLimit": "0x1c9c380",
        "gasUsed": "0x1c9c380", "extraData": "0x", "mixHash": prev, "nonce": "0x0000000000000000",
        "baseFeePerGas": "0x4a817c800", "totalDifficulty": "0x0", "size": "0x10000", "uncles": [],
    });
    let block = serde_json::to_vec(&block).unwrap();
    let receipts = serde_json::to_vec(&receipts).unwrap();
    let header = Header {
        block: BlockRef { height: Height::new(height), hash: hash.parse::<BlockHash>().unwrap() },
        prev: prev.parse().unwrap(),
        time: Timestamp::from_secs(0x6600_0000),
    };
    Told { header, bytes: block.len() + receipts.len(), block, receipts }
}

/// With ethers' types, as one would write it; the same checks of what belongs together.
fn with_ethers(told: &Told, watched: &HashSet<Address>, token: Address, topic: H256) -> usize {
    let block: Block<Transaction> = serde_json::from_slice(&told.block).unwrap();
    let receipts: Vec<TransactionReceipt> = serde_json::from_slice(&told.receipts).unwrap();
    assert_eq!((block.hash, block.transactions.len()), (receipts[0].block_hash, receipts.len()));
    let mut found = 0;
    for (transaction, receipt) in block.transactions.iter().zip(&receipts) {
        assert_eq!((transaction.hash, block.hash), (receipt.transaction_hash, receipt.block_hash));
        if receipt.status.unwrap().as_u64() != 1 {
            continue;
        }
        let paid = transaction.to.is_some_and(|to| watched.contains(&to)) && !transaction.value.is_zero();
        found += usize::from(paid);
        for log in &receipt.logs {
            let moves = log.address == token && log.topics.len() == 3 && log.topics[0] == topic;
            let paid = moves && watched.contains(&Address::from(log.topics[2]));
            found += usize::from(paid);
        }
    }
    found
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

fn main() {
    let mut bytes = Bytes(0);
    let addresses: Vec<String> = (0..WATCHED).map(|_| bytes.address()).collect();
    let blocks: Vec<Told> =
        (0..BLOCKS).map(|n| make(&mut bytes, 20_000_000 + n as u64, &addresses)).collect();
    let mut set = WatchSet::new(7);
    for address in &addresses {
        set.insert_script(&const_hex::decode(address).unwrap()).unwrap();
    }
    let watch: SharedWatch = Arc::new(RwLock::new(set));
    let watched: HashSet<Address> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    let (token, topic) = (TOKEN.parse().unwrap(), TRANSFER.parse().unwrap());
    let settings: ChainSettings = serde_json::from_value(json!({
        "id": "eth", "kind": "ethereum", "chain_id": 1,
        "tokens": [{"symbol": "USDT", "contract": TOKEN, "decimals": 6}],
    }))
    .unwrap();

    let ours = |told: &Told| {
        let (block, receipts) = (black_box(&told.block), black_box(&told.receipts));
        tally_chains::bench::ethereum_deposits(&settings, &told.header, block, receipts, &watch).unwrap()
    };
    let theirs = |told: &Told| with_ethers(black_box(told), &watched, token, topic);
    let total: usize = blocks.iter().map(|told| told.bytes).sum();
    let found: usize = blocks.iter().map(ours).sum();
    assert_eq!(found, blocks.iter().map(theirs).sum::<usize>(), "both find the same");
    println!("{BLOCKS} blocks, {total} bytes, {WATCHED} addresses, {found} deposits");

    let time = |work: &dyn Fn(&Told) -> usize| {
        let begin = Instant::now();
        black_box(blocks.iter().map(work).sum::<usize>());
        begin.elapsed()
    };
    let rounds: Vec<_> = (0..ROUNDS).map(|_| (time(&ours), time(&theirs))).collect();
    let (ours, theirs): (Vec<_>, Vec<_>) = rounds.into_iter().unzip();
    let (ours, theirs) = (median(ours), median(theirs));
    let per_block = |seconds: f64| seconds * 1e6 / BLOCKS as f64;
    println!("ours {:.0} us a block, ethers {:.0} us", per_block(ours), per_block(theirs));
    let mb_per_second = total as f64 / ours / 1e6;
    tally_benches::finish(
        "ethereum",
        &[("ratio_ethers", json!(theirs / ours)), ("mb_per_second", json!(mb_per_second))],
    );
}
