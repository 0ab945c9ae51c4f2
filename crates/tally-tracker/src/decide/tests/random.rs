//! A random node against the tracker: whatever the node does, after every append the fold holds exactly the
//! payments of the chain that its last block names. The seed is printed on failure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use tally_types::{OutPoint, TxId};

use crate::testing::{Story, at, pays, trace};
use crate::{Credit, Header, Input, MempoolMemory, Scanned, Settings, Snapshot, Spend, Stage, Step, Tracker};

use super::*;

const SCRIPTS: u64 = 8;
const REORG_MAX: u64 = 20;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

fn id(number: u64) -> TxId {
    let mut bytes = [7; 32];
    bytes[24..].copy_from_slice(&number.to_be_bytes());
    TxId::from_display(bytes)
}

#[derive(Clone)]
struct NodeBlock {
    header: Header,
    txs: Vec<Credit>,
}

/// A node that may do anything a chain does.
struct Node {
    dice: Dice,
    blocks: Vec<NodeBlock>,
    ever: HashMap<BlockHash, NodeBlock>,
    mempool: Vec<Credit>,
    count: u64,
}

impl Node {
    fn new(seed: u64) -> Self {
        let dice = Dice(seed);
        let mut node = Self { dice, blocks: Vec::new(), ever: HashMap::new(), mempool: Vec::new(), count: 0 };
        (0..3).for_each(|_| node.mine());
        node
    }

    fn number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn payment(&mut self, inputs: Vec<OutPoint>) -> Credit {
        let script = format!("script {}", self.dice.roll(SCRIPTS));
        let mut payment = pays('?', &script, &[]);
        payment.key.txid = id(self.number());
        payment.inputs = inputs;
        payment
    }

    fn fresh_inputs(&mut self) -> Vec<OutPoint> {
        (0..=self.dice.roll(2)).map(|_| OutPoint { txid: id(self.number()), vout: 1 }).collect()
    }

    fn pay(&mut self) {
        let inputs = self.fresh_inputs();
        let payment = self.payment(inputs);
        self.mempool.push(payment);
    }

    /// A transaction that spends an input of one in the mempool.
    fn rival(&mut self) -> Option<Credit> {
        let victim = usize::try_from(self.dice.roll(self.mempool.len().max(1) as u64)).unwrap();
        let input = *self.mempool.get(victim)?.inputs.last()?;
        let mut rival = self.payment(vec![input]);
        if self.dice.one_in(2) {
            rival.script = self.mempool[victim].script.clone();
        }
        self.drop_conflicts(&rival);
        Some(rival)
    }

    fn drop_conflicts(&mut self, with: &Credit) {
        self.mempool.retain(|tx| !tx.inputs.iter().any(|input| with.inputs.contains(input)));
    }

    fn mine(&mut self) {
        let mut txs = Vec::new();
        for tx in std::mem::take(&mut self.mempool) {
            if self.dice.one_in(2) { txs.push(tx) } else { self.mempool.push(tx) }
        }
        if self.dice.one_in(6) {
            let inputs = self.fresh_inputs();
            txs.push(self.payment(inputs));
        }
        if self.dice.one_in(6) {
            txs.push(self.payment(Vec::new()));
        }
        if self.dice.one_in(8) {
            txs.extend(self.rival());
        }
        let height = self.blocks.len() as u64;
        let prev = self.blocks.last().map_or(BlockHash::from_display([0; 32]), |b| b.header.block.hash);
        let hash = BlockHash::from_display(*id(self.number()).display_bytes());
        let time = at(i64::try_from(height).unwrap() * 600);
        let header = Header { block: BlockRef { height: Height::new(height), hash }, prev, time };
        let block = NodeBlock { header, txs };
        self.ever.insert(hash, block.clone());
        self.blocks.push(block);
    }

    fn reorg(&mut self) {
        let depth = 1 + self.dice.roll(REORG_MAX.min(self.blocks.len() as u64 - 1));
        let left = self.blocks.split_off(self.blocks.len() - usize::try_from(depth).unwrap());
        for tx in left.into_iter().flat_map(|block| block.txs) {
            self.drop_conflicts(&tx);
            if !tx.inputs.is_empty() && !self.dice.one_in(5) {
                self.mempool.push(tx);
            }
        }
        for _ in 0..(depth + self.dice.roll(4)).saturating_sub(2).max(1) {
            self.mine();
        }
    }

