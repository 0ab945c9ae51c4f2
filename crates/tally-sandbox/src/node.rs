//! A simulated chain behind a lock, with its faults, and word to those who wait for a change.
//!
//! Not here: what the chain does, and JSON-RPC.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// How many blocks behind a lagging node is.
const LAG: u64 = 3;

/// Why a text is no kind of fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("fault {0:?} is not one of stall, lag, lie, truncate")]
pub struct FaultKindError(String);

/// What can be wrong with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// It takes calls and does not answer until the fault is off.
    Stall,
    /// It answers as if it were three blocks behind.
    Lag,
    /// It answers other contents than it was asked for: a block that does not match its hash, or its header,
    /// receipts of another block.
    Lie,
    /// What it answers of a block ends in the middle.
    Truncate,
}

impl FaultKind {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stall => "stall",
            Self::Lag => "lag",
            Self::Lie => "lie",
            Self::Truncate => "truncate",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FaultKind {
    type Err = FaultKindError;

    fn from_str(text: &str) -> Result<Self, FaultKindError> {
        [Self::Stall, Self::Lag, Self::Lie, Self::Truncate]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| FaultKindError(text.chars().take(40).collect()))
    }
}

/// The faults a node has now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    stall: bool,
    lag: bool,
    pub(crate) lie: bool,
    pub(crate) truncate: bool,
}

impl Faults {
    /// The height that the node takes for its tip's.
    pub(crate) fn view(&self, height: u64) -> u64 {
        if self.lag { height.saturating_sub(LAG) } else { height }
    }
}

/// A simulated chain that several tasks share.
#[derive(Debug)]
pub(crate) struct Node<C> {
    state: Mutex<(C, Faults)>,
    changes: watch::Sender<u64>,
}

impl<C> Node<C> {
    pub(crate) fn new(chain: C) -> Self {
        Self { state: Mutex::new((chain, Faults::default())), changes: watch::Sender::new(0) }
    }

    /// Looks at the chain.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&C, Faults) -> R) -> R {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        look(&state.0, state.1)
    }

    /// Changes the chain, and says so.
    pub(crate) fn change<R>(&self, act: impl FnOnce(&mut C) -> R) -> R {
        let result = act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).0);
        self.announce();
        result
    }

    pub(crate) fn set_fault(&self, kind: FaultKind, on: bool) {
        {
            let faults = &mut self.state.lock().unwrap_or_else(PoisonError::into_inner).1;
            match kind {
                FaultKind::Stall => faults.stall = on,
                FaultKind::Lag => faults.lag = on,
                FaultKind::Lie => faults.lie = on,
                FaultKind::Truncate => faults.truncate = on,
            }
        }
        self.announce();
    }

    pub(crate) fn faults(&self) -> Faults {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// To hear of changes from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Returns when the node does not stall.
    pub(crate) async fn unstalled(&self) {
        let mut changes = self.subscribe();
        // The sender lives as long as this node, so waiting ends by a change only.
        while self.faults().stall && changes.changed().await.is_ok() {}
    }

    fn announce(&self) {
        self.changes.send_modify(|version| *version = version.wrapping_add(1));
    }
}
