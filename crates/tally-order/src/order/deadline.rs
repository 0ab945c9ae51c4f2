//! Times at which someone must look at an order, and the decisions then due.
//!
//! Not here: who holds that duty, and the append (`tally-projector`).

use tally_events::{
    AcceptedDeposit, LatePolicy, OrderAccepted, OrderExpired, OrderInvalidated, OrderUnwatched,
};
use tally_types::{BaseUnits, ChainId, Position, Span, Timestamp};

use super::Order;
use crate::{QuoteState, Refusal, Status};

/// How long after a deadline a chain's watcher must have looked before nobody can have paid in time.
pub const EXPIRY_GRACE: Span = Span::from_secs(30);

/// How long after an order's last change its addresses leave the watch set.
pub const UNWATCH_AFTER: Span = Span::from_secs(90 * 86_400);

/// What a deadline ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeadlineKind {
    /// Waiting for the price to be covered.
    Expiry,
    /// Waiting for a first confirmation.
    Invalidation,
    /// Watching its addresses.
    Unwatch,
}

/// A time at which someone must look at an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadline {
    /// When.
    pub at: Timestamp,
    /// For what.
    pub kind: DeadlineKind,
    /// The chains whose watchers must have reported from [`EXPIRY_GRACE`] after it.
    pub chains: Vec<ChainId>,
}

/// A watcher's last report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// Its clock.
    pub observed_at: Timestamp,
    /// The log position whose addresses it had matched against.
    pub watched_through: Position,
}

impl Order {
    /// The next time at which someone must look at the order; `None` where nothing is waited for.
    pub fn next_deadline(&self) -> Option<Deadline> {
        match self.status() {
            Status::New | Status::Pending => Some(Deadline {
                at: self.expire_at(),
                kind: DeadlineKind::Expiry,
                chains: self.quoted_chains(),
            }),
            Status::Paid => self.invalid_at().map(|at| Deadline {
                at,
                kind: DeadlineKind::Invalidation,
                chains: self.quoted_chains(),
            }),
            Status::Confirmed => None,
            Status::Complete | Status::Expired | Status::Invalid | Status::Canceled => {
                (!self.unwatched && !self.quotes.is_empty()).then(|| Deadline {
                    at: self.updated_at().plus(UNWATCH_AFTER),
                    kind: DeadlineKind::Unwatch,
                    chains: Vec::new(),
                })
            }
        }
    }

    /// When the order last changed, if nothing is waited for any more and its facts are in the log: then they can be
    /// archived some time later.
    pub fn closed_since(&self) -> Option<Timestamp> {
        let settled =
            matches!(self.status(), Status::Complete | Status::Expired | Status::Invalid | Status::Canceled);
        let waits = self.next_deadline().is_some() || self.awaits_acceptance();
        (settled && !waits && self.own_position() > Position::START).then(|| self.updated_at())
    }

    /// When a paid order becomes invalid for want of a first confirmation; only while it is paid and has none.
    pub(super) fn invalid_at(&self) -> Option<Timestamp> {
        self.unconfirmed_since.map(|since| since.plus(self.policy().first_confirmation))
    }

    fn quoted_chains(&self) -> Vec<ChainId> {
        let mut chains: Vec<ChainId> = self.quotes.iter().map(|quote| quote.terms.chain.clone()).collect();
        chains.sort();
        chains.dedup();
        chains
    }

    /// Whether every quoted chain's watcher has reported from after the deadline, with all addresses known to it.
    fn check_observed(
        &self,
        deadline: &Deadline,
        observed: impl Fn(&ChainId) -> Option<Observation>,
    ) -> Result<(), Refusal> {
        for chain in &deadline.chains {
            let registered = self
                .quotes
                .iter()
                .filter(|quote| quote.terms.chain == *chain)
                .map(QuoteState::position)
                .max();
            let looked = observed(chain).is_some_and(|seen| {
                seen.observed_at >= deadline.at.plus(EXPIRY_GRACE)
                    && registered.is_none_or(|position| seen.watched_through >= position)
            });
            if !looked {
                return Err(Refusal::Unobserved(chain.clone()));
            }
        }
        Ok(())
    }

