//! Random blocks, whole and damaged, against the plainest matcher there is: rust-bitcoin's decoder
//! and hash sets.

use std::collections::HashSet;

use bitcoin::consensus::encode::{deserialize, deserialize_partial, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, Block, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, absolute, transaction,
};
use proptest::prelude::*;

use super::{BlockMatch, Options, TxMatch, match_block, match_tx};
use crate::testing::{elsewhere, script};
use crate::{OutPoint, WatchSet, strip_token_prefix, verify_merkle_root};

/// `(tx, txid, vout, value, script, inputs)`
type RefHit = (usize, [u8; 32], u32, u64, Vec<u8>, Vec<OutPoint>);
/// `(tx, txid, vin, outpoint)`
type RefSpend = (usize, [u8; 32], u32, OutPoint);

#[derive(Default)]
struct Reference {
    scripts: HashSet<Vec<u8>>,
    outpoints: HashSet<OutPoint>,
    strip: bool,
}

impl Reference {
    fn set(&self, seed: u64) -> WatchSet {
        let mut set = WatchSet::new(seed);
        self.scripts.iter().for_each(|script| assert_eq!(set.insert_script(script), Ok(true)));
        self.outpoints.iter().for_each(|at| assert_eq!(set.insert_outpoint(at), Ok(true)));
        set
    }

    fn find(&self, txs: &[Transaction], in_block: bool) -> (Vec<RefHit>, Vec<RefSpend>) {
        let (mut hits, mut spends) = (Vec::new(), Vec::new());
        let mut watched = self.outpoints.clone();
        for (index, tx) in txs.iter().enumerate() {
            let txid = tx.compute_txid().to_byte_array();
            let inputs: Vec<_> = tx.input.iter().map(outpoint).collect();
            for (vout, output) in (0..).zip(&tx.output) {
                let script = output.script_pubkey.as_bytes();
                let behind = if self.strip { strip_token_prefix(script) } else { None };
                let script = behind.unwrap_or(script).to_vec();
                if self.scripts.contains(&script) {
                    let value = output.value.to_sat();
                    hits.push((index, txid, vout, value, script, inputs.clone()));
                    if in_block {
                        watched.insert(OutPoint { txid, vout });
                    }
                }
            }
        }
        for (index, tx) in txs.iter().enumerate() {
            let txid = tx.compute_txid().to_byte_array();
            for (vin, outpoint) in (0..).zip(tx.input.iter().map(outpoint)) {
                if watched.contains(&outpoint) {
                    spends.push((index, txid, vin, outpoint));
                }
            }
        }
        (hits, spends)
    }
}

fn outpoint(input: &TxIn) -> OutPoint {
    let bitcoin::OutPoint { txid, vout } = input.previous_output;
    OutPoint { txid: txid.to_byte_array(), vout }
}

fn of_block(found: BlockMatch) -> (Vec<RefHit>, Vec<RefSpend>) {
    of_tx(TxMatch { txid: None, hits: found.hits, spends: found.spends })
}

fn of_tx(found: TxMatch) -> (Vec<RefHit>, Vec<RefSpend>) {
    let hits = found.hits.into_iter().map(|hit| {
        let inputs = hit.inputs.to_vec();
        (hit.tx_index as usize, hit.txid, hit.vout, hit.value, hit.script, inputs)
    });
    let spends = found.spends.into_iter();
    let spends = spends.map(|at| (at.tx_index as usize, at.txid, at.vin, at.outpoint));
    (hits.collect(), spends.collect())
}

/// What an input spends: something foreign, or an output of a transaction made before.
#[derive(Debug, Clone)]
enum Source {
    Elsewhere(u8),
    Before(prop::sample::Index, u32),
}

#[derive(Debug, Clone)]
struct TxPlan {
    inputs: Vec<(Source, Vec<Vec<u8>>)>,
    outputs: Vec<(u64, Vec<u8>)>,
    order: u32,
}

#[derive(Debug, Clone)]
struct Plan {
    txs: Vec<TxPlan>,
    scripts: Vec<Vec<u8>>,
    outpoints: Vec<u8>,
    strip: bool,
    seed: u64,
}

fn known_script() -> impl Strategy<Value = Vec<u8>> {
    (0_u8..10, 0_u8..4).prop_map(|(shape, n)| script(shape, n))
}

