//! What holds for every story.

use proptest::prelude::*;
use tally_events::{Fact, Recorded};
use tally_types::Position;

use super::super::Order;
use super::{Story, policy, units};
use crate::Status;

/// A chain's part of a story: every step is one that a watcher may report after those before it.
fn chain_steps() -> impl Strategy<Value = Vec<String>> {
    let step = prop_oneof![
        Just("see"),
        Just("mine"),
        Just("reorg to mempool"),
        Just("reorg away"),
        Just("vanish"),
        Just("replace"),
        Just("wait"),
        Just("block"),
    ];
    (proptest::collection::vec((step, 0..3_usize, 300..1100_u32), 1..12)).prop_map(|steps| {
        let mut height = 100;
        let mut branch = b'a';
        let mut told = vec![format!("block {height}a")];
        let names = ["x", "y", "z"];
        let mut mined: Vec<(usize, u64, u8)> = Vec::new();
        let mut alive = [false; 3];
        for (step, which, amount) in steps {
            let name = names[which];
            let at = char::from(branch);
            let in_block = mined.iter().any(|(known, ..)| *known == which);
            match step {
                "see" if !in_block => {
                    told.push(format!("seen {name} {amount}"));
                    alive[which] = true;
                }
                "mine" if !in_block => {
                    height += 1;
                    told.push(format!("mined {name} {height}{at} {amount}"));
                    told.push(format!("block {height}{at}"));
                    mined.push((which, height, branch));
                }
                "reorg to mempool" | "reorg away" => {
                    let place = if step == "reorg away" { "gone" } else { "mempool" };
                    let gone = mined.iter().position(|(.., on)| *on == branch && height > 100);
                    while gone.is_some_and(|at| mined.len() > at)
                        && mined.last().is_some_and(|last| last.2 == branch)
                    {
                        let (which, at, on) = mined.pop().unwrap();
                        while height > at {
                            told.push(format!("unblock {height}{}", char::from(on)));
                            height -= 1;
                        }
                        told.push(format!("unmined {} {at}{} {place}", names[which], char::from(on)));
                        told.push(format!("unblock {at}{}", char::from(on)));
                        height = at - 1;
                        alive[which] = place == "mempool";
                    }
                    branch += 1;
                }
                "vanish" if alive[which] && !in_block => {
                    told.push(format!("vanished {name}"));
                    alive[which] = false;
                }
                "replace" if alive[which] && !in_block => {
                    told.push(format!("replaced {name} w"));
                    alive[which] = false;
                }
                "wait" => told.push("wait 7".to_owned()),
                "block" => {
                    height += 1;
                    told.push(format!("block {height}{at}"));
                }
                _ => {}
            }
        }
        told
    })
}

fn told(steps: &[String]) -> Story {
    Story::new(policy()).tell("quote").tell(&steps.join(";"))
}

/// What must not depend on how it came about.
fn standing(order: &Order) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        order.status(),
        order.exceptions(),
        order.received().to_vec(),
        order.confirmations(),
        order.thresholds(),
        order.expire_at(),
        order
            .deposits()
            .iter()
            .map(|one| (one.key().clone(), one.stage(), one.first_seen()))
            .collect::<Vec<_>>(),
    )
}

