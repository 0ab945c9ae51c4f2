use super::*;
use crate::Credit;
use crate::testing::*;
use crate::{GONE_AFTER, UNKNOWN_GONE_AFTER};

mod random;

#[test]
fn a_payment_is_seen_mined_and_confirmed() {
    let mut story = Story::mined_to(9);
    let a = [pays('a', "x", &[1])];
    let mut words = vec![story.mempool(1, &['a'], &a, &[])];
    words.push(story.block(header(10, 0, 0), &a, &[spends('a', 1)]));
    for height in 11..=45 {
        words.push(story.block(header(height, 0, 0), &[], &[]));
    }
    let told: Vec<String> = words.into_iter().filter(|words| words.contains('(')).collect();
    assert_eq!(
        told.join(" "),
        "seen(a) mined(a@10) confirmed(a 1) +10 confirmed(a 2) +11 confirmed(a 3) +12 confirmed(a 6) +15 \
         confirmed(a 12) +21 confirmed(a 15) +24 confirmed(a 30) +39"
    );
    assert_eq!(story.refolded(), story.tracker);
}

#[test]
fn the_table_of_what_begins_at_the_chain() {
    let a = || pays('a', "x", &[1, 2]);
    type Play = fn(&mut Story) -> Vec<String>;
    let rows: [(&str, Play, &str); 13] = [
        (
            "first met in a block",
            |story| vec![story.block(header(10, 0, 0), &[pays('a', "x", &[1, 2])], &[])],
            "mined(a@10) confirmed(a 1) +10",
        ),
        (
            "replaced, and the successor pays too",
            |story| vec![story.mempool(9, &['b'], &[pays('b', "x", &[2, 3])], &[spends('b', 2)])],
            "seen(b for a) replaced(a by b)",
        ),
        (
            "replaced by a payment to another script",
            |story| vec![story.mempool(9, &['b'], &[pays('b', "y", &[2])], &[spends('b', 2)])],
            "seen(b) replaced(a by b)",
        ),
        (
            "double-spent in the mempool",
            |story| vec![story.mempool(9, &['q'], &[], &[spends('q', 2)])],
            "replaced(a by q)",
        ),
        (
            "double-spent in a block",
            |story| vec![story.block(header(10, 0, 0), &[], &[spends('q', 1)])],
            "replaced(a by q) +10",
        ),
        (
            "replaced in a block by a successor that pays too",
            |story| vec![story.block(header(10, 0, 0), &[pays('b', "x", &[1])], &[spends('b', 1)])],
            "mined(b@10 for a) replaced(a by b) confirmed(b 1) +10",
        ),
        (
            "vanished after two snapshots 60 s apart",
            |story| {
                vec![
                    story.mempool(9, &[], &[], &[]),
                    story.mempool(59, &[], &[], &[]),
                    story.mempool(1, &[], &[], &[]),
                    story.mempool(60, &[], &[], &[]),
                ]
            },
            "  vanished(a) ",
        ),
        (
            "back in between: not vanished",
            |story| {
                vec![
                    story.mempool(9, &[], &[], &[]),
                    story.mempool(59, &['a'], &[], &[]),
                    story.mempool(1, &[], &[], &[]),
                    story.mempool(59, &[], &[], &[]),
                ]
            },
            "   ",
        ),
        (
            "vanished and back with its first sighting",
            |story| {
                story.mempool(9, &[], &[], &[]);
                story.mempool(60, &[], &[], &[]);
                vec![story.mempool(60, &['a'], &[pays('a', "x", &[1, 2])], &[])]
            },
            "seen(a)",
        ),
        (
            "a reorg takes its block and another holds it in the same append",
            |story| {
                story.block(header(10, 0, 0), &[pays('a', "x", &[1, 2])], &[]);
                vec![story.block(header(10, 1, 0), &[pays('a', "x", &[1, 2])], &[])]
            },
            "unmined(a@10) -10 mined(a@10') confirmed(a 1) +10'",
        ),
        (
            "a reorg takes its block, later mined again",
            |story| {
                story.block(header(10, 0, 0), &[pays('a', "x", &[1, 2])], &[]);
                vec![
                    story.block(header(10, 1, 0), &[], &[]),
                    story.block(header(11, 1, 1), &[pays('a', "x", &[1, 2])], &[]),
                ]
            },
            "unmined(a@10) -10 +10' mined(a@11') confirmed(a 1) +11'",
        ),
        (
            "a reorg takes its block and double-spends it",
            |story| {
                story.block(header(10, 0, 0), &[pays('a', "x", &[1, 2])], &[]);
                vec![story.block(header(10, 1, 0), &[], &[spends('q', 1)])]
            },
            "unmined(a@10) -10 replaced(a by q) +10'",
        ),
        (
            "dropped by a reorg and by the mempool",
            |story| {
                story.block(header(10, 0, 0), &[pays('a', "x", &[1, 2])], &[]);
                vec![
                    story.block(header(10, 1, 0), &[], &[]),
                    story.mempool(1, &[], &[], &[]),
                    story.mempool(60, &[], &[], &[]),
                ]
            },
            "unmined(a@10) -10 +10'  vanished(a)",
        ),
    ];
    for (name, play, expected) in rows {
        let mut story = Story::mined_to(9);
        if name != "first met in a block" {
            story.mempool(1, &['a'], &[a()], &[]);
        }
        let words = play(&mut story);
        assert_eq!(words.join(" "), expected, "{name}");
        assert_eq!(story.refolded(), story.tracker, "{name}");
        if let Some(known) = story.tracker.deposit(&pays('a', "x", &[]).key)
            && name != "first met in a block"
        {
            assert_eq!(known.deposit.first_seen, at(1_000_001), "{name}");
        }
    }
}

