//! The whole system through seeded lives: three processes with every service, two chains with a mempool and one of
//! accounts, shops and payers, in one thread and in virtual time. The real services run over fakes of their ports;
//! everything is judged after every append, every message, every answer and every quarter of a second.
//!
//! What goes wrong, from the seed: processes are killed (from outside, at any step to or from a port, in a commit that is
//! kept whole or not at all), told to stop, frozen past their leases and thawed, started with an empty disk; commits fail
//! and are kept all the same, or not; their clocks are up to 8 s off; appends and answers get lost, the log loses what it
//! had not synced, streams break; leases are taken away, and their answers get lost; nodes are cut off, reorganised,
//! payments replaced and dropped; endpoints fail, time out, or take a notification without its answer arriving. The number
//! of a chain's shards changes, blocks are matched again, and the chain of accounts finds payments by contracts now by call
//! traces, now by balances.
//!
//! What must hold, by the name of the rule:
//!
//! - `deposits`: what each order has received is what the chain holds on the branch that the log names (`branch`), for each
//!   shard; so no deposit is lost or counted twice, whatever is matched again in whatever way.
//! - `fold`: each order in each read model is the pure fold of the facts up to that model's checkpoint; `status`:
//!   whatever is told of an order is its status at that version, by the facts.
//! - `readable`: no notification of a version that cannot be read: at its sender, and by the shop that asks any process
//!   as soon as it was told. Nothing that was read is unread later.
//! - `epochs`: nobody writes after the next holder of the same duty has; `terms`: notifications and public messages leave a
//!   process only within a term that it was granted; `once`: what a duty does is done once; `attempts`: attempts at
//!   deliveries are counted on; `announced`: versions are announced once and in order.
//! - `addresses`: one address for one quote; `own ids`: one order for a merchant's own id, whoever asks and how often.
//! - `silence`: no order expires while a watcher of its chains is silent.
//! - `acknowledged`: an order whose creation was answered is in the log for ever.
//! - `rest`: once faults stop, every order's last version is delivered or given up by the schedule, and announced, and
//!   every rescan is done; `models`: all read models hold the same rows.
//! - `alive`: no process ends by itself; `answers`: none answers that something went wrong inside.
//!
//! `TALLY_WHOLE_SEEDS=300` plays more seeds than the default, `TALLY_WHOLE_FROM=500` other ones, `TALLY_WHOLE_SEED=7`
//! only that; `TALLY_WHOLE_REPEATED=50` says how many of them are played twice. Each rule is shown to be able to fail, by a
//! fault that no product could live with (`mutation`).
//!
//! Not here: gaps in the state of a node of accounts (`tally-chains`), and depths below a hundred blocks
//! (`tests/simulation`).

mod gate;
mod judge;
mod mutation;
mod ports;
mod process;
mod schedule;
mod shop;
mod timeline;
mod world;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use gate::Gate;
use judge::Fault;
use mutation::Mutation;
use schedule::Played;

/// Seeds without further ado.
const SEEDS: u64 = 20;
/// Seeds that are played twice.
const REPEATED: u64 = 4;
/// Seeds after which a mutation that was never noticed is one that cannot be.
const MUTATED: u64 = 64;

/// Plays one seed in a runtime of its own, whose time is virtual, on a thread of its own.
fn play(seed: u64, mutation: Mutation) -> Result<Played, Fault> {
    let run = move || {
        let gate = Arc::new(Gate::new());
        let (rest, wake) = (gate.clone(), gate.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .max_blocking_threads(1)
            .on_thread_park(move || rest.rest())
            .on_thread_unpark(move || wake.wake())
            .build()
            .unwrap();
        runtime.block_on(Box::pin(schedule::play(seed, gate, mutation)))
    };
    let thread = std::thread::Builder::new().name(format!("seed-{seed}")).spawn(run).unwrap();
    let broke = |_| Err(Fault { rule: "panic", text: format!("seed {seed} broke off") });
    thread.join().unwrap_or_else(broke)
}

#[allow(clippy::disallowed_methods, reason = "how many seeds to play is said by who runs the test")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seeds() -> Range<u64> {
    if let Some(seed) = setting("TALLY_WHOLE_SEED") {
        return seed..seed + 1;
    }
    let from = setting("TALLY_WHOLE_FROM").unwrap_or(0);
    from..from + setting("TALLY_WHOLE_SEEDS").unwrap_or(SEEDS)
}

