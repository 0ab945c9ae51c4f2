//! The set against a model, its growth, its memory.

use std::collections::HashSet;

use proptest::prelude::*;

use super::WatchSet;
use crate::OutPoint;
use crate::testing::{elsewhere, script};

fn numbered_p2wpkh(n: u32) -> Vec<u8> {
    [&[0x00, 0x14], &crate::sha256d(&n.to_le_bytes())[..20]].concat()
}

#[test]
fn scripts_that_nearly_are_templates_are_told_apart() {
    let hash = [0x11; 40];
    let (short, long) = (&hash[..20], &hash[..32]);
    let scripts = [
        ("p2pkh", [&[0x76, 0xa9, 0x14], short, &[0x88, 0xac]].concat()),
        ("p2pkh, other end", [&[0x76, 0xa9, 0x14], short, &[0x88, 0xad]].concat()),
        ("p2sh", [&[0xa9, 0x14], short, &[0x87]].concat()),
        ("p2sh, other end", [&[0xa9, 0x14], short, &[0x88]].concat()),
        ("p2wpkh", [&[0x00, 0x14], short].concat()),
        ("witness 1 of 20", [&[0x51, 0x14], short].concat()),
        ("p2wsh", [&[0x00, 0x20], long].concat()),
        ("p2tr", [&[0x51, 0x20], long].concat()),
        ("hogaddr", [&[0x58, 0x20], long].concat()),
        ("p2sh32", [&[0xaa, 0x20], long, &[0x87]].concat()),
        ("p2sh32, other end", [&[0xaa, 0x20], long, &[0x88]].concat()),
        ("p2wpkh and a byte", [&[0x00, 0x14], short, &[0x00]].concat()),
        ("bare 20 bytes", short.to_vec()),
        ("bare 36 bytes", hash[..36].to_vec()),
        ("a zero", vec![0]),
        ("two zeros", vec![0, 0]),
        ("nothing", vec![]),
    ];
    for (name, watched) in &scripts {
        let mut set = WatchSet::new(1);
        assert_eq!(set.insert_script(watched), Ok(true), "{name}");
        for (other, script) in &scripts {
            assert_eq!(set.contains_script(script), name == other, "{name}: {other}");
        }
    }
}

#[test]
fn an_outpoint_is_no_script_of_36_bytes() {
    let mut set = WatchSet::new(1);
    set.insert_outpoint(&elsewhere(1)).unwrap();
    assert!(!set.contains_script(&elsewhere(1).to_bytes()));
    assert_eq!((set.script_count(), set.outpoint_count(), set.len()), (0, 1, 1));
    let OutPoint { txid, vout } = elsewhere(1);
    assert!(!set.contains_outpoint(&OutPoint { txid, vout: vout + 1 }));
    assert!(set.contains_outpoint(&elsewhere(1)));
}

/// The key is made of eight bytes; the rest decides.
#[test]
fn scripts_with_the_same_key_are_told_apart() {
    for shape in 0..6 {
        let watched = script(shape, 1);
        let mut set = WatchSet::new(1);
        set.insert_script(&watched).unwrap();
        for at in 11..watched.len() - 2 {
            let mut forged = watched.clone();
            forged[at] ^= 1;
            assert!(!set.contains_script(&forged), "{shape}: byte {at}");
            assert_eq!(set.insert_script(&forged), Ok(true), "{shape}: byte {at}");
            assert!(set.remove_script(&forged) && set.contains_script(&watched));
        }
    }
}

#[test]
fn inserting_twice_and_removing_twice_say_so() {
    let mut set = WatchSet::new(1);
    for shape in 0..10 {
        assert_eq!(set.insert_script(&script(shape, 1)), Ok(true), "{shape}");
        assert_eq!(set.insert_script(&script(shape, 1)), Ok(false), "{shape}");
        assert!(set.remove_script(&script(shape, 1)), "{shape}");
        assert!(!set.remove_script(&script(shape, 1)), "{shape}");
        assert!(set.is_empty(), "{shape}");
    }
}

#[test]
fn grows_through_generations_and_forgets_nothing() {
    let mut set = WatchSet::new(0xfeed);
    for n in 0..30_000 {
        set.insert_script(&numbered_p2wpkh(n)).unwrap();
    }
    assert_eq!(set.script_count(), 30_000);
    assert!((0..30_000).all(|n| set.contains_script(&numbered_p2wpkh(n))));
    for n in (0..30_000).step_by(2) {
        assert!(set.remove_script(&numbered_p2wpkh(n)));
    }
    assert!((0..30_000).all(|n| set.contains_script(&numbered_p2wpkh(n)) == (n % 2 == 1)));
    for n in 30_000..60_000 {
        set.insert_script(&numbered_p2wpkh(n)).unwrap();
    }
    assert!((30_000..60_000).all(|n| set.contains_script(&numbered_p2wpkh(n))));
    assert_eq!(set.len(), 45_000);
}

