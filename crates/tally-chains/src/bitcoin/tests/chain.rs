//! A regtest chain of blocks with real work, and a fake node that serves it as the nodes of the family do.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tally_matcher::{OutPoint, Pow, check_pow, sha256d};

use crate::testing::{FakeNode, Say};

/// Bytes of a transaction without witnesses.
pub(super) fn tx(inputs: &[OutPoint], outputs: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    bytes.push(u8::try_from(inputs.len()).unwrap());
    for input in inputs {
        bytes.extend(input.to_bytes());
        bytes.extend([1, 0x51, 0xff, 0xff, 0xff, 0xff]);
    }
    bytes.push(u8::try_from(outputs.len()).unwrap());
    for (value, script) in outputs {
        bytes.extend(value.to_le_bytes());
        bytes.push(u8::try_from(script.len()).unwrap());
        bytes.extend(script);
    }
    bytes.extend([0; 4]);
    bytes
}

/// An outpoint of no transaction here.
pub(super) fn elsewhere(n: u8) -> OutPoint {
    OutPoint { txid: sha256d(&[n]), vout: u32::from(n) }
}

/// A hash as nodes print it.
pub(super) fn printed(mut hash: [u8; 32]) -> String {
    hash.reverse();
    const_hex::encode(hash)
}

/// What a node knows.
#[derive(Default)]
pub(super) struct Known {
    /// The best branch, from the genesis block on.
    pub(super) best: Vec<Vec<u8>>,
    /// `(height, block)` beside it.
    pub(super) stale: Vec<(usize, Vec<u8>)>,
    pub(super) mempool: Vec<Vec<u8>>,
    /// Ids in the mempool whose transactions are not given out.
    pub(super) gone: Vec<String>,
    /// bcoin and bcash say −1 where others say −5.
    pub(super) not_found: i64,
}

impl Known {
    pub(super) fn hash(block: &[u8]) -> String {
        printed(sha256d(&block[..80]))
    }

    fn tip(&self) -> String {
        Self::hash(self.best.last().unwrap())
    }

    pub(super) fn find(&self, hash: &Value) -> Result<(usize, &Vec<u8>), (i64, &'static str)> {
        let beside = self.stale.iter().map(|(height, block)| (*height, block));
        let mut all = self.best.iter().enumerate().chain(beside);
        all.find(|(_, block)| json!(Self::hash(block)) == *hash).ok_or((self.not_found, "Block not found"))
    }

    fn transaction(&self, id: &Value) -> Say {
        let found = self.mempool.iter().find(|bytes| json!(printed(sha256d(bytes))) == *id);
        found.map(|bytes| json!(const_hex::encode(bytes))).ok_or((self.not_found, "Transaction not found."))
    }
}

/// The block after `prev` (80 bytes of it are enough), with a coinbase in front of `txs`.
pub(super) fn mine(prev: &[u8], time: u32, txs: &[Vec<u8>]) -> Vec<u8> {
    let coinbase = tx(&[OutPoint::NULL], &[(50, vec![0x51, u8::try_from(time % 251).unwrap()])]);
    let txs = [&[coinbase], txs].concat();
    let mut level: Vec<[u8; 32]> = txs.iter().map(|tx| sha256d(tx)).collect();
    while level.len() > 1 {
        if level.len() % 2 == 1 {
            level.push(*level.last().unwrap());
        }
        level = level.chunks(2).map(|pair| sha256d(&pair.concat())).collect();
    }
    let head = [
        &0x2000_0000_u32.to_le_bytes()[..],
        &sha256d(&prev[..80]),
        &level[0],
        &time.to_le_bytes(),
        &0x207f_ffff_u32.to_le_bytes(),
    ]
    .concat();
    let header = (0_u32..).map(|nonce| [&head[..], &nonce.to_le_bytes()].concat());
    let worked = |header: &Vec<u8>| check_pow(header.as_slice().try_into().unwrap(), Pow::Sha256d).is_ok();
    let mut block = header.into_iter().find(worked).unwrap();
    block.push(u8::try_from(txs.len()).unwrap());
    txs.iter().for_each(|tx| block.extend(tx));
    block
}

/// The header of the genesis block of regtest.
pub(super) fn genesis() -> Vec<u8> {
    let root = "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a";
    let fields = ["01000000", &"00".repeat(32), root, "dae5494d", "ffff7f20", "02000000"];
    const_hex::decode(fields.concat()).unwrap()
}

/// A node of a chain of `blocks` empty blocks, that calls itself `agent`.
pub(super) fn node(blocks: u32, agent: &'static str, not_found: i64) -> (FakeNode, Arc<Mutex<Known>>) {
    let mut best = vec![genesis()];
    for number in 1..=blocks {
        best.push(mine(best.last().unwrap(), 1_700_000_000 + number, &[]));
    }
    let known = Arc::new(Mutex::new(Known { best, not_found, ..Known::default() }));
    let node = FakeNode::start();
    let on = |method, answer: fn(&Known, &[Value]) -> Say| {
        let known = Arc::clone(&known);
        node.answers(method, move |params| answer(&known.lock().unwrap(), params));
    };
    on("getblockcount", |known, _| Ok(json!(known.best.len() - 1)));
    on("getbestblockhash", |known, _| Ok(json!(known.tip())));
    on("getblockhash", |known, params| {
        let height = usize::try_from(params[0].as_u64().unwrap()).unwrap();
        known.best.get(height).map(|block| json!(Known::hash(block))).ok_or((-8, "Block height out of range"))
    });
    on("getblockheader", |known, params| {
        let (height, block) = known.find(&params[0])?;
        Ok(match params[1].as_bool().unwrap() {
            true => json!({"height": height, "confirmations": -1, "bits": 545_259_519}),
            false => json!(const_hex::encode(&block[..80])),
        })
    });
    on("getblock", |known, params| known.find(&params[0]).map(|(_, block)| json!(const_hex::encode(block))));
    on("getrawmempool", |known, _| {
        let ids = known.mempool.iter().map(|bytes| printed(sha256d(bytes)));
        Ok(ids.chain(known.gone.iter().cloned()).collect())
    });
    on("getrawtransaction", |known, params| known.transaction(&params[0]));
    node.says("getnetworkinfo", Ok(json!({"version": "v1.0.2", "subversion": agent})));
    (node, known)
}
