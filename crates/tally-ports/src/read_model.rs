//! The folded state that faces and duties read. It follows the log and can be made again from it.

use async_trait::async_trait;
use tally_account::{KeyCounter, Merchant};
use tally_events::{DeliveryAttempted, Subject};
use tally_order::Order;
use tally_types::{
    BlockRef, ChainId, DepositKey, Face, Fingerprint, MerchantId, OrderId, Position, Script, Span, Timestamp,
};
use tokio::sync::broadcast;

use crate::PortError;

/// How far a chain's watcher has got, by the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainView {
    /// The tip of the log's branch.
    pub tip: BlockRef,
    /// The watcher's clock at its last report.
    pub observed_at: Timestamp,
    /// The log position whose addresses it has matched against.
    pub watched_through: Position,
}

/// An order reached a version. Sent after the fold that made it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The order.
    pub order: OrderId,
    /// Its version.
    pub version: u32,
    /// The fact that made it.
    pub position: Position,
}

/// A version that an order reached, for the announcer. Each version is listed once, in log order.
#[derive(Debug, Clone)]
pub struct VersionReached {
    /// The fact that made it.
    pub position: Position,
    /// Which version.
    pub version: u32,
    /// The order as it is now; `Order::public(version)` shows it as it was.
    pub order: Order,
}

/// A version of an order that no delivery fact covers.
#[derive(Debug, Clone)]
pub struct Undelivered {
    /// The order as it is now.
    pub order: Order,
    /// `notify`, or a webhook's id.
    pub endpoint: String,
    /// The last attempt at any version to that endpoint.
    pub last: Option<DeliveryAttempted>,
}

/// What is to happen to an order at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeadlineKind {
    /// It expires unless covered.
    Expiry,
    /// It becomes invalid unless confirmed.
    Invalidation,
    /// Its addresses leave the watch set.
    Unwatch,
}

/// A deadline of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadline {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: DeadlineKind,
    /// Whose.
    pub order: OrderId,
}

/// Which orders to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderFilter {
    /// Of this merchant only.
    pub merchant: Option<MerchantId>,
    /// Of this face only.
    pub face: Option<Face>,
    /// With this status only, by its name.
    pub status: Option<String>,
    /// Only orders older than this one (by creation), for the next page.
    pub before: Option<OrderId>,
}

/// The read model. Every answer is of one moment of the log, at or after [`ReadModel::position`].
#[async_trait]
pub trait ReadModel: Send + Sync {
    /// How far the log is folded, durably.
    fn position(&self) -> Position;

    /// Waits until the log is folded through `position`; false when `at_most` passes first.
    async fn wait_for(&self, position: Position, at_most: Span) -> bool;

    /// The position of the last folded fact on a subject (0: none): what an append will expect. Answered for
    /// orders, claims, keys, deliveries and merchants.
    async fn subject_position(&self, subject: &Subject) -> Result<Position, PortError>;

    /// An order.
    async fn order(&self, order: &OrderId) -> Result<Option<Order>, PortError>;

    /// The order with a merchant's own id.
    async fn order_by_own_id(
        &self,
        merchant: MerchantId,
        face: Face,
        own_id: &str,
    ) -> Result<Option<OrderId>, PortError>;

    /// The order and quote that a script was given to.
    async fn order_by_script(
        &self,
        chain: &ChainId,
        script: &Script,
    ) -> Result<Option<(OrderId, u32)>, PortError>;

    /// The order that a deposit pays.
    async fn order_by_deposit(
        &self,
        chain: &ChainId,
        deposit: &DepositKey,
    ) -> Result<Option<OrderId>, PortError>;

    /// Orders, newest first, at most `limit`.
    async fn orders(&self, filter: &OrderFilter, limit: usize) -> Result<Vec<Order>, PortError>;

    /// A merchant.
    async fn merchant(&self, merchant: MerchantId) -> Result<Option<Merchant>, PortError>;

    /// All merchants, by id.
    async fn merchants(&self) -> Result<Vec<Merchant>, PortError>;

    /// The counter of an extended public key.
    async fn key_counter(&self, key: &Fingerprint) -> Result<Option<KeyCounter>, PortError>;

    /// How far a chain's watcher has got; `None` before its first report.
    async fn chain(&self, chain: &ChainId) -> Result<Option<ChainView>, PortError>;

    /// Versions reached after a position, in log order, at most `limit`, never a part of what one fact made
    /// unless that alone exceeds `limit`.
    async fn versions(&self, after: Position, limit: usize) -> Result<Vec<VersionReached>, PortError>;

    /// Orders of these partitions whose current version is not delivered and not given up, at most `limit`;
    /// those whose next attempt is due longest first.
    async fn undelivered(
        &self,
        partitions: &[u8],
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Undelivered>, PortError>;

    /// How many versions are not delivered yet.
    async fn backlog(&self) -> Result<u64, PortError>;

    /// Deadlines that have passed, oldest first, at most `limit`.
    async fn deadlines(&self, now: Timestamp, limit: usize) -> Result<Vec<Deadline>, PortError>;

    /// Versions from now on, as they are reached. A receiver that lags is told so and reads what it needs.
    fn changes(&self) -> broadcast::Receiver<Change>;
}
