//! Facts into rows: each fact changes states and indexes; commits carry both with the checkpoint.
//!
//! A commit that one large block does not fit into is split: orders first, the chain's tip and the checkpoint in
//! the last part. After a crash between two parts the fact is folded again, and what is there already changes
//! nothing.
//!
//! Not here: following the log (`projector`).

use std::collections::{BTreeMap, HashMap};

use tally_account::{KeyCounter, Merchant};
use tally_events::{Fact, Recorded};
use tally_order::{Order, Status};
use tally_ports::{Change, PortError, Store};
use tally_types::{Fingerprint, MerchantId, OrderId, Position};

use crate::overlay::Overlay;
use crate::{codec, keys, rows};

mod chains;
mod deliveries;
mod orders;

/// What a commit made durable.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    /// The log is folded through here.
    pub(crate) position: Position,
    /// Versions that were reached.
    pub(crate) changes: Vec<Change>,
    /// Statuses that were entered.
    pub(crate) entered: Vec<Status>,
    /// Complete orders that a reorg took the money of: incidents for a person.
    pub(crate) undone: Vec<OrderId>,
    /// How many orders stand where, as far as this commit changed that.
    pub(crate) counts: BTreeMap<Status, u64>,
}

/// An order that was read or made by this fold.
struct Entry {
    order: Order,
    /// How many rows it takes in the store.
    parts: u8,
    changed: bool,
}

/// One run over facts that follow each other in the log.
pub(crate) struct Fold<'a> {
    rows: Overlay<'a>,
    orders: HashMap<OrderId, Option<Entry>>,
    /// How many of them differ from the store.
    changed: usize,
    rows_max: usize,
    done: Committed,
    /// The last fact that is folded whole.
    checkpoint: Position,
}

impl<'a> Fold<'a> {
    /// A fold that goes on where the store stands, with at most about `rows_max` rows a commit.
    pub(crate) fn new(store: &'a dyn Store, rows_max: usize) -> Result<Self, PortError> {
        let checkpoint = Position::new(rows::number(store, keys::CHECKPOINT)?);
        Ok(Self {
            rows: Overlay::new(store),
            orders: HashMap::new(),
            changed: 0,
            rows_max: rows_max.max(1),
            done: Committed::default(),
            checkpoint,
        })
    }

    /// Folds facts in log order and commits them; `publish` hears of each commit.
    pub(crate) fn run(
        &mut self,
        facts: &[Recorded],
        mut publish: impl FnMut(Committed),
    ) -> Result<(), PortError> {
        for fact in facts {
            if fact.position <= self.checkpoint {
                continue;
            }
            self.fold(fact, &mut publish)?;
            self.checkpoint = fact.position;
            if self.pending() >= self.rows_max {
                self.commit(&mut publish)?;
            }
        }
        self.commit(&mut publish)
    }

    fn pending(&self) -> usize {
        self.rows.len().saturating_add(self.changed)
    }

    /// Commits what has gathered, with the last fact that is folded whole as checkpoint.
    fn commit(&mut self, publish: &mut impl FnMut(Committed)) -> Result<(), PortError> {
        for entry in self.orders.values_mut().flatten().filter(|entry| entry.changed) {
            let parts = rows::order_parts(&entry.order)?;
            let count = u8::try_from(parts.len()).unwrap_or(u8::MAX);
            for (number, part) in (0_u8..).zip(parts) {
                self.rows.put(keys::order_part(entry.order.id(), number), part);
            }
            for stale in count..entry.parts {
                self.rows.remove(keys::order_part(entry.order.id(), stale));
            }
            entry.parts = count;
            entry.changed = false;
        }
        self.changed = 0;
        let checkpoint = self.checkpoint.get();
        if rows::number(&self.rows, keys::CHECKPOINT)? != checkpoint {
            self.rows.put(keys::CHECKPOINT.to_vec(), checkpoint.to_be_bytes().to_vec());
        }
        if self.rows.len() == 0 {
            return Ok(());
        }
        self.rows.commit()?;
        self.done.position = self.checkpoint;
        publish(std::mem::take(&mut self.done));
        if self.orders.len() > self.rows_max {
            self.orders.clear();
        }
        Ok(())
    }

