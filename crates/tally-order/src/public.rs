//! An order as subscribers and pages see it: JSON with amounts as decimal strings.
//!
//! Not here: the shapes of DeePay and Payscrypt (`tally-gateway`), and the message around it.

use serde::Serialize;
use tally_types::{BlockHash, ChainId, Currency, Face, Height, MerchantId, OrderId, Timestamp, TxId};

use crate::order::Received;
use crate::{Exception, Order, Stage, Status};

/// An amount of one currency on one chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublicAmount {
    /// The chain.
    pub chain: ChainId,
    /// The currency.
    pub currency: Currency,
    /// In whole coins, as a plain decimal.
    pub amount: String,
}

/// A quote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublicQuote {
    /// Its number; the first has 1.
    pub quote: u32,
    /// The chain to pay on.
    pub chain: ChainId,
    /// The currency to pay in.
    pub currency: Currency,
    /// Where to pay, in its forms, the usual one first.
    pub addresses: Vec<String>,
    /// What it asks for, in whole coins.
    pub due: String,
    /// What the whole price costs at its rate.
    pub full: String,
    /// Units of the price currency for one whole coin; none where the price is exact.
    pub rate: Option<String>,
    /// What its address received.
    pub received: String,
    /// Confirmations for `confirmed`.
    pub confirmed_count: u32,
    /// Confirmations for `complete`.
    pub complete_count: u32,
    /// When it was made.
    pub quoted_at: Timestamp,
    /// Until when a payment is in time.
    pub expires_at: Timestamp,
}

/// A deposit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublicDeposit {
    /// The quote whose address it paid.
    pub quote: u32,
    /// The chain.
    pub chain: ChainId,
    /// The transaction.
    pub txid: TxId,
    /// The place within it: an output's index on chains of the Bitcoin family.
    pub slot: String,
    /// What was paid.
    pub currency: Currency,
    /// How much, in whole coins; in base units where the currency is not the quote's.
    pub amount: String,
    /// `mempool`, `mined` or `gone`.
    pub stage: &'static str,
    /// The height of its block.
    pub height: Option<Height>,
    /// Its block.
    pub block: Option<BlockHash>,
    /// Its confirmations.
    pub confirmations: u64,
    /// Whether it counts towards the price.
    pub counts: bool,
    /// When it was first seen.
    pub first_seen: Timestamp,
}

/// An order as subscribers and pages see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublicOrder {
    /// Its id.
    pub id: OrderId,
    /// Whose it is.
    pub merchant_id: MerchantId,
    /// The API it was made over.
    pub face: Face,
    /// The merchant's own id of it.
    pub own_id: String,
    /// Its version.
    pub version: u32,
    /// Where it stands.
    pub status: Status,
    /// One word for what is unusual, or `none`.
    pub exception: &'static str,
    /// All that is unusual.
    pub exceptions: Vec<Exception>,
    /// The currency of its price.
    pub price_currency: Currency,
    /// Its price, as a plain decimal.
    pub price_amount: String,
    /// The latest quote's currency.
    pub pay_currency: Option<Currency>,
    /// The latest quote's chain.
    pub pay_chain: Option<ChainId>,
    /// What the latest quote asks for, in whole coins.
    pub pay_amount: Option<String>,
    /// The latest quote's address.
    pub payment_address: Option<String>,
    /// What was received.
    pub received: Vec<PublicAmount>,
    /// All of that in the price currency.
    pub paid_value: String,
    /// The least confirmations among the deposits that cover the price.
    pub confirmations: u64,
    /// Confirmations that make it complete.
    pub target_confirmations: u32,
    /// Title or description.
    pub title: String,
    /// What the merchant wanted back.
    pub attach: Option<String>,
    /// Its quotes.
    pub quotes: Vec<PublicQuote>,
    /// Its deposits.
    pub deposits: Vec<PublicDeposit>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When this version was made.
    pub updated_at: Timestamp,
    /// When its last quote ends.
    pub expire_at: Timestamp,
}

