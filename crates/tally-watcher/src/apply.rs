//! What a rescan found becomes the shard's own: only its writer can say that a block is on its branch. And what is
//! told already, also by other ways of finding payments, is not told again.
//!
//! Not here: matching (`rescan`).

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use tally_events::{Fact, FoundBlock, RescanApplied};
use tally_ports::{PortError, Store};
use tally_tracker::{Credit, Header, Input, RescanPart, Scanned, untold};
use tally_types::{BlockRef, DepositKey, Height, Position};
use tokio::sync::oneshot;

use crate::addresses::mined_key;
use crate::convert;
use crate::persist::{Note, known_block, paid_in, told_to};
use crate::rescan::append_to_rescans;
use crate::trouble::Trouble;
use crate::worker::Worker;

/// How long the store may take to hold what was told.
const CATCH_UP: Duration = Duration::from_secs(5);

impl Worker {
    /// Takes one reported part over, if there is one. True if there may be more.
    pub(crate) async fn apply_rescan(&mut self) -> Result<bool, Trouble> {
        let Some(tip) = self.tracker.tip() else { return Ok(false) };
        let shard = self.shared.shard;
        let next = self
            .shared
            .with_rescans(|rescans, _| rescans.to_apply(shard).find(|(part, _)| part.to <= tip.height));
        let Some((part, reports)) = next else { return Ok(false) };
        for report in reports {
            for found in self.reported(report).await? {
                self.take_over(found).await?;
            }
        }
        self.close(&part).await?;
        Ok(true)
    }

    /// What a report found for this shard.
    async fn reported(&self, position: Position) -> Result<Vec<FoundBlock>, Trouble> {
        let before = Position::new(position.get().saturating_sub(1));
        let mut stream = self.ports.log.read(before).await.map_err(Trouble::Log)?;
        let gone =
            || Trouble::Log(PortError::transient(format!("no fact at position {position} of the log")));
        let recorded = stream.next().await.ok_or_else(gone)?.map_err(Trouble::Log)?;
        let Fact::RescanReported(fact) = recorded.event.fact else { return Err(gone()) };
        let own = |mut found: FoundBlock| {
            found.deposits.retain(|deposit| self.shared.shard.has(&deposit.script));
            (!found.deposits.is_empty()).then_some(found)
        };
        Ok(fact.found.into_iter().filter_map(own).collect())
    }

    /// Makes the payments of one block its own, but for those it has. A block that is not on the branch was read
    /// from a node on another one: then the branch's own block of that height is matched.
    async fn take_over(&mut self, found: FoundBlock) -> Result<(), Trouble> {
        let block = if self.is_own_block(found.block).await? {
            scanned(found)
        } else {
            let header = self.header_on_branch(found.block.height).await?;
            let matched = self.shared.position();
            let height = header.block.height;
            let block = self.ports.source.scan(&header, &self.shared.watch).await;
            convert::scanned(block.map_err(|error| Trouble::Block { height, error })?, matched)
        };
        self.find(block).await
    }

    /// What a block of the branch holds, but for what is known to be in it. A payment that is too deep to be followed
    /// is known by the store, and so is one by another identity.
    pub(crate) async fn find(&mut self, mut block: Scanned) -> Result<(), Trouble> {
        let base = self.tracker.base();
        let deep = base.is_none_or(|base| {
            let followed = self.config.settings.window().try_into().unwrap_or(u64::MAX);
            let top = self.tracker.tip().unwrap_or(base).height;
            block.header.block.height <= base.height.max(top.below(followed))
        });
        if deep || block.credits.iter().any(has_several_ways) {
            let credits = std::mem::take(&mut block.credits);
            block.credits = self.unknown_of(block.header.block, None, credits).await?;
        }
        self.say(Input::Found(&block), self.ports.clock.now()).await
    }

    /// What a block that joins the branch pays beside what is told. Nothing is told of a new block, but of the blocks
    /// that a sum which ends here is over, and of a block whose writer was cut off in the middle of it.
    pub(crate) async fn take_off_told(&self, block: &mut Scanned) -> Result<(), Trouble> {
        let at = block.header.block;
        let reaches_back = |credit: &Credit| credit.difference.is_some_and(|sum| sum.since < at.height);
        let cut_off = self.tracker.is_dangling() && block.credits.iter().any(has_several_ways);
        if cut_off || block.credits.iter().any(reaches_back) {
            let credits = std::mem::take(&mut block.credits);
            block.credits = self.unknown_of(at, Some(at.height), credits).await?;
        }
        Ok(())
    }

