//! The sandbox as a whole: nodes on loopback, and what can be done to their chains.
//!
//! Not here: how a chain works (`utxo`, `account`), JSON-RPC, and the routes under `/sandbox` (`face`).

use std::fmt;
use std::sync::{Arc, Weak};

use bitcoin::ScriptBuf;
use bitcoin::hashes::Hash as _;
use serde::{Deserialize, Serialize};
use tally_address::{AddressParams, parse_address};
use tally_ports::Clock;
use tally_types::{AmountError, BlockHash, BlockRef, Height, Span, Timestamp, TxId};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, spawn_blocking};

use crate::account::{Hash, Payment, SimulatedAccountChain, Token};
use crate::error::SandboxError;
use crate::journal::{Entry, Journal};
use crate::node::{FaultKind, Node};
use crate::rpc;
use crate::rpc::bitcoin::BitcoinMethods;
use crate::rpc::ethereum::EthereumMethods;
use crate::settings::{ChainKind, ChainSettings, SandboxSettings, TokenSettings};
use crate::utxo::{CoinRules, Reorged, SimulatedUtxoChain, internal, public};

mod read;
#[cfg(test)]
mod tests;

use read::{account_mode, address, amount, asset, unknown_asset};

/// The most blocks that one call mines or takes out.
pub const BLOCKS_MAX: u64 = 1_000;
/// Fraction digits of a coin of the Bitcoin family.
const COIN_DECIMALS: u8 = 8;
/// Fraction digits of an ether.
const ETHER_DECIMALS: u8 = 18;

/// Simulated nodes that listen on loopback for as long as a clone of this lives.
#[derive(Clone)]
pub struct Sandbox(Arc<Inner>);

struct Inner {
    chains: Vec<Running>,
    clock: Arc<dyn Clock>,
    journal: Arc<Journal>,
    tasks: Vec<AbortHandle>,
}

struct Running {
    settings: ChainSettings,
    rpc_url: String,
    simulated: Simulated,
}

#[derive(Clone)]
enum Simulated {
    Utxo { node: Arc<Node<SimulatedUtxoChain>>, params: AddressParams, rules: &'static CoinRules },
    Account { node: Arc<Node<SimulatedAccountChain>>, params: AddressParams },
}

/// A payment to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pay {
    /// The chain's id.
    pub chain: String,
    /// Who is paid, as the chain writes addresses.
    pub address: String,
    /// How much, as a plain decimal of the asset's unit.
    pub amount: String,
    /// The symbol of what is paid; the chain's own coin unless given.
    pub asset: Option<String>,
    /// `normal` (unless given); `cashtokens` on BCH, `pegout` on LTC; on Ethereum `contract`, and `failed` and
    /// `reverted`, which pay nothing in the end.
    pub mode: Option<String>,
}

/// What a reorg came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reorg {
    /// The height of the last block that both branches share.
    pub fork_height: Height,
    /// The height of the new tip.
    pub height: Height,
    /// The hash of the new tip.
    pub hash: BlockHash,
    /// What is in neither the new branch nor the mempool: what was named, and what depended on it.
    pub dropped: Vec<TxId>,
}

/// A simulated node, and what a watcher must be told to follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxNode {
    /// The chain.
    pub chain: ChainSettings,
    /// Where the node speaks JSON-RPC. Any user and password will do, and none.
    pub rpc_url: String,
}

