//! The conformance suite, and what is special about sled.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const CACHE_BYTES: u64 = 16 * 1024 * 1024;

fn batch(rows: &[(&str, usize)]) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for (key, bytes) in rows {
        batch.put(*key, vec![b'x'; *bytes]);
    }
    batch
}

#[test]
fn conforms() {
    let dir = tempfile::tempdir().unwrap();
    tally_testkit::conformance::store_conformance(|name| {
        Arc::new(SledStore::open(&dir.path().join(name), CACHE_BYTES).unwrap())
    });
}

#[test]
fn conforms_with_every_commit_packed_and_with_some() {
    for rows_min in [1, 3] {
        let dir = tempfile::tempdir().unwrap();
        tally_testkit::conformance::store_conformance(|name| {
            let mut store = SledStore::open(&dir.path().join(name), CACHE_BYTES).unwrap();
            store.pack_rows_min = rows_min;
            Arc::new(store)
        });
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A commit of changes: keys, and the length of each value or none.
    Commit(Vec<(u16, Option<u16>)>),
    Range(u16, u16, usize),
    Tidy,
    Again,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (
        0..600_u16,
        prop_oneof![3 => (0..60_u16).prop_map(Some), 1 => Just(Some(3_000)),
        1 => Just(Some(9_000)), 3 => Just(None)],
    );
    let commit =
        prop_oneof![prop::collection::vec(change.clone(), 1..8), prop::collection::vec(change, 100..400)];
    let step = prop_oneof![
        5 => commit.prop_map(Step::Commit),
        4 => (0..600_u16, 0..600_u16, 0..300_usize).prop_map(|(from, to, limit)| Step::Range(from, to, limit)),
        2 => Just(Step::Tidy),
        1 => Just(Step::Again)
    ];
    prop::collection::vec(step, 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Small commits between large ones that pack, and a store opened again: always what a map holds.
    #[test]
    fn packed_or_not_it_is_one_map(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let mut store = SledStore::open(dir.path(), CACHE_BYTES).unwrap();
            store.pack_rows_min = 60;
            store.tidy_rows_min = 0;
            store
        };
        let name = |number: u16| format!("k{:03}/{number}", number / 7).into_bytes();
        let mut store = open();
        let mut model: std::collections::BTreeMap<Vec<u8>, Vec<u8>> = Default::default();
        for (round, step) in steps.into_iter().enumerate() {
            match step {
                Step::Commit(changes) => {
                    let mut batch = WriteBatch::default();
                    for (number, length) in changes {
                        match length {
                            Some(length) => {
                                let value = vec![round as u8; length.into()];
                                model.insert(name(number), value.clone());
                                batch.put(name(number), value);
                            }
                            None => {
                                model.remove(&name(number));
                                batch.remove(name(number));
                            }
                        }
                    }
                    store.commit(batch).unwrap();
                }
                Step::Range(from, to, limit) => {
                    let (from, to) = (name(from), name(to));
                    let within = |key: &Vec<u8>| *key >= from && *key < to;
                    let all: Rows = model.iter().filter(|row| within(row.0)).map(|(k, v)| (k.clone(), v.clone())).collect();
                    let first: Rows = all.iter().take(limit).cloned().collect();
                    prop_assert_eq!(store.range(&from, &to, limit).unwrap(), first);
                    let last: Rows = all.iter().rev().take(limit).cloned().collect();
                    prop_assert_eq!(store.range_back(&from, &to, limit).unwrap(), last);
                    prop_assert_eq!(store.get(&from).unwrap(), model.get(&from).cloned());
                }
                Step::Tidy => while store.tidy().unwrap() {},
                Step::Again => {
                    drop(store);
                    store = open();
                }
            }
        }
        let all: Rows = model.into_iter().collect();
        prop_assert_eq!(store.range(b"", b"z", usize::MAX).unwrap(), all);
    }
}

#[test]
fn a_damaged_leaf_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = SledStore::open(dir.path(), CACHE_BYTES).unwrap();
    store.pack_rows_min = 1;
    store.commit(batch(&[("a", 100), ("b", 100)])).unwrap();
    let mut bytes = store.db.get(rows::leaf_key(b"a")).unwrap().unwrap().to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    store.db.insert(rows::leaf_key(b"a"), bytes).unwrap();
    for damaged in [store.get(b"a").map(|_| ()), store.range(b"a", b"c", 9).map(|_| ())] {
        assert!(damaged.is_err_and(|error| error.to_string().contains("damaged")));
    }
}

