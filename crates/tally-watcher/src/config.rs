//! What a watcher can be told.

use tally_events::Shard;
use tally_tracker::Settings;
use tally_types::{ChainId, Currency, Height, Span};

/// Which part of a chain's scripts a watcher looks after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Every shard there is, whatever their number. Beside other watchers a standby for each.
    All,
    /// One shard of so many. Where the log has another number of them, a watcher that is started changes it.
    One(Shard),
}

/// How one chain is watched. All but the chain and the seed have defaults that fit every chain.
#[derive(Debug, Clone)]
pub struct WatcherConfig {
    /// The chain.
    pub chain: ChainId,
    /// Which part of its scripts.
    pub part: Part,
    /// The chain's own currency, where sums of what was paid in it are to be told to the node's adapter at a start.
    pub native: Option<Currency>,
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
    /// How long the writer's lease lasts; it is renewed three times as often. A standby takes over when it has run
    /// out.
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
            part: Part::All,
            native: None,
            seed,
            settings: Settings::default(),
            start: None,
            start_below_tip: 10,
            poll: Span::from_millis(1000),
            lease: Span::from_secs(3),
            prefetch: 8,
            run_max: 1000,
            checkpoint_every: 50_000,
        }
    }
}