impl Sandbox {
    /// Makes the chains and opens a port on loopback for each. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`SandboxError`] where the settings are wrong or a port cannot be opened.
    pub async fn start(settings: SandboxSettings) -> Result<Self, SandboxError> {
        let (journal, kept) = match &settings.journal {
            Some(path) => Journal::open(path)?,
            None => (Journal::default(), Vec::new()),
        };
        let (seed, now, blocks) = match kept.first() {
            Some(Entry::Begun { seed, at, blocks }) => (*seed, *at, *blocks),
            _ => (settings.seed, settings.clock.now(), settings.initial_blocks),
        };
        let mut building = Vec::new();
        for (place, chain) in settings.chains.iter().enumerate() {
            if settings.chains.iter().skip(place.saturating_add(1)).any(|other| other.id == chain.id) {
                return Err(SandboxError::DuplicateChain(chain.id.to_string()));
            }
            let chain = chain.clone();
            let id = chain.id.to_string();
            building.push((id, spawn_blocking(move || build(chain, seed, now, blocks))));
        }
        let journal = Arc::new(journal);
        let mut inner = Inner { chains: Vec::new(), clock: settings.clock, journal, tasks: Vec::new() };
        for (id, task) in building {
            let (chain, simulated) = task.await.map_err(|_| SandboxError::Bootstrap(id))??;
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(SandboxError::Listen)?;
            let address = listener.local_addr().map_err(SandboxError::Listen)?;
            let router = match &simulated {
                Simulated::Utxo { node, .. } => rpc::router(Arc::new(BitcoinMethods(Arc::clone(node)))),
                Simulated::Account { node, .. } => rpc::router(Arc::new(EthereumMethods(Arc::clone(node)))),
            };
            let serving = tokio::spawn(async move {
                if let Err(error) = axum::serve(listener, router).await {
                    tracing::error!(%error, "a simulated node no longer listens");
                }
            });
            inner.tasks.push(serving.abort_handle());
            let rpc_url = format!("http://{address}");
            inner.chains.push(Running { settings: chain, rpc_url, simulated });
        }
        if kept.is_empty() {
            inner.journal.turn().done(&Entry::Begun { seed, at: now, blocks });
        }
        let auto_mine = settings.auto_mine;
        let sandbox = Self(Arc::new(inner));
        let path = settings.journal.unwrap_or_default();
        let replaying = sandbox.clone();
        let replayed =
            spawn_blocking(move || kept.iter().skip(1).try_for_each(|entry| replaying.again(entry)));
        replayed.await.ok().and_then(Result::ok).ok_or(SandboxError::Replay(path))?;
        sandbox.mine_by_itself(auto_mine);
        Ok(sandbox)
    }

    /// Does again what was done before.
    fn again(&self, entry: &Entry) -> Result<(), SandboxError> {
        match entry {
            Entry::Begun { .. } => Ok(()),
            Entry::Paid(pay) => self.do_pay(pay).map(drop),
            Entry::Mined { chain, at } => mine_one(&self.chain(chain)?.simulated, *at),
            Entry::Reorged { chain, depth, drop, at } => {
                self.do_reorg(chain, *depth, drop, *at).map(std::mem::drop)
            }
            Entry::Replaced { chain, txid } => self.do_replace(chain, txid).map(drop),
        }
    }

    /// Mines on each chain each time so much time has passed, for as long as the sandbox lives.
    fn mine_by_itself(&self, every: Option<Span>) {
        let Some(every) = every else { return };
        for chain in &self.0.chains {
            let id = chain.settings.id.to_string();
            tokio::spawn(mine_forever(Arc::downgrade(&self.0), id, every.to_duration()));
        }
    }

    /// The nodes, in the order of the settings.
    pub fn nodes(&self) -> Vec<SandboxNode> {
        let node =
            |chain: &Running| SandboxNode { chain: chain.settings.clone(), rpc_url: chain.rpc_url.clone() };
        self.0.chains.iter().map(node).collect()
    }

    /// Where a chain's node speaks JSON-RPC: `http://127.0.0.1:PORT`.
    ///
    /// # Errors
    /// [`SandboxError::UnknownChain`].
    pub fn rpc_url(&self, chain: &str) -> Result<&str, SandboxError> {
        Ok(&self.chain(chain)?.rpc_url)
    }

    /// The tip of a chain.
    ///
    /// # Errors
    /// [`SandboxError::UnknownChain`].
    pub fn tip(&self, chain: &str) -> Result<BlockRef, SandboxError> {
        let tip = match &self.chain(chain)?.simulated {
            Simulated::Utxo { node, .. } => node.read(|chain, _| {
                chain.at(chain.height()).map(|block| block_ref(block.height, hash_of(&block.hash)))
            }),
            Simulated::Account { node, .. } => node.read(|chain, _| {
                chain
                    .at(chain.height())
                    .map(|block| block_ref(block.number, BlockHash::from_display(block.hash.0)))
            }),
        };
        tip.ok_or_else(|| SandboxError::Bootstrap(chain.to_owned()))
    }

    /// Makes a payment: into the mempool, or, on Ethereum, pending. Answers the transaction's id; a peg-out
    /// will have another one in its block.
    ///
    /// # Errors
    /// [`SandboxError`] that names what is wrong with the payment.
    pub fn pay(&self, pay: &Pay) -> Result<TxId, SandboxError> {
        let mut turn = self.0.journal.turn();
        let txid = self.do_pay(pay)?;
        turn.done(&Entry::Paid(pay.clone()));
        Ok(txid)
    }

