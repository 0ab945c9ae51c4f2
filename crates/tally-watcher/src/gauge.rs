//! The watcher's metrics, by the names of the interface.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use tally_events::Fact;
use tally_types::ChainId;

/// The metrics of one chain.
#[derive(Debug, Clone)]
pub(crate) struct Gauges {
    chain: String,
}

impl Gauges {
    pub(crate) fn new(chain: &ChainId) -> Self {
        Self { chain: chain.to_string() }
    }

    pub(crate) fn tip(&self, height: u64, lag_blocks: u64) {
        gauge!("tally_chain_tip_height", "chain" => self.chain.clone()).set(whole(height));
        gauge!("tally_chain_lag_blocks", "chain" => self.chain.clone()).set(whole(lag_blocks));
    }

    pub(crate) fn scripts(&self, count: usize) {
        gauge!("tally_watched_scripts", "chain" => self.chain.clone()).set(whole(count as u64));
    }

    pub(crate) fn block(&self, took: Duration) {
        histogram!("tally_block_process_seconds", "chain" => self.chain.clone()).record(took.as_secs_f64());
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
            counter!("tally_deposits_total", "chain" => self.chain.clone(), "event" => event).increment(1);
        }
        if left > 0 {
            counter!("tally_chain_reorgs_total", "chain" => self.chain.clone()).increment(1);
            gauge!("tally_chain_reorg_depth", "chain" => self.chain.clone()).set(whole(left));
        }
    }
}

/// Metrics are floating-point; heights and counts are exact in them up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "no height and no count is that large")]
const fn whole(number: u64) -> f64 {
    number as f64
}
