//! A cursor over bytes that never reads past their end. No allocation, no copies.
//!
//! Every step of a walk waits for the one before, so a step must be a few instructions: where the
//! reader stands is one register, and what is wrong with the bytes is not said while they are read
//! fast ([`Malformed`]) but found out by reading them once more.

use crate::WalkError;

/// What a read that fails gives: the reason, or only that there is one.
pub(crate) trait Fault: Sized {
    /// Keeps as much of the reason as this type can hold.
    fn of(error: WalkError) -> Self;
}

impl Fault for WalkError {
    #[inline(always)]
    fn of(error: WalkError) -> Self {
        error
    }
}

/// The bytes are not what they should be, for a reason that was not kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Malformed;

impl Fault for Malformed {
    #[inline(always)]
    fn of(_error: WalkError) -> Self {
        Self
    }
}

/// Bytes of an input without a script.
pub(crate) const BARE_INPUT: usize = 41;

/// Some bytes and how many of them are read.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self::starting_at(bytes, 0)
    }

    /// A reader of the same bytes that begins at `offset`.
    pub(crate) const fn starting_at(bytes: &'a [u8], offset: usize) -> Self {
        Self { bytes, at: offset }
    }

    #[inline(always)]
    pub(crate) const fn offset(self) -> usize {
        self.at
    }

    /// Number of bytes not read yet.
    #[inline(always)]
    pub(crate) const fn left(self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// The bytes not read yet.
    #[inline(always)]
    pub(crate) fn rest(self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// What was read since `offset`.
    #[inline(always)]
    pub(crate) fn since(self, offset: usize) -> &'a [u8] {
        self.bytes.get(offset..self.at).unwrap_or_default()
    }

    #[inline(always)]
    pub(crate) fn truncated<E: Fault>(self) -> E {
        E::of(WalkError::Truncated { offset: self.at })
    }

    #[inline(always)]
    pub(crate) fn take<E: Fault>(&mut self, n: usize) -> Result<&'a [u8], E> {
        // What is behind the reader is within the bytes, so neither sum can overflow; but the
        // optimizer does not know, and this form costs it one comparison.
        let end = self.at.wrapping_add(n);
        let Some(taken) = self.bytes.get(self.at..end) else { return Err(self.truncated()) };
        self.at = end;
        Ok(taken)
    }

    #[inline(always)]
    pub(crate) fn array<const N: usize, E: Fault>(&mut self) -> Result<&'a [u8; N], E> {
        let end = self.at.wrapping_add(N);
        let taken = self.bytes.get(self.at..end).and_then(|taken| taken.first_chunk());
        let Some(taken) = taken else { return Err(self.truncated()) };
        self.at = end;
        Ok(taken)
    }

    #[inline(always)]
    pub(crate) fn byte<E: Fault>(&mut self) -> Result<u8, E> {
        let Some(byte) = self.bytes.get(self.at) else { return Err(self.truncated()) };
        self.at = self.at.wrapping_add(1);
        Ok(*byte)
    }

    /// Bitcoin's compact size; a longer form than needed is refused, as every node does.
    ///
    /// The nodes' ceiling of 32 MiB is not enforced: what a size measures must be there anyway.
    #[inline(always)]
    pub(crate) fn compact_size<E: Fault>(&mut self) -> Result<u64, E> {
        let first = self.byte()?;
        if first < 0xfd {
            return Ok(u64::from(first));
        }
        let (size, at) = long_compact_size(self.bytes, self.at, first)?;
        self.at = at;
        Ok(size)
    }

    /// An input: its outpoint is given, its script and sequence are passed over.
    #[inline(always)]
    pub(crate) fn input<E: Fault>(&mut self) -> Result<&'a [u8; 36], E> {
        let outpoint = self.array()?;
        let script_len = self.length()?;
        self.take(script_len)?;
        self.array::<4, E>()?;
        Ok(outpoint)
    }

    /// As [`Reader::input`], for one that most likely has no script: to guess so and be told later,
    /// by the processor's own means, is quicker than to wait for the length before the next input
    /// can be found.
    #[inline(always)]
    pub(crate) fn likely_bare_input<E: Fault>(&mut self) -> Result<&'a [u8; 36], E> {
        let end = self.at.wrapping_add(BARE_INPUT);
        if let Some([outpoint @ .., 0, _, _, _, _]) = self.bytes.get(self.at..end)
            && let Some(outpoint) = outpoint.first_chunk()
        {
            self.at = end;
            return Ok(outpoint);
        }
        self.input()
    }

    /// Passes over the witness of an input that spends P2WPKH, of two items, the second a key of 33
    /// bytes; `false`, and nothing is passed over, if it is another.
    #[inline(always)]
    pub(crate) fn skip_signature_and_key(&mut self) -> bool {
        let items = self.bytes.get(self.at..self.at.wrapping_add(2));
        let Some([2, signature @ ..0xfd]) = items else { return false };
        let key = self.at.wrapping_add(2).wrapping_add(usize::from(*signature));
        let end = key.wrapping_add(34);
        let is_key = matches!(self.bytes.get(key..end), Some([33, ..]));
        if is_key {
            self.at = end;
        }
        is_key
    }

    /// A compact size that is the length of something in memory.
    #[inline(always)]
    pub(crate) fn length<E: Fault>(&mut self) -> Result<usize, E> {
        let size = self.compact_size()?;
        usize::try_from(size).map_err(|_| self.truncated())
    }
}

/// The size that `first` begins and where the bytes behind it stand. By value: a reference to a
/// reader would keep it in memory.
#[cold]
#[inline(never)]
fn long_compact_size<E: Fault>(bytes: &[u8], at: usize, first: u8) -> Result<(u64, usize), E> {
    let mut reader = Reader::starting_at(bytes, at);
    let (size, least) = match first {
        0xfd => (u64::from(u16::from_le_bytes(*reader.array()?)), 0xfd),
        0xfe => (u64::from(u32::from_le_bytes(*reader.array()?)), 0x1_0000),
        _ => (u64::from_le_bytes(*reader.array()?), 0x1_0000_0000),
    };
    if size < least {
        return Err(E::of(WalkError::NonCanonicalSize { offset: at.wrapping_sub(1) }));
    }
    Ok((size, reader.offset()))
}
