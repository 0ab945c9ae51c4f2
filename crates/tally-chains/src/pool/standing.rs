//! How much a node is trusted.

use std::time::Duration;

use tokio::time::Instant;

use crate::fault::FaultKind;

/// The longest rest.
const REST_MAX: Duration = Duration::from_secs(300);
/// A rest is doubled with each fault in a row, so often.
const DOUBLED_MAX: u32 = 4;

/// What is known of a node's conduct.
#[derive(Default)]
pub(super) struct Standing {
    /// It has proved its chain and branch, and has not failed since.
    admitted: bool,
    rests: Option<Rest>,
    /// Faults in a row.
    streak: u32,
}

struct Rest {
    until: Instant,
    kind: FaultKind,
}

/// Who is asked before whom.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    grave: bool,
    /// Until when it rests.
    until: Option<Instant>,
}

impl Rank {
    pub(super) const fn rests(self) -> bool {
        self.until.is_some()
    }

    pub(super) const fn is_grave(self) -> bool {
        self.grave
    }
}

impl Standing {
    pub(super) const fn is_admitted(&self) -> bool {
        self.admitted
    }

    pub(super) const fn admit(&mut self) {
        self.admitted = true;
    }

    pub(super) fn rank(&self, now: Instant) -> Rank {
        match &self.rests {
            Some(rest) if now < rest.until => Rank { grave: rest.kind.is_grave(), until: Some(rest.until) },
            _ => Rank { grave: false, until: None },
        }
    }

    /// It answered, and no fault came between.
    pub(super) fn answered(&mut self) {
        if self.admitted {
            (self.rests, self.streak) = (None, 0);
        }
    }

    /// It failed; true if that is news.
    pub(super) fn failed(&mut self, kind: FaultKind, now: Instant) -> bool {
        let was = self.rests.as_ref().filter(|rest| now < rest.until);
        let is_news = was.is_none_or(|rest| rest.kind != kind);
        // A worse fault is not forgotten for a lesser one.
        let graver = was.is_some_and(|rest| rest.kind.is_grave() && !kind.is_grave());
        let factor = 1_u32 << self.streak.min(DOUBLED_MAX);
        let until = now + kind.rest().saturating_mul(factor).min(REST_MAX);
        self.streak = self.streak.saturating_add(1);
        self.admitted = false;
        if !graver {
            self.rests = Some(Rest { until, kind });
        }
        is_news
    }
}
