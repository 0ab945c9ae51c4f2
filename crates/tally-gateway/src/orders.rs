//! The use cases of an order, under all faces: create, find, quote, cancel, accept.
//!
//! Each reads its own writes: before it answers about an order it asks the log for the last position of its
//! subject and waits until the fold has reached it.

use tally_account::{Merchant, Wallet};
use tally_events::{AcceptedDeposit, Event, OrderClaimed, OrderCreated, Price, RateLock, Subject};
use tally_order::{Order, QuoteRequest, Refusal};
use tally_ports::Expectation;
use tally_pricing::QuoteError;
use tally_types::{BaseUnits, ChainId, Currency, Face, Height, MerchantId, OrderId, Position, Timestamp};

use crate::admin::wallet_key;
use crate::app::{ChainInfo, CoinInfo, Gateway, TRIES, WATCHER_SILENCE_MAX};
use crate::problem::Problem;

/// An address handed out now cannot have been paid further below the folded tip than this.
const BIRTH_MARGIN: u64 = 10;

/// What came of creating an order.
pub(crate) enum Creation {
    /// It is new.
    Created(Box<Order>),
    /// The merchant's own id is taken by this order.
    Existing(Box<Order>),
}

impl Gateway {
    /// Creates an order, unless the merchant's own id is taken: the claim and the order are one append.
    pub(crate) async fn create_order(&self, created: OrderCreated) -> Result<Creation, Problem> {
        let (merchant, face, own_id) = (created.merchant, created.face, created.own_id.clone());
        let claim = Subject::claim(merchant, face, &own_id);
        let subject = Subject::order(&created.order);
        let now = created.created_at;
        let order = created.order.clone();
        let claimed = OrderClaimed { merchant, face, own_id: own_id.clone(), order: order.clone() };
        let batch = vec![Event::new(claim.clone(), claimed, now), Event::new(subject.clone(), created, now)];
        let expectations = vec![Expectation::none(claim.clone()), Expectation::none(subject)];
        if let Some(positions) = self.append(expectations, batch).await? {
            if let Some(position) = positions.last() {
                self.folded(*position).await?;
            }
            let order = self.model.order(&order).await?;
            return order.map(Box::new).map(Creation::Created).ok_or_else(Problem::behind);
        }
        let order = self.order_by_own_id(merchant, face, &own_id).await?;
        Ok(Creation::Existing(Box::new(order)))
    }

    /// The order with a merchant's own id, as the log has it now.
    pub(crate) async fn order_by_own_id(
        &self,
        merchant: MerchantId,
        face: Face,
        own_id: &str,
    ) -> Result<Order, Problem> {
        self.caught_up(&Subject::claim(merchant, face, own_id)).await?;
        let id = self.model.order_by_own_id(merchant, face, own_id).await?;
        self.order_by_id(&id.ok_or_else(Problem::order_not_found)?).await
    }

    /// An order, as the log has it now.
    pub(crate) async fn order_by_id(&self, id: &OrderId) -> Result<Order, Problem> {
        self.caught_up(&Subject::order(id)).await?;
        self.model.order(id).await?.ok_or_else(Problem::order_not_found)
    }

