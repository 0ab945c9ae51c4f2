//! A log with closed orders, paid and unpaid, and some that are not closed.

use std::collections::BTreeMap;
use std::sync::Arc;

use rust_decimal::Decimal;
use tally_events::{
    BlockConnected, Counts, DeliveryAttempted, DeliveryOutcome, Deposit, DepositMined, DepositSeen, Event,
    Fact, LatePolicy, OrderClaimed, OrderCreated, OrderExpired, OrderQuoted, OrderUnwatched, Policy, Price,
    Recorded, Subject,
};
use tally_ports::{EventLog, Expectation, Purge, Store};
use tally_projector::{Options, Projector};
use tally_testkit::{MemoryStore, chain_id, currency, order_id, script};
use tally_types::{
    BaseUnits, BlockHash, BlockRef, DepositKey, Face, Height, MerchantId, OrderId, Position, Span, Timestamp,
    TxId, WalletId,
};

pub(crate) const START: Timestamp = Timestamp::from_secs(1_750_000_000);
pub(crate) const MERCHANT: MerchantId = MerchantId::new(10_001);

/// Writes facts to a log, at a time.
pub(crate) struct Scene {
    log: Arc<dyn Purge>,
    heads: BTreeMap<Subject, Position>,
    pub(crate) now: Timestamp,
}

fn policy() -> Policy {
    Policy {
        quote: Span::from_secs(20 * 60),
        new_order: Span::from_secs(86_400),
        first_confirmation: Span::from_secs(86_400),
        tolerance_percent: Decimal::ZERO,
        tolerance_absolute: Decimal::ZERO,
        spread_percent: Decimal::ZERO,
        late: LatePolicy::Hold,
        reopen: false,
    }
}

fn chain() -> Subject {
    Subject::chain(&chain_id("btc"), 1, 0)
}

fn block(height: u64) -> BlockRef {
    let mut hash = [7; 32];
    hash[..8].copy_from_slice(&height.to_be_bytes());
    BlockRef { height: Height::new(height), hash: BlockHash::from_display(hash) }
}

impl Scene {
    pub(crate) fn new(log: Arc<dyn Purge>) -> Self {
        Self { log, heads: BTreeMap::new(), now: START }
    }

    pub(crate) async fn put(&mut self, subject: Subject, fact: impl Into<Fact>) {
        let at = self.heads.get(&subject).copied().unwrap_or(Position::START);
        let event = Event::new(subject.clone(), fact, self.now);
        let positions = self.log.append(vec![Expectation::new(subject.clone(), at)], vec![event]).await;
        self.heads.insert(subject, positions.unwrap()[0]);
    }

