//! Every fact the log holds: its subject, version, envelope and upcasters. Nothing else is serialised to the log.
//!
//! A fact is in the past tense and never changes. A field may be added with a default; any other change is
//! a new version of the kind, with an upcaster that turns the old form into the new one when it is read.
//!
//! Not here: what facts mean. The folds (`tally-order`, `tally-tracker`, …) say that.

mod account;
mod archive;
mod chain;
mod delivery;
mod envelope;
mod order;
mod rates;
mod shard;
mod subject;

pub use account::{
    ApiKeyCreated, ApiKeyRevoked, KeyAllocated, KeyRegistered, KeySecret, MerchantChanged, MerchantCreated,
    MerchantSettings, OrderClaimed, WalletAdded,
};
pub use archive::{ArchivedOrder, OrdersArchived};
pub use chain::{
    BlockConnected, BlockDisconnected, CLOCK_SET_BACK_MIN, ChainCheckpointed, ChainFinalized, ChainObserved,
    ChainSharded, CheckpointDeposit, CheckpointStage, Deposit, DepositConfirmed, DepositMined,
    DepositReplaced, DepositSeen, DepositUnmined, DepositVanished, FoundBlock, RescanApplied, RescanReported,
    RescanRequested,
};
pub use delivery::{DeliveryAttempted, DeliveryOutcome};
pub use envelope::{DecodeError, Epoch, Event, Fact, NewEvent, Recorded, SOURCE};
pub use order::{
    AcceptedDeposit, Counts, CountsFrom, LatePolicy, OrderAccepted, OrderCanceled, OrderCreated,
    OrderExpired, OrderInvalidated, OrderQuoted, OrderUnwatched, Policy, Price, RateLock,
};
pub use rates::{AssetRate, DroppedSource, FiatRate, RatesPublished};
pub use shard::{Place, Shard, ShardError};
pub use subject::{Subject, SubjectError};
