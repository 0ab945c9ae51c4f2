//! Stories of orders, in shorthand: what happens on the left, the versions that come of it on the right.

use rust_decimal::Decimal;
use tally_events::{
    AcceptedDeposit, BlockConnected, BlockDisconnected, Counts, CountsFrom, Deposit, DepositMined,
    DepositReplaced, DepositSeen, DepositUnmined, DepositVanished, Event, Fact, LatePolicy, OrderCanceled,
    OrderCreated, OrderExpired, OrderInvalidated, Policy, Price, Recorded, Shard,
};
use tally_types::{
    BaseUnits, BlockHash, BlockRef, ChainId, DepositKey, Face, Height, MerchantId, Position, Script, Span,
    Timestamp, TxId, WalletId,
};

use super::{Observation, Order, QuoteRequest};
use crate::{Refusal, Status};

mod properties;
mod rows;
mod rules;

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

pub(super) fn policy() -> Policy {
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

pub(super) fn created(policy: Policy) -> OrderCreated {
    OrderCreated {
        order: "20231114221320123456".parse().unwrap(),
        merchant: MerchantId::new(10_001),
        face: Face::Deepay,
        own_id: "E1".into(),
        price: Price::In { currency: "USD".parse().unwrap(), amount: "10".parse().unwrap() },
        title: "tea".into(),
        attach: None,
        notify_url: Some("http://shop.example/notify".into()),
        callback_url: None,
        wallet: None,
        policy,
        created_at: START,
    }
}

pub(super) fn units(units: u128) -> BaseUnits {
    BaseUnits::from_units(units)
}

pub(super) fn request(chain: &str, full: u128, number: u32, policy: Policy) -> QuoteRequest {
    QuoteRequest {
        currency: chain.parse().unwrap(),
        chain: chain.parse().unwrap(),
        decimals: 8,
        payable_unit: units(1),
        full: units(full),
        minimum: units(1),
        rate: None,
        script: script(number),
        addresses: vec![format!("address{number}")],
        wallet: WalletId::new(1),
        key: "00112233aabbccdd".parse().unwrap(),
        index: number,
        birth_height: Height::new(90),
        counts: Counts { confirmed: 1, complete: 6, thresholds: Vec::new(), finalized: false },
        policy,
    }
}

pub(super) fn script(number: u32) -> Script {
    Script::from_bytes(&[0, 20, number as u8]).unwrap()
}

pub(super) fn txid(name: &str) -> TxId {
    TxId::from_display([name.as_bytes()[0]; 32])
}

pub(super) fn key(name: &str) -> DepositKey {
    DepositKey { txid: txid(name), slot: "0".into() }
}

/// `100a`: height 100 on branch a.
pub(super) fn block(text: &str) -> BlockRef {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let mut hash = [text.bytes().last().unwrap(); 32];
    let height: u64 = digits.parse().unwrap();
    hash[..8].copy_from_slice(&height.to_be_bytes());
    BlockRef { height: Height::new(height), hash: BlockHash::from_display(hash) }
}

/// An order, its clock, and the facts it was folded from.
pub(super) struct Story {
    pub(super) order: Order,
    pub(super) now: Timestamp,
    pub(super) facts: Vec<Recorded>,
    policy: Policy,
    amounts: Vec<(String, u128)>,
}

impl Story {
    pub(super) fn new(policy: Policy) -> Self {
        Self::of(created(policy.clone()), policy)
    }

    pub(super) fn of(created: OrderCreated, policy: Policy) -> Self {
        let event = Event::new(tally_events::Subject::order(&created.order), created, START);
        let first = Recorded { position: Position::new(1), event };
        let order = Order::from_created(&first).unwrap();
        Self { order, now: START, facts: vec![first], policy, amounts: Vec::new() }
    }

    pub(super) fn fold(&mut self, fact: impl Into<Fact>) {
        let event = Event::new(self.order.subject(), fact, self.now);
        let position = Position::new(self.facts.len() as u64 + 1);
        let recorded = Recorded { position, event };
        self.order.apply(&recorded);
        self.facts.push(recorded);
    }

    pub(super) fn observed(&self) -> impl Fn(&ChainId) -> Option<Observation> + use<> {
        let seen = Observation { observed_at: self.now, watched_through: Position::new(1_000) };
        move |_| Some(seen)
    }

    pub(super) fn tell(mut self, story: &str) -> Self {
        for step in story.split(';').map(str::trim).filter(|step| !step.is_empty()) {
            let words: Vec<&str> = step.split_whitespace().collect();
            self.step(&words);
        }
        self
    }

    fn step(&mut self, words: &[&str]) {
        let deposit = |story: &mut Self, name: &str, rest: &[&str]| {
            let amount = rest.first().and_then(|word| word.parse().ok());
            if let Some(amount) = amount {
                story.amounts.push((name.to_owned(), amount));
            }
            let word =
                |prefix: &str| rest.iter().find_map(|word| word.strip_prefix(prefix).map(str::to_owned));
            let quote = word("q").map_or(1, |text| text.parse().unwrap());
            let terms = story.order.quote_by_number(quote).unwrap().terms().clone();
            let known = story.amounts.iter().rev().find(|(known, _)| known == name).unwrap().1;
            let deposit = Deposit {
                key: key(name),
                currency: word("in:").map_or(terms.currency, |text| text.parse().unwrap()),
                amount: units(known),
                script: terms.script,
                first_seen: story.now,
                inputs: Vec::new(),
                difference: None,
            };
            (terms.chain, deposit, word("for:").map(|old| key(&old)))
        };
        let btc: ChainId = "btc".parse().unwrap();
        match words {
            ["wait", minutes] => {
                self.now = self.now.plus(Span::from_secs(60 * minutes.parse::<u64>().unwrap()));
            }
            ["quote"] => self.quote("btc", 1000).unwrap(),
            ["quote", chain, full] => self.quote(chain, full.parse().unwrap()).unwrap(),
            ["seen", name, rest @ ..] => {
                let (chain, deposit, replaces) = deposit(self, name, rest);
                self.fold(DepositSeen { chain, deposit, replaces });
            }
            ["mined", name, at, rest @ ..] => {
                let (chain, deposit, replaces) = deposit(self, name, rest);
                self.fold(DepositMined { chain, deposit, block: block(at), replaces });
            }
            ["unmined", name, at, place] => self.fold(DepositUnmined {
                chain: btc,
                deposit: key(name),
                block: block(at),
                in_mempool: *place == "mempool",
            }),
            ["replaced", name, by] => {
                self.fold(DepositReplaced { chain: btc, deposit: key(name), by: txid(by) });
            }
            ["vanished", name] => self.fold(DepositVanished { chain: btc, deposit: key(name) }),
            ["block", at, rest @ ..] => self.block(rest.first().unwrap_or(&"btc"), at),
            ["unblock", at] => {
                let prev = BlockHash::from_display([0; 32]);
                self.fold(BlockDisconnected { chain: btc, block: block(at), prev });
            }
            ["expire"] => self.fold(self.order.expire(self.now, self.observed()).unwrap()),
            ["expired", minutes] => {
                let deadline = START.plus(Span::from_secs(60 * minutes.parse::<u64>().unwrap()));
                self.fold(OrderExpired { order: self.order.id().clone(), deadline });
            }
            ["invalidate"] => self.fold(self.order.invalidate(self.now, self.observed()).unwrap()),
            ["invalidated"] => {
                let order = self.order.id().clone();
                self.fold(OrderInvalidated { order, deadline: self.now });
            }
            ["cancel"] => self.fold(self.order.cancel().unwrap()),
            ["canceled"] => self.fold(OrderCanceled { order: self.order.id().clone() }),
            ["accept", name] => self.accept(name, None),
            ["accept", name, full] => self.accept(name, Some(units(full.parse().unwrap()))),
            ["policy"] => self.fold(self.order.accept_by_policy(|_| Some(units(2000))).unwrap()),
            ["unwatch"] => self.fold(self.order.unwatch(self.now).unwrap()),
            other => panic!("no such step: {other:?}"),
        }
    }

    fn block(&mut self, chain: &str, at: &str) {
        let block = block(at);
        self.fold(BlockConnected {
            chain: chain.parse().unwrap(),
            block,
            prev: BlockHash::from_display([0; 32]),
            from: block.height,
            time: self.now,
            watched_through: Position::START,
            observed_at: self.now,
            method: None,
        });
    }

    fn accept(&mut self, name: &str, full: Option<BaseUnits>) {
        let accepted = vec![AcceptedDeposit { deposit: key(name), full }];
        self.fold(self.order.accept(accepted, "ann").unwrap());
    }

    pub(super) fn quote(&mut self, chain: &str, full: u128) -> Result<(), Refusal> {
        let number = self.order.next_quote();
        let quoted = self.order.quote(request(chain, full, number, self.policy.clone()), self.now)?;
        self.fold(quoted);
        Ok(())
    }

    /// Every version: `status=received+exception`.
    pub(super) fn trace(&self) -> String {
        let versions = self.order.versions().map(|version| {
            let sum: u128 = version.received.iter().map(|got| got.amount.units()).sum();
            let mut text = version.status.to_string();
            if sum > 0 {
                text.push_str(&format!("={sum}"));
            }
            version.exceptions.iter().for_each(|exception| text.push_str(&format!("+{exception}")));
            text
        });
        versions.collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn a_state_survives_its_encoding() {
    let story = Story::new(policy()).tell("quote; seen a 1000; mined a 100a; block 100a; block 105a");
    let bytes = postcard::to_stdvec(&story.order).unwrap();
    let back: Order = postcard::from_bytes(&bytes).unwrap();
    assert_eq!((&back, back.status()), (&story.order, Status::Complete));
    let json = serde_json::to_string(&story.order).unwrap();
    assert_eq!(serde_json::from_str::<Order>(&json).unwrap(), story.order);
}

#[test]
fn each_version_can_be_shown_as_it_was() {
    let story = Story::new(policy()).tell("quote; seen a 400; seen b 600; mined a 100a; block 100a");
    let shown: Vec<String> = (1..=story.order.version())
        .map(|version| {
            let public = story.order.public(version);
            format!("{} {} {} {}", public.version, public.status, public.paid_value, public.deposits.len())
        })
        .collect();
    assert_eq!(shown, ["1 new 0 0", "2 pending 0 0", "3 pending 4 1", "4 paid 10 2"]);
    let json = serde_json::to_value(story.order.public(4)).unwrap();
    assert_eq!(json["pay_amount"], "0.00001");
    assert_eq!(json["received"][0]["amount"], "0.00001");
    assert_eq!(json["status"], "paid");
    assert_eq!(json["exceptions"], serde_json::json!([]));
}

#[test]
fn effective_counts_follow_the_amount() {
    let mut wanted = request("btc", 5_000, 1, policy());
    wanted.counts.thresholds = vec![
        CountsFrom { at_least: units(1_000), confirmed: 2, complete: 10 },
        CountsFrom { at_least: units(5_000), confirmed: 3, complete: 20 },
        CountsFrom { at_least: units(5_001), confirmed: 9, complete: 90 },
    ];
    let mut story = Story::new(policy());
    story.fold(story.order.quote(wanted, START).unwrap());
    let quote = story.order.latest_quote().unwrap();
    assert_eq!((quote.confirmed_count(), quote.complete_count()), (3, 20));
    assert_eq!(story.order.target_confirmations(), 20);
    let story = story.tell("mined a 100a 5000; block 100a");
    let heights: Vec<u64> = story.order.thresholds().iter().map(|(_, _, height)| height.get()).collect();
    assert_eq!(heights, [100, 102, 119]);
}

fn finalized(height: &str) -> tally_events::ChainFinalized {
    tally_events::ChainFinalized { chain: "btc".parse().unwrap(), block: block(height) }
}

#[test]
fn where_finality_counts_no_depth_completes() {
    let mut wanted = request("btc", 1_000, 1, policy());
    wanted.counts.finalized = true;
    let mut story = Story::new(policy());
    story.fold(story.order.quote(wanted, START).unwrap());
    assert_eq!(story.order.target_confirmations(), 64);
    story = story.tell("mined a 100a 1000; block 100a; block 200a");
    assert_eq!((story.order.status(), story.order.confirmations()), (Status::Confirmed, 63));
    assert_eq!(story.order.awaited_finality().len(), 1);
    story.fold(finalized("99a"));
    assert_eq!(story.order.status(), Status::Confirmed);
    story.fold(finalized("120a"));
    assert_eq!((story.order.status(), story.order.confirmations()), (Status::Complete, 101));
    assert!(story.order.awaited_finality().is_empty());
    let version = story.order.version();
    story.fold(finalized("100a"));
    assert_eq!(story.order.version(), version, "what is final stays so");
}

#[test]
fn a_final_deposit_jumps_to_the_target() {
    let mut wanted = request("btc", 1_000, 1, policy());
    wanted.counts.finalized = true;
    let mut story = Story::new(policy());
    story.fold(story.order.quote(wanted, START).unwrap());
    story = story.tell("mined a 100a 1000; block 100a; block 110a");
    assert_eq!(story.order.confirmations(), 11);
    story.fold(finalized("100a"));
    assert_eq!((story.order.status(), story.order.confirmations()), (Status::Complete, 64));
}

#[test]
fn a_shard_speaks_of_its_own_scripts_alone() {
    let halves: Vec<Shard> = Shard::all(2).collect();
    let number_in = |shard: Shard| (1..).find(|number| shard.has(&script(*number))).unwrap();
    let mut story = Story::new(policy());
    for (quote, shard) in (1..).zip(&halves) {
        let mut wanted = request("btc", 1_000, quote, policy());
        wanted.script = script(number_in(*shard));
        wanted.currency = if quote == 1 { "BTC".parse().unwrap() } else { "LTC".parse().unwrap() };
        story.fold(story.order.quote(wanted, START).unwrap());
    }
    let told = |story: &mut Story, shard: Shard, fact: Fact| {
        let event = Event::new(story.order.subject(), fact, story.now).of_shard(shard);
        let recorded = Recorded { position: Position::new(story.facts.len() as u64 + 1), event };
        story.order.apply(&recorded);
        story.facts.push(recorded);
    };
    let connected = |at: &str| {
        let block = block(at);
        let (prev, from) = (BlockHash::from_display([0; 32]), block.height);
        let (watched_through, chain) = (Position::START, "btc".parse().unwrap());
        let (time, observed_at) = (START, START);
        Fact::from(BlockConnected {
            chain,
            block,
            prev,
            from,
            time,
            watched_through,
            observed_at,
            method: None,
        })
    };
    story = story.tell("mined a 100a 500 q1; mined b 100a 500 q2");
    told(&mut story, halves[0], connected("100a"));
    assert_eq!(story.order.status(), Status::Pending, "the other half has not said so");
    told(&mut story, halves[0], connected("105a"));
    told(&mut story, halves[1], connected("100a"));
    let depths: Vec<u64> =
        story.order.deposits().iter().map(|one| story.order.deposit_confirmations(one)).collect();
    assert_eq!((story.order.status(), depths), (Status::Confirmed, vec![6, 1]));
    told(&mut story, halves[1], connected("105a"));
    assert_eq!(story.order.status(), Status::Complete);
}