    pub(crate) async fn create(&mut self, number: u64) -> OrderId {
        let order = order_id(number);
        let own_id = format!("E{number}");
        let claimed = OrderClaimed {
            merchant: MERCHANT,
            face: Face::Deepay,
            own_id: own_id.clone(),
            order: order.clone(),
        };
        self.put(Subject::claim(MERCHANT, Face::Deepay, &own_id), claimed).await;
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
            policy: policy(),
            created_at: self.now,
        };
        self.put(Subject::order(&order), created).await;
        order
    }

    pub(crate) async fn quote(&mut self, number: u64) {
        let quoted = OrderQuoted {
            order: order_id(number),
            quote: 1,
            currency: currency("BTC"),
            chain: chain_id("btc"),
            decimals: 8,
            payable_unit: BaseUnits::from_units(1),
            full: BaseUnits::from_units(1_000),
            due: BaseUnits::from_units(1_000),
            rate: None,
            script: script(number),
            addresses: vec![format!("address{number}")],
            wallet: WalletId::new(1),
            key: "00112233aabbccdd".parse().unwrap(),
            index: number as u32,
            birth_height: Height::new(90),
            counts: Counts { confirmed: 1, complete: 6, thresholds: Vec::new(), finalized: false },
            policy: policy(),
            quoted_at: self.now,
            expires_at: self.now.plus(policy().quote),
        };
        self.put(Subject::order(&order_id(number)), quoted).await;
    }

    fn deposit(&self, number: u64, amount: u128, slot: &str) -> Deposit {
        let mut txid = [1; 32];
        txid[..8].copy_from_slice(&number.to_be_bytes());
        Deposit {
            key: DepositKey { txid: TxId::from_display(txid), slot: slot.into() },
            currency: currency("BTC"),
            amount: BaseUnits::from_units(amount),
            script: script(number),
            first_seen: self.now,
            inputs: Vec::new(),
            difference: None,
        }
    }

    pub(crate) async fn seen(&mut self, number: u64, slot: &str) {
        let deposit = self.deposit(number, 1_000, slot);
        self.put(chain(), DepositSeen { chain: chain_id("btc"), deposit, replaces: None }).await;
    }

    pub(crate) async fn mined(&mut self, number: u64, height: u64) {
        let deposit = self.deposit(number, 1_000, "0");
        let mined = DepositMined { chain: chain_id("btc"), deposit, block: block(height), replaces: None };
        self.put(chain(), mined).await;
    }

    pub(crate) async fn connect(&mut self, height: u64) {
        let connected = BlockConnected {
            chain: chain_id("btc"),
            block: block(height),
            prev: block(height - 1).hash,
            from: Height::new(height),
            time: self.now,
            watched_through: self.heads.values().copied().max().unwrap_or(Position::START),
            observed_at: self.now,
            method: None,
        };
        self.put(chain(), connected).await;
    }

    pub(crate) async fn delivered(&mut self, number: u64, version: u32) {
        let order = order_id(number);
        let attempted = DeliveryAttempted {
            order: order.clone(),
            endpoint: "notify".into(),
            version,
            attempt: 1,
            outcome: DeliveryOutcome::Acknowledged,
            at: self.now,
        };
        self.put(Subject::delivery(&order), attempted).await;
    }

    pub(crate) async fn unwatched(&mut self, number: u64) {
        let order = order_id(number);
        let scripts = vec![(chain_id("btc"), script(number))];
        self.put(Subject::order(&order), OrderUnwatched { order, scripts }).await;
    }

    /// `count` orders that run beside each other: every third is paid and complete, the others expire. The last two
    /// stay open: one waits for a delivery, one is still watched.
    pub(crate) async fn orders(&mut self, count: u64) {
        for number in 1..=count {
            self.create(number).await;
            if number > 2 {
                self.quote(number - 1).await;
            }
        }
        self.quote(1).await;
        self.quote(count).await;
        let paid = |number: u64| number.is_multiple_of(3);
        for number in (1..=count).filter(|number| paid(*number)) {
            self.seen(number, "0").await;
            self.mined(number, 100).await;
            self.delivered(number, 2).await;
        }
        for height in 100..=106 {
            self.connect(height).await;
        }
        let deadline = self.now.plus(policy().quote);
        self.now = self.now.plus(Span::from_secs(3_600));
        for number in (1..=count).filter(|number| !paid(*number)) {
            let order = order_id(number);
            self.put(Subject::order(&order), OrderExpired { order, deadline }).await;
        }
        for number in 1..=count {
            if number != count {
                self.delivered(number, 9).await;
            }
            if number != count - 1 {
                self.unwatched(number).await;
            }
        }
    }
}

/// Everything a log has, in order.
pub(crate) async fn read(log: &dyn EventLog) -> Vec<Recorded> {
    use futures::StreamExt;
    let head = log.head().await.unwrap();
    let mut facts = log.read(Position::START).await.unwrap();
    let mut read: Vec<Recorded> = vec![];
    while read.last().is_none_or(|fact| fact.position < head) {
        read.push(facts.next().await.unwrap().unwrap());
    }
    read
}

/// A read model of all that a log has, and its bytes.
pub(crate) async fn folded(log: Arc<dyn EventLog>) -> (Projector, Vec<(Vec<u8>, Vec<u8>)>) {
    let store = Arc::new(MemoryStore::new());
    let projector = Projector::open(log, store.clone(), Options::alone()).await.unwrap();
    projector.catch_up().await.unwrap();
    (projector, bytes(&*store))
}

/// All rows of a store.
pub(crate) fn bytes(store: &dyn Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    store.range(&[0], &[0xff; 513], usize::MAX).unwrap()
}
