//! What is asked of a node of the EVM, and what its answers must prove.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ethers_core::types::{H256, U64};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};
use tally_ports::{Header, PortError, ScannedBlock, SharedWatch};
use tally_types::{BlockHash, BlockRef, Height, Span, Timestamp};
use tokio::time::{sleep, timeout};

use super::plan::{Plan, TraceMode};
use super::rpc::{Rpc, RpcError};
use super::scan::Told;
use super::wire::{Block, Receipt, Trace, Transaction};
use crate::endpoint::{Auth, Endpoint};
use crate::pool::Node;

/// Between two questions for the tip, for a node on this machine and for one elsewhere.
const POLL_NEAR: Duration = Duration::from_millis(500);
const POLL_FAR: Duration = Duration::from_secs(1);

/// Natives were found by call traces.
const METHOD_TRACE: &str = "trace";
/// Natives were found at the top level of transactions alone.
const METHOD_TOP_LEVEL: &str = "toplevel";

/// One node.
pub(crate) struct EthereumNode {
    rpc: Rpc,
    plan: Arc<Plan>,
    /// The node was found to offer no traces.
    traceless: AtomicBool,
}

impl EthereumNode {
    pub(crate) fn new(endpoint: Endpoint, plan: Arc<Plan>) -> Result<Self, PortError> {
        let label = endpoint.label().to_owned();
        if matches!(endpoint.auth, Auth::Cookie(_)) {
            return Err(PortError::persistent(format!(
                "{label}: cookie does not exist for kind = \"ethereum\""
            )));
        }
        let rpc = Rpc::new(endpoint).map_err(|error| {
            PortError::persistent(format!("{label}: no http client can be made")).because(error.without_url())
        })?;
        Ok(Self { rpc, plan, traceless: AtomicBool::new(false) })
    }

    pub(crate) async fn tip(&self) -> Result<Header, PortError> {
        let block: Option<Block<IgnoredAny>> =
            self.ask("eth_getBlockByNumber", json!(["latest", false])).await?;
        let block = block.ok_or_else(|| self.transient("there is no latest block"))?;
        self.read_header(&block)
    }

    pub(crate) async fn at(&self, height: Height) -> Result<Option<Header>, PortError> {
        let number = U64::from(height.get());
        let block: Option<Block<IgnoredAny>> =
            self.ask("eth_getBlockByNumber", json!([number, false])).await?;
        let Some(block) = block else {
            // Behind one address may stand several nodes, one of which lags.
            return match self.tip_number().await? {
                tip if tip < height.get() => Ok(None),
                tip => Err(self.transient(format_args!("block {height} is absent under the tip {tip}"))),
            };
        };
        let header = self.read_header(&block)?;
        if header.block.height != height {
            return Err(
                self.transient(format_args!("block {height} is told as block {}", header.block.height))
            );
        }
        Ok(Some(header))
    }

    pub(crate) async fn header(&self, hash: BlockHash) -> Result<Option<Header>, PortError> {
        let block: Option<Block<IgnoredAny>> =
            self.ask("eth_getBlockByHash", json!([h256(&hash), false])).await?;
        let Some(block) = block else { return Ok(None) };
        let header = self.read_header(&block)?;
        if header.block.hash != hash {
            return Err(self.transient(format_args!("block {hash} is told as block {}", header.block.hash)));
        }
        Ok(Some(header))
    }

    pub(crate) async fn scan(
        &self,
        expected: &Header,
        watch: &SharedWatch,
    ) -> Result<ScannedBlock, PortError> {
        let hash = expected.block.hash;
        let block: Option<Block<Transaction>> =
            self.ask("eth_getBlockByHash", json!([h256(&hash), true])).await?;
        let block = block.ok_or_else(|| self.transient(format_args!("block {hash} is absent")))?;
        if self.read_header(&block)? != *expected {
            return Err(self.transient(format_args!("block {hash} is not the one told before")));
        }
        let (receipts, traces) = if block.transactions.is_empty() {
            (Vec::new(), self.may_trace().then(Vec::new))
        } else {
            (self.receipts(&block, &hash).await?, self.traces(&hash).await?)
        };
        let told = Told { block, receipts, traces };
        let credits = told.credits(expected, &self.plan, watch).map_err(|error| self.transient(error))?;
        let method = if told.traces.is_some() { METHOD_TRACE } else { METHOD_TOP_LEVEL };
        Ok(ScannedBlock { header: *expected, credits, spends: Vec::new(), method: Some(method.to_owned()) })
    }

    /// The receipts of a block with transactions, at once or, where the node cannot, one by one.
    async fn receipts(
        &self,
        block: &Block<Transaction>,
        hash: &BlockHash,
    ) -> Result<Vec<Receipt>, PortError> {
        const AT_ONCE: &str = "eth_getBlockReceipts";
        const ONE: &str = "eth_getTransactionReceipt";
        let absent = || self.transient(format_args!("receipts of block {hash} are absent"));
        match self.rpc.call(AT_ONCE, json!([h256(hash)])).await {
            Ok(receipts) => receipts.ok_or_else(absent),
            Err(error) if error.is_unknown_method() || error.is_invalid_params() => {
                let params = block.transactions.iter().map(|transaction| json!([transaction.hash])).collect();
                let receipts = self.rpc.batch(ONE, params).await.map_err(|error| self.fault(ONE, error))?;
                receipts.into_iter().map(|receipt| receipt.ok_or_else(absent)).collect()
            }
            Err(error) => Err(self.fault(AT_ONCE, error)),
        }
    }

