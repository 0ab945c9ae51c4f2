//! Walks a raw block or transaction of the Bitcoin family in place and shows its inputs and
//! outputs to a [`Visitor`]. It parses what nodes parse and no more: values, scripts and the
//! rules of consensus are not judged here.
//!
//! One dialect serves all chains, because what differs cannot be confused: a transaction whose
//! input count is zero is invalid everywhere, so that byte always introduces optional data.
//! - `01`: witnesses (BIP 144);
//! - `08`, `09`: Litecoin's MWEB (LIP 0003), whose data follow the witnesses. In a block only the
//!   HogEx has it, with the data byte `00`. The extension block behind the last transaction is not
//!   read.

use crate::ids::sha256d_of;
use crate::reader::{BARE_INPUT, Fault, Malformed, Reader};
use crate::{Header, OutPoint, WalkError};

const FLAG_WITNESS: u8 = 0x01;
const FLAG_MWEB: u8 = 0x08;
/// Version, no inputs, no outputs, lock time.
const TX_BYTES_MIN: usize = 10;

/// What a transaction carries of Litecoin's MimbleWimble extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mweb {
    /// Nothing: every transaction of the other chains, and most of Litecoin's.
    Absent,
    /// It is the HogEx, the last transaction of a Litecoin block: its outputs from the second on
    /// are peg-outs.
    HogEx,
    /// A mempool transaction with MWEB data, which were not read.
    Payload,
}

/// A transaction in place.
#[derive(Debug, Clone, Copy)]
pub struct RawTx<'a> {
    /// Its place in the block, the coinbase being 0; 0 for a transaction on its own.
    pub index: u32,
    /// Where its first byte stands.
    pub offset: u32,
    /// Its MWEB part.
    pub mweb: Mweb,
    version: &'a [u8; 4],
    /// Input count, inputs, output count, outputs.
    body: &'a [u8],
    lock_time: &'a [u8; 4],
}

impl RawTx<'_> {
    /// Double SHA-256 of the serialisation without witnesses and MWEB data, which is the id of
    /// every transaction except one for which [`RawTx::is_mweb_only`] holds.
    #[must_use]
    pub fn txid(&self) -> [u8; 32] {
        sha256d_of(&[self.version, self.body, self.lock_time])
    }

    /// Whether it has MWEB data and neither inputs nor outputs. Litecoin names such a transaction
    /// by the hash of its kernel, and no block holds it.
    #[must_use]
    pub fn is_mweb_only(&self) -> bool {
        self.mweb == Mweb::Payload && self.body == [0, 0]
    }

    /// Whether its only input is the null outpoint.
    #[must_use]
    pub fn is_coinbase(&self) -> bool {
        let Some((count, inputs)) = self.body.split_first() else { return false };
        let first = inputs.first_chunk::<36>().map(OutPoint::from_bytes);
        *count == 1 && first == Some(OutPoint::NULL)
    }
}

/// What a walk shows. For each transaction: `begin_tx`, its inputs, its outputs, `end_tx`.
///
/// Offsets count from the first byte of what is walked. A walk may fail after it has shown a part.
pub trait Visitor<'a> {
    /// A transaction begins at `offset`.
    #[inline(always)]
    fn begin_tx(&mut self, index: u32, offset: u32) {
        let _ = (index, offset);
    }

    /// An input spends `outpoint` (id in internal order, index in little-endian), which stands at
    /// `offset`. For a coinbase it is null.
    #[inline(always)]
    fn input(&mut self, outpoint: &'a [u8; 36], offset: u32) {
        let _ = (outpoint, offset);
    }

    /// An output of `value` base units; its script, with a token prefix if it has one, stands at
    /// `offset`.
    #[inline(always)]
    fn output(&mut self, value: u64, script: &'a [u8], offset: u32) {
        let _ = (value, script, offset);
    }

    /// The transaction is over and whole.
    #[inline(always)]
    fn end_tx(&mut self, tx: &RawTx<'a>) {
        let _ = tx;
    }
}

