//! A watcher of our own on a litecoind: the real block source, the embedded log and sled, as `tally watch` has them.

use std::path::Path;
use std::sync::Arc;

use tally_chains::ChainSettings;
use tally_events::{Counts, Event, LatePolicy, OrderQuoted, Policy, Subject};
use tally_log::LogName;
use tally_log::embedded::{Embedded, EmbeddedLog};
use tally_ports::{Clock, EventLog, Expectation};
use tally_store::SledStore;
use tally_types::{BaseUnits, ChainId, Height, OrderId, Script, Span, Timestamp, WalletId};
use tally_watcher::{Watcher, WatcherConfig, WatcherPorts};

use super::litecoind::USER;

const CACHE: u64 = 128 * 1024 * 1024;
const WATCH_CACHE: u64 = 64 * 1024 * 1024;

/// The system's clock.
struct Wall;

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap())
    }
}

pub(crate) fn chain() -> ChainId {
    "ltc".parse().unwrap()
}

/// A script that is paid to; another for each number.
pub(crate) fn payee(number: u64) -> Vec<u8> {
    let mut script = vec![0x00, 0x14];
    // Spread as real ones are.
    for round in 0..3_u64 {
        let mixed = (number * 3 + round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        script.extend((mixed ^ (mixed >> 29)).to_le_bytes());
    }
    script.truncate(22);
    script
}

/// A log with `orders` orders in it, each with an address of its own from height `birth` on.
pub(crate) async fn open_log(dir: &Path, orders: u64, birth: u64) -> (Embedded, EmbeddedLog) {
    let embedded = Embedded::open(&dir.join("log"), CACHE).unwrap();
    let log = embedded.log(LogName::Main);
    for first in (0..orders).step_by(500) {
        let events: Vec<Event> =
            (first..orders.min(first + 500)).map(|number| quoted(number, birth)).collect();
        let expected = events.iter().map(|event| Expectation::none(event.subject.clone())).collect();
        log.append(expected, events).await.unwrap();
    }
    (embedded, log)
}

/// A watcher of the node at `port`, from height `start` on.
pub(crate) fn watcher(dir: &Path, embedded: &Embedded, port: u16, start: u64) -> Watcher {
    let settings: ChainSettings = serde_json::from_value(serde_json::json!({
        "id": "ltc", "kind": "bitcoin", "coin": "ltc", "network": "regtest",
        "rpc": [{"url": format!("http://127.0.0.1:{port}"), "user": USER, "password": "bench"}],
    }))
    .unwrap();
    let ports = WatcherPorts {
        source: tally_chains::open(&settings).unwrap(),
        log: Arc::new(embedded.log(LogName::Main)),
        lease: Arc::new(embedded.lease(Arc::new(Wall))),
        store: Arc::new(SledStore::open(&dir.join("watch"), WATCH_CACHE).unwrap()),
        clock: Arc::new(Wall),
    };
    let mut config = WatcherConfig::new(chain(), 0x5eed);
    config.start = Some(Height::new(start));
    Watcher::new(config, ports)
}

fn quoted(number: u64, birth: u64) -> Event {
    let order: OrderId = (number + 1).to_string().parse().unwrap();
    let now = Wall.now();
    let fact = OrderQuoted {
        order: order.clone(),
        quote: 1,
        currency: "LTC".parse().unwrap(),
        chain: chain(),
        decimals: 8,
        payable_unit: BaseUnits::from_units(1),
        full: BaseUnits::from_units(1000),
        due: BaseUnits::from_units(1000),
        rate: None,
        script: Script::from_bytes(&payee(number)).unwrap(),
        addresses: vec!["an address".to_owned()],
        wallet: WalletId::new(1),
        key: "0123456789abcdef".parse().unwrap(),
        index: 0,
        birth_height: Height::new(birth),
        counts: Counts { confirmed: 1, complete: 6, thresholds: Vec::new(), finalized: false },
        policy: Policy {
            quote: Span::from_secs(1200),
            new_order: Span::from_secs(86_400),
            first_confirmation: Span::from_secs(86_400),
            tolerance_percent: rust_decimal::Decimal::ZERO,
            tolerance_absolute: rust_decimal::Decimal::ZERO,
            spread_percent: rust_decimal::Decimal::ZERO,
            late: LatePolicy::Hold,
            reopen: false,
        },
        quoted_at: now,
        expires_at: now.plus(Span::from_secs(1200)),
    };
    Event::new(Subject::order(&order), fact, now)
}
