//! Facts of one order, on `tally.v1.order.<p>.<order_id>`.

use rust_decimal::Decimal;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use tally_types::{
    BaseUnits, ChainId, Currency, DepositKey, Face, Fingerprint, Height, MerchantId, OrderId, PriceAmount,
    Script, Span, Timestamp, WalletId,
};

/// What an order asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Price {
    /// An amount of any currency the rate service knows; paid at a locked rate (DeePay).
    In {
        /// The currency.
        currency: Currency,
        /// The amount.
        amount: PriceAmount,
    },
    /// An exact number of base units of one asset; no rate is involved (Payscrypt).
    Exactly {
        /// The asset.
        currency: Currency,
        /// The amount.
        units: BaseUnits,
    },
}

/// What becomes of money that arrives after its quote has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatePolicy {
    /// Waits for a person.
    #[default]
    Hold,
    /// Counts at its own quote's rate.
    Accept,
    /// Counts at the rate of the moment.
    Reprice,
}

/// The rules an order was made under. A fold reads nothing else, so later settings change no old order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// How long a quote holds.
    pub quote: Span,
    /// How long a new order waits for a checkout.
    pub new_order: Span,
    /// How long a paid order waits for its first confirmation.
    pub first_confirmation: Span,
    /// Part of the price that may be missing, in percent.
    pub tolerance_percent: Decimal,
    /// Amount of the price currency that may be missing.
    pub tolerance_absolute: Decimal,
    /// Added to the price when it is quoted, in percent.
    pub spread_percent: Decimal,
    /// What becomes of late money.
    pub late: LatePolicy,
    /// Whether an expired order without money may be checked out again.
    pub reopen: bool,
}

/// How many confirmations make an order `confirmed` and `complete`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Counts {
    /// For `confirmed`.
    pub confirmed: u32,
    /// For `complete`.
    pub complete: u32,
    /// Other counts for larger amounts, ascending; the last whose amount is reached holds.
    #[serde(default)]
    pub thresholds: Vec<CountsFrom>,
    /// Whether an order is complete once its blocks are final, whatever their depth. Where a chain never says
    /// what is final, such an order stays confirmed.
    #[serde(default)]
    pub finalized: bool,
}

/// As derived, but that `finalized` is left out of texts where it is not set: facts stay as they were.
impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let whole = self.finalized || !serializer.is_human_readable();
        let mut counts = serializer.serialize_struct("Counts", if whole { 4 } else { 3 })?;
        counts.serialize_field("confirmed", &self.confirmed)?;
        counts.serialize_field("complete", &self.complete)?;
        counts.serialize_field("thresholds", &self.thresholds)?;
        if whole {
            counts.serialize_field("finalized", &self.finalized)?;
        }
        counts.end()
    }
}

/// Confirmation counts that hold from an amount on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountsFrom {
    /// From this full due amount on.
    pub at_least: BaseUnits,
    /// For `confirmed`.
    pub confirmed: u32,
    /// For `complete`.
    pub complete: u32,
}

/// An order was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCreated {
    /// The order.
    pub order: OrderId,
    /// Whose it is.
    pub merchant: MerchantId,
    /// The API it was made over.
    pub face: Face,
    /// The merchant's own id of it (`out_trade_id`, `merchant_order_id`).
    pub own_id: String,
    /// What it asks for.
    pub price: Price,
    /// Title (DeePay) or description (Payscrypt).
    pub title: String,
    /// Returned to the merchant as it came.
    #[serde(default)]
    pub attach: Option<String>,
    /// Where notifications go.
    #[serde(default)]
    pub notify_url: Option<String>,
    /// Where the customer goes back to.
    #[serde(default)]
    pub callback_url: Option<String>,
    /// The wallet named at creation (Payscrypt).
    #[serde(default)]
    pub wallet: Option<WalletId>,
    /// The rules it was made under.
    pub policy: Policy,
    /// When.
    pub created_at: Timestamp,
}

/// The rate a quote locks, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLock {
    /// Units of the price currency for one whole coin.
    pub rate: Decimal,
    /// The venues that counted.
    pub sources: Vec<String>,
    /// The older leg's time.
    pub at: Timestamp,
}

/// An address was shown to the payer, with an amount, until a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderQuoted {
    /// The order.
    pub order: OrderId,
    /// Which of its quotes; the first has 1.
    pub quote: u32,
    /// The currency to pay in.
    pub currency: Currency,
    /// The chain to pay on.
    pub chain: ChainId,
    /// Fraction digits between the whole coin and its base unit.
    pub decimals: u8,
    /// The smallest step the payer can be asked for, in base units (ETH: 10^10 wei).
    pub payable_unit: BaseUnits,
    /// What the whole price costs in this currency at this rate.
    pub full: BaseUnits,
    /// What this quote asks for: the whole, or the remainder after a partial payment.
    pub due: BaseUnits,
    /// The locked rate; none where the price is exact.
    #[serde(default)]
    pub rate: Option<RateLock>,
    /// Where to pay, as the chain knows it.
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
    /// The order's rules as of this quote.
    pub policy: Policy,
    /// When it was made.
    pub quoted_at: Timestamp,
    /// Until when a payment is in time.
    pub expires_at: Timestamp,
}

/// The merchant called the order off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCanceled {
    /// The order.
    pub order: OrderId,
}

/// Late money was accepted, by the order's policy or by a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderAccepted {
    /// The order.
    pub order: OrderId,
    /// The deposits that now count.
    pub deposits: Vec<AcceptedDeposit>,
    /// Who said so: `policy`, or the name of a person.
    pub by: String,
}

/// A late deposit that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedDeposit {
    /// The deposit.
    pub deposit: DepositKey,
    /// What the whole price costs at the rate it was accepted at; its own quote's where absent.
    #[serde(default)]
    pub full: Option<BaseUnits>,
}

/// Time ran out before the order was covered. Only the holder of that duty says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderExpired {
    /// The order.
    pub order: OrderId,
    /// The deadline that passed.
    pub deadline: Timestamp,
}

/// A paid order got no confirmation in its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderInvalidated {
    /// The order.
    pub order: OrderId,
    /// The deadline that passed.
    pub deadline: Timestamp,
}

/// The order's addresses left the watch set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderUnwatched {
    /// The order.
    pub order: OrderId,
    /// The chains and scripts that are no longer watched.
    pub scripts: Vec<(ChainId, Script)>,
}
