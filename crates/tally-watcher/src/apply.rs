//! What a rescan found becomes the shard's own: only its writer can say that a block is on its branch.
//!
//! Not here: matching (`rescan`).

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use tally_events::{Fact, FoundBlock, RescanApplied};
use tally_ports::{PortError, Store};
use tally_tracker::{Credit, Header, Input, RescanPart, Scanned};
use tally_types::{BlockHash, BlockRef, Position};
use tokio::sync::oneshot;

use crate::addresses::mined_key;
use crate::convert;
use crate::persist::{MinedRow, Note, known_block, known_in};
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
            self.let_store_catch_up().await?;
            let (store, at) = (self.ports.store.clone(), block.header.block.hash);
            let credits = std::mem::take(&mut block.credits);
            let unknown = tokio::task::spawn_blocking(move || unknown_in(&*store, at, credits));
            let unknown = unknown.await.map_err(|error| {
                Trouble::Log(PortError::transient("a read of the store was cut short").because(error))
            })?;
            block.credits = unknown.map_err(Trouble::Log)?;
        }
        self.say(Input::Found(&block), self.ports.clock.now()).await
    }

    /// Waits until the store holds what this worker has told of. With one that has failed nothing is found, or a payment
    /// might be told of twice; a start reads it anew.
    async fn let_store_catch_up(&self) -> Result<(), Trouble> {
        let written = async {
            self.shared.wait_for_note(self.last).await;
            let (done, written) = oneshot::channel();
            self.notes.send(Note::Flush(done)).await.is_ok() && written.await.is_ok()
        };
        let trouble = |said| Err(Trouble::Log(PortError::transient(said)));
        match tokio::time::timeout(CATCH_UP, written).await {
            Ok(true) => Ok(()),
            Ok(false) => trouble("the watcher's store has failed: it is read anew at the next start"),
            Err(_) => trouble("the store has not caught up with the log within 5 s"),
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

/// The payments that are not known to be in a block.
///
/// Where a chain has several ways to find payments, each has its own identities. So where one is known to a script that
/// is not among those found now, the block was read in another way before, and what was paid to the script is told.
fn unknown_in(store: &dyn Store, at: BlockHash, credits: Vec<Credit>) -> Result<Vec<Credit>, PortError> {
    let found: BTreeSet<Vec<u8>> = credits.iter().map(|credit| mined_key(&credit.key)).collect();
    let mut unknown = Vec::new();
    for credit in credits {
        if known_block(store, &credit.key)? != Some(at) {
            unknown.push(credit);
        }
    }
    if unknown.iter().any(has_several_ways) {
        let mut known = known_in(store, at)?;
        known.retain(|(key, _, _)| !found.contains(key));
        unknown.retain(|credit| {
            let told =
                |(_, script, currency): &MinedRow| *script == credit.script && *currency == credit.currency;
            let told = has_several_ways(credit) && known.iter().any(told);
            if told {
                tracing::warn!(block = %at, deposit = %credit.key, "was told before, found in another way");
            }
            !told
        });
    }
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
    use tally_types::{BaseUnits, DepositKey, OutPoint, TxId};

    use super::*;
    use crate::addresses::{Mined, mined_value};

    fn credit(txid: u8, slot: &str, to: u64, currency: &str) -> Credit {
        Credit {
            key: DepositKey { txid: TxId::from_display([txid; 32]), slot: slot.to_owned() },
            currency: currency.parse().unwrap(),
            amount: BaseUnits::from_units(10),
            script: script(to),
            inputs: Vec::new(),
        }
    }

    #[test]
    fn a_block_that_is_read_in_another_way_credits_nothing_twice() {
        let at = BlockHash::from_display([9; 32]);
        let trace = || vec![credit(1, "value", 1, "ETH"), credit(2, "0-1", 1, "ETH")];
        let balance = || vec![credit(1, "value", 1, "ETH"), credit(9, "balance-1", 1, "ETH")];
        let plus = |mut credits: Vec<Credit>, more: Credit| {
            credits.push(more);
            credits
        };
        let spending = |mut credit: Credit| {
            credit.inputs = vec![OutPoint { txid: TxId::from_display([5; 32]), vout: 0 }];
            credit
        };
        type Row = (&'static str, Vec<Credit>, Vec<Credit>, Vec<Credit>);
        let rows: [Row; 8] = [
            ("nothing is known", vec![], trace(), trace()),
            ("the same way", trace(), trace(), vec![]),
            ("balances after traces", trace(), balance(), vec![]),
            ("traces after balances", balance(), trace(), vec![]),
            (
                "by transactions alone before",
                vec![credit(1, "value", 1, "ETH")],
                trace(),
                vec![credit(2, "0-1", 1, "ETH")],
            ),
            (
                "another address is news",
                balance(),
                plus(trace(), credit(3, "0-2", 2, "ETH")),
                vec![credit(3, "0-2", 2, "ETH")],
            ),
            (
                "another currency is news",
                balance(),
                plus(trace(), credit(3, "log-1", 1, "USDT")),
                vec![credit(3, "log-1", 1, "USDT")],
            ),
            (
                "what names its inputs has one way",
                vec![spending(credit(1, "0", 1, "BTC"))],
                vec![spending(credit(2, "0", 1, "BTC"))],
                vec![spending(credit(2, "0", 1, "BTC"))],
            ),
        ];
        for (name, known, found, expected) in rows {
            let store = MemoryStore::new();
            let mut batch = WriteBatch::default();
            let elsewhere = credit(7, "0-7", 1, "ETH");
            for (credit, block) in
                known.into_iter().map(|one| (one, at)).chain([(elsewhere, BlockHash::from_display([8; 32]))])
            {
                let Credit { key, currency, amount, script, .. } = credit;
                let row = mined_key(&key);
                batch.put(row, mined_value(&Mined { key, block, currency, amount, script }));
            }
            store.commit(batch).unwrap();
            assert_eq!(unknown_in(&store, at, found).unwrap(), expected, "{name}");
        }
    }
}
