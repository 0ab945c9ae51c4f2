//! A log with merchants, orders and a chain in it, told in a few words.

use std::sync::Arc;

use rust_decimal::Decimal;
use tally_events::{
    BlockConnected, BlockDisconnected, ChainObserved, Counts, DeliveryAttempted, DeliveryOutcome, Deposit,
    DepositMined, DepositSeen, DepositUnmined, Event, Fact, KeyAllocated, KeyRegistered, LatePolicy,
    MerchantCreated, MerchantSettings, OrderClaimed, OrderCreated, OrderQuoted, Policy, Price, Subject,
};
use tally_ports::Store;
use tally_testkit::{ManualClock, MemoryLog, MemoryStore, chain_id, currency, order_id, script};
use tally_types::{
    BaseUnits, BlockHash, BlockRef, DepositKey, Face, Fingerprint, Height, MerchantId, OrderId, Position,
    Span, Timestamp, TxId, WalletId,
};

use crate::{Model, Options, Projector};

pub(super) const START: Timestamp = Timestamp::from_secs(1_750_000_000);
pub(super) const MERCHANT: MerchantId = MerchantId::new(10_001);

pub(super) struct Scene {
    pub(super) log: MemoryLog,
    pub(super) store: Arc<MemoryStore>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) policy: Policy,
}

pub(super) fn fingerprint() -> Fingerprint {
    "00112233aabbccdd".parse().unwrap()
}

pub(super) fn block(height: u64, branch: u8) -> BlockRef {
    let mut hash = [branch; 32];
    hash[..8].copy_from_slice(&height.to_be_bytes());
    BlockRef { height: Height::new(height), hash: BlockHash::from_display(hash) }
}

pub(super) fn deposit_key(number: u8) -> DepositKey {
    DepositKey { txid: TxId::from_display([number; 32]), slot: "0".into() }
}

impl Scene {
    /// A log in which merchant 10001 has a key.
    pub(super) fn new() -> Self {
        let policy = Policy {
            quote: Span::from_secs(20 * 60),
            new_order: Span::from_secs(86_400),
            first_confirmation: Span::from_secs(86_400),
            tolerance_percent: Decimal::ZERO,
            tolerance_absolute: Decimal::ZERO,
            spread_percent: Decimal::ZERO,
            late: LatePolicy::Hold,
            reopen: false,
        };
        let scene = Self {
            log: MemoryLog::new(),
            store: Arc::new(MemoryStore::new()),
            clock: Arc::new(ManualClock::at(START)),
            policy,
        };
        let settings = MerchantSettings { name: Some("tea".into()), ..MerchantSettings::default() };
        scene.put(Subject::merchant(MERCHANT), MerchantCreated { merchant: MERCHANT, settings });
        let registered = KeyRegistered { fingerprint: fingerprint(), merchant: MERCHANT, next_index: 0 };
        scene.put(Subject::key(&fingerprint()), registered);
        scene
    }

    pub(super) fn put(&self, subject: Subject, fact: impl Into<Fact>) -> Position {
        let now = tally_ports::Clock::now(&*self.clock);
        self.log.seed(vec![Event::new(subject, fact, now)])[0]
    }

    pub(super) fn wait(&self, minutes: u64) {
        self.clock.advance(Span::from_secs(60 * minutes));
    }

    fn now(&self) -> Timestamp {
        tally_ports::Clock::now(&*self.clock)
    }

    pub(super) fn create(&self, number: u64) -> OrderId {
        let order = order_id(number);
        let own_id = format!("E{number}");
        let claimed = OrderClaimed {
            merchant: MERCHANT,
            face: Face::Deepay,
            own_id: own_id.clone(),
            order: order.clone(),
        };
        self.put(Subject::claim(MERCHANT, Face::Deepay, &own_id), claimed);
        let created = OrderCreated {
            order: order.clone(),
            merchant: MERCHANT,
            face: Face::Deepay,
            own_id,
            price: Price::In { currency: currency("USD"), amount: "10".parse().unwrap() },
            title: "tea".into(),
            attach: None,
            notify_url: Some("http://shop.example/notify".into()),
            callback_url: None,
            wallet: None,
            policy: self.policy.clone(),
            created_at: self.now(),
        };
        self.put(Subject::order(&order), created);
        order
    }

    /// A first quote of 1,000 units of BTC, at script `number`.
    pub(super) fn quote(&self, number: u64) -> OrderId {
        self.quote_with(number, false)
    }

    /// The same, where being final may be what completes.
    pub(super) fn quote_with(&self, number: u64, finalized: bool) -> OrderId {
        self.quote_for(number, 1_000, finalized)
    }

