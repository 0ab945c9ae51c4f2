//! What is asked of a node, and what its answers must prove; blocking, one node, one chain.
//!
//! Relied on: `getblockcount`, `getbestblockhash`, `getblockhash`, `getblockheader` (its bytes, and of its JSON
//! the height alone, which no node gets wrong), `getblock` as bytes, `getrawmempool`, `getrawtransaction` in
//! batches; used where present: `getnetworkinfo`, `waitfornewblock`, `getzmqnotifications`. Blocks are fetched
//! elsewhere (`bodies`).

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tally_ports::{Credit, Header, SharedWatch, Spend};
use tally_types::{BlockHash, Currency, Height, TxId};

use super::network::{Coin, Network};
use super::rpc::{Rpc, RpcError};
use super::scan::{self, Contradiction, Work};
use crate::endpoint::Endpoint;
use crate::fault::{Fault, FaultKind};

/// For an answer of a few bytes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// For a block or a batch of transactions.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Tip and height are asked one after the other; a block may come between.
const TIP_ATTEMPTS_MAX: usize = 3;
/// Transactions in one batch.
const BATCH_MAX: usize = 100;

/// A node of the family, for a few questions.
pub(crate) struct Session<'a> {
    endpoint: &'a Endpoint,
    network: &'static Network,
    work: &'a Work,
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

#[derive(Deserialize)]
struct Notification {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

impl<'a> Session<'a> {
    pub(crate) fn open(endpoint: &'a Endpoint, work: &'a Work) -> Result<Self, Fault> {
        let client = |timeout| Rpc::new(endpoint, timeout).map_err(|error| error.fault(endpoint, "cookie"));
        let (calls, bodies) = (client(ANSWER_TIMEOUT)?, client(BODY_TIMEOUT)?);
        Ok(Self { endpoint, network: work.network(), work, calls, bodies })
    }

