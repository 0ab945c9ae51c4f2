//! The deposits that are followed, found by height and by what they spend.
//!
//! Not here: what moves them from stage to stage (`tracker`, `decide`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tally_events::Deposit;
use tally_types::{BlockRef, DepositKey, Height, OutPoint};

/// Where a followed deposit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// In the mempool.
    Mempool,
    /// In this block; it counts while the block is on the branch.
    Mined(BlockRef),
    /// In neither, since the tip had this height. Remembered for a while, since it may come back.
    Gone(Height),
}

impl Stage {
    /// Whether it is in the mempool or in a block.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Mempool | Self::Mined(_))
    }

    /// The height it is filed under, where it has one.
    const fn height(self) -> Option<Height> {
        match self {
            Self::Mempool => None,
            Self::Mined(block) => Some(block.height),
            Self::Gone(since) => Some(since),
        }
    }
}

/// A deposit and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// The payment.
    pub deposit: Deposit,
    /// Where it stands.
    pub stage: Stage,
}

/// An outpoint that is to be watched (`true`) or no longer.
pub(crate) type InputChange = (OutPoint, bool);

type ByHeight = BTreeMap<Height, BTreeSet<DepositKey>>;

/// Followed deposits with their indexes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deposits {
    all: BTreeMap<DepositKey, Followed>,
    mempool: BTreeSet<DepositKey>,
    mined: ByHeight,
    gone: ByHeight,
    /// Live deposits by what they spend.
    by_input: HashMap<OutPoint, BTreeSet<DepositKey>>,
    /// What has become of `by_input` since it was last asked for.
    changes: Vec<InputChange>,
}

impl PartialEq for Deposits {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Deposits {
    pub(crate) fn get(&self, key: &DepositKey) -> Option<&Followed> {
        self.all.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Followed> {
        self.all.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn in_mempool(&self) -> impl Iterator<Item = &Followed> {
        self.mempool.iter().filter_map(|key| self.all.get(key))
    }

    /// Deposits in blocks at `height`.
    pub(crate) fn mined_at(&self, height: Height) -> impl Iterator<Item = &Followed> {
        self.mined.get(&height).into_iter().flatten().filter_map(|key| self.all.get(key))
    }

    /// Deposits in blocks from `height` up.
    pub(crate) fn mined_from(&self, height: Height) -> impl Iterator<Item = &Followed> {
        self.mined.range(height..).flat_map(|(_, keys)| keys).filter_map(|key| self.all.get(key))
    }

    /// Live deposits that spend `outpoint`.
    pub(crate) fn spending(&self, outpoint: &OutPoint) -> impl Iterator<Item = &Followed> {
        self.by_input.get(outpoint).into_iter().flatten().filter_map(|key| self.all.get(key))
    }

    /// Every outpoint that a live deposit spends.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &OutPoint> {
        self.by_input.keys()
    }

    pub(crate) fn take_changes(&mut self) -> Vec<InputChange> {
        std::mem::take(&mut self.changes)
    }

    /// Takes the place of `old`, whose outpoints are no longer watched on its account.
    pub(crate) fn supersede(&mut self, old: Self) {
        self.changes = old.changes;
        self.changes.extend(old.by_input.into_keys().map(|outpoint| (outpoint, false)));
    }

    /// Enters a deposit or moves one.
    pub(crate) fn put(&mut self, deposit: &Deposit, stage: Stage) {
        self.remove(&deposit.key);
        self.file(&deposit.key, &deposit.inputs, stage);
        self.all.insert(deposit.key.clone(), Followed { deposit: deposit.clone(), stage });
    }

    /// Moves a known deposit; an unknown one stays unknown.
    pub(crate) fn set_stage(&mut self, key: &DepositKey, stage: Stage) {
        if let Some(followed) = self.remove(key) {
            self.file(key, &followed.deposit.inputs, stage);
            self.all.insert(key.clone(), Followed { stage, ..followed });
        }
    }

    /// Forgets what is in blocks under `height`, and what has been gone since before it.
    pub(crate) fn forget_below(&mut self, height: Height) {
        let old: Vec<DepositKey> = self
            .mined
            .range(..height)
            .chain(self.gone.range(..height))
            .flat_map(|(_, keys)| keys.iter().cloned())
            .collect();
        for key in &old {
            self.remove(key);
        }
    }

    fn file(&mut self, key: &DepositKey, inputs: &[OutPoint], stage: Stage) {
        match stage {
            Stage::Mempool => {
                self.mempool.insert(key.clone());
            }
            Stage::Mined(block) => {
                self.mined.entry(block.height).or_default().insert(key.clone());
            }
            Stage::Gone(since) => {
                self.gone.entry(since).or_default().insert(key.clone());
            }
        }
        if !stage.is_live() {
            return;
        }
        for input in inputs {
            let spenders = self.by_input.entry(*input).or_default();
            if spenders.is_empty() {
                self.changes.push((*input, true));
            }
            spenders.insert(key.clone());
        }
    }

    fn remove(&mut self, key: &DepositKey) -> Option<Followed> {
        let followed = self.all.remove(key)?;
        self.mempool.remove(key);
        let filed = match followed.stage {
            Stage::Gone(_) => &mut self.gone,
            Stage::Mempool | Stage::Mined(_) => &mut self.mined,
        };
        if let Some(height) = followed.stage.height()
            && let Some(keys) = filed.get_mut(&height)
        {
            keys.remove(key);
            if keys.is_empty() {
                filed.remove(&height);
            }
        }
        for input in &followed.deposit.inputs {
            if let Some(spenders) = self.by_input.get_mut(input)
                && spenders.remove(key)
                && spenders.is_empty()
            {
                self.by_input.remove(input);
                self.changes.push((*input, false));
            }
        }
        Some(followed)
    }
}