    /// The same at so many units.
    pub(super) fn quote_for(&self, number: u64, full: u128, finalized: bool) -> OrderId {
        let order = order_id(number);
        let index = number as u32;
        let allocated = KeyAllocated { fingerprint: fingerprint(), index, order: order.clone(), quote: 1 };
        self.put(Subject::key(&fingerprint()), allocated);
        let quoted = OrderQuoted {
            order: order.clone(),
            quote: 1,
            currency: currency("BTC"),
            chain: chain_id("btc"),
            decimals: 8,
            payable_unit: BaseUnits::from_units(1),
            full: BaseUnits::from_units(full),
            due: BaseUnits::from_units(full),
            rate: None,
            script: script(number),
            addresses: vec![format!("address{number}")],
            wallet: WalletId::new(1),
            key: fingerprint(),
            index,
            birth_height: Height::new(90),
            counts: Counts { confirmed: 1, complete: 6, thresholds: Vec::new(), finalized },
            policy: self.policy.clone(),
            quoted_at: self.now(),
            expires_at: self.now().plus(self.policy.quote),
        };
        self.put(Subject::order(&order), quoted);
        order
    }

    fn deposit(&self, number: u8, to: u64, amount: u128) -> Deposit {
        Deposit {
            key: deposit_key(number),
            currency: currency("BTC"),
            amount: BaseUnits::from_units(amount),
            script: script(to),
            first_seen: self.now(),
            inputs: Vec::new(),
            difference: None,
        }
    }

    fn chain() -> Subject {
        Subject::chain(&chain_id("btc"), 1, 0)
    }

    pub(super) fn seen(&self, number: u8, to: u64, amount: u128) {
        let deposit = self.deposit(number, to, amount);
        self.put(Self::chain(), DepositSeen { chain: chain_id("btc"), deposit, replaces: None });
    }

    /// A unit for order 1 at some slot of one transaction.
    pub(super) fn seen_at(&self, slot: &str) {
        let mut deposit = self.deposit(1, 1, 1);
        deposit.key.slot = slot.to_owned();
        self.put(Self::chain(), DepositSeen { chain: chain_id("btc"), deposit, replaces: None });
    }

    /// The price of an order, by a transaction at whose slot it stands by its number.
    pub(super) fn paid(&self, to: u64) {
        let mut deposit = self.deposit(1, to, 1_000);
        deposit.key.slot = to.to_string();
        self.put(Self::chain(), DepositSeen { chain: chain_id("btc"), deposit, replaces: None });
    }

    pub(super) fn mined(&self, number: u8, to: u64, amount: u128, block: BlockRef) {
        let deposit = self.deposit(number, to, amount);
        self.put(Self::chain(), DepositMined { chain: chain_id("btc"), deposit, block, replaces: None });
    }

    pub(super) fn unmined(&self, number: u8, block: BlockRef, in_mempool: bool) {
        let deposit = deposit_key(number);
        self.put(Self::chain(), DepositUnmined { chain: chain_id("btc"), deposit, block, in_mempool });
    }

    pub(super) fn connect(&self, block: BlockRef) {
        self.connect_run(block.height, block);
    }

    /// A payment in a block, and the block.
    pub(super) fn block_with(&self, number: u8, to: u64, amount: u128, block: BlockRef) -> Vec<Fact> {
        let deposit = self.deposit(number, to, amount);
        let mined = DepositMined { chain: chain_id("btc"), deposit, block, replaces: None };
        vec![mined.into(), self.connected(block.height, block).into()]
    }

    pub(super) fn connect_run(&self, from: Height, block: BlockRef) {
        self.put(Self::chain(), self.connected(from, block));
    }

    fn connected(&self, from: Height, block: BlockRef) -> BlockConnected {
        BlockConnected {
            chain: chain_id("btc"),
            block,
            prev: BlockHash::from_display([0; 32]),
            from,
            time: self.now(),
            watched_through: self.head(),
            observed_at: self.now(),
            method: None,
        }
    }

    pub(super) fn disconnect(&self, block: BlockRef, prev: BlockRef) {
        self.put(Self::chain(), BlockDisconnected { chain: chain_id("btc"), block, prev: prev.hash });
    }

    pub(super) fn observe(&self, tip: BlockRef) {
        let observed = ChainObserved {
            chain: chain_id("btc"),
            tip,
            watched_through: self.head(),
            observed_at: self.now(),
        };
        self.put(Self::chain(), observed);
    }

    pub(super) fn deliver(&self, order: &OrderId, version: u32, outcome: DeliveryOutcome) {
        let attempted = DeliveryAttempted {
            order: order.clone(),
            endpoint: "notify".into(),
            version,
            attempt: 1,
            outcome,
            at: self.now(),
        };
        self.put(Subject::delivery(order), attempted);
    }

    fn head(&self) -> Position {
        self.log.facts().last().map_or(Position::START, |fact| fact.position)
    }

    pub(super) async fn projector(&self) -> Projector {
        self.projector_on(self.store.clone()).await
    }

    pub(super) async fn projector_on(&self, store: Arc<dyn Store>) -> Projector {
        Projector::open(Arc::new(self.log.clone()), store, Options::default()).await.unwrap()
    }

    /// The read model with all of the log in it.
    pub(super) async fn model(&self) -> Arc<Model> {
        let projector = self.projector().await;
        projector.catch_up().await.unwrap();
        projector.model()
    }
}
