//! Traits to the outside world, one file each. Services own the needs, adapters fill them.
//!
//! Not here: implementations, and any type of an outside library. No method and no enum names a chain or
//! a venue.

mod archive;
mod block_source;
mod clock;
mod courier;
mod error;
mod feed;
mod lease;
mod log;
mod publisher;
mod read_model;
mod reminder;
mod store;

pub use archive::{Archive, Purge};
pub use block_source::{BlockSource, Credit, Header, MempoolDiff, ScannedBlock, SharedWatch, Spend};
pub use clock::{Clock, Entropy};
pub use courier::{Answer, Courier, CourierError, Mail, Mailer, Parcel};
pub use error::{ErrorKind, PortError};
pub use feed::{Poll, PriceFeed};
pub use lease::{Grant, Lease};
pub use log::{AppendError, EventLog, EventStream, Expectation};
pub use publisher::{Message, Publisher};
pub use read_model::{
    ChainView, Change, Deadline, DeadlineKind, OrderFilter, ReadModel, Undelivered, VersionReached,
};
pub use reminder::Reminder;
pub use store::{Row, Rows, Store, WriteBatch};
