//! The Ethereum family: chains of the EVM, over JSON-RPC of our own on reqwest, with the types of `ethers-core`.
//!
//! Native payments come from call traces (`trace`), so that those made by contracts are found, or where there are
//! none from transactions and differences of balances (`balance`), or where the state is gone from transactions
//! alone (`toplevel`), the rest coming as one difference when the state is there again; never from two of them for
//! one block, and `method` names which. Tokens come from the logs in the receipts of allow-listed contracts.
//! Everything is asked by block hash.
//!
//! There is no mempool stage: a pending transaction here says little of what will be executed.
//!
//! Not here: block rewards and withdrawals, but where balances show them.

mod balance;
mod heads;
mod json;
mod node;
mod plan;
mod rpc;
mod scan;
mod state;
mod wire;

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use ethers_core::types::Address;
use tally_ports::{BlockSource, Header, MempoolDiff, PortError, ScannedBlock, SharedWatch};
use tally_types::{BaseUnits, BlockHash, BlockRef, Height, Script, Span, TxId};

use self::heads::Offer;
use self::node::EthereumNode;
use self::plan::{Plan, Token};
use self::state::Books;
use crate::endpoint::{Endpoint, endpoints};
use crate::pool::Pool;
use crate::registry::{ChainFacts, CurrencyFacts, Family};
use crate::settings::ChainSettings;
use crate::wake::Bell;

/// The family's line in the registry.
pub(crate) const FAMILY: Family = Family { kind: "ethereum", open, facts };

/// Fraction digits of a native currency of the EVM.
const NATIVE_DECIMALS: u8 = 18;
/// Native amounts to pay have at most 8 fraction digits, as the other chains'.
const NATIVE_PAYABLE_DIGITS: u8 = 8;
/// Token amounts to pay have at most 6.
const TOKEN_PAYABLE_DIGITS: u8 = 6;

fn open(settings: &ChainSettings) -> Result<Arc<dyn BlockSource>, PortError> {
    let plan = Arc::new(Plan::of(settings)?);
    let all = endpoints(settings, &["http", "https", "ws", "wss"])?;
    // A WebSocket is for hints alone.
    let (heads, nodes): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|endpoint| matches!(endpoint.url.scheme(), "ws" | "wss"));
    if nodes.is_empty() {
        return Err(settings.refuse("rpc names no node by http:// or https:// (ws:// only wakes)"));
    }
    let nodes: Result<Vec<_>, _> =
        nodes.into_iter().map(|endpoint| EthereumNode::new(endpoint, Arc::clone(&plan))).collect();
    Ok(Arc::new(EthereumSource {
        pool: Arc::new(Pool::new(settings.id.clone(), nodes?)),
        heads: heads.into_iter().map(|endpoint| (endpoint, Bell::default())).collect(),
        books: Books::default(),
    }))
}

fn facts(settings: &ChainSettings) -> Result<ChainFacts, PortError> {
    let plan = Plan::of(settings)?;
    let native = CurrencyFacts {
        currency: plan.native.clone(),
        decimals: NATIVE_DECIMALS,
        payable_unit: payable_unit(NATIVE_DECIMALS, NATIVE_PAYABLE_DIGITS),
        dust: BaseUnits::ZERO,
        contract: None,
    };
    let token = |(address, token): (&Address, &Token)| CurrencyFacts {
        currency: token.currency.clone(),
        decimals: token.decimals,
        payable_unit: payable_unit(token.decimals, TOKEN_PAYABLE_DIGITS),
        dust: BaseUnits::ZERO,
        contract: Script::from_bytes(address.as_bytes()).ok(),
    };
    let mut tokens: Vec<_> = plan.tokens.iter().collect();
    tokens.sort_by_key(|(_, token)| token.place);
    let tokens = tokens.into_iter().map(token).collect();
    Ok(ChainFacts { native, tokens, has_mempool: false, confirmed: 1, complete: 6 })
}

/// The base units in the last of `digits` fraction digits of a unit with `decimals`.
fn payable_unit(decimals: u8, digits: u8) -> BaseUnits {
    let power = 10_u128.checked_pow(u32::from(decimals.saturating_sub(digits)));
    BaseUnits::from_units(power.unwrap_or(u128::MAX))
}

/// See [`crate::bench::ethereum_deposits`].
#[cfg(feature = "bench")]
pub(crate) fn deposits(
    settings: &ChainSettings,
    expected: &Header,
    block: &[u8],
    receipts: &[u8],
    watch: &SharedWatch,
) -> Result<usize, PortError> {
    let plan = Plan::of(settings)?;
    let unread = |error: json::JsonError| PortError::persistent("no answer of a node").because(error);
    let (block, receipts) = (json::parse(block).map_err(unread)?, json::parse(receipts).map_err(unread)?);
    let told = scan::Told { block, receipts, traces: None };
    let credits = told.credits(expected, &plan, watch);
    credits.map(|credits| credits.len()).map_err(|error| PortError::persistent(error.to_string()))
}

/// The nodes of one chain of the family.
struct EthereumSource {
    pool: Arc<Pool<EthereumNode>>,
    /// Endpoints that tell of new blocks.
    heads: Vec<(Endpoint, Bell)>,
    books: Books,
}

impl EthereumSource {
    /// Returns when one of the endpoints for it tells of a block.
    async fn heard(&self) {
        let rung = self.heads.iter().map(|(endpoint, bell)| {
            bell.hang(|ringer| heads::listen(endpoint.clone(), Offer::Known, ringer));
            Box::pin(bell.rung())
        });
        let rung: Vec<_> = rung.collect();
        if rung.is_empty() {
            std::future::pending::<()>().await;
        }
        futures::future::select_all(rung).await;
    }
}

#[async_trait]
impl BlockSource for EthereumSource {
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
        let scan = |node: Arc<EthereumNode>, _| async move { node.scan(block, watch, &self.books).await };
        Ok(self.pool.run(scan).await?)
    }

    async fn mempool(
        &self,
        _known: &HashSet<TxId>,
        _watch: &SharedWatch,
    ) -> Result<Option<MempoolDiff>, PortError> {
        Ok(None)
    }

    async fn wait(&self, tip: &BlockHash, at_most: Span) {
        if let Some(node) = self.pool.current() {
            tokio::select! {
                () = node.wait(*tip, at_most) => {}
                () = self.heard() => {}
            }
        }
    }

    fn endpoint(&self) -> u64 {
        self.pool.switches()
    }

    async fn finalized(&self) -> Result<Option<Height>, PortError> {
        Ok(self.pool.run(|node: Arc<EthereumNode>, _| async move { node.finalized().await }).await?)
    }

    fn recall(&self, through: BlockRef, method: Option<&str>, paid: &[(Script, BaseUnits)]) {
        self.books.recall(through, method == Some(node::METHOD_TOP_LEVEL), paid);
    }
}

#[cfg(test)]
mod tests;