#[test]
fn without_a_mempool_stage_a_reorg_takes_the_payment_whole() {
    let mut story = Story::mined_to(9);
    let transfer = [pays('e', "x", &[])];
    story.block(header(10, 0, 0), &transfer, &[]);
    assert_eq!(story.block(header(10, 1, 0), &[], &[]), "unmined(e@10 gone) -10 +10'");
    assert_eq!(story.mempool(99, &[], &[], &[]), "");
    assert_eq!(story.block(header(11, 1, 1), &transfer, &[]), "mined(e@11') confirmed(e 1) +11'");
}

#[test]
fn first_seen_is_the_earliest_that_is_known() {
    let first_seen = |story: &Story, name: char| {
        story.tracker.deposit(&pays(name, "x", &[]).key).unwrap().deposit.first_seen
    };
    let mut story = Story::mined_to(9);
    story.mempool(5, &['a'], &[pays('a', "x", &[1])], &[]);
    assert_eq!(first_seen(&story, 'a'), at(1_000_005), "the clock at the first snapshot");
    story.mempool(5, &['b'], &[pays('b', "x", &[1])], &[]);
    assert_eq!(first_seen(&story, 'b'), at(1_000_005), "a replacement inherits");
    story.block(header(10, 0, 0), &[pays('b', "x", &[1]), pays('c', "x", &[7])], &[]);
    assert_eq!(first_seen(&story, 'b'), at(1_000_005), "mined: as it was");
    assert_eq!(first_seen(&story, 'c'), at(6000), "first met in a block: the header's time");
    story.now = at(6100);
    story.block(header(11, 0, 0), &[pays('d', "x", &[8])], &[]);
    assert_eq!(first_seen(&story, 'd'), at(6100), "or the clock, where that is earlier");
    story.mempool(9, &['f'], &[pays('f', "y", &[9])], &[]);
    story.mempool(9, &['g'], &[pays('g', "x", &[9])], &[]);
    assert_eq!(first_seen(&story, 'g'), at(6118), "to another script nothing is inherited");
}

#[test]
fn a_new_node_does_not_know_what_it_never_held() {
    let mut story = Story::mined_to(9);
    story.mempool(1, &['a', 'b'], &[pays('a', "x", &[1]), pays('b', "y", &[2])], &[]);
    story.memory.forget();
    assert_eq!(story.mempool(1, &['b'], &[], &[]), "");
    assert_eq!(story.mempool(1, &[], &[], &[]), "", "b was held by the new node and is missing now");
    let minute = i64::try_from(GONE_AFTER.secs()).unwrap();
    assert_eq!(story.mempool(minute, &[], &[], &[]), "vanished(b)");
    let fortnight = i64::try_from(UNKNOWN_GONE_AFTER.secs()).unwrap();
    assert_eq!(story.mempool(fortnight - minute - 2, &[], &[], &[]), "");
    assert_eq!(story.mempool(2, &[], &[], &[]), "vanished(a)", "no node keeps a transaction so long");
}

#[test]
fn addresses_learned_late_find_what_went_by() {
    let mut story = Story::mined_to(40);
    let old = scanned(header(20, 0, 0), &[pays('a', "x", &[1])], &[]);
    let told = "mined(a@20) confirmed(a 1) confirmed(a 2) confirmed(a 3) confirmed(a 6) confirmed(a 12) \
                confirmed(a 15)";
    assert_eq!(story.tell(Input::Found(&old)).unwrap(), told);
    assert_eq!(story.tell(Input::Found(&old)).unwrap(), "", "a known identity is a no-op");
    let stale = scanned(header(20, 1, 0), &[pays('b', "x", &[1])], &[]);
    assert_eq!(story.tell(Input::Found(&stale)), Err(Refusal::NotLinked { block: block(20, 1) }));
    let above = scanned(header(41, 0, 0), &[pays('b', "x", &[1])], &[]);
    assert_eq!(story.tell(Input::Found(&above)), Err(Refusal::NotLinked { block: block(41, 0) }));
}

