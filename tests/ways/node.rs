//! An Ethereum node over HTTP, whose ways of answering can be changed: with call traces or without, with the state of
//! its last blocks only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::{Json, Router, extract::State, routing::post};
use serde_json::{Value, json};

const PAYER: &str = "0x00000000000000000000000000000000000000aa";
const CONTRACT: &str = "0x00000000000000000000000000000000000000cc";

/// A payment to one of the addresses: by a transaction, or by a contract that a transaction calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Payment {
    pub(crate) to: u64,
    pub(crate) amount: u64,
    pub(crate) by_contract: bool,
}

#[derive(Debug, Clone)]
struct Block {
    hash: String,
    prev: String,
    height: u64,
    payments: Vec<(String, Payment)>,
}

#[derive(Default)]
struct Chain {
    all: HashMap<String, Block>,
    best: Vec<String>,
    made: u64,
    traces: bool,
    state_from: u64,
}

/// The node. It answers until the test ends.
#[derive(Clone)]
pub(crate) struct Node {
    chain: Arc<Mutex<Chain>>,
    pub(crate) url: String,
}

/// The 20 bytes of an address, in hexadecimal.
pub(crate) fn address(number: u64) -> String {
    format!("{:040x}", 0xd000 + number)
}

impl Chain {
    fn mine(&mut self, payments: Vec<Payment>) {
        let prev = self.best.last().cloned().unwrap_or_else(|| format!("0x{:064x}", 0));
        self.made += 1;
        let (hash, height) = (format!("0x{:064x}", 0xb10c_0000 + self.made), self.best.len() as u64);
        let ids = payments.into_iter().map(|payment| {
            self.made += 1;
            (format!("0x{:064x}", 0xdead_0000_0000_u64 + self.made), payment)
        });
        let payments = ids.collect();
        self.all.insert(hash.clone(), Block { hash: hash.clone(), prev, height, payments });
        self.best.push(hash);
    }

    fn named(&self, name: &Value) -> Option<&Block> {
        let text = name["blockHash"].as_str().or(name.as_str())?;
        if text == "latest" {
            return self.all.get(self.best.last()?);
        }
        if text.len() == 66 {
            return self.all.get(text);
        }
        let height = u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()?;
        self.all.get(self.best.get(usize::try_from(height).ok()?)?)
    }

    fn block(&self, block: &Block) -> Value {
        let transactions: Vec<Value> = block
            .payments
            .iter()
            .map(|(id, payment)| {
                let (to, value) = match payment.by_contract {
                    true => (CONTRACT.to_owned(), 0),
                    false => (format!("0x{}", address(payment.to)), payment.amount),
                };
                json!({"hash": id, "from": PAYER, "to": to, "value": format!("{value:#x}")})
            })
            .collect();
        json!({
            "hash": block.hash, "number": format!("{:#x}", block.height), "parentHash": block.prev,
            "timestamp": "0x5", "transactions": transactions,
        })
    }

    fn receipts(block: &Block) -> Value {
        let one = |(id, _): &(String, Payment)| {
            json!({
                "transactionHash": id, "blockHash": block.hash, "blockNumber": format!("{:#x}", block.height),
                "status": "0x1", "logs": [], "contractAddress": null, "gasUsed": "0x5208", "effectiveGasPrice": "0x2",
            })
        };
        block.payments.iter().map(one).collect()
    }

    fn traces(block: &Block) -> Value {
        let one = |(id, payment): &(String, Payment)| {
            let (shop, value) = (format!("0x{}", address(payment.to)), format!("{:#x}", payment.amount));
            let result = match payment.by_contract {
                false => json!({"type": "CALL", "from": PAYER, "to": shop, "value": value}),
                true => json!({"type": "CALL", "from": PAYER, "to": CONTRACT, "value": "0x0", "calls": [
                    {"type": "CALL", "from": CONTRACT, "to": shop, "value": value}]}),
            };
            json!({"txHash": id, "result": result})
        };
        block.payments.iter().map(one).collect()
    }

