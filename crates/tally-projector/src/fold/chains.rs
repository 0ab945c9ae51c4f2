//! Chains: tips, what watchers have looked at, and the orders that a block takes over a threshold.
//!
//! Not here: reorg rules (`tally-tracker` decides what the log says).

use tally_events::{
    BlockConnected, BlockDisconnected, ChainFinalized, ChainObserved, ChainSharded, Event, Place, Recorded,
    Shard,
};
use tally_ports::PortError;
use tally_types::{BlockRef, ChainId, Height, OrderId, Position, Timestamp};

use super::{Committed, Fold};
use crate::overlay::Source;
use crate::rows::ChainState;
use crate::{codec, keys, rows};

/// How many blocks under the tip are kept by their hash.
const HEADERS_KEPT: u64 = 1_000;

impl Fold<'_> {
    pub(super) fn chain_observed(
        &mut self,
        chain: &ChainId,
        shard: Shard,
        observed_at: Timestamp,
        watched_through: Position,
    ) -> Result<(), PortError> {
        let mut state = rows::shard(&self.rows, chain, shard)?;
        state.observed_at = state.observed_at.max(observed_at);
        state.watched_through = state.watched_through.max(watched_through);
        self.put_chain(chain, &state)
    }

    pub(super) fn chain_reported(&mut self, fact: &ChainObserved, event: &Event) -> Result<(), PortError> {
        let mut state = rows::shard(&self.rows, &fact.chain, event.shard)?;
        state.observed_at = fact.last_look(state.observed_at, event.time);
        state.watched_through = state.watched_through.max(fact.watched_through);
        self.put_chain(&fact.chain, &state)
    }

    fn put_chain(&mut self, chain: &ChainId, state: &ChainState) -> Result<(), PortError> {
        let bytes = codec::to_bytes(format_args!("chain {chain}"), state)?;
        self.rows.put(keys::chain(chain, state.shard.index()), bytes);
        Ok(())
    }

    pub(super) fn block_connected(
        &mut self,
        fact: &BlockConnected,
        recorded: &Recorded,
        publish: &mut impl FnMut(Committed),
    ) -> Result<(), PortError> {
        let shard = recorded.event.shard;
        let mut state = rows::shard(&self.rows, &fact.chain, shard)?;
        if !self.is_news(fact, &state)? {
            return self.chain_observed(&fact.chain, shard, fact.observed_at, fact.watched_through);
        }
        let orders = self.orders_between(&fact.chain, shard, fact.from, fact.block.height)?;
        self.touch_all(orders, recorded, publish)?;
        let header = |height: Height| keys::header(&fact.chain, shard.index(), height);
        self.rows.put(header(fact.block.height), fact.block.hash.display_bytes());
        let old = fact.block.height.below(HEADERS_KEPT);
        if old > Height::new(0) && self.rows.get(&header(old))?.is_some() {
            self.rows.remove(header(old));
        }
        state.tip = Some(fact.block);
        state.observed_at = state.observed_at.max(fact.observed_at);
        state.watched_through = state.watched_through.max(fact.watched_through);
        self.put_chain(&fact.chain, &state)
    }

    /// Whether the block changes the branch: one above the tip does, and one in another's place.
    fn is_news(&self, fact: &BlockConnected, state: &ChainState) -> Result<bool, PortError> {
        let Some(tip) = state.tip else { return Ok(true) };
        if fact.block.height > tip.height {
            return Ok(true);
        }
        let known = self.rows.get(&keys::header(&fact.chain, state.shard.index(), fact.block.height))?;
        Ok(known.is_some_and(|hash| hash != fact.block.hash.display_bytes()))
    }

    pub(super) fn block_disconnected(
        &mut self,
        fact: &BlockDisconnected,
        recorded: &Recorded,
        publish: &mut impl FnMut(Committed),
    ) -> Result<(), PortError> {
        let shard = recorded.event.shard;
        let mut state = rows::shard(&self.rows, &fact.chain, shard)?;
        if state.tip.is_some_and(|tip| tip != fact.block) {
            return Ok(());
        }
        let orders = self.orders_between(&fact.chain, shard, fact.block.height, fact.block.height)?;
        self.touch_all(orders, recorded, publish)?;
        self.rows.remove(keys::header(&fact.chain, shard.index(), fact.block.height));
        state.tip = Some(BlockRef { height: fact.block.height.below(1), hash: fact.prev });
        self.put_chain(&fact.chain, &state)
    }

    /// A later block is final.
    pub(super) fn chain_finalized(
        &mut self,
        fact: &ChainFinalized,
        recorded: &Recorded,
        publish: &mut impl FnMut(Committed),
    ) -> Result<(), PortError> {
        let shard = recorded.event.shard;
        let mut state = rows::shard(&self.rows, &fact.chain, shard)?;
        if fact.block.height <= state.finalized {
            return Ok(());
        }
        let start = keys::finality_at(&fact.chain, Height::new(0));
        let end = keys::after(&keys::finality_at(&fact.chain, fact.block.height));
        let orders = self.orders_in(shard, &start, &end)?;
        self.touch_all(orders, recorded, publish)?;
        // Of a commit that was split the orders come first, so the row is read again.
        state = rows::shard(&self.rows, &fact.chain, shard)?;
        state.finalized = fact.block.height;
        self.put_chain(&fact.chain, &state)
    }

    /// Other shards from here on: each starts where all of those before stood.
    pub(super) fn chain_sharded(&mut self, fact: &ChainSharded) -> Result<(), PortError> {
        let before = rows::shards(&self.rows, &fact.chain)?;
        if before.first().is_some_and(|first| first.shard.count() == fact.count) {
            return Ok(());
        }
        let whole = rows::chain(&self.rows, &fact.chain)?;
        let count = before.len();
        for shard in Shard::all(fact.count) {
            let state = ChainState {
                shard,
                tip: fact.at,
                observed_at: fact.observed_at,
                watched_through: fact.watched_through,
                finalized: whole.finalized,
            };
            self.put_chain(&fact.chain, &state)?;
        }
        for gone in before.iter().map(|state| state.shard.index()).filter(|index| *index >= fact.count) {
            self.rows.remove(keys::chain(&fact.chain, gone));
        }
        for index in 0..u32::try_from(count).unwrap_or(u32::MAX).max(fact.count) {
            let headers = keys::headers_of(&fact.chain, index);
            for (key, _) in self.rows.range(&headers, &keys::after(&headers))? {
                self.rows.remove(key);
            }
        }
        Ok(())
    }

    /// Orders with a threshold of the shard at one of these heights, each once.
    fn orders_between(
        &self,
        chain: &ChainId,
        shard: Shard,
        from: Height,
        to: Height,
    ) -> Result<Vec<OrderId>, PortError> {
        let start = keys::thresholds_at(chain, from);
        let end = keys::after(&keys::thresholds_at(chain, to));
        self.orders_in(shard, &start, &end)
    }

    /// Orders of the shard in rows whose keys are a chain, a height, a place and an order; each once. `start` ends
    /// with a height.
    fn orders_in(&self, shard: Shard, start: &[u8], end: &[u8]) -> Result<Vec<OrderId>, PortError> {
        let place_at = start.len();
        let id_at = place_at.saturating_add(8);
        let rows = self.rows.range(start, end)?;
        let place = |key: &[u8]| keys::number_at(key, place_at).map(Place::new);
        let own = |key: &[u8]| place(key).is_some_and(|place| shard.has_place(place));
        let mut orders: Vec<OrderId> = rows
            .iter()
            .filter(|(key, _)| own(key))
            .filter_map(|(key, _)| keys::order_at(key, id_at))
            .collect();
        orders.sort();
        orders.dedup();
        Ok(orders)
    }

    fn touch_all(
        &mut self,
        orders: Vec<OrderId>,
        recorded: &Recorded,
        publish: &mut impl FnMut(Committed),
    ) -> Result<(), PortError> {
        for order in orders {
            self.touch(&order, |order| order.apply(recorded))?;
            self.let_go()?;
            if self.is_full() {
                self.commit(publish)?;
            }
        }
        Ok(())
    }
}
