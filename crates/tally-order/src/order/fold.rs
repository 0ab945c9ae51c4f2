//! Folding: each fact changes what the order knows; what follows from that is computed afterwards.
//!
//! Nothing here fails or refuses: a fact that says nothing new changes nothing.
//! Not here: status and exceptions (`standing`).

use tally_events::{
    BlockConnected, BlockDisconnected, ChainFinalized, Deposit, DepositMined, DepositReplaced, DepositSeen,
    DepositUnmined, DepositVanished, Fact, OrderAccepted, OrderInvalidated, OrderQuoted, OrdersArchived,
    Place, Recorded, Shard,
};
use tally_types::{BaseUnits, BlockRef, ChainId, DepositKey, Height, Position, Timestamp, TxId};

use super::{Order, Version};
use crate::deposit::{Link, MinedIn};
use crate::{DepositState, Exceptions, QuoteState, Status};

/// Deposits that an order takes whatever their amount. Anybody can pay an order in as many pieces as he likes, and each
/// further one costs every later fold of it time; so beyond these, only those count that are no dust, and beyond
/// [`DEPOSITS_MAX`] none. What is left out stays in the log.
pub(super) const DEPOSITS_FREE: usize = 2_000;

/// Deposits that an order takes at all.
pub(super) const DEPOSITS_MAX: usize = 10_000;

/// A deposit of less than one part in so many of the whole price is dust.
const LEAST_PART: u128 = 1_000;

impl Order {
    /// The order that its first fact makes; `None` for any other fact.
    pub fn from_created(recorded: &Recorded) -> Option<Self> {
        let Fact::OrderCreated(created) = &recorded.event.fact else {
            return None;
        };
        Some(Self {
            created: created.clone(),
            quotes: Vec::new(),
            deposits: Vec::new(),
            accepted: Vec::new(),
            canceled: false,
            invalid: false,
            completed: false,
            unwatched: false,
            expired: None,
            unconfirmed_since: None,
            own_position: recorded.position,
            past: Vec::new(),
            current: Version {
                number: 1,
                at: created.created_at,
                position: recorded.position,
                status: Status::New,
                exceptions: Exceptions::NONE,
                received: Vec::new(),
                paid_value: rust_decimal::Decimal::ZERO,
                quotes: 0,
            },
        })
    }

    /// Folds a fact: of the order's own subject, or of a chain. One that does not concern the order, or says
    /// nothing new, changes nothing.
    ///
    /// Block facts are needed at the order's [thresholds](Self::thresholds) only. A deposit mined in a block
    /// that is connected already is followed by [`connect`](Self::connect).
    pub fn apply(&mut self, recorded: &Recorded) {
        let own = self.fold(&recorded.event.fact, recorded.event.shard, recorded.position);
        if own {
            self.own_position = self.own_position.max(recorded.position);
        }
        self.refresh(recorded.event.time, recorded.position);
    }

    /// Tells the order that `block` is part of the log's branch, whose tip is at `tip` and which is final up to
    /// `finalized`: for a deposit whose `mined` was folded after its block's `block_connected`.
    pub fn connect(
        &mut self,
        chain: &ChainId,
        shard: Shard,
        block: BlockRef,
        (tip, finalized): (Height, Height),
        recorded: &Recorded,
    ) {
        if self.is_quoted_on(chain) {
            self.join(chain, shard, block.height, block);
            self.set_tip(chain, shard, tip);
            self.finalize(chain, shard, finalized);
            self.refresh(recorded.event.time, recorded.position);
        }
    }

    /// Whether a deposit is one of the order's, or would be entered: an order with very many takes no dust.
    pub fn takes(&self, chain: &ChainId, deposit: &Deposit) -> bool {
        let place = |known: &DepositState| (&known.chain, &known.key).cmp(&(chain, &deposit.key));
        self.quote_by_script(chain, &deposit.script).is_some_and(|quote| {
            self.deposits.binary_search_by(place).is_ok() || !self.has_enough_of(quote, deposit.amount)
        })
    }