    fn fold(&mut self, recorded: &Recorded, publish: &mut impl FnMut(Committed)) -> Result<(), PortError> {
        let event = &recorded.event;
        match &event.fact {
            Fact::OrderCreated(fact) => self.order_created(fact, recorded)?,
            Fact::OrderQuoted(fact) => self.order_quoted(fact, recorded)?,
            Fact::OrderCanceled(fact) => self.order_fact(&fact.order, recorded)?,
            Fact::OrderAccepted(fact) => self.order_fact(&fact.order, recorded)?,
            Fact::OrderExpired(fact) => self.order_fact(&fact.order, recorded)?,
            Fact::OrderInvalidated(fact) => self.order_fact(&fact.order, recorded)?,
            Fact::OrderUnwatched(fact) => self.order_fact(&fact.order, recorded)?,
            Fact::OrderClaimed(fact) => {
                self.rows.put(keys::own_id(&event.subject), fact.order.as_str().into());
            }
            Fact::KeyRegistered(fact) => self.key_fact(&fact.fingerprint, recorded)?,
            Fact::KeyAllocated(fact) => self.key_fact(&fact.fingerprint, recorded)?,
            Fact::BlockConnected(fact) => self.block_connected(fact, recorded, publish)?,
            Fact::BlockDisconnected(fact) => self.block_disconnected(fact, recorded, publish)?,
            Fact::ChainObserved(fact) => {
                self.chain_observed(&fact.chain, fact.observed_at, fact.watched_through)?;
            }
            Fact::ChainCheckpointed(fact) => {
                self.chain_observed(&fact.chain, fact.observed_at, fact.watched_through)?;
            }
            Fact::DepositSeen(fact) => self.deposit_met(&fact.chain, &fact.deposit, None, recorded)?,
            Fact::DepositMined(fact) => {
                self.deposit_met(&fact.chain, &fact.deposit, Some(fact.block), recorded)?;
            }
            Fact::DepositUnmined(fact) => self.deposit_fact(&fact.chain, &fact.deposit, recorded)?,
            Fact::DepositReplaced(fact) => self.deposit_fact(&fact.chain, &fact.deposit, recorded)?,
            Fact::DepositVanished(fact) => self.deposit_fact(&fact.chain, &fact.deposit, recorded)?,
            Fact::DeliveryAttempted(fact) => self.delivery_attempted(fact)?,
            Fact::MerchantCreated(fact) => self.merchant_fact(fact.merchant, recorded)?,
            Fact::MerchantChanged(fact) => self.merchant_fact(fact.merchant, recorded)?,
            Fact::ApiKeyCreated(fact) => self.merchant_fact(fact.merchant, recorded)?,
            Fact::ApiKeyRevoked(fact) => self.merchant_fact(fact.merchant, recorded)?,
            Fact::WalletAdded(fact) => self.merchant_fact(fact.merchant, recorded)?,
            Fact::DepositConfirmed(_) | Fact::RatesPublished(_) => {}
        }
        if matches!(event.subject.aggregate(), "order" | "claim" | "key" | "delivery" | "merchant") {
            self.rows.put(keys::subject(&event.subject), recorded.position.get().to_be_bytes().to_vec());
        }
        Ok(())
    }

    fn merchant_fact(&mut self, id: MerchantId, recorded: &Recorded) -> Result<(), PortError> {
        let merchant = match rows::merchant(&self.rows, id)? {
            Some(mut merchant) => {
                merchant.apply(&recorded.event.fact);
                Some(merchant)
            }
            None => Merchant::from_fact(&recorded.event.fact),
        };
        match merchant {
            Some(merchant) => {
                self.rows.put(keys::merchant(id), codec::to_json(&format!("merchant {id}"), &merchant)?);
            }
            None => orphan(recorded),
        }
        Ok(())
    }

    fn key_fact(&mut self, key: &Fingerprint, recorded: &Recorded) -> Result<(), PortError> {
        let counter = match rows::key_counter(&self.rows, key)? {
            Some(mut counter) => {
                counter.apply(&recorded.event.fact);
                Some(counter)
            }
            None => KeyCounter::from_fact(&recorded.event.fact),
        };
        match counter {
            Some(counter) => {
                self.rows.put(keys::key_counter(key), codec::to_bytes(&format!("key {key}"), &counter)?);
            }
            None => orphan(recorded),
        }
        Ok(())
    }

    fn count(&mut self, name: &str, add: u64, take: u64) -> Result<u64, PortError> {
        let key = keys::count(name);
        let count = rows::number(&self.rows, &key)?.saturating_add(add).saturating_sub(take);
        self.rows.put(key, count.to_be_bytes().to_vec());
        Ok(count)
    }
}

/// A fact about something whose first fact the log does not have. Nothing follows from it.
fn orphan(recorded: &Recorded) {
    tracing::warn!(
        position = recorded.position.get(),
        subject = %recorded.event.subject,
        kind = recorded.event.fact.kind(),
        "a fact about something that was never created: it is left out"
    );
}
