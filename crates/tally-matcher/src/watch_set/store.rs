//! The bytes behind the ids: for each kind a slab of slots of one size without gaps. A slot that is
//! freed takes what the last one holds, so that memory is given back as a set shrinks.

use super::item::{Item, Kind};

/// Slots in a chunk. Chunks never move, so growing neither copies nor doubles.
const CHUNK: usize = 4096;
/// Bits of an id that are an index; the four above are the kind.
const INDEX_BITS: u32 = 28;
const INDEX_END: u32 = 1 << INDEX_BITS;

/// Names a stored item: kind and slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(u32);

impl Id {
    const fn new(kind: Kind, index: u32) -> Self {
        Self(((kind as u32) << INDEX_BITS) | index)
    }

    fn kind(self) -> Option<Kind> {
        Kind::ALL.get((self.0 >> INDEX_BITS) as usize).copied()
    }

    const fn index(self) -> u32 {
        self.0 & (INDEX_END - 1)
    }
}

/// How far one has come through a store.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursor {
    kind: usize,
    index: u32,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    p2pkh: Slab<20>,
    p2sh: Slab<20>,
    p2wpkh: Slab<20>,
    p2wsh: Slab<32>,
    p2tr: Slab<32>,
    p2sh32: Slab<32>,
    bare20: Slab<20>,
    other: Others,
    outpoints: Slab<36>,
    len: usize,
}

/// What a slab does, whatever the size of its slots.
trait Slots {
    fn push(&mut self, payload: &[u8]) -> Option<u32>;
    fn get(&self, index: u32) -> Option<&[u8]>;
    /// Frees a slot; the index that was the last one's and is the freed one's now, if it is another.
    fn swap_remove(&mut self, index: u32) -> Option<u32>;
    fn memory_bytes(&self) -> usize;
}

impl Store {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Keeps an item; `None` if no slot is left for it.
    pub(super) fn insert(&mut self, item: Item<'_>) -> Option<Id> {
        let index = self.slots_mut(item.kind()).push(item.payload())?;
        self.len = self.len.saturating_add(1);
        Some(Id::new(item.kind(), index))
    }

    /// The item behind an id that was not removed.
    pub(super) fn get(&self, id: Id) -> Option<Item<'_>> {
        let kind = id.kind()?;
        Some(Item::from_parts(kind, self.slots(kind).get(id.index())?))
    }

    /// Whether the id is that of this item. Compares every byte.
    pub(super) fn is(&self, id: Id, item: Item<'_>) -> bool {
        self.get(id) == Some(item)
    }

    /// Frees the slot of an id. If another item took it, the id that one had until now: from now on it has
    /// the freed one.
    pub(super) fn remove(&mut self, id: Id) -> Option<Id> {
        let kind = id.kind()?;
        self.len = self.len.saturating_sub(1);
        let moved = self.slots_mut(kind).swap_remove(id.index())?;
        Some(Id::new(kind, moved))
    }

    /// The item at the cursor, which moves on.
    pub(super) fn next(&self, cursor: &mut Cursor) -> Option<Item<'_>> {
        while let Some(kind) = Kind::ALL.get(cursor.kind) {
            if let Some(payload) = self.slots(*kind).get(cursor.index) {
                cursor.index = cursor.index.saturating_add(1);
                return Some(Item::from_parts(*kind, payload));
            }
            *cursor = Cursor { kind: cursor.kind.saturating_add(1), index: 0 };
        }
        None
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Item<'_>> {
        let mut cursor = Cursor::default();
        std::iter::from_fn(move || self.next(&mut cursor))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        Kind::ALL.iter().map(|kind| self.slots(*kind).memory_bytes()).fold(0, usize::saturating_add)
    }

    fn slots(&self, kind: Kind) -> &dyn Slots {
        match kind {
            Kind::P2pkh => &self.p2pkh,
            Kind::P2sh => &self.p2sh,
            Kind::P2wpkh => &self.p2wpkh,
            Kind::P2wsh => &self.p2wsh,
            Kind::P2tr => &self.p2tr,
            Kind::P2sh32 => &self.p2sh32,
            Kind::Bare20 => &self.bare20,
            Kind::Other => &self.other,
            Kind::OutPoint => &self.outpoints,
        }
    }

    fn slots_mut(&mut self, kind: Kind) -> &mut dyn Slots {
        match kind {
            Kind::P2pkh => &mut self.p2pkh,
            Kind::P2sh => &mut self.p2sh,
            Kind::P2wpkh => &mut self.p2wpkh,
            Kind::P2wsh => &mut self.p2wsh,
            Kind::P2tr => &mut self.p2tr,
            Kind::P2sh32 => &mut self.p2sh32,
            Kind::Bare20 => &mut self.bare20,
            Kind::Other => &mut self.other,
            Kind::OutPoint => &mut self.outpoints,
        }
    }
}

