//! One row and more for each line of the rules.

use rust_decimal::Decimal;
use tally_events::{LatePolicy, Policy, Price};
use tally_types::{BaseUnits, Currency, Position, Span};

use super::super::{EXPIRY_GRACE, MAX_QUOTES, Observation};
use super::{START, Story, created, policy, request, units};
use crate::{DeadlineKind, Refusal, Status};

fn check(rows: &[(&str, &str, &str)], policy: &Policy) {
    for (name, story, trace) in rows {
        assert_eq!(Story::new(policy.clone()).tell(story).trace(), *trace, "{name}");
    }
}

#[test]
fn from_creation_to_completion() {
    let rows = [
        ("created", "", "new"),
        ("a new order expires after a day", "wait 1440; expire", "new expired"),
        ("quoted", "quote", "new pending"),
        ("a second quote is no new version", "quote; quote ltc 3000", "new pending"),
        ("covered in the mempool", "quote; seen a 1000", "new pending paid=1000"),
        ("a part of it", "quote; seen a 999", "new pending pending=999"),
        ("two parts", "quote; seen a 400; seen b 600", "new pending pending=400 paid=1000"),
        (
            "all the way",
            "quote; seen a 1000; mined a 100a; block 100a; block 104a; block 105a",
            "new pending paid=1000 confirmed=1000 complete=1000",
        ),
        (
            "first met in a block",
            "quote; mined a 100a 1000; block 100a; block 105a",
            "new pending confirmed=1000 complete=1000",
        ),
        ("mined does not count before its block is connected", "quote; mined a 100a 1000", "new pending"),
        ("nor by another block of that height", "quote; mined a 100a 1000; block 100b", "new pending"),
        (
            "met deep in the chain",
            "quote; mined a 100a 1000; block 99a; block 100a",
            "new pending confirmed=1000",
        ),
        (
            "the shallower deposit decides",
            "quote; mined a 100a 400; block 100a; mined b 103a 600; block 103a; block 105a; block 108a",
            "new pending pending=400 confirmed=1000 complete=1000",
        ),
        ("another currency at the address is never counted", "quote; seen a 1000 in:USDT", "new pending"),
        (
            "a token is recorded, not mixed in",
            "quote; seen a 7 in:USDT; seen b 1000",
            "new pending paid=1000",
        ),
    ];
    check(&rows, &policy());
}

#[test]
fn time() {
    let rows = [
        ("not covered in time", "quote; wait 21; expire", "new pending expired"),
        (
            "a part of it in time",
            "quote; seen a 400; wait 21; expire",
            "new pending pending=400 expired=400+underpaid",
        ),
        ("late", "quote; wait 21; expire; seen a 1000", "new pending expired expired=1000+paid_late"),
        ("at the very end is late", "quote; wait 20; seen a 1000", "new pending pending=1000+paid_late"),
        (
            "late for its own quote, whatever newer one runs",
            "quote; wait 10; quote ltc 3000; wait 11; seen a 1000 q1",
            "new pending pending=1000+paid_late",
        ),
        (
            "in time for the newer one",
            "quote; wait 10; quote ltc 3000; wait 11; seen a 3000 q2",
            "new pending paid=3000",
        ),
        (
            "part in time, rest late",
            "quote; seen a 400; wait 21; expire; seen b 600",
            "new pending pending=400 expired=400+underpaid expired=1000+paid_late+underpaid",
        ),
        (
            "late money that leaves again",
            "quote; wait 21; expire; seen a 1000; vanished a",
            "new pending expired expired=1000+paid_late expired",
        ),
        (
            "not confirmed within a day",
            "quote; seen a 1000; wait 1441; invalidate",
            "new pending paid=1000 invalid=1000",
        ),
        (
            "confirmed later after all",
            "quote; seen a 1000; wait 1441; invalidate; mined a 200a; block 200a",
            "new pending paid=1000 invalid=1000 invalid=1000+paid_late",
        ),
        (
            "confirmed before the log got to it",
            "quote; seen a 1000; mined a 100a; wait 1441; block 100a; invalidated",
            "new pending paid=1000 confirmed=1000",
        ),
        (
            "invalid, then accepted by a person",
            "quote; seen a 1000; wait 1441; invalidate; mined a 200a; block 200a; accept a; block 205a",
            "new pending paid=1000 invalid=1000 invalid=1000+paid_late confirmed=1000 complete=1000",
        ),
        ("a stale expiry of an earlier quote", "quote; wait 10; quote ltc 9; expired 20", "new pending"),
    ];
    check(&rows, &policy());
}

