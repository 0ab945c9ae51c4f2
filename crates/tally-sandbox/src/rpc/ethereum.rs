//! The methods of Ethereum's nodes that wallets and watchers use, with geth's error codes.
//!
//! Not here: how blocks, transactions and receipts look as JSON (`json`), and which logs a filter takes
//! (`filter`).

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Answer, Methods, RpcError, answer};
use crate::account::rlp::keccak;
use crate::account::{
    AccountBlock, AccountTx, Address, CODE, FINALIZED_DEPTH, GAS_PRICE, Hash, SAFE_DEPTH,
    SimulatedAccountChain, word,
};
use crate::node::{Faults, Node};

mod filter;
mod json;

use filter::Filter;

/// The methods of a simulated Ethereum node.
pub(crate) struct EthereumMethods(pub(crate) Arc<Node<SimulatedAccountChain>>);

/// Methods whose answers a node with the fault `truncate` cuts.
const BLOCK_METHODS: [&str; 6] = [
    "eth_getBlockByHash",
    "eth_getBlockByNumber",
    "eth_getBlockReceipts",
    "eth_getLogs",
    "debug_traceBlockByHash",
    "debug_traceBlockByNumber",
];

impl Methods for EthereumMethods {
    const STATUS_SHOWS_ERRORS: bool = false;

    async fn ready(&self) {
        self.0.unstalled().await;
    }

    async fn call(&self, method: &str, params: &[Value]) -> Answer {
        self.0.read(|chain, faults| View { chain, faults, params }.call(method))
    }

    fn cuts(&self, method: &str) -> bool {
        self.0.faults().truncate && BLOCK_METHODS.contains(&method)
    }
}

/// One call against the chain as the node sees it.
struct View<'a> {
    chain: &'a SimulatedAccountChain,
    faults: Faults,
    params: &'a [Value],
}

/// What a parameter names a block by.
enum BlockName {
    Number(u64),
    Hash(Hash),
    Pending,
    /// `safe` or `finalized` on a chain that is too short for it.
    None,
}

