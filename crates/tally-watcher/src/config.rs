//! What a watcher can be told.

use tally_tracker::Settings;
use tally_types::{ChainId, Height, Span};

/// How one chain is watched. All but the chain and the seed have defaults that fit every chain.
#[derive(Debug, Clone)]
pub struct WatcherConfig {
    /// The chain.
    pub chain: ChainId,
    /// Keys the hashes of the watch set: random and secret.
    pub seed: u64,
    /// The deepest reorg that is followed.
    pub settings: Settings,
    /// The first block, where the log knows none. By default the node's tip less
    /// [`WatcherConfig::start_below_tip`]: no address is older than the watch.
    pub start: Option<Height>,
    /// How far below the node's tip the watch begins where nothing else is said: as deep as a quote's
    /// `birth_height` lies below the tip, so that the first quotes need no older blocks.
    pub start_below_tip: u64,
    /// How long to wait for news from the node before the mempool is looked at again.
    pub poll: Span,
    /// How long the writer's lease lasts; it is renewed three times as often.
    pub lease: Span,
    /// Blocks on their way from the node at once, while there are several to fetch.
    pub prefetch: usize,
    /// The most blocks without a hit in one fact.
    pub run_max: u64,
    /// How many facts the log grows by before the chain's state is written down whole.
    pub checkpoint_every: u64,
}

impl WatcherConfig {
    /// The defaults for `chain`.
    pub fn new(chain: ChainId, seed: u64) -> Self {
        Self {
            chain,
            seed,
            settings: Settings::default(),
            start: None,
            start_below_tip: 10,
            poll: Span::from_millis(1000),
            lease: Span::from_secs(5),
            prefetch: 8,
            run_max: 1000,
            checkpoint_every: 50_000,
        }
    }
}
