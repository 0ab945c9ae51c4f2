//! What each metric says, for those who read them. Not here: measuring.

use metrics::{describe_counter, describe_gauge, describe_histogram};

const COUNTERS: &[(&str, &str)] = &[
    ("tally_chain_reorgs_total", "Reorganisations of a chain that were followed."),
    ("tally_matcher_bytes_total", "Bytes of blocks that were searched for watched scripts."),
    ("tally_deposits_total", "What happened to deposits, by event."),
    ("tally_order_transitions_total", "Orders that reached a status."),
    ("tally_feed_polls_total", "Polls of price venues, by outcome."),
    ("tally_archived_orders_total", "Orders that were moved out of the log into the archive."),
    ("tally_archive_failures_total", "Rounds of archiving that were cut short."),
    ("tally_deliveries_total", "Attempts to notify merchants, by outcome."),
    ("tally_http_requests_total", "Requests answered, by route and status code."),
    ("tally_endpoint_switches_total", "Changes from one node of a chain to another."),
    ("tally_endpoint_faults_total", "Faults of a chain's nodes, by kind."),
    ("tally_incidents_total", "Incidents that a person should look at, by kind."),
];

const GAUGES: &[(&str, &str)] = &[
    ("tally_chain_tip_height", "Height of the last block that was taken in."),
    ("tally_chain_silence_seconds", "Since the chain was last looked at as a whole."),
    (
        "tally_chain_lag_blocks",
        "Blocks that node and log are apart; at least 1 while the node is not heard of.",
    ),
    ("tally_chain_reorg_depth", "Blocks that the last reorganisation took away."),
    ("tally_chain_silence_seconds", "Time since a chain was last looked at, tip and mempool."),
    ("tally_watched_scripts", "Scripts that blocks are searched for."),
    ("tally_orders", "Orders by status."),
    ("tally_projector_lag_events", "Facts in the log that are not folded yet."),
    ("tally_log_durability", "1 where it is verified that an acknowledged append is on disk, else 0."),
    ("tally_archive_segments", "Segments in the archive of closed orders."),
    ("tally_rate_sources", "Venues that made an asset's rate."),
    ("tally_rate_sources_min", "Venues that an asset's rate needs."),
    ("tally_rate_dropped", "1 while a venue does not count for an asset, with the reason."),
    ("tally_rate_age_seconds", "Age of an asset's rate."),
    ("tally_rates_published_timestamp_seconds", "When rates were published last, in Unix time."),
    ("tally_delivery_backlog", "Notifications that are not acknowledged yet."),
];

const HISTOGRAMS: &[(&str, &str)] = &[
    ("tally_block_process_seconds", "Time to take in a block."),
    ("tally_log_append_seconds", "Time until an append to the log was durable."),
    ("tally_http_request_seconds", "Time to answer a request."),
];

/// Tells the installed recorder what each metric says.
pub(super) fn describe() {
    for (name, help) in COUNTERS {
        describe_counter!(*name, *help);
    }
    for (name, help) in GAUGES {
        describe_gauge!(*name, *help);
    }
    for (name, help) in HISTOGRAMS {
        describe_histogram!(*name, *help);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, out);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                out.push(path);
            }
        }
    }

    /// The names that the macros in a source file measure under.
    fn measured(text: &str) -> impl Iterator<Item = &str> {
        ["counter!(", "gauge!(", "histogram!("].into_iter().flat_map(move |call| {
            text.split(call).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        })
    }

    #[test]
    fn every_metric_is_described() {
        let known: BTreeSet<&str> =
            [COUNTERS, GAUGES, HISTOGRAMS].into_iter().flatten().map(|(name, _)| *name).collect();
        let mut files = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut files);
        let mut found = 0;
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            for name in measured(&text).filter(|name| name.starts_with("tally_")) {
                found += 1;
                assert!(known.contains(name), "{name} of {} is not described here", file.display());
            }
        }
        assert!(found > 10, "{found}");
    }
}