    /// Whether the fact stands on the order's own subject.
    fn fold(&mut self, fact: &Fact, shard: Shard, position: Position) -> bool {
        match fact {
            Fact::OrderCreated(fact) => return fact.order == self.created.order,
            Fact::OrderQuoted(fact) => return self.mine(&fact.order, |order| order.quoted(fact, position)),
            Fact::OrderCanceled(fact) => {
                return self.mine(&fact.order, |order| order.canceled |= !order.completed);
            }
            Fact::OrderAccepted(fact) => return self.mine(&fact.order, |order| order.accepted(fact)),
            Fact::OrderExpired(fact) => {
                return self
                    .mine(&fact.order, |order| order.expired = order.expired.max(Some(fact.deadline)));
            }
            Fact::OrderInvalidated(fact) => return self.mine(&fact.order, |order| order.invalidated(fact)),
            Fact::OrderUnwatched(fact) => return self.mine(&fact.order, |order| order.unwatched = true),
            Fact::OrdersArchived(fact) => self.archived(fact),
            Fact::BlockConnected(fact) => self.block_connected(fact, shard),
            Fact::BlockDisconnected(fact) => self.block_disconnected(fact, shard),
            Fact::ChainFinalized(fact) => self.finalized(fact, shard),
            Fact::DepositSeen(fact) => self.seen(fact, position),
            Fact::DepositMined(fact) => self.mined(fact, position),
            Fact::DepositUnmined(fact) => self.unmined(fact),
            Fact::DepositReplaced(fact) => self.replaced(fact),
            Fact::DepositVanished(fact) => self.vanished(fact),
            Fact::OrderClaimed(_)
            | Fact::KeyRegistered(_)
            | Fact::KeyAllocated(_)
            | Fact::ChainObserved(_)
            | Fact::ChainCheckpointed(_)
            | Fact::ChainSharded(_)
            | Fact::RescanRequested(_)
            | Fact::RescanReported(_)
            | Fact::RescanApplied(_)
            | Fact::DepositConfirmed(_)
            | Fact::DeliveryAttempted(_)
            | Fact::MerchantCreated(_)
            | Fact::MerchantChanged(_)
            | Fact::ApiKeyCreated(_)
            | Fact::ApiKeyRevoked(_)
            | Fact::WalletAdded(_)
            | Fact::RatesPublished(_) => {}
        }
        false
    }

    fn mine(&mut self, order: &tally_types::OrderId, fold: impl FnOnce(&mut Self)) -> bool {
        let mine = *order == self.created.order;
        if mine {
            fold(self);
        }
        mine
    }

    /// Once its facts have left the log, the next one on its subject is the first there again.
    fn archived(&mut self, fact: &OrdersArchived) {
        let own = fact.orders.iter().find(|archived| archived.order == self.created.order);
        if own.is_some_and(|archived| archived.last == self.own_position) {
            self.own_position = Position::START;
        }
    }

    fn quoted(&mut self, fact: &OrderQuoted, position: Position) {
        if self.quote_by_number(fact.quote).is_none() {
            let unknown = Height::new(0);
            // Nearly every order has one quote and one deposit, and they are large.
            self.quotes.reserve_exact(1);
            self.quotes.push(QuoteState {
                terms: fact.clone(),
                position,
                extended_until: None,
                place: Place::of(&fact.script),
                tip: unknown,
                finalized: unknown,
            });
            self.quotes.sort_by_key(|quote| quote.terms.quote);
        }
    }

    fn accepted(&mut self, fact: &OrderAccepted) {
        for accepted in &fact.deposits {
            if self.acceptance(&accepted.deposit).is_none() {
                self.accepted.push(accepted.clone());
            }
            self.invalid = false;
        }
        self.accepted.sort_by(|a, b| a.deposit.cmp(&b.deposit));
    }

    /// Holds only for an order that is still waiting: what was confirmed before the log got to this, stays so.
    fn invalidated(&mut self, fact: &OrderInvalidated) {
        self.invalid |= self.invalid_at().is_some_and(|due| fact.deadline >= due);
    }