#[derive(Debug)]
struct Slab<const N: usize> {
    /// All but the last are full; the last is not empty.
    chunks: Vec<Vec<[u8; N]>>,
}

impl<const N: usize> Default for Slab<N> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<const N: usize> Slab<N> {
    fn slot_mut(&mut self, index: u32) -> Option<&mut [u8; N]> {
        let index = index as usize;
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }

    fn len(&self) -> u32 {
        let full = self.chunks.len().saturating_sub(1).saturating_mul(CHUNK);
        let last = self.chunks.last().map_or(0, Vec::len);
        u32::try_from(full.saturating_add(last)).unwrap_or(u32::MAX)
    }
}

impl<const N: usize> Slots for Slab<N> {
    fn push(&mut self, payload: &[u8]) -> Option<u32> {
        let index = self.len();
        if index >= INDEX_END {
            return None;
        }
        let payload = *payload.first_chunk::<N>()?;
        if self.chunks.last().is_none_or(|chunk| chunk.len() >= CHUNK) {
            // The first grows as it is filled: most sets are small.
            self.chunks.push(Vec::with_capacity(if self.chunks.is_empty() { 0 } else { CHUNK }));
        }
        self.chunks.last_mut()?.push(payload);
        Some(index)
    }

    fn get(&self, index: u32) -> Option<&[u8]> {
        let index = index as usize;
        self.chunks.get(index / CHUNK)?.get(index % CHUNK).map(<[u8; N]>::as_slice)
    }

    fn swap_remove(&mut self, index: u32) -> Option<u32> {
        let last = self.len().checked_sub(1)?;
        let chunk = self.chunks.last_mut()?;
        let payload = chunk.pop()?;
        if chunk.is_empty() {
            self.chunks.pop();
        }
        if index == last {
            return None;
        }
        *self.slot_mut(index)? = payload;
        Some(last)
    }

    fn memory_bytes(&self) -> usize {
        let slots = self.chunks.iter().map(Vec::capacity).fold(0, usize::saturating_add);
        let list = self.chunks.capacity().saturating_mul(size_of::<Vec<[u8; N]>>());
        slots.saturating_mul(N).saturating_add(list)
    }
}

/// Scripts of no known template. Few, so each has its own allocation.
#[derive(Debug, Default)]
struct Others {
    scripts: Vec<Box<[u8]>>,
    /// Lengths of the scripts held, together.
    bytes: usize,
}

impl Slots for Others {
    fn push(&mut self, script: &[u8]) -> Option<u32> {
        let index = u32::try_from(self.scripts.len()).ok().filter(|index| *index < INDEX_END)?;
        self.scripts.push(script.into());
        self.bytes = self.bytes.saturating_add(script.len());
        Some(index)
    }

    fn get(&self, index: u32) -> Option<&[u8]> {
        self.scripts.get(index as usize).map(AsRef::as_ref)
    }

    fn swap_remove(&mut self, index: u32) -> Option<u32> {
        let last = self.scripts.len().checked_sub(1)?;
        let removed = index as usize;
        if removed > last {
            return None;
        }
        let script = self.scripts.swap_remove(removed);
        self.bytes = self.bytes.saturating_sub(script.len());
        if self.scripts.len() < self.scripts.capacity() / 4 {
            self.scripts.shrink_to(self.scripts.len().saturating_mul(2));
        }
        if removed == last { None } else { u32::try_from(last).ok() }
    }

    fn memory_bytes(&self) -> usize {
        self.scripts.capacity().saturating_mul(size_of::<Box<[u8]>>()).saturating_add(self.bytes)
    }
}
