//! What the rows of the store hold, and how they are read.
//!
//! Not here: keys (`keys`), writing (`fold`).

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use tally_account::{KeyCounter, Merchant};
use tally_events::{DeliveryAttempted, Shard};
use tally_order::Order;
use tally_ports::PortError;
use tally_types::{BlockRef, ChainId, Fingerprint, Height, MerchantId, OrderId, Position, Timestamp};

use crate::overlay::Source;
use crate::{codec, keys};

/// The largest piece of an order in one row: under the store's limit for values.
pub(crate) const PART_MAX: usize = 60_000;

/// Bytes of a row of versions that were reached; more go into another.
pub(crate) const REACHED_MAX: usize = 4_000;

/// The name of the count of versions that are not delivered.
pub(crate) const BACKLOG: &str = "backlog";

/// A chain, as far as the facts of one of its shards are folded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChainState {
    pub(crate) shard: Shard,
    pub(crate) tip: Option<BlockRef>,
    pub(crate) observed_at: Timestamp,
    pub(crate) watched_through: Position,
    /// The height of the last final block; 0 where none is known.
    pub(crate) finalized: Height,
}

/// What became of an order's versions at one endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeliveryState {
    /// The highest version that was acknowledged or given up.
    pub(crate) covered: u32,
    /// When the next attempt is due; none where nothing is to be delivered.
    pub(crate) due: Option<Timestamp>,
    /// The last attempt at any version.
    pub(crate) last: Option<DeliveryAttempted>,
    /// The last fact about this endpoint.
    pub(crate) position: Position,
}

pub(crate) fn number(source: &(impl Source + ?Sized), key: &[u8]) -> Result<u64, PortError> {
    Ok(source.get(key)?.as_deref().and_then(codec::number).unwrap_or(0))
}

/// An order, and how many rows it takes.
pub(crate) fn order(source: &(impl Source + ?Sized), id: &OrderId) -> Result<Option<(Order, u8)>, PortError> {
    let Some(first) = source.get(&keys::order_part(id, 0))? else {
        return Ok(None);
    };
    let (parts, head) = match first.split_first() {
        Some((parts, head)) => (*parts, head),
        None => (0, first.as_slice()),
    };
    let mut bytes = head.to_vec();
    for part in 1..parts {
        bytes.extend(source.get(&keys::order_part(id, part))?.unwrap_or_default());
    }
    let order = codec::from_bytes(format_args!("order {id}"), &bytes)?;
    Ok(Some((order, parts)))
}

/// Hands out an order's rows: pieces, the first with their number in front. Answers that number; `room` is for the
/// work.
pub(crate) fn order_parts(
    order: &Order,
    room: &mut Vec<u8>,
    mut put: impl FnMut(u8, &[u8]),
) -> Result<u8, PortError> {
    room.clear();
    room.push(1);
    *room = codec::append(format_args!("order {}", order.id()), order, std::mem::take(room))?;
    if room.len() <= PART_MAX {
        put(0, room);
        return Ok(1);
    }
    let whole = room.get(1..).unwrap_or_default();
    let count = u8::try_from(whole.len().div_ceil(PART_MAX))
        .map_err(|_| PortError::persistent(format!("order {} has outgrown the read model", order.id())))?;
    for (number, piece) in (0_u8..).zip(whole.chunks(PART_MAX)) {
        match number {
            0 => put(0, &[&[count], piece].concat()),
            _ => put(number, piece),
        }
    }
    Ok(count)
}

/// A shard of a chain.
pub(crate) fn shard(
    source: &(impl Source + ?Sized),
    chain: &ChainId,
    shard: Shard,
) -> Result<ChainState, PortError> {
    let known = match source.get(&keys::chain(chain, shard.index()))? {
        Some(bytes) => codec::from_bytes(format_args!("chain {chain}"), &bytes)?,
        None => ChainState::default(),
    };
    Ok(ChainState { shard, ..known })
}

/// All shards of a chain; none before the first fact about it.
pub(crate) fn shards(source: &(impl Source + ?Sized), chain: &ChainId) -> Result<Vec<ChainState>, PortError> {
    let Some(first) = source.get(&keys::chain(chain, 0))? else { return Ok(Vec::new()) };
    let first: ChainState = codec::from_bytes(format_args!("chain {chain}"), &first)?;
    Shard::all(first.shard.count()).map(|one| shard(source, chain, one)).collect()
}

/// A chain as a whole: what all its shards have reached.
pub(crate) fn chain(source: &(impl Source + ?Sized), chain: &ChainId) -> Result<ChainState, PortError> {
    let least = |one: ChainState, other: ChainState| ChainState {
        shard: Shard::WHOLE,
        tip: one.tip.zip(other.tip).map(|(one, other)| if other.height < one.height { other } else { one }),
        observed_at: one.observed_at.min(other.observed_at),
        watched_through: one.watched_through.min(other.watched_through),
        finalized: one.finalized.min(other.finalized),
    };
    Ok(shards(source, chain)?.into_iter().reduce(least).unwrap_or_default())
}