#[test]
fn what_a_crash_leaves_of_a_snapshot_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    SledStore::open(dir.path(), CACHE_BYTES).unwrap().commit(batch(&[("a", 1)])).unwrap();
    std::fs::write(dir.path().join("snap.00000000000000AB.generating"), b"half").unwrap();
    let store = SledStore::open(dir.path(), CACHE_BYTES).unwrap();
    assert_eq!(store.get(b"a").unwrap(), Some(b"x".to_vec()));
}

#[test]
fn a_directory_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let _store = SledStore::open(dir.path(), CACHE_BYTES).unwrap();
    let error = SledStore::open(dir.path(), CACHE_BYTES).unwrap_err();
    assert!(!error.is_transient());
    let message = error.to_string();
    assert!(message.contains("in use") && message.contains(dir.path().to_str().unwrap()), "{message}");
}

#[test]
fn damage_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), CACHE_BYTES).unwrap();
    store.commit(batch(&[("a", 100), ("b", 20_000)])).unwrap();
    let mut row = store.db.get(rows::row_key(b"a")).unwrap().unwrap().to_vec();
    row[20] ^= 1;
    store.db.insert(rows::row_key(b"a"), row).unwrap();
    store.db.remove(rows::piece_key(b"b", 2)).unwrap();
    for key in [b"a", b"b"] {
        let error = store.get(key).unwrap_err();
        assert!(!error.is_transient() && error.to_string().contains("damaged"), "{error}");
    }
    assert!(store.range(b"a", b"c", 9).is_err());
}

#[test]
fn a_damaged_store_is_made_anew_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let fill = || {
        let (store, damage) = SledStore::open_or_anew(dir.path(), CACHE_BYTES).unwrap();
        for n in 0..200 {
            store.commit(batch(&[(&format!("k{n}"), 500)])).unwrap();
        }
        (store, damage.is_some())
    };
    // Whole, it stays.
    drop(fill());
    let (store, damaged) = fill();
    assert!(!damaged && store.get(b"k7").unwrap().is_some());
    // In use, it is nobody else's to empty, whatever is said of it.
    files::mark(dir.path());
    assert!(SledStore::open_or_anew(dir.path(), CACHE_BYTES).unwrap_err().to_string().contains("in use"));
    // What is met while it is open, the next start does away with.
    let mut row = store.db.get(rows::row_key(b"k7")).unwrap().unwrap().to_vec();
    row[20] ^= 1;
    store.db.insert(rows::row_key(b"k7"), row).unwrap();
    assert!(store.get(b"k7").is_err());
    drop(store);
    let (store, damage) = SledStore::open_or_anew(dir.path(), CACHE_BYTES).unwrap();
    assert!(damage.unwrap().to_string().contains("damaged"));
    assert_eq!((store.db.len(), store.get(b"k8").unwrap()), (0, None));
    drop(store);
    // So is what cannot even be opened.
    drop(fill());
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name == "conf") {
            std::fs::write(path, b"not what sled wrote").unwrap();
        }
    }
    assert!(SledStore::open(dir.path(), CACHE_BYTES).is_err());
    let (store, damage) = SledStore::open_or_anew(dir.path(), CACHE_BYTES).unwrap();
    assert!(damage.is_some() && store.get(b"k7").unwrap().is_none());
    drop(store);
    assert!(!files::is_marked(dir.path()));
    // A directory that cannot be used is no damage.
    let file = dir.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    assert!(SledStore::open_or_anew(&file, CACHE_BYTES).is_err() && file.exists());
    let unusable = dir.path().join("unusable");
    std::fs::create_dir_all(unusable.join("db/kept")).unwrap();
    let error = SledStore::open_or_anew(&unusable, CACHE_BYTES).unwrap_err().to_string();
    assert!(error.contains("cannot be used") && error.contains(unusable.to_str().unwrap()), "{error}");
    assert!(unusable.join("db/kept").exists());
}