    fn step(&mut self) {
        match self.dice.roll(12) {
            0..=3 => self.pay(),
            4 | 5 => {
                let rival = self.rival();
                self.mempool.extend(rival);
            }
            6 if !self.mempool.is_empty() => {
                self.mempool.swap_remove(0);
            }
            7 => self.reorg(),
            _ => self.mine(),
        }
    }
}

/// What a watcher does, in one go.
struct Watch {
    story: Story,
    known: HashSet<TxId>,
    learned: BTreeSet<String>,
    missing: BTreeMap<TxId, Timestamp>,
    /// Another writer does not know what its node held before.
    restarts: bool,
}

impl Watch {
    fn matched(&self, txs: &[Credit], scripts: &BTreeSet<String>) -> (Vec<Credit>, Vec<Spend>) {
        let inputs: HashSet<&OutPoint> = self.story.tracker.watched_inputs().collect();
        let text = |tx: &Credit| String::from_utf8(tx.script.as_bytes().to_vec()).unwrap();
        let credits = txs.iter().filter(|tx| scripts.contains(&text(tx))).cloned().collect();
        let spends = txs.iter().flat_map(|tx| tx.inputs.iter().map(|input| (*input, tx.key.txid)));
        let spends = spends.filter(|(input, _)| inputs.contains(input));
        (credits, spends.map(|(outpoint, by)| Spend { outpoint, by }).collect())
    }

    fn scan(&self, block: &NodeBlock, scripts: &BTreeSet<String>) -> Scanned {
        let (credits, spends) = self.matched(&block.txs, scripts);
        let watched_through = self.story.tracker.watched_through();
        Scanned { header: block.header, credits, spends, method: None, watched_through }
    }

    fn next_blocks(&self, node: &Node) -> Vec<NodeBlock> {
        let top = node.blocks.len() - 1;
        let Some(tip) = self.story.tracker.tip() else { return node.blocks.clone() };
        let start = top.min(usize::try_from(tip.height.get()).unwrap());
        let mut theirs = vec![node.blocks[start].header];
        let fork = loop {
            match self.story.tracker.compare(&theirs).unwrap() {
                Step::Common => break start,
                Step::Ask(hash) => theirs.push(node.ever[&hash].header),
                Step::Met(fork) => break usize::try_from(fork.point.height.get()).unwrap(),
            }
        };
        if fork == top { Vec::new() } else { node.blocks[fork + 1..].to_vec() }
    }

    fn sync(&mut self, node: &Node, seed: u64) {
        for block in self.next_blocks(node) {
            let scanned = self.scan(&block, &self.learned);
            self.story.tell(Input::Block { block: &scanned, looked_at: None, present: None }).unwrap();
            self.check_mined(node, seed);
        }
        let present: HashSet<TxId> = node.mempool.iter().map(|tx| tx.key.txid).collect();
        let fresh: Vec<Credit> =
            node.mempool.iter().filter(|tx| !self.known.contains(&tx.key.txid)).cloned().collect();
        self.look_at_mempool(node, &present, &fresh);
        self.known = present;
        self.check_mempool(node, seed);
    }

    fn look_at_mempool(&mut self, node: &Node, present: &HashSet<TxId>, fresh: &[Credit]) {
        let gone = self.story.memory.observe(&self.story.tracker, present, self.story.now);
        let (credits, spends) = self.matched(fresh, &self.learned);
        let snapshot = Snapshot {
            tip: node.blocks.last().unwrap().header.block.hash,
            credits: &credits,
            spends: &spends,
            first_held: &HashMap::new(),
            gone: &gone,
        };
        if self.story.tracker.tip().unwrap().hash == snapshot.tip {
            self.story.tell(Input::Mempool(snapshot)).unwrap();
        }
    }

    fn learn(&mut self, node: &Node, script: String) {
        let only = BTreeSet::from([script.clone()]);
        self.learned.insert(script);
        let mut hash = self.story.tracker.tip().unwrap().hash;
        while let Some(block) = node.ever.get(&hash) {
            if block.header.block.height <= self.story.tracker.base().unwrap().height {
                break;
            }
            let scanned = self.scan(block, &only);
            self.story.tell(Input::Found(&scanned)).unwrap();
            hash = block.header.prev;
        }
        self.known.clear();
    }