#[test]
fn an_in_time_deposit_reopens_whichever_comes_first() {
    let after = "quote; wait 19; seen a 1000; wait 2; expired 20; mined a 100a; block 100a";
    let before = Story::new(policy()).tell("quote; wait 21; expire; ");
    assert_eq!(before.trace(), "new pending expired");
    let mut before = before;
    before.now = START.plus(Span::from_secs(19 * 60));
    let before = before.tell("seen a 1000; wait 2; mined a 100a; block 100a");
    let after = Story::new(policy()).tell(after);
    assert_eq!(before.trace(), "new pending expired paid=1000 confirmed=1000");
    assert_eq!(after.trace(), "new pending paid=1000 confirmed=1000");
    assert_eq!(before.order.public(0).deposits, after.order.public(0).deposits);
    assert_eq!(before.order.next_deadline(), after.order.next_deadline());
}

#[test]
fn replacement_and_double_spend() {
    let rows = [
        ("double-spent", "quote; seen a 1000; replaced a z", "new pending paid=1000 pending+replaced"),
        (
            "replaced, its successor pays too",
            "quote; seen a 1000; seen b 1000 for:a; replaced a b",
            "new pending paid=1000",
        ),
        (
            "replaced in a block",
            "quote; seen a 1000; mined b 100a 1000 for:a; block 100a",
            "new pending paid=1000 confirmed=1000",
        ),
        (
            "its successor pays less",
            "quote; seen a 1000; seen b 300 for:a",
            "new pending paid=1000 pending=300+replaced",
        ),
        (
            "its successor is double-spent too",
            "quote; seen a 1000; seen b 1000 for:a; replaced b z",
            "new pending paid=1000 pending+replaced",
        ),
        (
            "the cause has passed",
            "quote; seen a 1000; replaced a z; seen b 1000",
            "new pending paid=1000 pending+replaced paid=1000",
        ),
        (
            "replaced once its time was over",
            "quote; seen a 1000; wait 30; replaced a z; expire",
            "new pending paid=1000 pending+replaced expired+replaced",
        ),
        (
            "a replacement inherits its time",
            "quote; seen a 1000; wait 30; seen b 1000 for:a",
            "new pending paid=1000",
        ),
        ("vanished", "quote; seen a 1000; vanished a", "new pending paid=1000 pending"),
        ("seen again", "quote; seen a 1000; vanished a; seen a", "new pending paid=1000 pending paid=1000"),
        (
            "an old sighting of what was replaced is no news",
            "quote; seen a 1000; seen b 1000 for:a; seen a",
            "new pending paid=1000",
        ),
        (
            "what is in a block is neither replaced nor gone",
            "quote; mined a 100a 1000; block 100a; replaced a z; vanished a; seen a",
            "new pending confirmed=1000",
        ),
    ];
    check(&rows, &policy());
}

