//! Commands of merchants, payers and persons: each decides a fact or refuses.
//!
//! Not here: what duties decide (`deadline`).

use tally_events::{
    AcceptedDeposit, Counts, OrderAccepted, OrderCanceled, OrderCreated, OrderQuoted, Policy, Price, RateLock,
};
use tally_types::{
    BaseUnits, ChainId, Currency, DepositKey, Fingerprint, Height, Script, Timestamp, WalletId,
};

use super::Order;
use crate::{Refusal, Status};

/// How many quotes an order may have: a bound on the addresses a payer can make us watch.
pub const MAX_QUOTES: usize = 50;

/// What a new quote is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuoteRequest {
    /// The currency to pay in.
    pub currency: Currency,
    /// The chain to pay on.
    pub chain: ChainId,
    /// Fraction digits between the whole coin and its base unit.
    pub decimals: u8,
    /// The smallest step the payer can be asked for, in base units.
    pub payable_unit: BaseUnits,
    /// What the whole price costs in this currency at this rate.
    pub full: BaseUnits,
    /// The least amount due, in base units: the coin's dust.
    pub minimum: BaseUnits,
    /// The locked rate; none where the price is exact.
    pub rate: Option<RateLock>,
    /// Where to pay.
    pub script: Script,
    /// The same as addresses, the usual form first.
    pub addresses: Vec<String>,
    /// The wallet the address came from.
    pub wallet: WalletId,
    /// The extended public key the address came from.
    pub key: Fingerprint,
    /// The address's index under that key.
    pub index: u32,
    /// No payment to the address can be below this height.
    pub birth_height: Height,
    /// The confirmations that count.
    pub counts: Counts,
    /// The merchant's rules as of now.
    pub policy: Policy,
}

impl Order {
    /// Makes an order.
    ///
    /// # Errors
    /// [`Refusal::NoPrice`] for an exact price of zero units.
    pub fn create(order: OrderCreated) -> Result<OrderCreated, Refusal> {
        match &order.price {
            Price::Exactly { units, .. } if units.is_zero() => Err(Refusal::NoPrice),
            Price::Exactly { .. } | Price::In { .. } => Ok(order),
        }
    }

    /// Whether a request to create says the same as the one this order was made by: equal price by value, equal
    /// currency, title, URLs, attach and named wallet.
    pub fn is_same_request(&self, other: &OrderCreated) -> bool {
        let own = &self.created;
        own.merchant == other.merchant
            && own.face == other.face
            && own.own_id == other.own_id
            && own.price == other.price
            && own.title == other.title
            && own.attach == other.attach
            && own.notify_url == other.notify_url
            && own.callback_url == other.callback_url
            && own.wallet == other.wallet
    }

    /// Whether a new quote in a currency may be made now: asked before an address is derived and a rate locked.
    ///
    /// # Errors
    /// [`Refusal::Final`], [`Refusal::AlreadyPaid`], [`Refusal::Expired`], [`Refusal::Existing`] with the number
    /// of the live quote to answer again, [`Refusal::TooManyQuotes`].
    pub fn check_quotable(&self, currency: &Currency, now: Timestamp) -> Result<(), Refusal> {
        match self.status() {
            status @ (Status::Complete | Status::Canceled | Status::Invalid) => {
                return Err(Refusal::Final(status));
            }
            status @ (Status::Paid | Status::Confirmed) => return Err(Refusal::AlreadyPaid(status)),
            Status::New | Status::Pending | Status::Expired => {}
        }
        if let Some(live) = self.live_quote(currency, now)
            && self.status() == Status::Pending
        {
            return Err(Refusal::Existing(live.terms.quote));
        }
        let ended = self.status() == Status::Expired || now >= self.expire_at();
        if ended && !self.may_reopen(now) {
            return Err(Refusal::Expired);
        }
        if self.quotes.len() >= MAX_QUOTES {
            return Err(Refusal::TooManyQuotes(MAX_QUOTES));
        }
        Ok(())
    }