#[test]
fn the_filter_never_denies_and_seldom_lies() {
    let mut set = WatchSet::new(3);
    for n in 0..20_000 {
        set.insert_script(&numbered_p2wpkh(n)).unwrap();
    }
    let passes = |n| {
        let script = numbered_p2wpkh(n);
        set.script_filter().may_contain(set.secret().script_key(&script))
    };
    assert!((0..20_000).all(passes));
    let lies = (100_000..120_000).filter(|n| passes(*n)).count();
    assert!(lies < 200, "{lies} of 20,000 foreign scripts pass");
}

#[test]
fn a_set_that_turns_over_keeps_its_size() {
    let mut set = WatchSet::new(5);
    let mut largest = [0; 2];
    for n in 0..60_000_u32 {
        set.insert_script(&numbered_p2wpkh(n)).unwrap();
        if let Some(old) = n.checked_sub(3_000) {
            assert!(set.remove_script(&numbered_p2wpkh(old)));
            let half = usize::from(n >= 30_000);
            largest[half] = set.memory_bytes().max(largest[half]);
        }
    }
    assert_eq!(set.len(), 3_000);
    // Generations of the filter come and go; the second half has as many as the first.
    let [first, second] = largest;
    assert!(second <= first + first / 20, "{first} bytes at most, later {second}");
}

fn numbered_p2tr(n: u32) -> Vec<u8> {
    [&[0x51, 0x20], &crate::sha256d(&n.to_le_bytes())[..]].concat()
}

/// Scripts of 32 bytes, the filter between two generations and the tables at their emptiest.
#[test]
fn at_most_48_bytes_a_script_at_the_worst_moments() {
    let mut set = WatchSet::new(7);
    let (mut growing, mut shrinking) = (0, 0);
    for n in 0..150_000_u32 {
        set.insert_script(&numbered_p2tr(n)).unwrap();
        if n > 75_000 {
            growing = growing.max(set.memory_bytes().div_ceil(set.len()));
        }
    }
    for n in 0..100_000 {
        assert!(set.remove_script(&numbered_p2tr(n)));
        shrinking = shrinking.max(set.memory_bytes().div_ceil(set.len()));
    }
    assert!(growing <= 48, "{growing} bytes");
    assert!(shrinking <= 60, "{shrinking} bytes while most are removed");
}

#[test]
fn the_filter_of_a_set_that_was_announced_is_never_made_anew() {
    let mut set = WatchSet::with_capacity(1, 20_000);
    let bits = set.scripts.filter().line_count();
    for n in 0..20_000 {
        set.insert_script(&numbered_p2wpkh(n)).unwrap();
    }
    assert_eq!(set.scripts.filter().line_count(), bits);
}

#[derive(Debug, Clone)]
enum Step {
    InsertScript(u8, u8),
    RemoveScript(u8, u8),
    InsertOutpoint(u8),
    RemoveOutpoint(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let script = || (0_u8..10, 0_u8..12);
    prop::collection::vec(
        prop_oneof![
            3 => script().prop_map(|(shape, n)| Step::InsertScript(shape, n)),
            2 => script().prop_map(|(shape, n)| Step::RemoveScript(shape, n)),
            2 => (0_u8..20).prop_map(Step::InsertOutpoint),
            1 => (0_u8..20).prop_map(Step::RemoveOutpoint),
        ],
        0..200,
    )
}

proptest! {
    #[test]
    fn behaves_as_two_hash_sets(seed in any::<u64>(), steps in steps()) {
        let mut set = WatchSet::new(seed);
        let (mut scripts, mut outpoints) = (HashSet::new(), HashSet::new());
        for step in steps {
            match step {
                Step::InsertScript(shape, n) => {
                    let script = script(shape, n);
                    prop_assert_eq!(set.insert_script(&script), Ok(scripts.insert(script)));
                }
                Step::RemoveScript(shape, n) => {
                    let script = script(shape, n);
                    prop_assert_eq!(set.remove_script(&script), scripts.remove(&script));
                }
                Step::InsertOutpoint(n) => {
                    let outpoint = elsewhere(n);
                    prop_assert_eq!(set.insert_outpoint(&outpoint), Ok(outpoints.insert(outpoint)));
                }
                Step::RemoveOutpoint(n) => {
                    let outpoint = elsewhere(n);
                    prop_assert_eq!(set.remove_outpoint(&outpoint), outpoints.remove(&outpoint));
                }
            }
        }
        prop_assert_eq!(set.script_count(), scripts.len());
        prop_assert_eq!(set.outpoint_count(), outpoints.len());
        for (shape, n) in (0..10).flat_map(|shape| (0..12).map(move |n| (shape, n))) {
            let script = script(shape, n);
            prop_assert_eq!(set.contains_script(&script), scripts.contains(&script));
        }
        prop_assert_eq!(set.scripts().count(), scripts.len());
        prop_assert_eq!(set.scripts().collect::<HashSet<_>>(), scripts);
        for n in 0..20 {
            prop_assert_eq!(set.contains_outpoint(&elsewhere(n)), outpoints.contains(&elsewhere(n)));
        }
    }
}
