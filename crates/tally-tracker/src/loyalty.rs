//! When to leave the log's branch for the node's.
//!
//! A node that has shown the log's branch as its own is believed at once when it changes its mind. One that
//! has not (after a start, or a change of endpoint) may be on a stale branch or behind: its branch must stand for
//! more work, or the log's tip must have been absent from it for a while.
//!
//! Not here: finding the fork (`branch`).

use tally_types::{Span, Timestamp};

/// How long the log's tip must be absent from a new node's branch before a branch without more work wins.
pub const ABSENCE_MAX: Span = Span::from_secs(600);

/// What the node that is asked now has shown so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loyalty {
    shown: bool,
    absent_since: Option<Timestamp>,
}

impl Loyalty {
    /// Another node answers from now on, or another writer asks.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// The node has the log's tip on its branch.
    pub fn agrees(&mut self) {
        *self = Self { shown: true, absent_since: None };
    }

    /// Whether the node is believed whatever branch it names.
    pub const fn is_shown(&self) -> bool {
        self.shown
    }

    /// The node's branch forks off under the log's tip, and stands for more work or not: whether to follow it.
    pub fn may_leave(&mut self, has_more_work: bool, now: Timestamp) -> bool {
        let since = *self.absent_since.get_or_insert(now);
        self.shown || has_more_work || now.since(since) >= ABSENCE_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_node_must_have_more_work_or_patience() {
        let at = Timestamp::from_secs;
        let mut node = Loyalty::default();
        assert!(!node.may_leave(false, at(1000)));
        assert!(!node.may_leave(false, at(1599)));
        assert!(node.may_leave(true, at(1599)));
        assert!(node.may_leave(false, at(1600)), "absent for 10 minutes");
        node.agrees();
        assert!(node.is_shown() && node.may_leave(false, at(1601)), "it had our tip and dropped it");
        node.forget();
        assert!(!node.may_leave(false, at(1602)));
    }
}
