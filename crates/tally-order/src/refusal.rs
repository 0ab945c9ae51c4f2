//! Why a command on an order is refused.

use tally_types::{BaseUnits, ChainId, DepositKey, Timestamp};

use crate::Status;

/// Why a command on an order is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A price of nothing.
    #[error("the price is zero")]
    NoPrice,
    /// The order is final: `complete` or `canceled`; or `invalid`, where a person must see to it.
    #[error("the order is {0}")]
    Final(Status),
    /// The order is covered already.
    #[error("the order is already {0}")]
    AlreadyPaid(Status),
    /// Its time has run out.
    #[error("the order has expired")]
    Expired,
    /// It has a live quote in this currency: answer that one again.
    #[error("quote {0} in this currency is still live")]
    Existing(u32),
    /// What is left to pay is less than the network would carry.
    #[error("the amount due, {due}, is below the least payable amount, {minimum}")]
    Dust {
        /// What would be due, in base units.
        due: BaseUnits,
        /// The least, in base units.
        minimum: BaseUnits,
    },
    /// The amount due is larger than can be held.
    #[error("the amount due is too large")]
    TooLarge,
    /// It has as many quotes as an order may have.
    #[error("the order already has {0} quotes")]
    TooManyQuotes(usize),
    /// Money has arrived, or its status does not allow it.
    #[error("an order that is {0} and has received money cannot be canceled")]
    NotCancelable(Status),
    /// There is no late deposit to accept.
    #[error("the order has no late deposit to accept")]
    NothingToAccept,
    /// A deposit that the order does not have, or that counts already.
    #[error("{0} is not a late deposit of this order")]
    NotAcceptable(DepositKey),
    /// The status is not one that this deadline ends.
    #[error("an order that is {0} has no such deadline")]
    NoDeadline(Status),
    /// The deadline is still ahead.
    #[error("not before {0}")]
    NotDue(Timestamp),
    /// A chain's watcher has not reported from after the deadline, so money may be there that nobody has seen.
    #[error("the watcher of {0} has not reported from after the deadline")]
    Unobserved(ChainId),
}
