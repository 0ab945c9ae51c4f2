//! The methods of Bitcoin Core that wallets and watchers use, with its error codes.
//!
//! As on a node without `txindex`, `getrawtransaction` finds the mempool only, or a block that is named.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::consensus::encode::serialize;
use bitcoin::{BlockHash, OutPoint, Txid};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tally_types::BaseUnits;
use tokio::time::timeout;

use super::{Answer, Methods, RpcError, answer};
use crate::node::{Faults, Node};
use crate::utxo::{BITS, SimulatedUtxoChain, StoredBlock, SubmitError};

/// The longest that `waitfornewblock` waits. Nodes may answer it early, and early it is here: also on a change
/// of the mempool, and soon enough for a payment that came just before the call.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// The methods of a simulated node of the Bitcoin family.
pub(crate) struct BitcoinMethods(pub(crate) Arc<Node<SimulatedUtxoChain>>);

impl Methods for BitcoinMethods {
    const STATUS_SHOWS_ERRORS: bool = true;

    async fn ready(&self) {
        self.0.unstalled().await;
    }

    async fn call(&self, method: &str, params: &[Value]) -> Answer {
        match method {
            "sendrawtransaction" => self.send(params),
            "waitfornewblock" => self.wait(params).await,
            _ => self.0.read(|chain, faults| View { chain, faults, params }.call(method)),
        }
    }

    /// A node of this family cuts the block's bytes, not the JSON around them.
    fn cuts(&self, _method: &str) -> bool {
        false
    }
}

impl BitcoinMethods {
    fn send(&self, params: &[Value]) -> Answer {
        let hex = text(params, 0, "hexstring")?;
        let raw = const_hex::decode(hex).map_err(|_| submit_error(SubmitError::Malformed))?;
        let txid = self.0.change(|chain| chain.submit(&raw)).map_err(submit_error)?;
        answer(&txid.to_string())
    }

    async fn wait(&self, params: &[Value]) -> Answer {
        let millis = match params.first() {
            None | Some(Value::Null) => 0,
            Some(value) => value.as_u64().ok_or_else(|| wrong_type("timeout", "number"))?,
        };
        // Zero stands for no limit.
        let limit = if millis == 0 { WAIT_MAX } else { WAIT_MAX.min(Duration::from_millis(millis)) };
        let _ = timeout(limit, self.0.subscribe().changed()).await;
        self.0.unstalled().await;
        self.0.read(|chain, faults| {
            let view = View { chain, faults, params: &[] };
            let tip = view.tip()?;
            answer(&json!({ "hash": tip.hash.to_string(), "height": tip.height }))
        })
    }
}

/// One call against the chain as the node sees it.
struct View<'a> {
    chain: &'a SimulatedUtxoChain,
    faults: Faults,
    params: &'a [Value],
}

