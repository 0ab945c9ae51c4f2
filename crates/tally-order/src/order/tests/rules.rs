//! Rules that a row of the table does not show: what is told late or twice, what does not count, what is not due.

use tally_events::{
    AcceptedDeposit, ArchivedOrder, Counts, Deposit, DepositSeen, LatePolicy, OrderAccepted, OrderCreated,
    OrdersArchived, Policy, Price,
};
use tally_types::{BaseUnits, DepositKey, Face, MerchantId, Position, Span, WalletId};

use super::{START, Story, created, key, policy, request, script, units};
use crate::{DeadlineKind, Refusal, Status};

fn check(rows: &[(&str, &str, &str)], policy: &Policy) {
    for (name, story, trace) in rows {
        assert_eq!(Story::new(policy.clone()).tell(story).trace(), *trace, "{name}");
    }
}

fn minutes(minutes: u64) -> Span {
    Span::from_secs(60 * minutes)
}

#[test]
fn what_is_told_late_or_twice_changes_nothing() {
    let rows = [
        ("an older deadline after a later one", "quote; wait 21; expire; expired 5", "new pending expired"),
        ("an invalidation before its time", "quote; seen a 1000; invalidated", "new pending paid=1000"),
        (
            "canceled after completion, nothing of it is taken back",
            "quote; mined a 100a 1100; block 100a; block 105a; canceled",
            "new pending confirmed=1100+overpaid complete=1100+overpaid",
        ),
        (
            "mined in another block, while its own stands",
            "quote; mined a 100a 1000; block 100a; mined a 101a",
            "new pending confirmed=1000",
        ),
        (
            "out of a block that it was never in",
            "quote; mined a 101a 1000; block 101a; unmined a 100b gone",
            "new pending confirmed=1000",
        ),
        ("in the place of itself", "quote; seen a 1000; mined a 100a for:a", "new pending paid=1000"),
        (
            "seen once more after a block above its own left",
            "quote; mined a 100a 1000; block 100a; block 103a; unblock 103a; seen a",
            "new pending confirmed=1000",
        ),
        (
            "a block above a deposit that is leaving says nothing of it",
            "quote; mined a 100a 1000; block 100a; unblock 100a; block 101b",
            "new pending confirmed=1000",
        ),
    ];
    check(&rows, &policy());
}

#[test]
fn what_a_reorg_or_a_replacement_leaves_behind() {
    let rows = [
        (
            "it is not in the mempool because it once was",
            "quote; seen a 1000; mined a 100a; block 100a; unblock 100a; block 100b",
            "new pending paid=1000 confirmed=1000 pending+reorged",
        ),
        (
            "a replacement that came to nothing is forgotten in a block",
            "quote; seen a 1000; replaced a z; mined a 100a; block 100a; unmined a 100a gone",
            "new pending paid=1000 pending+replaced confirmed=1000 pending+reorged",
        ),
        (
            "and in the mempool",
            "quote; seen a 1000; replaced a z; seen a; vanished a",
            "new pending paid=1000 pending+replaced paid=1000 pending",
        ),
        (
            "its block left, and it is in the mempool",
            "quote; mined a 100a 1000; block 100a; unblock 100a; seen a",
            "new pending confirmed=1000 paid=1000+reorged",
        ),
        (
            "its block left, and it is in another",
            "quote; mined a 100a 1000; block 100a; unblock 100a; mined a 100b; block 100b",
            "new pending confirmed=1000 paid=1000+reorged confirmed=1000",
        ),
        (
            "replaced before its block was connected",
            "quote; mined a 100a 1000; replaced a z; block 100a",
            "new pending pending+replaced",
        ),
        (
            "a successor's successor pays",
            "quote; seen a 400; seen b 400 for:a; seen c 400 for:b",
            "new pending pending=400",
        ),
        (
            "what pays on another chain is no successor",
            "quote; quote ltc 3000; seen a 500; replaced a z; seen z 500 q2",
            "new pending pending=500 pending+replaced pending=500+replaced",
        ),
    ];
    check(&rows, &policy());
    let told = Story::new(policy()).tell("quote; mined a 100a 1000; block 100a; block 104a; unblock 104a");
    assert_eq!(told.order.confirmations(), 4, "a block less stands on it");
}