    /// The payments of a block that are not told. Blocks from `leaves` up, where that is said, are about to leave.
    async fn unknown_of(
        &self,
        at: BlockRef,
        leaves: Option<Height>,
        credits: Vec<Credit>,
    ) -> Result<Vec<Credit>, Trouble> {
        self.let_store_catch_up(CATCH_UP).await?;
        let store = self.ports.store.clone();
        let unknown = tokio::task::spawn_blocking(move || unknown_in(&*store, at, leaves, credits));
        let unknown = unknown.await.map_err(|error| {
            Trouble::Log(PortError::transient("a read of the store was cut short").because(error))
        })?;
        unknown.map_err(Trouble::Log)
    }

    /// Tells the node's adapter what was paid up to a block of the branch, where it may have to know.
    pub(crate) async fn recall(&self, through: BlockRef, patience: Duration) -> Result<(), Trouble> {
        let Some(native) = self.config.native.clone() else { return Ok(()) };
        self.let_store_catch_up(patience).await?;
        let store = self.ports.store.clone();
        let paid = tokio::task::spawn_blocking(move || paid_in(&*store, &native, through.height));
        let paid = paid.await.map_err(|error| {
            Trouble::Log(PortError::transient("a read of the store was cut short").because(error))
        })?;
        let paid: Vec<_> = paid.map_err(Trouble::Log)?.into_iter().collect();
        self.ports.source.recall(through, self.tracker.method_at(through.height), &paid);
        Ok(())
    }

    /// Waits until the store holds what this worker has told of. With one that has failed nothing is found, or a payment
    /// might be told of twice; a start reads it anew.
    async fn let_store_catch_up(&self, patience: Duration) -> Result<(), Trouble> {
        let written = async {
            self.shared.wait_for_note(self.last).await;
            let (done, written) = oneshot::channel();
            self.notes.send(Note::Flush(done)).await.is_ok() && written.await.is_ok()
        };
        let trouble = |said: String| Err(Trouble::Log(PortError::transient(said)));
        match tokio::time::timeout(patience, written).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                trouble("the watcher's store has failed: it is read anew at the next start".to_owned())
            }
            Err(_) => {
                trouble(format!("the store has not caught up with the log within {} s", patience.as_secs()))
            }
        }
    }

    async fn is_own_block(&self, block: BlockRef) -> Result<bool, Trouble> {
        match self.tracker.block_at(block.height) {
            Some(own) => Ok(own == block),
            None => {
                let there = self.ports.source.at(block.height).await.map_err(Trouble::Source)?;
                Ok(there.is_some_and(|there| there.block == block))
            }
        }
    }

    async fn close(&self, part: &RescanPart) -> Result<(), Trouble> {
        let (chain, shard) = (self.config.chain.clone(), self.shared.shard);
        let (rescan, number) = (part.rescan, part.part);
        append_to_rescans(&self.ports, &self.shared, self.epoch, |rescans| {
            let open = rescans.to_apply(shard).any(|(other, _)| other == *part);
            open.then(|| {
                let since = rescans.since_after_applying(part, shard);
                RescanApplied { chain: chain.clone(), rescan, part: number, since }.into()
            })
        })
        .await
        .map_err(Trouble::Log)?;
        Ok(())
    }
}

/// The payments of a block that are not known to be in it. What is known of blocks from `leaves` up does not count, but
/// of this very block.
fn unknown_in(
    store: &dyn Store,
    at: BlockRef,
    leaves: Option<Height>,
    credits: Vec<Credit>,
) -> Result<Vec<Credit>, PortError> {
    let (several, mut unknown): (Vec<Credit>, Vec<Credit>) = credits.into_iter().partition(has_several_ways);
    let mut known = Vec::with_capacity(unknown.len());
    for credit in &unknown {
        known.push(known_block(store, &credit.key)? == Some(at.hash));
    }
    let mut known = known.into_iter();
    unknown.retain(|_| !known.next().unwrap_or(false));
    if several.is_empty() {
        return Ok(unknown);
    }
    let scripts = several.iter().map(|credit| credit.script.clone()).collect();
    let mut told = told_to(store, &scripts)?;
    told.retain(|one| one.block == at || leaves.is_none_or(|leaves| one.block.height < leaves));
    // A slot that was cut off has its whole length again.
    let whole: HashMap<Vec<u8>, &DepositKey> =
        several.iter().map(|credit| (mined_key(&credit.key), &credit.key)).collect();
    for one in &mut told {
        if let Some(key) = whole.get(&mined_key(&one.key)) {
            one.key = DepositKey::clone(key);
        }
    }
    let found = several.len();
    let left = untold(at, several, &told);
    if left.len() < found {
        tracing::debug!(block = %at.hash, found, left = left.len(), "found again, perhaps in another way");
    }
    unknown.extend(left);
    Ok(unknown)
}

/// Whether a payment may be known by another identity: one that names what it spends is not.
fn has_several_ways(credit: &Credit) -> bool {
    credit.inputs.is_empty()
}

