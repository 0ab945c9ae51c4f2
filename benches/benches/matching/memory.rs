//! What a watched script costs in memory, and what the slowest insertion and removal cost in time, while a
//! set grows from nothing and most of it is removed again.

use tally_matcher::WatchSet;

use super::blocks::{Shape, watched_script};
use super::thread_ns;

pub(crate) struct Memory {
    /// By the process's resident memory or by the set's own account, whichever is more.
    pub(crate) bytes_per_script: f64,
    /// The most that the set's own account said on the last nine tenths of the way.
    pub(crate) worst: f64,
    pub(crate) insert_max_us: u64,
    pub(crate) remove_max_us: u64,
}

pub(crate) fn measure(scripts: u64) -> Memory {
    let memory = grow("p2wpkh", Shape::P2wpkh, scripts);
    grow("all types", Shape::Mixed, scripts);
    memory
}

/// Calls that are timed together: to ask the thread's clock takes as long as a call.
const BATCH: u64 = 100;

/// The slowest of many batches of calls.
#[derive(Default)]
struct Slowest {
    us: u64,
    over_ms: usize,
}

impl Slowest {
    fn time(&mut self, call: impl FnOnce()) {
        let started = thread_ns();
        call();
        let took = (thread_ns() - started) / 1_000;
        self.us = self.us.max(took);
        self.over_ms += usize::from(took > 1_000);
    }
}

fn grow(name: &str, shape: Shape, scripts: u64) -> Memory {
    let before = resident_bytes();
    let mut set = WatchSet::new(1);
    let (mut insertions, mut removals) = (Slowest::default(), Slowest::default());
    let mut worst: f64 = 0.0;
    for first in (0..scripts).step_by(BATCH as usize) {
        let batch: Vec<Vec<u8>> = (first..first + BATCH).map(|n| watched_script(shape, n)).collect();
        insertions.time(|| batch.iter().for_each(|script| assert!(set.insert_script(script).unwrap())));
        if first > scripts / 10 && first % 10_000 == 0 {
            worst = worst.max(set.memory_bytes() as f64 / set.len() as f64);
        }
    }
    let resident = resident_bytes().saturating_sub(before) as f64 / set.len() as f64;
    let told = set.memory_bytes() as f64 / set.len() as f64;
    println!(
        "memory, {name}: {told:.1} bytes a script told, {resident:.1} resident, {worst:.1} told at worst on the way"
    );
    for first in (0..scripts / 10 * 9).step_by(BATCH as usize) {
        let batch: Vec<Vec<u8>> = (first..first + BATCH).map(|n| watched_script(shape, n)).collect();
        removals.time(|| batch.iter().for_each(|script| assert!(set.remove_script(script))));
    }
    println!(
        "  slowest {BATCH} insertions {} us, {} above 1 ms; slowest {BATCH} removals {} us, {} above 1 ms; {:.1} bytes a script when \
         nine tenths are removed",
        insertions.us,
        insertions.over_ms,
        removals.us,
        removals.over_ms,
        set.memory_bytes() as f64 / set.len() as f64,
    );
    Memory {
        bytes_per_script: told.max(resident),
        worst,
        insert_max_us: insertions.us,
        remove_max_us: removals.us,
    }
}

/// Resident memory of this process, from Linux's account; 0 elsewhere.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}
