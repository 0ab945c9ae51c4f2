//! One test per trap of a chain.

use super::{BlockMatch, Options, match_block, match_tx};
use crate::testing::{TxSpec, block, elsewhere, p2wpkh, printed, script, unhex};
use crate::{OutPoint, WalkError, WatchSet, sha256d, verify_merkle_root};

const PLAIN: Options = Options { strip_token_prefix: false };
const TOKENS: Options = Options { strip_token_prefix: true };

fn watching(scripts: &[Vec<u8>]) -> WatchSet {
    let mut set = WatchSet::new(0x5eed);
    for script in scripts {
        set.insert_script(script).unwrap();
    }
    set
}

/// Hits as `tx:vout=value`, spends as `tx:vin<vout`, in their order.
fn trace(found: &BlockMatch) -> String {
    let hits = found.hits.iter().map(|hit| format!("{}:{}={}", hit.tx_index, hit.vout, hit.value));
    let spends = found.spends.iter();
    let spends = spends.map(|at| format!("{}:{}<{}", at.tx_index, at.vin, at.outpoint.vout));
    hits.chain(spends).collect::<Vec<_>>().join(" ")
}

fn matched(set: &WatchSet, txs: &[TxSpec], options: Options) -> BlockMatch {
    let block = block(txs);
    assert_eq!(verify_merkle_root(&block), Ok(()));
    match_block(set, &block, options).unwrap()
}

fn coinbase() -> TxSpec {
    TxSpec::coinbase(&[(50, script(9, 99))]).with_witnesses()
}

#[test]
fn the_header_is_read() {
    let bytes = block(&[coinbase()]);
    let found = match_block(&watching(&[]), &bytes, PLAIN).unwrap();
    assert_eq!(found.header, bytes[..80]);
    assert_eq!(found.block_hash, sha256d(&bytes[..80]));
    assert_eq!(found.prev_hash, [7; 32]);
    assert_eq!(found.merkle_root, coinbase().txid());
    assert_eq!((found.time, found.bits), (1_700_000_000, 0x207f_ffff));
    assert_eq!((found.tx_count, found.trailing_bytes), (1, 0));
    assert_eq!(trace(&found), "");
}

#[test]
fn every_shape_of_script_is_found_and_only_it() {
    let outputs: Vec<_> = (0..10).map(|shape| (u64::from(shape), script(shape, 1))).collect();
    let txs = [coinbase(), TxSpec::new(&[elsewhere(1)], &outputs).with_witnesses()];
    for shape in 0..10 {
        let set = watching(&[script(shape, 1), script(shape, 2)]);
        let found = matched(&set, &txs, PLAIN);
        assert_eq!(trace(&found), format!("1:{shape}={shape}"));
        assert_eq!(found.hits[0].script, script(shape, 1));
    }
}

#[test]
fn a_hit_says_all_about_its_transaction() {
    let inputs = [elsewhere(1), elsewhere(2)];
    let paying = TxSpec::new(&inputs, &[(1, script(0, 9)), (2, p2wpkh(1)), (3, p2wpkh(1))]);
    let found = matched(&watching(&[p2wpkh(1)]), &[coinbase(), paying.clone()], PLAIN);
    assert_eq!(trace(&found), "1:1=2 1:2=3");
    for hit in &found.hits {
        assert_eq!((hit.txid, hit.inputs.as_ref()), (paying.txid(), inputs.as_slice()));
        assert!(!hit.is_hogex && !hit.is_coinbase && !hit.carries_token);
    }
    assert_eq!(found.hits[1].outpoint(), paying.outpoint(2));
}

#[test]
fn witnesses_change_neither_hits_nor_ids() {
    let plain = TxSpec::new(&[elsewhere(1)], &[(7, p2wpkh(1))]);
    let set = watching(&[p2wpkh(1)]);
    let bare = matched(&set, &[coinbase(), plain.clone()], PLAIN);
    let with = matched(&set, &[coinbase(), plain.with_witnesses()], PLAIN);
    assert_eq!(bare.hits, with.hits);
}

#[test]
fn a_coinbase_is_marked() {
    let txs = [TxSpec::coinbase(&[(50, p2wpkh(1))]).with_witnesses()];
    let found = matched(&watching(&[p2wpkh(1)]), &txs, PLAIN);
    assert!(found.hits[0].is_coinbase);
    assert_eq!(found.hits[0].inputs.as_ref(), [OutPoint::NULL]);
}