    /// Proves that the node is of the configured chain and answers what is needed.
    pub(crate) fn verify(&self) -> Result<(), Fault> {
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

    fn foreign(&self, why: std::fmt::Arguments<'_>) -> Fault {
        let Network { coin, name, .. } = self.network;
        let (coin, node) = (coin.name(), self.endpoint.label());
        Fault::new(
            FaultKind::Foreign,
            format!("{node}: not a node of coin = {coin:?}, network = {name:?}: {why}"),
        )
    }

    /// The hash of the best branch's last block.
    pub(crate) fn best(&self) -> Result<BlockHash, Fault> {
        self.ask("getbestblockhash", &[])
    }

    /// The tip with its height, which the node must confirm.
    pub(crate) fn tip(&self) -> Result<Header, Fault> {
        for _ in 0..TIP_ATTEMPTS_MAX {
            let height: u64 = self.ask("getblockcount", &[])?;
            let best = self.best()?;
            if self.hash_at(height)? == Some(best) {
                return self.read_header(best, Height::new(height))?.ok_or_else(|| self.absent(&best));
            }
        }
        // Blocks come faster than questions: then by the height that the node names in the header.
        let best = self.best()?;
        self.header(&best)?.ok_or_else(|| self.absent(&best))
    }

    /// A block of the best branch.
    pub(crate) fn at(&self, height: Height) -> Result<Option<Header>, Fault> {
        let Some(hash) = self.hash_at(height.get())? else { return Ok(None) };
        self.read_header(hash, height)?.map(Some).ok_or_else(|| self.absent(&hash))
    }

    /// A block of any branch.
    pub(crate) fn header(&self, hash: &BlockHash) -> Result<Option<Header>, Fault> {
        const METHOD: &str = "getblockheader";
        match self.calls.call::<VerboseHeader>(METHOD, &[json!(hash), json!(true)]) {
            Ok(told) => self.read_header(*hash, Height::new(told.height)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(self.fault(METHOD, error)),
        }
    }

    fn read_header(&self, hash: BlockHash, height: Height) -> Result<Option<Header>, Fault> {
        const METHOD: &str = "getblockheader";
        match self.calls.bytes(METHOD, &[json!(hash), json!(false)]) {
            Ok(bytes) => {
                scan::header(&bytes, hash, height, self.work).map(Some).map_err(|error| self.lies(error))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(self.fault(METHOD, error)),
        }
    }

    /// The work of a block of any branch, by a header that has it.
    pub(crate) fn work(&self, hash: &BlockHash) -> Result<Option<u128>, Fault> {
        const METHOD: &str = "getblockheader";
        match self.calls.bytes(METHOD, &[json!(hash), json!(false)]) {
            Ok(bytes) => {
                scan::header(&bytes, *hash, Height::new(0), self.work).map_err(|error| self.lies(error))?;
                let header = <[u8; 80]>::try_from(bytes.as_slice()).ok().map(tally_matcher::Header::new);
                Ok(header.map(|header| scan::work_of(header.bits())))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(self.fault(METHOD, error)),
        }
    }

    fn hash_at(&self, height: u64) -> Result<Option<BlockHash>, Fault> {
        match self.calls.call("getblockhash", &[json!(height)]) {
            Ok(hash) => Ok(Some(hash)),
            Err(error) if error.is_out_of_range() => Ok(None),
            Err(error) => Err(self.fault("getblockhash", error)),
        }
    }

    /// The mempool's ids between two equal tips; `None` where the tip moved.
    pub(crate) fn snapshot(&self) -> Result<Option<(BlockHash, Vec<TxId>)>, Fault> {
        let before = self.best()?;
        let ids =
            self.bodies.call("getrawmempool", &[]).map_err(|error| self.fault("getrawmempool", error))?;
        Ok((self.best()? == before).then_some((before, ids)))
    }

    /// What is of interest in these mempool transactions.
    pub(crate) fn fetch(
        &self,
        ids: &[TxId],
        currency: &Currency,
        watch: &SharedWatch,
    ) -> Result<Fetched, Fault> {
        let mut fetched = Fetched::default();
        for ids in ids.chunks(BATCH_MAX) {
            let bodies = self.bodies.transactions(ids);
            let bodies = bodies.map_err(|error| self.fault("getrawtransaction", error))?;
            for (id, body) in ids.iter().zip(bodies) {
                let Some(bytes) = body else {
                    fetched.gone.push(*id);
                    continue;
                };
                let found = scan::transaction(&bytes, *id, self.network, currency, watch);
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
    pub(crate) fn wait_for_block(&self, patience: Duration) -> Result<Option<BlockHash>, Fault> {
        const METHOD: &str = "waitfornewblock";
        let millis = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX).max(1);
        match self.calls.call::<NewBlock>(METHOD, &[json!(millis)]) {
            Ok(block) => Ok(Some(block.hash)),
            Err(error) if error.is_unknown_method() => Ok(None),
            Err(error) => Err(self.fault(METHOD, error)),
        }
    }

    /// Where the node publishes its blocks over ZMQ; nothing if it does not.
    pub(crate) fn zmq_blocks(&self) -> Option<String> {
        let told = self.calls.call::<Vec<Notification>>("getzmqnotifications", &[]).ok()?;
        told.into_iter().find(|one| one.kind == "pubhashblock").map(|one| one.address)
    }

    fn ask<T: serde::de::DeserializeOwned>(&self, method: &str, params: &[Value]) -> Result<T, Fault> {
        self.calls.call(method, params).map_err(|error| self.fault(method, error))
    }

    fn absent(&self, hash: &BlockHash) -> Fault {
        let told = format!("{}: block {hash} is named and then not found", self.endpoint.label());
        Fault::new(FaultKind::Absent, told)
    }

    fn lies(&self, error: Contradiction) -> Fault {
        error.fault(self.endpoint)
    }

    fn fault(&self, method: &str, error: RpcError) -> Fault {
        error.fault(self.endpoint, method)
    }
}
