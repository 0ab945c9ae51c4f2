use proptest::prelude::*;
use tally_types::{BlockHash, Difference, TxId};

use super::*;
use crate::testing::script;

fn block(height: u64) -> BlockRef {
    BlockRef {
        height: Height::new(height),
        hash: BlockHash::from_display([u8::try_from(height).unwrap(); 32]),
    }
}

/// A payment in words: `x:0_1=5`, `y:log-0=5 USDT`, or the rest of a sum: `x:balance=5 of 9 since 3`.
fn credit(height: u64, words: &str) -> Credit {
    let (to, rest) = words.split_once(':').unwrap();
    let (slot, rest) = rest.split_once('=').unwrap();
    let mut rest = rest.split(' ');
    let units = |text: Option<&str>| BaseUnits::from_units(text.unwrap().parse().unwrap());
    let amount = units(rest.next());
    let (mut currency, mut difference) = ("ETH", None);
    match rest.next() {
        Some("of") => {
            let received = units(rest.next());
            let since = Height::new(rest.nth(1).unwrap().parse().unwrap());
            difference = Some(Difference { since, received });
        }
        Some(other) => currency = other,
        None => {}
    }
    Credit {
        key: DepositKey {
            txid: TxId::from_display([u8::try_from(height).unwrap(); 32]),
            slot: format!("{to}-{slot}"),
        },
        currency: currency.parse().unwrap(),
        amount,
        script: script(to),
        inputs: Vec::new(),
        difference,
    }
}

fn told_of(at: BlockRef, credit: &Credit) -> Told {
    Told {
        key: credit.key.clone(),
        block: at,
        currency: credit.currency.clone(),
        amount: credit.amount,
        script: credit.script.clone(),
        since: credit.difference.map(|difference| difference.since),
    }
}

