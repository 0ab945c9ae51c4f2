//! Block headers, outpoints and the double SHA-256 that names things. No display order here:
//! everything is in the byte order of the wire.

use sha2::{Digest, Sha256};

/// SHA-256 applied twice: the id of transactions and blocks on all chains of the family.
#[must_use]
pub fn sha256d(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(Sha256::digest(bytes)).into()
}

/// Double SHA-256 of parts laid end to end, without joining them first.
pub(crate) fn sha256d_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    Sha256::digest(hasher.finalize()).into()
}

/// One output of one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutPoint {
    /// The transaction's id, internal byte order.
    pub txid: [u8; 32],
    /// The output's index in it.
    pub vout: u32,
}

impl OutPoint {
    /// The outpoint of a coinbase's only input, which spends nothing.
    pub const NULL: Self = Self { txid: [0; 32], vout: u32::MAX };

    /// Reads the 36 bytes of the wire.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 36]) -> Self {
        let (txid, vout) = bytes.split_first_chunk::<32>().unwrap_or((&[0; 32], &[]));
        let vout = vout.first_chunk::<4>().map_or(0, |vout| u32::from_le_bytes(*vout));
        Self { txid: *txid, vout }
    }

    /// The 36 bytes of the wire: the id, then the index in little-endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 36] {
        let mut bytes = [0; 36];
        let (txid, vout) = bytes.split_at_mut(32);
        txid.copy_from_slice(&self.txid);
        vout.copy_from_slice(&self.vout.to_le_bytes());
        bytes
    }
}

/// The 80 bytes of a block header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header([u8; 80]);

impl Header {
    /// Takes the bytes as they are: any 80 bytes are a header.
    #[must_use]
    pub const fn new(bytes: [u8; 80]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 80] {
        &self.0
    }

    /// The block's id: double SHA-256 on every chain of the family, Litecoin too (its scrypt is
    /// for proof of work only).
    #[must_use]
    pub fn block_hash(&self) -> [u8; 32] {
        sha256d(&self.0)
    }

    /// The id of the block before.
    #[must_use]
    pub fn prev_hash(&self) -> [u8; 32] {
        self.field::<4, 32>()
    }

    /// The root of the Merkle tree of the transactions' ids.
    #[must_use]
    pub fn merkle_root(&self) -> [u8; 32] {
        self.field::<36, 32>()
    }

    /// The miner's time, seconds since 1970.
    #[must_use]
    pub fn time(&self) -> u32 {
        u32::from_le_bytes(self.field::<68, 4>())
    }

    /// The target of the proof of work in its compact form.
    #[must_use]
    pub fn bits(&self) -> u32 {
        u32::from_le_bytes(self.field::<72, 4>())
    }

    /// `N` bytes from `AT`; the bound is checked when this is compiled.
    fn field<const AT: usize, const N: usize>(&self) -> [u8; N] {
        const { assert!(AT + N <= 80) }
        let mut field = [0; N];
        for (to, from) in field.iter_mut().zip(self.0.iter().skip(AT)) {
            *to = *from;
        }
        field
    }
}
