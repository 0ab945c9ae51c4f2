use std::collections::HashMap;

use tally_types::{Height, Position};

use super::*;
use crate::testing::*;
use crate::{Input, Refusal};

/// A node's headers: the first branch up to the fork, the second from there to `tip`.
fn node(fork: u64, tip: u64) -> HashMap<BlockHash, Header> {
    let common = (0..=fork).map(|height| header(height, 0, 0));
    let over = (fork + 1..=tip).map(|height| header(height, 1, u8::from(height != fork + 1)));
    common.chain(over).map(|header| (header.block.hash, header)).collect()
}

#[test]
fn reorgs_to_longer_equal_and_shorter_branches() {
    for (name, fork, tip, story) in
        [("longer", 0, 3, "-2 -1 +1' +2' +3'"), ("equal", 1, 2, "-2 +2'"), ("shorter", 0, 1, "-2 -1 +1'")]
    {
        let mut told = Story::mined_to(2);
        let node = node(fork, tip);
        let start = tip.min(told.tracker.tip().unwrap().height.get());
        let fork = told.diff(node[&hash(start, 1)], &node).unwrap().unwrap();
        let mut words = Vec::new();
        for header in &fork.connect {
            words.push(told.block(*header, &[], &[]));
        }
        for height in start + 1..=tip {
            words.push(told.block(node[&hash(height, 1)], &[], &[]));
        }
        assert_eq!(words.join(" "), story, "{name}");
        assert_eq!(told.tracker.tip(), Some(block(tip, 1)), "{name}");
        assert_eq!(told.refolded(), told.tracker, "{name}");
    }
    let mut whole = Story::mined_to(2);
    for height in 1..=3 {
        whole.block(header(height, 1, u8::from(height != 1)), &[], &[]);
    }
    assert_eq!(trace(&whole.facts), "+0 +1 +2 -2 -1 +1' +2' +3'");
}

#[test]
fn a_node_on_our_branch_is_no_reorg() {
    let story = Story::mined_to(5);
    for height in 0..=5 {
        assert_eq!(story.diff(header(height, 0, 0), &HashMap::new()), Ok(None), "{height}");
    }
    let above = story.diff(header(6, 0, 0), &HashMap::new()).unwrap().unwrap();
    assert_eq!((above.point, above.connect), (block(5, 0), vec![header(6, 0, 0)]));
}

#[test]
fn a_fork_under_the_window_is_refused() {
    let mut story = Story::with_window(100);
    for height in 0..=300 {
        story.block(header(height, 0, 0), &[], &[]);
    }
    assert_eq!(story.tracker.base(), Some(block(200, 0)));
    let deepest = node(200, 301);
    assert!(story.diff(deepest[&hash(300, 1)], &deepest).unwrap().is_some());
    let mut deeper = node(199, 301);
    let tip = deeper[&hash(300, 1)];
    // Under the window nothing is asked for: the way down could be long.
    deeper.retain(|_, header| header.block.height >= Height::new(200));
    assert_eq!(story.diff(tip, &deeper), Err(Refusal::DeepReorg { base: block(200, 0), blocks: 100 }));
}

#[test]
fn headers_that_do_not_link_are_refused() {
    let story = Story::mined_to(5);
    let refused = story.tracker.compare(&[header(5, 1, 1), header(4, 2, 2)]);
    assert_eq!(refused, Err(Refusal::NotLinked { block: block(4, 2) }));
}

#[test]
fn a_run_is_one_fact_and_the_new_bottom() {
    let mut story = Story::mined_to(2);
    let run = Input::Run {
        from: Height::new(3),
        prev: hash(2, 0),
        last: header(900, 0, 0),
        watched_through: Position::new(1),
        method: None,
        looked_at: None,
    };
    assert_eq!(story.tell(run).unwrap(), "+3..900");
    assert_eq!(story.block(header(901, 0, 0), &[], &[]), "+901");
    assert_eq!((story.tracker.base(), story.tracker.tip()), (Some(block(900, 0)), Some(block(901, 0))));
    assert_eq!(story.tell(run), Err(Refusal::NotLinked { block: block(900, 0) }));
    let run = |from: u64, parent: u8, through: u64| Input::Run {
        from: Height::new(from),
        prev: hash(from - 1, parent),
        last: header(from + 50, 0, 0),
        watched_through: Position::new(through),
        method: None,
        looked_at: None,
    };
    assert_eq!(
        story.tell(run(902, 1, 1)),
        Err(Refusal::NotLinked { block: block(952, 0) }),
        "over another parent"
    );
    assert_eq!(story.tell(run(903, 0, 1)), Err(Refusal::NotLinked { block: block(953, 0) }), "with a gap");
    assert_eq!(
        story.tell(run(902, 0, 0)),
        Err(Refusal::MatchedTooEarly { block: block(952, 0) }),
        "for fewer addresses than the branch was watched for"
    );
    assert_eq!(story.tell(run(902, 0, 1)).unwrap(), "+902..952");
    assert_eq!(story.refolded(), story.tracker);
}

