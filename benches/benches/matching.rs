//! How fast blocks are matched, beside what bounds it and what most code does: one core, 48 different blocks
//! of 2 MB (100 MB, so that they come from memory). In each round every way goes through all blocks, and the
//! ways take turns; a way's time is the sum over the blocks of the median over the rounds. Time is that of the
//! thread on its core, so that what else the machine does counts as little as it can. The last line is one
//! JSON object.
//!
//! `cargo bench -p tally-benches --bench matching [-- --rounds N --scripts N --outpoints N --only p2wpkh]`
#![allow(missing_docs, clippy::float_arithmetic, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "matching/blocks.rs"]
mod blocks;
#[path = "matching/memory.rs"]
mod memory;
#[path = "matching/ways.rs"]
mod ways;

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use self::blocks::{Shape, block};
use self::ways::{Found, Way};

const BLOCKS: u64 = 48;
/// Scripts in the small set.
const FEW: u64 = 10_000;
/// Outpoints watched beside the scripts where spends are included.
const OUTPOINTS: [u64; 3] = [10_000, 1_000_000, 10_000_000];

struct Settings {
    rounds: usize,
    scripts: u64,
    /// The most outpoints watched.
    outpoints: u64,
    /// Only this shape, and nothing about memory.
    only: Option<String>,
}

impl Settings {
    fn from_args() -> Self {
        let mut settings = Self { rounds: 15, scripts: 10_000_000, outpoints: 10_000_000, only: None };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().expect("a value");
            match arg.as_str() {
                "--rounds" => settings.rounds = value().parse().expect("a number"),
                "--scripts" => settings.scripts = value().parse().expect("a number"),
                "--outpoints" => settings.outpoints = value().parse().expect("a number"),
                "--only" => settings.only = Some(value()),
                _ => {}
            }
        }
        settings
    }

    fn wants(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == name)
    }
}

fn main() {
    let settings = Settings::from_args();
    println!("{} scripts, {} rounds, {BLOCKS} blocks", settings.scripts, settings.rounds);
    let mut figures: Vec<(String, Value)> = Vec::new();
    if settings.only.is_none() {
        let memory = memory::measure(settings.scripts);
        figures.push(("bytes_per_script".into(), json!(memory.bytes_per_script)));
        figures.push(("bytes_per_script_worst".into(), json!(memory.worst)));
        figures.push(("insert_max_us".into(), json!(memory.insert_max_us)));
        figures.push(("remove_max_us".into(), json!(memory.remove_max_us)));
    }
    let shapes = [
        ("", "p2wpkh", Shape::P2wpkh),
        ("mixed_", "mixed", Shape::Mixed),
        ("real_", "real", Shape::RealShaped),
    ];
    for (prefix, name, shape) in shapes.into_iter().filter(|(_, name, _)| settings.wants(name)) {
        figures.extend(compare(prefix, name, shape, &settings));
    }
    let figures: Vec<(&str, Value)> =
        figures.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    tally_benches::finish("matching", &figures);
}

const WALK: usize = 0;
const NAIVE: usize = 1;
const SMALL: usize = 2;
const MATCH: usize = 3;
const SPENDS: usize = 4;
const SPENDS_1M: usize = 5;
const SPENDS_10M: usize = 6;

/// Time that this thread has been running on a core.
pub fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    (time.tv_sec * 1_000_000_000 + time.tv_nsec) as u64
}

/// Nanoseconds of every way.
struct Times {
    bytes: usize,
    ways: Vec<f64>,
}

impl Times {
    /// `samples` by way, block and round.
    fn new(bytes: usize, samples: Vec<Vec<Vec<u64>>>) -> Self {
        let sum = |blocks: Vec<Vec<u64>>| blocks.into_iter().map(median).sum();
        Self { bytes, ways: samples.into_iter().map(sum).collect() }
    }

    /// How many times as fast `way` is as `base`.
    fn ratio(&self, way: usize, base: usize) -> f64 {
        self.ways[base] / self.ways[way]
    }

    /// GB/s of raw block.
    fn speed(&self, way: usize) -> f64 {
        self.bytes as f64 / self.ways[way]
    }
}

fn median(mut values: Vec<u64>) -> f64 {
    values.sort_unstable();
    values[values.len() / 2] as f64
}

/// The ways in the order of the constants above. Only the first shape has the large sets of outpoints.
fn ways(shape: Shape, scripts: u64, most_outpoints: u64) -> Vec<Way> {
    let counts = if shape == Shape::P2wpkh { OUTPOINTS.as_slice() } else { &OUTPOINTS[..1] };
    let mut ways = vec![
        Way::slices(),
        Way::naive(shape, scripts),
        Way::ours(shape, scripts.min(FEW), 0),
        Way::ours(shape, scripts, 0),
    ];
    ways.extend(counts.iter().map(|outpoints| Way::ours(shape, scripts, most_outpoints.min(*outpoints))));
    ways.push(Way::our_walk());
    ways
}

/// Measures all ways over the blocks of a shape, prints them and gives what goes into the last line.
fn compare(prefix: &str, name: &str, shape: Shape, settings: &Settings) -> Vec<(String, Value)> {
    let few = settings.scripts.min(FEW);
    let blocks: Vec<Vec<u8>> =
        (0..BLOCKS).map(|n| block(shape, n, few, OUTPOINTS[0].min(settings.outpoints))).collect();
    let ways = ways(shape, settings.scripts, settings.outpoints);
    let times = measure(&blocks, &ways, settings.rounds);
    println!("\n{name}: {:.2} MB a block", times.bytes as f64 / blocks.len() as f64 / 1e6);
    for (at, way) in ways.iter().enumerate() {
        let (speed, ratio) = (times.speed(at), times.ratio(at, WALK));
        println!("  {:50} {speed:6.2} GB/s  {ratio:5.3} of the walk", way.name);
    }
    let mut figures = vec![
        ("ratio_walk", times.ratio(MATCH, WALK)),
        ("ratio_naive", times.ratio(MATCH, NAIVE)),
        ("ratio_10k", times.ratio(MATCH, SMALL)),
        ("ratio_walk_spends", times.ratio(SPENDS, WALK)),
        ("gb_per_second", times.speed(MATCH)),
        ("walk_gb_per_second", times.speed(WALK)),
    ];
    if shape == Shape::P2wpkh {
        figures.push(("ratio_walk_spends_1m", times.ratio(SPENDS_1M, WALK)));
        figures.push(("ratio_walk_spends_10m", times.ratio(SPENDS_10M, WALK)));
    }
    figures.into_iter().map(|(name, value)| (format!("{prefix}{name}"), json!(value))).collect()
}

/// Every way through every block in every round, the ways taking turns.
fn measure(blocks: &[Vec<u8>], ways: &[Way], rounds: usize) -> Times {
    let mut samples = vec![vec![Vec::new(); blocks.len()]; ways.len()];
    for round in 0..=rounds {
        for turn in 0..ways.len() {
            let at = (turn + round) % ways.len();
            let mut found = Found::default();
            for (block, samples) in blocks.iter().zip(&mut samples[at]) {
                let started = thread_ns();
                found += ways[at].run(block);
                let took = thread_ns() - started;
                // The first round warms up.
                if round > 0 {
                    samples.push(took);
                }
            }
            ways[at].check(found, blocks.len());
        }
    }
    Times::new(blocks.iter().map(Vec::len).sum(), samples)
}
