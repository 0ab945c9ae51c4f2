//! The bytes behind the ids: slots of one size in chunks that never move, so that growing neither
//! copies nor doubles; a freed slot is used again. Liveness is the table's knowledge.

use super::item::{Item, Kind};

/// Slots in a chunk.
const CHUNK: usize = 4096;
/// Bits of an id that are an index; the three above are the kind.
const INDEX_BITS: u32 = 29;
const INDEX_END: u32 = 1 << INDEX_BITS;

/// Names a stored item: kind and slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(u32);

impl Id {
    const fn new(kind: Kind, index: u32) -> Self {
        Self(((kind as u32) << INDEX_BITS) | index)
    }

    const fn kind(self) -> Kind {
        Kind::from_bits(self.0 >> INDEX_BITS)
    }

    const fn index(self) -> u32 {
        self.0 & (INDEX_END - 1)
    }
}

#[derive(Debug, Default)]
pub(super) struct Store {
    hash20: Slab<20>,
    hash32: Slab<32>,
    outpoints: Slab<36>,
    other: Others,
}

impl Store {
    /// Keeps an item; `None` if no slot is left for it.
    pub(super) fn insert(&mut self, item: Item<'_>) -> Option<Id> {
        let payload = item.payload();
        let index = match item.kind() {
            Kind::P2pkh | Kind::P2sh | Kind::P2wpkh => self.hash20.insert(payload),
            Kind::P2wsh | Kind::P2tr | Kind::P2sh32 => self.hash32.insert(payload),
            Kind::OutPoint => self.outpoints.insert(payload),
            Kind::Other => self.other.insert(payload),
        };
        index.map(|index| Id::new(item.kind(), index))
    }

    /// The item behind an id that was not removed.
    pub(super) fn get(&self, id: Id) -> Option<Item<'_>> {
        let payload = match id.kind() {
            Kind::P2pkh | Kind::P2sh | Kind::P2wpkh => self.hash20.get(id.index()),
            Kind::P2wsh | Kind::P2tr | Kind::P2sh32 => self.hash32.get(id.index()),
            Kind::OutPoint => self.outpoints.get(id.index()),
            Kind::Other => self.other.get(id.index()),
        };
        payload.map(|payload| Item::from_parts(id.kind(), payload))
    }

    /// Whether the id is that of this item. Compares every byte.
    pub(super) fn is(&self, id: Id, item: Item<'_>) -> bool {
        id.kind() == item.kind() && self.get(id) == Some(item)
    }

    /// Frees the slot of an id; the id must not be used again.
    pub(super) fn remove(&mut self, id: Id) {
        match id.kind() {
            Kind::P2pkh | Kind::P2sh | Kind::P2wpkh => self.hash20.remove(id.index()),
            Kind::P2wsh | Kind::P2tr | Kind::P2sh32 => self.hash32.remove(id.index()),
            Kind::OutPoint => self.outpoints.remove(id.index()),
            Kind::Other => self.other.remove(id.index()),
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.hash20
            .memory_bytes()
            .saturating_add(self.hash32.memory_bytes())
            .saturating_add(self.outpoints.memory_bytes())
            .saturating_add(self.other.memory_bytes())
    }
}

/// Slots of `N` bytes. A free slot holds the index of the next free one in its first four bytes.
#[derive(Debug)]
struct Slab<const N: usize> {
    chunks: Vec<Vec<[u8; N]>>,
    /// Slots ever used.
    used: u32,
    /// The free slot to use next.
    free: Option<u32>,
}

impl<const N: usize> Default for Slab<N> {
    fn default() -> Self {
        Self { chunks: Vec::new(), used: 0, free: None }
    }
}

impl<const N: usize> Slab<N> {
    fn insert(&mut self, payload: &[u8]) -> Option<u32> {
        let payload = *payload.first_chunk::<N>()?;
        if let Some(index) = self.free {
            let slot = self.slot_mut(index)?;
            let next = slot.first_chunk::<4>().map(|next| u32::from_le_bytes(*next));
            *slot = payload;
            self.free = next.filter(|next| *next < INDEX_END);
            return Some(index);
        }
        if self.used >= INDEX_END {
            return None;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() >= CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks.last_mut()?.push(payload);
        let index = self.used;
        self.used = self.used.saturating_add(1);
        Some(index)
    }

    fn get(&self, index: u32) -> Option<&[u8]> {
        let index = index as usize;
        self.chunks.get(index / CHUNK)?.get(index % CHUNK).map(<[u8; N]>::as_slice)
    }

    fn remove(&mut self, index: u32) {
        let next = self.free.unwrap_or(u32::MAX).to_le_bytes();
        if let Some(link) = self.slot_mut(index).and_then(|slot| slot.first_chunk_mut::<4>()) {
            *link = next;
            self.free = Some(index);
        }
    }

    fn slot_mut(&mut self, index: u32) -> Option<&mut [u8; N]> {
        let index = index as usize;
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }

    fn memory_bytes(&self) -> usize {
        let slots = self.chunks.len().saturating_mul(CHUNK).saturating_mul(N);
        slots.saturating_add(self.chunks.capacity().saturating_mul(size_of::<Vec<[u8; N]>>()))
    }
}

/// Scripts of no known template. Few, so each has its own allocation.
#[derive(Debug, Default)]
struct Others {
    slots: Vec<Option<Box<[u8]>>>,
    free: Vec<u32>,
    /// Lengths of the scripts held, together.
    bytes: usize,
}

impl Others {
    fn insert(&mut self, script: &[u8]) -> Option<u32> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.slots.len()).ok().filter(|i| *i < INDEX_END)?;
                self.slots.push(None);
                index
            }
        };
        *self.slots.get_mut(index as usize)? = Some(script.into());
        self.bytes = self.bytes.saturating_add(script.len());
        Some(index)
    }

    fn get(&self, index: u32) -> Option<&[u8]> {
        self.slots.get(index as usize)?.as_deref()
    }

    fn remove(&mut self, index: u32) {
        if let Some(script) = self.slots.get_mut(index as usize).and_then(Option::take) {
            self.bytes = self.bytes.saturating_sub(script.len());
            self.free.push(index);
        }
    }

    fn memory_bytes(&self) -> usize {
        let slots = self.slots.capacity().saturating_mul(size_of::<Option<Box<[u8]>>>());
        let free = self.free.capacity().saturating_mul(size_of::<u32>());
        slots.saturating_add(free).saturating_add(self.bytes)
    }
}
