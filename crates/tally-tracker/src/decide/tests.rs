use super::*;
use tally_events::Shard;

use crate::testing::*;
use crate::{Credit, Settings};
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
            "-10 unmined(a@10) mined(a@10') confirmed(a 1) +10'",
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
            "-10 unmined(a@10) +10' mined(a@11') confirmed(a 1) +11'",
        ),
        (
            "a reorg takes its block and double-spends it",
            |story| {
                story.block(header(10, 0, 0), &[pays('a', "x", &[1, 2])], &[]);
                vec![story.block(header(10, 1, 0), &[], &[spends('q', 1)])]
            },
            "-10 unmined(a@10) replaced(a by q) +10'",
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
            "-10 unmined(a@10) +10'  vanished(a)",
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
    assert_eq!(story.block(header(10, 1, 0), &[], &[]), "-10 unmined(e@10 gone) +10'");
    assert_eq!(story.mempool(99, &[], &[], &[]), "");
    assert_eq!(story.block(header(11, 1, 1), &transfer, &[]), "mined(e@11') confirmed(e 1) +11'");
}

#[test]
fn a_reorg_looks_into_the_mempool_where_it_can() {
    let rows: [(&str, &[u8], &[char], &str); 4] = [
        ("in the mempool again", &[1], &['a', 'z'], "-10 unmined(a@10) +10'"),
        ("dropped", &[1], &['z'], "-10 unmined(a@10 gone) +10'"),
        ("an empty mempool", &[1], &[], "-10 unmined(a@10 gone) +10'"),
        ("without a mempool stage", &[], &['a'], "-10 unmined(a@10 gone) +10'"),
    ];
    for (name, inputs, present, expected) in rows {
        let mut story = Story::mined_to(9);
        story.block(header(10, 0, 0), &[pays('a', "x", inputs)], &[]);
        assert_eq!(story.block_with_mempool(header(10, 1, 0), present), expected, "{name}");
        assert_eq!(story.refolded(), story.tracker, "{name}");
    }
}

