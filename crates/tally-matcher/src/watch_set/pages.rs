//! Zeroed memory that is read at random: in huge pages where the system gives them, for else most
//! reads of a large filter would also miss the processor's table of pages.

use memmap2::{MmapMut, MmapOptions};

/// The usual size of a huge page. Smaller memory comes from the heap.
const HUGE_PAGE: usize = 2 << 20;
/// Two of a cache line, so that nothing of 32 bytes lies across two.
const ALIGNMENT: usize = 32;

/// Some bytes, aligned to 32.
#[derive(Debug)]
pub(super) enum Pages {
    /// With the number of bytes to pass over, so that the rest is aligned.
    Heap(Vec<u8>, usize),
    Mapped(MmapMut),
}

impl Pages {
    pub(super) fn zeroed(len: usize) -> Self {
        if len >= HUGE_PAGE
            && let Ok(map) = MmapOptions::new().len(len).map_anon()
        {
            // A kernel without huge pages says no, and then it is slower and nothing else.
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            return Self::Mapped(map);
        }
        let bytes = vec![0; len.saturating_add(ALIGNMENT)];
        let skip = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self::Heap(bytes, skip)
    }

    /// At least as many bytes as were asked for.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Heap(bytes, skip) => bytes.get(*skip..).unwrap_or_default(),
            Self::Mapped(map) => map,
        }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes, skip) => bytes.get_mut(*skip..).unwrap_or_default(),
            Self::Mapped(map) => map,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Heap(bytes, _) => bytes.capacity(),
            Self::Mapped(map) => map.len(),
        }
    }
}