#[test]
fn the_table_of_what_is_told_already() {
    type Row =
        (&'static str, &'static [(u64, &'static str)], &'static [&'static str], &'static [&'static str]);
    // What is told, what is found in block 5, what is left of that.
    let rows: [Row; 18] = [
        ("nothing is told", &[], &["x:value=5", "x:0=1"], &["x:value=5", "x:0=1"]),
        ("the same way", &[(5, "x:value=5"), (5, "x:0=1")], &["x:value=5", "x:0=1"], &[]),
        ("transactions alone before", &[(5, "x:value=5")], &["x:value=5", "x:0=1"], &["x:0=1"]),
        ("calls after a difference", &[(5, "x:balance=1 of 6 since 5")], &["x:value=5", "x:0=1"], &[]),
        ("calls in a sum told above", &[(7, "x:balance=1 of 9 since 3")], &["x:0=1"], &[]),
        ("calls above a sum", &[(4, "x:balance=1 of 9 since 3")], &["x:0=1"], &["x:0=1"]),
        ("calls below a sum", &[(9, "x:balance=1 of 9 since 6")], &["x:0=1"], &["x:0=1"]),
        ("a sum for another", &[(7, "y:balance=1 of 9 since 3")], &["x:0=1"], &["x:0=1"]),
        (
            "a sum of another currency",
            &[(7, "x:balance=1 of 9 since 3")],
            &["x:log-0=1 USDT"],
            &["x:log-0=1 USDT"],
        ),
        ("calls told by other names", &[(5, "x:0_1=1")], &["x:0_2=1"], &[]),
        (
            "one call stands for one",
            &[(5, "x:0_1=1")],
            &["x:0_2=1", "x:0_3=1", "x:0_4=2"],
            &["x:0_3=1", "x:0_4=2"],
        ),
        (
            "a difference after calls",
            &[(5, "x:0=1"), (5, "x:value=5")],
            &["x:value=5", "x:balance=1 of 6 since 5"],
            &[],
        ),
        (
            "a difference after some of the calls",
            &[(5, "x:0=1")],
            &["x:value=5", "x:balance=3 of 8 since 5"],
            &["x:value=5", "x:balance=2 of 8 since 5"],
        ),
        (
            "a sum after calls below",
            &[(2, "x:0=9"), (3, "x:value=100"), (4, "x:0=10")],
            &["x:balance=17 of 117 since 3"],
            &["x:balance=7 of 117 since 3"],
        ),
        ("a sum after all of it", &[(3, "x:0=10"), (4, "x:0=7")], &["x:balance=17 of 17 since 3"], &[]),
        (
            "a part of a sum that is told",
            &[(7, "x:balance=17 of 17 since 3")],
            &["x:balance=10 of 10 since 5"],
            &[],
        ),
        (
            "a sum over one that is told",
            &[(4, "x:balance=10 of 10 since 4")],
            &["x:balance=17 of 17 since 3"],
            &["x:balance=7 of 17 since 3"],
        ),
        (
            "what the source knows and is not told yet is left to it",
            &[],
            &["x:balance=17 of 117 since 3"],
            &["x:balance=17 of 117 since 3"],
        ),
    ];
    for (name, told, found, left) in rows {
        let told: Vec<Told> =
            told.iter().map(|(height, words)| told_of(block(*height), &credit(*height, words))).collect();
        let found = found.iter().map(|words| credit(5, words)).collect();
        let left: Vec<Credit> = left.iter().map(|words| credit(5, words)).collect();
        assert_eq!(untold(block(5), found, &told), left, "{name}");
    }
}

/// How a node reads a block.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Calls,
    Transactions,
    Balances,
}

/// What a block pays to an address, by its transactions and by contracts.
type Paid = [(u64, u64); 2];

#[derive(Debug, Clone)]
enum Step {
    Connect(Paid, Way),
    /// A block is read again, a sum being over the blocks since the last whole one (`false`) or over the one block.
    Again(prop::sample::Index, Way, bool),
    Reorg(u64),
}

const TO: [&str; 2] = ["x", "y"];

/// A chain, how each block was read when it joined, and what is told of it.
#[derive(Default)]
struct World {
    chain: Vec<(Paid, Way)>,
    told: Vec<Told>,
}

impl World {
    fn sum(&self, to: usize, since: usize, height: usize, all: bool) -> u64 {
        let of = |(by, contract): (u64, u64)| if all { by + contract } else { by };
        self.chain[since..=height].iter().map(|(paid, _)| of(paid[to])).sum()
    }

    /// The first of the blocks up to here that were read by their transactions alone.
    fn gap_before(&self, height: usize) -> usize {
        let whole = self.chain[..height].iter().rposition(|(_, way)| *way != Way::Transactions);
        whole.map_or(0, |whole| whole + 1)
    }

    fn read(&self, height: usize, way: Way, since: Option<usize>) -> Vec<Credit> {
        let (mut found, number) = (Vec::new(), height as u64);
        for (to, name) in TO.into_iter().enumerate() {
            let (by, contract) = self.chain[height].0[to];
            let mut push = |words: String, amount: u64| {
                if amount > 0 {
                    found.push(credit(number, &words));
                }
            };
            push(format!("{name}:value={by}"), by);
            if way == Way::Calls {
                push(format!("{name}:0={contract}"), contract);
            }
            if let Some(since) = since {
                let all = self.sum(to, since, height, true);
                let beside =
                    self.sum(to, since, height, false) + if way == Way::Calls { contract } else { 0 };
                push(format!("{name}:balance={} of {all} since {since}", all - beside), all - beside);
            }
        }
        found
    }

    fn tell(&mut self, height: usize, found: Vec<Credit>) {
        let at = block(height as u64);
        let left = untold(at, found, &self.told);
        self.told.extend(left.iter().map(|credit| told_of(at, credit)));
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Connect(paid, way) => {
                self.chain.push((paid, way));
                let height = self.chain.len() - 1;
                let since = self.gap_before(height);
                let since = (way == Way::Balances || way == Way::Calls && since < height).then_some(since);
                let found = self.read(height, way, since);
                self.tell(height, found);
            }
            Step::Again(height, way, alone) if !self.chain.is_empty() => {
                let height = height.index(self.chain.len());
                let since = if alone { height } else { self.gap_before(height) };
                let found = self.read(height, way, (way == Way::Balances).then_some(since));
                self.tell(height, found);
            }
            Step::Again(..) => {}
            Step::Reorg(blocks) => {
                let left = self.chain.len().saturating_sub(usize::try_from(blocks).unwrap());
                self.chain.truncate(left);
                self.told.retain(|one| one.block.height.get() < left as u64);
            }
        }
    }

    fn told_to(&self, to: usize) -> u128 {
        let to = self.told.iter().filter(|one| one.script == script(TO[to]));
        to.map(|one| one.amount.units()).sum()
    }
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![Just(Way::Calls), Just(Way::Transactions), Just(Way::Transactions), Just(Way::Balances)]
}

fn step() -> impl Strategy<Value = Step> {
    let amount = || prop_oneof![Just(0_u64), 1_u64..9];
    let paid = [(amount(), amount()), (amount(), amount())];
    prop_oneof![
        3 => (paid, way()).prop_map(|(paid, way)| Step::Connect(paid, way)),
        3 => (any::<prop::sample::Index>(), way(), any::<bool>()).prop_map(|(at, way, alone)| Step::Again(at, way, alone)),
        1 => (1_u64..5).prop_map(Step::Reorg),
    ]
}

proptest! {
    /// However blocks are read, again, in part, in any order and through reorgs: nothing is told twice, and what was
    /// paid is told as soon as the last block is a whole one.
    #[test]
    fn nothing_is_told_twice_or_lost(steps in prop::collection::vec(step(), 1..50)) {
        let mut world = World::default();
        for step in steps {
            world.step(step.clone());
            let Some(tip) = world.chain.len().checked_sub(1) else { continue };
            for (to, name) in TO.into_iter().enumerate() {
                let (paid, told) = (u128::from(world.sum(to, 0, tip, true)), world.told_to(to));
                prop_assert!(told <= paid, "{name}: {told} of {paid} after {step:?}: {:?}", world.told);
                if world.chain[tip].1 != Way::Transactions {
                    prop_assert_eq!(told, paid, "{} after {:?}: {:?}", name, step, &world.told);
                }
            }
        }
    }
}