impl View<'_> {
    fn call(&self, method: &str) -> Answer {
        match method {
            "getblockcount" => answer(&self.height()),
            "getbestblockhash" => answer(&self.tip()?.hash.to_string()),
            "getblockhash" => self.block_hash(),
            "getblockheader" => self.block_header(),
            "getblock" => self.block(),
            "getrawmempool" => self.raw_mempool(),
            "getrawtransaction" => self.raw_transaction(),
            "gettxout" => self.tx_out(),
            "getchaintips" => self.chain_tips(),
            "getblockchaininfo" => self.chain_info(),
            "getnetworkinfo" => self.network_info(),
            _ => Err(RpcError::new(-32601, "Method not found")),
        }
    }

    fn height(&self) -> u64 {
        self.faults.view(self.chain.height())
    }

    fn tip(&self) -> Result<&Arc<StoredBlock>, RpcError> {
        self.chain.at(self.height()).ok_or_else(block_not_found)
    }

    /// A block by the hash in a parameter, if the node has heard of it.
    fn find(&self, place: usize, name: &str) -> Result<&Arc<StoredBlock>, RpcError> {
        let hash: BlockHash = hash(self.params, place, name)?;
        let known = self.chain.block(&hash);
        let known = known.filter(|block| !self.chain.is_active(block) || block.height <= self.height());
        known.ok_or_else(block_not_found)
    }

    fn block_hash(&self) -> Answer {
        let height = self.params.first().ok_or_else(|| missing("height"))?;
        let height = height.as_i64().ok_or_else(|| wrong_type("height", "number"))?;
        let height = u64::try_from(height).ok().filter(|height| *height <= self.height());
        let block = height.and_then(|height| self.chain.at(height));
        let block = block.ok_or_else(|| RpcError::new(-8, "Block height out of range"))?;
        answer(&block.hash.to_string())
    }

    fn block_header(&self) -> Answer {
        let block = self.find(0, "blockhash")?;
        if self.flag(1, "verbose", true)? {
            return answer(&self.describe(block));
        }
        answer(&const_hex::encode(serialize(&block.header)))
    }

    fn block(&self) -> Answer {
        let block = self.find(0, "blockhash")?;
        let verbosity = match self.params.get(1) {
            None | Some(Value::Null) => 1,
            Some(Value::Bool(verbose)) => u64::from(*verbose),
            Some(value) => value.as_u64().ok_or_else(|| wrong_type("verbosity", "number"))?,
        };
        match verbosity {
            0 => {
                let mut raw = if self.faults.lie { self.forged(block) } else { block.raw.clone() };
                if self.faults.truncate {
                    raw.truncate(raw.len() / 2);
                }
                answer(&const_hex::encode(raw))
            }
            1 => {
                let mut description = self.describe(block);
                let txids: Vec<_> = block.txs.iter().map(|tx| tx.compute_txid().to_string()).collect();
                description["tx"] = json!(txids);
                description["size"] = json!(block.raw.len());
                answer(&description)
            }
            _ => Err(RpcError::new(-8, "verbosity above 1 is not simulated")),
        }
    }

    /// Other contents under the same header, or, where the block holds nothing, the block before it.
    fn forged(&self, block: &StoredBlock) -> Vec<u8> {
        let parent = || self.chain.block(&block.header.prev_blockhash).map(|parent| parent.raw.clone());
        block.forged().or_else(parent).unwrap_or_default()
    }

    fn describe(&self, block: &Arc<StoredBlock>) -> Value {
        let on_branch = self.chain.is_active(block);
        let confirmations = match self.height().checked_sub(block.height) {
            Some(below) if on_branch => json!(below.saturating_add(1)),
            _ => json!(-1),
        };
        let mut description = json!({
            "hash": block.hash.to_string(),
            "confirmations": confirmations,
            "height": block.height,
            "version": block.header.version.to_consensus(),
            "versionHex": format!("{:08x}", block.header.version.to_consensus()),
            "merkleroot": block.header.merkle_root.to_string(),
            "time": block.header.time,
            "mediantime": self.chain.median_time(block),
            "nonce": block.header.nonce,
            "bits": format!("{BITS:08x}"),
            "difficulty": DIFFICULTY,
            "chainwork": work(block.height),
            "nTx": block.txs.len(),
        });
        if block.height > 0 {
            description["previousblockhash"] = json!(block.header.prev_blockhash.to_string());
        }
        let next = self.chain.at(block.height.saturating_add(1));
        if let Some(next) = next.filter(|next| on_branch && next.height <= self.height()) {
            description["nextblockhash"] = json!(next.hash.to_string());
        }
        description
    }

    fn raw_mempool(&self) -> Answer {
        if self.flag(0, "verbose", false)? {
            return Err(RpcError::new(-8, "a verbose mempool is not simulated"));
        }
        answer(&self.chain.pool_txids().map(|txid| txid.to_string()).collect::<Vec<_>>())
    }

    fn raw_transaction(&self) -> Answer {
        let txid: Txid = hash(self.params, 0, "txid")?;
        let verbose = match self.params.get(1) {
            Some(Value::Number(number)) => number.as_u64() != Some(0),
            _ => self.flag(1, "verbose", false)?,
        };
        if verbose {
            return Err(RpcError::new(-8, "a verbose transaction is not simulated"));
        }
        let raw = match self.params.get(2) {
            None | Some(Value::Null) => self.chain.pool_raw(&txid),
            Some(_) => {
                let block = self.find(2, "blockhash")?;
                block.txs.iter().find(|tx| tx.compute_txid() == txid).map(serialize)
            }
        };
        let raw = raw.ok_or_else(|| {
            let message = "No such mempool transaction. Use -txindex or provide a block hash to enable \
                           blockchain transaction queries. Use gettransaction for wallet transactions.";
            RpcError::new(-5, message)
        })?;
        answer(&const_hex::encode(raw))
    }

    fn tx_out(&self) -> Answer {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct TxOut {
            bestblock: String,
            confirmations: u64,
            value: Box<RawValue>,
            script_pub_key: Value,
            coinbase: bool,
        }
        let txid: Txid = hash(self.params, 0, "txid")?;
        let vout = self.params.get(1).ok_or_else(|| missing("n"))?;
        let vout = vout.as_u64().ok_or_else(|| wrong_type("n", "number"))?;
        let mempool = self.flag(2, "include_mempool", true)?;
        let outpoint = u32::try_from(vout).ok().map(|vout| OutPoint::new(txid, vout));
        let Some((output, height, coinbase)) =
            outpoint.and_then(|outpoint| self.chain.unspent(&outpoint, mempool))
        else {
            return answer(&Value::Null);
        };
        let coins = BaseUnits::from_units(u128::from(output.value.to_sat())).to_decimal_string(8);
        let value = RawValue::from_string(coins).map_err(|error| RpcError::new(-1, error.to_string()))?;
        let tip = self.tip()?;
        let depth = |height| tip.height.checked_sub(height).map_or(0, |below: u64| below.saturating_add(1));
        answer(&TxOut {
            bestblock: tip.hash.to_string(),
            confirmations: height.map_or(0, depth),
            value,
            script_pub_key: json!({ "hex": output.script_pubkey.to_hex_string() }),
            coinbase,
        })
    }

    fn chain_tips(&self) -> Answer {
        let tip = self.tip()?;
        let active = json!({
            "height": tip.height, "hash": tip.hash.to_string(), "branchlen": 0, "status": "active",
        });
        let stale = self.chain.stale_tips().iter().rev().map(|block| {
            json!({
                "height": block.height,
                "hash": block.hash.to_string(),
                "branchlen": self.chain.branch_length(block),
                "status": "valid-fork",
            })
        });
        answer(&std::iter::once(active).chain(stale).collect::<Vec<_>>())
    }

    fn chain_info(&self) -> Answer {
        let tip = self.tip()?;
        answer(&json!({
            "chain": "regtest",
            "blocks": tip.height,
            "headers": tip.height,
            "bestblockhash": tip.hash.to_string(),
            "difficulty": DIFFICULTY,
            "time": tip.header.time,
            "mediantime": self.chain.median_time(tip),
            "verificationprogress": 1,
            "initialblockdownload": false,
            "chainwork": work(tip.height),
            "size_on_disk": 0,
            "pruned": false,
            "warnings": "",
        }))
    }

    fn network_info(&self) -> Answer {
        let rules = self.chain.rules();
        answer(&json!({
            "version": rules.node_version,
            "subversion": rules.subversion,
            "protocolversion": 70016,
            "localservices": "0000000000000409",
            "localservicesnames": [],
            "localrelay": true,
            "timeoffset": 0,
            "networkactive": true,
            "connections": 0,
            "networks": [],
            "relayfee": RELAY_FEE,
            "incrementalfee": RELAY_FEE,
            "localaddresses": [],
            "warnings": "",
        }))
    }

    fn flag(&self, place: usize, name: &str, default: bool) -> Result<bool, RpcError> {
        match self.params.get(place) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(wrong_type(name, "bool")),
        }
    }
}

