//! The second pass: reads the transactions with hits and spends again and says all about them.
//! Each is read at most twice, so that no block costs more than a few walks.

use std::sync::Arc;

use hashbrown::HashSet;

use super::finder::{Found, InputAt, txid_start};
use super::{Hit, Options, Spend, is_hogex};
use crate::token::strip_token_prefix;
use crate::walk::{RawTx, Scope, Visitor, walk_again};
use crate::{OutPoint, WalkError};

/// Bits of the small filter over the ids of the hits.
const FILTER_BITS: usize = 1 << 14;

pub(super) struct Report {
    pub(super) hits: Vec<Hit>,
    pub(super) spends: Vec<Spend>,
}

impl Report {
    pub(super) fn of(
        bytes: &[u8],
        scope: Scope,
        found: Found<'_>,
        options: Options,
    ) -> Result<Self, WalkError> {
        let (outputs, mut inputs) = found.confirm(bytes);
        let mut hits = Vec::new();
        for (index, offset, outputs) in ByTransaction::new(&found.tx_offsets, &outputs) {
            let mut reader = HitReader::new(outputs, options);
            walk_again(bytes, offset, index, scope, &mut reader)?;
            hits.append(&mut reader.hits);
        }
        if !hits.is_empty() {
            inputs.extend(spends_of(&hits, bytes, &found.inputs));
            inputs.sort_unstable();
            inputs.dedup();
        }
        let mut spends = Vec::new();
        for (index, offset, inputs) in ByTransaction::new(&found.tx_offsets, &inputs) {
            let mut reader = SpendReader { wanted: inputs, vin: 0, spends: Vec::new() };
            walk_again(bytes, offset, index, scope, &mut reader)?;
            spends.append(&mut reader.spends);
        }
        Ok(Self { hits, spends })
    }
}

/// Offsets of the inputs, wherever they stand, that spend a hit of the same block.
fn spends_of(hits: &[Hit], bytes: &[u8], inputs: &[InputAt]) -> Vec<u32> {
    let created: HashSet<[u8; 36]> = hits.iter().map(|hit| hit.outpoint().to_bytes()).collect();
    let mut filter = vec![0_u64; FILTER_BITS / 64];
    let place = |txid_start: u32| {
        let bit = txid_start as usize % FILTER_BITS;
        (bit / 64, 1_u64 << (bit % 64))
    };
    for outpoint in &created {
        let (word, bit) = place(txid_start(outpoint));
        if let Some(word) = filter.get_mut(word) {
            *word |= bit;
        }
    }
    let may_spend = |input: &&InputAt| {
        let (word, bit) = place(input.txid_start);
        filter.get(word).is_some_and(|word| word & bit != 0)
    };
    let spends = |input: &&InputAt| {
        let tail = bytes.get(input.offset as usize..).unwrap_or_default();
        tail.first_chunk::<36>().is_some_and(|outpoint| created.contains(outpoint))
    };
    inputs.iter().filter(may_spend).filter(spends).map(|input| input.offset).collect()
}

/// Groups ascending offsets by the transaction they lie in: its index, its offset, and they.
struct ByTransaction<'a> {
    tx_offsets: &'a [u32],
    wanted: &'a [u32],
}

impl<'a> ByTransaction<'a> {
    const fn new(tx_offsets: &'a [u32], wanted: &'a [u32]) -> Self {
        Self { tx_offsets, wanted }
    }
}

impl<'a> Iterator for ByTransaction<'a> {
    type Item = (u32, u32, &'a [u32]);

    fn next(&mut self) -> Option<Self::Item> {
        let first = *self.wanted.first()?;
        let after = self.tx_offsets.partition_point(|offset| *offset <= first);
        let index = after.checked_sub(1)?;
        let offset = *self.tx_offsets.get(index)?;
        let end = self.tx_offsets.get(after).copied().unwrap_or(u32::MAX);
        let count = self.wanted.partition_point(|wanted| *wanted < end);
        let (within, rest) = self.wanted.split_at_checked(count)?;
        self.wanted = rest;
        Some((u32::try_from(index).ok()?, offset, within))
    }
}

/// Reads all about the wanted outputs of one transaction.
struct HitReader<'w> {
    /// Ascending offsets of scripts, behind token prefixes.
    wanted: &'w [u32],
    options: Options,
    vout: u32,
    inputs: Vec<OutPoint>,
    hits: Vec<Hit>,
}

impl<'w> HitReader<'w> {
    const fn new(wanted: &'w [u32], options: Options) -> Self {
        Self { wanted, options, vout: 0, inputs: Vec::new(), hits: Vec::new() }
    }
}

impl<'a> Visitor<'a> for HitReader<'_> {
    fn input(&mut self, outpoint: &'a [u8; 36], _offset: u32) {
        self.inputs.push(OutPoint::from_bytes(outpoint));
    }

    fn output(&mut self, value: u64, script: &'a [u8], offset: u32) {
        let vout = self.vout;
        self.vout = vout.wrapping_add(1);
        let Some((wanted, rest)) = self.wanted.split_first() else { return };
        // A wanted offset lies within its output's script, or at its end if that is empty.
        if u64::from(*wanted) > u64::from(offset) + script.len() as u64 {
            return;
        }
        self.wanted = rest;
        let behind = if self.options.strip_token_prefix { strip_token_prefix(script) } else { None };
        self.hits.push(Hit {
            tx_index: 0,
            txid: [0; 32],
            vout,
            value,
            script: behind.unwrap_or(script).to_vec(),
            carries_token: behind.is_some(),
            is_hogex: false,
            is_coinbase: false,
            inputs: Arc::new([]),
        });
    }

    fn end_tx(&mut self, tx: &RawTx<'a>) {
        let txid = tx.txid();
        let inputs: Arc<[OutPoint]> = std::mem::take(&mut self.inputs).into();
        for hit in &mut self.hits {
            hit.tx_index = tx.index;
            hit.txid = txid;
            hit.is_hogex = is_hogex(tx);
            hit.is_coinbase = tx.is_coinbase();
            hit.inputs = Arc::clone(&inputs);
        }
    }
}

/// Reads all about the wanted inputs of one transaction.
struct SpendReader<'w> {
    /// Ascending offsets of outpoints.
    wanted: &'w [u32],
    vin: u32,
    spends: Vec<Spend>,
}

impl<'a> Visitor<'a> for SpendReader<'_> {
    fn input(&mut self, outpoint: &'a [u8; 36], offset: u32) {
        let vin = self.vin;
        self.vin = vin.wrapping_add(1);
        let Some((wanted, rest)) = self.wanted.split_first() else { return };
        if *wanted != offset {
            return;
        }
        self.wanted = rest;
        let outpoint = OutPoint::from_bytes(outpoint);
        self.spends.push(Spend { tx_index: 0, txid: [0; 32], vin, outpoint });
    }

    fn end_tx(&mut self, tx: &RawTx<'a>) {
        if self.spends.is_empty() {
            return;
        }
        let txid = tx.txid();
        for spend in &mut self.spends {
            spend.tx_index = tx.index;
            spend.txid = txid;
        }
    }
}
