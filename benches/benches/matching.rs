//! How fast blocks are matched, beside what bounds it and what most code does: one core, 48 different blocks
//! of 2 MB (100 MB, so that they come from memory). In each round every way goes through all blocks, and the
//! ways take turns; a way's time is the sum over the blocks of the median over the rounds. Time is that of the
//! thread on its core, so that what else the machine does counts as little as it can. The last line is one
//! JSON object.
//!
//! `cargo bench -p tally-benches --bench matching [-- --rounds N --scripts N]`
#![allow(missing_docs, clippy::float_arithmetic, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "matching/blocks.rs"]
mod blocks;
#[path = "matching/memory.rs"]
mod memory;
#[path = "matching/ways.rs"]
mod ways;

use rustix::time::{ClockId, clock_gettime};

use self::blocks::{Shape, block};
use self::ways::{Found, Way};

const BLOCKS: u64 = 48;
/// Outpoints watched beside the scripts where spends are included.
const OUTPOINTS: [u64; 3] = [10_000, 1_000_000, 10_000_000];

struct Settings {
    rounds: usize,
    scripts: u64,
}

impl Settings {
    fn from_args() -> Self {
        let mut settings = Self { rounds: 25, scripts: 10_000_000 };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut number = || args.next().and_then(|n| n.parse().ok()).expect("a number");
            match arg.as_str() {
                "--rounds" => settings.rounds = number() as usize,
                "--scripts" => settings.scripts = number(),
                _ => {}
            }
        }
        settings
    }
}

fn main() {
    let settings = Settings::from_args();
    let scripts = settings.scripts;
    println!("{} scripts, {} rounds, {BLOCKS} blocks", scripts, settings.rounds);
    let memory = memory::measure(scripts);
    let main = compare("p2wpkh", Shape::P2wpkh, &settings);
    for (name, shape) in [("mixed", Shape::Mixed), ("real-shaped", Shape::RealShaped)] {
        compare(name, shape, &settings);
    }
    println!(
        "{{\"bench\":\"matching\",\"ratio_walk\":{:.3},\"ratio_naive\":{:.2},\"ratio_10k\":{:.3},\
         \"ratio_walk_spends\":{:.3},\"bytes_per_script\":{:.1},\"gb_per_second\":{:.2},\
         \"walk_gb_per_second\":{:.2},\"insert_max_us\":{}}}",
        main.ratio(MATCH, WALK),
        main.ratio(MATCH, NAIVE),
        main.ratio(MATCH, SMALL),
        main.ratio(SPENDS, WALK),
        memory.bytes_per_script,
        main.speed(MATCH),
        main.speed(WALK),
        memory.insert_max_us,
    );
}

const WALK: usize = 0;
const NAIVE: usize = 1;
const SMALL: usize = 2;
const MATCH: usize = 3;
const SPENDS: usize = 5;

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

fn compare(name: &str, shape: Shape, settings: &Settings) -> Times {
    let few = settings.scripts.min(10_000);
    let blocks: Vec<Vec<u8>> = (0..BLOCKS).map(|n| block(shape, n, few, OUTPOINTS[0])).collect();
    let bytes = blocks.iter().map(Vec::len).sum();
    let ways = [
        Way::slices(),
        Way::naive(shape, settings.scripts),
        Way::ours(shape, few, 0),
        Way::ours(shape, settings.scripts, 0),
        Way::ours(shape, settings.scripts, OUTPOINTS[0]),
        Way::ours(shape, settings.scripts, OUTPOINTS[1]),
        Way::ours(shape, settings.scripts, OUTPOINTS[2]),
        Way::our_walk(),
    ];
    let mut samples = vec![vec![Vec::new(); blocks.len()]; ways.len()];
    for round in 0..=settings.rounds {
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
    let times = Times::new(bytes, samples);
    println!("\n{name}: {:.2} MB a block", bytes as f64 / blocks.len() as f64 / 1e6);
    for (at, way) in ways.iter().enumerate() {
        let (speed, ratio) = (times.speed(at), times.ratio(at, WALK));
        println!("  {:48} {speed:6.2} GB/s  {ratio:5.3} of the walk", way.name);
    }
    times
}
