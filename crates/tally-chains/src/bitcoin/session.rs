//! What is asked of a node, and what its answers must prove; blocking, one node, one chain.
//!
//! Relied on: `getblockcount`, `getbestblockhash`, `getblockhash`, `getblockheader` (its bytes, and of its JSON
//! the height alone, which no node gets wrong), `getblock` as bytes, `getrawmempool`, `getrawtransaction` in
//! batches; used where present: `getnetworkinfo`, `waitfornewblock`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tally_ports::{Credit, Header, PortError, ScannedBlock, SharedWatch, Spend};
use tally_types::{BlockHash, Currency, Height, TxId};

use super::network::{Coin, Network};
use super::rpc::{Rpc, RpcError};
use super::scan::{self, Contradiction};
use crate::endpoint::Endpoint;

/// For an answer of a few bytes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// For a block or a batch of transactions.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Tip and height are asked one after the other; a block may come between.
const TIP_ATTEMPTS_MAX: usize = 4;
/// Transactions in one batch.
const BATCH_MAX: usize = 100;

/// A node of the family, for a few questions.
pub(crate) struct Session<'a> {
    endpoint: &'a Endpoint,
    network: &'static Network,
    calls: Rpc,
    bodies: Rpc,
}

/// What was found in the transactions of a mempool.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// Left the mempool meanwhile.
    pub(crate) gone: Vec<TxId>,
    pub(crate) credits: Vec<Credit>,
    pub(crate) spends: Vec<Spend>,
}

/// The rest of the JSON differs from node to node.
#[derive(Deserialize)]
struct VerboseHeader {
    height: u64,
}

#[derive(Deserialize)]
struct NewBlock {
    hash: BlockHash,
}

impl<'a> Session<'a> {
    pub(crate) fn open(endpoint: &'a Endpoint, network: &'static Network) -> Result<Self, PortError> {
        let client = |timeout| Rpc::new(endpoint, timeout).map_err(|error| fault(endpoint, "", error));
        Ok(Self { endpoint, network, calls: client(ANSWER_TIMEOUT)?, bodies: client(BODY_TIMEOUT)? })
    }

    /// Proves that the node is of the configured chain and answers what is needed.
    pub(crate) fn verify(&self) -> Result<(), PortError> {
        let genesis = self.hash_at(0)?.map(|hash| hash.to_string()).unwrap_or_default();
        if genesis != self.network.genesis {
            return Err(
                self.foreign(format_args!("its genesis block is {genesis}, not {}", self.network.genesis))
            );
        }
        for landmark in self.network.landmarks {
            let Some(found) = self.hash_at(landmark.height)? else { continue };
            if (found.to_string() == landmark.hash) != landmark.ours {
                return Err(self.foreign(format_args!("its block {} is {found}", landmark.height)));
            }
        }
        if let Ok(info) = self.ask::<Value>("getnetworkinfo", &[]) {
            let agent = info.get("subversion").and_then(Value::as_str).unwrap_or_default();
            if Coin::of_agent(agent).is_some_and(|coin| coin != self.network.coin) {
                return Err(self.foreign(format_args!("it calls itself {agent:?}")));
            }
        }
        self.tip().map(drop)
    }

    fn foreign(&self, why: std::fmt::Arguments<'_>) -> PortError {
        let Network { coin, name, .. } = self.network;
        let (coin, node) = (coin.name(), self.endpoint.label());
        PortError::persistent(format!("{node}: not a node of coin = {coin:?}, network = {name:?}: {why}"))
    }

    /// The hash of the best branch's last block.
    pub(crate) fn best(&self) -> Result<BlockHash, PortError> {
        self.ask("getbestblockhash", &[])
    }

    /// The tip with its height, which the node must confirm.
    pub(crate) fn tip(&self) -> Result<Header, PortError> {
        for _ in 0..TIP_ATTEMPTS_MAX {
            let height: u64 = self.ask("getblockcount", &[])?;
            let best = self.best()?;
            if self.hash_at(height)? == Some(best) {
                return self.read_header(best, Height::new(height))?.ok_or_else(|| self.absent(&best));
            }
        }
        Err(PortError::transient(format!("{}: the tip moves too fast", self.endpoint.label())))
    }

    /// A block of the best branch.
    pub(crate) fn at(&self, height: Height) -> Result<Option<Header>, PortError> {
        let Some(hash) = self.hash_at(height.get())? else { return Ok(None) };
        self.read_header(hash, height)?.map(Some).ok_or_else(|| self.absent(&hash))
    }

