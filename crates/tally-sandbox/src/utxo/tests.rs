use bitcoin::consensus::encode::deserialize;
use bitcoin::{Amount, Block, ScriptBuf, Transaction};
use tally_matcher::{
    BlockMatch, MerkleError, Options, WatchSet, check_pow, match_block, match_tx, strip_token_prefix,
    verify_merkle_root,
};
use tally_types::{Span, Timestamp};

use super::*;
use crate::settings::Coin;

const NOW: Timestamp = Timestamp::from_secs(1_750_000_000);
const ALL: [Coin; 3] = [Coin::Btc, Coin::Ltc, Coin::Bch];

fn chain(coin: Coin) -> SimulatedUtxoChain {
    SimulatedUtxoChain::new(CoinRules::of(coin), 7, NOW, 110).unwrap()
}

/// Pay-to-public-key-hash, which every coin has.
fn script(n: u8) -> ScriptBuf {
    ScriptBuf::from_bytes([&[0x76, 0xa9, 0x14][..], &[n; 20], &[0x88, 0xac]].concat())
}

fn pay(chain: &mut SimulatedUtxoChain, n: u8, sats: u64) -> Txid {
    chain.pay(&script(n), sats, UtxoMode::Normal).unwrap()
}

fn look(block: &StoredBlock, n: u8) -> BlockMatch {
    let mut watch = WatchSet::new(1);
    watch.insert_script(script(n).as_bytes()).unwrap();
    match_block(&watch, &block.raw, Options { strip_token_prefix: true }).unwrap()
}

/// `height:value` of what the active branch pays to a script.
fn story(chain: &SimulatedUtxoChain, n: u8) -> String {
    let hits = |block: &Arc<StoredBlock>| {
        let hits = look(block, n).hits.into_iter().map(|hit| hit.value);
        hits.map(|value| format!("{}:{value}", block.height)).collect::<Vec<_>>()
    };
    chain.active.iter().flat_map(hits).collect::<Vec<_>>().join(" ")
}

/// What every chain must keep to, whatever happened to it.
fn check(chain: &SimulatedUtxoChain) {
    let rules = chain.rules;
    let mut coins = Coins::new(chain.faucet.script_pubkey.clone());
    for pair in chain.active.windows(2) {
        let [prev, block] = pair else { unreachable!() };
        let header: [u8; 80] = block.raw[..80].try_into().unwrap();
        assert_eq!(block.header.prev_blockhash, prev.hash);
        check_pow(&header, rules.pow).unwrap();
        verify_merkle_root(&block.raw).unwrap();
        assert!(block.header.time > chain.median_time(prev) && block.header.time >= prev.header.time);
        let missing = |outpoint: &OutPoint| {
            coins.get(outpoint).is_none() && !block.txs.iter().any(|tx| tx.compute_txid() == outpoint.txid)
        };
        let inputs: Vec<_> =
            block.txs.iter().skip(1).flat_map(|tx| &tx.input).map(|input| input.previous_output).collect();
        assert_eq!(inputs.iter().filter(|outpoint| missing(outpoint)).count(), 0, "{}", block.height);
        coins.connect(&block.txs, block.height);
    }
    let unspent = |coins: &Coins| coins.faucet_coins().map(|(outpoint, _)| outpoint).collect::<Vec<_>>();
    assert_eq!(unspent(&coins), unspent(&chain.coins), "the coins are those of a replay");
    let pool: Vec<_> = chain.pool.transactions().cloned().collect();
    let minable = select(&chain.coins, chain.height() + 1, pool.clone());
    assert_eq!(minable.refused.len(), 0, "everything in the mempool can be mined");
    assert_eq!(minable.chosen.len(), pool.len());
}

