//! The read model: answers from the store, and word of what was folded.
//!
//! Single rows are answered from what is at hand (`cache`); everything else is read from the store off the async
//! threads, for while a commit runs, a read waits.
//! Not here: folding (`fold`).

use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use tally_account::{KeyCounter, Merchant};
use tally_events::Subject;
use tally_order::Order;
use tally_ports::{
    ChainView, Change, Deadline, DeadlineKind, OrderFilter, PortError, ReadModel, Store, Undelivered,
    VersionReached,
};
use tally_types::{
    ChainId, DepositKey, Face, Fingerprint, MerchantId, OrderId, Position, Script, Span, Timestamp,
};
use tokio::sync::{broadcast, watch};

use crate::cache::{AtHand, Cache, Through};
use crate::fold::{Committed, NOTIFY};
use crate::overlay::Source;
use crate::{codec, keys, rows};

/// How many changes a receiver may lag behind before it is told that it missed some.
const CHANGES_KEPT: usize = 4_096;

/// How many index rows are read at once while orders are filtered.
const PAGE: usize = 200;

/// How many rows of reached versions are read at once.
const REACHED_PAGE: usize = 16;

/// What was folded, for reading.
pub struct Model {
    store: RwLock<Arc<dyn Store>>,
    cache: Arc<Cache>,
    position: watch::Sender<Position>,
    changes: broadcast::Sender<Change>,
}

impl Model {
    /// A read model over a store that a projector keeps up to date.
    pub(crate) fn open(store: Arc<dyn Store>) -> Result<Self, PortError> {
        let position = Position::new(rows::number(&*store, keys::CHECKPOINT)?);
        Ok(Self {
            store: RwLock::new(store),
            cache: Arc::default(),
            position: watch::Sender::new(position),
            changes: broadcast::Sender::new(CHANGES_KEPT),
        })
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        self.store.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads from another store from now on, which holds what this one does.
    pub(crate) fn replace(&self, store: Arc<dyn Store>) {
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = store;
        self.cache.renew();
    }

    /// Lets waiters and receivers know of a commit.
    pub(crate) fn publish(&self, committed: Committed) {
        if committed.rows.is_empty() {
            self.cache.clear();
        } else {
            self.cache.take(committed.rows);
        }
        self.position.send_replace(committed.position);
        for change in committed.changes {
            // An error says that nobody listens.
            let _ = self.changes.send(change);
        }
    }

    /// Reads single rows: from what is at hand, else on a thread that may block.
    async fn rows<T: Send + 'static>(
        &self,
        read: impl Fn(&dyn Source) -> Result<T, PortError> + Send + 'static,
    ) -> Result<T, PortError> {
        {
            let at_hand = AtHand::new(&self.cache);
            let found = read(&at_hand);
            if at_hand.was_enough() {
                return found;
            }
        }
        let (of, store, cache) = (self.cache.store(), self.store(), self.cache.clone());
        blocking(move || read(&Through { cache: &cache, store: &*store, of })).await
    }

