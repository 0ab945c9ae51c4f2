//! When a version is sent, and whether an answer acknowledges it. Pure.
//!
//! Not here: how it is sent.

use tally_events::{DeliveryAttempted, DeliveryOutcome};
use tally_ports::Answer;
use tally_types::{Span, Timestamp};

/// The pause after each failed attempt; after the last there is none.
const DELAYS: [Span; 13] = {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 3600;
    [
        Span::from_secs(15),
        Span::from_secs(15),
        Span::from_secs(30),
        Span::from_secs(3 * MINUTE),
        Span::from_secs(10 * MINUTE),
        Span::from_secs(20 * MINUTE),
        Span::from_secs(30 * MINUTE),
        Span::from_secs(30 * MINUTE),
        Span::from_secs(HOUR),
        Span::from_secs(3 * HOUR),
        Span::from_secs(3 * HOUR),
        Span::from_secs(6 * HOUR),
        Span::from_secs(6 * HOUR),
    ]
};

/// The first pause, also after what is nobody's fault.
pub(super) const FIRST_DELAY: Span = Span::from_secs(15);

/// Characters of an answer that stand in a reason.
const QUOTED_MAX: usize = 60;

/// What is to be done about a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing: it was acknowledged or given up, or a newer one was sent already.
    Nothing,
    /// Send it.
    Send {
        /// Which attempt at this version.
        attempt: u32,
        /// Not before.
        at: Timestamp,
    },
}

/// The plan for a version after the last attempt at any version.
pub(super) fn plan(version: u32, last: Option<&DeliveryAttempted>, now: Timestamp) -> Plan {
    let Some(last) = last.filter(|last| last.version >= version) else {
        return Plan::Send { attempt: 1, at: now };
    };
    match &last.outcome {
        DeliveryOutcome::Failed { next_at, .. } if last.version == version => {
            Plan::Send { attempt: last.attempt.saturating_add(1), at: *next_at }
        }
        DeliveryOutcome::Failed { .. }
        | DeliveryOutcome::Acknowledged
        | DeliveryOutcome::Abandoned { .. } => Plan::Nothing,
    }
}

/// How an attempt that ended at `now` goes into the log.
pub(super) fn outcome(result: Result<(), String>, attempt: u32, now: Timestamp) -> DeliveryOutcome {
    let index = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    match (result, DELAYS.get(index)) {
        (Ok(()), _) => DeliveryOutcome::Acknowledged,
        (Err(reason), Some(delay)) => DeliveryOutcome::Failed { reason, next_at: now.plus(*delay) },
        (Err(reason), None) => DeliveryOutcome::Abandoned { reason },
    }
}

/// An answer acknowledges by 2xx and a body that trims to `ok` in any case: the published clients answer
/// errors with HTTP 200.
pub(super) fn acknowledged(answer: &Answer) -> Result<(), String> {
    let body = String::from_utf8_lossy(&answer.body);
    let body = body.trim();
    if !(200..300).contains(&answer.status) {
        return Err(format!("answered HTTP {}", answer.status));
    }
    if body.eq_ignore_ascii_case("ok") {
        return Ok(());
    }
    let start: String = body.chars().take(QUOTED_MAX).collect();
    Err(format!("answered {start:?} where \"ok\" was expected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);

    fn last(version: u32, attempt: u32, outcome: DeliveryOutcome) -> DeliveryAttempted {
        let order = "1".parse().unwrap();
        DeliveryAttempted { order, endpoint: "notify".into(), version, attempt, outcome, at: NOW }
    }

    #[test]
    fn the_schedule_in_full() {
        let (mut now, mut attempt, mut delays) = (NOW, 1, Vec::new());
        loop {
            match outcome(Err("no".into()), attempt, now) {
                DeliveryOutcome::Failed { next_at, reason } => {
                    delays.push(next_at.since(now).secs());
                    let last = last(3, attempt, DeliveryOutcome::Failed { reason, next_at });
                    let expected = Plan::Send { attempt: attempt + 1, at: next_at };
                    assert_eq!(plan(3, Some(&last), now), expected);
                    (now, attempt) = (next_at, attempt + 1);
                }
                DeliveryOutcome::Abandoned { .. } => break,
                DeliveryOutcome::Acknowledged => panic!("it was not"),
            }
        }
        let (minute, hour) = (60, 3600);
        assert_eq!(
            delays,
            [
                15,
                15,
                30,
                3 * minute,
                10 * minute,
                20 * minute,
                30 * minute,
                30 * minute,
                hour,
                3 * hour,
                3 * hour,
                6 * hour,
                6 * hour
            ]
        );
        assert_eq!(attempt, 14);
    }

    #[test]
    fn a_newer_version_starts_over_and_an_older_one_is_never_sent() {
        let failed = DeliveryOutcome::Failed { reason: "x".into(), next_at: NOW.plus(Span::from_secs(9)) };
        let gone = DeliveryOutcome::Abandoned { reason: "x".into() };
        let now = Plan::Send { attempt: 1, at: NOW };
        for (name, version, last, expected) in [
            ("never tried", 1, None, now),
            ("acknowledged", 2, Some(last(2, 1, DeliveryOutcome::Acknowledged)), Plan::Nothing),
            ("given up", 2, Some(last(2, 14, gone.clone())), Plan::Nothing),
            ("newer than acknowledged", 3, Some(last(2, 1, DeliveryOutcome::Acknowledged)), now),
            ("newer than given up", 3, Some(last(2, 14, gone)), now),
            ("newer than failed", 3, Some(last(2, 5, failed.clone())), now),
            ("older than failed", 1, Some(last(2, 5, failed)), Plan::Nothing),
        ] {
            assert_eq!(plan(version, last.as_ref(), NOW), expected, "{name}");
        }
    }

    #[test]
    fn only_ok_acknowledges() {
        for (status, body, good) in [
            (200, "ok", true),
            (200, " OK\r\n", true),
            (204, "Ok", true),
            (299, "ok", true),
            (200, "", false),
            (200, "error", false),
            (200, "ok.", false),
            (200, "\"ok\"", false),
            (302, "ok", false),
            (404, "ok", false),
            (500, "ok", false),
        ] {
            let answer = Answer { status, body: body.as_bytes().to_vec(), retry_after: None };
            assert_eq!(acknowledged(&answer).is_ok(), good, "{status} {body:?}");
        }
        let binary = Answer { status: 200, body: vec![0xff; 100_000], retry_after: None };
        assert!(acknowledged(&binary).unwrap_err().len() < 400);
    }
}
