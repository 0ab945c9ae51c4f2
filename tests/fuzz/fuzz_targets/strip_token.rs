//! libFuzzer's way into `tally_fuzz::strip_token`, which says what is checked.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tally_fuzz::strip_token(data));
