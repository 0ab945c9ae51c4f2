//! What is asked of a node of the EVM, and what its answers must prove.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ethers_core::types::{H256, U64};
use metrics::counter;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};
use tally_ports::{Credit, Header, PortError, ScannedBlock, SharedWatch};
use tally_types::{BlockHash, BlockRef, Height, Span, Timestamp};
use tokio::time::{sleep, timeout};

use super::heads::{self, Offer};
use super::plan::{Plan, TraceMode};
use super::rpc::{Rpc, RpcError};
use super::scan::Told;
use super::state::{Asking, Books, Found};
use super::wire::{Block, Quantity, Receipt, Trace, Transaction};
use crate::endpoint::{Auth, Endpoint};
use crate::fault::{Fault, FaultKind};
use crate::pool::Node;
use crate::wake::Bell;

/// Between two questions for the tip, for a node on this machine and for one elsewhere.
const POLL_NEAR: Duration = Duration::from_millis(500);
const POLL_FAR: Duration = Duration::from_secs(1);
/// The same while the node tells of its blocks.
const POLL_TOLD: Duration = Duration::from_secs(5);

/// Natives were found by call traces.
const METHOD_TRACE: &str = "trace";
/// Natives were found by the difference of balances.
const METHOD_BALANCE: &str = "balance";
/// Natives were found at the top level of transactions alone, for lack of state; the rest comes later as one
/// difference.
pub(super) const METHOD_TOP_LEVEL: &str = "toplevel";