#[test]
fn large_values_leave_nothing_behind_and_no_blob() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), CACHE_BYTES).unwrap();
    for round in 0..20_usize {
        let rows: Vec<(String, usize)> =
            (0..40).map(|n| (format!("k{n}"), 64 * 1024 - round * 3_000)).collect();
        let rows: Vec<(&str, usize)> = rows.iter().map(|(key, bytes)| (key.as_str(), *bytes)).collect();
        store.commit(batch(&rows)).unwrap();
    }
    let blobs = std::fs::read_dir(dir.path().join("blobs")).unwrap().count();
    assert_eq!(blobs, 0, "what sled puts there it does not sync");
    let mut removal = WriteBatch::default();
    (0..40).for_each(|n| removal.remove(format!("k{n}")));
    store.commit(removal).unwrap();
    assert_eq!(store.db.len(), 0);
}

#[test]
fn a_clear_that_was_cut_off_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), CACHE_BYTES).unwrap();
    store.commit(batch(&[("a", 1), ("b", 30_000)])).unwrap();
    store.db.insert(rows::CLEARING, &[]).unwrap();
    store.db.flush().unwrap();
    drop(store);
    let store = SledStore::open(dir.path(), CACHE_BYTES).unwrap();
    assert!(store.range(b"", b"z", 9).unwrap().is_empty());
    assert_eq!(store.db.len(), 0);
}

#[test]
fn large_values_are_never_seen_half() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), CACHE_BYTES).unwrap();
    store.commit(batch(&[("a", 1)])).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..60_usize {
                store.commit(batch(&[("a", [1, 20_000, 60_000][round % 3])])).unwrap();
            }
        });
        for _ in 0..600 {
            let length = store.get(b"a").unwrap().unwrap().len();
            assert!([1, 20_000, 60_000].contains(&length), "{length}");
        }
    });
}

/// A reader holds off packing and then asks for the pieces; a commit that packs does both, too.
#[test]
fn large_values_are_read_while_commits_are_packed() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = SledStore::open(dir.path(), CACHE_BYTES).unwrap();
    store.pack_rows_min = 1;
    store.commit(batch(&[("a", 1), ("b", 20_000)])).unwrap();
    let store = Arc::new(store);
    let (sender, done) = std::sync::mpsc::channel();
    for reads in [true, true, false] {
        let (store, sender) = (store.clone(), sender.clone());
        std::thread::spawn(move || {
            for round in 0..200_usize {
                if reads {
                    assert!(store.get(b"b").unwrap().is_some_and(|value| value.len() >= 20_000));
                    assert_eq!(store.range(b"a", b"c", 9).unwrap().len(), 2);
                } else {
                    store.commit(batch(&[("a", round), ("b", 20_000 + round)])).unwrap();
                }
            }
            sender.send(()).unwrap();
        });
    }
    for _ in 0..3 {
        done.recv_timeout(std::time::Duration::from_secs(60)).expect("nobody waits for ever");
    }
}

#[test]
fn a_store_whose_size_is_not_known_is_not_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), CACHE_BYTES).unwrap();
    store.commit(batch(&[("a", 1)])).unwrap();
    std::fs::remove_dir(dir.path().join("blobs")).unwrap();
    assert!(store.tidy().unwrap_err().is_transient());
    assert!(!files::is_marked(dir.path()) && store.get(b"a").unwrap().is_some());
}