#[test]
fn payments_in_a_block_that_was_never_connected_are_taken_back() {
    let story = Story::mined_to(9);
    let block = scanned(header(10, 0, 0), &[pays('a', "x", &[1]), pays('e', "y", &[])], &[]);
    let facts = story.tracker.decide(Input::Block { block: &block, behind: false }, story.now).unwrap();
    for cut in 1..facts.len() {
        let mut cut_short = Story::mined_to(9);
        facts.iter().take(cut).for_each(|fact| cut_short.tracker.apply(fact));
        let taken_back = match cut {
            1 => "unmined(a@10)",
            _ => "unmined(a@10) unmined(e@10 gone)",
        };
        let mut resumed = Story { tracker: cut_short.tracker.clone(), ..Story::new() };
        assert_eq!(resumed.tell(Input::Started).unwrap(), taken_back);
        assert_eq!(resumed.tell(Input::Started).unwrap(), "", "once");
        let other = scanned(header(10, 1, 0), &[], &[]);
        let input = Input::Block { block: &other, behind: false };
        let mut overtaken = Story { tracker: cut_short.tracker.clone(), ..Story::new() };
        assert_eq!(overtaken.tell(input).unwrap(), format!("{taken_back} +10'"), "another block came");
        let mut finished = Story { tracker: cut_short.tracker, ..Story::new() };
        finished.tell(Input::Block { block: &block, behind: false }).unwrap();
        let mut whole = Story::mined_to(9);
        whole.tell(Input::Block { block: &block, behind: false }).unwrap();
        assert_eq!(finished.tracker, whole.tracker, "the same block again finishes it");
    }
}

#[test]
fn what_is_outdated_is_refused() {
    let mut story = Story::mined_to(9);
    let missing = scanned(header(12, 0, 0), &[], &[]);
    let refused = story.tell(Input::Block { block: &missing, behind: false });
    assert_eq!(refused, Err(Refusal::NotLinked { block: block(12, 0) }));
    let mut early = scanned(header(10, 0, 0), &[], &[]);
    early.watched_through = Position::START;
    let refused = story.tell(Input::Block { block: &early, behind: false });
    assert_eq!(refused, Err(Refusal::MatchedTooEarly { block: block(10, 0) }));
    let elsewhere = Snapshot {
        tip: hash(9, 1),
        credits: &[],
        spends: &[],
        first_held: &std::collections::HashMap::new(),
        gone: &[],
    };
    assert_eq!(story.tell(Input::Mempool(elsewhere)), Err(Refusal::OtherTip { found: hash(9, 1) }));
}

#[test]
fn a_quiet_chain_reports_that_it_is_alive() {
    let mut story = Story::mined_to(3);
    let mut observed = |secs: i64, asked: bool| {
        let taken_at = at(1_000_000 + secs);
        story.tell(Input::Observed { taken_at, watched_through: Position::new(5), asked }).unwrap()
    };
    assert_eq!(observed(19, false), "");
    assert_eq!(observed(20, false), "observed");
    assert_eq!(observed(21, false), "");
    assert_eq!(observed(22, true), "observed", "at once when a deadline waits");
    assert_eq!(observed(22, true), "", "never twice for one look");
    assert_eq!(story.tracker.watched_through(), Position::new(5));
}

#[test]
fn runs_wait_until_every_told_depth_is_told() {
    let mut story = Story::mined_to(9);
    assert!(story.tracker.is_quiet());
    story.block(header(10, 0, 0), &[pays('a', "x", &[1])], &[]);
    for height in 11..=39 {
        assert!(!story.tracker.is_quiet(), "{height}");
        story.block(header(height, 0, 0), &[], &[]);
    }
    assert!(story.facts.iter().any(|fact| matches!(fact, Fact::DepositConfirmed(fact) if fact.depth == 30)));
    assert!(story.tracker.is_quiet());
}

#[test]
fn payments_of_nothing_are_passed_over() {
    let mut story = Story::mined_to(9);
    let nothing = Credit { amount: tally_types::BaseUnits::ZERO, ..pays('a', "x", &[1]) };
    assert_eq!(story.mempool(1, &['a'], std::slice::from_ref(&nothing), &[]), "");
    assert_eq!(story.block(header(10, 0, 0), &[nothing], &[]), "+10");
}
