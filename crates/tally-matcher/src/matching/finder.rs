//! The first pass: offsets of the outputs and inputs that the filters let through.

use super::Options;
use super::lane::{Lane, Place};
use crate::token::strip_token_prefix;
use crate::walk::Visitor;
use crate::watch_set::{Secret, WatchSet};

/// Few transactions take less than this, and few inputs.
const BYTES_PER_TX: usize = 400;
const BYTES_PER_INPUT: usize = 140;

pub(super) struct Finder<'s> {
    set: &'s WatchSet,
    secret: Secret,
    strip_token_prefix: bool,
    watches_outpoints: bool,
    outputs: Lane<'s>,
    spends: Lane<'s>,
    transactions: Vec<TxAt>,
    input_tags: Vec<u16>,
    input_count: u32,
}

/// Where a transaction begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct TxAt {
    pub(super) offset: u32,
    /// Number of inputs in the block before its own.
    pub(super) first_input: u32,
}

/// What the first pass leaves; all in the order of the bytes.
pub(super) struct Found<'s> {
    set: &'s WatchSet,
    outputs: Vec<Place>,
    spends: Vec<Place>,
    pub(super) transactions: Vec<TxAt>,
    /// Of every input the tag of the id it spends.
    pub(super) input_tags: Vec<u16>,
}

impl<'s> Finder<'s> {
    /// Room is made for as many transactions and inputs as `len` bytes usually have.
    pub(super) fn new(set: &'s WatchSet, options: Options, len: usize) -> Self {
        Self {
            set,
            secret: set.secret(),
            strip_token_prefix: options.strip_token_prefix,
            watches_outpoints: set.outpoint_count() > 0,
            outputs: Lane::new(set.script_filter()),
            spends: Lane::new(set.outpoint_filter()),
            transactions: Vec::with_capacity(len / BYTES_PER_TX),
            input_tags: Vec::with_capacity(len / BYTES_PER_INPUT),
            input_count: 0,
        }
    }

    /// Looks up what is still on its way.
    pub(super) fn finish(self) -> Found<'s> {
        Found {
            set: self.set,
            outputs: self.outputs.finish(),
            spends: self.spends.finish(),
            transactions: self.transactions,
            input_tags: self.input_tags,
        }
    }
}

/// The bytes of a place: within a block that was walked, so that it has them.
#[inline(always)]
fn slice(bytes: &[u8], place: Place) -> &[u8] {
    let start = place.offset as usize;
    bytes.get(start..start.wrapping_add(place.len as usize)).unwrap_or_default()
}

impl<'a> Visitor<'a> for Finder<'_> {
    #[inline(always)]
    fn begin_tx(&mut self, _index: u32, offset: u32) {
        self.transactions.push(TxAt { offset, first_input: self.input_count });
    }

    #[inline(always)]
    fn input(&mut self, outpoint: &'a [u8; 36], offset: u32) {
        self.input_count = self.input_count.wrapping_add(1);
        self.input_tags.push(tag(outpoint));
        if self.watches_outpoints {
            self.spends.push(self.secret.outpoint_key(outpoint), Place { offset, len: 36 });
        }
    }

    #[inline(always)]
    fn output(&mut self, _value: u64, script: &'a [u8], offset: u32) {
        let behind = if self.strip_token_prefix { strip_token_prefix(script) } else { None };
        let (script, offset) = match behind {
            // Both are parts of one block, whose offsets fit 32 bits.
            Some(behind) => (behind, offset.wrapping_add((script.len() - behind.len()) as u32)),
            None => (script, offset),
        };
        self.outputs.push(self.secret.script_key(script), Place { offset, len: script.len() as u32 });
    }
}

impl Found<'_> {
    /// Compares every candidate byte by byte. Offsets of the outputs' scripts (behind a token
    /// prefix) and of the inputs that are watched.
    pub(super) fn confirm(&self, bytes: &[u8]) -> (Vec<u32>, Vec<u32>) {
        let is_watched_script = |place: &&Place| self.set.contains_script(slice(bytes, **place));
        let is_watched_outpoint = |place: &&Place| {
            slice(bytes, **place).first_chunk().is_some_and(|at| self.set.contains_raw_outpoint(at))
        };
        let outputs = self.outputs.iter().filter(is_watched_script).map(|place| place.offset);
        let spends = self.spends.iter().filter(is_watched_outpoint).map(|place| place.offset);
        (outputs.collect(), spends.collect())
    }
}

/// The first 16 bits of an outpoint's id: enough to say of nearly every input that it spends none of
/// a few transactions.
#[inline(always)]
pub(super) fn tag(outpoint: &[u8; 36]) -> u16 {
    outpoint.first_chunk().map_or(0, |start| u16::from_le_bytes(*start))
}
