//! What parses and what does not, on hand-made bytes.

use super::{Mweb, RawTx, Visitor, walk, walk_tx};
use crate::testing::{TxSpec, block, elsewhere, p2wpkh, printed, unhex};
use crate::{OutPoint, WalkError};

/// Writes down all it is shown.
#[derive(Default)]
struct Log {
    lines: Vec<String>,
    txids: Vec<[u8; 32]>,
    mweb: Vec<Mweb>,
}

impl<'a> Visitor<'a> for Log {
    fn begin_tx(&mut self, index: u32, _offset: u32) {
        self.lines.push(format!("tx{index}"));
    }

    fn input(&mut self, outpoint: &'a [u8; 36], _offset: u32) {
        self.lines.push(format!("in:{}", OutPoint::from_bytes(outpoint).vout));
    }

    fn output(&mut self, value: u64, script: &'a [u8], _offset: u32) {
        self.lines.push(format!("out:{value}/{}", script.len()));
    }

    fn end_tx(&mut self, tx: &RawTx<'a>) {
        self.txids.push(tx.txid());
        self.mweb.push(tx.mweb);
        let coinbase = if tx.is_coinbase() { " coinbase" } else { "" };
        let only = if tx.is_mweb_only() { " mweb-only" } else { "" };
        self.lines.push(format!("end{coinbase}{only}"));
    }
}

fn pay(n: u8) -> TxSpec {
    TxSpec::new(&[elsewhere(1), elsewhere(2)], &[(u64::from(n), p2wpkh(n)), (9, vec![])])
}

#[test]
fn a_block_is_shown_in_order() {
    let txs = [TxSpec::coinbase(&[(50, p2wpkh(0))]).with_witnesses(), pay(1), pay(2)];
    let mut log = Log::default();
    let walked = walk(&block(&txs), &mut log).unwrap();
    assert_eq!((walked.tx_count, walked.trailing_bytes), (3, 0));
    let trace = log.lines.join(" ");
    let payment = |index| format!("tx{index} in:1 in:2 out:{index}/22 out:9/0 end");
    let coinbase = "tx0 in:4294967295 out:50/22 end coinbase";
    assert_eq!(trace, format!("{coinbase} {} {}", payment(1), payment(2)));
    assert_eq!(log.txids, txs.iter().map(TxSpec::txid).collect::<Vec<_>>());
}

#[test]
fn every_form_of_a_transaction_has_the_same_id() {
    let forms = [
        ("plain", pay(1), Mweb::Absent),
        ("witness", pay(1).with_witnesses(), Mweb::Absent),
        ("hogex", pay(1).with_mweb(&[0]), Mweb::HogEx),
        ("hogex with witness", pay(1).with_witnesses().with_mweb(&[0]), Mweb::HogEx),
        ("mweb data", pay(1).with_mweb(&[1, 2, 3, 4, 5]), Mweb::Payload),
        ("mweb data, witness", pay(1).with_witnesses().with_mweb(&[1, 2, 3]), Mweb::Payload),
    ];
    for (name, tx, mweb) in forms {
        let mut log = Log::default();
        assert_eq!(walk_tx(&tx.encode(), &mut log), Ok(()), "{name}");
        assert_eq!((log.txids, log.mweb), (vec![pay(1).txid()], vec![mweb]), "{name}");
    }
}

#[test]
fn the_first_hogex_may_spend_nothing() {
    let tx = TxSpec::new(&[], &[(0, vec![0x58; 34])]).with_mweb(&[0]);
    let mut log = Log::default();
    let walked = walk(&block(&[TxSpec::coinbase(&[]), tx.clone()]), &mut log).unwrap();
    assert_eq!((walked.tx_count, log.txids.get(1)), (2, Some(&tx.txid())));
}

#[test]
fn transactions_that_nodes_refuse() {
    let tx = pay(1);
    let mut unknown = tx.clone();
    unknown.flag = 2;
    let mut both = tx.clone();
    both.flag = 3;
    both.witnesses = vec![vec![vec![1]]; 2];
    let mut empty_witness = tx.clone();
    empty_witness.flag = 1;
    empty_witness.witnesses = vec![vec![]; 2];
    let no_inputs = TxSpec::new(&[], &[]);
    let no_outputs = TxSpec::new(&[elsewhere(1)], &[]).with_mweb(&[0]);
    let body_end = 4 + 2 + (tx.encode().len() - 8);
    let table = [
        ("flag 2", unknown.encode(), WalkError::UnknownFlag { offset: 5, flag: 2 }),
        ("flag 3", both.encode(), WalkError::UnknownFlag { offset: 5, flag: 3 }),
        ("no inputs", no_inputs.encode(), WalkError::UnknownFlag { offset: 5, flag: 0 }),
        (
            "witness flag without witness",
            empty_witness.encode(),
            WalkError::SuperfluousWitness { offset: body_end + 2 },
        ),
        (
            "hogex without outputs",
            no_outputs.encode(),
            WalkError::HogExWithoutOutputs { offset: no_outputs.encode().len() - 5 },
        ),
        (
            "mweb data byte 2",
            tx.clone().with_mweb(&[2]).encode(),
            WalkError::UnexpectedMweb { offset: body_end, byte: 2 },
        ),
        ("a byte more", [tx.encode(), vec![0]].concat(), WalkError::TrailingBytes { count: 1 }),
        ("nothing", vec![], WalkError::Truncated { offset: 0 }),
    ];
    for (name, bytes, error) in table {
        assert_eq!(walk_tx(&bytes, &mut Log::default()), Err(error), "{name}");
    }
}