#[test]
fn values_are_taken_as_they_stand() {
    let txs = [coinbase(), TxSpec::new(&[elsewhere(1)], &[(u64::MAX, p2wpkh(1)), (0, p2wpkh(1))])];
    let found = matched(&watching(&[p2wpkh(1)]), &txs, PLAIN);
    assert_eq!(trace(&found), format!("1:0={} 1:1=0", u64::MAX));
}

#[test]
fn watched_outpoints_are_seen_spent() {
    let mut set = watching(&[]);
    set.insert_outpoint(&elsewhere(2)).unwrap();
    set.insert_outpoint(&elsewhere(4)).unwrap();
    let spender = TxSpec::new(&[elsewhere(1), elsewhere(2), elsewhere(4)], &[(1, p2wpkh(1))]);
    let found = matched(&set, &[coinbase(), spender.clone()], PLAIN);
    assert_eq!(trace(&found), "1:1<2 1:2<1");
    assert_eq!(found.spends[0].txid, spender.txid());
    assert_eq!(found.spends[1].outpoint, elsewhere(4));
    set.remove_outpoint(&elsewhere(2));
    assert_eq!(trace(&matched(&set, &[coinbase(), spender], PLAIN)), "1:2<1");
}

#[test]
fn a_child_may_stand_before_its_parent() {
    let parent = TxSpec::new(&[elsewhere(1)], &[(5, script(0, 9)), (6, p2wpkh(1))]);
    let child = TxSpec::new(&[elsewhere(2), parent.outpoint(1)], &[(4, script(0, 8))]);
    let stranger = TxSpec::new(&[parent.outpoint(0)], &[(4, script(0, 7))]);
    let set = watching(&[p2wpkh(1)]);
    let ahead = [coinbase(), stranger.clone(), child.clone(), parent.clone()];
    assert_eq!(trace(&matched(&set, &ahead, PLAIN)), "3:1=6 2:1<1");
    let behind = [coinbase(), parent, child, stranger];
    assert_eq!(trace(&matched(&set, &behind, PLAIN)), "1:1=6 2:1<1");
}

#[test]
fn an_outpoint_watched_and_created_in_the_block_is_one_spend() {
    let parent = TxSpec::new(&[elsewhere(1)], &[(6, p2wpkh(1))]);
    let child = TxSpec::new(&[parent.outpoint(0), elsewhere(2)], &[(4, p2wpkh(1))]);
    let mut set = watching(&[p2wpkh(1)]);
    set.insert_outpoint(&parent.outpoint(0)).unwrap();
    set.insert_outpoint(&elsewhere(2)).unwrap();
    let found = matched(&set, &[coinbase(), parent, child], PLAIN);
    assert_eq!(trace(&found), "1:0=6 2:0=4 2:0<0 2:1<2");
}

#[test]
fn a_peg_out_is_found_in_the_hogex() {
    let hogaddr = [&[0x58, 0x20], &[3; 32][..]].concat();
    let hogex = TxSpec::new(&[elsewhere(1)], &[(900, hogaddr), (3, p2wpkh(1))]).with_mweb(&[0]);
    let txs = [coinbase(), TxSpec::new(&[elsewhere(2)], &[(1, p2wpkh(1))]), hogex.clone()];
    let set = watching(&[p2wpkh(1)]);
    let bytes = [block(&txs), vec![1; 500]].concat();
    let found = match_block(&set, &bytes, PLAIN).unwrap();
    assert_eq!((trace(&found).as_str(), found.trailing_bytes), ("1:0=1 2:1=3", 500));
    assert_eq!(found.hits.iter().map(|hit| hit.is_hogex).collect::<Vec<_>>(), [false, true]);
    assert_eq!(found.hits[1].txid, hogex.txid());
    assert_eq!(verify_merkle_root(&bytes), Ok(()));
}

/// Mined by a litecoind 0.21.2.1 on regtest: the HogEx pays 3 LTC out of MWEB.
#[test]
fn a_real_peg_out() {
    let bytes = unhex(include_str!("../../testdata/ltc_regtest_434_block.hex"));
    let set = watching(&[unhex("00144bd81867d359512e16b86fd2d457a0a07213b0c5")]);
    let found = match_block(&set, &bytes, PLAIN).unwrap();
    assert_eq!(trace(&found), "1:1=300000000");
    let hit = &found.hits[0];
    let txid = "1e526c2cc0ccfb3df7ceedfcb8fe1bb0aa406020e7260c1ba0132e031524ac8c";
    assert_eq!((printed(&hit.txid).as_str(), hit.is_hogex), (txid, true));
    assert!(found.trailing_bytes > 3_000);
}