#[test]
fn money_for_an_order_that_waits_for_none() {
    let rows = [
        (
            "canceled, in time and too much",
            "quote; cancel; seen a 2000",
            "new pending canceled canceled=2000+paid_late",
        ),
        (
            "invalid, confirmed to the end",
            "quote; seen a 1000; wait 1441; invalidate; mined a 200a; block 200a; block 205a",
            "new pending paid=1000 invalid=1000 invalid=1000+paid_late",
        ),
        (
            "invalid, and more that is not confirmed",
            "quote; seen a 1000; wait 1441; invalidate; seen b 5",
            "new pending paid=1000 invalid=1000 invalid=1005+paid_late",
        ),
    ];
    check(&rows, &policy());
    let canceled = Story::new(policy()).tell("quote; cancel; seen a 1000");
    assert!(!canceled.order.counts(&key("a")) && !canceled.order.is_covered());
}

#[test]
fn a_quote_reported_earlier_in_time_counts() {
    let late = Story::new(policy()).tell("quote; wait 25; seen a 1000");
    assert_eq!(late.trace(), "new pending pending=1000+paid_late");
    let mut late = late;
    late.now = START.plus(minutes(5));
    let earlier = late.tell("seen a");
    assert_eq!(earlier.trace(), "new pending pending=1000+paid_late paid=1000");
}

#[test]
fn a_first_confirmation_is_enough_against_invalidation() {
    let mut wanted = request("btc", 1_000, 1, policy());
    wanted.counts = Counts { confirmed: 3, complete: 6, thresholds: Vec::new(), finalized: false };
    let mut story = Story::new(policy());
    story.fold(story.order.quote(wanted, START).unwrap());
    let story = story.tell("seen a 400; seen b 600; mined a 100a; block 100a");
    let next = |story: &Story| story.order.next_deadline().map(|next| (next.kind, next.at.since(START)));
    assert_eq!(
        next(&story),
        Some((DeadlineKind::Invalidation, minutes(1_440))),
        "a part waits in the mempool"
    );
    let story = story.tell("wait 30; mined b 101a; block 101a");
    assert_eq!((story.order.status(), next(&story)), (Status::Paid, None));
    let story = story.tell("wait 3000; invalidated");
    assert_eq!(story.order.status(), Status::Paid, "slow blocks make nobody's money invalid");
    // Thrown back into the mempool, it has a day again.
    let story = story.tell("unblock 101a; unmined b 101a mempool");
    assert_eq!(next(&story), Some((DeadlineKind::Invalidation, minutes(30 + 3_000 + 1_440))));
    let story = story.tell("block 101b; mined b 102b; block 102b; block 103b; block 104b");
    assert_eq!((story.order.status(), next(&story)), (Status::Confirmed, None));
}

#[test]
fn a_day_without_a_confirmation_begins_anew_with_each_payment() {
    let story = Story::new(policy()).tell("quote; seen a 1000; wait 10; vanished a; wait 5; seen a");
    assert_eq!(story.order.next_deadline().unwrap().at, START.plus(minutes(15 + 1_440)));
}

#[test]
fn without_a_report_nobody_is_invalid() {
    let story = Story::new(policy()).tell("quote; seen a 1000; wait 1500");
    let refused = story.order.invalidate(story.now, |_| None);
    assert_eq!(refused, Err(Refusal::Unobserved("btc".parse().unwrap())));
    assert!(story.order.invalidate(story.now, story.observed()).is_ok());
    let early = Story::new(policy()).tell("quote; seen a 1000; wait 1439");
    assert!(matches!(early.order.invalidate(early.now, early.observed()), Err(Refusal::NotDue(_))));
}

