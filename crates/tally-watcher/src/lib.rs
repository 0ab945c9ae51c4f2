//! *Service.* Watches one chain: follows the log for addresses, the node for blocks and the mempool, and appends
//! what the tracker makes of it.
//!
//! The log is the watcher's only memory: killed between any two appends it continues from what is there. Its
//! store is a cache of the watch set and may be lost. What decides is in `tally-tracker`; what finds payments in
//! bytes is in `tally-matcher`, behind the `BlockSource` port.
//!
//! # Rules and the tests that hold them
//!
//! Paths are below this crate's `tests`, or begin with the crate.
//!
//! | following a chain | test |
//! |---|---|
//! | own header chain, header diff, disconnect descending and connect ascending, branches of any length | `follow::branches_of_any_length_are_followed_back_and_forth`, `tally-tracker::decide::tests::random` |
//! | depth is our tip less the height, whatever a node says | `follow::a_payment_is_seen_mined_and_confirmed` |
//! | one append a block, the log is the only memory | `follow::a_block_is_one_append_with_all_that_it_brings`, `restart::killed_at_any_append_it_comes_to_the_same` |
//! | a block that cannot be read stops the cursor loudly | `trouble::a_block_that_cannot_be_read_stops_the_watch_loudly` |
//! | the mempool is caught up with at a start | `restart::the_mempool_is_caught_up_with_at_a_start` |
//! | the mempool is taken between two equal tips; what is replaced or double-spent is told | `follow::replaced_vanished_and_double_spent`, `follow::a_double_spend_in_a_block_is_noticed` |
//! | an address that is learned after the payment | `follow::addresses_learned_late_find_payments_that_went_by`, `follow::a_quote_that_crosses_a_block_is_not_missed` |
//! | a long way is caught up from the last folded block | `follow::a_long_way_is_gone_in_runs_that_end_100_below_the_tip` |
//! | another endpoint is checked against the header chain | `trouble::another_endpoint_is_not_believed_blindly`, `trouble::a_node_that_lags_is_no_reorg` |
//!
//! | watchers | test |
//! |---|---|
//! | one writer by lease, epochs in facts, standbys fold along and take over within 5 s | `restart::a_standby_takes_over`, `scale::a_hot_standby_takes_over_within_five_seconds`, `trouble::a_rival_with_a_later_lease_wins`, `trouble::a_rival_that_wrote_the_same_is_noticed` |
//! | the number of shards is a fact; they change at one common block | `scale::the_number_of_shards_changes_while_payments_come`, `scale::shards_change_though_their_writers_are_gone_and_whoever_changes_them_is_killed`, `tally-tracker::decide::tests::shards_are_handed_over_whole` |
//! | workers come and go, and lose and double nothing | `scale::workers_come_and_go_and_lose_and_double_nothing` |
//! | what dangles is taken back, at a start and at the tip | `restart::a_block_that_was_never_connected_is_taken_back`, `trouble::what_left_half_told_is_taken_back_at_the_tip` |
//! | `observed_at` is the last look at everything, not the clock | `follow::a_long_way_is_gone_in_runs_that_end_100_below_the_tip`, `tally-tracker::tracker::tests::blocks_claim_no_more_than_the_last_look_at_everything` |
//! | after a change of endpoint or writer a branch must have more work, or the tip be absent for 10 minutes | `trouble::of_two_branches_the_one_with_more_work_is_followed`, `trouble::after_a_change_of_writer_a_shorter_branch_of_more_work_is_followed` |
//! | a node that hangs is told within a minute | `trouble::a_node_that_hangs_is_told_within_a_minute` |
//! | checkpoints bound the replay | `restart::a_checkpoint_bounds_what_is_read` |
//! | a store that fails is asked again, and never said to be whole | `persist::tests::a_store_that_fails_is_asked_again_and_never_said_to_be_whole` |
//! | addresses quoted while nobody watched | `restart::addresses_quoted_while_nobody_watched_are_late_ones` |
//! | a reorg looks into the mempool | `follow::a_reorg_says_which_payments_are_back_in_the_mempool`, `follow::a_payment_that_is_on_both_branches_is_never_gone` |
//! | what is missing from a new node's mempool is unknown | `trouble::another_endpoint_is_not_believed_blindly`, `tally-tracker::decide::tests::a_new_node_does_not_know_what_it_never_held` |
//! | a fork deeper than the window stops the shard, a rescan begins it anew | `trouble::a_reorg_deeper_than_the_window_stops_the_watch`, `scale::after_a_reorg_too_deep_a_rescan_begins_anew` |
//! | rescans in parts, by any number of workers; a known identity is left alone, and what is known by another way of finding | `apply::tests`, `scale::a_find_on_another_branch_is_not_believed`, `scale::a_rescan_finds_what_was_overlooked_and_doubles_nothing`, `scale::a_rescan_goes_on_when_workers_are_killed_and_started_anew`, `scale::a_rescan_that_is_done_before_an_earlier_one_keeps_its_number`, `scale::shards_may_change_in_the_middle_of_a_rescan` |
//! | what is final is told once | `scale::what_the_chain_calls_final_is_told` |
//!
//! Above them all stands the seeded simulation (`tests/simulation` of the workspace): after every append the fold of
//! the log is the chain that its last block names.
//!
//! Not here: orders, addresses as text, any node's protocol, and the choice of adapters (the binary).

mod addresses;
mod advance;
mod apply;
mod config;
mod convert;
mod follower;
mod gauge;
mod health;
mod keeper;
mod late;
mod mempool;
mod persist;
mod plan;
mod replay;
mod rescan;
mod reshard;
mod shard;
mod shared;
mod shelf;
mod trouble;
mod watcher;
mod weigh;
mod worker;
mod writer;

#[cfg(test)]
mod tests;

pub use config::{Part, WatcherConfig};
pub use health::{HealthView, SILENCE_ALARM, WatcherHandle};
pub use rescan::{request_rescan, rescan_progress};
pub use trouble::WatcherError;
pub use watcher::{Watcher, WatcherPorts};
