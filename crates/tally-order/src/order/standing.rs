//! What follows from what was folded: coverage, status, exceptions, versions.
//!
//! Not here: folding itself (`fold`).

use rust_decimal::Decimal;
use tally_events::Price;
use tally_types::{BaseUnits, Currency, DepositKey, Position, Timestamp};

use super::{Order, Received, Version};
use crate::fraction::Fraction;
use crate::{DepositState, Exception, Exceptions, QuoteState, Stage, Status};

/// Parts of the price that are covered.
struct Coverage {
    /// Counting the mempool.
    seen: Fraction,
    /// By deposits with the first count of confirmations.
    confirmed: Fraction,
    /// By deposits with the last count.
    complete: Fraction,
}

impl Order {
    /// Computes what follows from what was folded, and makes a new version if that changed.
    pub(super) fn refresh(&mut self, at: Timestamp, position: Position) {
        let mut coverage = self.coverage();
        if self.is_thrown_back(&coverage, at) {
            self.extend(at);
            coverage = self.coverage();
        }
        let status = self.status_by(&coverage);
        self.completed |= status == Status::Complete;
        let exceptions = self.exceptions_by(&coverage, status);
        let received = self.all_received();
        if status != Status::Paid || self.is_covered_in_blocks() {
            self.unconfirmed_since = None;
        } else if self.unconfirmed_since.is_none() {
            self.unconfirmed_since = Some(at);
        }
        let now = &self.current;
        if (status, exceptions, &received) != (now.status, now.exceptions, &now.received) {
            let next = Version {
                number: now.number.saturating_add(1),
                at,
                position,
                status,
                exceptions,
                received,
                paid_value: self.value_of_all(),
                quotes: u32::try_from(self.quotes.len()).unwrap_or(u32::MAX),
            };
            self.past.push(std::mem::replace(&mut self.current, next));
        } else {
            self.current.quotes = u32::try_from(self.quotes.len()).unwrap_or(u32::MAX);
        }
    }

    /// Whether a reorg took away what covered the order when its time ran out.
    fn is_thrown_back(&self, coverage: &Coverage, at: Timestamp) -> bool {
        matches!(self.status(), Status::Paid | Status::Confirmed)
            && !self.canceled
            && !self.covers(&coverage.seen)
            && at >= self.expire_at()
            && self.deposits.iter().any(|deposit| deposit.reorged && !deposit.is_present())
    }

    /// Gives the quotes that a reorg took money from one more quote length.
    fn extend(&mut self, at: Timestamp) {
        let lost: Vec<u32> = self
            .deposits
            .iter()
            .filter(|deposit| deposit.reorged && !deposit.is_present())
            .map(|deposit| deposit.quote)
            .collect();
        for quote in self.quotes.iter_mut().filter(|quote| lost.contains(&quote.terms.quote)) {
            quote.extended_until = quote.extended_until.max(Some(at.plus(quote.terms.policy.quote)));
        }
    }

    fn status_by(&self, coverage: &Coverage) -> Status {
        if self.completed {
            Status::Complete
        } else if self.canceled {
            Status::Canceled
        } else if self.invalid {
            Status::Invalid
        } else if self.covers(&coverage.complete) {
            Status::Complete
        } else if self.covers(&coverage.confirmed) {
            Status::Confirmed
        } else if self.covers(&coverage.seen) {
            Status::Paid
        } else if self.expired.is_some_and(|deadline| deadline >= self.expire_at()) {
            Status::Expired
        } else if self.quotes.is_empty() {
            Status::New
        } else {
            Status::Pending
        }
    }

    fn exceptions_by(&self, coverage: &Coverage, status: Status) -> Exceptions {
        let covered = self.covers(&coverage.seen);
        let reorged = |deposit: &DepositState| deposit.reorged && (deposit.is_present() || !covered);
        let late = match status {
            Status::Canceled => self.present().next().is_some(),
            Status::Invalid => self.covers(&coverage.confirmed) || self.late_deposits().next().is_some(),
            Status::New
            | Status::Pending
            | Status::Paid
            | Status::Confirmed
            | Status::Complete
            | Status::Expired => self.late_deposits().next().is_some(),
        };
        Exception::ALL
            .into_iter()
            .filter(|exception| match exception {
                Exception::Reorged => self.deposits.iter().any(reorged),
                Exception::Replaced => !covered && self.has_lost_by_replacement(),
                Exception::PaidLate => late,
                Exception::Overpaid => self.is_overpaid(&coverage.seen),
                Exception::Underpaid => status == Status::Expired && !coverage.seen.is_zero(),
            })
            .collect()
    }