#[test]
fn a_watcher_must_know_the_last_address_on_its_chain() {
    let mut story = Story::new(policy());
    for (number, currency) in (1..).zip(["ETH", "USDT"]) {
        let mut wanted = request("eth", 1_000, number, policy());
        wanted.currency = currency.parse().unwrap();
        story.fold(story.order.quote(wanted, START).unwrap());
    }
    let story = story.tell("wait 60");
    for (through, expires) in [(2, false), (3, true)] {
        let seen = super::Observation { observed_at: story.now, watched_through: Position::new(through) };
        assert_eq!(story.order.expire(story.now, |_| Some(seen)).is_ok(), expires, "through {through}");
    }
}

#[test]
fn only_what_a_reorg_took_gets_more_time() {
    let story = Story::new(policy()).tell(
        "quote; quote ltc 3000; mined a 100a 1000; block 100a; wait 60; unblock 100a; unmined a 100a gone",
    );
    let ends: Vec<Span> = story.order.quotes().iter().map(|quote| quote.expires_at().since(START)).collect();
    assert_eq!(ends, [minutes(80), minutes(20)]);
    let canceled = Story::new(policy())
        .tell("quote; mined a 100a 1000; block 100a; seen b 1000; unmined a 100a gone; wait 60; canceled");
    assert_eq!(canceled.order.expire_at(), START.plus(minutes(20)));
}

#[test]
fn quotes_are_in_their_order_whatever_the_order_of_their_facts() {
    let story = Story::new(policy()).tell("quote; quote ltc 3000");
    let mut other = Story::new(policy());
    for quoted in story.facts[1..].iter().rev() {
        other.fold(quoted.event.fact.clone());
    }
    let numbers: Vec<u32> = other.order.quotes().iter().map(|quote| quote.terms().quote).collect();
    assert_eq!((numbers, other.order.next_quote()), (vec![1, 2], 3));
}

#[test]
fn the_end_of_an_order_is_its_longest_quotes() {
    let mut story = Story::new(policy()).tell("quote");
    let short = Policy { quote: minutes(5), ..policy() };
    story.fold(story.order.quote(request("ltc", 3_000, 2, short), START).unwrap());
    assert_eq!(story.order.expire_at(), START.plus(minutes(20)));
}

#[test]
fn the_own_position_never_goes_back() {
    let mut story = Story::new(policy()).tell("quote; wait 21; expire");
    let (position, quoted) = (story.order.own_position(), story.facts[1].clone());
    story.order.apply(&quoted);
    assert_eq!((position, story.order.own_position()), (Position::new(3), Position::new(3)));
}

fn archived(story: &Story, last: Position) -> OrdersArchived {
    let order = ArchivedOrder {
        order: story.order.id().clone(),
        status: story.order.status().as_str().to_owned(),
        exceptions: Vec::new(),
        version: story.order.version(),
        first: Position::new(1),
        last,
        delivered: Position::START,
        endpoints: Vec::new(),
    };
    OrdersArchived {
        segment: 1,
        facts: 1,
        first: Position::new(1),
        last,
        through: last,
        digest: String::new(),
        orders: vec![order],
    }
}

#[test]
fn an_archived_order_begins_anew_unless_something_came_after() {
    let mut story = Story::new(policy()).tell("wait 1440; expire");
    let end = story.order.own_position();
    story.fold(archived(&story, Position::new(1)));
    assert_eq!(story.order.own_position(), end, "what came after is still in the log");
    assert!(story.order.closed_since().is_some());
    story.fold(archived(&story, end));
    assert_eq!(story.order.own_position(), Position::START);
    assert_eq!(story.order.closed_since(), None, "it is archived already");
}

