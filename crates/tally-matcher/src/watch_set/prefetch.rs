//! The hint to the processor that some memory will be read soon: the one unsafe instruction of the
//! crate. It changes no result, and on other machines it does nothing.

/// Asks for the cache line of `place`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[allow(unsafe_code)]
pub(super) fn prefetch<T>(place: &T) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: PREFETCHT0 belongs to SSE, which every x86_64 has. It is a hint that neither reads
    // nor writes memory as the program sees it and faults on no address; and this address is that
    // of a live reference anyway.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(place).cast::<i8>()) }
}

/// Does nothing: there is no stable prefetch instruction for this machine.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(super) fn prefetch<T>(_place: &T) {}
