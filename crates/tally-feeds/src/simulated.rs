//! Venues that are not there, around prices that one sets: for `tally dev` and merchants' own tests. They go
//! through the same aggregation as real ones.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use rust_decimal::Decimal;
use tally_ports::{Poll, PortError, PriceFeed};
use tally_pricing::{FiatTick, Tick, TickPrice, Venue};
use tally_types::{Currency, Timestamp};

/// The three venues, and where each sees the price: below, at and above the one that was set, so that the
/// median is exactly that.
const VENUES: [(&str, Decimal); 3] = [
    ("sim-a", Decimal::from_parts(9998, 0, 0, false, 4)),
    ("sim-b", Decimal::ONE),
    ("sim-c", Decimal::from_parts(10002, 0, 0, false, 4)),
];
/// The source of fiat rates.
const FIAT_VENUE: &str = "sim-fiat";
/// Half the spread of every book, as a part of its price: 0.02 %.
const HALF_SPREAD: Decimal = Decimal::from_parts(2, 0, 0, false, 4);

/// The prices, in US dollars for one unit.
#[derive(Debug, Default)]
struct Prices {
    coins: BTreeMap<Currency, Decimal>,
    fiat: BTreeMap<Currency, Decimal>,
}

/// The handle by which the prices are set; clones share them.
#[derive(Debug, Clone)]
pub struct SimulatedPrices {
    prices: Arc<RwLock<Prices>>,
}

/// Why a price cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SimulatedPriceError {
    /// No such currency.
    #[error("{0} is not simulated")]
    Unknown(Currency),
    /// Not a price.
    #[error("{0} is not greater than zero, or cannot be reckoned with")]
    OutOfRange(Decimal),
}

impl Default for SimulatedPrices {
    /// Bitcoin, Ether, Litecoin, Bitcoin Cash, two dollar tokens and some fiat currencies, at prices of a day.
    fn default() -> Self {
        let coins = [
            ("BTC", 6_500_000),
            ("ETH", 320_000),
            ("LTC", 8_000),
            ("BCH", 45_000),
            ("USDT", 100),
            ("USDC", 100),
        ];
        let fiat = [("EUR", 125), ("GBP", 128), ("CNY", 14), ("HKD", 13)];
        let read = |list: &[(&str, i64)]| {
            let price = |(name, cents): &(&str, i64)| Some((name.parse().ok()?, Decimal::new(*cents, 2)));
            list.iter().filter_map(price).collect()
        };
        let prices = Prices { coins: read(&coins), fiat: read(&fiat) };
        Self { prices: Arc::new(RwLock::new(prices)) }
    }
}

impl SimulatedPrices {
    /// Sets the price of one unit of a coin or a fiat currency in US dollars; it holds from the next poll on.
    ///
    /// # Errors
    /// [`SimulatedPriceError`] for a currency that is not simulated (the dollar itself is not), and for what is
    /// no price.
    pub fn set(&self, currency: &Currency, usd: Decimal) -> Result<(), SimulatedPriceError> {
        let least = Decimal::new(1, 12);
        let most = Decimal::new(1_000_000_000_000, 0);
        if usd < least || usd > most {
            return Err(SimulatedPriceError::OutOfRange(usd));
        }
        let currency = tally_pricing::canonical(currency);
        let mut prices = self.prices.write().unwrap_or_else(PoisonError::into_inner);
        let Prices { coins, fiat } = &mut *prices;
        let price = coins.get_mut(&currency).or_else(|| fiat.get_mut(&currency));
        *price.ok_or(SimulatedPriceError::Unknown(currency))? = usd;
        Ok(())
    }

    /// The price of one unit in US dollars.
    pub fn get(&self, currency: &Currency) -> Option<Decimal> {
        let currency = tally_pricing::canonical(currency);
        let prices = self.prices.read().unwrap_or_else(PoisonError::into_inner);
        prices.coins.get(&currency).or_else(|| prices.fiat.get(&currency)).copied()
    }

    /// The feeds: three venues and one source of fiat rates.
    pub fn feeds(&self) -> Vec<Arc<dyn PriceFeed>> {
        let venue = |(name, factor): (&'static str, Decimal)| -> Arc<dyn PriceFeed> {
            Arc::new(SimulatedVenue { name, factor, prices: self.clone() })
        };
        let fiat: Arc<dyn PriceFeed> = Arc::new(SimulatedFiat { prices: self.clone() });
        VENUES.into_iter().map(venue).chain([fiat]).collect()
    }
}