#[test]
fn closed_is_what_nobody_waits_for() {
    let accept = Policy { late: LatePolicy::Accept, ..policy() };
    let rows = [
        ("new", policy(), "", false),
        ("pending", policy(), "quote", false),
        ("confirmed", policy(), "quote; mined a 9a 1000; block 9a", false),
        ("expired without an address", policy(), "wait 1440; expire", true),
        ("its address is watched", policy(), "quote; wait 21; expire", false),
        ("nobody looks any more", policy(), "quote; wait 21; expire; wait 129600; unwatch", true),
        (
            "late money found by a rescan",
            accept,
            "quote; wait 21; expire; wait 129600; unwatch; seen a 5",
            false,
        ),
    ];
    for (name, policy, story, closed) in rows {
        assert_eq!(Story::new(policy).tell(story).order.closed_since().is_some(), closed, "{name}");
    }
}

#[test]
fn what_can_be_accepted() {
    let accepted = |full: Option<u128>| vec![AcceptedDeposit { deposit: key("a"), full: full.map(units) }];
    let late = "quote; wait 21; expire; seen a 1000";
    let refused = Err(Refusal::NotAcceptable(key("a")));
    let rows = [
        ("late", late, accepted(None), None),
        ("at no price", late, accepted(Some(0)), Some(refused.clone())),
        ("it counts already", "quote; seen a 400", accepted(None), Some(refused.clone())),
        ("unknown", "quote; wait 21; expire", accepted(None), Some(refused)),
        ("nothing", late, Vec::new(), Some(Err(Refusal::NothingToAccept))),
        (
            "canceled",
            "quote; cancel; seen a 1000",
            accepted(None),
            Some(Err(Refusal::Final(Status::Canceled))),
        ),
    ];
    for (name, story, deposits, refusal) in rows {
        let result = Story::new(policy()).tell(story).order.accept(deposits, "ann");
        match refusal {
            Some(refusal) => assert_eq!(result, refusal, "{name}"),
            None => assert!(result.is_ok(), "{name}"),
        }
    }
    // Accepted twice, the first word holds.
    let mut story = Story::new(policy()).tell(late).tell("accept a 900");
    let order = story.order.id().clone();
    story.fold(OrderAccepted { order, deposits: accepted(Some(5_000)), by: "bob".into() });
    assert_eq!((story.order.accepted.len(), story.order.status()), (1, Status::Paid));
}

#[test]
fn a_policy_accepts_nothing_that_is_not_confirmed_of_an_invalid_order() {
    let accept = Policy { late: LatePolicy::Accept, ..policy() };
    let story = Story::new(accept).tell("quote; seen a 1000; wait 1441; invalidate");
    assert!(!story.order.awaits_acceptance());
    assert!(story.tell("mined a 200a; block 200a").order.awaits_acceptance());
}

#[test]
fn an_older_version_is_shown_without_later_quotes() {
    let story = Story::new(policy()).tell("quote; seen a 400; quote ltc 3000; seen b 1800 q2");
    let shown: Vec<(usize, Option<String>)> = (2..=4)
        .map(|version| story.order.public(version))
        .map(|public| (public.quotes.len(), public.pay_currency.map(|currency| currency.to_string())))
        .collect();
    let (btc, ltc) = (Some("BTC".to_owned()), Some("LTC".to_owned()));
    assert_eq!(shown, [(1, btc), (2, ltc.clone()), (2, ltc)]);
}

#[test]
fn counts_of_nothing_are_counts_of_one() {
    let mut wanted = request("btc", 1_000, 1, policy());
    wanted.counts = Counts { confirmed: 0, complete: 0, thresholds: Vec::new(), finalized: false };
    let mut story = Story::new(policy());
    story.fold(story.order.quote(wanted, START).unwrap());
    assert_eq!(story.tell("seen a 1000").order.status(), Status::Paid);
}

#[test]
fn a_remainder_is_never_more_than_the_whole() {
    let story = Story::new(policy()).tell("quote; seen a 1");
    let mut wanted = request("eth", 1_050, 2, policy());
    wanted.payable_unit = units(100);
    assert_eq!(story.order.quote(wanted, START).unwrap().due, units(1_050));
}

