//! Watchers through thousands of seeded lives: reorgs to depth 20, late addresses, replaced and vanished transactions,
//! lost answers, deaths at every step, standbys that take over. The real watcher runs over fakes, in one thread and in
//! virtual time, and the log is judged after every append.
//!
//! `TALLY_SIM_SEEDS=2000` plays more seeds than the default, `TALLY_SIM_FROM=500` other ones, `TALLY_SIM_SEED=7` only that.
//! How often each thing happened that the runs are about is counted and printed (`--nocapture`).

mod causes;
mod judge;
mod ports;
mod schedule;
mod tally;
mod timeline;
mod truth;
mod world;

use std::ops::Range;
use std::sync::{Arc, Mutex};

use tally::Tally;

/// Seeds without further ado.
const SEEDS: u64 = 20;

/// Plays one seed in a runtime of its own, whose time is virtual.
fn play(seed: u64) -> (Vec<u8>, Tally) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(Box::pin(schedule::play(seed)))
}

#[allow(clippy::disallowed_methods, reason = "how many seeds to play is said by who runs the test")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn number(name: &str) -> Option<u64> {
    setting(name)?.parse().ok()
}

fn seeds() -> Range<u64> {
    if let Some(seed) = number("TALLY_SIM_SEED") {
        return seed..seed + 1;
    }
    let from = number("TALLY_SIM_FROM").unwrap_or(0);
    from..from + number("TALLY_SIM_SEEDS").unwrap_or(SEEDS)
}

#[test]
fn the_log_tells_the_truth_after_every_append() {
    let mut failed = Vec::new();
    let counts = Arc::new(Mutex::new(Tally::default()));
    for seed in seeds() {
        // One thread a seed, so that a failure names its seed and the others are played all the same.
        let all = Arc::clone(&counts);
        let life = move || all.lock().unwrap().merge(play(seed).1);
        let played = std::thread::Builder::new().name(format!("seed-{seed}")).spawn(life).unwrap();
        if played.join().is_err() {
            failed.push(seed);
        }
    }
    let (count, counts) = (seeds().count(), counts.lock().unwrap());
    println!("{count} seeds:\n{}", counts.report());
    assert!(failed.is_empty(), "{} of {count} seeds failed: {failed:?}", failed.len());
    let missing = counts.missing();
    assert!(count < SEEDS as usize || missing.is_empty(), "in {count} seeds there are never {missing:?}");
}

#[test]
fn the_same_seed_makes_the_same_log() {
    for seed in seeds().take(SEEDS as usize) {
        let played = [(); 2].map(|()| std::thread::spawn(move || play(seed).0).join().unwrap());
        assert!(
            !played[0].is_empty() && played[0] == played[1],
            "seed {seed} plays otherwise the second time"
        );
    }
}