    fn check_mined(&self, node: &Node, seed: u64) {
        let tracker = &self.story.tracker;
        let mut expected = BTreeSet::new();
        let mut hash = tracker.tip().unwrap().hash;
        while let Some(block) = node.ever.get(&hash) {
            if block.header.block.height <= tracker.base().unwrap().height {
                break;
            }
            let (credits, _) = self.matched(&block.txs, &self.learned);
            expected.extend(credits.into_iter().map(|credit| (credit.key, block.header.block)));
            hash = block.header.prev;
        }
        let mined = tracker.deposits().filter_map(|followed| match followed.stage {
            Stage::Mined(block) => Some((followed.deposit.key.clone(), block)),
            Stage::Mempool | Stage::Gone(_) => None,
        });
        assert_eq!(mined.collect::<BTreeSet<_>>(), expected, "seed {seed}: {}", trace(&self.story.facts));
    }

    /// All that pays us in the mempool is known, and what is known beside it has not been missing for long.
    fn check_mempool(&mut self, node: &Node, seed: u64) {
        let (credits, _) = self.matched(&node.mempool, &self.learned);
        let paying: BTreeSet<TxId> = credits.iter().map(|credit| credit.key.txid).collect();
        let tracker = &self.story.tracker;
        let followed: BTreeSet<TxId> =
            tracker.deposits.in_mempool().map(|followed| followed.deposit.key.txid).collect();
        assert!(followed.is_superset(&paying), "seed {seed}: {}", trace(&self.story.facts));
        let present: BTreeSet<TxId> = node.mempool.iter().map(|tx| tx.key.txid).collect();
        self.missing.retain(|txid, _| followed.contains(txid) && !present.contains(txid));
        for txid in followed.difference(&present) {
            let since = *self.missing.entry(*txid).or_insert(self.story.now);
            let soon = self.story.now.since(since) < crate::GONE_AFTER;
            assert!(soon || self.restarts, "seed {seed}: {txid} is still there");
        }
    }
}

fn play(seed: u64, restarts: bool) {
    let mut node = Node::new(seed);
    let learned = (0..4).map(|number| format!("script {number}")).collect();
    let (known, missing) = (HashSet::new(), BTreeMap::new());
    let mut watch = Watch { story: Story::new(), known, learned, missing, restarts };
    watch.sync(&node, seed);
    for _ in 0..120 {
        node.step();
        watch.story.now = watch.story.now.plus(Span::from_secs(node.dice.roll(40)));
        if node.dice.one_in(3) {
            continue;
        }
        watch.sync(&node, seed);
        if node.dice.one_in(12) {
            let script = format!("script {}", node.dice.roll(SCRIPTS));
            watch.learn(&node, script);
            watch.check_mined(&node, seed);
        }
        assert_eq!(watch.story.refolded(), watch.story.tracker, "seed {seed}");
        if restarts && node.dice.one_in(2) {
            restart(&mut watch, node.dice.one_in(3));
        }
    }
}

/// Folds again from the log alone, or from a checkpoint in it alone.
fn restart(watch: &mut Watch, from_checkpoint: bool) {
    if from_checkpoint {
        watch.story.tell(Input::Checkpoint).unwrap();
    }
    let last = watch.story.facts.iter().rposition(|fact| matches!(fact, Fact::ChainCheckpointed(_)));
    let mut tracker = Tracker::new(crate::testing::chain(), Settings::default());
    watch.story.facts[last.unwrap_or_default()..].iter().for_each(|fact| tracker.apply(fact));
    assert_eq!(tracker, watch.story.tracker);
    watch.story.tracker = tracker;
    watch.story.tell(Input::Dangling { present: None }).unwrap();
    watch.story.memory = MempoolMemory::default();
    watch.known.clear();
    watch.missing.clear();
}

#[test]
fn the_fold_is_the_chain() {
    (0..80).for_each(|seed| play(seed, false));
}

#[test]
fn the_fold_is_the_chain_through_restarts() {
    (1000..1060).for_each(|seed| play(seed, true));
}
