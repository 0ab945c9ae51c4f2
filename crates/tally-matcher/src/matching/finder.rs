//! The first pass: offsets of the outputs and inputs that the filter lets through.
//!
//! A lookup in a large filter is a cache miss. So each key is given to the processor as a hint and
//! looked up 32 keys later, when its line has come: the misses overlap, and the walk goes on
//! meanwhile. This is what keeps the speed at ten million watched scripts near that of the walk.

use super::Options;
use crate::token::strip_token_prefix;
use crate::walk::Visitor;
use crate::watch_set::{Item, WatchSet};

/// Keys on their way, a power of two.
const RING: usize = 32;
/// Few transactions take less than this, and few inputs.
const BYTES_PER_TX: usize = 256;
const BYTES_PER_INPUT: usize = 128;
/// The `len` of a probe that is an outpoint; no script is as long.
const OUTPOINT: u32 = u32::MAX;

/// Something to look up: its key and where it stands.
#[derive(Debug, Clone, Copy, Default)]
struct Probe {
    key: u64,
    offset: u32,
    len: u32,
}

pub(super) struct Finder<'s> {
    set: &'s WatchSet,
    options: Options,
    ring: [Probe; RING],
    pushed: usize,
    candidates: Vec<Probe>,
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
    pub(super) set: &'s WatchSet,
    candidates: Vec<Probe>,
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
            options,
            ring: [Probe::default(); RING],
            pushed: 0,
            candidates: Vec::new(),
            tx_offsets: Vec::with_capacity(len / BYTES_PER_TX),
            inputs: Vec::with_capacity(len / BYTES_PER_INPUT),
        }
    }

    /// Looks up what is still on its way.
    pub(super) fn finish(mut self) -> Found<'s> {
        let ring = self.ring;
        for number in self.pushed.saturating_sub(RING)..self.pushed {
            if let Some(probe) = ring.get(number % RING) {
                self.look_up(*probe);
            }
        }
        Found { set: self.set, candidates: self.candidates, tx_offsets: self.tx_offsets, inputs: self.inputs }
    }

    #[inline(always)]
    fn push(&mut self, probe: Probe) {
        self.set.prefetch(probe.key);
        let Some(slot) = self.ring.get_mut(self.pushed % RING) else { return };
        let due = core::mem::replace(slot, probe);
        if self.pushed >= RING {
            self.look_up(due);
        }
        self.pushed = self.pushed.wrapping_add(1);
    }

    #[inline(always)]
    fn look_up(&mut self, probe: Probe) {
        if self.set.may_contain(probe.key) {
            self.candidates.push(probe);
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
        if let Some(key) = self.set.key_of(Item::outpoint(outpoint)) {
            self.push(Probe { key, offset, len: OUTPOINT });
        }
    }

    #[inline(always)]
    fn output(&mut self, _value: u64, script: &'a [u8], offset: u32) {
        let behind = if self.options.strip_token_prefix { strip_token_prefix(script) } else { None };
        let (script, offset) = match behind {
            // Both are parts of one block, whose offsets fit 32 bits.
            Some(behind) => (behind, offset.wrapping_add((script.len() - behind.len()) as u32)),
            None => (script, offset),
        };
        if let Some(key) = self.set.key_of(Item::script(script)) {
            self.push(Probe { key, offset, len: script.len() as u32 });
        }
    }
}

impl Found<'_> {
    /// Compares every candidate byte by byte. Offsets of the outputs' scripts (behind a token
    /// prefix) and of the inputs that are watched.
    pub(super) fn confirm(&self, bytes: &[u8]) -> (Vec<u32>, Vec<u32>) {
        let (mut outputs, mut inputs) = (Vec::new(), Vec::new());
        for probe in &self.candidates {
            let tail = bytes.get(probe.offset as usize..).unwrap_or_default();
            let (item, offsets) = if probe.len == OUTPOINT {
                (tail.first_chunk::<36>().map(Item::outpoint), &mut inputs)
            } else {
                (tail.get(..probe.len as usize).map(Item::script), &mut outputs)
            };
            if item.is_some_and(|item| self.set.contains_with_key(item, probe.key)) {
                offsets.push(probe.offset);
            }
        }
        (outputs, inputs)
    }
}

/// The first 32 bits of an outpoint's id.
#[inline(always)]
pub(super) fn txid_start(outpoint: &[u8; 36]) -> u32 {
    outpoint.first_chunk::<4>().map_or(0, |start| u32::from_le_bytes(*start))
}
