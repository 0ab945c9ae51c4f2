//! Every kind of fact, in every version there ever was, reads as it did on its first day.
//!
//! A golden file is written once and then never changed: what no longer reads needs an upcaster. A new kind
//! gets its file by running these tests with `UPDATE_GOLDEN=1`.

use std::path::PathBuf;

use rust_decimal::Decimal;
use tally_types::{
    BaseUnits, BlockRef, ChainId, Currency, DepositKey, Difference, Face, Height, MerchantId, OrderId,
    OutPoint, Script, Span, WalletId,
};

use super::*;

fn at() -> Timestamp {
    Timestamp::from_millis(1_538_796_660_250)
}

fn order() -> OrderId {
    "20181006113100525110123456".parse().unwrap()
}

fn chain() -> ChainId {
    "ltc".parse().unwrap()
}

fn currency(name: &str) -> Currency {
    name.parse().unwrap()
}

fn script() -> Script {
    "0014751e76e8199196d454941c45d1b3a323f1433bd6".parse().unwrap()
}

fn block(height: u64) -> BlockRef {
    BlockRef { height: Height::new(height), hash: format!("{height:064x}").parse().unwrap() }
}

fn key() -> DepositKey {
    DepositKey { txid: "ab".repeat(32).parse().unwrap(), slot: "1".into() }
}

fn policy() -> Policy {
    Policy {
        quote: Span::from_secs(1200),
        new_order: Span::from_secs(86_400),
        first_confirmation: Span::from_secs(86_400),
        tolerance_percent: Decimal::new(5, 1),
        tolerance_absolute: Decimal::ZERO,
        spread_percent: Decimal::ONE,
        late: LatePolicy::Hold,
        reopen: true,
    }
}

fn counts() -> Counts {
    let from = CountsFrom { at_least: BaseUnits::from_units(10_000_000_000), confirmed: 3, complete: 12 };
    Counts { confirmed: 1, complete: 6, thresholds: vec![from], finalized: false }
}

fn deposit() -> Deposit {
    Deposit {
        key: key(),
        currency: currency("LTC"),
        amount: BaseUnits::from_units(160_000),
        script: script(),
        first_seen: at(),
        inputs: vec![OutPoint { txid: "cd".repeat(32).parse().unwrap(), vout: 0 }],
        difference: None,
    }
}

fn order_samples() -> Vec<(Subject, Fact)> {
    let created = OrderCreated {
        order: order(),
        merchant: MerchantId::new(10_001),
        face: Face::Deepay,
        own_id: "E201809123".into(),
        price: Price::In { currency: currency("USD"), amount: "10.0001".parse().unwrap() },
        title: "iPhone X".into(),
        attach: Some("additional info".into()),
        notify_url: Some("http://example.com/notify".into()),
        callback_url: Some("http://example.com/".into()),
        wallet: None,
        policy: policy(),
        created_at: at(),
    };
    let quoted = OrderQuoted {
        order: order(),
        quote: 1,
        currency: currency("LTC"),
        chain: chain(),
        decimals: 8,
        payable_unit: BaseUnits::from_units(1),
        full: BaseUnits::from_units(160_000),
        due: BaseUnits::from_units(160_000),
        rate: Some(RateLock { rate: Decimal::new(624_006, 2), sources: vec!["kraken".into()], at: at() }),
        script: script(),
        addresses: vec!["rltc1qw508d6qejxtdg4y5r3zarvary0c5xw7k4gn2n4".into()],
        wallet: WalletId::new(1),
        key: "0123456789abcdef".parse().unwrap(),
        index: 7,
        birth_height: Height::new(490),
        counts: counts(),
        policy: policy(),
        quoted_at: at(),
        expires_at: at().plus(Span::from_secs(1200)),
    };
    let accepted = AcceptedDeposit { deposit: key(), full: Some(BaseUnits::from_units(150_000)) };
    let facts: Vec<Fact> = vec![
        created.into(),
        quoted.into(),
        OrderCanceled { order: order() }.into(),
        OrderAccepted { order: order(), deposits: vec![accepted], by: "alice".into() }.into(),
        OrderExpired { order: order(), deadline: at() }.into(),
        OrderInvalidated { order: order(), deadline: at() }.into(),
        OrderUnwatched { order: order(), scripts: vec![(chain(), script())] }.into(),
    ];
    facts.into_iter().map(|fact| (Subject::order(&order()), fact)).collect()
}