struct SimulatedVenue {
    name: &'static str,
    factor: Decimal,
    prices: SimulatedPrices,
}

#[async_trait]
impl PriceFeed for SimulatedVenue {
    fn venue(&self) -> &str {
        self.name
    }

    async fn poll(&self, now: Timestamp) -> Result<Poll, PortError> {
        let prices = self.prices.prices.read().unwrap_or_else(PoisonError::into_inner);
        let dollar: Currency = "USD".parse().map_err(|_| PortError::persistent("no dollar"))?;
        let tick = |(base, usd): (&Currency, &Decimal)| {
            let mid = usd.checked_mul(self.factor)?;
            let half = mid.checked_mul(HALF_SPREAD)?;
            let (bid, ask) = (mid.checked_sub(half)?, mid.checked_add(half)?);
            Some(Tick {
                venue: Venue::named(self.name),
                base: base.clone(),
                quote: dollar.clone(),
                price: TickPrice::Book { bid, ask },
                venue_time: None,
                received_at: now,
            })
        };
        Ok(Poll { ticks: prices.coins.iter().filter_map(tick).collect(), ..Poll::default() })
    }
}

struct SimulatedFiat {
    prices: SimulatedPrices,
}

#[async_trait]
impl PriceFeed for SimulatedFiat {
    fn venue(&self) -> &str {
        FIAT_VENUE
    }

    async fn poll(&self, now: Timestamp) -> Result<Poll, PortError> {
        let prices = self.prices.prices.read().unwrap_or_else(PoisonError::into_inner);
        let currency =
            |name: &str| name.parse::<Currency>().map_err(|_| PortError::persistent("no currency"));
        let (euro, dollar) = (currency("EUR")?, currency("USD")?);
        let usd_per_eur = prices.fiat.get(&euro).copied().unwrap_or(Decimal::ONE);
        let tick = |quote: &Currency, rate: Decimal| FiatTick {
            venue: Venue::named(FIAT_VENUE),
            base: euro.clone(),
            quote: quote.clone(),
            rate,
            as_of: now,
            received_at: now,
        };
        let others = prices.fiat.iter().filter(|(name, _)| **name != euro);
        let per_euro = others.filter_map(|(name, usd)| Some(tick(name, usd_per_eur.checked_div(*usd)?)));
        let fiat = per_euro.chain([tick(&dollar, usd_per_eur)]).collect();
        Ok(Poll { fiat, ..Poll::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_pricing::{Aggregator, RateRules, RateTable};

    async fn table(prices: &SimulatedPrices, aggregator: &mut Aggregator, now: Timestamp) -> RateTable {
        let (mut ticks, mut fiat) = (Vec::new(), Vec::new());
        for feed in prices.feeds() {
            let poll = feed.poll(now).await.unwrap();
            ticks.extend(poll.ticks);
            fiat.extend(poll.fiat);
        }
        let mut table = RateTable::new(aggregator.rules());
        table.apply(&aggregator.aggregate(&ticks, &fiat, now));
        table
    }

    #[tokio::test]
    async fn what_is_set_is_the_rate() {
        let prices = SimulatedPrices::default();
        let mut aggregator = Aggregator::new(RateRules::default());
        let now = Timestamp::from_secs(1_700_000_000);
        let rates = table(&prices, &mut aggregator, now).await;
        for (from, to, text) in
            [("BTC", "USD", "65000"), ("EUR", "USD", "1.25"), ("CNY", "USD", "0.14"), ("LTC", "EUR", "64")]
        {
            assert_eq!(rates.rate_named(from, to, now).unwrap().text, text, "{from}/{to}");
        }
        prices.set(&"xbt".parse().unwrap(), "61234.56".parse().unwrap()).unwrap();
        let now = Timestamp::from_secs(1_700_000_015);
        let rates = table(&prices, &mut aggregator, now).await;
        assert_eq!(rates.rate_named("BTC", "USD", now).unwrap().text, "61234.56");
    }

    #[test]
    fn what_is_no_price_is_refused() {
        let prices = SimulatedPrices::default();
        let btc = "BTC".parse().unwrap();
        for bad in ["0", "-1", "0.0000000000001", "10000000000000"] {
            assert!(prices.set(&btc, bad.parse().unwrap()).is_err(), "{bad}");
        }
        assert!(prices.set(&"USD".parse().unwrap(), Decimal::ONE).is_err());
        assert_eq!(prices.get(&btc), Some(Decimal::from(65_000)));
    }
}