#[test]
fn mempool_transactions_of_litecoin() {
    let pegin = unhex(include_str!("../../testdata/ltc_pegin_tx.hex"));
    let mut set = watching(&[]);
    let found = match_tx(&set, &pegin, PLAIN).unwrap();
    let txid = "c5a214a3a554f3eb172bfd3ad8475fd087c3ecee616e0ef5409d08f5b6f8d856";
    assert_eq!(found.txid.as_ref().map(printed).as_deref(), Some(txid));
    // Version, two bytes of flag and one of count stand before it.
    let txid = *pegin.get(7..).and_then(|input| input.first_chunk()).unwrap();
    let spent = OutPoint { txid, vout: 0 };
    set.insert_outpoint(&spent).unwrap();
    let found = match_tx(&set, &pegin, PLAIN).unwrap();
    assert_eq!(found.spends.iter().map(|at| at.outpoint).collect::<Vec<_>>(), [spent]);
    let all_mweb = unhex(include_str!("../../testdata/ltc_mweb_only_tx.hex"));
    let found = match_tx(&set, &all_mweb, PLAIN).unwrap();
    assert_eq!((found.txid, found.hits.len(), found.spends.len()), (None, 0, 0));
}

#[test]
fn token_prefixes_are_stripped_where_asked() {
    let prefix = |bitfield: &[u8]| [&[0xef], &[0xbb; 32][..], bitfield].concat();
    let behind = |bitfield: &[u8], script: &[u8]| [prefix(bitfield), script.to_vec()].concat();
    for shape in 0..10 {
        let script = script(shape, 1);
        let malformed = behind(&[0x10, 0x00], &script);
        let outputs = [
            (1, behind(&[0x10, 0x05], &script)),
            (2, behind(&[0x72, 0x02, 0xcc, 0xcc, 0x05], &script)),
            (3, malformed.clone()),
            (4, script.clone()),
        ];
        let txs = [coinbase(), TxSpec::new(&[elsewhere(1)], &outputs)];
        let found = matched(&watching(std::slice::from_ref(&script)), &txs, TOKENS);
        assert_eq!(trace(&found), "1:0=1 1:1=2 1:3=4", "{shape}");
        let tokens: Vec<_> = found.hits.iter().map(|hit| hit.carries_token).collect();
        assert_eq!(tokens, [true, true, false], "{shape}");
        assert!(found.hits.iter().all(|hit| hit.script == script), "{shape}");
        let unstripped = matched(&watching(std::slice::from_ref(&script)), &txs, PLAIN);
        assert_eq!(trace(&unstripped), "1:3=4", "{shape}");
        let whole = matched(&watching(&[malformed]), &txs, TOKENS);
        assert_eq!(trace(&whole), "1:2=3", "{shape}: the whole is the script");
    }
}

#[test]
fn a_mempool_transaction_is_matched_alone() {
    let mut set = watching(&[p2wpkh(1)]);
    set.insert_outpoint(&elsewhere(2)).unwrap();
    let tx = TxSpec::new(&[elsewhere(1), elsewhere(2)], &[(4, script(0, 1)), (5, p2wpkh(1))]);
    for form in [tx.clone(), tx.clone().with_witnesses()] {
        let found = match_tx(&set, &form.encode(), PLAIN).unwrap();
        assert_eq!(found.txid, Some(tx.txid()));
        let hits: Vec<_> = found.hits.iter().map(|hit| (hit.txid, hit.vout, hit.value)).collect();
        assert_eq!(hits, [(tx.txid(), 1, 5)]);
        assert_eq!(found.hits[0].inputs.as_ref(), tx.inputs.as_slice());
        let spends: Vec<_> = found.spends.iter().map(|at| (at.txid, at.vin, at.outpoint)).collect();
        assert_eq!(spends, [(tx.txid(), 1, elsewhere(2))]);
    }
    let two = [tx.encode(), tx.encode()].concat();
    let error = WalkError::TrailingBytes { count: tx.encode().len() };
    assert_eq!(match_tx(&set, &two, PLAIN), Err(error));
}

/// More outputs than the ring holds, every place of it hit.
#[test]
fn nothing_is_lost_in_the_ring() {
    for count in [1_u8, 31, 32, 33, 63, 64, 65, 200] {
        let outputs: Vec<_> = (0..count).map(|n| (u64::from(n), p2wpkh(n))).collect();
        let txs = [coinbase(), TxSpec::new(&[elsewhere(1)], &outputs)];
        let all: Vec<_> = (0..count).map(p2wpkh).collect();
        let found = matched(&watching(&all), &txs, PLAIN);
        let values: Vec<_> = found.hits.iter().map(|hit| hit.value).collect();
        assert_eq!(values, (0..u64::from(count)).collect::<Vec<_>>(), "{count}");
    }
}