    /// The block's traces; `None` where the configuration allows to go without and the node has none.
    async fn traces(&self, hash: &BlockHash) -> Result<Option<Vec<Trace>>, PortError> {
        const METHOD: &str = "debug_traceBlockByHash";
        if !self.may_trace() {
            return Ok(None);
        }
        let optional = self.plan.trace == TraceMode::Auto;
        let params = json!([h256(hash), {"tracer": "callTracer"}]);
        match self.rpc.call_slow(METHOD, params).await {
            Ok(Some(traces)) => Ok(Some(traces)),
            Ok(None) => Err(self.transient(format_args!("traces of block {hash} are absent"))),
            Err(error) if optional && error.is_unknown_method() => {
                let (chain, node) = (&self.plan.id, self.label());
                tracing::warn!(%chain, node, "no call traces: transfers made by contracts are not seen");
                self.traceless.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) if optional && error.is_state_missing() => {
                let (chain, node) = (&self.plan.id, self.label());
                tracing::warn!(%chain, node, block = %hash, "no state to trace: transfers made by contracts are not seen");
                Ok(None)
            }
            Err(error) => Err(self.fault(METHOD, error)),
        }
    }

    fn may_trace(&self) -> bool {
        self.plan.trace != TraceMode::Off && !self.traceless.load(Ordering::Relaxed)
    }

    /// A node that must trace is asked for a block that no chain has: it says so, or that it has no such method.
    async fn check_traces(&self) -> Result<(), PortError> {
        const METHOD: &str = "debug_traceBlockByHash";
        let params = json!([H256::zero(), {"tracer": "callTracer"}]);
        match self.rpc.call_slow::<IgnoredAny>(METHOD, params).await {
            Err(error) if error.is_unknown_method() => Err(PortError::persistent(format!(
                "{}: trace = \"required\", but the node does not offer {METHOD}",
                self.label()
            ))
            .because(error)),
            Err(error @ (RpcError::Transport(_) | RpcError::Status(_))) => Err(self.fault(METHOD, error)),
            _ => Ok(()),
        }
    }

    /// Returns when the tip is another, or after `at_most`.
    pub(crate) async fn wait(&self, tip: BlockHash, at_most: Span) {
        // Out of time is as good an answer as any.
        let _ = timeout(Duration::from_millis(at_most.millis()), self.changed(tip)).await;
    }

    async fn changed(&self, tip: BlockHash) {
        let pause = if self.rpc.endpoint().is_loopback() { POLL_NEAR } else { POLL_FAR };
        let height = loop {
            match self.tip().await {
                Ok(now) if now.block.hash != tip => return,
                Ok(now) => break now.block.height.get(),
                Err(_) => sleep(pause).await,
            }
        };
        while self.tip_number().await.ok().is_none_or(|now| now == height) {
            sleep(pause).await;
        }
    }

    async fn tip_number(&self) -> Result<u64, PortError> {
        let number: Option<U64> = self.ask("eth_blockNumber", json!([])).await?;
        number.map(|number| number.as_u64()).ok_or_else(|| self.transient("there is no block number"))
    }

    fn read_header<T>(&self, block: &Block<T>) -> Result<Header, PortError> {
        let (Some(hash), Some(number)) = (block.hash, block.number) else {
            return Err(self.transient("a pending block is told as mined"));
        };
        let seconds = i64::try_from(block.timestamp.as_u64()).unwrap_or(i64::MAX);
        Ok(Header {
            block: BlockRef { height: Height::new(number.as_u64()), hash: BlockHash::from_display(hash.0) },
            prev: BlockHash::from_display(block.parent_hash.0),
            time: Timestamp::from_secs(seconds),
        })
    }

    async fn ask<T>(&self, method: &str, params: Value) -> Result<Option<T>, PortError>
    where
        T: DeserializeOwned + Send + 'static,
    {
        self.rpc.call(method, params).await.map_err(|error| self.fault(method, error))
    }

    fn transient(&self, what: impl std::fmt::Display) -> PortError {
        PortError::transient(format!("{}: {what}", self.label()))
    }

    fn fault(&self, method: &str, error: RpcError) -> PortError {
        let node = self.label();
        let message = match &error {
            RpcError::Status(401 | 403) => format!("{node}: the node refuses user and password, or its key"),
            RpcError::Transport(_) => format!("{node}: the node does not answer"),
            other => format!("{node}: {method}: {other}"),
        };
        let kind = if error.may_pass() { PortError::transient } else { PortError::persistent };
        kind(message).because(error)
    }
}

fn h256(hash: &BlockHash) -> H256 {
    H256(*hash.display_bytes())
}

#[async_trait]
impl Node for EthereumNode {
    fn label(&self) -> &str {
        self.rpc.endpoint().label()
    }

    async fn verify(&self) -> Result<(), PortError> {
        let id: Option<U64> = self.ask("eth_chainId", json!([])).await?;
        let (id, wanted) = (id.map(|id| id.as_u64()), self.plan.chain_id);
        let id = id.ok_or_else(|| self.transient("there is no chain id"))?;
        if id != wanted {
            let node = self.label();
            return Err(PortError::persistent(format!(
                "{node}: its chain id is {id}, not chain_id = {wanted}"
            )));
        }
        self.traceless.store(false, Ordering::Relaxed);
        if self.plan.trace == TraceMode::Required {
            self.check_traces().await?;
        }
        self.tip().await.map(drop)
    }
}