#[test]
fn reorgs() {
    let rows = [
        (
            "back in the mempool",
            "quote; mined a 100a 1000; block 100a; unblock 100a; unmined a 100a mempool",
            "new pending confirmed=1000 paid=1000+reorged",
        ),
        (
            "told the other way round",
            "quote; mined a 100a 1000; block 100a; unmined a 100a mempool; unblock 100a",
            "new pending confirmed=1000 paid=1000+reorged",
        ),
        (
            "in neither",
            "quote; mined a 100a 1000; block 100a; unblock 100a; unmined a 100a gone",
            "new pending confirmed=1000 pending+reorged",
        ),
        (
            "mined again: forward",
            "quote; mined a 100a 1000; block 100a; unmined a 100a mempool; unblock 100a; block 100b; mined a 101b; \
             block 101b; block 106b",
            "new pending confirmed=1000 paid=1000+reorged confirmed=1000 complete=1000",
        ),
        (
            "mined again in the same append",
            "quote; mined a 100a 1000; block 100a; unblock 100a; unmined a 100a mempool; mined a 100b; block 100b",
            "new pending confirmed=1000 paid=1000+reorged confirmed=1000",
        ),
        (
            "the same block again",
            "quote; mined a 100a 1000; block 100a; unblock 100a; block 100a",
            "new pending confirmed=1000",
        ),
        (
            "another block, and not a word about the deposit",
            "quote; mined a 100a 1000; block 100a; unblock 100a; block 100b",
            "new pending confirmed=1000 pending+reorged",
        ),
        (
            "a dangling report is taken back",
            "quote; seen a 1000; mined a 100a; unmined a 100a mempool; block 100b",
            "new pending paid=1000",
        ),
        (
            "after complete",
            "quote; mined a 100a 1000; block 105a; block 100a; block 105a; unblock 100a; unmined a 100a gone",
            "new pending confirmed=1000 complete=1000 complete+reorged",
        ),
        (
            "after complete, and back",
            "quote; mined a 100a 1000; block 100a; block 105a; unmined a 100a gone; mined a 101b; block 101b",
            "new pending confirmed=1000 complete=1000 complete+reorged complete=1000",
        ),
        (
            "a reorg above it takes confirmations only",
            "quote; mined a 100a 1000; block 100a; unblock 103a; block 105a",
            "new pending confirmed=1000 complete=1000",
        ),
    ];
    check(&rows, &policy());
}

#[test]
fn thrown_back_after_its_deadline_it_gets_one_more_quote_length() {
    let story = Story::new(policy())
        .tell("quote; mined a 100a 1000; block 100a; wait 60; unblock 100a; unmined a 100a gone");
    assert_eq!(story.trace(), "new pending confirmed=1000 pending+reorged");
    assert_eq!(story.order.expire_at(), START.plus(Span::from_secs(80 * 60)));
    let paid = "wait 19; seen b 1000";
    let late = "wait 21; expire; seen b 1000";
    let trace = "new pending confirmed=1000 pending+reorged";
    let again = |rest: &str| {
        Story::new(policy())
            .tell("quote; mined a 100a 1000; block 100a; wait 60; unblock 100a; unmined a 100a gone")
            .tell(rest)
            .trace()
    };
    assert_eq!(again(paid), format!("{trace} paid=1000"));
    assert_eq!(again(late), format!("{trace} expired+reorged expired=1000+reorged+paid_late"));
    let early = Story::new(policy())
        .tell("quote; mined a 100a 1000; block 100a; wait 10; unblock 100a; unmined a 100a gone");
    assert_eq!(early.order.expire_at(), START.plus(Span::from_secs(20 * 60)));
}

#[test]
fn canceled() {
    let rows = [
        ("a new order", "cancel", "new canceled"),
        ("a pending one without money", "quote; cancel", "new pending canceled"),
        ("later money", "quote; cancel; seen a 1000", "new pending canceled canceled=1000+paid_late"),
        (
            "money that was on its way",
            "quote; seen a 1000; canceled; mined a 100a; block 100a; block 105a",
            "new pending paid=1000 canceled=1000+paid_late",
        ),
        (
            "not after completion",
            "quote; mined a 100a 1000; block 100a; block 105a; canceled",
            "new pending confirmed=1000 complete=1000",
        ),
    ];
    check(&rows, &policy());
    let paid = Story::new(policy()).tell("quote; seen a 1");
    assert_eq!(paid.order.cancel(), Err(Refusal::NotCancelable(Status::Pending)));
    let canceled = Story::new(policy()).tell("cancel");
    assert_eq!(canceled.order.cancel(), Err(Refusal::Final(Status::Canceled)));
}

#[test]
fn more_than_asked_for() {
    let rows = [
        ("one payable unit too much", "quote; seen a 1001", "new pending paid=1001"),
        ("two", "quote; seen a 1002", "new pending paid=1002+overpaid"),
        (
            "after completion, in time",
            "quote; mined a 100a 1000; block 100a; block 105a; seen b 50",
            "new pending confirmed=1000 complete=1000 complete=1050+overpaid",
        ),
        (
            "after completion, late",
            "quote; mined a 100a 1000; block 100a; block 105a; wait 30; seen b 50",
            "new pending confirmed=1000 complete=1000 complete=1050+paid_late",
        ),
    ];
    check(&rows, &policy());
}

