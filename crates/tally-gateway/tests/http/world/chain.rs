//! What watchers would say, appended by hand.

use tally_events::{BlockConnected, ChainObserved, Deposit, DepositMined, DepositSeen, Event, Fact, Subject};
use tally_ports::Clock;
use tally_testkit::chain_id;
use tally_types::{BaseUnits, BlockHash, BlockRef, DepositKey, Height, Position, Timestamp, TxId};

use super::World;

/// A payment that was made, to be mined later.
pub(crate) struct Payment {
    chain: String,
    deposit: Deposit,
}

impl World {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn put(&self, chain: &str, fact: impl Into<Fact>) {
        let subject = Subject::chain(&chain_id(chain), 1, 0);
        self.log.seed(vec![Event::new(subject, fact, self.now())]);
    }

    fn tip(&self, chain: &str) -> BlockRef {
        let height = self.heights.lock().unwrap().get(chain).copied().unwrap_or(0);
        block(height)
    }

    fn head(&self) -> Position {
        self.log.facts().last().map_or(Position::START, |fact| fact.position)
    }

    /// A run of blocks up to `height` joins the chain.
    pub(crate) fn connect(&self, chain: &str, height: u64) {
        let from = self.tip(chain).height.get() + 1;
        self.heights.lock().unwrap().insert(chain.to_owned(), height);
        let connected = BlockConnected {
            chain: chain_id(chain),
            block: block(height),
            prev: block(from - 1).hash,
            from: Height::new(from),
            time: self.now(),
            watched_through: self.head(),
            observed_at: self.now(),
            method: None,
        };
        self.put(chain, connected);
    }

    /// The watcher of a chain says that it is alive.
    pub(crate) fn observe(&self, chain: &str) {
        let observed = ChainObserved {
            chain: chain_id(chain),
            tip: self.tip(chain),
            watched_through: self.head(),
            observed_at: self.now(),
        };
        self.put(chain, observed);
    }

    /// A payment to an order's latest quote is in the mempool.
    pub(crate) async fn pay(&self, order: &str, amount: u128) -> Payment {
        let order = self.order(order).await;
        let terms = order.latest_quote().unwrap().terms();
        let number = {
            let mut deposits = self.deposits.lock().unwrap();
            *deposits += 1;
            *deposits
        };
        let deposit = Deposit {
            key: DepositKey { txid: TxId::from_display([number; 32]), slot: "0".into() },
            currency: terms.currency.clone(),
            amount: BaseUnits::from_units(amount),
            script: terms.script.clone(),
            first_seen: self.now(),
            inputs: Vec::new(),
            difference: None,
        };
        let chain = terms.chain.to_string();
        let seen = DepositSeen { chain: terms.chain.clone(), deposit: deposit.clone(), replaces: None };
        self.put(&chain, seen);
        self.folded().await;
        Payment { chain, deposit }
    }

    /// A payment is in the next block, which joins the chain.
    pub(crate) async fn mine(&self, payment: &Payment) {
        let chain = payment.chain.as_str();
        let height = self.tip(chain).height.get() + 1;
        let mined = DepositMined {
            chain: chain_id(chain),
            deposit: payment.deposit.clone(),
            block: block(height),
            replaces: None,
        };
        self.put(chain, mined);
        self.connect(chain, height);
        self.folded().await;
    }

    /// Some more blocks join a chain.
    pub(crate) async fn grow(&self, chain: &str, blocks: u64) {
        let height = self.tip(chain).height.get();
        for step in 1..=blocks {
            self.connect(chain, height + step);
        }
        self.folded().await;
    }
}

fn block(height: u64) -> BlockRef {
    let mut hash = [0x11; 32];
    hash[..8].copy_from_slice(&height.to_be_bytes());
    BlockRef { height: Height::new(height), hash: BlockHash::from_display(hash) }
}
