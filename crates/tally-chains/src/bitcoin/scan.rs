//! Blocks and mempool transactions as bytes: checked, matched, and told in the words of the port.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tally_matcher::{
    BlockMatch, Hit, OutPoint as RawOutPoint, Pow, Target, WalkError, check_pow, match_block, match_tx,
    verify_merkle_root,
};
use tally_ports::{Credit, Header, ScannedBlock, SharedWatch, Spend};
use tally_types::{
    BaseUnits, BlockHash, BlockRef, Currency, DepositKey, Height, OutPoint, Script, Timestamp, TxId,
};

use super::network::Network;
use crate::endpoint::Endpoint;
use crate::fault::{Fault, FaultKind};

/// More than all coins of any chain of the family: 84 million of Litecoin.
const VALUE_MAX: u64 = 84_000_000 * 100_000_000;

/// Blocks whose work is remembered as checked.
const WORKED_MAX: usize = 4096;

/// Bytes that contradict what they were asked for as, in words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{told}")]
pub(crate) struct Contradiction {
    told: String,
    truncated: bool,
}

impl Contradiction {
    fn new(what: impl std::fmt::Display) -> Self {
        Self { told: what.to_string(), truncated: false }
    }

    /// The fault of the node that told the bytes.
    pub(crate) fn fault(&self, endpoint: &Endpoint) -> Fault {
        let kind = if self.truncated { FaultKind::Truncated } else { FaultKind::Contradiction };
        Fault::new(kind, format!("{}: {self}", endpoint.label()))
    }
}

fn contradiction<T>(what: impl std::fmt::Display) -> Result<T, Contradiction> {
    Err(Contradiction::new(what))
}

fn unwalked(hash: BlockHash, error: &WalkError) -> Contradiction {
    let truncated = matches!(error, WalkError::Truncated { .. });
    Contradiction { told: format!("block {hash}: {error}"), truncated }
}

/// Checks the work of headers. Where that takes long (scrypt) a header is checked once: its hash stands for its
/// bytes.
pub(crate) struct Work {
    network: &'static Network,
    checked: Mutex<HashSet<BlockHash>>,
}

impl Work {
    pub(crate) fn new(network: &'static Network) -> Self {
        Self { network, checked: Mutex::default() }
    }

    pub(crate) const fn network(&self) -> &'static Network {
        self.network
    }

    /// Checks the work against the target that the header names, and that target against the easiest allowed.
    fn check(&self, header: &[u8; 80], hash: BlockHash) -> Result<(), Contradiction> {
        let is_slow = self.network.pow() == Pow::Scrypt;
        if is_slow && self.checked.lock().unwrap_or_else(PoisonError::into_inner).contains(&hash) {
            return Ok(());
        }
        let bits = tally_matcher::Header::new(*header).bits();
        let bad = |error| Contradiction::new(format_args!("block {hash}: {error}"));
        let (target, easiest) = (Target::from_compact(bits), Target::from_compact(self.network.easiest_bits));
        if target.map_err(bad)? > easiest.map_err(bad)? {
            return contradiction(format_args!(
                "block {hash}: its target {bits:#010x} is easier than the chain allows"
            ));
        }
        check_pow(header, self.network.pow()).map_err(bad)?;
        if is_slow {
            let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
            if checked.len() >= WORKED_MAX {
                checked.clear();
            }
            checked.insert(hash);
        }
        Ok(())
    }
}

/// Reads the header of the block `expected` from its 80 bytes.
pub(crate) fn header(
    bytes: &[u8],
    expected: BlockHash,
    height: Height,
    work: &Work,
) -> Result<Header, Contradiction> {
    let Ok(bytes) = <[u8; 80]>::try_from(bytes) else {
        return contradiction(format_args!(
            "the header of block {expected} has {} bytes, not 80",
            bytes.len()
        ));
    };
    let raw = tally_matcher::Header::new(bytes);
    let hash = BlockHash::from_internal(raw.block_hash());
    if hash != expected {
        return contradiction(format_args!("the header of block {expected} is that of {hash}"));
    }
    work.check(&bytes, hash)?;
    Ok(Header {
        block: BlockRef { height, hash },
        prev: BlockHash::from_internal(raw.prev_hash()),
        time: Timestamp::from_secs(i64::from(raw.time())),
    })
}

/// About how many hashes a target of this compact form takes: 2^256 over the target.
pub(crate) fn work_of(bits: u32) -> u128 {
    let mantissa = u128::from(bits & 0x007f_ffff);
    // The target is the mantissa, shifted by so many bytes: up or, of the smallest, down.
    let shifted = i64::from(bits >> 24).saturating_sub(3).saturating_mul(8);
    let left = u32::try_from(256_i64.saturating_sub(shifted)).unwrap_or_default();
    let Some(work) = (1_u128 << left.min(127)).checked_div(mantissa) else { return 0 };
    let more = left.saturating_sub(127);
    if more > work.leading_zeros() { u128::MAX } else { work.checked_shl(more).unwrap_or(u128::MAX) }
}

