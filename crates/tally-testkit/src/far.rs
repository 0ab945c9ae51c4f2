//! A node that is some way off: what questions and answers meet in between.
//!
//! Not here: the node (`chain`), and what a test's way is like.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use tally_ports::{BlockSource, Header, MempoolDiff, PortError, ScannedBlock, SharedWatch};
use tally_types::{BaseUnits, BlockHash, BlockRef, Height, Script, Span, TxId};

/// The way to a node and back.
#[async_trait]
pub trait Way: Send + Sync {
    /// A question goes there.
    ///
    /// # Errors
    /// What the caller gets where it does not arrive.
    async fn there(&self) -> Result<(), PortError>;

    /// The node's answer, or its failure, comes back.
    async fn back(&self, answered: bool);

    /// Whether word of new blocks comes by itself.
    fn wakes(&self) -> bool {
        true
    }
}

/// A [`BlockSource`] at the other end of a [`Way`].
#[derive(Debug)]
pub struct Far<S, W> {
    /// The node.
    pub source: Arc<S>,
    /// The way to it.
    pub way: W,
}

impl<S: BlockSource, W: Way> Far<S, W> {
    async fn ask<T>(&self, question: impl Future<Output = Result<T, PortError>>) -> Result<T, PortError> {
        self.way.there().await?;
        let answer = question.await;
        self.way.back(answer.is_ok()).await;
        answer
    }
}

#[async_trait]
impl<S: BlockSource, W: Way> BlockSource for Far<S, W> {
    async fn check(&self) -> Result<(), PortError> {
        self.ask(self.source.check()).await
    }

    async fn tip(&self) -> Result<Header, PortError> {
        self.ask(self.source.tip()).await
    }

    async fn at(&self, height: Height) -> Result<Option<Header>, PortError> {
        self.ask(self.source.at(height)).await
    }

    async fn header(&self, hash: &BlockHash) -> Result<Option<Header>, PortError> {
        self.ask(self.source.header(hash)).await
    }

    async fn scan(&self, block: &Header, watch: &SharedWatch) -> Result<ScannedBlock, PortError> {
        self.ask(self.source.scan(block, watch)).await
    }

    async fn mempool(
        &self,
        known: &HashSet<TxId>,
        watch: &SharedWatch,
    ) -> Result<Option<MempoolDiff>, PortError> {
        self.ask(self.source.mempool(known, watch)).await
    }

    async fn wait(&self, tip: &BlockHash, at_most: Span) {
        if self.way.wakes() {
            self.source.wait(tip, at_most).await;
        } else {
            tokio::time::sleep(at_most.to_duration()).await;
        }
    }

    fn endpoint(&self) -> u64 {
        self.source.endpoint()
    }

    async fn finalized(&self) -> Result<Option<Height>, PortError> {
        self.ask(self.source.finalized()).await
    }

    async fn work(&self, block: &BlockHash) -> Result<Option<u128>, PortError> {
        self.ask(self.source.work(block)).await
    }

    fn recall(&self, through: BlockRef, method: Option<&str>, paid: &[(Script, BaseUnits)]) {
        self.source.recall(through, method, paid);
    }
}
