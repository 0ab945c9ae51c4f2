//! How much a node is trusted.

use std::time::Duration;

use tokio::time::Instant;

use crate::fault::FaultKind;

/// The longest rest.
const REST_MAX: Duration = Duration::from_secs(300);
/// The same fault of a node that comes and goes is told of once in so long.
const TOLD_EVERY: Duration = Duration::from_secs(60);
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
    /// The fault that was told of last, and when.
    told: Option<(FaultKind, Instant)>,
    /// That it failed was told, and not yet that it answers again.
    is_told_failing: bool,
}

/// What is new about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News {
    /// It is one more, and not the last one going on.
    pub(super) is_fault: bool,
    /// It is to be told of.
    pub(super) is_told: bool,
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

    /// It answered, and no fault came between; true if that is to be told of.
    pub(super) fn answered(&mut self) -> bool {
        if !self.admitted {
            return false;
        }
        (self.rests, self.streak) = (None, 0);
        std::mem::take(&mut self.is_told_failing)
    }

    /// It failed.
    pub(super) fn failed(&mut self, kind: FaultKind, now: Instant) -> News {
        let was = self.rests.as_ref().filter(|rest| now < rest.until);
        let is_fault = was.is_none_or(|rest| rest.kind != kind);
        // A worse fault is not forgotten for a lesser one.
        let graver = was.is_some_and(|rest| rest.kind.is_grave() && !kind.is_grave());
        let factor = 1_u32 << self.streak.min(DOUBLED_MAX);
        let until = now + kind.rest().saturating_mul(factor).min(REST_MAX);
        self.streak = self.streak.saturating_add(1);
        self.admitted = false;
        if !graver {
            self.rests = Some(Rest { until, kind });
        }
        let is_new = |(told, at): (FaultKind, Instant)| told != kind || now.duration_since(at) >= TOLD_EVERY;
        let is_told = is_fault && self.told.is_none_or(is_new);
        if is_told {
            (self.told, self.is_told_failing) = (Some((kind, now)), true);
        }
        News { is_fault, is_told }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that fails at these seconds, and answers at those of `well`; answers when it was told of.
    fn told(failing: &[u64], well: &[u64]) -> String {
        let (mut standing, begin) = (Standing::default(), Instant::now());
        let mut said = Vec::new();
        for second in 0..400 {
            if well.contains(&second) {
                standing.admit();
                if standing.answered() {
                    said.push(format!("well {second}"));
                }
            }
            if failing.contains(&second)
                && standing.failed(FaultKind::Unreachable, begin + Duration::from_secs(second)).is_told
            {
                said.push(format!("failed {second}"));
            }
        }
        said.join(", ")
    }

    #[test]
    fn a_fault_is_told_of_once_and_so_is_its_end() {
        let from_ten: Vec<u64> = (10..300).collect();
        let even: Vec<u64> = (0..100).step_by(2).collect();
        let odd: Vec<u64> = (1..100).step_by(2).collect();
        for (name, failing, well, expected) in [
            ("never", vec![], vec![1, 2], ""),
            ("down for long", from_ten, vec![1, 2, 300], "failed 10, well 300"),
            ("comes and goes", even, odd, "failed 0, well 1, failed 60, well 61"),
        ] {
            assert_eq!(told(&failing, &well), expected, "{name}");
        }
    }
}
