//! For tests: a log with a read model that folds it, and short ways to tell stories in it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use futures::StreamExt;
use rust_decimal::Decimal;
use tally_account::{KeyCounter, Merchant};
use tally_events::*;
use tally_order::Order;
use tally_ports::*;
use tally_sign::{MasterKey, Secret, seal};
use tally_testkit::{
    ManualClock, MemoryLease, MemoryLog, RecordingPublisher, chain_id, currency, order_id, script,
};
use tally_types::*;
use tokio::sync::{broadcast, watch};
use tokio::time::{Duration, Instant};

pub(crate) const MERCHANT: MerchantId = MerchantId::new(10_001);
pub(crate) const API_KEY: &str = "192006250b4c09247ec02edce69f6a2d";

pub(crate) fn master() -> MasterKey {
    MasterKey::from_bytes([7; 32])
}

/// Waits until something holds, at most twenty seconds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "it never came to this: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Everything but the services under test.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) log: MemoryLog,
    pub(crate) lease: Arc<MemoryLease>,
    pub(crate) model: Arc<Folded>,
    pub(crate) publisher: Arc<RecordingPublisher>,
}

impl World {
    /// A world with one merchant who has one DeePay key.
    pub(crate) async fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let log = MemoryLog::new();
        let model = Folded::follow(log.clone());
        let lease = Arc::new(MemoryLease::new(clock.clone()));
        let world = Self { clock, log, lease, model, publisher: Arc::default() };
        world.tell(
            Subject::merchant(MERCHANT),
            Merchant::create(MERCHANT, MerchantSettings::default()).unwrap(),
        );
        world.settle().await;
        world.add_key(API_KEY).await;
        world
    }

    pub(crate) fn tell(&self, subject: Subject, fact: impl Into<Fact>) -> Position {
        self.log.seed(vec![Event::new(subject, fact, self.clock.now())])[0]
    }

    /// Waits until the read model has folded the log.
    pub(crate) async fn settle(&self) {
        let head = self.log.head().await.unwrap();
        assert!(self.model.wait_for(head, Span::from_secs(5)).await);
    }

    pub(crate) async fn add_key(&self, key: &str) {
        let merchant = self.model.merchant(MERCHANT).await.unwrap().unwrap();
        let purpose = merchant.key_purpose(Face::Deepay, merchant.next_key());
        let sealed = seal(&master(), &purpose, [1; 24], &Secret::new(key)).unwrap();
        let added = merchant.add_key(Face::Deepay, KeySecret::Sealed(sealed), "hint".into());
        self.tell(Subject::merchant(MERCHANT), added);
        self.settle().await;
    }

    /// An order of 10 USD, notified at `url`.
    pub(crate) fn create(&self, number: u64, url: &str) -> OrderId {
        let order = order_id(number);
        let created = OrderCreated {
            order: order.clone(),
            merchant: MERCHANT,
            face: Face::Deepay,
            own_id: format!("own-{number}"),
            price: Price::In { currency: currency("USD"), amount: "10.0000".parse().unwrap() },
            title: "Tea & cake".into(),
            attach: Some("a=1 ü".into()),
            notify_url: Some(url.into()),
            callback_url: None,
            wallet: None,
            policy: policy(),
            created_at: self.clock.now(),
        };
        self.tell(Subject::order(&order), created);
        order
    }

    /// The order's first quote: 0.0016 BTC, to the script of its number.
    pub(crate) fn quote(&self, number: u64) {
        let order = order_id(number);
        let now = self.clock.now();
        let due = BaseUnits::from_units(160_000);
        let quoted = OrderQuoted {
            order: order.clone(),
            quote: 1,
            currency: currency("BTC"),
            chain: chain_id("btc"),
            decimals: 8,
            payable_unit: BaseUnits::from_units(1),
            full: due,
            due,
            rate: Some(RateLock { rate: Decimal::from(6250), sources: vec!["kraken".into()], at: now }),
            script: script(number),
            addresses: vec![format!("address-{number}")],
            wallet: WalletId::new(1),
            key: "00".repeat(8).parse().unwrap(),
            index: 0,
            birth_height: Height::new(90),
            counts: Counts { confirmed: 1, complete: 6, thresholds: Vec::new(), finalized: false },
            policy: policy(),
            quoted_at: now,
            expires_at: now.plus(Span::from_secs(1200)),
        };
        self.tell(Subject::order(&order), quoted);
    }

    pub(crate) fn deposit(&self, number: u64) -> Deposit {
        Deposit {
            key: deposit_key(number),
            currency: currency("BTC"),
            amount: BaseUnits::from_units(160_000),
            script: script(number),
            first_seen: self.clock.now(),
            inputs: Vec::new(),
            difference: None,
        }
    }

    pub(crate) fn on_chain(&self, fact: impl Into<Fact>) -> Position {
        self.tell(Subject::chain(&chain_id("btc"), 1, 0), fact)
    }

    pub(crate) fn seen(&self, number: u64) -> Position {
        self.on_chain(DepositSeen { chain: chain_id("btc"), deposit: self.deposit(number), replaces: None })
    }

    pub(crate) fn mined(&self, number: u64, height: u64) -> Position {
        let (deposit, block) = (self.deposit(number), block(height));
        self.on_chain(DepositMined { chain: chain_id("btc"), deposit, block, replaces: None })
    }

    pub(crate) fn connect(&self, height: u64) -> Position {
        let now = self.clock.now();
        self.on_chain(BlockConnected {
            chain: chain_id("btc"),
            block: block(height),
            prev: block(height - 1).hash,
            from: Height::new(height),
            time: now,
            watched_through: Position::START,
            observed_at: now,
            method: None,
        })
    }

    /// The outcomes recorded for an order, as `version.attempt outcome`.
    pub(crate) fn deliveries(&self, order: &OrderId) -> Vec<String> {
        let word = |fact: Recorded| match fact.event.fact {
            Fact::DeliveryAttempted(DeliveryAttempted { version, attempt, outcome, .. }) => {
                let outcome = match outcome {
                    DeliveryOutcome::Acknowledged => "ok",
                    DeliveryOutcome::Failed { .. } => "failed",
                    DeliveryOutcome::Abandoned { .. } => "abandoned",
                };
                format!("{version}.{attempt} {outcome}")
            }
            other => panic!("{other:?} among deliveries"),
        };
        self.log.facts_on(&Subject::delivery(order)).into_iter().map(word).collect()
    }
}

