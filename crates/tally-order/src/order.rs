//! The order: what was folded of it, and what can be read from it.
//!
//! Not here: folding (`fold`), what follows from it (`standing`), commands (`command`), duties' times (`deadline`).

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tally_events::{AcceptedDeposit, OrderCreated, Place, Policy, Price, Shard, Subject};
use tally_types::{
    BaseUnits, BlockRef, ChainId, Currency, DepositKey, Face, Height, MerchantId, OrderId, Position, Script,
    Timestamp, WalletId,
};

use crate::{DepositState, Exceptions, QuoteState, Stage, Status};

mod command;
mod deadline;
mod fold;
mod standing;

#[cfg(test)]
mod tests;

pub use command::{MAX_QUOTES, QuoteRequest};
pub use deadline::{Deadline, DeadlineKind, EXPIRY_GRACE, Observation, UNWATCH_AFTER};

/// Money received in one currency on one chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// The chain.
    pub chain: ChainId,
    /// The currency.
    pub currency: Currency,
    /// Fraction digits between the whole coin and its base unit.
    pub decimals: u8,
    /// How much is in the mempool or in blocks, late money included.
    pub amount: BaseUnits,
}

/// A version of an order: made by each change of status, exceptions or the amount received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its number; the first has 1.
    pub number: u32,
    /// The time of the fact that made it.
    pub at: Timestamp,
    /// The position of that fact.
    pub position: Position,
    /// Where the order stood.
    pub status: Status,
    /// What was unusual about it.
    pub exceptions: Exceptions,
    /// What had been received.
    pub received: Vec<Received>,
    /// All of that in the price currency, each coin at its own quote's rate, rounded down.
    pub paid_value: Decimal,
    /// How many quotes there were.
    pub quotes: u32,
}

/// An order: the fold of its own facts and of its chains' facts about its scripts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    created: OrderCreated,
    quotes: Vec<QuoteState>,
    deposits: Vec<DepositState>,
    accepted: Vec<AcceptedDeposit>,
    canceled: bool,
    invalid: bool,
    completed: bool,
    unwatched: bool,
    /// The latest deadline that passed, as the holder of the duty said.
    expired: Option<Timestamp>,
    /// Since when it has been `paid` without a first confirmation; only while it is.
    unconfirmed_since: Option<Timestamp>,
    /// The last fact on the order's own subject.
    own_position: Position,
    past: Vec<Version>,
    current: Version,
}

impl Order {
    /// Its id, public on its face.
    pub fn id(&self) -> &OrderId {
        &self.created.order
    }

    /// Its subject in the log.
    pub fn subject(&self) -> Subject {
        Subject::order(&self.created.order)
    }

    /// The position of the last folded fact on its own subject: what an append to it expects. 0 where those facts
    /// were archived.
    pub fn own_position(&self) -> Position {
        self.own_position
    }

    /// Whose it is.
    pub fn merchant(&self) -> MerchantId {
        self.created.merchant
    }

    /// The API it was made over.
    pub fn face(&self) -> Face {
        self.created.face
    }

    /// The merchant's own id of it.
    pub fn own_id(&self) -> &str {
        &self.created.own_id
    }

    /// What it asks for.
    pub fn price(&self) -> &Price {
        &self.created.price
    }

    /// The currency of its price.
    pub fn price_currency(&self) -> &Currency {
        match &self.created.price {
            Price::In { currency, .. } | Price::Exactly { currency, .. } => currency,
        }
    }

    /// Its price as a plain decimal; of an exact number of units, in whole coins once it is quoted, in units before.
    pub fn price_text(&self) -> String {
        match &self.created.price {
            Price::In { amount, .. } => amount.to_string(),
            Price::Exactly { units, .. } => {
                units.to_decimal_string(self.latest_quote().map_or(0, |quote| quote.terms.decimals))
            }
        }
    }

    /// Title (DeePay) or description (Payscrypt).
    pub fn title(&self) -> &str {
        &self.created.title
    }

    /// What the merchant wants back as it came.
    pub fn attach(&self) -> Option<&str> {
        self.created.attach.as_deref()
    }

    /// Where notifications go.
    pub fn notify_url(&self) -> Option<&str> {
        self.created.notify_url.as_deref()
    }

    /// Where the customer goes back to.
    pub fn callback_url(&self) -> Option<&str> {
        self.created.callback_url.as_deref()
    }

    /// The wallet named at creation, else the latest quote's.
    pub fn wallet(&self) -> Option<WalletId> {
        self.created.wallet.or_else(|| self.latest_quote().map(|quote| quote.terms.wallet))
    }

    /// The fact that made it.
    pub fn created(&self) -> &OrderCreated {
        &self.created
    }

    /// The rules in force: the latest quote's, else those it was created under.
    pub fn policy(&self) -> &Policy {
        self.latest_quote().map_or(&self.created.policy, |quote| &quote.terms.policy)
    }

    /// Its quotes, the first made first.
    pub fn quotes(&self) -> &[QuoteState] {
        &self.quotes
    }

    /// A quote by its number.
    pub fn quote_by_number(&self, number: u32) -> Option<&QuoteState> {
        self.quotes.iter().find(|quote| quote.terms.quote == number)
    }

    /// The quote made last.
    pub fn latest_quote(&self) -> Option<&QuoteState> {
        self.quotes.last()
    }

    /// The number that its next quote will have.
    pub fn next_quote(&self) -> u32 {
        self.latest_quote().map_or(1, |quote| quote.terms.quote.saturating_add(1))
    }

    /// The live quote in a currency.
    pub fn live_quote(&self, currency: &Currency, now: Timestamp) -> Option<&QuoteState> {
        self.quotes.iter().rev().find(|quote| quote.terms.currency == *currency && quote.is_live(now))
    }

