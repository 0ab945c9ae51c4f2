//! Orders as their facts: eight an order, many orders in flight, as a log holds them.

use std::collections::HashMap;

use rust_decimal::Decimal;
use tally_events::{
    BlockConnected, Counts, DeliveryAttempted, DeliveryOutcome, Deposit, DepositMined, DepositSeen, Event,
    Fact, KeyAllocated, KeyRegistered, LatePolicy, MerchantCreated, MerchantSettings, NewEvent, OrderClaimed,
    OrderCreated, OrderQuoted, Policy, Price, RateLock, Subject,
};
use tally_ports::Expectation;
use tally_types::{
    BaseUnits, BlockHash, BlockRef, ChainId, Currency, DepositKey, Face, Fingerprint, Height, MerchantId,
    OrderId, Position, Script, Span, Timestamp, TxId, WalletId,
};

/// The merchant of all orders.
pub const MERCHANT: MerchantId = MerchantId::new(10_001);
/// Orders whose facts lie between each other's.
const IN_FLIGHT: u64 = 100;
/// Facts in one append.
const APPEND: usize = 400;

/// Makes a log's content, append by append, for a log that has nothing in it and no gaps in its positions.
#[derive(Debug)]
pub struct Mix {
    next_order: u64,
    orders: u64,
    height: u64,
    heads: HashMap<Subject, Position>,
    position: u64,
    begins_at: Timestamp,
    policy: Policy,
    waiting: std::collections::VecDeque<(Subject, Fact)>,
}

fn parse<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("a value of this bench")
}

