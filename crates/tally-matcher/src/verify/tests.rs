//! Known headers and trees, and every way they can be wrong.

use bitcoin::Network;
use bitcoin::consensus::serialize;
use proptest::prelude::*;

use super::{MerkleError, Pow, PowError, Target, check_pow, verify_merkle_root};
use crate::testing::{TxSpec, block, elsewhere, p2wpkh, unhex};
use crate::{Header, WalkError};

fn header_of(block: &[u8]) -> [u8; 80] {
    *block.first_chunk().unwrap()
}

/// The first block of Litecoin's main network.
fn litecoin_genesis() -> [u8; 80] {
    let mut root = unhex("97ddfbbae6be97fd6cdf3e7ca13232a3afff2353e29badfab7f73011edd4ced9");
    root.reverse();
    let mut header = [0; 80];
    header[0] = 1;
    header[36..68].copy_from_slice(&root);
    header[68..72].copy_from_slice(&1_317_972_665_u32.to_le_bytes());
    header[72..76].copy_from_slice(&0x1e0f_fff0_u32.to_le_bytes());
    header[76..].copy_from_slice(&2_084_524_493_u32.to_le_bytes());
    header
}

#[test]
fn true_headers_have_their_work() {
    for network in [Network::Bitcoin, Network::Testnet, Network::Regtest] {
        let genesis = serialize(&bitcoin::constants::genesis_block(network));
        assert_eq!(check_pow(&header_of(&genesis), Pow::Sha256d), Ok(()), "{network}");
        assert_eq!(verify_merkle_root(&genesis), Ok(()), "{network}");
    }
    assert_eq!(check_pow(&litecoin_genesis(), Pow::Scrypt), Ok(()));
    let real = unhex(include_str!("../../testdata/ltc_regtest_434_block.hex"));
    assert_eq!(check_pow(&header_of(&real), Pow::Scrypt), Ok(()));
    assert_eq!(verify_merkle_root(&real), Ok(()));
}

#[test]
fn another_nonce_or_function_has_not() {
    let mut header = litecoin_genesis();
    assert!(matches!(check_pow(&header, Pow::Sha256d), Err(PowError::AboveTarget { .. })));
    header[76] ^= 1;
    assert!(matches!(check_pow(&header, Pow::Scrypt), Err(PowError::AboveTarget { .. })));
}

#[test]
fn compact_targets() {
    // From Bitcoin Core's tests of the compact form.
    let table: &[(u32, Option<&str>)] = &[
        (0x0000_0000, None),
        (0x0012_3456, None),
        (0x0100_3456, None),
        (0x0200_0056, None),
        (0x0300_0000, None),
        (0x0492_3456, None),
        (0x0192_3456, None),
        (0x0112_3456, Some("12")),
        (0x0212_3456, Some("1234")),
        (0x0312_3456, Some("123456")),
        (0x0412_3456, Some("12345600")),
        (0x0500_9234, Some("92340000")),
        (0x1d00_ffff, Some("ffff0000000000000000000000000000000000000000000000000000")),
        (0x2012_3456, Some("1234560000000000000000000000000000000000000000000000000000000000")),
        (0x2112_3456, None),
        (0x2100_1234, Some("1234000000000000000000000000000000000000000000000000000000000000")),
        (0x2200_0012, Some("1200000000000000000000000000000000000000000000000000000000000000")),
        (0x2300_0012, None),
        (0xff12_3456, None),
    ];
    for (bits, number) in table {
        let want = number.map(|hex| unhex(&format!("{hex:0>64}")));
        let got = Target::from_compact(*bits).ok().map(|target| target.to_be_bytes().to_vec());
        assert_eq!(got, want, "{bits:#010x}");
    }
}

#[test]
fn work_is_as_nodes_count_it() {
    let table = [
        ("bitcoin's first block", 0x1d00_ffff, 0x1_0001_0001),
        ("regtest", 0x207f_ffff, 2),
        ("litecoin's first block", 0x1e0f_fff0, 0x10_0010),
        ("target 1, which 128 bits cannot hold", 0x0300_0001, u128::MAX),
    ];
    for (name, bits, work) in table {
        assert_eq!(Target::from_compact(bits).unwrap().work(), work, "{name}");
    }
}

proptest! {
    #[test]
    fn work_agrees_with_the_reference(mantissa in 1_u32..0x80_0000, len in 20_u32..=32) {
        let bits = (len << 24) | mantissa;
        let want = bitcoin::Target::from_compact(bitcoin::CompactTarget::from_consensus(bits));
        let want = u128::from_be_bytes(*want.to_work().to_be_bytes().last_chunk().unwrap());
        prop_assert_eq!(Target::from_compact(bits).unwrap().work(), want);
    }
}

fn payments(count: u8) -> Vec<TxSpec> {
    let payment = |n| TxSpec::new(&[elsewhere(n)], &[(1, p2wpkh(n))]).with_witnesses();
    std::iter::once(TxSpec::coinbase(&[(50, p2wpkh(0))])).chain((1..count).map(payment)).collect()
}

#[test]
fn trees_of_every_small_size() {
    for count in 1..20 {
        assert_eq!(verify_merkle_root(&block(&payments(count))), Ok(()), "{count}");
    }
}

#[test]
fn a_change_of_one_transaction_is_seen() {
    let mut bytes = block(&payments(5));
    let at = bytes.len() - 1;
    bytes[at] ^= 1;
    assert!(matches!(verify_merkle_root(&bytes), Err(MerkleError::Mismatch { .. })));
}

#[test]
fn repeated_transactions_with_the_same_root_are_refused() {
    let honest = block(&payments(3));
    let mut repeated = payments(3);
    repeated.push(repeated.last().unwrap().clone());
    let repeated = block(&repeated);
    let root = |block: &[u8]| Header::new(header_of(block)).merkle_root();
    assert_eq!(root(&honest), root(&repeated));
    assert!(matches!(verify_merkle_root(&repeated), Err(MerkleError::Repeated { .. })));
}

#[test]
fn no_coinbase_no_block() {
    let txs = payments(3);
    let headless = block(txs.get(1..).unwrap());
    assert!(matches!(verify_merkle_root(&headless), Err(MerkleError::NoCoinbase { .. })));
    assert_eq!(verify_merkle_root(&block(&[])), Err(MerkleError::NoTransactions));
    let cut = verify_merkle_root(&headless[..90]);
    assert!(matches!(cut, Err(MerkleError::Walk(WalkError::Truncated { .. }))));
}

#[test]
fn errors_name_hashes_as_nodes_print_them() {
    let mut hash = [0; 32];
    hash[31] = 0xab;
    let text = MerkleError::Repeated { hash }.to_string();
    assert!(text.starts_with("hash ab0000"), "{text}");
}