    /// The chain and coin a merchant takes a currency on.
    pub(crate) fn coin_of<'a>(
        &'a self,
        merchant: &'a Merchant,
        currency: &Currency,
    ) -> Option<(&'a Wallet, &'a ChainInfo, &'a CoinInfo)> {
        let wallet = merchant.wallet_for(currency)?;
        let chain = self.chain(&wallet.chain)?;
        Some((wallet, chain, chain.coin(currency)?))
    }

    /// The currencies a merchant takes, in the order in which their chains are configured.
    pub(crate) fn currencies(&self, merchant: &Merchant) -> Vec<Currency> {
        let coins = self.chains.iter().flat_map(|chain| &chain.coins);
        coins
            .map(|coin| coin.currency.clone())
            .filter(|currency| self.coin_of(merchant, currency).is_some())
            .collect()
    }

    /// The folded tip of a chain whose watcher reported lately.
    pub(crate) async fn live_tip(&self, chain: &ChainId, now: Timestamp) -> Result<Height, Problem> {
        let silent = || {
            let message = format!("payments on {chain} cannot be watched right now: choose another coin");
            Problem::unavailable("ChainUnavailable", message, 30)
        };
        let view = self.model.chain(chain).await?.ok_or_else(silent)?;
        if now.since(view.observed_at) > WATCHER_SILENCE_MAX { Err(silent()) } else { Ok(view.tip.height) }
    }

    /// What the whole price costs in a coin now, and the rate that makes it so.
    pub(crate) fn full_due(
        &self,
        order: &Order,
        merchant: &Merchant,
        coin: &CoinInfo,
        now: Timestamp,
    ) -> Result<(BaseUnits, Option<RateLock>), Problem> {
        let (price_currency, price) = match order.price() {
            Price::In { currency, amount } => (currency, *amount),
            Price::Exactly { units, .. } => return Ok((*units, None)),
        };
        let request = tally_pricing::QuoteRequest {
            price,
            price_currency,
            pay_currency: &coin.currency,
            spread_percent: merchant.policy(&self.policy).spread_percent,
            decimals: coin.decimals,
            payable_unit: coin.payable_unit,
        };
        let table = self.rates.borrow().clone();
        match tally_pricing::quote(&request, &table, now) {
            Ok(quoted) => Ok((quoted.full, Some(quoted.lock))),
            Err(QuoteError::Rate(error)) => {
                let message = format!("{error}: ask again in a moment, or choose another coin");
                Err(Problem::unavailable("RateUnavailable", message, 15))
            }
            Err(error @ QuoteError::OutOfRange { .. }) => Err(Problem::field("price_amount", error)),
        }
    }

    /// Quotes an order in a currency: a fresh address, an amount at a locked rate, and a time until which
    /// both hold. A live quote in that currency is answered again.
    pub(crate) async fn quote_order(
        &self,
        id: &OrderId,
        merchant: &Merchant,
        currency: &Currency,
    ) -> Result<Order, Problem> {
        for _ in 0..TRIES {
            if let Some(order) = self.try_quote(id, merchant, currency).await? {
                return Ok(order);
            }
        }
        Err(Problem::behind())
    }

    async fn try_quote(
        &self,
        id: &OrderId,
        merchant: &Merchant,
        currency: &Currency,
    ) -> Result<Option<Order>, Problem> {
        let subject = Subject::order(id);
        let position = self.caught_up(&subject).await?;
        let order = self.model.order(id).await?.ok_or_else(Problem::order_not_found)?;
        let now = self.clock.now();
        match order.check_quotable(currency, now) {
            Ok(()) => {}
            Err(Refusal::Existing(_)) => return Ok(Some(order)),
            Err(refusal) => return Err(refused(&refusal)),
        }
        let Some((wallet, chain, coin)) = self.coin_of(merchant, currency) else {
            let known: Vec<_> = self.currencies(merchant).iter().map(ToString::to_string).collect();
            let fault = format!("{currency} is not enabled; possible are: {}", known.join(", "));
            return Err(Problem::field("pay_currency", fault));
        };
        let tip = self.live_tip(&chain.id, now).await?;
        let (full, rate) = self.full_due(&order, merchant, coin, now)?;
        let key_subject = Subject::key(&wallet.fingerprint);
        let key_position = self.caught_up(&key_subject).await?;
        let counter = self.model.key_counter(&wallet.fingerprint).await?.ok_or_else(Problem::internal)?;
        let allocated = counter
            .allocate(id, order.next_quote())
            .map_err(|refusal| Problem::unavailable("ChainUnavailable", refusal.to_string(), 3600))?;
        let derived = wallet_key(self, wallet)?.derive(allocated.index).map_err(|error| {
            tracing::error!(wallet = %wallet.id, %error, "an address cannot be derived");
            Problem::internal()
        })?;
        let request = QuoteRequest {
            currency: currency.clone(),
            chain: chain.id.clone(),
            decimals: coin.decimals,
            payable_unit: coin.payable_unit,
            full,
            minimum: coin.dust,
            rate,
            script: derived.script,
            addresses: derived.addresses,
            wallet: wallet.id,
            key: wallet.fingerprint.clone(),
            index: allocated.index,
            birth_height: tip.below(BIRTH_MARGIN),
            counts: merchant.counts(&chain.defaults()),
            policy: merchant.policy(&self.policy),
        };
        let quoted = match order.quote(request, now) {
            Ok(quoted) => quoted,
            Err(Refusal::Existing(_)) => return Ok(Some(order)),
            Err(refusal) => return Err(refused(&refusal)),
        };
        let batch =
            vec![Event::new(key_subject.clone(), allocated, now), Event::new(subject.clone(), quoted, now)];
        let expectations =
            vec![Expectation::new(key_subject, key_position), Expectation::new(subject, position)];
        let Some(positions) = self.append(expectations, batch).await? else { return Ok(None) };
        let last = positions.last().copied().unwrap_or(Position::START);
        self.folded(last).await?;
        Ok(self.model.order(id).await?)
    }

    /// Calls an order off.
    pub(crate) async fn cancel_order(&self, id: &OrderId) -> Result<Order, Problem> {
        self.command(id, |order, _| order.cancel().map(Into::into)).await
    }

    /// Lets late money count.
    pub(crate) async fn accept_order(&self, id: &OrderId, by: &str) -> Result<Order, Problem> {
        self.command(id, |order, _| {
            let all = order.acceptable().into_iter();
            let deposits = all.map(|deposit| AcceptedDeposit { deposit, full: None }).collect();
            order.accept(deposits, by).map(Into::into)
        })
        .await
    }

    /// One fact on an order's own subject, decided again when someone else was faster.
    async fn command(
        &self,
        id: &OrderId,
        decide: impl Fn(&Order, Timestamp) -> Result<tally_events::Fact, Refusal>,
    ) -> Result<Order, Problem> {
        let subject = Subject::order(id);
        for _ in 0..TRIES {
            let position = self.caught_up(&subject).await?;
            let order = self.model.order(id).await?.ok_or_else(Problem::order_not_found)?;
            let now = self.clock.now();
            let fact = decide(&order, now).map_err(|refusal| refused(&refusal))?;
            let event = Event::new(subject.clone(), fact, now);
            let expectations = vec![Expectation::new(subject.clone(), position)];
            if let Some(positions) = self.append(expectations, vec![event]).await? {
                let last = positions.last().copied().unwrap_or(Position::START);
                self.folded(last).await?;
                return self.model.order(id).await?.ok_or_else(Problem::order_not_found);
            }
        }
        Err(Problem::behind())
    }
}

/// A refused command on an order.
pub(crate) fn refused(refusal: &Refusal) -> Problem {
    Problem::invalid(refusal.to_string())
}