    fn due(&self, kind: DeadlineKind, now: Timestamp) -> Result<Deadline, Refusal> {
        let deadline = self.next_deadline().filter(|deadline| deadline.kind == kind);
        let deadline = deadline.ok_or(Refusal::NoDeadline(self.status()))?;
        if now < deadline.at { Err(Refusal::NotDue(deadline.at)) } else { Ok(deadline) }
    }

    /// Expires the order. `observed` knows each chain's last report.
    ///
    /// # Errors
    /// [`Refusal::NoDeadline`] when it is not waiting for money, [`Refusal::NotDue`] before its time, and
    /// [`Refusal::Unobserved`] while a quoted chain's watcher has not looked from after it: a watcher that is
    /// down expires nobody.
    pub fn expire(
        &self,
        now: Timestamp,
        observed: impl Fn(&ChainId) -> Option<Observation>,
    ) -> Result<OrderExpired, Refusal> {
        let deadline = self.due(DeadlineKind::Expiry, now)?;
        self.check_observed(&deadline, observed)?;
        Ok(OrderExpired { order: self.id().clone(), deadline: deadline.at })
    }

    /// Declares a paid order invalid for want of a confirmation.
    ///
    /// # Errors
    /// As [`Order::expire`].
    pub fn invalidate(
        &self,
        now: Timestamp,
        observed: impl Fn(&ChainId) -> Option<Observation>,
    ) -> Result<OrderInvalidated, Refusal> {
        let deadline = self.due(DeadlineKind::Invalidation, now)?;
        self.check_observed(&deadline, observed)?;
        Ok(OrderInvalidated { order: self.id().clone(), deadline: deadline.at })
    }

    /// Takes the order's addresses out of the watch set.
    ///
    /// # Errors
    /// [`Refusal::NoDeadline`] when it is not settled, or unwatched before; [`Refusal::NotDue`] before its time.
    pub fn unwatch(&self, now: Timestamp) -> Result<OrderUnwatched, Refusal> {
        self.due(DeadlineKind::Unwatch, now)?;
        let scripts =
            self.quotes.iter().map(|quote| (quote.terms.chain.clone(), quote.terms.script.clone())).collect();
        Ok(OrderUnwatched { order: self.id().clone(), scripts })
    }

    /// Whether the order's own policy has late money to accept: by `accept` at its quote's rate, by `reprice` at
    /// today's.
    pub fn awaits_acceptance(&self) -> bool {
        self.policy().late != LatePolicy::Hold && !self.policy_deposits().is_empty()
    }

    /// Late deposits that the policy is to accept: none once the price is covered without them.
    fn policy_deposits(&self) -> Vec<(AcceptedDeposit, u32)> {
        let accept = |deposit: &crate::DepositState| {
            (AcceptedDeposit { deposit: deposit.key().clone(), full: None }, deposit.quote())
        };
        match self.status() {
            Status::Pending | Status::Expired => self.late_deposits().map(accept).collect(),
            Status::Invalid if self.is_covered_by_confirmed() => {
                self.deposits.iter().filter(|deposit| self.counts(deposit.key())).map(accept).collect()
            }
            Status::New
            | Status::Paid
            | Status::Confirmed
            | Status::Invalid
            | Status::Complete
            | Status::Canceled => Vec::new(),
        }
    }

    /// Accepts late money as the order's policy says. `reprice` answers what the whole price costs now in a
    /// quote's currency, in base units.
    ///
    /// # Errors
    /// [`Refusal::NothingToAccept`] when the policy holds late money for a person, there is none, or `reprice`
    /// has no answer yet.
    pub fn accept_by_policy(
        &self,
        reprice: impl Fn(&QuoteState) -> Option<BaseUnits>,
    ) -> Result<OrderAccepted, Refusal> {
        let late = self.policy().late;
        let mut deposits = Vec::new();
        for (mut accepted, quote) in self.policy_deposits() {
            match late {
                LatePolicy::Hold => return Err(Refusal::NothingToAccept),
                LatePolicy::Accept => deposits.push(accepted),
                LatePolicy::Reprice => {
                    accepted.full = self.quote_by_number(quote).and_then(&reprice);
                    if accepted.full.is_some() {
                        deposits.push(accepted);
                    }
                }
            }
        }
        if deposits.is_empty() {
            return Err(Refusal::NothingToAccept);
        }
        Ok(OrderAccepted { order: self.id().clone(), deposits, by: "policy".to_owned() })
    }
}
