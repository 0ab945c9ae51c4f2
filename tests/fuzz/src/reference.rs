//! What should be found: everything compared with everything.

use std::collections::HashSet;

use tally_matcher::{Hit, Options, OutPoint, Spend, WatchSet};

use super::parse::Tx;
use super::token;

/// What is watched, as lists.
#[derive(Debug)]
pub(crate) struct Watched {
    scripts: HashSet<Vec<u8>>,
    outpoints: HashSet<OutPoint>,
}

impl Watched {
    /// Some of what the transactions have, and things that nearly are what they have.
    pub(crate) fn some_of(txs: &[Tx], control: u8) -> Self {
        let (mut scripts, mut outpoints) = (HashSet::new(), HashSet::new());
        let step = usize::from(control >> 1) % 7 + 1;
        for (number, (_, script)) in txs.iter().flat_map(|tx| &tx.outputs).enumerate() {
            let behind = token::behind(script).unwrap_or(script).to_vec();
            match number % step {
                0 => scripts.insert(if number % 2 == 0 { behind } else { script.clone() }),
                1 => scripts.insert(nearly(script, number)),
                _ => false,
            };
        }
        for (number, outpoint) in txs.iter().flat_map(|tx| &tx.inputs).enumerate() {
            if control & 0x80 != 0 && number % step == 0 {
                outpoints.insert(*outpoint);
                outpoints.insert(OutPoint { txid: outpoint.txid, vout: outpoint.vout ^ 1 });
            }
        }
        Self { scripts, outpoints }
    }

    /// As the matcher has it, after some was added and taken away again.
    pub(crate) fn set(&self) -> WatchSet {
        let mut set = WatchSet::new(0x5eed);
        let others: HashSet<Vec<u8>> =
            self.scripts.iter().map(|script| [script.as_slice(), &[1]].concat()).collect();
        for script in others.union(&self.scripts) {
            assert_eq!(set.insert_script(script), Ok(true));
        }
        for other in others.difference(&self.scripts) {
            assert!(set.remove_script(other));
        }
        for outpoint in &self.outpoints {
            assert_eq!(set.insert_outpoint(outpoint), Ok(true));
        }
        assert_eq!((set.script_count(), set.outpoint_count()), (self.scripts.len(), self.outpoints.len()));
        set
    }
}

/// The same script but for one bit.
fn nearly(script: &[u8], number: usize) -> Vec<u8> {
    let mut script = script.to_vec();
    let at = number.checked_rem(script.len()).unwrap_or(0);
    if let Some(byte) = script.get_mut(at) {
        *byte ^= 1;
    }
    script
}

/// Panics unless exactly the outputs to watched scripts are found, and all about them is true.
pub(crate) fn assert_same_hits(hits: &[Hit], txs: &[Tx], watched: &Watched, options: Options) {
    let mut hits = hits.iter();
    for (index, tx) in txs.iter().enumerate() {
        for (vout, (value, whole)) in tx.outputs.iter().enumerate() {
            let behind = if options.strip_token_prefix { token::behind(whole) } else { None };
            let script = behind.unwrap_or(whole);
            if !watched.scripts.contains(script) {
                continue;
            }
            let Some(hit) = hits.next() else { panic!("output {vout} of transaction {index} was not found") };
            assert_eq!((hit.tx_index as usize, hit.vout as usize), (index, vout));
            assert_eq!((hit.txid, hit.value, hit.script.as_slice()), (tx.txid, *value, script));
            assert_eq!(hit.carries_token, behind.is_some());
            assert_eq!((hit.is_hogex, hit.is_coinbase), (tx.is_hogex, tx.is_coinbase()));
            assert_eq!(hit.inputs.as_ref(), tx.inputs.as_slice());
        }
    }
    assert_eq!(hits.next(), None, "more was found than there is");
}

/// Panics unless exactly the inputs are found that spend what is watched or one of the hits.
pub(crate) fn assert_same_spends(spends: &[Spend], hits: &[Hit], txs: &[Tx], watched: &Watched) {
    let created: HashSet<OutPoint> = hits.iter().map(Hit::outpoint).collect();
    let mut expected = Vec::new();
    for (index, tx) in (0..).zip(txs) {
        for (vin, outpoint) in (0..).zip(&tx.inputs) {
            if watched.outpoints.contains(outpoint) || created.contains(outpoint) {
                expected.push(Spend { tx_index: index, txid: tx.txid, vin, outpoint: *outpoint });
            }
        }
    }
    assert_eq!(spends, expected);
}