impl Order {
    /// The order as it was at a version, the current one where there is no such version.
    ///
    /// Status, exceptions, amounts received, quotes and deposits are those of that version; where a deposit is,
    /// and its confirmations, are as of now.
    pub fn public(&self, version: u32) -> PublicOrder {
        let shown = self.versions().find(|known| known.number == version).unwrap_or_else(|| self.current());
        let is_current = shown.number == self.version();
        let quotes = self.quotes().iter().take(usize::try_from(shown.quotes).unwrap_or(usize::MAX));
        let latest = quotes.clone().next_back();
        PublicOrder {
            id: self.id().clone(),
            merchant_id: self.merchant(),
            face: self.face(),
            own_id: self.own_id().to_owned(),
            version: shown.number,
            status: shown.status,
            exception: shown.exceptions.word(),
            exceptions: shown.exceptions.iter().collect(),
            price_currency: self.price_currency().clone(),
            price_amount: self.price_text(),
            pay_currency: latest.map(|quote| quote.terms().currency.clone()),
            pay_chain: latest.map(|quote| quote.terms().chain.clone()),
            pay_amount: latest.map(|quote| quote.terms().due.to_decimal_string(quote.terms().decimals)),
            payment_address: latest.and_then(|quote| quote.terms().addresses.first().cloned()),
            received: shown.received.iter().map(public_amount).collect(),
            paid_value: shown.paid_value.normalize().to_string(),
            confirmations: self.confirmations(),
            target_confirmations: latest.map_or(1, crate::QuoteState::complete_count),
            title: self.title().to_owned(),
            attach: self.attach().map(str::to_owned),
            quotes: quotes.clone().map(|quote| self.public_quote(quote)).collect(),
            deposits: self
                .deposits()
                .iter()
                .filter(|deposit| is_current || deposit.position() <= shown.position)
                .map(|deposit| self.public_deposit(deposit))
                .collect(),
            created_at: self.created_at(),
            updated_at: shown.at,
            expire_at: quotes
                .map(crate::QuoteState::expires_at)
                .max()
                .unwrap_or_else(|| self.new_order_limit()),
        }
    }

    fn public_quote(&self, quote: &crate::QuoteState) -> PublicQuote {
        let terms = quote.terms();
        PublicQuote {
            quote: terms.quote,
            chain: terms.chain.clone(),
            currency: terms.currency.clone(),
            addresses: terms.addresses.clone(),
            due: terms.due.to_decimal_string(terms.decimals),
            full: terms.full.to_decimal_string(terms.decimals),
            rate: terms.rate.as_ref().map(|lock| lock.rate.normalize().to_string()),
            received: self.received_at(quote).to_decimal_string(terms.decimals),
            confirmed_count: quote.confirmed_count(),
            complete_count: quote.complete_count(),
            quoted_at: terms.quoted_at,
            expires_at: quote.expires_at(),
        }
    }

    fn public_deposit(&self, deposit: &crate::DepositState) -> PublicDeposit {
        let quote = self.quote_by_number(deposit.quote());
        let decimals = quote
            .filter(|quote| quote.terms().currency == *deposit.currency())
            .map_or(0, |quote| quote.terms().decimals);
        let (stage, block) = match deposit.stage() {
            Stage::Mempool => ("mempool", None),
            Stage::Mined(block) => ("mined", Some(block)),
            Stage::Gone => ("gone", None),
        };
        PublicDeposit {
            quote: deposit.quote(),
            chain: deposit.chain().clone(),
            txid: deposit.key().txid,
            slot: deposit.key().slot.clone(),
            currency: deposit.currency().clone(),
            amount: deposit.amount().to_decimal_string(decimals),
            stage,
            height: block.map(|block| block.height),
            block: block.map(|block| block.hash),
            confirmations: self.deposit_confirmations(deposit),
            counts: self.counts(deposit.key()),
            first_seen: deposit.first_seen(),
        }
    }
}

fn public_amount(got: &Received) -> PublicAmount {
    PublicAmount {
        chain: got.chain.clone(),
        currency: got.currency.clone(),
        amount: got.amount.to_decimal_string(got.decimals),
    }
}