fn chain_samples() -> Vec<(Subject, Fact)> {
    let through = Position::new(42);
    let connected = BlockConnected {
        chain: chain(),
        block: block(500),
        prev: block(499).hash,
        from: Height::new(500),
        time: at(),
        watched_through: through,
        observed_at: at(),
        method: Some("trace".into()),
    };
    let checkpoint = ChainCheckpointed {
        chain: chain(),
        part: 0,
        parts: 1,
        headers: vec![block(499), block(500)],
        deposits: vec![CheckpointDeposit { deposit: deposit(), stage: CheckpointStage::Mined(block(500)) }],
        watched_through: through,
        observed_at: at(),
        finalized: None,
        methods: Vec::new(),
    };
    let facts: Vec<Fact> = vec![
        connected.into(),
        BlockDisconnected { chain: chain(), block: block(500), prev: block(499).hash }.into(),
        ChainObserved { chain: chain(), tip: block(500), watched_through: through, observed_at: at() }.into(),
        checkpoint.into(),
        DepositSeen { chain: chain(), deposit: deposit(), replaces: None }.into(),
        DepositMined { chain: chain(), deposit: deposit(), block: block(500), replaces: Some(key()) }.into(),
        DepositUnmined { chain: chain(), deposit: key(), block: block(500), in_mempool: true }.into(),
        DepositReplaced { chain: chain(), deposit: key(), by: "ef".repeat(32).parse().unwrap() }.into(),
        DepositVanished { chain: chain(), deposit: key() }.into(),
        DepositConfirmed { chain: chain(), deposit: key(), depth: 6, tip: block(505), finalized: false }
            .into(),
        ChainFinalized { chain: chain(), block: block(480) }.into(),
    ];
    facts.into_iter().map(|fact| (Subject::chain(&chain(), 0, 0), fact)).collect()
}

fn plan_samples() -> Vec<(Subject, Fact)> {
    let through = Position::new(42);
    let sharded = ChainSharded {
        chain: chain(),
        generation: 1,
        count: 4,
        at: Some(block(500)),
        watched_through: through,
        observed_at: at(),
    };
    let requested = RescanRequested {
        chain: chain(),
        rescan: 1,
        from: Height::new(100),
        to: Height::new(499),
        part_blocks: 100,
        since: Position::START,
    };
    let found =
        FoundBlock { block: block(120), prev: block(119).hash, time: at(), deposits: vec![deposit()] };
    let reported = RescanReported {
        chain: chain(),
        rescan: 1,
        part: 0,
        last: block(199),
        found: vec![found],
        more: true,
        since: through,
    };
    let applied = RescanApplied { chain: chain(), rescan: 1, part: 0, since: Position::START };
    vec![
        (Subject::chain_plan(&chain()), sharded.into()),
        (Subject::chain_rescan(&chain()), requested.into()),
        (Subject::chain_rescan(&chain()), reported.into()),
        (Subject::chain_rescan(&chain()), applied.into()),
    ]
}