pub(crate) fn deposit_key(number: u64) -> DepositKey {
    let mut txid = [0; 32];
    txid[24..].copy_from_slice(&number.to_be_bytes());
    DepositKey { txid: TxId::from_display(txid), slot: "0".into() }
}

pub(crate) fn block(height: u64) -> BlockRef {
    let mut hash = [0xbb; 32];
    hash[24..].copy_from_slice(&height.to_be_bytes());
    BlockRef { height: Height::new(height), hash: BlockHash::from_display(hash) }
}

fn policy() -> Policy {
    Policy {
        quote: Span::from_secs(1200),
        new_order: Span::from_secs(86_400),
        first_confirmation: Span::from_secs(86_400),
        tolerance_percent: Decimal::ZERO,
        tolerance_absolute: Decimal::ZERO,
        spread_percent: Decimal::ZERO,
        late: LatePolicy::Hold,
        reopen: false,
    }
}

/// A read model that folds everything for every order: slow and simple.
pub(crate) struct Folded {
    state: Mutex<State>,
    position: watch::Sender<Position>,
    changes: broadcast::Sender<Change>,
}

#[derive(Default)]
struct State {
    orders: BTreeMap<OrderId, Order>,
    merchants: BTreeMap<MerchantId, Merchant>,
    delivered: HashMap<OrderId, DeliveryAttempted>,
    versions: Vec<Change>,
}

impl Folded {
    /// One that folds what it is handed, and is behind until then.
    pub(crate) fn still() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            position: watch::Sender::new(Position::START),
            changes: broadcast::Sender::new(1024),
        })
    }

    fn follow(log: MemoryLog) -> Arc<Self> {
        let folded = Self::still();
        let model = folded.clone();
        tokio::spawn(async move {
            let mut facts = log.read(Position::START).await.unwrap();
            while let Some(recorded) = facts.next().await {
                model.fold(&recorded.unwrap());
            }
        });
        folded
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn fold(&self, recorded: &Recorded) {
        let mut state = self.state();
        let mut reached = Vec::new();
        match &recorded.event.fact {
            Fact::DeliveryAttempted(attempted) => {
                state.delivered.insert(attempted.order.clone(), attempted.clone());
            }
            Fact::OrderCreated(created) => {
                let order = Order::from_created(recorded).unwrap();
                state.orders.insert(created.order.clone(), order);
                reached.push((created.order.clone(), 1));
            }
            fact => {
                if let Some(merchant) = Merchant::from_fact(fact) {
                    state.merchants.insert(merchant.id(), merchant);
                }
                for merchant in state.merchants.values_mut() {
                    merchant.apply(fact);
                }
                for (id, order) in &mut state.orders {
                    let before = order.version();
                    order.apply(recorded);
                    reached.extend((before + 1..=order.version()).map(|version| (id.clone(), version)));
                }
            }
        }
        let position = recorded.position;
        let reached: Vec<_> =
            reached.into_iter().map(|(order, version)| Change { order, version, position }).collect();
        state.versions.extend(reached.clone());
        drop(state);
        self.position.send_replace(position);
        for change in reached {
            let _ = self.changes.send(change);
        }
    }
}

