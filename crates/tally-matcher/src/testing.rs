//! Builders of raw transactions and blocks for this crate's tests. They write bytes by hand, so
//! that what is tested is not also what made the input.

use crate::{OutPoint, sha256d};

/// A transaction to be written; every part can be wrong on purpose.
#[derive(Debug, Clone, Default)]
pub(crate) struct TxSpec {
    pub(crate) inputs: Vec<OutPoint>,
    pub(crate) outputs: Vec<(u64, Vec<u8>)>,
    /// Optional data flag; 0 writes none.
    pub(crate) flag: u8,
    /// Items per input, written if the flag has bit 1.
    pub(crate) witnesses: Vec<Vec<Vec<u8>>>,
    /// Written if the flag has bit 8.
    pub(crate) mweb: Vec<u8>,
}

impl TxSpec {
    pub(crate) fn new(inputs: &[OutPoint], outputs: &[(u64, Vec<u8>)]) -> Self {
        Self { inputs: inputs.to_vec(), outputs: outputs.to_vec(), ..Self::default() }
    }

    pub(crate) fn coinbase(outputs: &[(u64, Vec<u8>)]) -> Self {
        Self::new(&[OutPoint::NULL], outputs)
    }

    pub(crate) fn with_witnesses(mut self) -> Self {
        self.flag |= 1;
        self.witnesses = vec![vec![vec![0x30; 71], vec![0x02; 33]]; self.inputs.len()];
        self
    }

    pub(crate) fn with_mweb(mut self, data: &[u8]) -> Self {
        self.flag |= 8;
        self.mweb = data.to_vec();
        self
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        if self.flag != 0 {
            bytes.extend([0, self.flag]);
        }
        bytes.extend(self.body());
        if self.flag & 1 != 0 {
            for items in &self.witnesses {
                bytes.extend(compact_size(items.len()));
                items.iter().for_each(|item| bytes.extend(sized(item)));
            }
        }
        if self.flag & 8 != 0 {
            bytes.extend(&self.mweb);
        }
        bytes.extend([9, 0, 0, 0]);
        bytes
    }

    pub(crate) fn txid(&self) -> [u8; 32] {
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        bytes.extend(self.body());
        bytes.extend([9, 0, 0, 0]);
        sha256d(&bytes)
    }

    pub(crate) fn outpoint(&self, vout: u32) -> OutPoint {
        OutPoint { txid: self.txid(), vout }
    }

    fn body(&self) -> Vec<u8> {
        let mut bytes = compact_size(self.inputs.len());
        for input in &self.inputs {
            bytes.extend(input.to_bytes());
            bytes.extend(sized(&[0x51]));
            bytes.extend([0xfe, 0xff, 0xff, 0xff]);
        }
        bytes.extend(compact_size(self.outputs.len()));
        for (value, script) in &self.outputs {
            bytes.extend(value.to_le_bytes());
            bytes.extend(sized(script));
        }
        bytes
    }
}

/// A block of these transactions with a true Merkle root and no proof of work.
pub(crate) fn block(txs: &[TxSpec]) -> Vec<u8> {
    let mut level: Vec<[u8; 32]> = txs.iter().map(TxSpec::txid).collect();
    while level.len() > 1 {
        if level.len() % 2 == 1 {
            level.push(*level.last().unwrap());
        }
        level = level.chunks(2).map(|pair| sha256d(&pair.concat())).collect();
    }
    let mut bytes = 0x2000_0000_u32.to_le_bytes().to_vec();
    bytes.extend([7; 32]);
    bytes.extend(level.first().unwrap_or(&[0; 32]));
    bytes.extend(1_700_000_000_u32.to_le_bytes());
    bytes.extend(0x207f_ffff_u32.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(compact_size(txs.len()));
    txs.iter().for_each(|tx| bytes.extend(tx.encode()));
    bytes
}

pub(crate) fn compact_size(n: usize) -> Vec<u8> {
    match n {
        0..0xfd => vec![n as u8],
        0xfd..0x1_0000 => [&[0xfd], &(n as u16).to_le_bytes()[..]].concat(),
        _ => [&[0xfe], &(n as u32).to_le_bytes()[..]].concat(),
    }
}

pub(crate) fn sized(bytes: &[u8]) -> Vec<u8> {
    [compact_size(bytes.len()), bytes.to_vec()].concat()
}

/// An outpoint that is nobody's output in the block at hand.
pub(crate) fn elsewhere(n: u8) -> OutPoint {
    OutPoint { txid: sha256d(&[n]), vout: u32::from(n % 3) }
}

pub(crate) fn p2wpkh(n: u8) -> Vec<u8> {
    [&[0x00, 0x14], &sha256d(&[n, 1])[..20]].concat()
}

/// One script of every shape the set knows, and others, told apart by `n`.
pub(crate) fn script(shape: u8, n: u8) -> Vec<u8> {
    let hash = sha256d(&[n, shape]);
    let (short, long) = (&hash[..20], &hash[..]);
    match shape % 10 {
        0 => [&[0x76, 0xa9, 0x14], short, &[0x88, 0xac]].concat(),
        1 => [&[0xa9, 0x14], short, &[0x87]].concat(),
        2 => [&[0x00, 0x14], short].concat(),
        3 => [&[0x00, 0x20], long].concat(),
        4 => [&[0x51, 0x20], long].concat(),
        5 => [&[0xaa, 0x20], long, &[0x87]].concat(),
        6 => [&[0x21, 0x02], long, &[0xac]].concat(),
        7 => [&[0x6a, 0x04], &long[..4]].concat(),
        8 => vec![0x51; usize::from(n) % 4],
        _ => [long; 10].concat(),
    }
}

/// Bytes of a fixture in hexadecimal.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    const_hex::decode(text.trim()).unwrap()
}

/// A hash as nodes print it.
pub(crate) fn printed(hash: &[u8; 32]) -> String {
    const_hex::encode(hash.iter().rev().copied().collect::<Vec<u8>>())
}
