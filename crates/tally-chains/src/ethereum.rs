//! The Ethereum family: chains of the EVM, over JSON-RPC of our own on reqwest, with the types of `ethers-core`.
//!
//! Native payments come from call traces (`trace`), so that those made by contracts are found, or where there are
//! none from top-level transactions alone (`toplevel`); never from both for one block, and `method` names which.
//! Tokens come from the logs in the receipts of allow-listed contracts. Everything is asked by block hash.
//!
//! There is no mempool stage: a pending transaction here says little of what will be executed.
//!
//! Not here: balances. Block rewards, withdrawals and, without traces, transfers by contracts are not seen.

mod json;
mod node;
mod plan;
mod rpc;
mod scan;
mod wire;

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use ethers_core::types::Address;
use tally_ports::{BlockSource, Header, MempoolDiff, PortError, ScannedBlock, SharedWatch};
use tally_types::{BaseUnits, BlockHash, Height, Script, Span, TxId};

use self::node::EthereumNode;
use self::plan::{Plan, Token};
use crate::endpoint::endpoints;
use crate::pool::Pool;
use crate::registry::{ChainFacts, CurrencyFacts, Family};
use crate::settings::ChainSettings;

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
    let nodes = endpoints(settings, &["http", "https"])?;
    let nodes: Result<Vec<_>, _> =
        nodes.into_iter().map(|endpoint| EthereumNode::new(endpoint, Arc::clone(&plan))).collect();
    Ok(Arc::new(EthereumSource { pool: Pool::new(settings.id.clone(), nodes?) }))
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

/// The nodes of one chain of the family.
struct EthereumSource {
    pool: Pool<EthereumNode>,
}

#[async_trait]
impl BlockSource for EthereumSource {
    async fn check(&self) -> Result<(), PortError> {
        self.pool.check().await
    }

    async fn tip(&self) -> Result<Header, PortError> {
        self.pool.run(|node| async move { node.tip().await }).await
    }

    async fn at(&self, height: Height) -> Result<Option<Header>, PortError> {
        self.pool.run(|node| async move { node.at(height).await }).await
    }

    async fn header(&self, hash: &BlockHash) -> Result<Option<Header>, PortError> {
        let hash = *hash;
        self.pool.run(|node| async move { node.header(hash).await }).await
    }

    async fn scan(&self, block: &Header, watch: &SharedWatch) -> Result<ScannedBlock, PortError> {
        self.pool.run(|node| async move { node.scan(block, watch).await }).await
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
            node.wait(*tip, at_most).await;
        }
    }
}

#[cfg(test)]
mod tests;