/// One node.
pub(crate) struct EthereumNode {
    rpc: Rpc,
    plan: Arc<Plan>,
    /// The node was found to offer no traces.
    traceless: AtomicBool,
    asking: Asking,
    /// Rings with the blocks that the node tells of.
    bell: Bell,
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
        Ok(Self {
            rpc,
            plan,
            traceless: AtomicBool::new(false),
            asking: Asking::default(),
            bell: Bell::default(),
        })
    }

    pub(super) fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn asking(&self) -> &Asking {
        &self.asking
    }

    /// A whole block, matched.
    pub(crate) async fn scan(
        &self,
        expected: &Header,
        watch: &SharedWatch,
        books: &Books,
    ) -> Result<ScannedBlock, Fault> {
        let _reading = books.read(expected.block.hash);
        let told = self.told(expected).await?;
        let mut credits =
            told.credits(expected, &self.plan, watch).map_err(|error| self.contradiction(error))?;
        let method = match &told.traces {
            Some(_) if books.is_open(&expected.prev).await? => {
                match self.close_gap(&told, &credits, expected, watch, books).await? {
                    Some(more) => {
                        credits.extend(more);
                        METHOD_TRACE
                    }
                    None => METHOD_TOP_LEVEL,
                }
            }
            Some(_) => {
                if told.block.transactions.is_empty() {
                    books.pass(expected);
                }
                METHOD_TRACE
            }
            None => match self.by_balance(&told, &credits, expected, watch, books).await? {
                Found::ByBalance(more) => {
                    credits.extend(more);
                    METHOD_BALANCE
                }
                Found::TopLevel => METHOD_TOP_LEVEL,
            },
        };
        Ok(ScannedBlock { header: *expected, credits, spends: Vec::new(), method: Some(method.to_owned()) })
    }

    /// What was paid in blocks without state before this one, the first whose calls are told. `None` where its own
    /// balances cannot be had either: the gap goes on.
    async fn close_gap(
        &self,
        told: &Told,
        credits: &[Credit],
        header: &Header,
        watch: &SharedWatch,
        books: &Books,
    ) -> Result<Option<Vec<Credit>>, Fault> {
        match self.by_balance(told, credits, header, watch, books).await {
            Ok(Found::ByBalance(more)) => Ok(Some(more)),
            Ok(Found::TopLevel) => Ok(None),
            Err(fault) if fault.kind == FaultKind::Unable => {
                let (chain, node, block) = (&self.plan.id, self.label(), header.block.hash);
                let why = &fault.error;
                tracing::error!(%chain, node, %block, %why, "blocks without state are not settled");
                counter!("tally_incidents_total", "kind" => "state_gap_unsettled").increment(1);
                Ok(Some(Vec::new()))
            }
            Err(fault) => Err(fault),
        }
    }

    /// All that the node has to tell of a block, asked for at once.
    async fn told(&self, expected: &Header) -> Result<Told, Fault> {
        let hash = expected.block.hash;
        let block = async {
            let block: Option<Block<Transaction>> =
                self.ask("eth_getBlockByHash", json!([h256(&hash), true])).await?;
            let block = block
                .ok_or_else(|| self.fault_of(FaultKind::Absent, format_args!("block {hash} is absent")))?;
            if self.read_header(&block)? != *expected {
                return Err(self.contradiction(format_args!("block {hash} is not the one told before")));
            }
            Ok(block)
        };
        // Without the block, the rest is not waited for; of an empty block it is not looked at.
        let receipts = async { Ok(self.receipts_at_once(&hash).await) };
        let traces = async { Ok(self.traces(&hash).await) };
        let (block, receipts, traces) = tokio::try_join!(block, receipts, traces)?;
        if block.transactions.is_empty() {
            let traces = self.may_trace().then(Vec::new);
            return Ok(Told { block, receipts: Vec::new(), traces });
        }
        let receipts = match receipts? {
            Some(receipts) => receipts,
            None => self.receipts_one_by_one(&block, &hash).await?,
        };
        Ok(Told { block, receipts, traces: traces? })
    }

    /// A block's receipts; `None` if the node has them one by one only.
    async fn receipts_at_once(&self, hash: &BlockHash) -> Result<Option<Vec<Receipt>>, Fault> {
        const METHOD: &str = "eth_getBlockReceipts";
        match self.rpc.call(METHOD, json!([h256(hash)])).await {
            Ok(Some(receipts)) => Ok(Some(receipts)),
            Ok(None) => Err(self.receipts_absent(hash)),
            Err(error) if error.is_unknown_method() || error.is_invalid_params() => Ok(None),
            Err(error) => Err(self.fault(METHOD, error)),
        }
    }

    async fn receipts_one_by_one(
        &self,
        block: &Block<Transaction>,
        hash: &BlockHash,
    ) -> Result<Vec<Receipt>, Fault> {
        const METHOD: &str = "eth_getTransactionReceipt";
        let id = |transaction: &Transaction| json!([H256(transaction.hash.0)]);
        let params = block.transactions.iter().map(id).collect();
        let receipts = self.rpc.batch(METHOD, params).await.map_err(|error| self.fault(METHOD, error))?;
        receipts.into_iter().map(|receipt| receipt.ok_or_else(|| self.receipts_absent(hash))).collect()
    }

    fn receipts_absent(&self, hash: &BlockHash) -> Fault {
        self.fault_of(FaultKind::Absent, format_args!("receipts of block {hash} are absent"))
    }

    /// The block's traces; `None` where the configuration allows to go without and the node has none.
    async fn traces(&self, hash: &BlockHash) -> Result<Option<Vec<Trace>>, Fault> {
        const METHOD: &str = "debug_traceBlockByHash";
        if !self.may_trace() {
            return Ok(None);
        }
        let optional = self.plan.trace == TraceMode::Auto;
        let params = json!([h256(hash), {"tracer": "callTracer"}]);
        match self.rpc.call_slow(METHOD, params).await {
            Ok(Some(traces)) => Ok(Some(traces)),
            Ok(None) => {
                Err(self.fault_of(FaultKind::Absent, format_args!("traces of block {hash} are absent")))
            }
            Err(error) if optional && error.is_unknown_method() => {
                let (chain, node) = (&self.plan.id, self.label());
                if !self.traceless.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%chain, node, "no call traces: transfers by contracts are found by balances");
                }
                Ok(None)
            }
            Err(error) if optional && error.is_state_missing() => {
                let (chain, node) = (&self.plan.id, self.label());
                tracing::warn!(%chain, node, block = %hash, "no state to trace");
                Ok(None)
            }
            Err(error) => Err(self.fault(METHOD, error)),
        }
    }

    fn may_trace(&self) -> bool {
        self.plan.trace != TraceMode::Off && !self.traceless.load(Ordering::Relaxed)
    }

    /// A node that must trace is asked for a block that no chain has: it says so, or that it has no such method.
    async fn check_traces(&self) -> Result<(), Fault> {
        const METHOD: &str = "debug_traceBlockByHash";
        let params = json!([H256::zero(), {"tracer": "callTracer"}]);
        match self.rpc.call_slow::<IgnoredAny>(METHOD, params).await {
            Err(error) if error.is_unknown_method() => {
                let what = format!("trace = \"required\", but the node does not offer {METHOD}");
                Err(self.fault_of(FaultKind::Unable, what).because(error))
            }
            Err(error @ (RpcError::Http(_) | RpcError::Status(_))) => Err(self.fault(METHOD, error)),
            _ => Ok(()),
        }
    }

    /// Returns when the tip is another, or after `at_most`.
    pub(crate) async fn wait(&self, tip: BlockHash, at_most: Span) {
        let news = async {
            tokio::select! {
                () = self.changed(tip) => {}
                () = self.bell.rung() => {}
            }
        };
        // Out of time is as good an answer as any.
        let _ = timeout(Duration::from_millis(at_most.millis()), news).await;
    }

    async fn changed(&self, tip: BlockHash) {
        let pause = match self.rpc.endpoint().is_loopback() {
            _ if self.bell.is_live() => POLL_TOLD,
            true => POLL_NEAR,
            false => POLL_FAR,
        };
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

    /// The last block that will not change any more, where the chain tells it.
    pub(crate) async fn finalized(&self) -> Result<Option<Height>, Fault> {
        const METHOD: &str = "eth_getBlockByNumber";
        let told = self.rpc.call::<Block<IgnoredAny>>(METHOD, json!(["finalized", false])).await;
        match told {
            Ok(block) => block.map(|block| Ok(self.read_header(&block)?.block.height)).transpose(),
            // A chain too young for it, or without it.
            Err(RpcError::Refused { .. }) => Ok(None),
            Err(error) => Err(self.fault(METHOD, error)),
        }
    }

    async fn tip_number(&self) -> Result<u64, Fault> {
        let number: Option<Quantity> = self.ask("eth_blockNumber", json!([])).await?;
        let number = number.and_then(Quantity::get);
        number.ok_or_else(|| self.fault_of(FaultKind::Absent, "there is no block number"))
    }

    fn read_header<T>(&self, block: &Block<T>) -> Result<Header, Fault> {
        let number = block.number.and_then(Quantity::get);
        let (Some(hash), Some(number)) = (block.hash, number) else {
            return Err(self.contradiction("a pending block is told as mined"));
        };
        let seconds = block.timestamp.get().and_then(|seconds| i64::try_from(seconds).ok());
        Ok(Header {
            block: BlockRef { height: Height::new(number), hash: BlockHash::from_display(hash.0) },
            prev: BlockHash::from_display(block.parent_hash.0),
            time: Timestamp::from_secs(seconds.unwrap_or(i64::MAX)),
        })
    }

    async fn ask<T>(&self, method: &str, params: Value) -> Result<Option<T>, Fault>
    where
        T: DeserializeOwned + Send + 'static,
    {
        self.rpc.call(method, params).await.map_err(|error| self.fault(method, error))
    }

    pub(super) fn contradiction(&self, what: impl std::fmt::Display) -> Fault {
        self.fault_of(FaultKind::Contradiction, what)
    }

    fn fault_of(&self, kind: FaultKind, what: impl std::fmt::Display) -> Fault {
        Fault::new(kind, format!("{}: {what}", self.label()))
    }

    pub(super) fn fault(&self, method: &str, error: RpcError) -> Fault {
        error.fault(self.rpc.endpoint(), method)
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

    fn authority(&self) -> &str {
        self.rpc.endpoint().authority()
    }

    async fn verify(&self) -> Result<(), Fault> {
        let id: Option<Quantity> = self.ask("eth_chainId", json!([])).await?;
        let wanted = self.plan.chain_id;
        let id = id.ok_or_else(|| self.fault_of(FaultKind::Absent, "there is no chain id"))?;
        if id.get() != Some(wanted) {
            let what = format!("its chain id is {}, not chain_id = {wanted}", id.0);
            return Err(self.fault_of(FaultKind::Foreign, what));
        }
        self.traceless.store(false, Ordering::Relaxed);
        if self.plan.trace == TraceMode::Required {
            self.check_traces().await?;
        }
        self.tip().await?;
        let endpoint = self.rpc.endpoint().clone();
        self.bell.hang(|ringer| heads::listen(endpoint, Offer::Unknown, ringer));
        Ok(())
    }

    async fn tip(&self) -> Result<Header, Fault> {
        let block: Option<Block<IgnoredAny>> =
            self.ask("eth_getBlockByNumber", json!(["latest", false])).await?;
        let block = block.ok_or_else(|| self.fault_of(FaultKind::Absent, "there is no latest block"))?;
        self.read_header(&block)
    }

    async fn at(&self, height: Height) -> Result<Option<Header>, Fault> {
        let number = U64::from(height.get());
        let block: Option<Block<IgnoredAny>> =
            self.ask("eth_getBlockByNumber", json!([number, false])).await?;
        let Some(block) = block else {
            // Behind one address may stand several nodes, one of which lags.
            return match self.tip_number().await? {
                tip if tip < height.get() => Ok(None),
                tip => {
                    let what = format_args!("block {height} is absent under the tip {tip}");
                    Err(self.fault_of(FaultKind::Absent, what))
                }
            };
        };
        let header = self.read_header(&block)?;
        if header.block.height != height {
            let what = format_args!("block {height} is told as block {}", header.block.height);
            return Err(self.contradiction(what));
        }
        Ok(Some(header))
    }

    async fn header(&self, hash: BlockHash) -> Result<Option<Header>, Fault> {
        let block: Option<Block<IgnoredAny>> =
            self.ask("eth_getBlockByHash", json!([h256(&hash), false])).await?;
        let Some(block) = block else { return Ok(None) };
        let header = self.read_header(&block)?;
        if header.block.hash != hash {
            return Err(
                self.contradiction(format_args!("block {hash} is told as block {}", header.block.hash))
            );
        }
        Ok(Some(header))
    }
}