#[test]
fn a_new_chain_is_a_valid_one() {
    for coin in ALL {
        let chain = chain(coin);
        check(&chain);
        assert_eq!((chain.height(), chain.tip().header.time), (110, 1_750_000_000));
        for block in &chain.active {
            let parsed: Block = deserialize(&block.raw).unwrap();
            assert!(parsed.check_merkle_root() && parsed.check_witness_commitment());
            let commits = parsed.txdata[0].input[0].witness.len() == 1;
            assert_eq!(commits, chain.rules.segwit && block.height > 0, "{coin:?}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_blocks() {
    let tip = |seed| SimulatedUtxoChain::new(CoinRules::of(Coin::Btc), seed, NOW, 3).unwrap().tip().hash;
    assert_eq!(tip(1), tip(1));
    assert_ne!(tip(1), tip(2));
}

#[test]
fn a_payment_waits_in_the_mempool_and_is_mined() {
    for coin in ALL {
        let mut chain = chain(coin);
        let txid = pay(&mut chain, 1, 12_345);
        assert_eq!(chain.pool_txids().collect::<Vec<_>>(), [txid]);
        let tx: Transaction = deserialize(&chain.pool_raw(&txid).unwrap()).unwrap();
        assert_eq!(tx.input.iter().all(|input| input.witness.is_empty()), !chain.rules.segwit);
        let block = chain.mine(NOW).unwrap();
        let found = look(&block, 1);
        assert_eq!(found.hits.len(), 1, "{coin:?}");
        assert_eq!((found.hits[0].value, Txid::from_byte_array(found.hits[0].txid)), (12_345, txid));
        assert_eq!(chain.pool_txids().count(), 0);
        check(&chain);
    }
}

#[test]
fn payments_do_not_depend_on_each_other_and_the_faucet_gives_all_it_has() {
    let mut chain = chain(Coin::Btc);
    let paid: Vec<_> = (0..50).map(|n| pay(&mut chain, n, 1_000_000)).collect();
    chain.replace(&paid[0]).unwrap();
    assert_eq!(chain.pool_txids().count(), 50, "a replacement takes no other payment with it");
    let error = chain.pay(&script(1), 100_000_000_000_000, UtxoMode::Normal).unwrap_err();
    let SandboxError::FaucetEmpty { needed, available } = error else { panic!("{error}") };
    assert!(needed > available && available > 900_000_000_000, "{available}");
    pay(&mut chain, 77, 900_000_000_000);
    chain.mine(NOW).unwrap();
    assert_eq!(story(&chain, 77), "111:900000000000");
    check(&chain);
}

#[test]
fn a_reorg_mines_again_what_is_not_dropped() {
    for coin in ALL {
        let mut chain = chain(coin);
        let kept = pay(&mut chain, 1, 111);
        let dropped = pay(&mut chain, 2, 222);
        chain.mine(NOW).unwrap();
        let late = pay(&mut chain, 3, 333);
        let old = chain.mine(NOW).unwrap();
        let waiting = pay(&mut chain, 4, 444);
        let done = chain.reorg(2, &[dropped], NOW).unwrap();
        assert_eq!((done.fork_height, done.height, done.dropped), (110, 113, vec![dropped]));
        assert_eq!([1, 2, 3].map(|n| story(&chain, n)), ["111:111", "", "112:333"], "{coin:?}");
        assert_eq!(chain.pool_txids().collect::<Vec<_>>(), [waiting]);
        let mined =
            |txid| chain.active.iter().any(|block| block.txs.iter().any(|tx| tx.compute_txid() == txid));
        assert_eq!([kept, dropped, late].map(mined), [true, false, true]);
        assert!(!chain.is_active(&old) && chain.block(&old.hash).is_some());
        assert_eq!(chain.stale_tips().iter().map(|tip| chain.branch_length(tip)).collect::<Vec<_>>(), [2]);
        check(&chain);
    }
}

#[test]
fn what_depends_on_a_dropped_transaction_leaves_too() {
    let mut chain = chain(Coin::Btc);
    let parent = pay(&mut chain, 1, 5_000);
    chain.mine(NOW).unwrap();
    let PoolTx::Plain(mined) = &chain.tip().pool_transactions()[0] else { panic!() };
    let vout = mined.output.iter().position(|output| output.script_pubkey == script(1)).unwrap();
    let mut child = mined.clone();
    child.input.truncate(1);
    child.input[0].previous_output = OutPoint::new(parent, vout as u32);
    child.output.truncate(1);
    child.output[0].value = Amount::from_sat(4_000);
    let child = chain.submit(&bitcoin::consensus::serialize(&child)).unwrap();
    let done = chain.reorg(1, &[parent], NOW).unwrap();
    assert_eq!(done.dropped, [parent, child]);
    assert_eq!(chain.pool_txids().count(), 0);
    check(&chain);
}

#[test]
fn a_reorg_that_names_what_is_not_there_changes_nothing() {
    let mut chain = chain(Coin::Btc);
    let below = pay(&mut chain, 1, 111);
    chain.mine(NOW).unwrap();
    let tip = chain.mine(NOW).unwrap();
    for (name, depth, drop) in
        [("a block too low", 1, vec![below]), ("no depth", 0, vec![]), ("the genesis block", 113, vec![])]
    {
        assert!(chain.reorg(depth, &drop, NOW).is_err(), "{name}");
        assert_eq!(chain.tip().hash, tip.hash, "{name}");
    }
    chain.reorg(112, &[], NOW).unwrap();
    assert_eq!(chain.height(), 113);
    check(&chain);
}

#[test]
fn a_replacement_spends_the_same_and_pays_elsewhere() {
    for coin in ALL {
        let mut chain = chain(coin);
        let old = pay(&mut chain, 1, 700);
        let inputs = |chain: &SimulatedUtxoChain, txid: &Txid| {
            deserialize::<Transaction>(&chain.pool_raw(txid).unwrap())
                .unwrap()
                .input
                .into_iter()
                .map(|input| input.previous_output)
                .collect::<Vec<_>>()
        };
        let spent = inputs(&chain, &old);
        let new = chain.replace(&old).unwrap();
        assert_eq!(inputs(&chain, &new), spent);
        assert_eq!(chain.pool_txids().collect::<Vec<_>>(), [new]);
        let newer = chain.replace(&new).unwrap();
        chain.mine(NOW).unwrap();
        assert_eq!(story(&chain, 1), "");
        for (txid, told) in [(new, "not in the mempool"), (newer, "it is mined")] {
            let error = chain.replace(&txid).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
        check(&chain);
    }
}

#[test]
fn blocks_of_bitcoin_cash_are_ordered_by_txid_and_tokens_stand_before_the_script() {
    let mut chain = chain(Coin::Bch);
    for n in 0..8 {
        chain.pay(&script(n), 1_000, UtxoMode::CashTokens).unwrap();
    }
    let block = chain.mine(NOW).unwrap();
    let ids: Vec<_> = block.txs.iter().skip(1).map(|tx| tx.compute_txid().to_string()).collect();
    assert!(ids.is_sorted() && ids.len() == 8, "{ids:?}");
    for n in 0..8 {
        assert!(look(&block, n).hits[0].carries_token);
    }
    for tx in block.txs.iter().skip(1) {
        let origin = tx.input[0].previous_output;
        let token =
            tx.output.iter().find(|output| output.script_pubkey != chain.faucet.script_pubkey).unwrap();
        let bytes = token.script_pubkey.as_bytes();
        assert!(strip_token_prefix(bytes).is_some());
        assert_eq!((origin.vout, &bytes[1..33]), (0, &origin.txid.to_byte_array()[..]), "a true category");
    }
    assert!(chain.mode("pegout").is_err() && chain.mode("normal").is_ok());
    check(&chain);
}

#[test]
fn a_peg_out_is_paid_by_the_hogex_under_another_id() {
    let mut chain = chain(Coin::Ltc);
    let kernel = chain.pay(&script(1), 5_000, UtxoMode::PegOut).unwrap();
    assert_eq!(chain.pool_txids().count(), 2, "the peg-in and the peg-out");
    let watch = WatchSet::new(1);
    let raw = chain.pool_raw(&kernel).unwrap();
    assert_eq!(match_tx(&watch, &raw, Options::default()).unwrap().txid, None, "it is all MWEB");
    assert!(chain.replace(&kernel).is_err());
    let first = chain.mine(NOW).unwrap();
    let second = chain.mine(NOW).unwrap();
    assert!(deserialize::<Block>(&first.raw).is_err(), "flag 08 is not known to this parser");
    let found = look(&first, 1);
    assert!(found.hits[0].is_hogex && found.hits[0].vout == 1 && found.trailing_bytes > 0);
    assert_ne!(Txid::from_byte_array(found.hits[0].txid), kernel);
    let (hogex, next) = (first.txs.last().unwrap(), second.txs.last().unwrap());
    assert_eq!(next.input[0].previous_output, OutPoint::new(hogex.compute_txid(), 0));
    assert_eq!(chain.pool_txids().count(), 0);
    check(&chain);

    let old = hogex.compute_txid();
    chain.reorg(2, &[], NOW).unwrap();
    assert_eq!(story(&chain, 1), "111:5000");
    assert_ne!(chain.at(111).unwrap().txs.last().unwrap().compute_txid(), old, "the HogEx is another one");
    check(&chain);
    let hogex = chain.at(111).unwrap().txs.last().unwrap().compute_txid();
    let done = chain.reorg(3, &[hogex], NOW).unwrap();
    assert_eq!((done.dropped, story(&chain, 1)), (vec![kernel], String::new()));
    check(&chain);
}

#[test]
fn a_forged_block_has_its_header_but_not_its_merkle_root() {
    let mut chain = chain(Coin::Btc);
    assert_eq!(chain.tip().forged(), None);
    pay(&mut chain, 1, 700);
    let block = chain.mine(NOW).unwrap();
    let forged = block.forged().unwrap();
    assert_eq!(forged[..80], block.raw[..80]);
    assert!(matches!(verify_merkle_root(&forged), Err(MerkleError::Mismatch { .. })));
}

#[test]
fn transactions_that_somebody_sends_are_judged() {
    let mut chain = chain(Coin::Bch);
    let mut other = self::chain(Coin::Btc);
    let txid = pay(&mut chain, 1, 700);
    let raw = chain.pool_raw(&txid).unwrap();
    let tx: Transaction = deserialize(&raw).unwrap();
    let with = |change: fn(&mut Transaction)| {
        let mut tx = tx.clone();
        change(&mut tx);
        bitcoin::consensus::serialize(&tx)
    };
    for (name, raw, expected) in [
        ("known", raw.clone(), Ok(txid)),
        ("cut off", raw[..raw.len() - 1].to_vec(), Err(SubmitError::Malformed)),
        ("a rival", with(|tx| tx.output.truncate(1)), Err(SubmitError::Conflict)),
        (
            "money from nothing",
            with(|tx| tx.output[0].value = Amount::MAX_MONEY),
            Err(SubmitError::TooMuchOut),
        ),
        ("unknown input", with(|tx| tx.input[0].previous_output.vout = 999), Err(SubmitError::MissingInput)),
        ("one input twice", with(|tx| tx.input.push(tx.input[0].clone())), Err(SubmitError::Senseless)),
    ] {
        assert_eq!(chain.submit(&raw), expected, "{name}");
    }
    chain.mine(NOW).unwrap();
    assert_eq!(chain.submit(&raw), Err(SubmitError::AlreadyMined));

    let txid = pay(&mut other, 1, 700);
    let mut tx: Transaction = deserialize(&other.pool_raw(&txid).unwrap()).unwrap();
    tx.output[0].value = Amount::from_sat(tx.output[0].value.to_sat() + 1);
    assert_eq!(other.submit(&bitcoin::consensus::serialize(&tx)), Err(SubmitError::FeeTooLow));
    tx.output.truncate(1);
    let rival = other.submit(&bitcoin::consensus::serialize(&tx)).unwrap();
    assert_eq!(other.pool_txids().collect::<Vec<_>>(), [rival], "the higher fee wins");
    check(&other);
}

#[test]
fn times_rise_though_the_clock_stands_or_falls() {
    let mut chain = chain(Coin::Btc);
    for age in [0, 0, 3_600, 0, 7_200] {
        for _ in 0..10 {
            chain.mine(NOW.minus(Span::from_secs(age))).unwrap();
        }
    }
    check(&chain);
    let far = Timestamp::from_secs(5_000_000_000);
    assert!(matches!(chain.mine(far), Err(SandboxError::HeaderTime(5_000_000_000))));
    assert!(chain.reorg(1, &[], far).is_err());
    assert_eq!(chain.height(), 160);
}

/// Anything in any order leaves a valid chain, and each payment where it belongs.
#[test]
fn random_lives_keep_the_rules() {
    for (seed, coin) in (0..6).flat_map(|seed| ALL.map(|coin| (seed, coin))) {
        let mut dice = Seeded::new(seed, "life");
        let mut chain = SimulatedUtxoChain::new(CoinRules::of(coin), seed, NOW, 102).unwrap();
        let mut alive: Vec<Txid> = Vec::new();
        for step in 0..40_u64 {
            match dice.next() % 8 {
                0..=2 => alive.extend(chain.pay(&script(1), 1_000 + step, UtxoMode::Normal).ok()),
                3 if chain.rules.tokens => {
                    alive.extend(chain.pay(&script(2), 1_000, UtxoMode::CashTokens).ok());
                }
                3 if chain.rules.mweb => alive.extend(chain.pay(&script(2), 1_000, UtxoMode::PegOut).ok()),
                3..=5 => drop(chain.mine(NOW.plus(Span::from_secs(step))).unwrap()),
                6 => {
                    let waiting: Vec<_> = chain.pool_txids().collect();
                    if let Some(txid) = waiting.first()
                        && let Ok(successor) = chain.replace(txid)
                    {
                        alive.push(successor);
                    }
                    alive.retain(|txid| chain.pool.contains(txid) || !waiting.contains(txid));
                }
                _ => {
                    let drop: Vec<_> =
                        chain.tip().pool_transactions().iter().map(PoolTx::txid).take(1).collect();
                    let done = chain.reorg(1 + dice.next() % 4, &drop, NOW).unwrap();
                    alive.retain(|txid| !done.dropped.contains(txid));
                }
            }
            if step % 10 == 9 {
                check(&chain);
            }
            let mined: HashSet<_> =
                chain.active.iter().flat_map(|block| block.pool_transactions()).map(|tx| tx.txid()).collect();
            for txid in &alive {
                let places = (mined.contains(txid), chain.pool.contains(txid));
                assert!(places.0 != places.1, "seed {seed}, {coin:?}, step {step}: {txid} is {places:?}");
            }
        }
    }
}