    /// Runs a read on a thread that may block.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Store) -> Result<T, PortError> + Send + 'static,
    ) -> Result<T, PortError> {
        let store = self.store();
        blocking(move || read(&*store)).await
    }

    /// Deadlines that have passed, from a place on, and the place to go on at if there are more than `limit`.
    pub(crate) async fn due_after(
        &self,
        place: Option<Vec<u8>>,
        now: Timestamp,
        limit: usize,
    ) -> Result<(Vec<Deadline>, Option<Vec<u8>>), PortError> {
        self.read(move |store| {
            let (from, to) = keys::deadlines_until(now);
            let rows = store.range(place.as_deref().unwrap_or(&from), &to, limit)?;
            let next =
                rows.last().filter(|_| rows.len() >= limit).map(|(last, _)| keys::following(last).to_vec());
            Ok((rows.iter().filter_map(|(key, _)| read_deadline(key)).collect(), next))
        })
        .await
    }

    /// Orders closed by `end`, the longest closed first, from a place on, and the place to go on at if there are more
    /// than `limit`.
    pub(crate) async fn closed_until(
        &self,
        place: Option<Vec<u8>>,
        end: Timestamp,
        limit: usize,
    ) -> Result<(Vec<OrderId>, Option<Vec<u8>>), PortError> {
        self.read(move |store| {
            let (from, to) = keys::closed_until(end);
            let rows = store.range(place.as_deref().unwrap_or(&from), &to, limit)?;
            let next =
                rows.last().filter(|_| rows.len() >= limit).map(|(last, _)| keys::following(last).to_vec());
            Ok((rows.iter().filter_map(|(key, _)| keys::order_at(key, 9)).collect(), next))
        })
        .await
    }

    /// What became of an order's deliveries, by endpoint.
    pub(crate) async fn deliveries(&self, order: &OrderId) -> Result<Vec<DeliveredTo>, PortError> {
        let id = order.clone();
        self.read(move |store| {
            let from = keys::deliveries_of(&id);
            let rows = Source::range(store, &from, &keys::after(&from))?;
            let read = |(_, row): &(Vec<u8>, Vec<u8>)| -> Result<DeliveredTo, PortError> {
                let state: rows::DeliveryState = codec::from_bytes("a delivery", row)?;
                // Without an attempt there is only the one that an order itself names.
                let endpoint = state.last.map_or_else(|| NOTIFY.to_owned(), |last| last.endpoint);
                Ok(DeliveredTo { endpoint, due: state.due.is_some(), position: state.position })
            };
            rows.iter().map(read).collect()
        })
        .await
    }

    /// Orders whose late money their own policy accepts, from a place on, and the place to go on at if there are more
    /// than `limit`.
    pub(crate) async fn awaiting(
        &self,
        place: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<(Vec<Order>, Option<Vec<u8>>), PortError> {
        self.read(move |store| {
            let from = keys::all_awaiting();
            let rows = store.range(place.as_deref().unwrap_or(&from), &keys::after(&from), limit)?;
            let next =
                rows.last().filter(|_| rows.len() >= limit).map(|(last, _)| keys::following(last).to_vec());
            let ids = rows.iter().filter_map(|(key, _)| keys::order_at(key, 1));
            let orders = ids.filter_map(|id| load(store, &id).transpose()).collect::<Result<_, _>>()?;
            Ok((orders, next))
        })
        .await
    }
}

/// What became of an order's deliveries to one endpoint.
pub(crate) struct DeliveredTo {
    /// Where they go.
    pub(crate) endpoint: String,
    /// Whether one is still to be made.
    pub(crate) due: bool,
    /// The last fact about them; 0 where there is none, or it was archived.
    pub(crate) position: Position,
}

/// Runs what blocks on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PortError> + Send + 'static,
) -> Result<T, PortError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(PortError::transient("a read of the store was cut short").because(error)),
    }
}

/// An order as of now: its confirmations under its chains' tips.
fn load(store: &(impl Source + ?Sized), id: &OrderId) -> Result<Option<Order>, PortError> {
    let Some((mut order, _)) = rows::order(store, id)? else {
        return Ok(None);
    };
    let mut chains: Vec<ChainId> = order.deposits().iter().map(|deposit| deposit.chain().clone()).collect();
    chains.dedup();
    for chain in chains {
        for state in rows::shards(store, &chain)? {
            if let Some(tip) = state.tip {
                order.show_tip(&chain, state.shard, tip);
            }
        }
    }
    Ok(Some(order))
}

/// Where the last folded fact of a subject stands.
fn last_fact(store: &dyn Source, subject: &Subject) -> Result<Position, PortError> {
    let order = || subject.as_str().rsplit('.').next().and_then(|id| id.parse::<OrderId>().ok());
    Ok(match (subject.aggregate(), order()) {
        ("order", Some(id)) => {
            rows::order(store, &id)?.map_or(Position::START, |(order, _)| order.own_position())
        }
        ("delivery", Some(id)) => {
            let from = keys::deliveries_of(&id);
            let mut last = Position::START;
            for (_, row) in store.range(&from, &keys::after(&from))? {
                let state: rows::DeliveryState = codec::from_bytes("a delivery", &row)?;
                last = last.max(state.position);
            }
            last
        }
        ("claim", _) => {
            let claim = rows::read_claim(store.get(&keys::own_id(subject))?);
            claim.map_or(Position::START, |(_, position)| position)
        }
        _ => Position::new(rows::number(store, &keys::subject(subject))?),
    })
}