/// Checks a block's bytes and finds what is watched in them.
pub(crate) fn block(
    bytes: &[u8],
    expected: &Header,
    work: &Work,
    currency: &Currency,
    watch: &SharedWatch,
) -> Result<ScannedBlock, Contradiction> {
    let (BlockRef { hash, height }, network) = (expected.block, work.network());
    // Before all else: of another block there is nothing to say.
    if let Some(header) = bytes.get(..80).and_then(|bytes| bytes.try_into().ok()) {
        let told = BlockHash::from_internal(tally_matcher::Header::new(header).block_hash());
        if told != hash {
            return contradiction(format_args!("the header of block {hash} is that of {told}"));
        }
    }
    let found = {
        let set = watch.read().unwrap_or_else(PoisonError::into_inner);
        match_block(&set, bytes, network.options())
    };
    let found = found.map_err(|error| unwalked(hash, &error))?;
    let header = header(&found.header, hash, height, work)?;
    if header != *expected {
        return contradiction(format_args!("block {hash}: its header is not the one told before"));
    }
    if found.trailing_bytes > 0 && !network.has_extension_blocks() {
        return contradiction(format_args!("block {hash}: {} bytes too many", found.trailing_bytes));
    }
    // With or without a hit: else a node could take the hit away. A twentieth of what the transport costs.
    verify_merkle_root(bytes).map_err(|error| Contradiction::new(format_args!("block {hash}: {error}")))?;
    let credits = credits(&found, currency)?;
    let spends = found.spends.iter().map(|spend| spend_of(&spend.outpoint, &spend.txid)).collect();
    Ok(ScannedBlock { header, credits, spends, method: None })
}

fn credits(found: &BlockMatch, currency: &Currency) -> Result<Vec<Credit>, Contradiction> {
    // A HogEx's first output is Litecoin's extension block itself, never a payment.
    let payments = found.hits.iter().filter(|hit| hit.value > 0 && !(hit.is_hogex && hit.vout == 0));
    payments.map(|hit| credit(hit, currency)).collect()
}

/// What a mempool transaction holds of interest.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) credits: Vec<Credit>,
    pub(crate) spends: Vec<Spend>,
}

/// Checks a mempool transaction's bytes and finds what is watched in them, or `None` if its bytes are none that can be read: Litecoin's
/// transactions within the extension block have no outputs to match, and with `-rpcserialversion=1` nothing at
/// all is left of them.
pub(crate) fn transaction(
    bytes: &[u8],
    expected: TxId,
    network: &Network,
    currency: &Currency,
    watch: &SharedWatch,
) -> Result<Option<Found>, Contradiction> {
    let found = {
        let set = watch.read().unwrap_or_else(PoisonError::into_inner);
        match_tx(&set, bytes, network.options())
    };
    let Ok(found) = found else { return Ok(None) };
    let Some(txid) = found.txid else { return Ok(Some(Found::default())) };
    let txid = TxId::from_internal(txid);
    if txid != expected {
        return contradiction(format_args!("transaction {expected} hashes to {txid}"));
    }
    // A peg-out's id is known once it is mined.
    let payments = found.hits.iter().filter(|hit| hit.value > 0 && !hit.is_hogex);
    let credits = payments.map(|hit| credit(hit, currency)).collect::<Result<_, _>>()?;
    let spends = found.spends.iter().map(|spend| spend_of(&spend.outpoint, &spend.txid)).collect();
    Ok(Some(Found { credits, spends }))
}

fn credit(hit: &Hit, currency: &Currency) -> Result<Credit, Contradiction> {
    let txid = TxId::from_internal(hit.txid);
    if hit.value > VALUE_MAX {
        return contradiction(format_args!("output {} of {txid} is worth more than there is", hit.vout));
    }
    let script = Script::from_bytes(&hit.script);
    let spent = hit.inputs.iter().filter(|outpoint| **outpoint != RawOutPoint::NULL);
    Ok(Credit {
        key: DepositKey { txid, slot: hit.vout.to_string() },
        currency: currency.clone(),
        amount: BaseUnits::from_units(u128::from(hit.value)),
        script: script
            .map_err(|error| Contradiction::new(format_args!("output {} of {txid}: {error}", hit.vout)))?,
        inputs: spent.map(outpoint).collect(),
        difference: None,
    })
}

fn spend_of(spent: &RawOutPoint, by: &[u8; 32]) -> Spend {
    Spend { outpoint: outpoint(spent), by: TxId::from_internal(*by) }
}

fn outpoint(raw: &RawOutPoint) -> OutPoint {
    OutPoint { txid: TxId::from_internal(raw.txid), vout: raw.vout }
}