    fn coverage(&self) -> Coverage {
        let mut coverage =
            Coverage { seen: Fraction::zero(), confirmed: Fraction::zero(), complete: Fraction::zero() };
        for (deposit, quote) in self.counting() {
            let part = self.part(deposit, quote);
            let depth = self.deposit_confirmations(deposit);
            if depth >= u64::from(quote.complete_count()) {
                coverage.complete = coverage.complete.plus(&part);
            }
            if depth >= u64::from(quote.confirmed_count()) {
                coverage.confirmed = coverage.confirmed.plus(&part);
            }
            coverage.seen = coverage.seen.plus(&part);
        }
        coverage
    }

    /// The part of the price that a deposit pays, at the rate that holds for it.
    fn part(&self, deposit: &DepositState, quote: &QuoteState) -> Fraction {
        let accepted = self.acceptance(&deposit.key).and_then(|accepted| accepted.full);
        Fraction::of(deposit.amount, accepted.unwrap_or(quote.terms.full))
    }

    /// Deposits that are there, in the currency that was asked for, with their quotes.
    fn present(&self) -> impl Iterator<Item = (&DepositState, &QuoteState)> {
        self.deposits.iter().filter(|deposit| deposit.is_present()).filter_map(|deposit| {
            let quote = self.quote_by_number(deposit.quote)?;
            (deposit.currency == quote.terms.currency).then_some((deposit, quote))
        })
    }

    /// Of those, the ones that count towards the price: in time, or accepted.
    fn counting(&self) -> impl Iterator<Item = (&DepositState, &QuoteState)> {
        self.present().filter(|(deposit, quote)| !self.canceled && self.is_timely(deposit, quote))
    }

    fn is_timely(&self, deposit: &DepositState, quote: &QuoteState) -> bool {
        deposit.first_seen < quote.expires_at() || self.acceptance(&deposit.key).is_some()
    }

    /// Deposits that are there, came too late for their quote, and were not accepted.
    pub fn late_deposits(&self) -> impl Iterator<Item = &DepositState> {
        self.present().filter(|(deposit, quote)| !self.is_timely(deposit, quote)).map(|(deposit, _)| deposit)
    }

    /// Whether a deposit counts towards the price.
    pub fn counts(&self, deposit: &DepositKey) -> bool {
        self.counting().any(|(counting, _)| counting.key == *deposit)
    }

    /// Whether a replaced deposit's value is missing: what came in its place pays less, or someone else.
    fn has_lost_by_replacement(&self) -> bool {
        self.deposits
            .iter()
            .filter(|deposit| deposit.replaced_by.is_some() && !deposit.is_present())
            .any(|deposit| self.paid_by_successors(deposit, self.deposits.len()) < deposit.amount)
    }

    fn paid_by_successors(&self, of: &DepositState, at_most: usize) -> BaseUnits {
        let Some(at_most) = at_most.checked_sub(1) else {
            return BaseUnits::ZERO;
        };
        self.deposits
            .iter()
            .filter(|next| next.chain == of.chain && next.key != of.key)
            .filter(|next| of.replaced_by == Some(next.key.txid) || next.replaces.as_ref() == Some(&of.key))
            .map(|next| if next.is_present() { next.amount } else { self.paid_by_successors(next, at_most) })
            .fold(BaseUnits::ZERO, BaseUnits::saturating_add)
    }

    /// The price in whole units of its currency.
    fn price_value(&self) -> Fraction {
        match &self.created.price {
            Price::In { amount, .. } => Fraction::from_decimal(amount.decimal()),
            Price::Exactly { units, .. } => {
                Fraction::from_units(*units, self.latest_quote().map_or(0, |quote| quote.terms.decimals))
            }
        }
    }

    /// The part of the price that may be missing.
    fn tolerance(&self) -> Fraction {
        let policy = self.policy();
        let percent =
            Fraction::from_decimal(policy.tolerance_percent).over(&Fraction::from_decimal(100.into()));
        if policy.tolerance_absolute.is_zero() {
            return percent;
        }
        percent.max(Fraction::from_decimal(policy.tolerance_absolute).over(&self.price_value()))
    }

