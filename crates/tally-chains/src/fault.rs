//! What an endpoint did wrong: told to the caller as a `PortError`, and to the pool as the reason to leave the
//! endpoint alone for a while.

use std::time::Duration;

use tally_ports::PortError;

/// What an endpoint did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// No answer, or none in time.
    Unreachable,
    /// It has more to do than it can.
    Busy,
    /// It answered with an error of its own.
    Error,
    /// It does not have what it must have: a null is no "there is none".
    Absent,
    /// Its answer ends in the middle.
    Truncated,
    /// Its answer is of another form.
    Malformed,
    /// Its tip is behind what was seen.
    Lagging,
    /// It has thrown the block away.
    Pruned,
    /// It refuses user and password.
    Refused,
    /// It lacks what the configuration needs.
    Unable,
    /// It is of another chain.
    Foreign,
    /// Its answer contradicts itself or the question: another block's hash, receipts or transactions.
    Contradiction,
    /// Its branch does not lead to what was seen.
    Unconnected,
    /// Not the endpoint's: asked elsewhere it would fail the same way.
    Internal,
}

impl FaultKind {
    /// The label in metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Busy => "busy",
            Self::Error => "error",
            Self::Absent => "absent",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::Lagging => "lagging",
            Self::Pruned => "pruned",
            Self::Refused => "refused",
            Self::Unable => "unable",
            Self::Foreign => "foreign",
            Self::Contradiction => "contradiction",
            Self::Unconnected => "unconnected",
            Self::Internal => "internal",
        }
    }

    /// The kind in `tally_incidents_total`, where a person must look.
    pub(crate) const fn incident(self) -> Option<&'static str> {
        match self {
            Self::Pruned => Some("endpoint_pruned"),
            Self::Refused => Some("endpoint_refused"),
            Self::Unable => Some("endpoint_unable"),
            Self::Foreign => Some("endpoint_foreign"),
            Self::Contradiction => Some("endpoint_lies"),
            Self::Unconnected => Some("endpoint_branch"),
            Self::Unreachable
            | Self::Busy
            | Self::Error
            | Self::Absent
            | Self::Truncated
            | Self::Malformed
            | Self::Lagging
            | Self::Internal => None,
        }
    }

    /// Whether the endpoint is not asked even if the others fail, unless all are like that.
    pub(crate) const fn is_grave(self) -> bool {
        matches!(self, Self::Foreign | Self::Contradiction | Self::Unconnected)
    }

    /// How long the endpoint is left alone after its first fault of this kind.
    pub(crate) const fn rest(self) -> Duration {
        Duration::from_secs(match self {
            Self::Internal => 0,
            Self::Busy => 2,
            Self::Unreachable | Self::Error | Self::Absent | Self::Malformed => 5,
            Self::Truncated | Self::Lagging => 30,
            Self::Pruned | Self::Refused | Self::Unable => 60,
            Self::Foreign | Self::Contradiction | Self::Unconnected => 300,
        })
    }

    /// Whether the same call may go through later, with nothing changed by hand.
    const fn may_pass(self) -> bool {
        !matches!(self, Self::Pruned | Self::Refused | Self::Unable | Self::Foreign)
    }
}

/// An answer that is none.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) error: PortError,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        let error = if kind.may_pass() { PortError::transient } else { PortError::persistent };
        Self { kind, error: error(message.into()) }
    }

    /// The same with its cause.
    pub(crate) fn because(self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { kind: self.kind, error: self.error.because(source) }
    }
}

impl From<Fault> for PortError {
    fn from(fault: Fault) -> Self {
        fault.error
    }
}
