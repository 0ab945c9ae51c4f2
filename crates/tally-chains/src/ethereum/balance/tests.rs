use proptest::prelude::*;

use super::*;

fn hash(n: u8) -> BlockHash {
    BlockHash::from_display([n; 32])
}

fn at(n: u8) -> BlockRef {
    BlockRef { height: tally_types::Height::new(u64::from(n)), hash: hash(n) }
}

fn address(n: u8) -> Address {
    Address::repeat_byte(n)
}

fn set(all: &[u8]) -> HashSet<Address> {
    all.iter().copied().map(address).collect()
}

fn balances(all: &[(u8, u64)]) -> Balances {
    all.iter().map(|(who, amount)| (address(*who), U256::from(*amount))).collect()
}

fn moved(received: u64, sent: u64) -> Moves {
    Moves { received: received.into(), sent: sent.into() }
}

#[test]
fn the_rest_is_what_was_not_moved() {
    for (name, before, moves, after, expected) in [
        ("nothing", 5, moved(0, 0), 5, Rest::None),
        ("paid by a contract", 5, moved(0, 0), 8, Rest::Paid(3.into())),
        ("paid by a transaction", 5, moved(3, 0), 8, Rest::None),
        ("by both", 5, moved(3, 0), 10, Rest::Paid(2.into())),
        ("paid out", 5, moved(0, 4), 1, Rest::None),
        ("paid out while paid", 5, moved(0, 4), 3, Rest::Paid(2.into())),
        ("emptied by a contract", 5, moved(3, 0), 0, Rest::Missing(8.into())),
    ] {
        assert_eq!(rest(before.into(), moves, after.into()), expected, "{name}");
    }
    let all = Moves { received: U256::MAX, sent: U256::MAX };
    assert_eq!(rest(U256::MAX, all, U256::MAX), Rest::None);
}

#[test]
fn the_way_back_leads_over_blocks_without_state() {
    let mut ledger = Ledger::default();
    ledger.remember(hash(1), balances(&[(1, 100), (2, 200)]));
    ledger.skip(hash(2), hash(1), HashMap::from([(address(1), moved(5, 0)), (address(3), moved(7, 0))]));
    ledger.skip(hash(3), hash(2), HashMap::from([(address(1), moved(0, 2))]));
    let back = ledger.back(hash(3), hash(4), &set(&[1, 2, 3]));
    let base = |balance: u64, moved, blocks| Base { balance: balance.into(), moved, blocks };
    assert_eq!(back.known.get(&address(1)), Some(&base(100, moved(5, 2), Some(2))));
    assert_eq!(back.known.get(&address(2)), Some(&base(200, moved(0, 0), Some(2))));
    assert_eq!((back.known.get(&address(3)), back.moved.get(&address(3))), (None, Some(&moved(7, 0))));
    assert_eq!((back.blocks, back.awaits), (2, None));
    // Another branch does not lead there.
    ledger.skip(hash(30), hash(20), HashMap::new());
    assert!(ledger.back(hash(30), hash(4), &set(&[1])).known.is_empty());
    // A block that is being read is waited for.
    ledger.begin(hash(20));
    assert_eq!(ledger.back(hash(30), hash(4), &set(&[1])).awaits, Some(hash(20)));
    ledger.end(&hash(20));
    assert_eq!(ledger.back(hash(30), hash(4), &set(&[1])).awaits, None);
}

#[test]
fn what_was_presumed_counts_once() {
    let mut ledger = Ledger::default();
    ledger.presume(at(1), balances(&[(1, 100), (2, 0)]), false);
    ledger.skip(hash(2), hash(1), HashMap::new());
    let all = set(&[1, 2]);
    assert_eq!(ledger.back(hash(2), hash(3), &all).known.len(), 2);
    ledger.settle(hash(3), &set(&[1]));
    assert_eq!(ledger.back(hash(2), hash(3), &all).known.len(), 2, "the same block again");
    assert_eq!(ledger.back(hash(2), hash(9), &all).known.len(), 1, "a later one");
}

#[test]
fn a_block_that_is_looked_at_for_more_addresses_keeps_the_others() {
    let mut ledger = Ledger::default();
    ledger.remember(hash(1), balances(&[(1, 0), (2, 0)]));
    ledger.skip(hash(2), hash(1), HashMap::from([(address(1), moved(5, 0))]));
    ledger.skip(hash(2), hash(1), HashMap::from([(address(2), moved(6, 0))]));
    ledger.skip(hash(2), hash(1), HashMap::from([(address(1), moved(5, 0))]));
    let back = ledger.back(hash(2), hash(3), &set(&[1, 2]));
    let moved_of = |n: u8| back.known.get(&address(n)).map(|base| (base.balance, base.moved));
    assert_eq!(moved_of(1), Some((0.into(), moved(5, 0))));
    assert_eq!(moved_of(2), Some((0.into(), moved(6, 0))));
}

#[test]
fn memory_is_bounded() {
    let mut ledger = Ledger::default();
    for n in 0..100 {
        ledger.remember(hash(n), balances(&[(1, 1)]));
    }
    assert_eq!(ledger.snapshots.len(), SNAPSHOTS_MAX);
    assert!(ledger.at(&hash(99)).is_some() && ledger.at(&hash(0)).is_none());
}

proptest! {
    /// However blocks with and without state follow each other, all that was paid is found, once.
    #[test]
    fn nothing_is_found_twice_or_missed(
        blocks in prop::collection::vec((any::<bool>(), 0_u64..9, 0_u64..9, 0_u64..9), 1..60),
    ) {
        let (mut ledger, who) = (Ledger::default(), set(&[1]));
        let hash = |n: usize| BlockHash::from_display([u8::try_from(n).unwrap(); 32]);
        let (mut balance, mut hidden, mut found) = (1_000_u64, 0, 0);
        ledger.remember(hash(0), balances(&[(1, balance)]));
        let last = blocks.len();
        for (n, (has_state, received, sent, by_contract)) in blocks.into_iter().enumerate() {
            let n = n + 1;
            balance = balance + received + by_contract - sent;
            hidden += by_contract;
            let moves = moved(received, sent);
            if !has_state && n < last {
                ledger.skip(hash(n), hash(n - 1), HashMap::from([(address(1), moves)]));
                continue;
            }
            let base = ledger.back(hash(n - 1), hash(n), &who).known[&address(1)];
            let (had, mut since) = (base.balance, base.moved);
            since.add(moves);
            match rest(had, since, balance.into()) {
                Rest::None => {}
                Rest::Paid(amount) => found += amount.as_u64(),
                Rest::Missing(amount) => prop_assert!(false, "{amount}"),
            }
            ledger.remember(hash(n), balances(&[(1, balance)]));
        }
        prop_assert_eq!(found, hidden);
    }
}