#[async_trait]
impl ReadModel for Folded {
    fn position(&self) -> Position {
        *self.position.borrow()
    }

    async fn wait_for(&self, position: Position, at_most: Span) -> bool {
        let mut folded = self.position.subscribe();
        let reached = folded.wait_for(|now| *now >= position);
        tokio::time::timeout(at_most.to_duration(), reached).await.is_ok()
    }

    async fn subject_position(&self, _: &Subject) -> Result<Position, PortError> {
        unreachable!("the notifier asks the log")
    }

    async fn order(&self, order: &OrderId) -> Result<Option<Order>, PortError> {
        Ok(self.state().orders.get(order).cloned())
    }

    async fn order_by_own_id(&self, _: MerchantId, _: Face, _: &str) -> Result<Option<OrderId>, PortError> {
        Ok(None)
    }

    async fn order_by_script(&self, _: &ChainId, _: &Script) -> Result<Option<(OrderId, u32)>, PortError> {
        Ok(None)
    }

    async fn order_by_deposit(
        &self,
        chain: &ChainId,
        key: &DepositKey,
    ) -> Result<Option<OrderId>, PortError> {
        let pays = |order: &&Order| {
            order.deposits().iter().any(|deposit| deposit.chain() == chain && deposit.key() == key)
        };
        Ok(self.state().orders.values().find(pays).map(|order| order.id().clone()))
    }

    async fn orders(&self, _: &OrderFilter, _: usize) -> Result<Vec<Order>, PortError> {
        Ok(Vec::new())
    }

    async fn merchant(&self, merchant: MerchantId) -> Result<Option<Merchant>, PortError> {
        Ok(self.state().merchants.get(&merchant).cloned())
    }

    async fn merchants(&self) -> Result<Vec<Merchant>, PortError> {
        Ok(self.state().merchants.values().cloned().collect())
    }

    async fn key_counter(&self, _: &Fingerprint) -> Result<Option<KeyCounter>, PortError> {
        Ok(None)
    }

    async fn chain(&self, _: &ChainId) -> Result<Option<ChainView>, PortError> {
        Ok(None)
    }

    async fn versions(&self, after: Position, limit: usize) -> Result<Vec<VersionReached>, PortError> {
        let state = self.state();
        let later: Vec<_> = state.versions.iter().filter(|change| change.position > after).collect();
        let mut end = limit.min(later.len());
        // What one fact made stays together, unless it is too much by itself.
        while end < later.len() && end > 0 && later[end].position == later[end - 1].position {
            end -= 1;
        }
        let end = if end == 0 { limit.min(later.len()) } else { end };
        let row = |change: &&Change| VersionReached {
            position: change.position,
            version: change.version,
            order: state.orders[&change.order].clone(),
        };
        Ok(later[..end].iter().map(row).collect())
    }

    async fn undelivered(
        &self,
        partitions: &[u8],
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Undelivered>, PortError> {
        let state = self.state();
        let mut rows = Vec::new();
        for order in state.orders.values().filter(|order| order.notify_url().is_some()) {
            let last = state.delivered.get(order.id());
            let due = match last {
                Some(last) if last.version >= order.version() => match &last.outcome {
                    DeliveryOutcome::Failed { next_at, .. } => *next_at,
                    _ => continue,
                },
                _ => order.updated_at(),
            };
            if due <= now && partitions.contains(&order.id().partition()) {
                let endpoint = "notify".to_owned();
                rows.push((due, Undelivered { order: order.clone(), endpoint, last: last.cloned() }));
            }
        }
        rows.sort_by_key(|(due, _)| *due);
        Ok(rows.into_iter().take(limit).map(|(_, row)| row).collect())
    }

    async fn backlog(&self) -> Result<u64, PortError> {
        Ok(0)
    }

    async fn deadlines(&self, _: Timestamp, _: usize) -> Result<Vec<Deadline>, PortError> {
        Ok(Vec::new())
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}