#[test]
fn tolerance_in_percent_and_in_the_price_currency() {
    let percent = Policy { tolerance_percent: Decimal::new(15, 1), ..policy() };
    let rows = [
        ("1.5 % missing", "quote; seen a 985", "new pending paid=985"),
        ("a unit more missing", "quote; seen a 984", "new pending pending=984"),
        ("1.5 % too much", "quote; seen a 1015", "new pending paid=1015"),
        ("a unit more", "quote; seen a 1016", "new pending paid=1016+overpaid"),
    ];
    check(&rows, &percent);
    // 0.30 of a price of 10 is 3 %, more than the 1.5 %.
    let both = Policy { tolerance_absolute: Decimal::new(30, 2), ..percent };
    let rows = [
        ("3 % missing", "quote; seen a 970", "new pending paid=970"),
        ("a unit more missing", "quote; seen a 969", "new pending pending=969"),
    ];
    check(&rows, &both);
    let all = Policy { tolerance_absolute: Decimal::from(11), ..policy() };
    check(&[("nothing at all is never enough", "quote", "new pending")], &all);
}

#[test]
fn several_coins_add_up_each_at_its_own_quote() {
    let story = Story::new(policy()).tell("quote; seen a 333; quote ltc 7777");
    let quote = story.order.latest_quote().unwrap();
    // 667/1000 of 7777 is 5187.259: rounded up.
    assert_eq!((quote.terms().due, quote.terms().full), (units(5188), units(7777)));
    assert_eq!(story.order.remaining_due(quote), units(5188));
    assert_eq!(
        Story::new(policy()).tell("quote; seen a 333; quote ltc 7777; seen b 5187 q2").order.status(),
        Status::Pending
    );
    let story = story.tell("seen b 5188 q2");
    assert_eq!(story.trace(), "new pending pending=333 paid=5521");
    assert_eq!(story.order.remaining_due(story.order.latest_quote().unwrap()), BaseUnits::ZERO);
    let ltc = "LTC".parse::<Currency>().unwrap();
    assert_eq!((story.order.received_in(&ltc), story.order.received().len()), (units(5188), 2));
    assert_eq!(story.order.paid_value().to_string(), "10.0009528");
    assert_eq!(story.order.confirmations(), 0);
    let story = story.tell("mined b 50a q2; mined a 100a; block 100a btc; block 52a ltc");
    assert_eq!(story.order.status(), Status::Paid, "the other chain's block was never connected");
    let story = story.tell("block 50a ltc; block 52a ltc");
    assert_eq!((story.order.status(), story.order.confirmations()), (Status::Confirmed, 1));
}

#[test]
fn late_money_by_policy() {
    let accept = Policy { late: LatePolicy::Accept, ..policy() };
    let rows = [
        (
            "accepted at its quote's rate",
            "quote; wait 21; expire; seen a 1000; policy; mined a 100a; block 100a",
            "new pending expired expired=1000+paid_late paid=1000 confirmed=1000",
        ),
        (
            "a part of it",
            "quote; wait 21; expire; seen a 400; policy",
            "new pending expired expired=400+paid_late expired=400+underpaid",
        ),
        (
            "an invalid order, confirmed after all",
            "quote; seen a 1000; wait 1441; invalidate; mined a 200a; block 200a; policy",
            "new pending paid=1000 invalid=1000 invalid=1000+paid_late confirmed=1000",
        ),
    ];
    check(&rows, &accept);
    let reprice = Policy { late: LatePolicy::Reprice, ..policy() };
    let rows = [(
        "at the rate of the moment it is half",
        "quote; wait 21; expire; seen a 1000; policy; seen b 1000; policy",
        "new pending expired expired=1000+paid_late expired=1000+underpaid expired=2000+paid_late+underpaid \
         paid=2000",
    )];
    check(&rows, &reprice);
    let rows = [(
        "held for a person, who names a rate",
        "quote; wait 21; expire; seen a 1000; accept a 900",
        "new pending expired expired=1000+paid_late paid=1000+overpaid",
    )];
    check(&rows, &policy());
    let held = Story::new(policy()).tell("quote; wait 21; expire; seen a 1000");
    assert!(!held.order.awaits_acceptance());
    assert_eq!(held.order.accept_by_policy(|_| None), Err(Refusal::NothingToAccept));
    let due = Story::new(reprice).tell("quote; wait 21; expire; seen a 1000");
    assert!(due.order.awaits_acceptance());
    assert_eq!(due.order.accept_by_policy(|_| None), Err(Refusal::NothingToAccept));
    let paid = Story::new(accept).tell("quote; seen b 1000; wait 21; seen a 1000");
    assert!(!paid.order.awaits_acceptance(), "covered without it");
}

