//! libFuzzer's way into `tally_fuzz::watch_set`, which says what is checked.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tally_fuzz::watch_set(data));