impl View<'_> {
    fn call(&self, method: &str) -> Answer {
        match method {
            "web3_clientVersion" => answer(concat!("tally-sandbox/", env!("CARGO_PKG_VERSION"))),
            "net_version" => answer(&self.chain.chain_id().to_string()),
            "eth_chainId" => answer(&quantity(self.chain.chain_id())),
            "eth_syncing" => answer(&false),
            "eth_gasPrice" => answer(&quantity(GAS_PRICE)),
            "eth_blockNumber" => answer(&quantity(self.height())),
            "eth_getBlockByNumber" => self.block_by_number(),
            "eth_getBlockByHash" => self.block_by_hash(),
            "eth_getBlockReceipts" => self.block_receipts(),
            "eth_getTransactionReceipt" => self.transaction_receipt(),
            "eth_getTransactionByHash" => self.transaction(),
            "eth_getTransactionCount" => self.transaction_count(),
            "eth_getLogs" => self.logs(),
            "eth_getBalance" => self.balance(),
            "eth_getCode" => self.code(),
            "eth_call" => self.contract_call(),
            "debug_traceBlockByHash" => self.trace_block(true),
            "debug_traceBlockByNumber" => self.trace_block(false),
            _ => {
                let message = format!("the method {method} does not exist/is not available");
                Err(RpcError::new(-32601, message))
            }
        }
    }

    fn height(&self) -> u64 {
        self.faults.view(self.chain.height())
    }

    fn at(&self, number: u64) -> Option<&Arc<AccountBlock>> {
        self.chain.at(number).filter(|_| number <= self.height())
    }

    /// A block of any branch that the node has heard of.
    fn by_hash(&self, hash: &Hash) -> Option<&Arc<AccountBlock>> {
        let block = self.chain.block(hash)?;
        let active = self.chain.at(block.number).is_some_and(|active| active.hash == block.hash);
        (!active || block.number <= self.height()).then_some(block)
    }

    /// What the node answers when asked for a block's contents: a lying one takes the block before.
    fn claimed<'a>(&'a self, block: &'a Arc<AccountBlock>) -> &'a Arc<AccountBlock> {
        let parent = self.chain.block(&block.parent).filter(|_| self.faults.lie);
        parent.unwrap_or(block)
    }

    fn block_by_number(&self) -> Answer {
        let full = self.flag(1)?;
        match self.name(0)? {
            BlockName::Pending => answer(&json::pending_block(&self.pending_block(), full)),
            name => match self.named(&name) {
                Some(block) => answer(&json::block(block, full)),
                None => answer(&Value::Null),
            },
        }
    }

    fn block_by_hash(&self) -> Answer {
        let full = self.flag(1)?;
        match self.by_hash(&hash(self.params, 0)?) {
            Some(block) => answer(&json::block(self.claimed(block), full)),
            None => answer(&Value::Null),
        }
    }

    fn block_receipts(&self) -> Answer {
        let Some(block) = self.named(&self.name(0)?) else { return answer(&Value::Null) };
        let shown = self.claimed(block).hash;
        let receipts = (0..block.txs.len()).filter_map(|place| json::receipt(block, place, shown));
        answer(&receipts.collect::<Vec<_>>())
    }

    /// A mined transaction, as far as the node has heard of its block.
    fn mined(&self, hash: &Hash) -> Option<(&Arc<AccountBlock>, usize)> {
        self.chain.mined(hash).filter(|(block, _)| block.number <= self.height())
    }

    fn transaction_receipt(&self) -> Answer {
        let receipt = self
            .mined(&hash(self.params, 0)?)
            .and_then(|(block, place)| json::receipt(block, place, self.claimed(block).hash));
        answer(&receipt)
    }

    fn transaction(&self) -> Answer {
        let hash = hash(self.params, 0)?;
        if let Some((block, place)) = self.mined(&hash) {
            let tx = block.txs.get(place).map(|tx| json::transaction(tx, Some((block, place))));
            return answer(&tx);
        }
        let pending = self.chain.pending().iter().find(|tx| tx.hash == hash);
        answer(&pending.map(|tx| json::transaction(tx, None)))
    }

    fn transaction_count(&self) -> Answer {
        let owner = address(self.params, 0)?;
        answer(&quantity(self.chain.sent(owner, self.state_number(1)?)))
    }

    fn logs(&self) -> Answer {
        let filter = Filter::read(self.params.first().unwrap_or(&Value::Null))?;
        let blocks: Vec<_> = match filter.block_hash {
            Some(hash) => {
                let block = self.by_hash(&hash).ok_or_else(|| RpcError::new(-32000, "unknown block"))?;
                vec![block]
            }
            None => {
                let from = self.number_of(filter.from.as_ref())?;
                let to = self.number_of(filter.to.as_ref())?;
                (from..=to.min(self.height())).filter_map(|number| self.at(number)).collect()
            }
        };
        let mut logs = Vec::new();
        for block in blocks {
            let shown = self.claimed(block).hash;
            for place in 0..block.txs.len() {
                logs.extend(json::logs(block, place, shown, |log| filter.takes(log)));
            }
        }
        answer(&logs)
    }

    fn balance(&self) -> Answer {
        let owner = address(self.params, 0)?;
        answer(&quantity(self.chain.balance(None, owner, self.state_number(1)?)))
    }

    fn code(&self) -> Answer {
        let code = if self.chain.is_contract(address(self.params, 0)?) { &CODE[..] } else { &[] };
        answer(&const_hex::encode_prefixed(code))
    }

    /// Of the contracts' code only the reading part of ERC-20 is there.
    fn contract_call(&self) -> Answer {
        let call = self.params.first().unwrap_or(&Value::Null);
        let to = parse_address(call.get("to").unwrap_or(&Value::Null))?;
        let number = self.state_number(1)?;
        let input = call.get("data").or_else(|| call.get("input")).and_then(Value::as_str).unwrap_or("0x");
        let input = const_hex::decode(input).map_err(|_| invalid(format!("invalid data {input:?}")))?;
        let Some(token) = self.chain.token(to) else { return answer("0x") };
        let (selector, arguments) = input.split_at_checked(4).unwrap_or_default();
        let is = |signature: &[u8]| keccak(signature).starts_with(selector) && !selector.is_empty();
        let output = if is(b"balanceOf(address)") {
            let owner: &[u8; 32] = arguments.first_chunk().ok_or_else(reverted)?;
            word(self.chain.balance(Some(to), Address::of_hash(owner), number)).to_vec()
        } else if is(b"decimals()") {
            word(u128::from(token.decimals)).to_vec()
        } else if is(b"symbol()") {
            abi_string(token.symbol.as_str())
        } else {
            return Err(reverted());
        };
        answer(&const_hex::encode_prefixed(output))
    }

    fn trace_block(&self, by_hash: bool) -> Answer {
        let tracer = self.params.get(1).and_then(|options| options.get("tracer")).and_then(Value::as_str);
        if tracer != Some("callTracer") {
            return Err(RpcError::new(-32000, "only the callTracer is simulated"));
        }
        let block = if by_hash { self.by_hash(&hash(self.params, 0)?) } else { self.named(&self.name(0)?) };
        let block = block.ok_or_else(|| RpcError::new(-32000, "block not found"))?;
        let traced = self.claimed(block).txs.iter().map(
            |tx: &AccountTx| json!({ "txHash": tx.hash.to_string(), "result": json::frame(&tx.trace()) }),
        );
        answer(&traced.collect::<Vec<_>>())
    }

    /// The block that would be made now.
    fn pending_block(&self) -> AccountBlock {
        let tip = self.at(self.height());
        let timestamp = tip.map_or(0, |tip| tip.timestamp.saturating_add(1));
        AccountBlock::new(tip.map(Arc::as_ref), timestamp, Vec::new(), self.chain.pending().to_vec())
    }

    fn named(&self, name: &BlockName) -> Option<&Arc<AccountBlock>> {
        match name {
            BlockName::Number(number) => self.at(*number),
            BlockName::Hash(hash) => self.by_hash(hash),
            BlockName::Pending | BlockName::None => None,
        }
    }

    /// The height whose state is asked for, `latest` by default. Only blocks of the active branch have one.
    fn state_number(&self, place: usize) -> Result<u64, RpcError> {
        let number = match self.params.get(place) {
            None | Some(Value::Null) => return Ok(self.height()),
            Some(value) => match self.block_name(value)? {
                BlockName::Number(number) => self.at(number).map(|block| block.number),
                BlockName::Hash(hash) => {
                    let block = self.by_hash(&hash);
                    let on_branch = block.and_then(|block| self.at(block.number));
                    on_branch.filter(|active| active.hash == hash).map(|active| active.number)
                }
                BlockName::Pending => Some(self.height()),
                BlockName::None => None,
            },
        };
        number.ok_or_else(|| RpcError::new(-32000, "header not found"))
    }

    fn number_of(&self, value: Option<&Value>) -> Result<u64, RpcError> {
        match value.map(|value| self.block_name(value)).transpose()? {
            None | Some(BlockName::Pending) => Ok(self.height()),
            Some(BlockName::Number(number)) => Ok(number),
            Some(BlockName::Hash(_) | BlockName::None) => Err(invalid("not a block number".to_owned())),
        }
    }

    fn name(&self, place: usize) -> Result<BlockName, RpcError> {
        self.block_name(self.params.get(place).ok_or_else(|| missing(place))?)
    }

    /// A tag, a number, a hash, or an object with one of these (EIP-1898).
    fn block_name(&self, value: &Value) -> Result<BlockName, RpcError> {
        if let Some(hash) = value.get("blockHash") {
            return Ok(BlockName::Hash(parse_hash(hash)?));
        }
        let value = value.get("blockNumber").unwrap_or(value);
        let text = value.as_str().ok_or_else(|| invalid(format!("invalid block {value}")))?;
        let below = |depth| {
            let number = self.height().checked_sub(depth);
            number.map_or(BlockName::None, BlockName::Number)
        };
        Ok(match text {
            "latest" => BlockName::Number(self.height()),
            "earliest" => BlockName::Number(0),
            "pending" => BlockName::Pending,
            "safe" => below(SAFE_DEPTH),
            "finalized" => below(FINALIZED_DEPTH),
            _ if text.len() == 66 => BlockName::Hash(parse_hash(value)?),
            _ => {
                let digits = text.strip_prefix("0x").unwrap_or_default();
                let number = u64::from_str_radix(digits, 16);
                BlockName::Number(number.map_err(|_| invalid(format!("invalid block {value}")))?)
            }
        })
    }

    fn flag(&self, place: usize) -> Result<bool, RpcError> {
        match self.params.get(place) {
            None | Some(Value::Null) => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| invalid(format!("argument {place} is no boolean"))),
        }
    }
}