#[test]
fn quotes_that_are_refused() {
    let usable = |story: &str, policy: &Policy| {
        let mut story = Story::new(policy.clone()).tell(story);
        story.quote("btc", 1000)
    };
    let reopen = Policy { reopen: true, ..policy() };
    let rows: [(&str, &str, Result<(), Refusal>); 12] = [
        ("the first", "", Ok(())),
        ("a live one in the same currency", "quote", Err(Refusal::Existing(1))),
        ("it has ended, another runs", "quote; wait 10; quote ltc 5; wait 11", Ok(())),
        ("it has ended, nobody has said expired yet", "quote; wait 20", Err(Refusal::Expired)),
        ("expired", "quote; wait 21; expire", Err(Refusal::Expired)),
        ("expired before any quote", "wait 1440; expire", Err(Refusal::Expired)),
        ("paid", "quote; seen a 1000", Err(Refusal::AlreadyPaid(Status::Paid))),
        ("confirmed", "quote; mined a 9a 1000; block 9a", Err(Refusal::AlreadyPaid(Status::Confirmed))),
        ("complete", "quote; mined a 9a 1000; block 9a; block 15a", Err(Refusal::Final(Status::Complete))),
        ("canceled", "cancel", Err(Refusal::Final(Status::Canceled))),
        ("invalid", "quote; seen a 1000; wait 1441; invalidate", Err(Refusal::Final(Status::Invalid))),
        ("paid in part, its quote over", "quote; seen a 1; wait 21; expire", Err(Refusal::Expired)),
    ];
    for (name, story, result) in rows {
        assert_eq!(usable(story, &policy()), result, "{name}");
    }
    let rows = [
        ("reopen", "quote; wait 21; expire", Ok(())),
        ("reopen before the duty came by", "quote; wait 20", Ok(())),
        ("reopen after the new-order limit", "quote; wait 21; expire; wait 1420", Err(Refusal::Expired)),
        ("reopen with money", "quote; wait 21; expire; seen a 1", Err(Refusal::Expired)),
    ];
    for (name, story, result) in rows {
        assert_eq!(usable(story, &reopen), result, "{name}");
    }
    let again = Story::new(reopen).tell("quote; wait 21; expire; quote; seen a 1000 q2");
    assert_eq!(again.trace(), "new pending expired pending paid=1000");
}

#[test]
fn dust_and_too_many_quotes_are_refused() {
    let story = Story::new(policy()).tell("quote; seen a 999");
    let mut wanted = request("ltc", 50_000, 2, policy());
    wanted.minimum = units(1000);
    let dust = Refusal::Dust { due: units(50), minimum: units(1000) };
    assert_eq!(story.order.quote(wanted.clone(), START), Err(dust));
    wanted.full = units(1_000_000);
    assert_eq!(story.order.quote(wanted, START).unwrap().due, units(1000));
    let free = request("btc", 0, 1, policy());
    assert!(matches!(Story::new(policy()).order.quote(free, START), Err(Refusal::Dust { .. })));
    let mut many = Story::new(policy());
    for number in 0..MAX_QUOTES {
        many.quote(&format!("c{number}"), 1000).unwrap();
    }
    assert_eq!(many.quote("btc", 1000), Err(Refusal::TooManyQuotes(MAX_QUOTES)));
}

#[test]
fn the_remainder_is_rounded_up_to_the_payable_unit() {
    let story = Story::new(policy()).tell("quote; seen a 333");
    let mut wanted = request("eth", 10_000, 2, policy());
    wanted.payable_unit = units(100);
    assert_eq!(story.order.quote(wanted, START).unwrap().due, units(6700));
}

