//! The watcher's metrics, by the names of the interface.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use tally_events::{Fact, Shard};
use tally_types::{ChainId, Span};

/// The metrics of one chain, or of one of its shards.
#[derive(Debug, Clone)]
pub(crate) struct Gauges {
    chain: String,
    /// None where the chain has only one.
    shard: Option<String>,
}

impl Gauges {
    pub(crate) fn new(chain: &ChainId, shard: Shard) -> Self {
        Self { chain: chain.to_string(), shard: (!shard.is_whole()).then(|| shard.to_string()) }
    }

    fn labels(&self) -> Vec<(&'static str, String)> {
        let shard = self.shard.iter().map(|shard| ("shard", shard.clone()));
        std::iter::once(("chain", self.chain.clone())).chain(shard).collect()
    }

    fn labels_and(&self, name: &'static str, value: &'static str) -> Vec<(&'static str, String)> {
        let mut labels = self.labels();
        labels.push((name, value.to_owned()));
        labels
    }

    /// How long nothing has been heard of the node that could be written down.
    pub(crate) fn silence(&self, silence: Span) {
        gauge!("tally_chain_silence_seconds", &self.labels()).set(whole(silence.secs()));
    }

    pub(crate) fn tip(&self, height: u64, lag_blocks: u64) {
        gauge!("tally_chain_tip_height", &self.labels()).set(whole(height));
        gauge!("tally_chain_lag_blocks", &self.labels()).set(whole(lag_blocks));
    }

    pub(crate) fn scripts(&self, count: usize) {
        gauge!("tally_watched_scripts", &self.labels()).set(whole(count as u64));
    }

    pub(crate) fn block(&self, took: Duration) {
        histogram!("tally_block_process_seconds", &self.labels()).record(took.as_secs_f64());
    }

    pub(crate) fn incident(&self, kind: &'static str) {
        counter!("tally_incidents_total", "kind" => kind).increment(1);
    }

    /// Counts what was appended.
    pub(crate) fn appended(&self, facts: &[Fact]) {
        let mut left = 0_u64;
        for fact in facts {
            let event = match fact {
                Fact::DepositSeen(_) => "seen",
                Fact::DepositMined(_) => "mined",
                Fact::DepositUnmined(_) => "unmined",
                Fact::DepositReplaced(_) => "replaced",
                Fact::DepositVanished(_) => "vanished",
                Fact::DepositConfirmed(_) => "confirmed",
                Fact::BlockDisconnected(_) => {
                    left = left.saturating_add(1);
                    continue;
                }
                _ => continue,
            };
            counter!("tally_deposits_total", &self.labels_and("event", event)).increment(1);
        }
        if left > 0 {
            counter!("tally_chain_reorgs_total", &self.labels()).increment(1);
            gauge!("tally_chain_reorg_depth", &self.labels()).set(whole(left));
        }
    }
}

/// Metrics are floating-point; heights and counts are exact in them up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "no height and no count is that large")]
const fn whole(number: u64) -> f64 {
    number as f64
}
