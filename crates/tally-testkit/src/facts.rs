//! Short ways to values and facts that tests need and do not care about.

#![allow(clippy::expect_used, reason = "a test that names a value wrongly should stop there")]

use tally_events::{Event, OrderCanceled, OrderClaimed, OrderExpired, Subject};
use tally_types::{ChainId, Currency, Face, MerchantId, OrderId, Script, Timestamp};

/// The order with this number as its id.
pub fn order_id(number: u64) -> OrderId {
    number.to_string().parse().expect("digits")
}

/// The chain of this name.
pub fn chain_id(name: &str) -> ChainId {
    name.parse().expect("a chain's name")
}

/// The currency of this symbol.
pub fn currency(symbol: &str) -> Currency {
    symbol.parse().expect("a currency's symbol")
}

/// A pay-to-witness-public-key-hash script; another for each number.
pub fn script(number: u64) -> Script {
    let mut bytes = vec![0x00, 0x14];
    bytes.extend([0xab; 12]);
    bytes.extend(number.to_be_bytes());
    Script::from_bytes(&bytes).expect("22 bytes")
}

/// `order.canceled`: the same fact at each call.
pub fn canceled(order: u64) -> Event {
    let order = order_id(order);
    Event::new(Subject::order(&order), OrderCanceled { order }, Timestamp::EPOCH)
}

/// `order.expired`: another fact for each `at`, in milliseconds.
pub fn expired(order: u64, at: i64) -> Event {
    let order = order_id(order);
    let deadline = Timestamp::from_millis(at);
    Event::new(Subject::order(&order), OrderExpired { order, deadline }, Timestamp::EPOCH)
}

/// `claim.claimed`: the own id `own_id` of merchant 10001 belongs to an order.
pub fn claimed(own_id: &str, order: u64) -> Event {
    let merchant = MerchantId::new(10_001);
    let fact =
        OrderClaimed { merchant, face: Face::Deepay, own_id: own_id.to_owned(), order: order_id(order) };
    Event::new(Subject::claim(merchant, Face::Deepay, own_id), fact, Timestamp::EPOCH)
}