fn scanned(found: FoundBlock) -> Scanned {
    let credit = |deposit: tally_events::Deposit| Credit {
        key: deposit.key,
        currency: deposit.currency,
        amount: deposit.amount,
        script: deposit.script,
        inputs: deposit.inputs,
        difference: deposit.difference,
    };
    Scanned {
        header: Header { block: found.block, prev: found.prev, time: found.time },
        credits: found.deposits.into_iter().map(credit).collect(),
        spends: Vec::new(),
        method: None,
        watched_through: Position::START,
    }
}

#[cfg(test)]
mod tests {
    use tally_ports::WriteBatch;
    use tally_testkit::{MemoryStore, script};
    use tally_tracker::Told;
    use tally_types::{BaseUnits, BlockHash, Difference, OutPoint, TxId};

    use super::*;
    use crate::addresses::{mined_value, paid_key};

    fn at(height: u64, branch: u8) -> BlockRef {
        BlockRef { height: Height::new(height), hash: BlockHash::from_display([branch; 32]) }
    }

    fn credit(txid: u8, slot: &str, to: u64, units: u128) -> Credit {
        Credit {
            key: DepositKey { txid: TxId::from_display([txid; 32]), slot: slot.to_owned() },
            currency: "ETH".parse().unwrap(),
            amount: BaseUnits::from_units(units),
            script: script(to),
            inputs: Vec::new(),
            difference: None,
        }
    }

    fn of_sum(credit: Credit, received: u128, since: u64) -> Credit {
        let received = BaseUnits::from_units(received);
        Credit { difference: Some(Difference { since: Height::new(since), received }), ..credit }
    }

    fn spending(mut credit: Credit) -> Credit {
        credit.inputs = vec![OutPoint { txid: TxId::from_display([5; 32]), vout: 0 }];
        credit
    }

    fn known(store: &MemoryStore, credit: &Credit, block: BlockRef) {
        let told = Told {
            key: credit.key.clone(),
            block,
            currency: credit.currency.clone(),
            amount: credit.amount,
            script: credit.script.clone(),
            since: credit.difference.map(|sum| sum.since),
        };
        let mut batch = WriteBatch::default();
        batch.put(mined_key(&told.key), mined_value(&told));
        batch.put(paid_key(&told), []);
        store.commit(batch).unwrap();
    }

    #[test]
    fn what_the_store_has_is_not_told_again() {
        let long = "0_".repeat(300);
        type Row = (&'static str, Vec<(Credit, BlockRef)>, Option<u64>, Vec<Credit>, Vec<Credit>);
        let sum = || of_sum(credit(9, "balance-1", 1, 10), 10, 5);
        let rows: Vec<Row> = vec![
            ("nothing is known", vec![], None, vec![credit(1, "0", 1, 5)], vec![credit(1, "0", 1, 5)]),
            (
                "of another block",
                vec![(credit(1, "0", 1, 5), at(9, 8))],
                None,
                vec![credit(1, "0", 1, 5)],
                vec![credit(1, "0", 1, 5)],
            ),
            (
                "a long slot",
                vec![(credit(1, &long, 1, 5), at(9, 9))],
                None,
                vec![credit(1, &long, 1, 5)],
                vec![],
            ),
            (
                "what names its inputs has one way",
                vec![(spending(credit(1, "0", 1, 5)), at(9, 9))],
                None,
                vec![spending(credit(2, "0", 1, 5)), spending(credit(1, "0", 1, 5))],
                vec![spending(credit(2, "0", 1, 5))],
            ),
            (
                "a part of the sum",
                vec![(credit(1, "0", 1, 4), at(5, 5))],
                None,
                vec![sum()],
                vec![of_sum(credit(9, "balance-1", 1, 6), 10, 5)],
            ),
            ("to another script", vec![(credit(1, "0", 2, 4), at(5, 5))], None, vec![sum()], vec![sum()]),
            (
                "in a block that leaves",
                vec![(credit(1, "0", 1, 4), at(9, 5))],
                Some(9),
                vec![sum()],
                vec![sum()],
            ),
            ("in a block that stays", vec![(credit(1, "0", 1, 10), at(8, 5))], Some(9), vec![sum()], vec![]),
            (
                "in the block that was cut off",
                vec![(credit(1, "0", 1, 10), at(9, 9))],
                Some(9),
                vec![sum()],
                vec![],
            ),
        ];
        for (name, told, leaves, found, expected) in rows {
            let store = MemoryStore::new();
            told.iter().for_each(|(credit, block)| known(&store, credit, *block));
            // A row that leads to nothing any more.
            let mut gone = WriteBatch::default();
            let (lost, block) = (credit(77, "0", 1, 3), at(9, 9));
            known(&store, &lost, block);
            gone.remove(mined_key(&lost.key));
            store.commit(gone).unwrap();
            let left = unknown_in(&store, at(9, 9), leaves.map(Height::new), found).unwrap();
            assert_eq!(left, expected, "{name}");
        }
    }
}
