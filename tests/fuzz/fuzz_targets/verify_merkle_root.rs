//! libFuzzer's way into `tally_fuzz::verify_merkle_root`, which says what is checked.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tally_fuzz::verify_merkle_root(data));
