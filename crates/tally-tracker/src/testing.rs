//! Stories in shorthand, for the tests of this crate.
//!
//! `+3'` is block 3 of the second branch joining, `-3` block 3 of the first leaving; a deposit has the letter
//! of its transaction.

use std::collections::{HashMap, HashSet};

use tally_events::Fact;
use tally_types::{
    BaseUnits, BlockHash, BlockRef, ChainId, DepositKey, Height, OutPoint, Position, Script, Timestamp, TxId,
};

use crate::{
    Credit, Header, Input, MempoolMemory, Refusal, Scanned, Settings, Snapshot, Spend, Step, Tracker,
};

pub(crate) const T0: i64 = 1_700_000_000;

pub(crate) fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(T0 + secs)
}

pub(crate) fn chain() -> ChainId {
    "btc".parse().unwrap()
}

pub(crate) fn txid(name: char) -> TxId {
    TxId::from_display([name as u8; 32])
}

pub(crate) fn script(name: &str) -> Script {
    Script::from_bytes(name.as_bytes()).unwrap()
}

pub(crate) fn input(number: u8) -> OutPoint {
    OutPoint { txid: TxId::from_display([number; 32]), vout: 0 }
}

/// A payment of 1000 to `to` by transaction `name`, which spends `inputs`.
pub(crate) fn pays(name: char, to: &str, inputs: &[u8]) -> Credit {
    Credit {
        key: DepositKey { txid: txid(name), slot: "0".to_owned() },
        currency: "BTC".parse().unwrap(),
        amount: BaseUnits::from_units(1000),
        script: script(to),
        inputs: inputs.iter().map(|number| input(*number)).collect(),
        difference: None,
    }
}

pub(crate) fn spends(name: char, number: u8) -> Spend {
    Spend { outpoint: input(number), by: txid(name) }
}

pub(crate) fn hash(height: u64, branch: u8) -> BlockHash {
    let mut bytes = [0; 32];
    bytes[0] = branch + 1;
    bytes[24..].copy_from_slice(&height.to_be_bytes());
    BlockHash::from_display(bytes)
}

pub(crate) fn block(height: u64, branch: u8) -> BlockRef {
    BlockRef { height: Height::new(height), hash: hash(height, branch) }
}

/// A block of `branch` over one of `parent`; found 10 minutes after the one before.
pub(crate) fn header(height: u64, branch: u8, parent: u8) -> Header {
    let prev = height.checked_sub(1).map_or(BlockHash::from_display([0; 32]), |below| hash(below, parent));
    Header { block: block(height, branch), prev, time: at(i64::try_from(height).unwrap() * 600) }
}

pub(crate) fn scanned(header: Header, credits: &[Credit], spends: &[Spend]) -> Scanned {
    Scanned {
        header,
        credits: credits.to_vec(),
        spends: spends.to_vec(),
        method: None,
        watched_through: Position::new(1),
    }
}

fn name_of(txid: &TxId) -> char {
    char::from(txid.display_bytes()[0])
}

fn name_of_block(block: &BlockRef) -> String {
    let branch = usize::from(block.hash.display_bytes()[0]).saturating_sub(1);
    format!("{}{}", block.height, "'".repeat(branch))
}

/// Facts in shorthand.
pub(crate) fn trace(facts: &[Fact]) -> String {
    let words: Vec<String> = facts.iter().map(word).collect();
    words.join(" ")
}