/// What a walk over a block leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// The block's header.
    pub header: Header,
    /// Number of transactions.
    pub tx_count: u32,
    /// Number of bytes behind the last transaction: an MWEB extension block on Litecoin, nothing
    /// on the other chains. They were not read.
    pub trailing_bytes: usize,
}

/// Whether a transaction is part of a block or stands alone, as in the mempool.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Block,
    Single,
}

/// Walks a block: header, transaction count, transactions.
///
/// # Errors
/// [`WalkError`] where a node would refuse the same bytes. Bytes behind the last transaction are no
/// error but are counted.
pub fn walk<'a, V: Visitor<'a>>(block: &'a [u8], visitor: &mut V) -> Result<Walked, WalkError> {
    refuse_too_large(block)?;
    whole_block(block, visitor).map_err(|Malformed| reason(block, whole_block(block, &mut Nobody)))
}

/// Walks one transaction that stands alone, as `getrawtransaction` gives it.
///
/// # Errors
/// [`WalkError`] where a node would refuse the same bytes, and where bytes follow. MWEB data are
/// not read: what stands between them and the lock time is not judged.
pub fn walk_tx<'a, V: Visitor<'a>>(tx: &'a [u8], visitor: &mut V) -> Result<(), WalkError> {
    refuse_too_large(tx)?;
    whole_transaction(tx, visitor).map_err(|Malformed| reason(tx, whole_transaction(tx, &mut Nobody)))
}

/// Walks again the one transaction that begins at `offset` of bytes already walked.
pub(crate) fn walk_again<'a, V: Visitor<'a>>(
    bytes: &'a [u8],
    offset: u32,
    index: u32,
    scope: Scope,
    visitor: &mut V,
) -> Result<(), WalkError> {
    let mut reader = Reader::starting_at(bytes, offset as usize);
    transaction(&mut reader, index, scope, &mut Habit::default(), visitor)
}

/// Sees nothing.
struct Nobody;

impl Visitor<'_> for Nobody {}

/// Why a second walk failed, as the first did.
#[cold]
fn reason<T>(bytes: &[u8], again: Result<T, WalkError>) -> WalkError {
    again.err().unwrap_or(WalkError::Truncated { offset: bytes.len() })
}

fn refuse_too_large(bytes: &[u8]) -> Result<(), WalkError> {
    // One less than the maximum, so that no script's length is `u32::MAX`.
    if u32::try_from(bytes.len()).is_ok_and(|len| len < u32::MAX) {
        Ok(())
    } else {
        Err(WalkError::TooLarge { len: bytes.len() })
    }
}

/// Offsets and counts within bytes whose length was found to fit 32 bits.
#[inline(always)]
fn narrow(offset: usize) -> u32 {
    offset as u32
}

/// Whether the inputs of the block were without scripts until now, so that it pays to guess that the
/// next ones are: where they are mixed, wrong guesses cost more than right ones gain. Changes no
/// result.
#[derive(Default)]
struct Habit {
    score: u32,
}

impl Habit {
    const BARE: u32 = 16;
    const MAX: u32 = 64;

    #[inline(always)]
    const fn is_bare(&self) -> bool {
        self.score >= Self::BARE
    }

    /// Of one transaction, whether all its inputs were bare.
    #[inline(always)]
    fn note(&mut self, bare: bool) {
        let (up, down) = (self.score.saturating_add(1).min(Self::MAX), self.score.saturating_sub(Self::BARE));
        self.score = if bare { up } else { down };
    }
}

#[inline(always)]
fn whole_block<'a, E: Fault, V: Visitor<'a>>(block: &'a [u8], visitor: &mut V) -> Result<Walked, E> {
    let mut reader = Reader::new(block);
    let header = Header::new(*reader.array::<80, E>()?);
    let count = reader.length()?;
    if count > reader.left() / TX_BYTES_MIN {
        return Err(reader.truncated());
    }
    let tx_count = narrow(count);
    let mut habit = Habit::default();
    for index in 0..tx_count {
        transaction(&mut reader, index, Scope::Block, &mut habit, visitor)?;
    }
    Ok(Walked { header, tx_count, trailing_bytes: reader.left() })
}