/// The versions after a position: whole facts only, unless one alone is more than `limit`.
fn reached(store: &dyn Store, after: Position, limit: usize) -> Result<Vec<VersionReached>, PortError> {
    let (mut from, to) = keys::reached_after(after);
    let mut found: Vec<rows::Reached> = Vec::new();
    let is_enough = |found: &[rows::Reached]| {
        let ends = found.first().zip(found.last());
        found.len() > limit && ends.is_some_and(|(first, last)| first.position != last.position)
    };
    while !is_enough(&found) {
        let page = store.range(&from, &to, REACHED_PAGE)?;
        let Some((last, _)) = page.last() else { break };
        from = keys::following(last);
        for (key, row) in &page {
            found.extend(rows::read_reached(key, row)?.into_iter().filter(|one| one.position > after));
        }
    }
    found.sort();
    if let Some(cut) = found.get(limit).map(|one| one.position) {
        match found.iter().take_while(|one| one.position != cut).count() {
            0 => found.retain(|one| one.position == cut),
            whole => found.truncate(whole),
        }
    }
    let mut reached = Vec::with_capacity(found.len());
    for rows::Reached { position, version, order } in found {
        let Some(order) = load(store, &order)? else { continue };
        reached.push(VersionReached { position, version, order });
    }
    Ok(reached)
}

fn due(
    store: &dyn Store,
    partitions: &[u8],
    now: Timestamp,
    limit: usize,
) -> Result<Vec<Undelivered>, PortError> {
    let mut rows = Vec::new();
    for partition in partitions {
        let (from, to) = keys::undelivered_until(*partition, now);
        rows.extend(store.range(&from, &to, limit)?);
    }
    rows.sort_by_key(|(key, _)| keys::number_at(key, 2));
    rows.truncate(limit);
    let mut due = Vec::with_capacity(rows.len());
    for (_, value) in rows {
        let (id, endpoint): (OrderId, String) = codec::from_bytes("a due delivery", &value)?;
        if let Some(order) = load(store, &id)? {
            let last = rows::delivery(store, &id, &endpoint)?.last;
            due.push(Undelivered { order, endpoint, last });
        }
    }
    Ok(due)
}

fn matches(order: &Order, filter: &OrderFilter) -> bool {
    filter.merchant.is_none_or(|merchant| order.merchant() == merchant)
        && filter.face.is_none_or(|face| order.face() == face)
        && filter.status.as_ref().is_none_or(|status| order.status().as_str() == status)
}

fn list(store: &dyn Store, filter: &OrderFilter, limit: usize) -> Result<Vec<Order>, PortError> {
    let (from, id_at) = match filter.merchant {
        Some(merchant) => (keys::of_merchant(merchant), 17),
        None => (keys::all_by_creation(), 9),
    };
    let mut to = keys::after(&from);
    if let Some(before) = &filter.before {
        match rows::order(store, before)? {
            Some((order, _)) if filter.merchant.is_some() => {
                to = keys::by_merchant(order.merchant(), order.created_at(), before);
            }
            Some((order, _)) => to = keys::by_creation(order.created_at(), before),
            None => return Ok(Vec::new()),
        }
    }
    let mut found = Vec::new();
    loop {
        let page = store.range_back(&from, &to, PAGE)?;
        for (key, _) in &page {
            let Some(id) = keys::order_at(key, id_at) else { continue };
            if let Some(order) = load(store, &id)?.filter(|order| matches(order, filter)) {
                found.push(order);
            }
            if found.len() >= limit {
                return Ok(found);
            }
        }
        match page.into_iter().last() {
            Some((last, _)) => to = keys::Key::from(last),
            None => return Ok(found),
        }
    }
}

fn deadlines(store: &dyn Store, now: Timestamp, limit: usize) -> Result<Vec<Deadline>, PortError> {
    let (from, to) = keys::deadlines_until(now);
    let rows = store.range(&from, &to, limit)?;
    Ok(rows.iter().filter_map(|(key, _)| read_deadline(key)).collect())
}