/// Whether a block is part of the log's branch. Blocks of a run and very old ones are not kept one by one:
/// what a watcher says of them holds.
pub(crate) fn is_connected(
    source: &(impl Source + ?Sized),
    chain: &ChainId,
    shard: Shard,
    tip: Height,
    block: BlockRef,
) -> Result<bool, PortError> {
    let known = source.get(&keys::header(chain, shard.index(), block.height))?;
    Ok(block.height <= tip && known.is_none_or(|hash| hash == block.hash.display_bytes()))
}

pub(crate) fn merchant(
    source: &(impl Source + ?Sized),
    id: MerchantId,
) -> Result<Option<Merchant>, PortError> {
    let bytes = source.get(&keys::merchant(id))?;
    bytes.map(|bytes| codec::from_json(format_args!("merchant {id}"), &bytes)).transpose()
}

pub(crate) fn key_counter(
    source: &(impl Source + ?Sized),
    key: &Fingerprint,
) -> Result<Option<KeyCounter>, PortError> {
    let bytes = source.get(&keys::key_counter(key))?;
    bytes.map(|bytes| codec::from_bytes(format_args!("key {key}"), &bytes)).transpose()
}

pub(crate) fn delivery(
    source: &(impl Source + ?Sized),
    order: &OrderId,
    endpoint: &str,
) -> Result<DeliveryState, PortError> {
    match source.get(&keys::delivery(order, endpoint))? {
        Some(bytes) => codec::from_bytes(format_args!("the deliveries of order {order}"), &bytes),
        None => Ok(DeliveryState::default()),
    }
}

/// An order id that is the whole value of a row.
pub(crate) fn order_id(bytes: Option<Vec<u8>>) -> Option<OrderId> {
    keys::read_order(&bytes?).map(|(order, _)| order)
}

/// Writes what [`order_id`] reads.
pub(crate) fn of_order(order: &OrderId) -> Vec<u8> {
    keys::PackedOrder::of(order).to_vec()
}

/// A claim: the order it is for, and where it stands in the log.
pub(crate) fn claim(order: &OrderId, position: Position) -> Vec<u8> {
    let mut bytes = of_order(order);
    bytes.extend_from_slice(&position.get().to_be_bytes());
    bytes
}

/// Reads what [`claim`] wrote.
pub(crate) fn read_claim(bytes: Option<Vec<u8>>) -> Option<(OrderId, Position)> {
    let bytes = bytes?;
    let (order, position) = keys::read_order(&bytes)?;
    Some((order, Position::new(codec::number(position)?)))
}

/// A version that was reached, as it stands in a row with others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reached {
    pub(crate) position: Position,
    pub(crate) version: u32,
    pub(crate) order: OrderId,
}

/// A version that was reached, as it stands in a row: its position among the row's, its number, and the order.
pub(crate) fn of_reached(position: Position, version: u32, order: &OrderId) -> SmallVec<[u8; 32]> {
    let mut bytes = SmallVec::new();
    bytes.push(u8::try_from(position.get() % keys::REACHED_POSITIONS).unwrap_or(u8::MAX));
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(&keys::PackedOrder::of(order));
    bytes
}

/// Reads what [`of_reached`] wrote.
pub(crate) fn read_reached(key: &[u8], row: &[u8]) -> Result<Vec<Reached>, PortError> {
    let damaged = || {
        PortError::persistent("versions in the read model cannot be read: rebuild it with `tally rebuild`")
    };
    let first = keys::number_at(key, 1).ok_or_else(damaged)?.saturating_mul(keys::REACHED_POSITIONS);
    let mut all = Vec::new();
    let mut rest = row;
    while !rest.is_empty() {
        let (head, tail) = rest.split_first_chunk::<5>().ok_or_else(damaged)?;
        let [at, number @ ..] = *head;
        let (order, tail) = keys::read_order(tail).ok_or_else(damaged)?;
        let position = Position::new(first.saturating_add(at.into()));
        all.push(Reached { position, version: u32::from_be_bytes(number), order });
        rest = tail;
    }
    Ok(all)
}

/// The order and quote that a script was given to.
pub(crate) fn script_owner(bytes: Option<Vec<u8>>) -> Result<Option<(OrderId, u32)>, PortError> {
    let Some(bytes) = bytes else { return Ok(None) };
    let damaged = || {
        PortError::persistent(
            "the owner of a script in the read model cannot be read: rebuild it with `tally rebuild`",
        )
    };
    let (order, quote) = keys::read_order(&bytes).ok_or_else(damaged)?;
    let quote = quote.try_into().map_err(|_| damaged())?;
    Ok(Some((order, u32::from_be_bytes(quote))))
}

/// Writes what [`script_owner`] reads.
pub(crate) fn of_owner(order: &OrderId, quote: u32) -> Vec<u8> {
    let mut bytes = of_order(order);
    bytes.extend_from_slice(&quote.to_be_bytes());
    bytes
}
