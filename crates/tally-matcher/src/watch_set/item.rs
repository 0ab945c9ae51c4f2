//! What can be watched, cut down to the bytes that tell it from others of its kind, and the two
//! numbers it is looked up by: a cheap key for the filter and a whole hash for the table.

/// The shape of an item. Scripts of a known template are kept as kind and hash, which loses
/// nothing: kind and payload together are the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// `76 a9 14 <20> 88 ac`
    P2pkh = 0,
    /// `a9 14 <20> 87`
    P2sh = 1,
    /// `00 14 <20>`
    P2wpkh = 2,
    /// `00 20 <32>`
    P2wsh = 3,
    /// `51 20 <32>`
    P2tr = 4,
    /// `aa 20 <32> 87`, Bitcoin Cash
    P2sh32 = 5,
    /// 20 bytes and nothing else: an Ethereum address.
    Bare20 = 6,
    /// Any other script, whole.
    Other = 7,
    /// An outpoint: 32 bytes of id and 4 of index.
    OutPoint = 8,
}

impl Kind {
    /// All of them, by number; they fit four bits.
    pub(crate) const ALL: [Self; 9] = [
        Self::P2pkh,
        Self::P2sh,
        Self::P2wpkh,
        Self::P2wsh,
        Self::P2tr,
        Self::P2sh32,
        Self::Bare20,
        Self::Other,
        Self::OutPoint,
    ];

    /// What stands before and behind the payload in the script.
    const fn frame(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::P2pkh => (&[0x76, 0xa9, 0x14], &[0x88, 0xac]),
            Self::P2sh => (&[0xa9, 0x14], &[0x87]),
            Self::P2wpkh => (&[0x00, 0x14], &[]),
            Self::P2wsh => (&[0x00, 0x20], &[]),
            Self::P2tr => (&[0x51, 0x20], &[]),
            Self::P2sh32 => (&[0xaa, 0x20], &[0x87]),
            Self::Bare20 | Self::Other | Self::OutPoint => (&[], &[]),
        }
    }
}

/// A script or an outpoint. Two are equal exactly if the scripts or outpoints are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item<'a> {
    kind: Kind,
    payload: &'a [u8],
}

impl<'a> Item<'a> {
    pub(crate) const fn script(script: &'a [u8]) -> Self {
        let (kind, payload) = match (script.len(), script) {
            (22, [0x00, 0x14, hash @ ..]) => (Kind::P2wpkh, hash),
            (25, [0x76, 0xa9, 0x14, hash @ .., 0x88, 0xac]) => (Kind::P2pkh, hash),
            (23, [0xa9, 0x14, hash @ .., 0x87]) => (Kind::P2sh, hash),
            (34, [0x51, 0x20, hash @ ..]) => (Kind::P2tr, hash),
            (34, [0x00, 0x20, hash @ ..]) => (Kind::P2wsh, hash),
            (35, [0xaa, 0x20, hash @ .., 0x87]) => (Kind::P2sh32, hash),
            (20, address) => (Kind::Bare20, address),
            _ => (Kind::Other, script),
        };
        Self { kind, payload }
    }

    pub(crate) const fn outpoint(outpoint: &'a [u8; 36]) -> Self {
        Self { kind: Kind::OutPoint, payload: outpoint }
    }

    /// What [`Item::kind`] and [`Item::payload`] came from.
    pub(crate) const fn from_parts(kind: Kind, payload: &'a [u8]) -> Self {
        Self { kind, payload }
    }

    pub(crate) const fn kind(self) -> Kind {
        self.kind
    }

    pub(crate) const fn payload(self) -> &'a [u8] {
        self.payload
    }

    /// The script that it is, or the 36 bytes of the outpoint.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let (before, behind) = self.kind.frame();
        [before, self.payload, behind].concat()
    }
}

/// The numbers that make keys unpredictable to who writes the scripts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Secret {
    mask: u64,
    /// Odd.
    factor: u64,
}

/// Where the eight bytes stand that a script is known by to the filter: within the hash of every
/// template. Nothing is branched on, for the type of the next output cannot be foretold.
const WORD_AT: usize = 3;

impl Secret {
    pub(crate) const fn from_seed(seed: u64) -> Self {
        Self { mask: scramble(seed), factor: scramble(seed ^ 0x9e37_79b9_7f4a_7c15) | 1 }
    }

    /// What the filter knows a script by. Eight bytes of a hash are uniform already, so they are
    /// taken as they are.
    #[inline(always)]
    pub(crate) fn script_key(self, script: &[u8]) -> u64 {
        match script.get(WORD_AT..).and_then(|tail| tail.first_chunk()) {
            Some(word) => self.fold(u64::from_le_bytes(*word)),
            None => self.short_key(script),
        }
    }

    /// What the filter knows an outpoint by: the id is a hash.
    #[inline(always)]
    pub(crate) fn outpoint_key(self, outpoint: &[u8; 36]) -> u64 {
        let id = outpoint.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        let index = outpoint.last_chunk().map_or(0, |index| u32::from_le_bytes(*index));
        self.fold(id ^ (u64::from(index) << 32))
    }

    /// What the filter knows an item by.
    pub(crate) fn key(self, item: Item<'_>) -> u64 {
        if let (Kind::OutPoint, Some(outpoint)) = (item.kind, item.payload.first_chunk()) {
            return self.outpoint_key(outpoint);
        }
        let before = item.kind.frame().0.len();
        match item.payload.get(WORD_AT.saturating_sub(before)..).and_then(|tail| tail.first_chunk()) {
            Some(word) => self.fold(u64::from_le_bytes(*word)),
            None => self.short_key(item.payload),
        }
    }

    /// What the table knows an item by: every byte counts, so that no choice of scripts or ids
    /// makes a place of it crowded.
    pub(crate) fn hash(self, item: Item<'_>) -> u64 {
        let (words, tail) = item.payload.as_chunks::<8>();
        let mut state = self.fold(item.kind as u64 ^ ((item.payload.len() as u64) << 8));
        for word in words {
            state = self.fold(state ^ u64::from_le_bytes(*word));
        }
        let tail = tail.iter().fold(0, |tail, byte| (tail << 8) | u64::from(*byte));
        self.fold(state.rotate_left(23) ^ tail)
    }

    #[cold]
    fn short_key(self, script: &[u8]) -> u64 {
        self.hash(Item { kind: Kind::Other, payload: script })
    }

    /// The two halves of the product with the secret factor, one over the other: every bit of the
    /// word reaches every bit of the key.
    #[inline(always)]
    fn fold(self, word: u64) -> u64 {
        let product = u128::from(word ^ self.mask).wrapping_mul(u128::from(self.factor));
        (product as u64) ^ ((product >> 64) as u64)
    }
}

/// One round of splitmix64, which spreads a seed over all bits.
const fn scramble(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