fn folded(facts: &[Recorded]) -> Order {
    let mut order = Order::from_created(&facts[0]).unwrap();
    facts[1..].iter().for_each(|fact| order.apply(fact));
    order
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_replay_gives_the_same_bytes(steps in chain_steps()) {
        let story = told(&steps);
        let bytes = |order: &Order| postcard::to_stdvec(order).unwrap();
        prop_assert_eq!(bytes(&folded(&story.facts)), bytes(&story.order));
        let restored: Order = postcard::from_bytes(&bytes(&story.order)).unwrap();
        prop_assert_eq!(bytes(&restored), bytes(&story.order));
    }

    #[test]
    fn each_fact_twice_in_a_row_changes_nothing(steps in chain_steps()) {
        let story = told(&steps);
        let mut order = Order::from_created(&story.facts[0]).unwrap();
        for fact in &story.facts[1..] {
            order.apply(fact);
            let before = postcard::to_stdvec(&order).unwrap();
            order.apply(fact);
            prop_assert_eq!(postcard::to_stdvec(&order).unwrap(), before, "{:?}", fact.event.fact);
        }
    }

    #[test]
    fn where_the_expiry_stands_in_the_log_does_not_matter(steps in chain_steps(), at in 0..40_usize) {
        let story = told(&steps);
        let deadline = story.order.quotes()[0].terms().expires_at;
        let expired = tally_events::OrderExpired { order: story.order.id().clone(), deadline };
        let event = tally_events::Event::new(story.order.subject(), expired, deadline);
        let mut facts = story.facts.clone();
        let at = 2 + at % (facts.len() - 1);
        facts.insert(at, Recorded { position: Position::new(1000), event: event.clone() });
        let mut last = story.facts.clone();
        last.push(Recorded { position: Position::new(1000), event });
        prop_assert_eq!(standing(&folded(&facts)), standing(&folded(&last)));
    }

    #[test]
    fn a_version_is_made_exactly_when_something_changed(steps in chain_steps()) {
        let story = told(&steps);
        let versions: Vec<_> = story.order.versions().cloned().collect();
        for (number, version) in (1_u32..).zip(&versions) {
            prop_assert_eq!(version.number, number);
        }
        for pair in versions.windows(2) {
            let of = |version: &crate::Version| (version.status, version.exceptions, version.received.clone());
            prop_assert_ne!(of(&pair[0]), of(&pair[1]));
        }
    }

    #[test]
    fn final_is_final(steps in chain_steps()) {
        let story = told(&steps);
        let statuses: Vec<Status> = story.order.versions().map(|version| version.status).collect();
        if let Some(at) = statuses.iter().position(|status| status.is_final()) {
            prop_assert!(statuses[at..].iter().all(|status| *status == statuses[at]));
        }
        if matches!(story.order.status(), Status::Paid | Status::Confirmed) {
            prop_assert!(story.order.is_covered());
        } else if !story.order.status().is_final() {
            prop_assert!(!story.order.is_covered());
        }
    }

    #[test]
    fn a_due_amount_paid_covers_exactly_and_a_unit_less_does_not(
        fulls in proptest::collection::vec(1_000_u128..u128::MAX / 4, 2..5),
        shares in proptest::collection::vec(1_u128..90, 4),
    ) {
        let mut story = Story::new(policy());
        let names = ["a", "b", "c", "d"];
        let last = fulls.len() - 1;
        for (at, full) in fulls.iter().enumerate() {
            story.quote(&format!("c{at}"), *full).unwrap();
            let due = story.order.latest_quote().unwrap().terms().due.units();
            let quote = at + 1;
            if at == last {
                let short = folded(&story.facts);
                let mut short = Story { order: short, facts: story.facts.clone(), ..Story::new(policy()) };
                if due > 1 {
                    short = short.tell(&format!("seen {} {} q{quote}", names[at], due - 1));
                    prop_assert_eq!(short.order.status(), Status::Pending);
                }
                story = story.tell(&format!("seen {} {due} q{quote}", names[at]));
                prop_assert_eq!(story.order.status(), Status::Paid);
                prop_assert!(story.order.exceptions().is_empty());
                prop_assert_eq!(story.order.remaining_due(story.order.latest_quote().unwrap()), units(0));
            } else {
                let part = (due / 100 * shares[at]).max(1);
                story = story.tell(&format!("seen {} {part} q{quote}", names[at]));
                prop_assert_eq!(story.order.status(), Status::Pending);
            }
        }
    }
}

#[test]
fn facts_of_other_orders_and_chains_change_nothing() {
    let story = Story::new(policy()).tell("quote; seen a 1000; mined a 100a; block 100a");
    let before = story.order.clone();
    let mut after = story.order.clone();
    let other = Fact::from(tally_events::OrderCanceled { order: "999".parse().unwrap() });
    let event = tally_events::Event::new(story.order.subject(), other, story.now);
    after.apply(&Recorded { position: Position::new(50), event });
    assert_eq!(before, after);
    let story = story.tell("block 500a ltc");
    assert_eq!(before, story.order);
}