    fn balance(&self, who: &str, at: &Block) -> u64 {
        let (mut sum, mut block) = (0, Some(at));
        while let Some(here) = block {
            let to = here.payments.iter().filter(|(_, payment)| who[2..] == address(payment.to));
            sum += to.map(|(_, payment)| payment.amount).sum::<u64>();
            block = self.all.get(&here.prev);
        }
        sum
    }

    fn answer(&self, method: &str, params: &Value) -> Result<Value, (i64, &'static str)> {
        let whole = |block: Option<&Block>| Ok(block.map_or(Value::Null, |block| self.block(block)));
        let has_state = |block: &Block| block.height >= self.state_from;
        const PRUNED: (i64, &str) = (-32000, "missing trie node 00 (path ) state 0x00 is not available");
        match method {
            "eth_chainId" => Ok(json!("0x7a69")),
            "eth_blockNumber" => Ok(json!(format!("{:#x}", self.best.len() - 1))),
            "eth_getBlockByNumber" if params[0] == "finalized" => Err((-39001, "unknown block")),
            "eth_getBlockByNumber" | "eth_getBlockByHash" => whole(self.named(&params[0])),
            "eth_getBlockReceipts" => Ok(self.named(&params[0]).map_or(Value::Null, Self::receipts)),
            "debug_traceBlockByHash" => match self.named(&params[0]) {
                _ if !self.traces => Err((-32601, "the method does not exist/is not available")),
                Some(block) if has_state(block) => Ok(Self::traces(block)),
                Some(_) => Err(PRUNED),
                None => Ok(Value::Null),
            },
            "eth_getBalance" => match self.named(&params[1]) {
                Some(block) if has_state(block) => {
                    Ok(json!(format!("{:#x}", self.balance(params[0].as_str().unwrap(), block))))
                }
                _ => Err(PRUNED),
            },
            _ => Err((-32601, "the method does not exist/is not available")),
        }
    }

    fn reply(&self, asked: &Value) -> Value {
        let method = asked["method"].as_str().unwrap_or_default();
        match self.answer(method, &asked["params"]) {
            Ok(result) => json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}),
            Err((code, message)) => {
                json!({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": code, "message": message}})
            }
        }
    }
}

async fn ask(State(node): State<Node>, Json(asked): Json<Value>) -> Json<Value> {
    let chain = node.chain();
    Json(match asked.as_array() {
        Some(batch) => batch.iter().map(|one| chain.reply(one)).collect(),
        None => chain.reply(&asked),
    })
}

impl Node {
    /// With a genesis block.
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let node = Self { chain: Arc::default(), url };
        node.chain().mine(Vec::new());
        let router = Router::new().route("/", post(ask)).with_state(node.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        node
    }

    fn chain(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock().unwrap()
    }

    /// From now on it has traces or not, and the state of blocks from a height on.
    pub(crate) fn offers(&self, traces: bool, state_from: u64) {
        let mut chain = self.chain();
        (chain.traces, chain.state_from) = (traces, state_from);
    }

    pub(crate) fn mine(&self, payments: Vec<Payment>) {
        self.chain().mine(payments);
    }

    /// Takes the last blocks off; what is mined next is another branch.
    pub(crate) fn drop_blocks(&self, blocks: u64) {
        let mut chain = self.chain();
        let left = chain.best.len().saturating_sub(usize::try_from(blocks).unwrap()).max(1);
        chain.best.truncate(left);
    }

    /// The tip's height and hash.
    pub(crate) fn tip(&self) -> (u64, String) {
        let chain = self.chain();
        (chain.best.len() as u64 - 1, chain.best.last().unwrap()[2..].to_owned())
    }

    /// All that was paid to an address on the best branch.
    pub(crate) fn paid(&self, to: u64) -> u128 {
        let chain = self.chain();
        let tip = chain.all.get(chain.best.last().unwrap()).unwrap();
        u128::from(chain.balance(&format!("0x{}", address(to)), tip))
    }
}
