//! Chains: tips, what watchers have looked at, and the orders that a block takes over a threshold.
//!
//! Not here: reorg rules (`tally-tracker` decides what the log says).

use tally_events::{BlockConnected, BlockDisconnected, Recorded};
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
        observed_at: Timestamp,
        watched_through: Position,
    ) -> Result<(), PortError> {
        let mut state = rows::chain(&self.rows, chain)?;
        state.observed_at = state.observed_at.max(observed_at);
        state.watched_through = state.watched_through.max(watched_through);
        self.put_chain(chain, &state)
    }

    fn put_chain(&mut self, chain: &ChainId, state: &ChainState) -> Result<(), PortError> {
        self.rows.put(keys::chain(chain), codec::to_bytes(&format!("chain {chain}"), state)?);
        Ok(())
    }

    pub(super) fn block_connected(
        &mut self,
        fact: &BlockConnected,
        recorded: &Recorded,
        publish: &mut impl FnMut(Committed),
    ) -> Result<(), PortError> {
        let mut state = rows::chain(&self.rows, &fact.chain)?;
        if !self.is_news(fact, &state)? {
            return self.chain_observed(&fact.chain, fact.observed_at, fact.watched_through);
        }
        let orders = self.orders_between(&fact.chain, fact.from, fact.block.height)?;
        self.touch_all(orders, recorded, publish)?;
        self.rows.put(keys::header(&fact.chain, fact.block.height), fact.block.hash.display_bytes().to_vec());
        let old = fact.block.height.below(HEADERS_KEPT);
        if old > Height::new(0) && self.rows.get(&keys::header(&fact.chain, old))?.is_some() {
            self.rows.remove(keys::header(&fact.chain, old));
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
        let known = self.rows.get(&keys::header(&fact.chain, fact.block.height))?;
        Ok(known.is_some_and(|hash| hash != fact.block.hash.display_bytes()))
    }

    pub(super) fn block_disconnected(
        &mut self,
        fact: &BlockDisconnected,
        recorded: &Recorded,
        publish: &mut impl FnMut(Committed),
    ) -> Result<(), PortError> {
        let mut state = rows::chain(&self.rows, &fact.chain)?;
        if state.tip.is_some_and(|tip| tip != fact.block) {
            return Ok(());
        }
        let orders = self.orders_between(&fact.chain, fact.block.height, fact.block.height)?;
        self.touch_all(orders, recorded, publish)?;
        self.rows.remove(keys::header(&fact.chain, fact.block.height));
        state.tip = Some(BlockRef { height: fact.block.height.below(1), hash: fact.prev });
        self.put_chain(&fact.chain, &state)
    }

    /// Orders with a threshold at one of these heights, each once.
    fn orders_between(&self, chain: &ChainId, from: Height, to: Height) -> Result<Vec<OrderId>, PortError> {
        let start = keys::thresholds_at(chain, from);
        let end = keys::after(&keys::thresholds_at(chain, to));
        let id_at = start.len();
        let rows = self.rows.range(&start, &end)?;
        let mut orders: Vec<OrderId> =
            rows.iter().filter_map(|(key, _)| keys::order_at(key, id_at)).collect();
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
            if self.pending() >= self.rows_max {
                self.commit(publish)?;
            }
        }
        Ok(())
    }
}
