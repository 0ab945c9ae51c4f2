//! Facts into rows: each fact changes states and indexes; commits carry both with the checkpoint.
//!
//! A commit that one large block does not fit into is split: orders first, the chain's tip and the checkpoint in
//! the last part. After a crash between two parts the fact is folded again, and what is there already changes
//! nothing.
//!
//! Not here: following the log (`projector`).

use std::collections::BTreeMap;

use tally_account::{KeyCounter, Merchant};
use tally_events::{Fact, Recorded};
use tally_order::Status;
use tally_ports::{Change, PortError};
use tally_types::{Fingerprint, MerchantId, OrderId, Position};

use crate::overlay::{Base, Changes, Overlay, Source};
use crate::{codec, keys, rows};

mod archive;
mod at_hand;
mod chains;
mod deliveries;
mod orders;

use at_hand::{AtHand, Entry};
pub(crate) use deliveries::NOTIFY;

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
    /// How many deposits were left out of orders that have too many.
    pub(crate) left_out: u64,
    /// How many orders stand where, as far as this commit changed that.
    pub(crate) counts: BTreeMap<Status, u64>,
    /// The rows it wrote, for those who keep them at hand; none where the fold is catching up.
    pub(crate) rows: Changes,
}

/// How a fold commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// About how many rows a commit has.
    pub(crate) rows_max: usize,
    /// How many orders are kept at hand.
    pub(crate) orders_max: usize,
    /// Whether commits answer the rows they wrote.
    pub(crate) keep_rows: bool,
    /// Where an empty store is filled in bulk, what is put aside; it is no read model before [`Fold::run`] has ended.
    pub(crate) aside: Option<Aside>,
}

/// Rows that are put aside while an empty store is filled in bulk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aside {
    /// About how many there are at most.
    pub(crate) rows_max: usize,
    /// How many of them are written in one commit, however small the others are by then: few would not be packed.
    pub(crate) at_once: usize,
}

/// A larger commit than this is no news for those who keep rows at hand, but history.
const KEPT_ROWS_MAX: usize = 5_000;

/// Folds facts that follow each other in the log.
pub(crate) struct Fold<'a> {
    rows: Overlay<'a>,
    orders: AtHand,
    /// How many rows of theirs differ from the store.
    changed: usize,
    /// The row that versions were added to last: the first position in it, and which of several.
    reached: Option<(u64, u32)>,
    limits: Limits,
    done: Committed,
    /// Counts as they stand now; those that differ from the store's rows are marked.
    counts: BTreeMap<&'static str, (u64, bool)>,
    /// The last fact that is folded whole.
    checkpoint: Position,
    /// For an order on its way into a row.
    room: Vec<u8>,
    /// A commit that failed: whether the store took it all the same is not known.
    unsure: Option<Committed>,
}

impl<'a> Fold<'a> {
    /// A fold that goes on where the store stands; none where that was not filled to the end.
    pub(crate) fn new(store: impl Into<Base<'a>>, limits: Limits) -> Result<Self, PortError> {
        let mut rows = Overlay::new(store);
        // What was put aside when filling it in bulk ended is in no store, and nothing folds it again.
        if rows.get(keys::UNFINISHED)?.is_some() {
            return Err(PortError::persistent(
                "the read model was not filled to the end: the next start fills it anew",
            ));
        }
        let checkpoint = Position::new(rows::number(&rows, keys::CHECKPOINT)?);
        if checkpoint == Position::START && rows.is_empty_but(keys::VERSION)? {
            rows = rows.over_empty(&[keys::VERSION]);
            if limits.aside.is_some() {
                rows.begin_bulk();
            }
        }
        let orders = AtHand::default();
        Ok(Self {
            rows,
            orders,
            changed: 0,
            reached: None,
            limits,
            done: Committed::default(),
            counts: BTreeMap::new(),
            checkpoint,
            room: Vec::new(),
            unsure: None,
        })
    }

    /// What there is to tell of a commit that failed, once it is known of what the store holds.
    pub(crate) fn into_unsure(self) -> Option<Committed> {
        self.unsure
    }

