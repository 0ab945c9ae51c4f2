//! The suite for stores.

use std::collections::BTreeMap;
use std::sync::Arc;

use tally_ports::{Rows, Store, WriteBatch};

use crate::SeededEntropy;

/// Runs every case on stores that `open` opens.
///
/// # Panics
/// At the first case that fails.
pub fn store_conformance(open: impl Fn(&'static str) -> Arc<dyn Store>) {
    reads_and_writes(open("basic").as_ref());
    limits(open("limits").as_ref());
    for seed in 0..4 {
        agrees_with_a_map(open("model").as_ref(), seed);
    }
    let store = open("durable");
    let mut batch = WriteBatch::default();
    batch.put("a", "1");
    batch.put("b", vec![7; 64 * 1024]);
    store.commit(batch).unwrap();
    drop(store);
    let store = open("durable");
    assert_eq!(store.get(b"a").unwrap(), Some(b"1".to_vec()), "what was committed is there after a restart");
    assert_eq!(store.get(b"b").unwrap(), Some(vec![7; 64 * 1024]));
    store.clear().unwrap();
    assert!(store.range(b"", &[0xff; 8], 9).unwrap().is_empty(), "cleared");
    drop(store);
    assert!(open("durable").range(b"", &[0xff; 8], 9).unwrap().is_empty(), "cleared for good");
}

fn keys(rows: &Rows) -> Vec<&str> {
    rows.iter().map(|(key, _)| std::str::from_utf8(key).expect("text")).collect()
}

fn reads_and_writes(store: &dyn Store) {
    assert_eq!(store.get(b"k").unwrap(), None);
    let mut batch = WriteBatch::default();
    for key in ["b", "a", "c", "ca", "d"] {
        batch.put(key, key.to_uppercase());
    }
    batch.put("a", "first");
    batch.put("a", "last");
    batch.put("gone", "x");
    batch.remove("gone");
    store.commit(batch).unwrap();
    assert_eq!(store.get(b"a").unwrap(), Some(b"last".to_vec()), "the later change of a key wins");
    assert_eq!(store.get(b"gone").unwrap(), None);
    for (name, from, to, limit, want, back) in [
        ("all", "", "z", 9, "a b c ca d", "d ca c b a"),
        ("half open", "a", "c", 9, "a b", "b a"),
        ("limited", "a", "z", 2, "a b", "d ca"),
        ("nothing", "x", "z", 9, "", ""),
        ("empty range", "b", "b", 9, "", ""),
        ("backwards", "c", "a", 9, "", ""),
        ("no rows", "a", "z", 0, "", ""),
    ] {
        let want: Vec<_> = want.split_whitespace().collect();
        let back: Vec<_> = back.split_whitespace().collect();
        assert_eq!(keys(&store.range(from.as_bytes(), to.as_bytes(), limit).unwrap()), want, "{name}");
        assert_eq!(keys(&store.range_back(from.as_bytes(), to.as_bytes(), limit).unwrap()), back, "{name}");
    }
    store.commit(WriteBatch::default()).expect("nothing to do");
}

fn limits(store: &dyn Store) {
    let mut batch = WriteBatch::default();
    batch.put(vec![1; 512], vec![2; 64 * 1024]);
    batch.put("empty", "");
    store.commit(batch).expect("the largest row");
    assert_eq!(store.get(&[1; 512]).unwrap().map(|value| value.len()), Some(64 * 1024));
    assert_eq!(store.get(b"empty").unwrap(), Some(Vec::new()), "an empty value is a value");
    for (name, key, value) in [("key", vec![1; 513], vec![]), ("value", vec![1], vec![0; 64 * 1024 + 1])] {
        let mut batch = WriteBatch::default();
        batch.put("beside", "x");
        batch.put(key, value);
        assert!(store.commit(batch).is_err(), "a {name} that is too large");
        assert_eq!(store.get(b"beside").unwrap(), None, "nothing of a refused batch is there");
    }
}

/// Random batches and ranges, compared with a map. `seed` is in every message.
fn agrees_with_a_map(store: &dyn Store, seed: u64) {
    let random = SeededEntropy::new(seed);
    let mut model = BTreeMap::new();
    store.clear().unwrap();
    let key = || {
        let length = random.below(3);
        (0..=length).map(|_| u8::try_from(random.below(4)).expect("small") * 85).collect::<Vec<u8>>()
    };
    for step in 0..60 {
        let mut batch = WriteBatch::default();
        for _ in 0..random.below(6) {
            let key = key();
            if random.below(3) == 0 {
                model.remove(&key);
                batch.remove(key);
            } else {
                let value = random.below(1_000).to_be_bytes().to_vec();
                model.insert(key.clone(), value.clone());
                batch.put(key, value);
            }
        }
        store.commit(batch).unwrap();
        let (from, to, limit) = (key(), key(), random.below(8) as usize);
        let within = |row: &(Vec<u8>, Vec<u8>)| from <= row.0 && row.0 < to;
        let want: Rows = model.clone().into_iter().filter(within).collect();
        let back: Rows = want.iter().rev().take(limit).cloned().collect();
        let want: Rows = want.into_iter().take(limit).collect();
        assert_eq!(store.range(&from, &to, limit).unwrap(), want, "seed {seed}, step {step}");
        assert_eq!(store.range_back(&from, &to, limit).unwrap(), back, "seed {seed}, step {step}");
        let probe = key();
        assert_eq!(store.get(&probe).unwrap().as_ref(), model.get(&probe), "seed {seed}, step {step}");
    }
}