#[test]
fn what_is_final_stays_the_last_that_is() {
    let mut wanted = request("btc", 1_000, 1, policy());
    wanted.counts.finalized = true;
    let mut story = Story::new(policy());
    story.fold(story.order.quote(wanted, START).unwrap());
    story.fold(super::finalized("120a"));
    story.fold(super::finalized("99a"));
    let story = story.tell("mined a 110a 1000; block 110a; block 121a");
    assert_eq!(story.order.status(), Status::Complete);
}

#[test]
fn each_field_of_a_request_tells_it_from_another() {
    let order = Story::new(policy()).order;
    let base = || OrderCreated { order: "1".parse().unwrap(), ..created(policy()) };
    assert!(order.is_same_request(&base()));
    let price = |currency: &str, amount: &str| Price::In {
        currency: currency.parse().unwrap(),
        amount: amount.parse().unwrap(),
    };
    let rows = [
        ("merchant", OrderCreated { merchant: MerchantId::new(2), ..base() }),
        ("face", OrderCreated { face: Face::Payscrypt, ..base() }),
        ("own id", OrderCreated { own_id: "E2".into(), ..base() }),
        ("amount", OrderCreated { price: price("USD", "10.01"), ..base() }),
        ("currency", OrderCreated { price: price("EUR", "10"), ..base() }),
        ("title", OrderCreated { title: "coffee".into(), ..base() }),
        ("attach", OrderCreated { attach: Some("x".into()), ..base() }),
        ("notify_url", OrderCreated { notify_url: None, ..base() }),
        ("callback_url", OrderCreated { callback_url: Some("http://shop.example/".into()), ..base() }),
        ("wallet", OrderCreated { wallet: Some(WalletId::new(3)), ..base() }),
    ];
    for (name, other) in rows {
        assert!(!order.is_same_request(&other), "{name}");
    }
    assert_eq!(order.received_in(&"BTC".parse().unwrap()), BaseUnits::ZERO);
}

/// An order at 1,000,000 units with so many deposits of 500 each.
fn in_pieces(count: usize) -> Story {
    let mut story = Story::new(policy());
    let request = request("btc", 1_000_000, 1, policy());
    let quoted = story.order.quote(request, story.now).unwrap();
    story.fold(quoted);
    story.fold(piece("first", 500));
    let first = story.order.deposits[0].clone();
    let piece = |number: usize| {
        let mut one = first.clone();
        one.key.slot = format!("{number:05}");
        one
    };
    story.order.deposits = (0..count).map(piece).collect();
    story
}

fn piece(slot: &str, amount: u128) -> DepositSeen {
    let key = DepositKey { slot: slot.to_owned(), ..key("a") };
    let deposit = Deposit {
        key,
        currency: "btc".parse().unwrap(),
        amount: units(amount),
        script: script(1),
        first_seen: START,
        inputs: Vec::new(),
        difference: None,
    };
    DepositSeen { chain: "btc".parse().unwrap(), deposit, replaces: None }
}

#[test]
fn an_order_paid_in_very_many_pieces_takes_no_more_dust() {
    let (free, most) = (super::super::fold::DEPOSITS_FREE, super::super::fold::DEPOSITS_MAX);
    for (name, before, slot, amount, taken) in [
        ("dust while there are few", free - 1, "new", 1, true),
        ("dust when there are many", free, "new", 999, false),
        ("a payment when there are many", free, "new", 1_000, true),
        ("dust that is known already", free, "00007", 500, true),
        ("a payment before the last place", most - 1, "new", 1_000, true),
        ("a payment when there are too many", most, "new", 1_000_000, false),
        ("one that is known already", most, "00007", 500, true),
    ] {
        let mut story = in_pieces(before);
        let seen = piece(slot, amount);
        assert_eq!(story.order.takes(&seen.chain, &seen.deposit), taken, "{name}");
        let new = usize::from(taken && slot == "new");
        story.fold(seen);
        assert_eq!(story.order.deposits().len(), before + new, "{name}");
    }
    let other = Deposit { script: script(2), ..piece("new", 1_000).deposit };
    assert!(!in_pieces(1).order.takes(&"btc".parse().unwrap(), &other), "another's script");
}
