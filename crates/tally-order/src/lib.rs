//! *Pure.* The order: a fold over its own facts and over the chains' facts about its scripts.
//!
//! Commands turn a wish into a fact or a [`Refusal`]; [`Order::apply`] folds a fact and cannot fail. Status and
//! exceptions are computed from what was folded and never set, so every reader of the log comes to the same.
//!
//! Not here: rates and rounding of a whole price (`tally-pricing`), addresses, storage, and which orders a fact
//! concerns (`tally-projector` keeps those indexes).

mod deposit;
mod fraction;
mod order;
mod public;
mod quote;
mod refusal;
mod status;

pub use deposit::{DepositState, Stage};
pub use order::{
    Deadline, DeadlineKind, EXPIRY_GRACE, MAX_QUOTES, Observation, Order, QuoteRequest, Received,
    UNWATCH_AFTER, Version,
};
pub use public::{PublicAmount, PublicDeposit, PublicOrder, PublicQuote};
pub use quote::QuoteState;
pub use refusal::Refusal;
pub use status::{Exception, Exceptions, Status, UnknownStatus};
