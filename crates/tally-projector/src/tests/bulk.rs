//! Filling an empty store in bulk: the same rows as in any other way, or a store that is known not to be whole.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tally_events::Recorded;
use tally_ports::{PortError, ReadModel, Rows, Store, WriteBatch};
use tally_testkit::MemoryStore;

use super::folding::{Failing, Unsure, folded_whole, story};
use super::scene::Scene;
use crate::fold::{Aside, Fold, Limits};
use crate::{Options, Projector, keys};

/// Folds as a rebuild in a process of its own does: in chunks, committed when they are many, and whole at the end.
fn fold_in_bulk(
    store: &dyn Store,
    facts: &[Recorded],
    rows_max: usize,
    aside_max: usize,
) -> Result<(), PortError> {
    let limits = Limits {
        rows_max,
        orders_max: 3,
        keep_rows: false,
        aside: Some(Aside { rows_max: aside_max, at_once: rows_max }),
    };
    let mut fold = Fold::new(store, limits)?;
    for facts in facts.chunks(3) {
        fold.take(facts, |_| {})?;
    }
    fold.run(&[], |_| {})
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_bulk_it_is_the_same(rows_max in 1_usize..40, aside_max in 1_usize..20) {
        let scene = story();
        let store = MemoryStore::new();
        fold_in_bulk(&store, &scene.log.facts(), rows_max, aside_max).unwrap();
        prop_assert_eq!(store.rows(), folded_whole(&scene));
    }

    #[test]
    fn a_store_that_was_not_filled_to_the_end_is_known(commits in 0_usize..40, rows_max in 1_usize..20) {
        let scene = story();
        let store = Failing { store: MemoryStore::new(), commits_left: AtomicUsize::new(commits) };
        let done = fold_in_bulk(&store, &scene.log.facts(), rows_max, 5);
        let unfinished = store.get(keys::UNFINISHED).unwrap().is_some();
        prop_assert_eq!(unfinished, done.is_err() && commits > 0);
        if done.is_ok() {
            prop_assert_eq!(store.store.rows(), folded_whole(&scene));
        }
        // What was put aside is gone: nothing goes on from there.
        store.commits_left.store(usize::MAX, Ordering::SeqCst);
        let again = fold_in_bulk(&store, &scene.log.facts(), rows_max, 5);
        prop_assert_eq!(again.is_err(), unfinished);
        if again.is_ok() {
            prop_assert_eq!(store.store.rows(), folded_whole(&scene));
        }
    }
}

/// Wherever a commit fails while a store is filled in bulk: it is filled whole, or nobody reads it before the next start.
#[tokio::test]
async fn a_filling_that_failed_does_not_go_on_without_what_was_put_aside() {
    let scene = story();
    let (log, whole) = (Arc::new(scene.log.clone()), folded_whole(&scene));
    let options = Options { rows_live: 9, rows_catching_up: 9, bulk: true, ..Options::default() };
    let (mut ended, mut filled) = (0, 0);
    for number in 1..60 {
        for taken in [true, false] {
            let fails = [(number, taken)].into();
            let store = Arc::new(Unsure { fails, ..Unsure::default() });
            // The first commit is that of the version.
            let Ok(projector) = Projector::open(log.clone(), store.clone(), options).await else { continue };
            let done = loop {
                match projector.catch_up().await {
                    Err(error) if error.is_transient() => {}
                    done => break done,
                }
            };
            if done.is_err() {
                ended += 1;
                let again = Projector::open(log.clone(), store.clone(), options).await.unwrap();
                again.catch_up().await.unwrap();
            } else {
                filled += 1;
            }
            let mut rows = store.store.rows();
            rows.retain(|(key, _)| key != keys::VERSION);
            assert!(rows == whole, "commit {number}, taken: {taken}, {done:?}");
        }
    }
    assert!(ended > 10 && filled > 10, "{ended} {filled}");
}

#[tokio::test]
async fn a_store_that_was_not_filled_to_the_end_is_filled_anew() {
    let scene = story();
    let model = scene.model().await;
    let (position, before) = (model.position(), scene.store.rows());
    let mut batch = WriteBatch::default();
    batch.put(keys::UNFINISHED, *b"");
    batch.put(*b"zz", *b"left over");
    scene.store.commit(batch).unwrap();
    assert_eq!(scene.model().await.position(), position);
    assert_eq!(scene.store.rows(), before);
}

/// A store that notes how many rows without order each commit has.
#[derive(Default)]
struct Counting {
    store: MemoryStore,
    scattered: Mutex<Vec<usize>>,
}

impl Store for Counting {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, PortError> {
        self.store.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError> {
        self.store.range(from, to, limit)
    }

    fn range_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, PortError> {
        self.store.range_back(from, to, limit)
    }

    fn commit(&self, batch: WriteBatch) -> Result<(), PortError> {
        let count = batch.rows.iter().filter(|(key, _)| keys::is_scattered(key)).count();
        self.scattered.lock().unwrap().extend((count > 0).then_some(count));
        self.store.commit(batch)
    }

    fn clear(&self) -> Result<(), PortError> {
        self.store.clear()
    }
}

/// The last facts are folded as new ones are, in commits that are far too small for what was put aside.
#[tokio::test]
async fn what_was_put_aside_is_written_at_once_also_at_the_end() {
    let scene = Scene::new();
    for number in 1..=30 {
        scene.create(number);
        scene.quote(number);
    }
    let store = Arc::new(Counting::default());
    let options = Options { rows_live: 5, ..Options::alone() };
    let projector = Projector::open(Arc::new(scene.log.clone()), store.clone(), options).await.unwrap();
    projector.catch_up().await.unwrap();
    assert_eq!(*store.scattered.lock().unwrap(), [60], "the claim and the script of each");
}
