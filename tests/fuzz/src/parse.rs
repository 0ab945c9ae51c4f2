//! A parser of blocks and transactions that keeps everything and hurries nowhere. It is written from the
//! formats, not from the matcher.

use tally_matcher::{OutPoint, sha256d};

/// A transaction with all that a matcher may say of it.
#[derive(Debug)]
pub(crate) struct Tx {
    pub(crate) inputs: Vec<OutPoint>,
    pub(crate) outputs: Vec<(u64, Vec<u8>)>,
    pub(crate) txid: [u8; 32],
    pub(crate) is_hogex: bool,
    pub(crate) mweb_payload: bool,
}

impl Tx {
    pub(crate) fn is_coinbase(&self) -> bool {
        self.inputs == [OutPoint::NULL]
    }
}

/// A block.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) header: Vec<u8>,
    pub(crate) txs: Vec<Tx>,
    pub(crate) trailing: usize,
}

/// Takes bytes from the front.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take(&mut self, n: u64) -> Option<Vec<u8>> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(n).ok()?)?;
        self.0 = rest;
        Some(taken.to_vec())
    }

    fn number(&mut self, bytes: u64) -> Option<u64> {
        Some(self.take(bytes)?.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    fn size(&mut self) -> Option<u64> {
        let (size, least) = match self.number(1)? {
            0xfd => (self.number(2)?, 0xfd),
            0xfe => (self.number(4)?, 0x1_0000),
            0xff => (self.number(8)?, 0x1_0000_0000),
            small => return Some(small),
        };
        (size >= least).then_some(size)
    }

    fn sized(&mut self) -> Option<Vec<u8>> {
        let len = self.size()?;
        self.take(len)
    }
}

/// The whole of a block, or `None` if it is none.
pub(crate) fn block(bytes: &[u8]) -> Option<Block> {
    let mut bytes = Bytes(bytes);
    let header = bytes.take(80)?;
    let count = bytes.size()?;
    let mut txs = Vec::new();
    for _ in 0..count {
        txs.push(one(&mut bytes, false)?);
    }
    Some(Block { header, txs, trailing: bytes.0.len() })
}

/// The whole of a transaction, or `None` if it is none or more than one.
pub(crate) fn transaction(bytes: &[u8]) -> Option<Tx> {
    let mut bytes = Bytes(bytes);
    let tx = one(&mut bytes, true)?;
    bytes.0.is_empty().then_some(tx)
}

fn one(bytes: &mut Bytes<'_>, alone: bool) -> Option<Tx> {
    let mut plain = bytes.take(4)?;
    let mut start = bytes.0;
    let mut input_count = bytes.size()?;
    let mut flags = 0;
    if input_count == 0 {
        flags = bytes.number(1)?;
        if !matches!(flags, 1 | 8 | 9) {
            return None;
        }
        start = bytes.0;
        input_count = bytes.size()?;
    }
    let mut inputs = Vec::new();
    for _ in 0..input_count {
        let outpoint: [u8; 36] = bytes.take(36)?.try_into().ok()?;
        inputs.push(OutPoint::from_bytes(&outpoint));
        bytes.sized()?;
        bytes.take(4)?;
    }
    let output_count = bytes.size()?;
    let mut outputs = Vec::new();
    for _ in 0..output_count {
        outputs.push((bytes.number(8)?, bytes.sized()?));
    }
    plain.extend(start.get(..start.len() - bytes.0.len())?);
    if flags & 1 != 0 && !witnesses(bytes, input_count)? {
        return None;
    }
    let (mut is_hogex, mut mweb_payload) = (false, false);
    if flags & 8 != 0 {
        match bytes.number(1)? {
            0 if output_count > 0 => is_hogex = true,
            1 if alone => {
                mweb_payload = true;
                bytes.take((bytes.0.len() as u64).checked_sub(4)?)?;
            }
            _ => return None,
        }
    }
    plain.extend(bytes.take(4)?);
    Some(Tx { inputs, outputs, txid: sha256d(&plain), is_hogex, mweb_payload })
}

/// Whether any of the witnesses has an item.
fn witnesses(bytes: &mut Bytes<'_>, count: u64) -> Option<bool> {
    let mut any = false;
    for _ in 0..count {
        for _ in 0..bytes.size()? {
            any = true;
            bytes.sized()?;
        }
    }
    Some(any)
}