    fn block_connected(&mut self, fact: &BlockConnected, shard: Shard) {
        if self.is_quoted_on(&fact.chain) {
            self.join(&fact.chain, shard, fact.from, fact.block);
            self.set_tip(&fact.chain, shard, fact.block.height);
        }
    }

    fn finalized(&mut self, fact: &ChainFinalized, shard: Shard) {
        self.finalize(&fact.chain, shard, fact.block.height);
    }

    /// What is final stays so.
    fn finalize(&mut self, chain: &ChainId, shard: Shard, height: Height) {
        for quote in self.quotes.iter_mut().filter(|quote| quote.is_on(chain, shard)) {
            quote.finalized = quote.finalized.max(height);
        }
    }

    /// The deposits that a shard of a chain speaks of.
    fn deposits_of(&mut self, chain: &ChainId, shard: Shard) -> impl Iterator<Item = &mut DepositState> {
        let Self { quotes, deposits, .. } = self;
        let quotes: Vec<u32> =
            quotes.iter().filter(|quote| quote.is_on(chain, shard)).map(|quote| quote.terms.quote).collect();
        deposits.iter_mut().filter(move |deposit| quotes.contains(&deposit.quote))
    }

    /// Deposits of `block` count from now on; what waited to hear of its own block, in whose place another
    /// came, is gone.
    fn join(&mut self, chain: &ChainId, shard: Shard, from: Height, block: BlockRef) {
        for deposit in self.deposits_of(chain, shard) {
            let Some(mined) = &mut deposit.mined else { continue };
            if mined.block == block {
                mined.link = Link::Connected;
                deposit.in_mempool = false;
                deposit.reorged = false;
                deposit.replaced_by = None;
            } else if mined.link == Link::Leaving && from <= mined.block.height {
                deposit.mined = None;
                deposit.reorged = true;
            }
        }
    }

    fn block_disconnected(&mut self, fact: &BlockDisconnected, shard: Shard) {
        for deposit in self.deposits_of(&fact.chain, shard) {
            if let Some(mined) = &mut deposit.mined
                && mined.link == Link::Connected
                && mined.block == fact.block
            {
                mined.link = Link::Leaving;
            }
        }
        self.set_tip(&fact.chain, shard, fact.block.height.below(1));
    }

    fn seen(&mut self, fact: &DepositSeen, position: Position) {
        if fact.replaces.is_none() && self.is_superseded(&fact.chain, &fact.deposit.key) {
            return;
        }
        let Some(deposit) = self.known_or_new(&fact.chain, &fact.deposit, &fact.replaces, position) else {
            return;
        };
        match deposit.mined.as_ref().map(|mined| mined.link) {
            Some(Link::Connected) => {}
            Some(Link::Leaving) => {
                deposit.mined = None;
                deposit.reorged = true;
                deposit.in_mempool = true;
            }
            Some(Link::Awaited) | None => {
                deposit.in_mempool = true;
                deposit.replaced_by = None;
            }
        }
    }

    /// Whether what replaced a deposit is there: then an old sighting of it is late, not news.
    fn is_superseded(&self, chain: &ChainId, key: &DepositKey) -> bool {
        let known = self.deposits.iter().find(|known| known.chain == *chain && known.key == *key);
        let by = known.and_then(|known| known.replaced_by);
        by.is_some_and(|by| self.deposits.iter().any(|other| other.key.txid == by && other.is_present()))
    }

    fn mined(&mut self, fact: &DepositMined, position: Position) {
        let Some(deposit) = self.known_or_new(&fact.chain, &fact.deposit, &fact.replaces, position) else {
            return;
        };
        let awaited = Some(MinedIn { block: fact.block, link: Link::Awaited });
        match deposit.mined.as_ref().map(|mined| (mined.link, mined.block == fact.block)) {
            Some((Link::Connected, _) | (Link::Leaving, true)) => {}
            Some((Link::Leaving, false)) => {
                deposit.mined = awaited;
                deposit.reorged = true;
                deposit.in_mempool = true;
            }
            Some((Link::Awaited, _)) | None => deposit.mined = awaited,
        }
    }