    /// Whether an order whose time has run out may be checked out again.
    fn may_reopen(&self, now: Timestamp) -> bool {
        self.policy().reopen && self.received().is_empty() && now < self.new_order_limit()
    }

    /// Quotes the order: for the whole price, or for what is left of it after a partial payment.
    ///
    /// # Errors
    /// As [`Order::check_quotable`], and [`Refusal::Dust`] or [`Refusal::TooLarge`] by the amount due.
    pub fn quote(&self, request: QuoteRequest, now: Timestamp) -> Result<OrderQuoted, Refusal> {
        self.check_quotable(&request.currency, now)?;
        let due = self.remainder_of(request.full, request.payable_unit).ok_or(Refusal::TooLarge)?;
        let minimum = request.minimum.max(BaseUnits::from_units(1));
        if due < minimum {
            return Err(Refusal::Dust { due, minimum });
        }
        let expires_at = now.plus(request.policy.quote);
        Ok(OrderQuoted {
            order: self.id().clone(),
            quote: self.next_quote(),
            currency: request.currency,
            chain: request.chain,
            decimals: request.decimals,
            payable_unit: request.payable_unit,
            full: request.full,
            due,
            rate: request.rate,
            script: request.script,
            addresses: request.addresses,
            wallet: request.wallet,
            key: request.key,
            index: request.index,
            birth_height: request.birth_height,
            counts: request.counts,
            policy: request.policy,
            quoted_at: now,
            expires_at,
        })
    }

    /// Calls the order off.
    ///
    /// # Errors
    /// [`Refusal::Final`] when it is final already, [`Refusal::NotCancelable`] unless it is `new`, or `pending`
    /// with nothing received.
    pub fn cancel(&self) -> Result<OrderCanceled, Refusal> {
        match self.status() {
            Status::New => {}
            Status::Pending if self.received().is_empty() => {}
            status @ (Status::Complete | Status::Canceled) => return Err(Refusal::Final(status)),
            status @ (Status::Pending
            | Status::Paid
            | Status::Confirmed
            | Status::Expired
            | Status::Invalid) => return Err(Refusal::NotCancelable(status)),
        }
        Ok(OrderCanceled { order: self.id().clone() })
    }

    /// Deposits that a person may accept: late ones, and those of an order that became invalid.
    pub fn acceptable(&self) -> Vec<DepositKey> {
        if self.status().is_final() {
            return Vec::new();
        }
        let late = self.late_deposits().map(|deposit| deposit.key().clone());
        let held = self.deposits.iter().map(|deposit| deposit.key().clone()).filter(|key| self.counts(key));
        if self.status() == Status::Invalid { late.chain(held).collect() } else { late.collect() }
    }

    /// Accepts deposits, each at its own quote's rate or at the `full` it names, in the name of `by`.
    ///
    /// # Errors
    /// [`Refusal::Final`] when the order is final, [`Refusal::NothingToAccept`] for an empty list,
    /// [`Refusal::NotAcceptable`] for a deposit that is not among [`Order::acceptable`].
    pub fn accept(&self, deposits: Vec<AcceptedDeposit>, by: &str) -> Result<OrderAccepted, Refusal> {
        if self.status().is_final() {
            return Err(Refusal::Final(self.status()));
        }
        if deposits.is_empty() {
            return Err(Refusal::NothingToAccept);
        }
        let acceptable = self.acceptable();
        let stranger = deposits.iter().find(|accepted| {
            !acceptable.contains(&accepted.deposit) || accepted.full.is_some_and(BaseUnits::is_zero)
        });
        match stranger {
            Some(stranger) => Err(Refusal::NotAcceptable(stranger.deposit.clone())),
            None => Ok(OrderAccepted { order: self.id().clone(), deposits, by: by.to_owned() }),
        }
    }
}
