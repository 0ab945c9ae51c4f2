//! A way in for the benches: what is otherwise reached through a node only. No part of the interface.

use tally_ports::{Header, PortError, SharedWatch};

use crate::settings::ChainSettings;

/// Reads a block and its receipts as a node of the family `ethereum` tells them, and counts the deposits.
///
/// # Errors
/// A persistent error where the settings are wrong or the answers are none, or contradict each other.
pub fn ethereum_deposits(
    settings: &ChainSettings,
    expected: &Header,
    block: &[u8],
    receipts: &[u8],
    watch: &SharedWatch,
) -> Result<usize, PortError> {
    crate::ethereum::deposits(settings, expected, block, receipts, watch)
}