    /// The deposit, entered if its script is one of the order's. What it took the place of, gives it its place:
    /// its time, and that it counts already.
    fn known_or_new(
        &mut self,
        chain: &ChainId,
        deposit: &Deposit,
        replaces: &Option<DepositKey>,
        position: Position,
    ) -> Option<&mut DepositState> {
        let quote = self.quote_by_script(chain, &deposit.script)?;
        let (enough, quote) = (self.has_enough_of(quote, deposit.amount), quote.terms.quote);
        let place = |known: &DepositState| (&known.chain, &known.key).cmp(&(chain, &deposit.key));
        let mut inherited = None;
        if let Some(old) = replaces
            && *old != deposit.key
        {
            inherited = self.make_room(chain, old, deposit.key.txid);
        }
        let at = match self.deposits.binary_search_by(place) {
            Ok(at) => at,
            Err(_) if enough => return None,
            Err(at) => {
                let entered = DepositState {
                    chain: chain.clone(),
                    key: deposit.key.clone(),
                    quote,
                    currency: deposit.currency.clone(),
                    amount: deposit.amount,
                    first_seen: deposit.first_seen,
                    position,
                    in_mempool: inherited.is_some_and(|(_, counted)| counted),
                    mined: None,
                    reorged: false,
                    replaces: replaces.clone(),
                    replaced_by: None,
                };
                if self.deposits.is_empty() {
                    self.deposits.reserve_exact(1);
                }
                self.deposits.insert(at, entered);
                at
            }
        };
        let known = self.deposits.get_mut(at)?;
        known.first_seen = known.first_seen.min(deposit.first_seen);
        if let Some((first_seen, _)) = inherited {
            known.first_seen = known.first_seen.min(first_seen);
        }
        Some(known)
    }

    /// Whether an order with so many deposits takes no further one of this amount: see [`DEPOSITS_FREE`].
    fn has_enough_of(&self, quote: &QuoteState, amount: BaseUnits) -> bool {
        match self.deposits.len() {
            0..DEPOSITS_FREE => false,
            DEPOSITS_FREE..DEPOSITS_MAX => amount.units() < quote.terms.full.units() / LEAST_PART,
            _ => true,
        }
    }

    /// Takes a deposit out for the transaction that replaced it, unless it is in a block; answers when it was
    /// first seen and whether it counted.
    fn make_room(&mut self, chain: &ChainId, old: &DepositKey, by: TxId) -> Option<(Timestamp, bool)> {
        let old = self.deposit_mut(chain, old)?;
        if old.mined.as_ref().is_some_and(|mined| mined.link != Link::Awaited) {
            return None;
        }
        let counted = old.in_mempool;
        old.in_mempool = false;
        old.mined = None;
        old.replaced_by = Some(by);
        Some((old.first_seen, counted))
    }

    fn unmined(&mut self, fact: &DepositUnmined) {
        if let Some(deposit) = self.deposit_mut(&fact.chain, &fact.deposit)
            && let Some(mined) = &deposit.mined
            && mined.block == fact.block
        {
            deposit.reorged |= mined.link != Link::Awaited;
            deposit.mined = None;
            deposit.in_mempool = fact.in_mempool;
        }
    }

    fn replaced(&mut self, fact: &DepositReplaced) {
        self.make_room(&fact.chain, &fact.deposit, fact.by);
    }

    fn vanished(&mut self, fact: &DepositVanished) {
        if let Some(deposit) = self.deposit_mut(&fact.chain, &fact.deposit) {
            deposit.in_mempool = false;
        }
    }

    fn deposit_mut(&mut self, chain: &ChainId, key: &DepositKey) -> Option<&mut DepositState> {
        self.deposits.iter_mut().find(|deposit| deposit.chain == *chain && deposit.key == *key)
    }

    fn is_quoted_on(&self, chain: &ChainId) -> bool {
        self.quotes.iter().any(|quote| quote.terms.chain == *chain)
    }
}
