//! The Bitcoin family: BTC, LTC and BCH over the JSON-RPC of Bitcoin Core, litecoind, BCHN, bcoin and bcash.
//!
//! Only what all of them answer alike is relied on: hashes, and blocks, headers and transactions as bytes. What
//! the bytes say is checked (the block's own hash, the one before, its work, its Merkle root); parsing and matching are `tally-matcher`'s.
//!
//! `network` knows the chains apart, `rpc` speaks, `session` asks and checks (blocking), `node` keeps that off
//! the async threads; `bodies` fetches blocks and `ahead` headers in numbers, `zmq` hears of new ones.

mod ahead;
mod bodies;
mod network;
mod node;
mod rpc;
mod scan;
mod session;
mod zmq;

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use tally_ports::{BlockSource, Header, MempoolDiff, PortError, ScannedBlock, SharedWatch};
use tally_types::{BaseUnits, BlockHash, Height, Span, TxId};

use self::network::Network;
use self::node::BitcoinNode;
use crate::endpoint::endpoints;
use crate::pool::Pool;
use crate::registry::{ChainFacts, CurrencyFacts, Family};
use crate::settings::ChainSettings;

/// The family's line in the registry.
pub(crate) const FAMILY: Family = Family { kind: "bitcoin", open, facts };

/// What nodes relay at any rate they are set to, in base units: well above the dust limits of all three chains.
const DUST: BaseUnits = BaseUnits::from_units(1_000);

fn open(settings: &ChainSettings) -> Result<Arc<dyn BlockSource>, PortError> {
    let network = Network::of(settings)?;
    let nodes = endpoints(settings, &["http"])?;
    let nodes: Result<Vec<_>, _> =
        nodes.into_iter().map(|endpoint| BitcoinNode::new(endpoint, network)).collect();
    Ok(Arc::new(BitcoinSource { pool: Arc::new(Pool::new(settings.id.clone(), nodes?)) }))
}

fn facts(settings: &ChainSettings) -> Result<ChainFacts, PortError> {
    let network = Network::of(settings)?;
    let native = CurrencyFacts {
        currency: network.currency()?,
        decimals: 8,
        payable_unit: BaseUnits::from_units(1),
        dust: DUST,
        contract: None,
    };
    Ok(ChainFacts { native, tokens: Vec::new(), has_mempool: true, confirmed: 1, complete: 6 })
}

/// The nodes of one chain of the family.
struct BitcoinSource {
    pool: Arc<Pool<BitcoinNode>>,
}

#[async_trait]
impl BlockSource for BitcoinSource {
    async fn check(&self) -> Result<(), PortError> {
        Ok(self.pool.check().await?)
    }

    async fn tip(&self) -> Result<Header, PortError> {
        Ok(self.pool.tip().await?)
    }

    async fn at(&self, height: Height) -> Result<Option<Header>, PortError> {
        Ok(self.pool.at(height).await?)
    }

    async fn header(&self, hash: &BlockHash) -> Result<Option<Header>, PortError> {
        Ok(self.pool.header(*hash).await?)
    }

    async fn scan(&self, block: &Header, watch: &SharedWatch) -> Result<ScannedBlock, PortError> {
        let block = *block;
        let scan = |node: Arc<BitcoinNode>, _| async move { node.scan(block, Arc::clone(watch)).await };
        let (scanned, bytes) = self.pool.run(scan).await?;
        metrics::counter!("tally_matcher_bytes_total", "chain" => self.pool.chain().to_string())
            .increment(u64::try_from(bytes).unwrap_or(u64::MAX));
        Ok(scanned)
    }

    async fn mempool(
        &self,
        known: &HashSet<TxId>,
        watch: &SharedWatch,
    ) -> Result<Option<MempoolDiff>, PortError> {
        let look = |node: Arc<BitcoinNode>, _| async move { node.mempool(known, watch).await };
        Ok(self.pool.run(look).await?)
    }

    async fn wait(&self, tip: &BlockHash, at_most: Span) {
        if let Some(node) = self.pool.current() {
            node.wait(*tip, at_most).await;
        }
    }

    async fn work(&self, block: &BlockHash) -> Result<Option<u128>, PortError> {
        let hash = *block;
        Ok(self.pool.run(|node: Arc<BitcoinNode>, _| async move { node.work(hash).await }).await?)
    }

    fn endpoint(&self) -> u64 {
        self.pool.switches()
    }
}

#[cfg(test)]
mod tests;