#[inline(always)]
fn whole_transaction<'a, E: Fault, V: Visitor<'a>>(tx: &'a [u8], visitor: &mut V) -> Result<(), E> {
    let mut reader = Reader::new(tx);
    transaction(&mut reader, 0, Scope::Single, &mut Habit::default(), visitor)?;
    match reader.left() {
        0 => Ok(()),
        count => Err(E::of(WalkError::TrailingBytes { count })),
    }
}

#[inline(always)]
fn transaction<'a, E: Fault, V: Visitor<'a>>(
    reader: &mut Reader<'a>,
    index: u32,
    scope: Scope,
    habit: &mut Habit,
    visitor: &mut V,
) -> Result<(), E> {
    let offset = narrow(reader.offset());
    let guess = habit.is_bare();
    let mut bare = true;
    visitor.begin_tx(index, offset);
    let version = reader.array::<4, E>()?;
    let mut flags = 0;
    let mut body = reader.offset();
    let mut inputs = reader.compact_size()?;
    if inputs == 0 {
        flags = optional_data_flags(reader)?;
        body = reader.offset();
        inputs = reader.compact_size()?;
    }
    for _ in 0..inputs {
        let offset = narrow(reader.offset());
        let start = reader.offset();
        let outpoint = if guess { reader.likely_bare_input::<E>()? } else { reader.input::<E>()? };
        bare &= reader.offset().wrapping_sub(start) == BARE_INPUT;
        visitor.input(outpoint, offset);
    }
    habit.note(bare);
    let outputs = reader.compact_size()?;
    for _ in 0..outputs {
        let value = u64::from_le_bytes(*reader.array::<8, E>()?);
        let script_len = reader.length()?;
        let offset = narrow(reader.offset());
        let script = reader.take(script_len)?;
        visitor.output(value, script, offset);
    }
    let body = reader.since(body);
    if flags & FLAG_WITNESS != 0 {
        skip_witnesses(reader, inputs, guess)?;
    }
    let mut mweb = Mweb::Absent;
    if flags & FLAG_MWEB != 0 {
        (mweb, *reader) = read_mweb(*reader, scope, outputs)?;
    }
    let lock_time = reader.array::<4, E>()?;
    visitor.end_tx(&RawTx { index, offset, mweb, version, body, lock_time });
    Ok(())
}

#[inline(always)]
fn optional_data_flags<E: Fault>(reader: &mut Reader<'_>) -> Result<u8, E> {
    let offset = reader.offset();
    let flag = reader.byte()?;
    if flag == 0 || flag & !(FLAG_WITNESS | FLAG_MWEB) != 0 {
        return Err(E::of(WalkError::UnknownFlag { offset, flag }));
    }
    Ok(flag)
}

#[inline(always)]
fn skip_witnesses<E: Fault>(reader: &mut Reader<'_>, inputs: u64, guess: bool) -> Result<(), E> {
    let mut any = false;
    for _ in 0..inputs {
        if guess && reader.skip_signature_and_key() {
            any = true;
            continue;
        }
        let items = reader.compact_size()?;
        any |= items != 0;
        for _ in 0..items {
            let len = reader.length()?;
            reader.take(len)?;
        }
    }
    if any { Ok(()) } else { Err(E::of(WalkError::SuperfluousWitness { offset: reader.offset() })) }
}

/// Reads the byte that says whether MWEB data follow, and passes over them: in a transaction on
/// its own they are all that stands before the last four bytes.
#[cold]
fn read_mweb<E: Fault>(mut reader: Reader<'_>, scope: Scope, outputs: u64) -> Result<(Mweb, Reader<'_>), E> {
    let offset = reader.offset();
    match (reader.byte()?, scope) {
        (0, _) if outputs == 0 => Err(E::of(WalkError::HogExWithoutOutputs { offset })),
        (0, _) => Ok((Mweb::HogEx, reader)),
        (1, Scope::Single) => {
            let Some(payload) = reader.left().checked_sub(4) else {
                return Err(reader.truncated());
            };
            reader.take(payload)?;
            Ok((Mweb::Payload, reader))
        }
        (byte, _) => Err(E::of(WalkError::UnexpectedMweb { offset, byte })),
    }
}

#[cfg(test)]
mod tests;
