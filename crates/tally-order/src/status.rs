//! The words for where an order stands, and the set of what is unusual about it.
//!
//! Not here: when which holds (`order/standing.rs`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Created; nobody has asked for an address yet.
    New,
    /// An address was shown; not covered yet.
    Pending,
    /// Covered, counting the mempool.
    Paid,
    /// Covered by deposits that reached the first count of confirmations.
    Confirmed,
    /// Covered by deposits that reached the last count. Final.
    Complete,
    /// Time ran out before it was covered.
    Expired,
    /// Covered, but not confirmed in its time.
    Invalid,
    /// The merchant called it off. Final.
    Canceled,
}

impl Status {
    /// Every status, in the order of an order's life.
    pub const ALL: [Self; 8] = [
        Self::New,
        Self::Pending,
        Self::Paid,
        Self::Confirmed,
        Self::Complete,
        Self::Expired,
        Self::Invalid,
        Self::Canceled,
    ];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Pending => "pending",
            Self::Paid => "paid",
            Self::Confirmed => "confirmed",
            Self::Complete => "complete",
            Self::Expired => "expired",
            Self::Invalid => "invalid",
            Self::Canceled => "canceled",
        }
    }

    /// Whether nothing changes it any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Complete | Self::Canceled)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| UnknownStatus(text.chars().take(40).collect()))
    }
}

/// A text that names no status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a status of an order")]
pub struct UnknownStatus(String);

/// Something unusual about an order. Where one word must do, the first in this order is it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exception {
    /// A reorg took a deposit's block, and it is in no block again yet.
    Reorged,
    /// A deposit was replaced or double-spent, and its value is missing.
    Replaced,
    /// Money came too late and counts for nothing yet.
    PaidLate,
    /// More came than was asked for.
    Overpaid,
    /// Time ran out with a part of the price paid.
    Underpaid,
}

impl Exception {
    /// Every exception, the most important first.
    pub const ALL: [Self; 5] =
        [Self::Reorged, Self::Replaced, Self::PaidLate, Self::Overpaid, Self::Underpaid];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reorged => "reorged",
            Self::Replaced => "replaced",
            Self::PaidLate => "paid_late",
            Self::Overpaid => "overpaid",
            Self::Underpaid => "underpaid",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Reorged => 1,
            Self::Replaced => 2,
            Self::PaidLate => 4,
            Self::Overpaid => 8,
            Self::Underpaid => 16,
        }
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of exceptions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Exceptions(u8);

impl Exceptions {
    /// Nothing unusual.
    pub const NONE: Self = Self(0);

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `exception` is among them.
    pub const fn contains(self, exception: Exception) -> bool {
        self.0 & exception.bit() != 0
    }

    /// Those present, the most important first.
    pub fn iter(self) -> impl Iterator<Item = Exception> {
        Exception::ALL.into_iter().filter(move |exception| self.contains(*exception))
    }

    /// The first present.
    pub fn first(self) -> Option<Exception> {
        self.iter().next()
    }

    /// One word for all: the first present, else `none`.
    pub fn word(self) -> &'static str {
        self.first().map_or("none", Exception::as_str)
    }
}

impl FromIterator<Exception> for Exceptions {
    fn from_iter<I: IntoIterator<Item = Exception>>(exceptions: I) -> Self {
        Self(exceptions.into_iter().fold(0, |bits, exception| bits | exception.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_is_the_first_of_the_set() {
        let set: Exceptions = [Exception::Underpaid, Exception::PaidLate].into_iter().collect();
        assert_eq!((set.word(), Exceptions::NONE.word()), ("paid_late", "none"));
        assert_eq!(set.iter().map(Exception::as_str).collect::<Vec<_>>(), ["paid_late", "underpaid"]);
    }

    #[test]
    fn names_of_statuses_round_trip() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse::<Status>().unwrap(), status);
        }
        assert!("paidd".parse::<Status>().is_err());
    }
}