#[test]
fn mweb_data_other_than_the_hogex_stop_a_block() {
    let txs = [TxSpec::coinbase(&[]), pay(1).with_mweb(&[1, 0, 0, 0])];
    let error = walk(&block(&txs), &mut Log::default()).unwrap_err();
    assert!(matches!(error, WalkError::UnexpectedMweb { byte: 1, .. }), "{error}");
}

#[test]
fn sizes_longer_than_needed_are_refused() {
    let count = |count: &[u8]| [&[0; 80], count].concat();
    let refused = [
        ("fd below fd", count(&[0xfd, 0xfc, 0x00])),
        ("fe below 10000", count(&[0xfe, 0xff, 0xff, 0x00, 0x00])),
        ("ff below 100000000", count(&[0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])),
    ];
    for (name, bytes) in refused {
        let error = walk(&bytes, &mut Log::default());
        assert_eq!(error, Err(WalkError::NonCanonicalSize { offset: 80 }), "{name}");
    }
}

#[test]
fn counts_beyond_the_bytes_end_at_once() {
    for count in [&[0xff_u8; 9][..], &[0xfe, 0xff, 0xff, 0xff, 0xff], &[1], &[0xfd]] {
        let bytes = [&[0; 80], count].concat();
        let error = walk(&bytes, &mut Log::default()).unwrap_err();
        assert!(matches!(error, WalkError::Truncated { .. }), "{error}");
    }
}

#[test]
fn every_cut_of_a_block_is_truncated() {
    let hogex = pay(3).with_mweb(&[0]);
    let whole = block(&[TxSpec::coinbase(&[(1, p2wpkh(1))]).with_witnesses(), pay(2), hogex]);
    for len in 0..whole.len() {
        let error = walk(&whole[..len], &mut Log::default()).unwrap_err();
        let in_bounds = matches!(error, WalkError::Truncated { offset } if offset <= len);
        assert!(in_bounds, "{len}: {error}");
    }
}

#[test]
fn bytes_behind_the_last_transaction_are_counted() {
    let whole = [block(&[TxSpec::coinbase(&[])]), vec![1; 77]].concat();
    assert_eq!(walk(&whole, &mut Log::default()).unwrap().trailing_bytes, 77);
}

/// From a litecoind 0.21.2.1 on regtest, with the extension block of 3,550 bytes.
#[test]
fn a_real_litecoin_block() {
    let bytes = unhex(include_str!("../../testdata/ltc_regtest_434_block.hex"));
    let mut log = Log::default();
    let walked = walk(&bytes, &mut log).unwrap();
    let hash = "3fd17c39e1e97554b5e505a09b95c201b57283f5743776b5bb0497191fc7a319";
    assert_eq!(printed(&walked.header.block_hash()), hash);
    let txids: Vec<_> = log.txids.iter().map(printed).collect();
    assert_eq!(
        txids,
        [
            "33de1dd8da3634b95abfd3bd99c6f607ca43b7a3d08be275e8f8f542786beba3",
            "1e526c2cc0ccfb3df7ceedfcb8fe1bb0aa406020e7260c1ba0132e031524ac8c",
        ]
    );
    assert_eq!(log.mweb, [Mweb::Absent, Mweb::HogEx]);
    assert_eq!(walked.trailing_bytes, bytes.len() - 81 - 170 - 128);
}

/// A peg-in that the same node gave by `getrawtransaction`: coins in, coins and MWEB data out.
#[test]
fn a_real_mempool_transaction_with_mweb_data() {
    let bytes = unhex(include_str!("../../testdata/ltc_pegin_tx.hex"));
    let mut log = Log::default();
    walk_tx(&bytes, &mut log).unwrap();
    let txid = "c5a214a3a554f3eb172bfd3ad8475fd087c3ecee616e0ef5409d08f5b6f8d856";
    assert_eq!(printed(log.txids.first().unwrap()), txid);
    assert_eq!(log.mweb, [Mweb::Payload]);
}

/// A transfer within MWEB has nothing to show.
#[test]
fn a_real_mempool_transaction_that_is_all_mweb() {
    let bytes = unhex(include_str!("../../testdata/ltc_mweb_only_tx.hex"));
    let mut log = Log::default();
    walk_tx(&bytes, &mut log).unwrap();
    assert_eq!(log.lines.join(" "), "tx0 end mweb-only");
}
