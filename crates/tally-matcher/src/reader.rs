//! A cursor over bytes that never reads past their end. No allocation, no copies.

use crate::WalkError;

/// The part of some bytes that is not read yet.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// Length of all bytes, so that offsets can be told.
    len: usize,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, len: bytes.len() }
    }

    /// A reader of the same bytes that begins at `offset` (at their end if that is further).
    pub(crate) fn starting_at(bytes: &'a [u8], offset: usize) -> Self {
        Self { rest: bytes.get(offset..).unwrap_or_default(), len: bytes.len() }
    }

    #[inline(always)]
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline(always)]
    pub(crate) const fn offset(&self) -> usize {
        // `rest` is always a tail of the `len` bytes.
        self.len.wrapping_sub(self.rest.len())
    }

    #[inline(always)]
    pub(crate) const fn truncated(&self) -> WalkError {
        WalkError::Truncated { offset: self.offset() }
    }

    #[inline(always)]
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], WalkError> {
        match self.rest.split_at_checked(n) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.truncated()),
        }
    }

    #[inline(always)]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], WalkError> {
        match self.rest.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.truncated()),
        }
    }

    #[inline(always)]
    pub(crate) fn byte(&mut self) -> Result<u8, WalkError> {
        match self.rest.split_first() {
            Some((byte, rest)) => {
                self.rest = rest;
                Ok(*byte)
            }
            None => Err(self.truncated()),
        }
    }

    /// Bitcoin's compact size; a longer form than needed is refused, as every node does.
    ///
    /// The nodes' ceiling of 32 MiB is not enforced: what a size measures must be there anyway.
    #[inline(always)]
    pub(crate) fn compact_size(&mut self) -> Result<u64, WalkError> {
        let first = self.byte()?;
        if first < 0xfd { Ok(u64::from(first)) } else { self.long_compact_size(first) }
    }

    /// A compact size that is the length of something in memory.
    #[inline(always)]
    pub(crate) fn length(&mut self) -> Result<usize, WalkError> {
        let size = self.compact_size()?;
        usize::try_from(size).map_err(|_| self.truncated())
    }

    #[cold]
    fn long_compact_size(&mut self, first: u8) -> Result<u64, WalkError> {
        let offset = self.offset().wrapping_sub(1);
        let (size, least) = match first {
            0xfd => (u64::from(u16::from_le_bytes(*self.array()?)), 0xfd),
            0xfe => (u64::from(u32::from_le_bytes(*self.array()?)), 0x1_0000),
            _ => (u64::from_le_bytes(*self.array()?), 0x1_0000_0000),
        };
        if size < least { Err(WalkError::NonCanonicalSize { offset }) } else { Ok(size) }
    }
}