    fn do_pay(&self, pay: &Pay) -> Result<TxId, SandboxError> {
        let mode = pay.mode.as_deref().unwrap_or("normal");
        match &self.chain(&pay.chain)?.simulated {
            Simulated::Utxo { node, params, rules } => {
                if let Some(asset) =
                    pay.asset.as_deref().filter(|asset| !asset.eq_ignore_ascii_case(rules.symbol))
                {
                    return Err(unknown_asset(asset, &[rules.symbol]));
                }
                let mode = node.read(|chain, _| chain.mode(mode))?;
                let script = parse_address(&pay.address, *params)?;
                let amount = amount(&pay.amount, COIN_DECIMALS)?;
                let sats = u64::try_from(amount)
                    .map_err(|_| AmountError::TooLarge(pay.amount.chars().take(40).collect()))?;
                let script = ScriptBuf::from_bytes(script.as_bytes().to_vec());
                let txid = node.change(|chain| chain.pay(&script, sats, mode))?;
                Ok(public(&txid))
            }
            Simulated::Account { node, params } => {
                let mode = account_mode(mode)?;
                let (token, decimals) = node.read(|chain, _| asset(chain, pay.asset.as_deref()))?;
                let to = address(&parse_address(&pay.address, *params)?);
                let amount = amount(&pay.amount, decimals)?;
                let hash = node.change(|chain| chain.pay(Payment { token, to, amount, mode }))?;
                Ok(hash.to_txid())
            }
        }
    }

    /// Mines 1 to [`BLOCKS_MAX`] blocks, the first of them with what waits. Answers the new tip.
    ///
    /// # Errors
    /// [`SandboxError`] where the chain is unknown, the number out of range, or the clock out of all bounds.
    pub fn mine(&self, chain: &str, blocks: u64) -> Result<BlockRef, SandboxError> {
        let running = self.chain(chain)?;
        in_range(blocks)?;
        for _ in 0..blocks {
            self.0.mine_one(running)?;
        }
        self.tip(chain)
    }

    /// Leaves a chain's last `depth` blocks for a branch that is one longer. Their transactions are mined again
    /// at the same heights, but not those in `drop`, and nothing that depends on them: these are afterwards in
    /// neither chain nor mempool.
    ///
    /// # Errors
    /// [`SandboxError`] where the chain is unknown, the depth out of range, or a transaction to drop is neither
    /// in these blocks nor in the mempool. Then nothing is changed.
    pub fn reorg(&self, chain: &str, depth: u64, drop: &[TxId]) -> Result<Reorg, SandboxError> {
        let mut turn = self.0.journal.turn();
        let at = self.0.clock.now();
        let done = self.do_reorg(chain, depth, drop, at)?;
        turn.done(&Entry::Reorged { chain: chain.to_owned(), depth, drop: drop.to_vec(), at });
        Ok(done)
    }

    fn do_reorg(
        &self,
        chain: &str,
        depth: u64,
        drop: &[TxId],
        now: Timestamp,
    ) -> Result<Reorg, SandboxError> {
        let running = self.chain(chain)?;
        in_range(depth)?;
        match &running.simulated {
            Simulated::Utxo { node, .. } => {
                let drop: Vec<_> = drop.iter().map(internal).collect();
                let done = node.change(|chain| chain.reorg(depth, &drop, now))?;
                Ok(reorg(done, |hash| hash_of(&hash), |txid| public(&txid)))
            }
            Simulated::Account { node, .. } => {
                let drop: Vec<_> = drop.iter().map(Hash::from).collect();
                let done = node.change(|chain| chain.reorg(depth, &drop, now))?;
                Ok(reorg(done, |hash| BlockHash::from_display(hash.0), Hash::to_txid))
            }
        }
    }

    /// Replaces a transaction that is not mined by one that spends the same (on Ethereum: has the same account
    /// and nonce) and pays somebody else. Answers the new one's id.
    ///
    /// # Errors
    /// [`SandboxError`] where the chain or the transaction is unknown, or it cannot be replaced.
    pub fn replace(&self, chain: &str, txid: &TxId) -> Result<TxId, SandboxError> {
        let mut turn = self.0.journal.turn();
        let by = self.do_replace(chain, txid)?;
        turn.done(&Entry::Replaced { chain: chain.to_owned(), txid: *txid });
        Ok(by)
    }

    fn do_replace(&self, chain: &str, txid: &TxId) -> Result<TxId, SandboxError> {
        match &self.chain(chain)?.simulated {
            Simulated::Utxo { node, .. } => Ok(public(&node.change(|chain| chain.replace(&internal(txid)))?)),
            Simulated::Account { node, .. } => {
                Ok(node.change(|chain| chain.replace(&Hash::from(txid)))?.to_txid())
            }
        }
    }

