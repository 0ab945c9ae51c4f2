//! What a watched script costs in memory, and what the slowest insertion costs in time, while a set grows
//! from nothing.

use tally_matcher::WatchSet;

use super::blocks::{Shape, watched_script};
use super::thread_ns;

pub(crate) struct Memory {
    /// By the process's resident memory or by the set's own account, whichever is more.
    pub(crate) bytes_per_script: f64,
    pub(crate) insert_max_us: u64,
}

pub(crate) fn measure(scripts: u64) -> Memory {
    let memory = grow("p2wpkh", Shape::P2wpkh, scripts);
    grow("all types", Shape::Mixed, scripts);
    memory
}

fn grow(name: &str, shape: Shape, scripts: u64) -> Memory {
    let before = resident_bytes();
    let mut set = WatchSet::new(1);
    let (mut slowest, mut over_ms) = (0, 0);
    let mut worst: f64 = 0.0;
    for n in 0..scripts {
        let script = watched_script(shape, n);
        let started = thread_ns();
        set.insert_script(&script).unwrap();
        let took = (thread_ns() - started) / 1_000;
        slowest = slowest.max(took);
        over_ms += usize::from(took > 1_000);
        if n > scripts / 10 && n % 10_000 == 0 {
            worst = worst.max(set.memory_bytes() as f64 / n as f64);
        }
    }
    let resident = resident_bytes().saturating_sub(before) as f64 / scripts as f64;
    let told = set.memory_bytes() as f64 / scripts as f64;
    println!(
        "memory, {name}: {told:.1} bytes a script told, {resident:.1} resident, {worst:.1} told at worst on \
         the way; slowest insertion {slowest} us, {over_ms} above 1 ms"
    );
    Memory { bytes_per_script: told.max(resident), insert_max_us: slowest }
}

/// Resident memory of this process, from Linux's account; 0 elsewhere.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}
