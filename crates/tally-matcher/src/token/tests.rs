//! Every rule of the prefix's encoding.

use proptest::prelude::*;

use super::strip_token_prefix;
use crate::testing::p2wpkh;

/// `ef`, a category, then `rest`.
fn prefixed(rest: &[u8]) -> Vec<u8> {
    [&[0xef], &[0xbb; 32][..], rest].concat()
}

#[test]
fn prefixes_that_parse_leave_the_script() {
    let table: &[(&str, &[u8])] = &[
        ("amount 1", &[0x10, 0x01]),
        ("amount of three bytes", &[0x10, 0xfd, 0xfd, 0x00]),
        ("greatest amount", &[0x10, 0xff, 255, 255, 255, 255, 255, 255, 255, 0x7f]),
        ("immutable nft", &[0x20]),
        ("mutable nft", &[0x21]),
        ("minting nft", &[0x22]),
        ("nft and amount", &[0x30, 0x05]),
        ("nft with commitment", &[0x60, 0x02, 0xcc, 0xcc]),
        ("minting nft with commitment and amount", &[0x72, 0x01, 0xcc, 0xfd, 0xfd, 0x00]),
    ];
    for (name, rest) in table {
        for script in [p2wpkh(1), vec![], vec![0xef; 80]] {
            let whole = [prefixed(rest), script.clone()].concat();
            assert_eq!(strip_token_prefix(&whole), Some(script.as_slice()), "{name}");
        }
    }
}

#[test]
fn a_commitment_of_more_than_40_bytes_is_still_a_prefix() {
    let whole = [prefixed(&[0x60, 128]), vec![0xcc; 128], p2wpkh(1)].concat();
    assert_eq!(strip_token_prefix(&whole), Some(p2wpkh(1).as_slice()));
}

#[test]
fn prefixes_that_do_not_parse_are_script() {
    let table: &[(&str, &[u8])] = &[
        ("no bitfield", &[]),
        ("neither nft nor amount", &[0x00, 0x51]),
        ("reserved bit", &[0x90, 0x01]),
        ("capability 3", &[0x23]),
        ("capability without nft", &[0x11, 0x01]),
        ("capability alone", &[0x01, 0x01]),
        ("commitment without nft", &[0x40, 0x01, 0xcc]),
        ("commitment and amount without nft", &[0x50, 0x01, 0xcc, 0x01]),
        ("no commitment length", &[0x60]),
        ("empty commitment", &[0x60, 0x00, 0x51]),
        ("commitment longer than the script", &[0x60, 0x02, 0xcc]),
        ("commitment length of 2^64 - 1", &[0x60, 0xff, 255, 255, 255, 255, 255, 255, 255, 255]),
        ("non-canonical commitment length", &[0x60, 0xfd, 0x01, 0x00, 0xcc]),
        ("no amount", &[0x10]),
        ("amount zero", &[0x10, 0x00, 0x51]),
        ("amount cut", &[0x10, 0xfd, 0xfd]),
        ("non-canonical amount", &[0x10, 0xfd, 0xfc, 0x00]),
        ("amount 2^63", &[0x10, 0xff, 0, 0, 0, 0, 0, 0, 0, 0x80]),
    ];
    for (name, rest) in table {
        assert_eq!(strip_token_prefix(&prefixed(rest)), None, "{name}");
    }
    assert_eq!(strip_token_prefix(&[]), None, "nothing");
    assert_eq!(strip_token_prefix(&[0xef]), None, "only the opcode");
    assert_eq!(strip_token_prefix(&[0xef; 33]), None, "category cut");
    assert_eq!(strip_token_prefix(&p2wpkh(1)), None, "an ordinary script");
}

proptest! {
    #[test]
    fn what_is_left_is_always_the_end(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let bytes = [&[0xef], bytes.as_slice()].concat();
        if let Some(script) = strip_token_prefix(&bytes) {
            prop_assert!(bytes.ends_with(script));
            prop_assert!(bytes.len() - script.len() >= 34);
        }
    }
}