/// A store that was filled in small commits has all its rows by themselves, and no leaf: were they all packed with the
/// first of them, commits would wait for as long as that takes, and memory would have to hold them all.
#[test]
fn tidying_takes_a_few_rows_at_once_however_many_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = SledStore::open(dir.path(), CACHE_BYTES).unwrap();
    let rows: Vec<String> = (0..1_000).map(|number| format!("k{number:04}")).collect();
    store.commit(batch(&rows.iter().map(|key| (key.as_str(), 30)).collect::<Vec<_>>())).unwrap();
    store.tidy_rows_min = 0;
    let mut left = store.loose_rows(usize::MAX).unwrap();
    while store.tidy().unwrap() {
        let now = store.loose_rows(usize::MAX).unwrap();
        assert!(left - now == TIDY_ROWS_AT_ONCE, "{left} rows, then {now}");
        left = now;
    }
    assert_eq!(store.loose_rows(usize::MAX).unwrap(), 0);
    assert_eq!(store.range(b"", b"z", usize::MAX).unwrap().len(), 1_000);
    // Nor does a large commit take more than it says.
    let rows: Vec<String> = (0..3_000).map(|number| format!("m{number:04}")).collect();
    store.commit(batch(&rows.iter().map(|key| (key.as_str(), 30)).collect::<Vec<_>>())).unwrap();
    store.pack_rows_min = 1;
    store.commit(batch(&[("m1500", 40)])).unwrap();
    assert_eq!(store.loose_rows(usize::MAX).unwrap(), 3_000 - 1 - OVER_ROWS_MAX);
    assert_eq!(store.get(b"m1500").unwrap().map(|value| value.len()), Some(40));
    assert_eq!(store.range(b"", b"z", usize::MAX).unwrap().len(), 4_000);
}

/// Rows change, grow to several pieces, are packed and tidied, and some come and go: a reader beside that finds every
/// row that is always there, once and in order, and none as it was before it was last seen.
#[test]
fn readers_lose_no_row_while_others_are_packed() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = SledStore::open(dir.path(), CACHE_BYTES).unwrap();
    (store.pack_rows_min, store.tidy_rows_min) = (40, 0);
    let name = |number: u32| format!("k{number:03}").into_bytes();
    let value = |round: u32, length: usize| {
        let mut value = round.to_be_bytes().to_vec();
        value.resize(4 + length, b'x');
        value
    };
    let round_of = |value: &[u8]| u32::from_be_bytes(value[..4].try_into().unwrap());
    let mut first = WriteBatch::default();
    // Each second one is always there.
    (0..120).for_each(|number| first.put(name(number), value(0, 20)));
    store.commit(first).unwrap();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for back in [false, true] {
            let (store, ended) = (&store, &ended);
            scope.spawn(move || {
                let mut seen = std::collections::BTreeMap::<Vec<u8>, u32>::new();
                while !ended.load(Ordering::SeqCst) {
                    let mut rows = match back {
                        false => store.range(b"k", b"l", usize::MAX).unwrap(),
                        true => store.range_back(b"k", b"l", usize::MAX).unwrap(),
                    };
                    if back {
                        rows.reverse();
                    }
                    assert!(rows.is_sorted_by(|a, b| a.0 < b.0), "each once, in order");
                    let mut single = Rows::new();
                    for number in (0..120).step_by(2) {
                        let there = rows.binary_search_by(|row| row.0.cmp(&name(number)));
                        assert!(there.is_ok(), "{number} is gone, back: {back}");
                        let found = store.get(&name(number)).unwrap().expect("it is there");
                        single.push((name(number), found));
                    }
                    for (key, value) in rows.into_iter().chain(single) {
                        let round = round_of(&value);
                        let before = seen.insert(key.clone(), round).unwrap_or(0);
                        assert!(round >= before, "{key:?} was of {before} and is of {round}");
                    }
                }
            });
        }
        for round in 1..250_u32 {
            let (mut batch, wide) = (WriteBatch::default(), round % 5 == 0);
            for number in (0..120_u32).filter(|number| wide || number.wrapping_mul(7) % 11 == round % 11) {
                match (number % 2, round % 3) {
                    (1, 0) => batch.remove(name(number)),
                    _ if (number + round) % 13 == 0 => batch.put(name(number), value(round, 15_000)),
                    _ => batch.put(name(number), value(round, 20 + number as usize)),
                }
            }
            store.commit(batch).unwrap();
            if round % 7 == 0 {
                while store.tidy().unwrap() {}
            }
        }
        ended.store(true, Ordering::SeqCst);
    });
}
