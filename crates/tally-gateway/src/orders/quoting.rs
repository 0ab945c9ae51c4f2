//! Quoting: which coins can be chosen, what an order costs in one, and the quote itself.
//!
//! Not here: when a quote is refused by the order (`tally-order`), what a price costs (`tally-pricing`).

use tally_account::{Merchant, Wallet};
use tally_events::{Event, KeyAllocated, Price, RateLock, Subject};
use tally_order::{Order, QuoteRequest, Refusal};
use tally_ports::Expectation;
use tally_pricing::{QuoteError, RateError};
use tally_types::{BaseUnits, ChainId, Currency, Height, OrderId, Position, Timestamp};

use super::refused;
use crate::app::{ChainInfo, CoinInfo, Gateway, TRIES, WATCHER_SILENCE_MAX};
use crate::instance::Instance;
use crate::problem::Problem;

/// An address handed out now cannot have been paid further below the folded tip than this.
const BIRTH_MARGIN: u64 = 10;

/// A coin that a merchant takes: on which chain, and into which wallet.
#[derive(Clone, Copy)]
pub(crate) struct Offer<'a> {
    pub(crate) wallet: &'a Wallet,
    pub(crate) chain: &'a ChainInfo,
    pub(crate) coin: &'a CoinInfo,
}

impl Gateway {
    /// The offer of a currency, if the merchant takes it.
    pub(crate) fn offer<'a>(&'a self, merchant: &'a Merchant, currency: &Currency) -> Option<Offer<'a>> {
        let wallet = merchant.wallet_for(currency)?;
        let chain = self.chain(&wallet.chain)?;
        Some(Offer { wallet, chain, coin: chain.coin(currency)? })
    }

    /// Everything a merchant takes, in the order in which the chains are configured.
    pub(crate) fn offers<'a>(&'a self, merchant: &'a Merchant) -> Vec<Offer<'a>> {
        let coins = self.chains.iter().flat_map(|chain| chain.coins.iter().map(move |coin| (chain, coin)));
        coins
            .filter_map(|(chain, coin)| {
                self.offer(merchant, &coin.currency).filter(|offer| offer.chain.id == chain.id)
            })
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
            Err(QuoteError::Rate(error)) => Err(no_rate(&error)),
            Err(error @ QuoteError::OutOfRange { .. }) => Err(Problem::field("price_amount", error)),
        }
    }
}

impl Instance {
    /// Quotes an order in a currency: a fresh address, an amount at a locked rate, and a time until which
    /// both hold. A live quote in that currency is answered again.
    pub(crate) async fn quote_order(
        &self,
        id: &OrderId,
        merchant: &Merchant,
        currency: &Currency,
    ) -> Result<Order, Problem> {
        let order = self.order_by_id(id).await?;
        if has_live_quote(&order, currency, self.clock.now())? {
            return Ok(order);
        }
        let offer = self.offer(merchant, currency).ok_or_else(|| {
            let known: Vec<_> =
                self.offers(merchant).iter().map(|offer| offer.coin.currency.to_string()).collect();
            let possible = match known.is_empty() {
                true => "none is, for the merchant has no wallet yet".to_owned(),
                false => format!("possible are: {}", known.join(", ")),
            };
            Problem::field("pay_currency", format!("{currency} is not enabled; {possible}"))
        })?;
        let _turn = self.turns.take(&offer.wallet.fingerprint).await;
        for _ in 0..TRIES {
            if let Some(order) = self.try_quote(id, merchant, offer).await? {
                return Ok(order);
            }
        }
        Err(Problem::behind())
    }

    /// One try; none when someone else was faster.
    async fn try_quote(
        &self,
        id: &OrderId,
        merchant: &Merchant,
        offer: Offer<'_>,
    ) -> Result<Option<Order>, Problem> {
        let subject = Subject::order(id);
        let position = self.caught_up(&subject).await?;
        let order = self.model.order(id).await?.ok_or_else(Problem::order_not_found)?;
        let now = self.clock.now();
        if has_live_quote(&order, &offer.coin.currency, now)? {
            return Ok(Some(order));
        }
        let tip = self.live_tip(&offer.chain.id, now).await?;
        let (full, rate) = self.full_due(&order, merchant, offer.coin, now)?;
        let (key_position, allocated) = self.next_address(&order, offer.wallet).await?;
        let request = self.request(merchant, offer, &allocated, full, rate, tip)?;
        let quoted = order.quote(request, now).map_err(|refusal| quote_refused(&refusal, offer.coin))?;
        let key_subject = Subject::key(&offer.wallet.fingerprint);
        let batch =
            vec![Event::new(key_subject.clone(), allocated, now), Event::new(subject.clone(), quoted, now)];
        let expectations =
            vec![Expectation::new(key_subject, key_position), Expectation::new(subject, position)];
        let Some(positions) = self.append(expectations, batch).await? else { return Ok(None) };
        self.settle(&positions).await?;
        Ok(self.model.order(id).await?)
    }

    /// The next index of a wallet's key for an order's next quote, and the position its append expects.
    async fn next_address(
        &self,
        order: &Order,
        wallet: &Wallet,
    ) -> Result<(Position, KeyAllocated), Problem> {
        let position = self.caught_up(&Subject::key(&wallet.fingerprint)).await?;
        let counter = self.model.key_counter(&wallet.fingerprint).await?.ok_or_else(Problem::internal)?;
        let allocated = counter.allocate(order.id(), order.next_quote()).map_err(|refusal| {
            tracing::error!(wallet = %wallet.id, %refusal, "no address is left");
            Problem::unavailable("ChainUnavailable", refusal.to_string(), 3600)
        })?;
        Ok((position, allocated))
    }

    fn request(
        &self,
        merchant: &Merchant,
        offer: Offer<'_>,
        allocated: &KeyAllocated,
        full: BaseUnits,
        rate: Option<RateLock>,
        tip: Height,
    ) -> Result<QuoteRequest, Problem> {
        let Offer { wallet, chain, coin } = offer;
        let derived = self.wallet_key(wallet)?.derive(allocated.index).map_err(|error| {
            tracing::error!(wallet = %wallet.id, %error, "an address cannot be derived");
            Problem::internal()
        })?;
        Ok(QuoteRequest {
            currency: coin.currency.clone(),
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
        })
    }
}

/// Whether a live quote in a currency is to be answered again; an error where the order takes no quote.
fn has_live_quote(order: &Order, currency: &Currency, now: Timestamp) -> Result<bool, Problem> {
    match order.check_quotable(currency, now) {
        Ok(()) => Ok(false),
        Err(Refusal::Existing(_)) => Ok(true),
        Err(refusal) => Err(refused(&refusal)),
    }
}

/// Amounts for people are in whole coins.
fn quote_refused(refusal: &Refusal, coin: &CoinInfo) -> Problem {
    match refusal {
        Refusal::Dust { due, minimum } => {
            let [due, minimum] = [due, minimum].map(|units| units.to_decimal_string(coin.decimals));
            let coin = &coin.currency;
            let fault =
                format!("{due} {coin} is less than {coin} can be paid in ({minimum}); choose another coin");
            Problem::field("pay_currency", fault)
        }
        refusal => refused(refusal),
    }
}

fn no_rate(error: &RateError) -> Problem {
    let retry_after = match error {
        RateError::Unavailable { retry_after, .. } | RateError::Inconsistent { retry_after, .. } => {
            retry_after.secs().max(1)
        }
        RateError::UnknownCurrency(_) => 60,
    };
    let message = format!("{error}: ask again in a moment, or choose another coin");
    Problem::unavailable("RateUnavailable", message, retry_after)
}