fn output_script() -> impl Strategy<Value = Vec<u8>> {
    let structure = prop_oneof![
        Just(vec![0x10, 0x05]),
        Just(vec![0x20]),
        Just(vec![0x61, 0x01, 0xcc]),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    let token = (structure, known_script())
        .prop_map(|(structure, script)| [&[0xef; 33], &structure[..], &script].concat());
    prop_oneof![
        6 => known_script(),
        1 => token,
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ]
}

fn tx_plan() -> impl Strategy<Value = TxPlan> {
    let source = prop_oneof![
        (0_u8..12).prop_map(Source::Elsewhere),
        (any::<prop::sample::Index>(), 0_u32..3).prop_map(|(at, vout)| Source::Before(at, vout)),
    ];
    let items = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..3);
    let inputs = prop::collection::vec((source, items), 1..4);
    let outputs = prop::collection::vec((any::<u64>(), output_script()), 0..5);
    (inputs, outputs, any::<u32>()).prop_map(|(inputs, outputs, order)| TxPlan { inputs, outputs, order })
}

fn plan() -> impl Strategy<Value = Plan> {
    (
        prop::collection::vec(tx_plan(), 0..24),
        prop::collection::vec(known_script(), 0..20),
        prop::collection::vec(0_u8..12, 0..6),
        any::<bool>(),
        any::<u64>(),
    )
        .prop_map(|(txs, scripts, outpoints, strip, seed)| Plan { txs, scripts, outpoints, strip, seed })
}

impl Plan {
    fn reference(&self) -> Reference {
        Reference {
            scripts: self.scripts.iter().cloned().collect(),
            outpoints: self.outpoints.iter().map(|n| elsewhere(*n)).collect(),
            strip: self.strip,
        }
    }

    const fn options(&self) -> Options {
        Options { strip_token_prefix: self.strip }
    }

    /// Parents are made first and then shuffled among their children.
    fn block(&self) -> Block {
        let mut made: Vec<(u32, Transaction)> = Vec::new();
        for plan in &self.txs {
            let txids: Vec<_> = made.iter().map(|(_, tx)| tx.compute_txid()).collect();
            let mut tx = plan.transaction(&txids);
            // No two are alike, as on a real chain: a block that ends in a repetition has a second
            // reading with the same root, and is refused for it.
            tx.lock_time = absolute::LockTime::from_height(txids.len() as u32).unwrap();
            made.push((plan.order, tx));
        }
        made.sort_by_key(|(order, _)| *order);
        let mut block = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
        block.txdata.extend(made.into_iter().map(|(_, tx)| tx));
        block.header.merkle_root = block.compute_merkle_root().unwrap();
        block
    }
}

impl TxPlan {
    fn transaction(&self, before: &[Txid]) -> Transaction {
        let input = |(source, items): &(Source, Vec<Vec<u8>>)| {
            let OutPoint { txid, vout } = match source {
                Source::Before(at, vout) if !before.is_empty() => {
                    OutPoint { txid: at.get(before).to_byte_array(), vout: *vout }
                }
                Source::Before(..) => elsewhere(0),
                Source::Elsewhere(n) => elsewhere(*n),
            };
            TxIn {
                previous_output: bitcoin::OutPoint { txid: Txid::from_byte_array(txid), vout },
                script_sig: ScriptBuf::from_bytes(vec![0x51; items.len()]),
                sequence: Sequence::MAX,
                witness: Witness::from_slice(items),
            }
        };
        let output = |(value, script): &(u64, Vec<u8>)| TxOut {
            value: Amount::from_sat(*value),
            script_pubkey: ScriptBuf::from_bytes(script.clone()),
        };
        Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: self.inputs.iter().map(input).collect(),
            output: self.outputs.iter().map(output).collect(),
        }
    }
}

/// A way to damage bytes.
#[derive(Debug, Clone)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = || any::<prop::sample::Index>();
    prop_oneof![
        4 => (at(), 1_u8..).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        1 => at().prop_map(Damage::Cut),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(a, b)| Damage::Insert(a, b)),
        1 => (at(), 1_usize..9).prop_map(|(at, count)| Damage::Remove(at, count)),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let len = bytes.len();
        match self {
            Self::Flip(at, bits) => bytes[at.index(len)] ^= bits,
            Self::Cut(at) => bytes.truncate(at.index(len)),
            Self::Insert(at, new) => {
                let at = at.index(len);
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Remove(at, count) => {
                let at = at.index(len);
                bytes.drain(at..(at + count).min(len));
            }
        }
    }
}