#[test]
fn what_a_reorg_dropped_may_come_back() {
    let mut story = Story::mined_to(9);
    let a = [pays('a', "x", &[1])];
    story.mempool(1, &['a'], &a, &[]);
    story.block(header(10, 0, 0), &a, &[]);
    story.block_with_mempool(header(10, 1, 0), &[]);
    assert_eq!(story.mempool(1, &['a'], &a, &[]), "seen(a)");
    let known = story.tracker.deposit(&a[0].key).unwrap();
    assert_eq!(known.deposit.first_seen, at(1_000_001), "with its first sighting");
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
fn what_a_reorg_found_in_the_mempool_the_node_holds() {
    let mut story = Story::mined_to(9);
    story.block(header(10, 0, 0), &[pays('a', "x", &[1])], &[]);
    let left = story.block_with_mempool(header(10, 1, 0), &['a']);
    assert!(left.contains("unmined(a@10"), "{left}");
    assert_eq!(story.mempool(1, &[], &[], &[]), "", "gone before the next look");
    let minute = i64::try_from(GONE_AFTER.secs()).unwrap();
    assert_eq!(story.mempool(minute, &[], &[], &[]), "vanished(a)", "not only after a fortnight");
}

#[test]
fn an_absence_counts_only_while_somebody_looks() {
    let mut story = Story::mined_to(9);
    story.mempool(1, &['a'], &[pays('a', "x", &[1])], &[]);
    assert_eq!(story.mempool(1, &[], &[], &[]), "");
    story.memory.lapse();
    assert_eq!(story.mempool(500, &[], &[], &[]), "", "it may have been there in between");
    assert_eq!(story.mempool(59, &[], &[], &[]), "");
    assert_eq!(story.mempool(1, &[], &[], &[]), "vanished(a)", "this node held it");
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
    let facts = story
        .tracker
        .decide(Input::Block { block: &block, looked_at: None, present: None }, story.now)
        .unwrap();
    for cut in 1..facts.len() {
        let mut cut_short = Story::mined_to(9);
        facts.iter().take(cut).for_each(|fact| cut_short.tracker.apply(fact));
        let taken_back = match cut {
            1 => "unmined(a@10)",
            _ => "unmined(a@10) unmined(e@10 gone)",
        };
        let mut resumed = Story { tracker: cut_short.tracker.clone(), ..Story::new() };
        assert_eq!(resumed.tell(Input::Dangling { present: None }).unwrap(), taken_back);
        assert_eq!(resumed.tell(Input::Dangling { present: None }).unwrap(), "", "once");
        let other = scanned(header(10, 1, 0), &[], &[]);
        let input = Input::Block { block: &other, looked_at: None, present: None };
        let mut overtaken = Story { tracker: cut_short.tracker.clone(), ..Story::new() };
        assert_eq!(overtaken.tell(input).unwrap(), format!("{taken_back} +10'"), "another block came");
        let mut finished = Story { tracker: cut_short.tracker, ..Story::new() };
        finished.tell(Input::Block { block: &block, looked_at: None, present: None }).unwrap();
        let mut whole = Story::mined_to(9);
        whole.tell(Input::Block { block: &block, looked_at: None, present: None }).unwrap();
        assert_eq!(finished.tracker, whole.tracker, "the same block again finishes it");
    }
}

#[test]
fn what_is_final_is_told_once() {
    let mut story = Story::mined_to(9);
    story.block(header(10, 0, 0), &[pays('a', "x", &[1])], &[]);
    story.block(header(11, 0, 0), &[pays('b', "y", &[2])], &[]);
    assert_eq!(story.tell(Input::Finalized(block(10, 1))).unwrap(), "", "on another branch");
    assert_eq!(story.tell(Input::Finalized(block(12, 0))).unwrap(), "", "over the tip");
    assert_eq!(story.tell(Input::Finalized(block(9, 0))).unwrap(), "final(9)");
    assert_eq!(story.tell(Input::Finalized(block(10, 0))).unwrap(), "final(10) final(a)");
    assert_eq!(story.tell(Input::Finalized(block(10, 0))).unwrap(), "", "once");
    story.tell(Input::Checkpoint).unwrap();
    let found = scanned(header(9, 0, 0), &[pays('c', "z", &[3])], &[]);
    assert_eq!(
        story.tell(Input::Found(&found)).unwrap(),
        "mined(c@9) confirmed(c 1) confirmed(c 2) confirmed(c 3) final(c)"
    );
    assert_eq!(story.tell(Input::Finalized(block(11, 0))).unwrap(), "final(11) final(b)");
    assert_eq!(story.refolded(), story.tracker);
}

#[test]
fn the_watch_begins_anew_where_a_person_says() {
    let mut story = Story::with_window(100);
    for height in 0..=150 {
        story.block(header(height, 0, 0), &[], &[]);
    }
    story.block(header(151, 0, 0), &[pays('a', "x", &[1]), pays('b', "y", &[2])], &[]);
    let base = story.tracker.base().unwrap().height.get();
    assert_eq!(base, 51);
    let fork = scanned(header(40, 1, 0), &[], &[]);
    let present = HashSet::from([txid('b')]);
    let words = story.tell(Input::Restart { block: &fork, present: Some(&present) }).unwrap();
    assert!(words.starts_with("-151 -150 "), "{words}");
    assert!(words.ends_with(" -52 -51 unmined(a@151 gone) unmined(b@151) +40'"), "{words}");
    assert_eq!(story.tracker.tip(), Some(block(40, 1)));
    assert_eq!(
        story.block(header(41, 1, 1), &[pays('a', "x", &[1])], &[]),
        "mined(a@41') confirmed(a 1) +41'"
    );
    assert_eq!(story.refolded(), story.tracker);
    let far = scanned(header(43, 1, 1), &[], &[]);
    let refused = story.tell(Input::Restart { block: &far, present: None });
    assert_eq!(refused, Err(Refusal::NotLinked { block: block(43, 1) }), "it would leave a gap");
}

#[test]
fn shards_are_handed_over_whole() {
    let scripts = ["x", "y", "z", "u", "v", "w"];
    let letters = ['a', 'b', 'c', 'd', 'e', 'f'];
    let story_of = |shard: Shard, height: u64| {
        let mut story = Story::mined_to(9);
        for (number, (letter, to)) in letters.iter().zip(scripts).enumerate() {
            let pays = [pays(*letter, to, &[u8::try_from(number).unwrap()])];
            let own = if shard.has(&pays[0].script) { &pays[..] } else { &[] };
            match number {
                0 => drop(story.mempool(1, &['a'], own, &[])),
                _ => drop(story.block(header(9 + number as u64, 0, 0), own, &[])),
            }
        }
        for height in 15..=height {
            story.block(header(height, 0, 0), &[], &[]);
        }
        story
    };
    let halves: Vec<Story> = Shard::all(2).map(|shard| story_of(shard, 20)).collect();
    let old: Vec<&Tracker> = halves.iter().map(|story| &story.tracker).collect();
    let handover = crate::Handover::from(&old, 3, 3).unwrap();
    assert_eq!((handover.sharded.generation, handover.sharded.count), (3, 3));
    assert_eq!(handover.sharded.at, Some(block(20, 0)));
    let mut found = BTreeMap::new();
    for (shard, start) in &handover.starts {
        let mut tracker = Tracker::new(chain(), Settings::default());
        start.iter().for_each(|fact| tracker.apply(fact));
        assert_eq!(tracker.tip(), Some(block(20, 0)));
        assert_eq!(tracker.base(), old[0].base());
        for followed in tracker.deposits() {
            assert!(shard.has(&followed.deposit.script));
            assert!(found.insert(followed.deposit.key.clone(), followed.stage).is_none(), "in one only");
        }
    }
    let whole = story_of(Shard::WHOLE, 20);
    let expected: BTreeMap<_, _> =
        whole.tracker.deposits().map(|one| (one.deposit.key.clone(), one.stage)).collect();
    assert_eq!(found, expected);
    let ahead = story_of(Shard::WHOLE, 21);
    assert_eq!(crate::Handover::from(&[&halves[0].tracker, &ahead.tracker], 3, 1), None, "no common block");
    let mut dangling = story_of(Shard::WHOLE, 20);
    let next = scanned(header(21, 0, 0), &[pays('g', "x", &[9])], &[]);
    let facts = dangling
        .tracker
        .decide(Input::Block { block: &next, looked_at: None, present: None }, dangling.now)
        .unwrap();
    dangling.tracker.apply(&facts[0]);
    assert_eq!(crate::Handover::from(&[&dangling.tracker], 3, 1), None, "in the middle of a block");
}

#[test]
fn what_is_outdated_is_refused() {
    let mut story = Story::mined_to(9);
    let missing = scanned(header(12, 0, 0), &[], &[]);
    let refused = story.tell(Input::Block { block: &missing, looked_at: None, present: None });
    assert_eq!(refused, Err(Refusal::NotLinked { block: block(12, 0) }));
    let mut early = scanned(header(10, 0, 0), &[], &[]);
    early.watched_through = Position::START;
    let refused = story.tell(Input::Block { block: &early, looked_at: None, present: None });
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
    let first = Input::Observed { taken_at: story.now, watched_through: Position::new(1), asked: false };
    assert_eq!(story.tell(first).unwrap(), "observed", "blocks alone report nothing");
    let mut observed = |secs: i64, asked: bool| {
        let taken_at = at(1_000_000 + secs);
        story.tell(Input::Observed { taken_at, watched_through: Position::new(5), asked }).unwrap()
    };
    assert_eq!(observed(19, false), "");
    assert_eq!(observed(20, false), "observed");
    assert_eq!(observed(21, false), "");
    assert_eq!(observed(22, true), "observed", "at once when a deadline waits");
    assert_eq!(observed(22, true), "", "never twice for one look");
    assert_eq!(observed(-37, true), "", "a clock that is a little behind waits");
    assert_eq!(observed(-38, false), "observed", "one that was ahead is put right");
    assert_eq!(observed(-38, true), "");
    assert_eq!(observed(-18, false), "observed", "and goes on from there");
    assert_eq!(story.refolded(), story.tracker);
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