fn account_samples() -> Vec<(Subject, Fact)> {
    let merchant = MerchantId::new(10_001);
    let fingerprint: tally_types::Fingerprint = "0123456789abcdef".parse().unwrap();
    let settings = MerchantSettings { name: Some("Corner shop".into()), ..MerchantSettings::default() };
    let changed = MerchantSettings { counts: vec![(chain(), counts())], ..MerchantSettings::default() };
    let wallet = WalletAdded {
        merchant,
        wallet: WalletId::new(1),
        chain: chain(),
        currencies: vec![currency("LTC")],
        public_key: "an extended public key".into(),
        script_kind: "p2wpkh".into(),
        fingerprint: fingerprint.clone(),
        added_at: at(),
    };
    let api_key = ApiKeyCreated {
        merchant,
        key: 1,
        face: Face::Deepay,
        secret: KeySecret::Sealed("c2VhbGVk".into()),
        hint: "6a2d".into(),
    };
    let claimed = OrderClaimed { merchant, face: Face::Deepay, own_id: "E201809123".into(), order: order() };
    let allocated = KeyAllocated { fingerprint: fingerprint.clone(), index: 7, order: order(), quote: 1 };
    let registered = KeyRegistered { fingerprint: fingerprint.clone(), merchant, next_index: 0 };
    let own = Subject::merchant(merchant);
    vec![
        (own.clone(), MerchantCreated { merchant, settings }.into()),
        (own.clone(), MerchantChanged { merchant, settings: changed }.into()),
        (own.clone(), api_key.into()),
        (own.clone(), ApiKeyRevoked { merchant, key: 1 }.into()),
        (own, wallet.into()),
        (Subject::claim(merchant, Face::Deepay, "E201809123"), claimed.into()),
        (Subject::key(&fingerprint), registered.into()),
        (Subject::key(&fingerprint), allocated.into()),
    ]
}

fn samples() -> Vec<Event> {
    let attempted = DeliveryAttempted {
        order: order(),
        endpoint: "notify".into(),
        version: 2,
        attempt: 3,
        outcome: DeliveryOutcome::Failed { reason: "HTTP 500".into(), next_at: at() },
        at: at(),
    };
    let rates = RatesPublished {
        assets: vec![AssetRate {
            asset: currency("BTC"),
            usd: Some(Decimal::new(661_241, 2)),
            confidence: Some(Decimal::ONE),
            inconsistent: false,
            at: at(),
            sources: vec!["kraken".into()],
            dropped: vec![DroppedSource { venue: "okx".into(), reason: "stale".into() }],
        }],
        fiat: vec![FiatRate {
            currency: currency("CNY"),
            per_eur: Decimal::new(79_009, 4),
            at: at(),
            sources: vec!["ecb".into()],
        }],
        at: at(),
    };
    let mut all = order_samples();
    all.extend(chain_samples());
    all.extend(plan_samples());
    all.extend(account_samples());
    all.push((Subject::delivery(&order()), attempted.into()));
    let archived = OrdersArchived {
        segment: 3,
        facts: 8,
        first: Position::new(40),
        last: Position::new(90),
        through: Position::new(95),
        digest: "cd".repeat(32),
        orders: vec![ArchivedOrder {
            order: order(),
            status: "complete".into(),
            exceptions: vec!["overpaid".into()],
            version: 4,
            first: Position::new(40),
            last: Position::new(90),
            delivered: Position::new(88),
            endpoints: vec!["notify".into()],
        }],
    };
    all.push((Subject::archive(), archived.into()));
    all.push((Subject::rates(), rates.into()));
    all.into_iter().map(|(subject, fact)| Event::new(subject, fact, at()).under(Epoch::new(3))).collect()
}

fn golden(kind: &str, version: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("golden/{kind}.v{version}.json"))
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a switch for people who add a kind")]
fn every_version_of_every_kind_reads_as_on_its_first_day() {
    for event in samples() {
        let path = golden(event.fact.kind(), event.fact.version());
        if std::env::var("UPDATE_GOLDEN").is_ok() && !path.exists() {
            std::fs::write(&path, event.to_json().unwrap()).unwrap();
        }
        let json = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(Event::from_json(&json).unwrap(), event, "{}", path.display());
    }
}

#[test]
fn every_kind_has_a_sample() {
    let seen: std::collections::BTreeSet<_> = samples().iter().map(|event| event.fact.kind()).collect();
    let all: std::collections::BTreeSet<_> = Fact::KINDS.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(seen, all);
}