#[test]
fn blocks_claim_no_more_than_the_last_look_at_everything() {
    let mut story = Story::new();
    let mut reported = |height: u64, looked_at: Option<Timestamp>| {
        let block = scanned(header(height, 0, 0), &[], &[]);
        story.tell(Input::Block { block: &block, looked_at, present: None }).unwrap();
        story.tracker.observed_at()
    };
    assert_eq!(reported(7, None), Timestamp::EPOCH, "nothing was looked at yet, whatever the header says");
    assert_eq!(reported(8, Some(at(500))), at(500), "neither the clock nor the header's time");
    assert_eq!(reported(9, None), at(500), "another writer, or another node: what was said before holds");
    assert_eq!(reported(10, Some(at(400))), at(500), "never backwards");
}

#[test]
fn a_checkpoint_is_the_whole_state_in_bounded_parts() {
    let mut story = Story::mined_to(150);
    story.block(header(151, 0, 0), &[pays('m', "x", &[1])], &[]);
    story.mempool(0, &['a', 'b'], &[pays('a', "x", &[2]), pays('b', "y", &[3])], &[]);
    story.mempool(1, &['a', 'r'], &[], &[spends('r', 3)]);
    let mut many: Vec<_> = (0..4000).map(|slot| pays('z', "x", &[slot as u8])).collect();
    for (slot, credit) in many.iter_mut().enumerate() {
        credit.key.slot = slot.to_string();
    }
    story.mempool(1, &['a', 'r', 'z'], &many, &[]);
    let facts = story.tracker.decide(Input::Checkpoint, story.now).unwrap();
    assert!(facts.len() > 1, "{} part", facts.len());
    let mut restored = Tracker::new(chain(), Settings::default());
    for fact in &facts {
        let event =
            tally_events::Event::new(tally_events::Subject::chain(&chain(), 0, 0), fact.clone(), story.now);
        assert!(event.to_json().unwrap().len() <= 512 * 1024);
        restored.apply(fact);
    }
    assert_eq!(restored, story.tracker);
    assert_eq!(restored.watched_inputs().count(), story.tracker.watched_inputs().count());
    facts.iter().for_each(|fact| story.tracker.apply(fact));
    assert_eq!(restored, story.tracker, "folding a checkpoint over what it says changes nothing");
}

#[test]
fn watched_inputs_follow_the_deposits() {
    let mut story = Story::mined_to(1);
    let mut watched = std::collections::BTreeSet::new();
    let mut check = |story: &mut Story, expected: &[u8]| {
        for (outpoint, on) in story.tracker.take_input_changes() {
            if on {
                watched.insert(outpoint)
            } else {
                watched.remove(&outpoint)
            };
        }
        assert_eq!(watched, expected.iter().map(|number| input(*number)).collect());
    };
    story.mempool(0, &['a', 'b'], &[pays('a', "x", &[1, 2]), pays('b', "y", &[3])], &[]);
    check(&mut story, &[1, 2, 3]);
    story.block(header(2, 0, 0), &[pays('a', "x", &[1, 2])], &[spends('q', 3)]);
    check(&mut story, &[1, 2]);
    for height in 3..=200 {
        story.block(header(height, 0, 0), &[], &[]);
    }
    check(&mut story, &[]);
    assert_eq!(story.tracker.deposit_count(), 0);
}

#[test]
fn facts_of_other_chains_change_nothing() {
    let mut story = Story::mined_to(3);
    let before = story.tracker.clone();
    let mut other = Tracker::new("ltc".parse().unwrap(), Settings::default());
    let input = scanned(header(9, 0, 0), &[pays('a', "x", &[1])], &[]);
    for fact in other.decide(Input::Block { block: &input, looked_at: None, present: None }, at(0)).unwrap() {
        story.tracker.apply(&fact);
        other.apply(&fact);
    }
    assert_eq!(story.tracker, before);
    assert_eq!(other.deposit_count(), 1);
}

#[test]
fn how_blocks_were_read_is_known_of_the_branch() {
    let mut story = Story::new();
    let mut read = |height: u64, branch: u8, parent: u8, method: Option<&str>| {
        let mut block = scanned(header(height, branch, parent), &[], &[]);
        block.method = method.map(str::to_owned);
        story.tell(Input::Block { block: &block, looked_at: None, present: None }).unwrap();
        story.tracker.clone()
    };
    read(7, 0, 0, Some("trace"));
    read(8, 0, 0, Some("toplevel"));
    read(9, 0, 0, Some("balance"));
    let tracker = read(10, 0, 0, None);
    let methods = |tracker: &Tracker| {
        let known = (6..=11).map(|height| tracker.method_at(Height::new(height)).unwrap_or("-").to_owned());
        known.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(methods(&tracker), "- trace toplevel balance - -");
    let tracker = read(9, 1, 0, Some("trace"));
    assert_eq!(methods(&tracker), "- trace toplevel trace - -", "what left is not known any more");
    let checkpoint = story.tracker.decide(Input::Checkpoint, story.now).unwrap();
    let mut again = Tracker::new(chain(), Settings::default());
    checkpoint.iter().for_each(|fact| again.apply(fact));
    assert_eq!(methods(&again), methods(&tracker), "a checkpoint has it");
    assert_eq!(again, tracker);
    for height in 10..=200 {
        let tracker = {
            let mut block = scanned(header(height, 1, 1), &[], &[]);
            block.method = Some("trace".to_owned());
            story.tell(Input::Block { block: &block, looked_at: None, present: None }).unwrap();
            &story.tracker
        };
        let known = (0..=height).filter(|height| tracker.method_at(Height::new(*height)).is_some()).count();
        assert!(known <= 145, "{known} at {height}");
    }
    assert_eq!(story.refolded(), story.tracker);
}