/// A number as nodes print it.
fn quantity(number: impl Into<u128>) -> String {
    format!("{:#x}", number.into())
}

/// A text as a contract returns it: where it begins, its length, its bytes. Symbols fit one word.
fn abi_string(text: &str) -> Vec<u8> {
    let mut padded = [0; 32];
    for (to, from) in padded.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    let len = u128::try_from(text.len().min(32)).unwrap_or_default();
    [word(32), word(len), padded].concat()
}

fn hash(params: &[Value], place: usize) -> Result<Hash, RpcError> {
    parse_hash(params.get(place).ok_or_else(|| missing(place))?)
}

fn address(params: &[Value], place: usize) -> Result<Address, RpcError> {
    parse_address(params.get(place).ok_or_else(|| missing(place))?)
}

fn parse_hash(value: &Value) -> Result<Hash, RpcError> {
    let mut bytes = [0; 32];
    let text = value.as_str().ok_or_else(|| invalid(format!("invalid hash {value}")))?;
    const_hex::decode_to_slice(text, &mut bytes).map_err(|_| invalid(format!("invalid hash {value}")))?;
    Ok(Hash(bytes))
}

fn parse_address(value: &Value) -> Result<Address, RpcError> {
    let mut bytes = [0; 20];
    let text = value.as_str().ok_or_else(|| invalid(format!("invalid address {value}")))?;
    const_hex::decode_to_slice(text, &mut bytes).map_err(|_| invalid(format!("invalid address {value}")))?;
    Ok(Address(bytes))
}

fn missing(place: usize) -> RpcError {
    invalid(format!("missing value for required argument {place}"))
}

fn invalid(message: String) -> RpcError {
    RpcError::new(-32602, message)
}

fn reverted() -> RpcError {
    RpcError::new(3, "execution reverted")
}
