//! The conformance suite, and what is special about sled.

use std::sync::Arc;

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
