//! What can be watched, cut down to the bytes that tell it from others of its kind, and the key
//! it is looked up by.

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
    /// Any other script, whole.
    Other = 6,
    /// An outpoint: 32 bytes of id and 4 of index.
    OutPoint = 7,
}

/// Number of kinds; they fit three bits.
pub(crate) const KIND_COUNT: usize = 8;

impl Kind {
    /// By number; only the lowest three bits count.
    pub(crate) const fn from_bits(bits: u32) -> Self {
        match bits & 7 {
            0 => Self::P2pkh,
            1 => Self::P2sh,
            2 => Self::P2wpkh,
            3 => Self::P2wsh,
            4 => Self::P2tr,
            5 => Self::P2sh32,
            6 => Self::Other,
            _ => Self::OutPoint,
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
    #[inline(always)]
    pub(crate) fn script(script: &'a [u8]) -> Self {
        let (kind, payload) = match (script.len(), script) {
            (22, [0x00, 0x14, hash @ ..]) => (Kind::P2wpkh, hash),
            (25, [0x76, 0xa9, 0x14, hash @ .., 0x88, 0xac]) => (Kind::P2pkh, hash),
            (23, [0xa9, 0x14, hash @ .., 0x87]) => (Kind::P2sh, hash),
            (34, [0x51, 0x20, hash @ ..]) => (Kind::P2tr, hash),
            (34, [0x00, 0x20, hash @ ..]) => (Kind::P2wsh, hash),
            (35, [0xaa, 0x20, hash @ .., 0x87]) => (Kind::P2sh32, hash),
            _ => (Kind::Other, script),
        };
        Self { kind, payload }
    }

    #[inline(always)]
    pub(crate) const fn outpoint(outpoint: &'a [u8; 36]) -> Self {
        Self { kind: Kind::OutPoint, payload: outpoint }
    }

    /// What [`Item::kind`] and [`Item::payload`] came from.
    pub(crate) const fn from_parts(kind: Kind, payload: &'a [u8]) -> Self {
        Self { kind, payload }
    }

    #[inline(always)]
    pub(crate) const fn kind(self) -> Kind {
        self.kind
    }

    pub(crate) const fn payload(self) -> &'a [u8] {
        self.payload
    }

    /// The whole script again, or the outpoint as it is serialised.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let (before, after): (&[u8], &[u8]) = match self.kind {
            Kind::P2pkh => (&[0x76, 0xa9, 0x14], &[0x88, 0xac]),
            Kind::P2sh => (&[0xa9, 0x14], &[0x87]),
            Kind::P2wpkh => (&[0x00, 0x14], &[]),
            Kind::P2wsh => (&[0x00, 0x20], &[]),
            Kind::P2tr => (&[0x51, 0x20], &[]),
            Kind::P2sh32 => (&[0xaa, 0x20], &[0x87]),
            Kind::Other | Kind::OutPoint => (&[], &[]),
        };
        [before, self.payload, after].concat()
    }
}

/// The numbers that make keys unpredictable to who writes the scripts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Secret {
    mask: u64,
    /// Odd.
    factor: u64,
}

impl Secret {
    pub(crate) const fn from_seed(seed: u64) -> Self {
        Self { mask: scramble(seed), factor: scramble(seed ^ 0x9e37_79b9_7f4a_7c15) | 1 }
    }

    /// The 64 bits an item is found by.
    ///
    /// A template's payload is a hash already: eight of its bytes are uniform, so they are taken
    /// as they are. The rest is hashed whole.
    #[inline(always)]
    pub(crate) fn key(self, item: Item<'_>) -> u64 {
        let kind = item.kind as u64;
        match item.kind {
            Kind::Other => self.hash(item.payload),
            Kind::OutPoint => {
                let index = item.payload.last_chunk::<4>().map_or(0, |i| u32::from_le_bytes(*i));
                self.fold(first_word(item.payload) ^ kind ^ (u64::from(index) << 32))
            }
            _ => self.fold(first_word(item.payload) ^ kind),
        }
    }

    /// The two halves of the product with the secret factor, one over the other: every bit of the
    /// word reaches every bit of the key.
    #[inline(always)]
    fn fold(self, word: u64) -> u64 {
        let product = u128::from(word ^ self.mask).wrapping_mul(u128::from(self.factor));
        (product as u64) ^ ((product >> 64) as u64)
    }

    fn hash(self, bytes: &[u8]) -> u64 {
        let (words, tail) = bytes.as_chunks::<8>();
        let mut state = self.fold(bytes.len() as u64);
        for word in words {
            state = self.fold(state ^ u64::from_le_bytes(*word));
        }
        let tail = tail.iter().fold(0, |tail, byte| (tail << 8) | u64::from(*byte));
        self.fold(state.rotate_left(23) ^ tail)
    }
}

#[inline(always)]
fn first_word(payload: &[u8]) -> u64 {
    payload.first_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word))
}

/// One round of splitmix64, which spreads a seed over all bits.
const fn scramble(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