fn hash(kind: u8, number: u64) -> [u8; 32] {
    let mut bytes = [kind; 32];
    for (at, byte) in bytes.iter_mut().enumerate().take(24) {
        *byte = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(at as u32 * 7) >> 11) as u8;
    }
    bytes[24..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// An order's id as the gateway makes them: the time, then digits.
fn order_id(number: u64) -> OrderId {
    parse(&format!(
        "20250701{:06}{:012}",
        number / 50,
        number.wrapping_mul(7_919_777_333) % 1_000_000_000_000
    ))
}

/// So many facts with envelopes of about 300 bytes, each on a subject of its own.
pub fn small_facts(count: u64) -> impl Iterator<Item = NewEvent> {
    (0..count).map(|number| {
        let order = order_id(number);
        let fact = tally_events::OrderUnwatched { order: order.clone(), scripts: Vec::new() };
        Event::new(Subject::order(&order), fact, Timestamp::from_secs(1_751_300_000))
    })
}

impl Mix {
    /// The facts of so many orders.
    pub fn new(orders: u64) -> Self {
        Self::beginning_at(orders, Timestamp::from_secs(1_751_300_000))
    }

    /// The same, of which the first was written at that time, and each other 20 ms later.
    pub fn beginning_at(orders: u64, begins_at: Timestamp) -> Self {
        let policy = Policy {
            quote: Span::from_secs(1_200),
            new_order: Span::from_secs(86_400),
            first_confirmation: Span::from_secs(86_400),
            tolerance_percent: Decimal::new(5, 1),
            tolerance_absolute: Decimal::ZERO,
            spread_percent: Decimal::ONE,
            late: LatePolicy::Hold,
            reopen: false,
        };
        let settings = MerchantSettings { name: Some("shop".into()), ..MerchantSettings::default() };
        let registered = KeyRegistered { fingerprint: Self::key(), merchant: MERCHANT, next_index: 0 };
        let waiting = [
            (Subject::merchant(MERCHANT), MerchantCreated { merchant: MERCHANT, settings }.into()),
            (Subject::key(&Self::key()), registered.into()),
        ];
        Self {
            next_order: 0,
            orders,
            height: 100_000,
            heads: HashMap::new(),
            position: 0,
            begins_at,
            policy,
            waiting: waiting.into(),
        }
    }

    fn key() -> Fingerprint {
        parse("00112233aabbccdd")
    }

    fn chain() -> ChainId {
        parse("btc")
    }

    fn block(&self) -> BlockRef {
        BlockRef { height: Height::new(self.height), hash: BlockHash::from_display(hash(1, self.height)) }
    }

    fn now(&self) -> Timestamp {
        self.begins_at.plus(Span::from_millis(self.position * 20))
    }

    /// The next append; `None` after the last order's last fact.
    pub fn next_append(&mut self) -> Option<(Vec<Expectation>, Vec<NewEvent>)> {
        while self.waiting.len() < APPEND && self.next_order < self.orders {
            self.more();
        }
        if self.waiting.is_empty() {
            return None;
        }
        let count = self.waiting.len().min(APPEND);
        let mut expected: HashMap<Subject, Position> = HashMap::new();
        let mut batch = Vec::with_capacity(count);
        for (subject, fact) in self.waiting.drain(..count).collect::<Vec<_>>() {
            let at = self.heads.get(&subject).copied().unwrap_or(Position::START);
            expected.entry(subject.clone()).or_insert(at);
            batch.push(Event::new(subject.clone(), fact, self.now()));
            self.position += 1;
            self.heads.insert(subject, Position::new(self.position));
        }
        if self.heads.len() > 100_000 {
            // Only subjects of orders in flight, the key's and the chain's are written again.
            let recent = self.position.saturating_sub(20_000);
            self.heads.retain(|_, at| at.get() > recent);
        }
        let expectations = expected.into_iter().map(|(subject, at)| Expectation::new(subject, at)).collect();
        Some((expectations, batch))
    }

    /// The facts of the next orders, from creation to the last delivery.
    fn more(&mut self) {
        let first = self.next_order;
        let last = (first + IN_FLIGHT).min(self.orders);
        self.next_order = last;
        for number in first..last {
            self.create(number);
        }
        for number in first..last {
            self.quote(number);
        }
        for number in first..last {
            let deposit = self.deposit(number);
            self.chain_fact(DepositSeen { chain: Self::chain(), deposit, replaces: None });
        }
        self.height += 1;
        let block = self.block();
        for number in first..last {
            let deposit = self.deposit(number);
            self.chain_fact(DepositMined { chain: Self::chain(), deposit, block, replaces: None });
        }
        self.connect();
        for number in first..last {
            self.delivery(number, 3);
        }
        // Two blocks more and the order is complete.
        for _ in 0..2 {
            self.height += 1;
            self.connect();
        }
        for number in first..last {
            self.delivery(number, 5);
        }
    }

    fn chain_fact(&mut self, fact: impl Into<Fact>) {
        self.waiting.push_back((Subject::chain(&Self::chain(), 1, 0), fact.into()));
    }

    fn connect(&mut self) {
        let fact = BlockConnected {
            chain: Self::chain(),
            block: self.block(),
            prev: BlockHash::from_display(hash(1, self.height - 1)),
            from: Height::new(self.height),
            time: self.now(),
            watched_through: Position::new(self.position),
            observed_at: self.now(),
            method: None,
        };
        self.chain_fact(fact);
    }

    fn create(&mut self, number: u64) {
        let order = order_id(number);
        let own_id = format!("MDC{number:09}");
        let claimed = OrderClaimed {
            merchant: MERCHANT,
            face: Face::Deepay,
            own_id: own_id.clone(),
            order: order.clone(),
        };
        self.waiting.push_back((Subject::claim(MERCHANT, Face::Deepay, &own_id), claimed.into()));
        let created = OrderCreated {
            order: order.clone(),
            merchant: MERCHANT,
            face: Face::Deepay,
            own_id,
            price: Price::In { currency: parse("USD"), amount: parse("25.5") },
            title: "A box of tea, 100 g".into(),
            attach: None,
            notify_url: Some("https://shop.example/payments/notify".into()),
            callback_url: Some("https://shop.example/thanks".into()),
            wallet: None,
            policy: self.policy.clone(),
            created_at: self.now(),
        };
        self.waiting.push_back((Subject::order(&order), created.into()));
    }

    fn script(number: u64) -> Script {
        let mut bytes = vec![0x00, 0x14];
        bytes.extend_from_slice(&hash(3, number)[..20]);
        bytes[14..22].copy_from_slice(&number.to_be_bytes());
        Script::from_bytes(&bytes).expect("22 bytes")
    }

    fn quote(&mut self, number: u64) {
        let order = order_id(number);
        let index = number as u32;
        let allocated = KeyAllocated { fingerprint: Self::key(), index, order: order.clone(), quote: 1 };
        self.waiting.push_back((Subject::key(&Self::key()), allocated.into()));
        let quoted = OrderQuoted {
            order: order.clone(),
            quote: 1,
            currency: parse::<Currency>("BTC"),
            chain: Self::chain(),
            decimals: 8,
            payable_unit: BaseUnits::from_units(1),
            full: BaseUnits::from_units(39_231),
            due: BaseUnits::from_units(39_231),
            rate: Some(RateLock {
                rate: Decimal::new(6_500_012, 2),
                sources: vec!["kraken".into(), "coinbase".into(), "bitstamp".into()],
                at: self.now(),
            }),
            script: Self::script(number),
            addresses: vec![format!("bc1q{:038x}", u128::from(number) << 64)],
            wallet: WalletId::new(1),
            key: Self::key(),
            index,
            birth_height: Height::new(self.height - 10),
            counts: Counts { confirmed: 1, complete: 3, thresholds: Vec::new(), finalized: false },
            policy: self.policy.clone(),
            quoted_at: self.now(),
            expires_at: self.now().plus(self.policy.quote),
        };
        self.waiting.push_back((Subject::order(&order), quoted.into()));
    }

    fn deposit(&self, number: u64) -> Deposit {
        Deposit {
            key: DepositKey { txid: TxId::from_display(hash(2, number)), slot: "0".into() },
            currency: parse("BTC"),
            amount: BaseUnits::from_units(39_231),
            script: Self::script(number),
            first_seen: self.now(),
            inputs: Vec::new(),
            difference: None,
        }
    }

    fn delivery(&mut self, number: u64, version: u32) {
        let order = order_id(number);
        let attempted = DeliveryAttempted {
            order: order.clone(),
            endpoint: "notify".into(),
            version,
            attempt: 1,
            outcome: DeliveryOutcome::Acknowledged,
            at: self.now(),
        };
        self.waiting.push_back((Subject::delivery(&order), attempted.into()));
    }
}