    /// A block of any branch.
    pub(crate) fn header(&self, hash: &BlockHash) -> Result<Option<Header>, PortError> {
        const METHOD: &str = "getblockheader";
        match self.calls.call::<VerboseHeader>(METHOD, &[json!(hash), json!(true)]) {
            Ok(told) => self.read_header(*hash, Height::new(told.height)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(self.fault(METHOD, error)),
        }
    }

    fn read_header(&self, hash: BlockHash, height: Height) -> Result<Option<Header>, PortError> {
        const METHOD: &str = "getblockheader";
        match self.calls.bytes(METHOD, &[json!(hash), json!(false)]) {
            Ok(bytes) => {
                scan::header(&bytes, hash, height, self.network).map(Some).map_err(|error| self.lies(error))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(self.fault(METHOD, error)),
        }
    }

    fn hash_at(&self, height: u64) -> Result<Option<BlockHash>, PortError> {
        match self.calls.call("getblockhash", &[json!(height)]) {
            Ok(hash) => Ok(Some(hash)),
            Err(error) if error.is_out_of_range() => Ok(None),
            Err(error) => Err(self.fault("getblockhash", error)),
        }
    }

    /// A whole block, matched.
    pub(crate) fn scan(&self, block: &Header, watch: &SharedWatch) -> Result<ScannedBlock, PortError> {
        const METHOD: &str = "getblock";
        let hash = block.block.hash;
        let bytes = self.bodies.bytes(METHOD, &[json!(hash), json!(0)]).map_err(|error| {
            if error.is_pruned() {
                let node = self.endpoint.label();
                PortError::persistent(format!("{node}: the node is pruned and has thrown block {hash} away"))
            } else {
                self.fault(METHOD, error)
            }
        })?;
        scan::block(&bytes, block, self.network, &self.currency()?, watch).map_err(|error| self.lies(error))
    }

    /// The mempool's ids between two equal tips; `None` where the tip moved.
    pub(crate) fn snapshot(&self) -> Result<Option<(BlockHash, Vec<TxId>)>, PortError> {
        let before = self.best()?;
        let ids =
            self.bodies.call("getrawmempool", &[]).map_err(|error| self.fault("getrawmempool", error))?;
        Ok((self.best()? == before).then_some((before, ids)))
    }

    /// What is of interest in these mempool transactions.
    pub(crate) fn fetch(&self, ids: &[TxId], watch: &SharedWatch) -> Result<Fetched, PortError> {
        let currency = self.currency()?;
        let mut fetched = Fetched::default();
        for ids in ids.chunks(BATCH_MAX) {
            let bodies = self.bodies.transactions(ids);
            let bodies = bodies.map_err(|error| self.fault("getrawtransaction", error))?;
            for (id, body) in ids.iter().zip(bodies) {
                let Some(bytes) = body else {
                    fetched.gone.push(*id);
                    continue;
                };
                let found = scan::transaction(&bytes, *id, self.network, &currency, watch);
                match found.map_err(|error| self.lies(error))? {
                    Some(found) => {
                        fetched.credits.extend(found.credits);
                        fetched.spends.extend(found.spends);
                    }
                    None => tracing::debug!(node = self.endpoint.label(), %id, "transaction passed over"),
                }
            }
        }
        Ok(fetched)
    }

    /// Waits up to `patience` for a block; `None` if the node cannot do that.
    pub(crate) fn wait_for_block(&self, patience: Duration) -> Result<Option<BlockHash>, PortError> {
        const METHOD: &str = "waitfornewblock";
        let millis = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX).max(1);
        match self.calls.call::<NewBlock>(METHOD, &[json!(millis)]) {
            Ok(block) => Ok(Some(block.hash)),
            Err(error) if error.is_unknown_method() => Ok(None),
            Err(error) => Err(self.fault(METHOD, error)),
        }
    }

    fn ask<T: serde::de::DeserializeOwned>(&self, method: &str, params: &[Value]) -> Result<T, PortError> {
        self.calls.call(method, params).map_err(|error| self.fault(method, error))
    }

    fn currency(&self) -> Result<Currency, PortError> {
        self.network.currency()
    }

    fn absent(&self, hash: &BlockHash) -> PortError {
        PortError::transient(format!("{}: block {hash} is named and then not found", self.endpoint.label()))
    }

    fn lies(&self, error: Contradiction) -> PortError {
        PortError::transient(format!("{}: {error}", self.endpoint.label()))
    }

    fn fault(&self, method: &str, error: RpcError) -> PortError {
        fault(self.endpoint, method, error)
    }
}

fn fault(endpoint: &Endpoint, method: &str, error: RpcError) -> PortError {
    let node = endpoint.label();
    let message = match &error {
        RpcError::Status(401 | 403) => format!("{node}: the node refuses user and password, or the cookie"),
        // What minreq also says of a connection that was closed without a word.
        RpcError::Status(503) => format!("{node}: the node is too busy to answer, or gone"),
        RpcError::Failed(_) => format!("{node}: the node does not answer"),
        other => format!("{node}: {method}: {other}"),
    };
    let kind = if error.may_pass() { PortError::transient } else { PortError::persistent };
    kind(message).because(error)
}