#[test]
fn a_shard_is_written_only_where_there_are_several() {
    let whole = samples().remove(0);
    assert!(!String::from_utf8(whole.to_json().unwrap()).unwrap().contains("shard"));
    let part = whole.of_shard("2/4".parse().unwrap());
    let json = part.to_json().unwrap();
    assert!(String::from_utf8(json.clone()).unwrap().contains(r#""shard":"2/4""#));
    assert_eq!(Event::from_json(&json).unwrap(), part);
}

#[test]
fn what_is_written_reads_back() {
    for event in samples() {
        assert_eq!(Event::from_json(&event.to_json().unwrap()).unwrap(), event);
    }
}

#[test]
fn what_was_found_otherwise_says_how_and_over_which_blocks() {
    let difference = Difference { since: Height::new(480), received: BaseUnits::from_units(200_000) };
    let deposit = Deposit { difference: Some(difference), inputs: Vec::new(), ..deposit() };
    let checkpoint = ChainCheckpointed {
        chain: chain(),
        part: 0,
        parts: 1,
        headers: vec![block(500)],
        deposits: vec![CheckpointDeposit { deposit: deposit.clone(), stage: CheckpointStage::Gone }],
        watched_through: Position::new(42),
        observed_at: at(),
        finalized: None,
        methods: vec![(Height::new(500), "balance".to_owned())],
    };
    let mined = DepositMined { chain: chain(), deposit, block: block(500), replaces: None };
    for fact in [Fact::from(mined), Fact::from(checkpoint)] {
        let event = Event::new(Subject::chain(&chain(), 0, 0), fact, at());
        let bytes = event.to_json().unwrap();
        assert!(
            String::from_utf8(bytes.clone())
                .unwrap()
                .contains(r#""difference":{"since":480,"received":"200000"}"#)
        );
        assert_eq!(Event::from_json(&bytes).unwrap(), event);
    }
}

#[test]
fn a_reader_stops_only_at_what_it_cannot_know() {
    let json = |change: fn(&mut serde_json::Value)| {
        let mut value: serde_json::Value = serde_json::from_slice(&samples()[0].to_json().unwrap()).unwrap();
        change(&mut value);
        Event::from_json(value.to_string().as_bytes())
    };
    assert!(json(|value| value["data"]["new_field"] = 1.into()).is_ok(), "added fields are passed over");
    assert!(json(|value| value["new_attribute"] = 1.into()).is_ok(), "added attributes are passed over");
    assert!(matches!(json(|value| value["min_reader"] = 2.into()), Err(DecodeError::TooNew { .. })));
    assert!(matches!(json(|value| value["type"] = "order.eaten".into()), Err(DecodeError::Unknown(_))));
    assert!(matches!(json(|value| value["data"] = 1.into()), Err(DecodeError::Data { .. })));
    assert!(matches!(Event::from_json(b"{"), Err(DecodeError::Envelope(_))));
}

#[test]
fn an_id_follows_from_subject_and_content() {
    let event = |order: &str| {
        let order: OrderId = order.parse().unwrap();
        Event::new(Subject::order(&order), OrderCanceled { order: order.clone() }, at())
    };
    assert_eq!(event("1").id, Event { time: Timestamp::EPOCH, ..event("1") }.id);
    assert_ne!(event("1").id, event("2").id);
}

/// What the scanner takes reads as the parser would have it, and what is damaged is damaged for both.
#[test]
fn scanned_or_parsed_it_is_the_same() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut scanned = 0;
    for file in std::fs::read_dir(dir).unwrap() {
        let Ok(text) = std::fs::read(file.unwrap().path()) else { continue };
        let Ok(event) = Event::parsed(&text) else { continue };
        let json = event.to_json().unwrap();
        scanned += usize::from(scan(&json).is_some());
        assert_eq!(Event::from_json(&json).unwrap(), event);
        for at in 0..json.len() {
            for byte in [b'"', b'\\', b'0', b'}', b' ', 0, 0xff] {
                let mut other = json.clone();
                other[at] = byte;
                let (one, two) = (Event::from_json(&other).ok(), Event::parsed(&other).ok());
                assert_eq!(one, two, "{}", String::from_utf8_lossy(&other));
            }
            assert!(Event::from_json(&json[..at]).is_err());
        }
        assert_eq!(Event::from_json(&[&json[..], b"}"].concat()).ok(), None);
    }
    assert!(scanned >= 10, "{scanned} of the golden facts were scanned");
}