    fn covers(&self, part: &Fraction) -> bool {
        !part.is_zero() && (*part >= Fraction::one() || *part >= Fraction::one().minus(&self.tolerance()))
    }

    fn is_overpaid(&self, part: &Fraction) -> bool {
        let unit = |(_, quote): (&DepositState, &QuoteState)| {
            Fraction::of(quote.terms.payable_unit, quote.terms.full)
        };
        *part > Fraction::one() && {
            let step = self.counting().map(unit).max().unwrap_or_else(Fraction::zero);
            part.minus(&Fraction::one()) > step.max(self.tolerance())
        }
    }

    fn all_received(&self) -> Vec<Received> {
        let mut all: Vec<Received> = Vec::new();
        for (deposit, quote) in self.present() {
            let like = |got: &&mut Received| got.chain == deposit.chain && got.currency == deposit.currency;
            match all.iter_mut().find(like) {
                Some(got) => got.amount = got.amount.saturating_add(deposit.amount),
                None => {
                    all.reserve_exact(1);
                    all.push(Received {
                        chain: deposit.chain.clone(),
                        currency: deposit.currency.clone(),
                        decimals: quote.terms.decimals,
                        amount: deposit.amount,
                    });
                }
            }
        }
        all.sort_by(|a, b| (&a.chain, &a.currency).cmp(&(&b.chain, &b.currency)));
        all
    }

    fn value_of_all(&self) -> Decimal {
        let parts = self.present().map(|(deposit, quote)| self.part(deposit, quote));
        let sum = parts.fold(Fraction::zero(), |sum, part| sum.plus(&part));
        let scale = match &self.created.price {
            Price::In { amount, .. } => amount.decimal().normalize().scale().max(8),
            Price::Exactly { .. } => self.latest_quote().map_or(0, |quote| quote.terms.decimals.into()),
        };
        sum.times(&self.price_value()).to_decimal(scale)
    }

    /// Whether the price is covered, counting the mempool.
    pub fn is_covered(&self) -> bool {
        self.covers(&self.coverage().seen)
    }

    /// Whether deposits with a first confirmation cover the price, be that too few for `confirmed`.
    fn is_covered_in_blocks(&self) -> bool {
        let mined = self.counting().filter(|(deposit, _)| matches!(deposit.stage(), Stage::Mined(_)));
        let parts = mined.map(|(deposit, quote)| self.part(deposit, quote));
        self.covers(&parts.fold(Fraction::zero(), |sum, part| sum.plus(&part)))
    }

    pub(super) fn is_covered_by_confirmed(&self) -> bool {
        self.covers(&self.coverage().confirmed)
    }

    /// What is still to be paid of a whole price of `full`, rounded up to the payable `unit`; `None` past 2^128.
    /// All of it, to the unit, while nothing counts.
    pub(super) fn remainder_of(&self, full: BaseUnits, unit: BaseUnits) -> Option<BaseUnits> {
        let left = Fraction::one().minus(&self.coverage().seen);
        if left == Fraction::one() {
            return Some(full);
        }
        left.share_of(full, unit).map(|due| due.min(full))
    }

    /// What is still to be paid in a quote's currency to cover the price; nothing once it is covered.
    pub fn remaining_due(&self, quote: &QuoteState) -> BaseUnits {
        if self.is_covered() {
            return BaseUnits::ZERO;
        }
        self.remainder_of(quote.terms.full, quote.terms.payable_unit).unwrap_or(quote.terms.full)
    }

    /// Confirmations of the order: the least among the deposits that cover the price, the deepest taken first;
    /// none while it is not covered.
    pub fn confirmations(&self) -> u64 {
        let mut parts: Vec<(u64, Fraction)> = self
            .counting()
            .map(|(deposit, quote)| (self.deposit_confirmations(deposit), self.part(deposit, quote)))
            .collect();
        parts.sort_by_key(|(depth, _)| std::cmp::Reverse(*depth));
        let mut sum = Fraction::zero();
        for (depth, part) in &parts {
            sum = sum.plus(part);
            if self.covers(&sum) {
                return *depth;
            }
        }
        0
    }

    /// What was received in a currency, in base units, over all chains that have it.
    pub fn received_in(&self, currency: &Currency) -> BaseUnits {
        self.received()
            .iter()
            .filter(|got| got.currency == *currency)
            .fold(BaseUnits::ZERO, |sum, got| sum.saturating_add(got.amount))
    }
}