    /// The quote whose script this is.
    pub fn quote_by_script(&self, chain: &ChainId, script: &Script) -> Option<&QuoteState> {
        self.quotes.iter().find(|quote| quote.terms.chain == *chain && quote.terms.script == *script)
    }

    /// Its deposits by chain and identity, gone ones included.
    pub fn deposits(&self) -> &[DepositState] {
        &self.deposits
    }

    /// A deposit's confirmations, under the last tip the order was shown.
    pub fn deposit_confirmations(&self, deposit: &DepositState) -> u64 {
        let Some(quote) = self.quote_by_number(deposit.quote) else { return 0 };
        let mined_at = match deposit.stage() {
            Stage::Mined(block) => Some(block.height),
            Stage::Mempool | Stage::Gone => None,
        };
        quote.told_confirmations(deposit.confirmations(quote.tip), mined_at)
    }

    /// Whether its addresses have left the watch set.
    pub fn is_unwatched(&self) -> bool {
        self.unwatched
    }

    /// Where it stands.
    pub fn status(&self) -> Status {
        self.current.status
    }

    /// What is unusual about it.
    pub fn exceptions(&self) -> Exceptions {
        self.current.exceptions
    }

    /// Its current version's number.
    pub fn version(&self) -> u32 {
        self.current.number
    }

    /// Its current version.
    pub fn current(&self) -> &Version {
        &self.current
    }

    /// All its versions, the first made first.
    pub fn versions(&self) -> impl DoubleEndedIterator<Item = &Version> {
        self.past.iter().chain(std::iter::once(&self.current))
    }

    /// What has been received, by chain and currency: in the mempool or in blocks, late money included.
    pub fn received(&self) -> &[Received] {
        &self.current.received
    }

    /// What has been received in the currency and on the chain of a quote.
    pub fn received_like(&self, quote: &QuoteState) -> BaseUnits {
        let like = |got: &&Received| got.chain == quote.terms.chain && got.currency == quote.terms.currency;
        self.current.received.iter().find(like).map_or(BaseUnits::ZERO, |got| got.amount)
    }

    /// What has been received at one quote's address, in its currency.
    pub fn received_at(&self, quote: &QuoteState) -> BaseUnits {
        self.deposits
            .iter()
            .filter(|deposit| deposit.quote == quote.terms.quote && deposit.currency == quote.terms.currency)
            .filter(|deposit| deposit.is_present())
            .fold(BaseUnits::ZERO, |sum, deposit| sum.saturating_add(deposit.amount))
    }

    /// All that was received, in the price currency, each coin at its own quote's rate, rounded down; held at
    /// the largest decimal.
    pub fn paid_value(&self) -> Decimal {
        self.current.paid_value
    }

    /// When it was created.
    pub fn created_at(&self) -> Timestamp {
        self.created.created_at
    }

    /// When its current version was made.
    pub fn updated_at(&self) -> Timestamp {
        self.current.at
    }

    /// When it expires or expired: its last quote's end (or what a reorg made of that), before any quote its
    /// limit as a new order.
    pub fn expire_at(&self) -> Timestamp {
        self.quotes.iter().map(QuoteState::expires_at).max().unwrap_or_else(|| self.new_order_limit())
    }

    /// Until when a new order waits for a checkout.
    pub fn new_order_limit(&self) -> Timestamp {
        self.created.created_at.plus(self.created.policy.new_order)
    }

    /// Confirmations that make it complete, by its latest quote.
    pub fn target_confirmations(&self) -> u32 {
        self.latest_quote().map_or(1, QuoteState::complete_count)
    }

    /// The heights, by chain and script, at which the order reaches or loses something: of the shard that has the
    /// script it needs to be shown each `block_connected` that takes the tip to or over one, and each
    /// `block_disconnected` of one.
    pub fn thresholds(&self) -> Vec<(ChainId, Place, Height)> {
        let mut heights = Vec::new();
        for deposit in &self.deposits {
            let (Some(mined), Some(quote)) = (&deposit.mined, self.quote_by_number(deposit.quote)) else {
                continue;
            };
            let own = mined.block.height;
            for count in [1, quote.confirmed_count(), quote.complete_count()] {
                let height = own.get().saturating_add(u64::from(count).saturating_sub(1));
                heights.push((deposit.chain.clone(), quote.place, Height::new(height)));
            }
        }
        heights.sort();
        heights.dedup();
        heights
    }

    /// The heights, by chain and script, whose becoming final the order waits for: it needs to be shown each
    /// `finalized` that reaches one.
    pub fn awaited_finality(&self) -> Vec<(ChainId, Place, Height)> {
        let mut heights = Vec::new();
        for deposit in &self.deposits {
            if let (Some(mined), Some(quote)) = (&deposit.mined, self.quote_by_number(deposit.quote))
                && quote.needs_finality()
                && mined.block.height > quote.finalized
            {
                heights.push((deposit.chain.clone(), quote.place, mined.block.height));
            }
        }
        heights.sort();
        heights.dedup();
        heights
    }

    /// Shows confirmations as of the tip of a chain's shard, between two thresholds, where by construction nothing
    /// else changes. For answers; a fold does not need it.
    pub fn show_tip(&mut self, chain: &ChainId, shard: Shard, tip: BlockRef) {
        self.set_tip(chain, shard, tip.height);
    }

    fn set_tip(&mut self, chain: &ChainId, shard: Shard, tip: Height) {
        for quote in self.quotes.iter_mut().filter(|quote| quote.is_on(chain, shard)) {
            quote.tip = tip;
        }
    }

    fn acceptance(&self, deposit: &DepositKey) -> Option<&AcceptedDeposit> {
        self.accepted.iter().find(|accepted| accepted.deposit == *deposit)
    }
}