    /// Whether the store took a commit that failed. This fold has begun anew where the store stands.
    pub(crate) fn has(&self, unsure: &Committed, published: Position) -> Result<bool, PortError> {
        if self.checkpoint > published {
            return Ok(self.checkpoint == unsure.position);
        }
        // Of a commit within one large block the checkpoint says nothing, but the orders do.
        let Some(change) = unsure.changes.last() else { return Ok(false) };
        let known = rows::order(&self.rows, &change.order)?;
        Ok(known.is_some_and(|(order, _)| order.version() >= change.version))
    }

    /// How far it has folded, committed or not.
    pub(crate) fn position(&self) -> Position {
        self.checkpoint
    }

    /// Sets how it commits from now on.
    pub(crate) fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Folds facts in log order and commits them; `publish` hears of each commit.
    pub(crate) fn run(
        &mut self,
        facts: &[Recorded],
        mut publish: impl FnMut(Committed),
    ) -> Result<(), PortError> {
        self.take(facts, &mut publish)?;
        if self.rows.is_bulk() {
            self.commit(&mut publish)?;
            self.rows.finish_bulk(self.limits.aside.map_or(self.limits.rows_max, |aside| aside.at_once))?;
        }
        self.commit(&mut publish)
    }

    /// Folds facts in log order, and commits only what is too much to keep.
    pub(crate) fn take(
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
            self.let_go()?;
            if self.is_full() {
                self.commit(&mut publish)?;
            }
        }
        Ok(())
    }

    /// Whether a commit is due.
    fn is_full(&self) -> bool {
        self.pending() >= self.limits.rows_max
    }

    fn pending(&self) -> usize {
        let counts = self.counts.values().filter(|(_, changed)| *changed).count();
        self.rows.len().saturating_add(self.changed).saturating_add(counts)
    }

    /// Commits what has gathered, with the last fact that is folded whole as checkpoint.
    fn commit(&mut self, publish: &mut impl FnMut(Committed)) -> Result<(), PortError> {
        for entry in self.orders.all_mut() {
            write(entry, &mut self.rows, &mut self.room)?;
        }
        self.changed = 0;
        for (name, (count, changed)) in &mut self.counts {
            if std::mem::take(changed) {
                self.rows.put(keys::count(name), count.to_be_bytes());
            }
        }
        let checkpoint = self.checkpoint.get();
        if rows::number(&self.rows, keys::CHECKPOINT)? != checkpoint {
            self.rows.put(keys::CHECKPOINT, checkpoint.to_be_bytes());
        }
        if self.rows.len() == 0 {
            return Ok(());
        }
        if let Some(aside) = self.limits.aside
            && self.rows.len_aside() >= aside.rows_max
        {
            self.rows.write_aside(aside.at_once)?;
        }
        let keep = self.limits.keep_rows && self.rows.len() <= KEPT_ROWS_MAX;
        self.unsure = Some(Committed { position: self.checkpoint, ..std::mem::take(&mut self.done) });
        // Whoever waits for a position need not wait for the disk: what is lost here is folded again from the log.
        let done = &mut self.unsure;
        self.rows.commit(keep, |rows| publish(Committed { rows, ..done.take().unwrap_or_default() }))?;
        Ok(())
    }

    /// Lets go of orders that were not asked for lately, where there are more than are kept at hand.
    fn let_go(&mut self) -> Result<(), PortError> {
        for mut entry in self.orders.gone(self.limits.orders_max) {
            let written = write(&mut entry, &mut self.rows, &mut self.room)?;
            self.changed = self.changed.saturating_sub(written);
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
            Fact::OrdersArchived(fact) => self.orders_archived(fact, recorded)?,
            Fact::OrderClaimed(fact) => {
                self.rows.put(keys::own_id(&event.subject), rows::claim(&fact.order, recorded.position));
            }
            Fact::KeyRegistered(fact) => self.key_fact(&fact.fingerprint, recorded)?,
            Fact::KeyAllocated(fact) => self.key_fact(&fact.fingerprint, recorded)?,
            Fact::BlockConnected(fact) => self.block_connected(fact, recorded, publish)?,
            Fact::BlockDisconnected(fact) => self.block_disconnected(fact, recorded, publish)?,
            Fact::ChainObserved(fact) => self.chain_reported(fact, event)?,
            Fact::ChainCheckpointed(fact) => {
                self.chain_observed(&fact.chain, event.shard, fact.observed_at, fact.watched_through)?;
            }
            Fact::ChainFinalized(fact) => self.chain_finalized(fact, recorded, publish)?,
            Fact::ChainSharded(fact) => self.chain_sharded(fact)?,
            Fact::DepositSeen(fact) => self.deposit_met(&fact.chain, &fact.deposit, None, recorded)?,
            Fact::DepositMined(fact) => {
                self.deposit_met(&fact.chain, &fact.deposit, Some(fact.block), recorded)?;
            }
            Fact::DepositUnmined(fact) => self.deposit_fact(&fact.chain, &fact.deposit, recorded)?,
            Fact::DepositReplaced(fact) => self.deposit_fact(&fact.chain, &fact.deposit, recorded)?,
            Fact::DepositVanished(fact) => self.deposit_fact(&fact.chain, &fact.deposit, recorded)?,
            Fact::DeliveryAttempted(fact) => self.delivery_attempted(fact, recorded.position)?,
            Fact::MerchantCreated(fact) => self.merchant_fact(fact.merchant, recorded)?,
            Fact::MerchantChanged(fact) => self.merchant_fact(fact.merchant, recorded)?,
            Fact::ApiKeyCreated(fact) => self.merchant_fact(fact.merchant, recorded)?,
            Fact::ApiKeyRevoked(fact) => self.merchant_fact(fact.merchant, recorded)?,
            Fact::WalletAdded(fact) => self.merchant_fact(fact.merchant, recorded)?,
            Fact::RescanRequested(_) | Fact::RescanReported(_) | Fact::RescanApplied(_) => {}
            Fact::DepositConfirmed(_) | Fact::RatesPublished(_) => {}
        }
        // Orders, claims and deliveries say in their own rows where their last facts stand.
        let has_row = matches!(
            event.fact,
            Fact::KeyRegistered(_)
                | Fact::KeyAllocated(_)
                | Fact::MerchantCreated(_)
                | Fact::MerchantChanged(_)
                | Fact::ApiKeyCreated(_)
                | Fact::ApiKeyRevoked(_)
                | Fact::WalletAdded(_)
        );
        if has_row {
            self.rows.put(keys::subject(&event.subject), recorded.position.get().to_be_bytes());
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
                self.rows.put(keys::merchant(id), codec::to_json(format_args!("merchant {id}"), &merchant)?);
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
                self.rows.put(keys::key_counter(key), codec::to_bytes(format_args!("key {key}"), &counter)?);
            }
            None => orphan(recorded),
        }
        Ok(())
    }

    fn count(&mut self, name: &'static str, add: u64, take: u64) -> Result<u64, PortError> {
        let known = match self.counts.get(name) {
            Some((count, _)) => *count,
            None => rows::number(&self.rows, &keys::count(name))?,
        };
        let count = known.saturating_add(add).saturating_sub(take);
        self.counts.insert(name, (count, true));
        Ok(count)
    }
}

/// Writes what differs from the rows; answers how many things that were.
fn write(entry: &mut Entry, rows: &mut Overlay<'_>, room: &mut Vec<u8>) -> Result<usize, PortError> {
    let id = entry.order.id();
    let mut written = 0;
    if std::mem::take(&mut entry.notified.changed)
        && let Some(state) = &entry.notified.state
    {
        rows.put(keys::delivery(id, deliveries::NOTIFY), deliveries::row(id, state)?);
        written += 1;
    }
    if std::mem::take(&mut entry.changed) {
        let put = |number, part: &[u8]| rows.put(keys::order_part(id, number), part);
        let count = rows::order_parts(&entry.order, room, put)?;
        for stale in count..entry.parts {
            rows.remove(keys::order_part(id, stale));
        }
        entry.parts = count;
        written += 1;
    }
    Ok(written)
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