#[test]
fn everything_holds_after_every_step() {
    let (mut failed, mut applied) = (Vec::new(), BTreeMap::<&str, u64>::new());
    for seed in seeds() {
        match play(seed, Mutation::None) {
            Ok(played) => {
                for (rule, count) in played.applied {
                    *applied.entry(rule).or_default() += count;
                }
            }
            Err(fault) => {
                eprintln!("{}\nseed {seed} breaks the rule {:?}", fault.text, fault.rule);
                failed.push((seed, fault.rule));
            }
        }
    }
    eprintln!("rules applied: {applied:?}");
    assert!(failed.is_empty(), "{} of {} seeds failed: {failed:?}", failed.len(), seeds().count());
    if seeds().count() as u64 >= SEEDS {
        let rules = [
            "deposits",
            "fold",
            "notices",
            "readable",
            "epochs",
            "once",
            "attempts",
            "announced",
            "addresses",
            "own ids",
            "silence",
            "acknowledged",
            "terms",
            // And what the runs are about.
            "changes of shards",
            "commits unsure",
            "deposits by balance",
            "deposits by trace",
            "deposits of a shard",
            "deposits replaced",
            "deposits unmined",
            "finds of rescans",
        ];
        for rule in rules {
            assert!(applied.get(rule).is_some_and(|count| *count > 0), "no run came to the rule {rule:?}");
        }
    }
}

#[test]
fn the_same_seed_makes_the_same_log() {
    for seed in seeds().take(setting("TALLY_WHOLE_REPEATED").unwrap_or(REPEATED) as usize) {
        let [first, second] = [(); 2].map(|()| play(seed, Mutation::None));
        let (Ok(first), Ok(second)) = (first, second) else { panic!("seed {seed} fails") };
        let parted = first.steps.iter().zip(&second.steps).position(|(one, other)| one != other);
        let parted =
            parted.map(|at| [&first.steps, &second.steps].map(|steps| &steps[at.saturating_sub(6)..][..9]));
        let same = first.log == second.log && first.steps == second.steps;
        assert!(
            !first.log.is_empty() && same,
            "seed {seed} plays otherwise the second time, from {parted:?}"
        );
    }
}

#[test]
fn each_rule_can_be_broken() {
    let faults = [
        (Mutation::LosesDeposits, "deposits"),
        (Mutation::DoublesDeposits, "deposits"),
        (Mutation::TearsCommits, "fold"),
        (Mutation::SkipsFacts, "fold"),
        (Mutation::StaleLog, "readable"),
        (Mutation::Repeats("order"), "once"),
        (Mutation::Repeats("delivery"), "attempts"),
        (Mutation::OldTerms, "epochs"),
        (Mutation::Unconditional("claim"), "own ids"),
        (Mutation::Unconditional("key"), "addresses"),
        (Mutation::AnnouncesTwice, "announced"),
        (Mutation::FastWatchers, "silence"),
        (Mutation::AnswersEarly, "acknowledged"),
        (Mutation::Forgets("delivery"), "rest"),
        (Mutation::Forgets("rescan.applied"), "rest"),
        (Mutation::Drops("chain.block_disconnected"), "branch"),
        (Mutation::DividesElsewhere, "branch"),
        (Mutation::RenamesFinds, "deposits"),
        (Mutation::ForgetsMined, "deposits"),
        (Mutation::Misstates("notices"), "status"),
        (Mutation::Misstates("answers"), "status"),
        (Mutation::Misstates("messages"), "status"),
        (Mutation::TellsAhead, "readable"),
        (Mutation::ShowsAnother, "addresses"),
        (Mutation::ShortTerms, "terms"),
        (Mutation::LosesRows, "models"),
        (Mutation::Unreadable, "alive"),
        (Mutation::BreaksReads, "answers"),
    ];
    let mut unbroken = Vec::new();
    for (mutation, rule) in faults {
        let broken: Vec<_> = (0..MUTATED)
            .map_while(|seed| match play(seed, mutation) {
                Err(fault) if fault.rule == rule => None,
                other => Some(other.err().map(|fault| fault.rule)),
            })
            .collect();
        eprintln!("{mutation:?} breaks {rule:?} after {} seeds", broken.len());
        if broken.len() as u64 == MUTATED {
            unbroken.push((mutation, rule, broken));
        }
    }
    assert!(unbroken.is_empty(), "these rules were not broken, but others: {unbroken:#?}");
}