    /// Gives a chain's node a fault, or takes it away. The chain itself goes on.
    ///
    /// # Errors
    /// [`SandboxError::UnknownChain`].
    pub fn set_fault(&self, chain: &str, kind: FaultKind, on: bool) -> Result<(), SandboxError> {
        match &self.chain(chain)?.simulated {
            Simulated::Utxo { node, .. } => node.set_fault(kind, on),
            Simulated::Account { node, .. } => node.set_fault(kind, on),
        }
        Ok(())
    }

    fn chain(&self, id: &str) -> Result<&Running, SandboxError> {
        self.0.chains.iter().find(|chain| chain.settings.id.as_str() == id).ok_or_else(|| {
            let known: Vec<_> = self.0.chains.iter().map(|chain| chain.settings.id.as_str()).collect();
            SandboxError::UnknownChain { chain: id.chars().take(40).collect(), known: known.join(", ") }
        })
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sandbox").field(&self.nodes()).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn build(
    chain: ChainSettings,
    seed: u64,
    now: Timestamp,
    blocks: u32,
) -> Result<(ChainSettings, Simulated), SandboxError> {
    let bootstrap = || SandboxError::Bootstrap(chain.id.to_string());
    let simulated = match &chain.kind {
        ChainKind::Bitcoin(coin) => {
            let rules = CoinRules::of(*coin);
            let params = AddressParams::bitcoin(rules.name, "regtest").map_err(|_| bootstrap())?;
            let node = Arc::new(Node::new(SimulatedUtxoChain::new(rules, seed, now, blocks)?));
            Simulated::Utxo { node, params, rules }
        }
        ChainKind::Ethereum { chain_id, tokens } => {
            let params = AddressParams::ethereum(*chain_id);
            let tokens = tokens.iter().map(|token| read_token(token, params)).collect::<Result<_, _>>()?;
            let node = Arc::new(Node::new(SimulatedAccountChain::new(*chain_id, tokens, seed, now, blocks)));
            Simulated::Account { node, params }
        }
    };
    Ok((chain, simulated))
}

fn read_token(token: &TokenSettings, params: AddressParams) -> Result<Token, SandboxError> {
    let refuse = |why: String| SandboxError::Token { symbol: token.symbol.to_string(), why };
    if token.decimals > ETHER_DECIMALS {
        return Err(refuse(format!("{} decimals are more than {ETHER_DECIMALS}", token.decimals)));
    }
    let contract = parse_address(&token.contract, params).map_err(|error| refuse(error.to_string()))?;
    Ok(Token { symbol: token.symbol.clone(), contract: address(&contract), decimals: token.decimals })
}

async fn mine_forever(inner: Weak<Inner>, chain: String, every: std::time::Duration) {
    // An interval of nothing is none.
    let mut turns = tokio::time::interval(every.max(std::time::Duration::from_millis(1)));
    turns.tick().await;
    loop {
        turns.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        let sandbox = Sandbox(inner);
        let id = chain.clone();
        match spawn_blocking(move || sandbox.mine(&id, 1)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a simulated chain stands still"),
            Err(_) => return,
        }
    }
}

impl Inner {
    fn mine_one(&self, running: &Running) -> Result<(), SandboxError> {
        let mut turn = self.journal.turn();
        let at = self.clock.now();
        mine_one(&running.simulated, at)?;
        turn.done(&Entry::Mined { chain: running.settings.id.to_string(), at });
        Ok(())
    }
}

fn mine_one(chain: &Simulated, now: Timestamp) -> Result<(), SandboxError> {
    match chain {
        Simulated::Utxo { node, .. } => node.change(|chain| chain.mine(now)).map(drop),
        Simulated::Account { node, .. } => {
            node.change(|chain| chain.mine(now));
            Ok(())
        }
    }
}

fn in_range(blocks: u64) -> Result<(), SandboxError> {
    if (1..=BLOCKS_MAX).contains(&blocks) {
        Ok(())
    } else {
        Err(SandboxError::Blocks { found: blocks, max: BLOCKS_MAX })
    }
}

fn hash_of(hash: &bitcoin::BlockHash) -> BlockHash {
    BlockHash::from_internal(hash.to_byte_array())
}

fn block_ref(height: u64, hash: BlockHash) -> BlockRef {
    BlockRef { height: Height::new(height), hash }
}

fn reorg<H, T>(done: Reorged<H, T>, hash: impl Fn(H) -> BlockHash, txid: impl Fn(T) -> TxId) -> Reorg {
    Reorg {
        fork_height: Height::new(done.fork_height),
        height: Height::new(done.height),
        hash: hash(done.hash),
        dropped: done.dropped.into_iter().map(txid).collect(),
    }
}