#[test]
fn an_exact_price_needs_no_rate_and_is_never_rounded() {
    let price = Price::Exactly { currency: "ETH".parse().unwrap(), units: units(10_u128.pow(30) + 1) };
    let mut story = Story::of(tally_events::OrderCreated { price, ..created(policy()) }, policy());
    let mut wanted = request("eth", 10_u128.pow(30) + 1, 1, policy());
    wanted.decimals = 18;
    wanted.payable_unit = units(10_u128.pow(10));
    story.fold(story.order.quote(wanted, START).unwrap());
    let order = &story.order;
    assert_eq!(order.latest_quote().unwrap().terms().due, units(10_u128.pow(30) + 1));
    assert_eq!(order.price_text(), "1000000000000.000000000000000001");
    let short = story.tell(&format!("seen a {}", 10_u128.pow(30)));
    assert_eq!(short.order.status(), Status::Pending);
    let full = short.tell("seen b 1");
    assert_eq!(full.order.status(), Status::Paid);
    let zero = Price::Exactly { currency: "ETH".parse().unwrap(), units: BaseUnits::ZERO };
    let refused = super::Order::create(tally_events::OrderCreated { price: zero, ..created(policy()) });
    assert_eq!(refused, Err(Refusal::NoPrice));
}

#[test]
fn a_watcher_that_is_down_expires_nobody() {
    let story = Story::new(policy()).tell("quote; quote ltc 5; wait 60");
    let deadline = START.plus(Span::from_secs(20 * 60));
    let at = |millis_before: u64, through: u64| Observation {
        observed_at: deadline.plus(EXPIRY_GRACE).minus(Span::from_millis(millis_before)),
        watched_through: Position::new(through),
    };
    let rows = [
        ("both have looked", Some(at(0, 3)), true),
        ("one is down", None, false),
        ("one looked too early", Some(at(1, 3)), false),
        ("one does not know the address yet", Some(at(0, 2)), false),
    ];
    for (name, ltc, expired) in rows {
        let observed =
            |chain: &tally_types::ChainId| if chain.as_str() == "btc" { Some(at(0, 9)) } else { ltc };
        assert_eq!(story.order.expire(story.now, observed).is_ok(), expired, "{name}");
    }
    assert_eq!(story.order.expire(START, |_| None), Err(Refusal::NotDue(deadline)));
    let fresh = Story::new(policy());
    assert!(
        fresh.order.expire(START.plus(Span::from_secs(86_400)), |_| None).is_ok(),
        "no chain to wait for"
    );
}

#[test]
fn deadlines_in_an_orders_life() {
    let rows = [
        ("", Some((DeadlineKind::Expiry, 1440))),
        ("quote", Some((DeadlineKind::Expiry, 20))),
        ("quote; wait 5; seen a 1000", Some((DeadlineKind::Invalidation, 1445))),
        ("quote; mined a 9a 1000; block 9a", None),
        ("quote; mined a 9a 1000; block 9a; wait 5; block 14a", Some((DeadlineKind::Unwatch, 5 + 90 * 1440))),
        ("quote; wait 21; expire", Some((DeadlineKind::Unwatch, 21 + 90 * 1440))),
        ("wait 1440; expire", None),
        ("quote; wait 21; expire; wait 129600; unwatch", None),
    ];
    for (story, deadline) in rows {
        let told = Story::new(policy()).tell(story);
        let next = told.order.next_deadline().map(|next| (next.kind, next.at.since(START).secs() / 60));
        assert_eq!(next, deadline, "{story}");
    }
    let early = Story::new(policy()).tell("quote; wait 21; expire");
    assert!(matches!(early.order.unwatch(early.now), Err(Refusal::NotDue(_))));
    let done = Story::new(policy()).tell("quote; wait 21; expire; wait 129600");
    assert_eq!(done.order.unwatch(done.now).unwrap().scripts.len(), 1);
}

#[test]
fn the_same_request_is_told_by_value() {
    let order = Story::new(policy()).order;
    let same = tally_events::OrderCreated {
        order: "1".parse().unwrap(),
        price: Price::In { currency: "usd".parse().unwrap(), amount: "10.000".parse().unwrap() },
        created_at: START.plus(Span::from_secs(9)),
        ..created(Policy { reopen: true, ..policy() })
    };
    assert!(order.is_same_request(&same));
    let other = tally_events::OrderCreated { title: "coffee".into(), ..same.clone() };
    assert!(!order.is_same_request(&other));
}