/// Both agree, or one of them is known to be stricter.
fn agree_on_block(plan: &Plan, bytes: &[u8]) -> Result<(), TestCaseError> {
    let reference = plan.reference();
    let ours = match_block(&reference.set(plan.seed), bytes, plan.options());
    match (ours, deserialize_partial::<Block>(bytes)) {
        (Ok(ours), Ok((block, read))) => {
            prop_assert_eq!(ours.block_hash, block.block_hash().to_byte_array());
            prop_assert_eq!(ours.prev_hash, block.header.prev_blockhash.to_byte_array());
            prop_assert_eq!(ours.time, block.header.time);
            prop_assert_eq!(ours.bits, block.header.bits.to_consensus());
            prop_assert_eq!(ours.tx_count as usize, block.txdata.len());
            prop_assert_eq!(ours.trailing_bytes, bytes.len() - read);
            prop_assert_eq!(of_block(ours), reference.find(&block.txdata, true));
        }
        // Core has "superfluous witness" for a transaction without inputs too.
        (Err(error), Ok((block, _))) => {
            let odd = block.txdata.iter().any(|tx| tx.input.is_empty());
            prop_assert!(odd, "refused: {}", error);
        }
        // Litecoin's flags are not known to the reference.
        (Ok(_), Err(error)) => {
            let litecoin = error.to_string().contains("segwit flag");
            prop_assert!(litecoin, "the reference refuses: {}", error);
        }
        (Err(_), Err(_)) => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whole_blocks(plan in plan()) {
        let bytes = serialize(&plan.block());
        let reference = plan.reference();
        let ours = match_block(&reference.set(plan.seed), &bytes, plan.options());
        let ours = ours.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(of_block(ours), reference.find(&plan.block().txdata, true));
        prop_assert_eq!(verify_merkle_root(&bytes), Ok(()));
    }

    #[test]
    fn damaged_blocks(plan in plan(), damages in prop::collection::vec(damage(), 1..4)) {
        let mut bytes = serialize(&plan.block());
        damages.iter().for_each(|damage| damage.apply(&mut bytes));
        agree_on_block(&plan, &bytes)?;
        let _ = verify_merkle_root(&bytes);
    }

    /// Damage near the places that decide how the rest is read.
    #[test]
    fn blocks_with_odd_counts_and_flags(plan in plan(), at in 80_usize..140, byte in 0_u8..12) {
        let mut bytes = serialize(&plan.block());
        bytes[at] = byte;
        agree_on_block(&plan, &bytes)?;
    }

    #[test]
    fn single_transactions(plan in plan(), damages in prop::collection::vec(damage(), 0..3)) {
        let reference = plan.reference();
        let set = reference.set(plan.seed);
        for tx in plan.block().txdata {
            let mut bytes = serialize(&tx);
            damages.iter().for_each(|damage| damage.apply(&mut bytes));
            let ours = match_tx(&set, &bytes, plan.options());
            match (ours, deserialize::<Transaction>(&bytes)) {
                (Ok(ours), Ok(tx)) => {
                    prop_assert_eq!(ours.txid, Some(tx.compute_txid().to_byte_array()));
                    prop_assert_eq!(of_tx(ours), reference.find(&[tx], false));
                }
                (Err(error), Ok(tx)) => {
                    prop_assert!(tx.input.is_empty(), "refused: {}", error);
                }
                (Ok(_), Err(error)) => {
                    prop_assert!(error.to_string().contains("segwit flag"), "{}", error);
                }
                (Err(_), Err(_)) => {}
            }
        }
    }

    #[test]
    fn any_bytes_at_all(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0_u8..3], 0..400),
        strip in any::<bool>(),
    ) {
        let mut set = WatchSet::new(1);
        set.insert_script(&[]).unwrap();
        set.insert_script(&[0]).unwrap();
        set.insert_outpoint(&OutPoint { txid: [0; 32], vout: 0 }).unwrap();
        let options = Options { strip_token_prefix: strip };
        let _ = match_block(&set, &bytes, options);
        let _ = match_tx(&set, &bytes, options);
        let _ = verify_merkle_root(&bytes);
    }
}
