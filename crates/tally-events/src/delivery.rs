//! Facts of deliveries to merchants, on `tally.v1.delivery.<p>.<order_id>`.

use serde::{Deserialize, Serialize};
use tally_types::{OrderId, Timestamp};

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryOutcome {
    /// The endpoint took it.
    Acknowledged,
    /// It did not; another attempt follows.
    Failed {
        /// What went wrong, for people.
        reason: String,
        /// Not before this time.
        next_at: Timestamp,
    },
    /// It did not, and no attempt follows by itself.
    Abandoned {
        /// What went wrong, for people.
        reason: String,
    },
}

/// A version of an order was sent to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryAttempted {
    /// The order.
    pub order: OrderId,
    /// The endpoint: `notify` for the order's own `notify_url`, else a webhook's id.
    pub endpoint: String,
    /// The order's version that was sent.
    pub version: u32,
    /// Which attempt at this version; the first has 1.
    pub attempt: u32,
    /// How it ended.
    pub outcome: DeliveryOutcome,
    /// When it ended.
    pub at: Timestamp,
}
