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