fn word(fact: &Fact) -> String {
    let instead = |replaces: &Option<DepositKey>| match replaces {
        Some(old) => format!(" for {}", name_of(&old.txid)),
        None => String::new(),
    };
    match fact {
        Fact::BlockConnected(fact) if fact.from == fact.block.height => {
            format!("+{}", name_of_block(&fact.block))
        }
        Fact::BlockConnected(fact) => format!("+{}..{}", fact.from, name_of_block(&fact.block)),
        Fact::BlockDisconnected(fact) => format!("-{}", name_of_block(&fact.block)),
        Fact::DepositSeen(fact) => {
            format!("seen({}{})", name_of(&fact.deposit.key.txid), instead(&fact.replaces))
        }
        Fact::DepositMined(fact) => {
            let name = name_of(&fact.deposit.key.txid);
            format!("mined({name}@{}{})", name_of_block(&fact.block), instead(&fact.replaces))
        }
        Fact::DepositUnmined(fact) => {
            let back = if fact.in_mempool { "" } else { " gone" };
            format!("unmined({}@{}{back})", name_of(&fact.deposit.txid), name_of_block(&fact.block))
        }
        Fact::DepositReplaced(fact) => {
            format!("replaced({} by {})", name_of(&fact.deposit.txid), name_of(&fact.by))
        }
        Fact::DepositVanished(fact) => format!("vanished({})", name_of(&fact.deposit.txid)),
        Fact::DepositConfirmed(fact) if fact.finalized => format!("final({})", name_of(&fact.deposit.txid)),
        Fact::DepositConfirmed(fact) => format!("confirmed({} {})", name_of(&fact.deposit.txid), fact.depth),
        Fact::ChainFinalized(fact) => format!("final({})", name_of_block(&fact.block)),
        Fact::ChainObserved(_) => "observed".to_owned(),
        Fact::ChainCheckpointed(fact) => format!("checkpoint({}/{})", fact.part, fact.parts),
        other => other.kind().to_owned(),
    }
}

/// A tracker with everything it ever said.
pub(crate) struct Story {
    pub(crate) tracker: Tracker,
    pub(crate) memory: MempoolMemory,
    pub(crate) facts: Vec<Fact>,
    pub(crate) now: Timestamp,
}

impl Story {
    pub(crate) fn new() -> Self {
        Self::with_window(144)
    }

    pub(crate) fn with_window(window: usize) -> Self {
        let tracker = Tracker::new(chain(), Settings::with_window(window));
        Self { tracker, memory: MempoolMemory::default(), facts: Vec::new(), now: at(1_000_000) }
    }

    /// Empty blocks of the first branch up to `height`.
    pub(crate) fn mined_to(height: u64) -> Self {
        let mut story = Self::new();
        for height in 0..=height {
            story.block(header(height, 0, 0), &[], &[]);
        }
        story
    }

    pub(crate) fn tell(&mut self, input: Input<'_>) -> Result<String, Refusal> {
        let facts = self.tracker.decide(input, self.now)?;
        for fact in &facts {
            self.tracker.apply(fact);
            self.memory.note(fact);
        }
        let words = trace(&facts);
        self.facts.extend(facts);
        Ok(words)
    }

    pub(crate) fn block(&mut self, header: Header, credits: &[Credit], spends: &[Spend]) -> String {
        let block = scanned(header, credits, spends);
        self.tell(Input::Block { block: &block, looked_at: None, present: None }).unwrap()
    }

    /// A block that other blocks may have to leave for, with the node's mempool at that moment.
    pub(crate) fn block_with_mempool(&mut self, header: Header, present: &[char]) -> String {
        let block = scanned(header, &[], &[]);
        let present: HashSet<TxId> = present.iter().map(|name| txid(*name)).collect();
        self.tell(Input::Block { block: &block, looked_at: None, present: Some(&present) }).unwrap()
    }

    /// A snapshot at the tip, `secs` after the last one.
    pub(crate) fn mempool(
        &mut self,
        secs: i64,
        present: &[char],
        credits: &[Credit],
        spends: &[Spend],
    ) -> String {
        self.now = Timestamp::from_secs(self.now.secs() + secs);
        let present: HashSet<TxId> = present.iter().map(|name| txid(*name)).collect();
        let gone = self.memory.observe(&self.tracker, &present, self.now);
        let snapshot = Snapshot {
            tip: self.tracker.tip().unwrap().hash,
            credits,
            spends,
            first_held: &HashMap::new(),
            gone: &gone,
        };
        self.tell(Input::Mempool(snapshot)).unwrap()
    }

    /// The same state, folded from the facts alone.
    pub(crate) fn refolded(&self) -> Tracker {
        let mut tracker = Tracker::new(chain(), Settings::default());
        self.facts.iter().for_each(|fact| tracker.apply(fact));
        tracker
    }

    /// Compares with a node's branch, whose headers are given by hash, and answers the fork.
    pub(crate) fn diff(
        &self,
        tip: Header,
        node: &HashMap<BlockHash, Header>,
    ) -> Result<Option<crate::Fork>, Refusal> {
        let mut theirs = vec![tip];
        loop {
            match self.tracker.compare(&theirs)? {
                Step::Common => return Ok(None),
                Step::Ask(hash) => theirs.push(node[&hash]),
                Step::Met(fork) => return Ok(Some(fork)),
            }
        }
    }
}