/// The difficulty of [`BITS`], as nodes print it.
const DIFFICULTY: f64 = 4.656_542_373_906_925e-10;
/// Coins per 1,000 bytes.
const RELAY_FEE: f64 = 0.000_01;

/// The work in a branch of `regtest`: two hashes a block, the first included.
fn work(height: u64) -> String {
    format!("{:064x}", u128::from(height).saturating_add(1).saturating_mul(2))
}

fn text<'a>(params: &'a [Value], place: usize, name: &str) -> Result<&'a str, RpcError> {
    let value = params.get(place).ok_or_else(|| missing(name))?;
    value.as_str().ok_or_else(|| wrong_type(name, "string"))
}

fn hash<T: std::str::FromStr>(params: &[Value], place: usize, name: &str) -> Result<T, RpcError> {
    let text = text(params, place, name)?;
    let shown: String = text.chars().take(80).collect();
    if text.len() != 64 {
        let length = text.len();
        let message = format!("{name} must be of length 64 (not {length}, for '{shown}')");
        return Err(RpcError::new(-8, message));
    }
    text.parse().map_err(|_| RpcError::new(-8, format!("{name} must be hexadecimal string (not '{shown}')")))
}

fn missing(name: &str) -> RpcError {
    RpcError::new(-1, format!("argument {name} is missing"))
}

fn wrong_type(name: &str, expected: &str) -> RpcError {
    RpcError::new(-3, format!("argument {name} is not of expected type {expected}"))
}

fn block_not_found() -> RpcError {
    RpcError::new(-5, "Block not found")
}

fn submit_error(error: SubmitError) -> RpcError {
    let (code, message) = match error {
        SubmitError::Malformed => (-22, "TX decode failed. Make sure the tx has at least one input."),
        SubmitError::Senseless => (-26, "bad-txns"),
        SubmitError::AlreadyMined => (-27, "Transaction outputs already in utxo set"),
        SubmitError::MissingInput => (-25, "bad-txns-inputs-missingorspent"),
        SubmitError::TooMuchOut => (-26, "bad-txns-in-belowout"),
        SubmitError::Conflict => (-26, "txn-mempool-conflict"),
        SubmitError::FeeTooLow => (-26, "insufficient fee"),
    };
    RpcError::new(code, message)
}