fn read_deadline(key: &[u8]) -> Option<Deadline> {
    let at = Timestamp::from_millis(i64::try_from(keys::number_at(key, 1)?).ok()?);
    let kind = match *key.get(9)? {
        1 => DeadlineKind::Expiry,
        2 => DeadlineKind::Invalidation,
        3 => DeadlineKind::Unwatch,
        _ => return None,
    };
    Some(Deadline { at, kind, order: keys::order_at(key, 10)? })
}

#[async_trait]
impl ReadModel for Model {
    fn position(&self) -> Position {
        *self.position.borrow()
    }

    async fn wait_for(&self, position: Position, at_most: Span) -> bool {
        let mut folded = self.position.subscribe();
        let reached = folded.wait_for(|folded| *folded >= position);
        matches!(tokio::time::timeout(at_most.to_duration(), reached).await, Ok(Ok(_)))
    }

    async fn subject_position(&self, subject: &Subject) -> Result<Position, PortError> {
        let subject = subject.clone();
        self.rows(move |store| last_fact(store, &subject)).await
    }

    async fn order(&self, order: &OrderId) -> Result<Option<Order>, PortError> {
        let id = order.clone();
        self.rows(move |store| load(store, &id)).await
    }

    async fn order_by_own_id(
        &self,
        merchant: MerchantId,
        face: Face,
        own_id: &str,
    ) -> Result<Option<OrderId>, PortError> {
        let key = keys::own_id(&Subject::claim(merchant, face, own_id));
        self.rows(move |store| Ok(rows::read_claim(store.get(&key)?).map(|(order, _)| order))).await
    }

    async fn order_by_script(
        &self,
        chain: &ChainId,
        script: &Script,
    ) -> Result<Option<(OrderId, u32)>, PortError> {
        let key = keys::script(chain, script);
        self.rows(move |store| rows::script_owner(store.get(&key)?)).await
    }

    async fn order_by_deposit(
        &self,
        chain: &ChainId,
        deposit: &DepositKey,
    ) -> Result<Option<OrderId>, PortError> {
        let key = keys::deposit(chain, deposit);
        self.rows(move |store| Ok(rows::order_id(store.get(&key)?))).await
    }

    async fn orders(&self, filter: &OrderFilter, limit: usize) -> Result<Vec<Order>, PortError> {
        let filter = filter.clone();
        self.read(move |store| list(store, &filter, limit)).await
    }

    async fn merchant(&self, merchant: MerchantId) -> Result<Option<Merchant>, PortError> {
        self.rows(move |store| rows::merchant(store, merchant)).await
    }

    async fn merchants(&self) -> Result<Vec<Merchant>, PortError> {
        self.read(|store| {
            let from = keys::merchants();
            let rows = Source::range(store, &from, &keys::after(&from))?;
            rows.iter().map(|(_, value)| codec::from_json("a merchant", value)).collect()
        })
        .await
    }

    async fn key_counter(&self, key: &Fingerprint) -> Result<Option<KeyCounter>, PortError> {
        let key = key.clone();
        self.rows(move |store| rows::key_counter(store, &key)).await
    }

    async fn chain(&self, chain: &ChainId) -> Result<Option<ChainView>, PortError> {
        let chain = chain.clone();
        let state = self.rows(move |store| rows::chain(store, &chain)).await?;
        Ok(state.tip.map(|tip| ChainView {
            tip,
            observed_at: state.observed_at,
            watched_through: state.watched_through,
        }))
    }

    async fn versions(&self, after: Position, limit: usize) -> Result<Vec<VersionReached>, PortError> {
        self.read(move |store| reached(store, after, limit)).await
    }

    async fn undelivered(
        &self,
        partitions: &[u8],
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Undelivered>, PortError> {
        let partitions = partitions.to_vec();
        self.read(move |store| due(store, &partitions, now, limit)).await
    }

    async fn backlog(&self) -> Result<u64, PortError> {
        self.rows(|store| rows::number(store, &keys::count(rows::BACKLOG))).await
    }

    async fn deadlines(&self, now: Timestamp, limit: usize) -> Result<Vec<Deadline>, PortError> {
        self.read(move |store| deadlines(store, now, limit)).await
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}
