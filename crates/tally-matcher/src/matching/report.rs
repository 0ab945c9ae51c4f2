//! The second pass: reads the transactions with hits and spends again and says all about them.
//! Each is read at most twice, so that no block costs more than a few walks.

use std::sync::Arc;

use hashbrown::HashSet;

use super::finder::{Found, TxAt, tag};
use super::{Hit, Options, Spend, is_hogex};
use crate::token::strip_token_prefix;
use crate::walk::{RawTx, Scope, Visitor, walk_again};
use crate::{OutPoint, WalkError};

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
        let (outputs, watched) = found.confirm(bytes);
        let mut hits: Vec<Hit> = Vec::new();
        for (index, offset, outputs) in ByTransaction::new(&found.transactions, &outputs) {
            let mut reader = HitReader::new(outputs, options);
            walk_again(bytes, offset, index, scope, &mut reader)?;
            hits.append(&mut reader.hits);
        }
        let created: HashSet<[u8; 36]> = hits.iter().map(|hit| hit.outpoint().to_bytes()).collect();
        let mut spending: Vec<u32> =
            ByTransaction::new(&found.transactions, &watched).map(|(index, ..)| index).collect();
        spending.extend(may_spend(&created, &found));
        spending.sort_unstable();
        spending.dedup();
        let mut reader = SpendReader { watched: &watched, created: &created, vin: 0, found: Vec::new() };
        let mut spends = Vec::new();
        for index in spending {
            let Some(TxAt { offset, .. }) = found.transactions.get(index as usize) else { continue };
            reader.vin = 0;
            let mut read = WithId { reader: &mut reader, txid: txid_among(&hits, index) };
            walk_again(bytes, *offset, index, scope, &mut read)?;
            if let Some(txid) = read.txid {
                let whole = |(vin, outpoint)| Spend { tx_index: index, txid, vin, outpoint };
                spends.extend(reader.found.drain(..).map(whole));
            }
        }
        Ok(Self { hits, spends })
    }
}

/// The id of a transaction that has a hit.
fn txid_among(hits: &[Hit], index: u32) -> Option<[u8; 32]> {
    let at = hits.binary_search_by_key(&index, |hit| hit.tx_index).ok()?;
    hits.get(at).map(|hit| hit.txid)
}

/// The transactions, wherever they stand, that may spend an output created in the same block.
fn may_spend(created: &HashSet<[u8; 36]>, found: &Found<'_>) -> Vec<u32> {
    if created.is_empty() {
        return Vec::new();
    }
    let mut tags = [0_u64; 1024];
    for outpoint in created {
        let tag = usize::from(tag(outpoint));
        if let Some(word) = tags.get_mut(tag / 64) {
            *word |= 1 << (tag % 64);
        }
    }
    let is_set = |tag: u16| tags.get(usize::from(tag / 64)).is_some_and(|word| (word >> (tag % 64)) & 1 == 1);
    let numbered = (0_u32..).zip(&found.input_tags).filter(|(_, tag)| is_set(**tag));
    let transaction = |(number, _): (u32, &u16)| {
        let after = found.transactions.partition_point(|at| at.first_input <= number);
        u32::try_from(after.checked_sub(1)?).ok()
    };
    numbered.filter_map(transaction).collect()
}

/// Groups ascending offsets by the transaction they lie in: its index, its offset, and they.
struct ByTransaction<'a> {
    transactions: &'a [TxAt],
    wanted: &'a [u32],
}

impl<'a> ByTransaction<'a> {
    const fn new(transactions: &'a [TxAt], wanted: &'a [u32]) -> Self {
        Self { transactions, wanted }
    }
}

impl<'a> Iterator for ByTransaction<'a> {
    type Item = (u32, u32, &'a [u32]);

    fn next(&mut self) -> Option<Self::Item> {
        let first = *self.wanted.first()?;
        let after = self.transactions.partition_point(|at| at.offset <= first);
        let index = after.checked_sub(1)?;
        let offset = self.transactions.get(index)?.offset;
        let end = self.transactions.get(after).map_or(u32::MAX, |at| at.offset);
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

/// Finds the inputs of one transaction that spend what is watched or was created in the block.
struct SpendReader<'w> {
    /// Ascending offsets of outpoints in this and later transactions.
    watched: &'w [u32],
    created: &'w HashSet<[u8; 36]>,
    vin: u32,
    found: Vec<(u32, OutPoint)>,
}

/// Takes the transaction's id on the way, if it has a spend and the id is not known yet.
struct WithId<'r, 'w> {
    reader: &'r mut SpendReader<'w>,
    txid: Option<[u8; 32]>,
}

impl<'a> Visitor<'a> for WithId<'_, '_> {
    fn input(&mut self, outpoint: &'a [u8; 36], offset: u32) {
        let reader = &mut *self.reader;
        let vin = reader.vin;
        reader.vin = vin.wrapping_add(1);
        let mut is_spend = reader.created.contains(outpoint);
        if let Some((first, rest)) = reader.watched.split_first()
            && *first == offset
        {
            reader.watched = rest;
            is_spend = true;
        }
        if is_spend {
            reader.found.push((vin, OutPoint::from_bytes(outpoint)));
        }
    }

    fn end_tx(&mut self, tx: &RawTx<'a>) {
        if self.txid.is_none() && !self.reader.found.is_empty() {
            self.txid = Some(tx.txid());
        }
    }
}
