//! The first pass: offsets of the outputs and inputs that the filters let through.

use super::Options;
use super::lane::{Lane, Place};
use crate::token::strip_token_prefix;
use crate::walk::Visitor;
use crate::watch_set::{Secret, WatchSet};

/// Few transactions take less than this, and few inputs.
const BYTES_PER_TX: usize = 256;
const BYTES_PER_INPUT: usize = 128;

pub(super) struct Finder<'s> {
    set: &'s WatchSet,
    secret: Secret,
    strip_token_prefix: bool,
    watches_outpoints: bool,
    outputs: Lane<'s>,
    spends: Lane<'s>,
    tx_offsets: Vec<u32>,
    inputs: Vec<InputAt>,
}

/// An input in eight bytes: 32 bits of the id it spends and its offset.
#[derive(Debug, Clone, Copy)]
pub(super) struct InputAt {
    pub(super) txid_start: u32,
    pub(super) offset: u32,
}

/// What the first pass leaves; all in the order of the bytes.
pub(super) struct Found<'s> {
    set: &'s WatchSet,
    outputs: Vec<Place>,
    spends: Vec<Place>,
    /// Where each transaction begins.
    pub(super) tx_offsets: Vec<u32>,
    /// Every input.
    pub(super) inputs: Vec<InputAt>,
}

impl<'s> Finder<'s> {
    /// For `len` bytes; room is made for as many transactions and inputs as they usually have.
    pub(super) fn new(set: &'s WatchSet, options: Options, len: usize) -> Self {
        Self {
            set,
            secret: set.secret(),
            strip_token_prefix: options.strip_token_prefix,
            watches_outpoints: set.outpoint_count() > 0,
            outputs: Lane::new(set.script_filter()),
            spends: Lane::new(set.outpoint_filter()),
            tx_offsets: Vec::with_capacity(len / BYTES_PER_TX),
            inputs: Vec::with_capacity(len / BYTES_PER_INPUT),
        }
    }

    /// Looks up what is still on its way.
    pub(super) fn finish(self) -> Found<'s> {
        Found {
            set: self.set,
            outputs: self.outputs.finish(),
            spends: self.spends.finish(),
            tx_offsets: self.tx_offsets,
            inputs: self.inputs,
        }
    }
}

impl<'a> Visitor<'a> for Finder<'_> {
    #[inline(always)]
    fn begin_tx(&mut self, _index: u32, offset: u32) {
        self.tx_offsets.push(offset);
    }

    #[inline(always)]
    fn input(&mut self, outpoint: &'a [u8; 36], offset: u32) {
        self.inputs.push(InputAt { txid_start: txid_start(outpoint), offset });
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
        let is_watched_script = |place: &&Place| {
            let tail = bytes.get(place.offset as usize..).unwrap_or_default();
            tail.get(..place.len as usize).is_some_and(|script| self.set.contains_script(script))
        };
        let is_watched_outpoint = |place: &&Place| {
            let tail = bytes.get(place.offset as usize..).unwrap_or_default();
            tail.first_chunk().is_some_and(|outpoint| self.set.contains_raw_outpoint(outpoint))
        };
        let outputs = self.outputs.iter().filter(is_watched_script).map(|place| place.offset);
        let spends = self.spends.iter().filter(is_watched_outpoint).map(|place| place.offset);
        (outputs.collect(), spends.collect())
    }
}

/// The first 32 bits of an outpoint's id.
#[inline(always)]
pub(super) fn txid_start(outpoint: &[u8; 36]) -> u32 {
    outpoint.first_chunk::<4>().map_or(0, |start| u32::from_le_bytes(*start))
}
