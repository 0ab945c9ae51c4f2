//! Several nodes of one chain behind one face: the one in use is kept until it fails, then the next one takes
//! over, once it has proved to be of the right chain.
//!
//! Not here: what is asked, and whether the nodes agree on a branch: the watcher checks its headers against
//! whatever it is told next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use tally_ports::PortError;
use tally_types::ChainId;

/// A node that can prove which chain it is of.
#[async_trait]
pub(crate) trait Node: Send + Sync + 'static {
    /// Its name in messages, without credentials.
    fn label(&self) -> &str;

    /// Proves that it is of the configured chain and answers what is needed.
    async fn verify(&self) -> Result<(), PortError>;
}

/// The nodes of a chain, in order of preference.
pub(crate) struct Pool<N> {
    chain: ChainId,
    members: Vec<Member<N>>,
    current: AtomicUsize,
}

struct Member<N> {
    node: Arc<N>,
    /// It has proved its chain, and has not failed since.
    verified: AtomicBool,
}

impl<N: Node> Pool<N> {
    /// A pool of at least one node.
    pub(crate) fn new(chain: ChainId, nodes: Vec<N>) -> Self {
        let member = |node| Member { node: Arc::new(node), verified: AtomicBool::new(false) };
        Self { chain, members: nodes.into_iter().map(member).collect(), current: AtomicUsize::new(0) }
    }

    /// The node in use.
    pub(crate) fn current(&self) -> Option<Arc<N>> {
        self.members.get(self.current.load(Ordering::Relaxed)).map(|member| Arc::clone(&member.node))
    }

    /// Verifies every node. One that cannot be reached is passed over while another can; one of another chain
    /// is refused in any case, for it is a mistake in the configuration.
    pub(crate) async fn check(&self) -> Result<(), PortError> {
        let (mut usable, mut unreached) = (None, None);
        for (index, member) in self.members.iter().enumerate() {
            match member.node.verify().await {
                Ok(()) => {
                    member.verified.store(true, Ordering::Relaxed);
                    usable.get_or_insert(index);
                }
                Err(error) if error.is_transient() => {
                    tracing::warn!(chain = %self.chain, node = member.node.label(), %error, "node left out");
                    unreached.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match (usable, unreached) {
            (Some(index), _) => {
                self.current.store(index, Ordering::Relaxed);
                Ok(())
            }
            (None, unreached) => Err(unreached.unwrap_or_else(|| self.nobody())),
        }
    }

    /// Asks the node in use, and each other in turn while they fail. The first failure is told if all do.
    pub(crate) async fn run<T, F, Fut>(&self, call: F) -> Result<T, PortError>
    where
        F: Fn(Arc<N>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<T, PortError>> + Send,
        T: Send,
    {
        let start = self.current.load(Ordering::Relaxed);
        let mut first_failure = None;
        for index in (start..self.members.len()).chain(0..start) {
            let Some(member) = self.members.get(index) else { continue };
            match member.attempt(&call).await {
                Ok(answer) => {
                    if index != start {
                        self.current.store(index, Ordering::Relaxed);
                        tracing::warn!(chain = %self.chain, node = member.node.label(), "switched to another node");
                    }
                    return Ok(answer);
                }
                Err(error) => {
                    tracing::debug!(chain = %self.chain, node = member.node.label(), %error, "node failed");
                    first_failure.get_or_insert(error);
                }
            }
        }
        Err(first_failure.unwrap_or_else(|| self.nobody()))
    }

    fn nobody(&self) -> PortError {
        PortError::persistent(format!("chain {:?}: rpc names no node", self.chain.as_str()))
    }
}

impl<N: Node> Member<N> {
    async fn attempt<T, F, Fut>(&self, call: &F) -> Result<T, PortError>
    where
        F: Fn(Arc<N>) -> Fut,
        Fut: Future<Output = Result<T, PortError>>,
    {
        if !self.verified.load(Ordering::Relaxed) {
            self.node.verify().await?;
            self.verified.store(true, Ordering::Relaxed);
        }
        let outcome = call(Arc::clone(&self.node)).await;
        if outcome.is_err() {
            self.verified.store(false, Ordering::Relaxed);
        }
        outcome
    }
}

#[cfg(test)]
mod tests;
