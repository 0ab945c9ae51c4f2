//! What a price costs in a coin: the rate that is locked, and the amount due, exact to the last unit.
//!
//! Not here: whether the coin can be paid now, dust, and what remains after a partial payment.

use rust_decimal::Decimal;
use tally_events::RateLock;
use tally_types::{BaseUnits, Currency, PriceAmount, Timestamp};

use crate::ratio::Ratio;
use crate::table::{RateError, RateTable};

/// Why there is no quote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// There is no rate.
    #[error(transparent)]
    Rate(#[from] RateError),
    /// More than can be held, or settings that make no sense.
    #[error("{amount} at {rate} cannot be quoted")]
    OutOfRange {
        /// The price.
        amount: PriceAmount,
        /// Units of the price currency for one whole coin.
        rate: Decimal,
    },
}

/// What is to be quoted.
#[derive(Debug, Clone, Copy)]
pub struct QuoteRequest<'a> {
    /// The price.
    pub price: PriceAmount,
    /// What it is in.
    pub price_currency: &'a Currency,
    /// What it is to be paid in.
    pub pay_currency: &'a Currency,
    /// Added to the price, in percent.
    pub spread_percent: Decimal,
    /// Fraction digits between the whole coin and its base unit.
    pub decimals: u8,
    /// The smallest step that can be asked for, in base units.
    pub payable_unit: BaseUnits,
}

/// A quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted {
    /// What the whole price costs.
    pub full: BaseUnits,
    /// The rate that holds for it: [`full_due`] of this very number is `full`.
    pub lock: RateLock,
}

/// Quotes a price at the rate of now.
///
/// # Errors
/// [`QuoteError`] without a rate, or with amounts that cannot be held.
pub fn quote(request: &QuoteRequest<'_>, table: &RateTable, now: Timestamp) -> Result<Quoted, QuoteError> {
    let answer = table.rate(request.pay_currency, request.price_currency, now)?;
    let full = full_due(request, answer.rate)?;
    Ok(Quoted { full, lock: RateLock { rate: answer.rate, sources: answer.sources, at: answer.at } })
}

/// ceil(price × (1 + spread) ÷ rate), to the payable step, without a rounding before. `rate` is the units of
/// the price currency for one whole coin.
///
/// # Errors
/// [`QuoteError::OutOfRange`] for a rate that is not positive, a spread of -100 % and below, a step of zero,
/// and for more than 2^128 base units.
pub fn full_due(request: &QuoteRequest<'_>, rate: Decimal) -> Result<BaseUnits, QuoteError> {
    let units = || {
        let price = Ratio::from_decimal(request.price.decimal())?;
        let whole = price.times(&with_spread(request.spread_percent)?).over(&Ratio::from_decimal(rate)?);
        whole.shifted_left(request.decimals).ceil_to_multiple(request.payable_unit.units())
    };
    units().map(BaseUnits::from_units).ok_or(QuoteError::OutOfRange { amount: request.price, rate })
}

/// One and `percent` percent; `None` unless that is positive.
fn with_spread(percent: Decimal) -> Option<Ratio> {
    let hundred = 10_i128.checked_pow(percent.scale())?.checked_mul(100)?;
    let total = hundred.checked_add(percent.mantissa())?;
    Ratio::from_parts(u128::try_from(total).ok()?, percent.scale().checked_add(2)?)
}

#[cfg(test)]
mod tests;
