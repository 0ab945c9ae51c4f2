//! What stops a watcher, and for how long.

use std::time::Duration;

use tally_ports::PortError;
use tally_tracker::Refusal;
use tally_types::Height;

/// What may pass by itself is told of after so many failures in a row, some 2 s on.
pub(crate) const LOUD_AFTER: u32 = 5;

/// Why a watcher ended other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum WatcherError {
    /// The node is not the configured chain's, or lacks what is needed. A person must see to it.
    #[error("the node cannot be used")]
    Source(#[source] PortError),
    /// The log cannot be read by this release, or not at all. A person must see to it.
    #[error("the log cannot be read")]
    Log(#[source] PortError),
}

/// Why a round did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("the node does not answer: {0}")]
    Source(PortError),
    #[error("the block at height {height} cannot be read: {error}")]
    Block { height: Height, error: PortError },
    #[error("the log does not take facts: {0}")]
    Log(PortError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("another writer was faster")]
    Stale,
    #[error("the node's tip moved while its mempool was asked for")]
    Moved,
    #[error("another writer holds a later lease")]
    Deposed,
    #[error("other shards have taken over")]
    Retired,
}

impl Trouble {
    /// The kind in `tally_incidents_total`, for what a person should know of.
    pub(crate) const fn incident(&self) -> Option<&'static str> {
        match self {
            Self::Source(_) => Some("node_unreachable"),
            Self::Block { .. } => Some("block_unreadable"),
            Self::Log(_) => Some("log_unreachable"),
            Self::Refused(Refusal::DeepReorg { .. }) => Some("deep_reorg"),
            Self::Refused(_) | Self::Stale | Self::Moved | Self::Retired => None,
            Self::Deposed => Some("lease_overtaken"),
        }
    }

    /// One word for what is wrong.
    pub(crate) fn kind(&self) -> &'static str {
        self.incident().unwrap_or("unsettled")
    }

    /// Whether waiting a little is no remedy.
    fn is_persistent(&self) -> bool {
        match self {
            Self::Source(error) | Self::Log(error) | Self::Block { error, .. } => !error.is_transient(),
            Self::Refused(refusal) => matches!(refusal, Refusal::DeepReorg { .. }),
            Self::Stale | Self::Moved | Self::Retired => false,
            Self::Deposed => true,
        }
    }

    /// Whether to raise the alarm after this many failures in a row: for what may pass, later.
    pub(crate) fn is_loud(&self, failures: u32) -> bool {
        self.is_persistent() || failures >= LOUD_AFTER
    }
}

/// How long to wait after this many failures in a row: from 50 ms, doubled, to 5 s.
pub(crate) fn pause_after(failures: u32) -> Duration {
    let doubled = 50_u64.saturating_mul(1 << failures.saturating_sub(1).min(7));
    Duration::from_millis(doubled.min(5000))
}
