//! Values that cannot be wrong: every id and quantity of Tallystick as a type whose constructor proves it.
//!
//! Not here: behaviour. No arithmetic beyond checked addition, no I/O, no clock.

mod amount;
mod asset;
mod block;
mod deposit;
mod id;
mod script;
mod time;
mod wire;

pub use amount::{AmountError, BaseUnits, PriceAmount};
pub use asset::{ChainId, Currency, NameError};
pub use block::{BlockHash, BlockRef, HashError, Height, TxId};
pub use deposit::{DepositKey, Difference, OutPoint};
pub use id::{Face, Fingerprint, IdError, MerchantId, OrderId, Position, WalletId};
pub use script::{Script, ScriptError};
pub use time::{Span, Timestamp, TimestampError};
