//! A look at the mempool.

use std::collections::HashMap;

use tally_ports::MempoolDiff;
use tally_tracker::{Input, Snapshot};
use tally_types::{Timestamp, TxId};

use crate::convert;
use crate::trouble::Trouble;
use crate::worker::Worker;

impl Worker {
    /// Looks at the mempool at the tip. False if the tip moved meanwhile, so that nothing can be said.
    pub(crate) async fn look_at_mempool(&mut self) -> Result<bool, Trouble> {
        let Some(tip) = self.tracker.tip() else { return Ok(false) };
        let held_at = self.ports.clock.now();
        let seen =
            self.ports.source.mempool(&self.known, &self.shared.watch).await.map_err(Trouble::Source)?;
        let Some(diff) = seen else {
            let now = self.ports.source.tip().await.map_err(Trouble::Source)?;
            return Ok(now.block == tip);
        };
        if diff.tip != tip.hash {
            return Ok(false);
        }
        let gone = self.memory.observe(&self.tracker, &diff.present, held_at);
        self.first_held.retain(|txid, _| diff.present.contains(txid));
        for txid in &diff.present {
            self.first_held.entry(*txid).or_insert(held_at);
        }
        let MempoolDiff { tip, present, credits, spends } = diff;
        let (credits, spends) = (convert::credits(credits), convert::spends(&spends));
        let snapshot =
            Snapshot { tip, credits: &credits, spends: &spends, first_held: &self.first_held, gone: &gone };
        let facts = self.tracker.decide(Input::Mempool(snapshot), held_at)?;
        self.append(facts).await?;
        self.known = present;
        Ok(true)
    }

    /// Looks at everything in the mempool again, for addresses that were learned late. False if the tip moved.
    pub(crate) async fn look_again(&mut self, watch: &tally_ports::SharedWatch) -> Result<bool, Trouble> {
        let Some(tip) = self.tracker.tip() else { return Ok(false) };
        let now: Timestamp = self.ports.clock.now();
        let seen = self.ports.source.mempool(&Default::default(), watch).await.map_err(Trouble::Source)?;
        let Some(diff) = seen else {
            let now = self.ports.source.tip().await.map_err(Trouble::Source)?;
            return Ok(now.block == tip);
        };
        if diff.tip != tip.hash {
            return Ok(false);
        }
        let (credits, spends) = (convert::credits(diff.credits), convert::spends(&diff.spends));
        let first_held: HashMap<TxId, Timestamp> = credits
            .iter()
            .filter_map(|credit| Some((credit.key.txid, *self.first_held.get(&credit.key.txid)?)))
            .collect();
        let snapshot = Snapshot {
            tip: diff.tip,
            credits: &credits,
            spends: &spends,
            first_held: &first_held,
            gone: &[],
        };
        let facts = self.tracker.decide(Input::Mempool(snapshot), now)?;
        self.append(facts).await?;
        Ok(true)
    }
}
