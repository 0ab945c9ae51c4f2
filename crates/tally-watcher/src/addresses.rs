//! What a watcher keeps of the log: the addresses in its watch set and the payments it has told of, with their
//! rows in the store.
//!
//! Not here: when rows are committed (`persist`) and when facts are read (`replay`, `follower`).

use tally_events::{Fact, Shard};
use tally_tracker::Told;
use tally_types::{BaseUnits, BlockHash, BlockRef, ChainId, DepositKey, Height, Position, Script, TxId};

/// A script that is watched since a log position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) script: Script,
    /// The position of the fact that named it.
    pub(crate) position: Position,
    /// No payment to it can be below.
    pub(crate) birth: Height,
}

/// What a fact does to what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Watch(Address),
    Unwatch(Vec<Script>),
    /// A payment was told to be in a block. It may have another identity too, if it was found in another way.
    Mined {
        told: Box<Told>,
        several_ways: bool,
    },
    Unmined(DepositKey),
}

pub(crate) fn change_of(chain: &ChainId, shard: Shard, position: Position, fact: &Fact) -> Option<Change> {
    match fact {
        Fact::OrderQuoted(quoted) if quoted.chain == *chain && shard.has(&quoted.script) => {
            let (script, birth) = (quoted.script.clone(), quoted.birth_height);
            Some(Change::Watch(Address { script, position, birth }))
        }
        Fact::OrderUnwatched(unwatched) => {
            let ours = unwatched.scripts.iter().filter(|(on, script)| on == chain && shard.has(script));
            let scripts: Vec<Script> = ours.map(|(_, script)| script.clone()).collect();
            (!scripts.is_empty()).then_some(Change::Unwatch(scripts))
        }
        Fact::DepositMined(mined) if mined.chain == *chain && shard.has(&mined.deposit.script) => {
            let deposit = &mined.deposit;
            let told = Told {
                key: deposit.key.clone(),
                block: mined.block,
                currency: deposit.currency.clone(),
                amount: deposit.amount,
                script: deposit.script.clone(),
                since: deposit.difference.map(|difference| difference.since),
            };
            Some(Change::Mined { told: Box::new(told), several_ways: deposit.inputs.is_empty() })
        }
        Fact::DepositUnmined(fact) if fact.chain == *chain => Some(Change::Unmined(fact.deposit.clone())),
        _ => None,
    }
}

/// Rows of payments lie between these keys.
pub(crate) const MINED_FROM: &[u8] = b"d";
/// The end of the rows of payments.
pub(crate) const MINED_TO: &[u8] = b"e";

/// A slot is longer only where a chain nests its calls absurdly; what is cut off then tells no two apart.
const KEY_SLOT_MAX: usize = 400;

pub(crate) fn mined_key(deposit: &DepositKey) -> Vec<u8> {
    let slot = deposit.slot.as_bytes();
    let slot = slot.get(..KEY_SLOT_MAX).unwrap_or(slot);
    [MINED_FROM, deposit.txid.display_bytes(), slot].concat()
}

pub(crate) fn mined_value(told: &Told) -> Vec<u8> {
    let currency = told.currency.as_str().as_bytes();
    let mut value = told.block.hash.display_bytes().to_vec();
    value.extend_from_slice(&told.block.height.get().to_be_bytes());
    // Above its own block no sum begins.
    let since = told.since.map_or(u64::MAX, Height::get);
    value.extend_from_slice(&since.to_be_bytes());
    value.extend_from_slice(&told.amount.units().to_be_bytes());
    value.push(u8::try_from(currency.len()).unwrap_or(u8::MAX));
    value.extend_from_slice(currency);
    value.extend_from_slice(told.script.as_bytes());
    value
}

/// The block that a payment was told to be in.
pub(crate) fn mined_in(value: &[u8]) -> Option<BlockHash> {
    value.first_chunk::<32>().map(|hash| BlockHash::from_display(*hash))
}

/// Reads the row of a payment back; `None` if it is none of ours. A slot that was cut off stays so.
pub(crate) fn mined_from(key: &[u8], value: &[u8]) -> Option<Told> {
    let (txid, slot) = key.strip_prefix(MINED_FROM)?.split_first_chunk::<32>()?;
    let slot = String::from_utf8(slot.to_vec()).ok()?;
    let (hash, rest) = value.split_first_chunk::<32>()?;
    let (height, rest) = rest.split_first_chunk::<8>()?;
    let (since, rest) = rest.split_first_chunk::<8>()?;
    let (units, rest) = rest.split_first_chunk::<16>()?;
    let (len, rest) = rest.split_first()?;
    let (currency, script) = rest.split_at_checked(usize::from(*len))?;
    let height = Height::new(u64::from_be_bytes(*height));
    let since = Height::new(u64::from_be_bytes(*since));
    Some(Told {
        key: DepositKey { txid: TxId::from_display(*txid), slot },
        block: BlockRef { height, hash: BlockHash::from_display(*hash) },
        currency: std::str::from_utf8(currency).ok()?.parse().ok()?,
        amount: BaseUnits::from_units(u128::from_be_bytes(*units)),
        script: Script::from_bytes(script).ok()?,
        since: (since <= height).then_some(since),
    })
}

/// Rows that lead from a script to the payments to it begin so.
const PAID_FROM: &[u8] = b"s";
/// They hold this much of a script: several may share a beginning, and the payment's own row tells.
const PAID_SCRIPT_MAX: usize = 64;

/// The beginning of the keys of rows that lead to the payments to a script.
pub(crate) fn paid_prefix(script: &Script) -> Vec<u8> {
    let bytes = script.as_bytes();
    let begin = bytes.get(..PAID_SCRIPT_MAX).unwrap_or(bytes);
    let len = u8::try_from(begin.len()).unwrap_or(u8::MAX);
    [PAID_FROM, &[len], begin].concat()
}

/// The key of a row without a value that leads to a payment. It stays when the payment's own row goes.
pub(crate) fn paid_key(told: &Told) -> Vec<u8> {
    [paid_prefix(&told.script), mined_key(&told.key)].concat()
}

/// Rows of addresses lie between these keys.
pub(crate) const ROWS_FROM: &[u8] = b"w";
/// The end of the rows of addresses.
pub(crate) const ROWS_TO: &[u8] = b"x";

/// A key holds this much of a script; the rest, which no script of an address has, is in the value.
const KEY_SCRIPT_MAX: usize = 500;
const HEAD: usize = 16;

pub(crate) fn row_key(script: &Script) -> Vec<u8> {
    let bytes = script.as_bytes();
    let mut key = ROWS_FROM.to_vec();
    key.extend_from_slice(bytes.get(..KEY_SCRIPT_MAX).unwrap_or(bytes));
    key
}

pub(crate) fn row_value(address: &Address) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEAD);
    value.extend_from_slice(&address.position.get().to_be_bytes());
    value.extend_from_slice(&address.birth.get().to_be_bytes());
    value.extend_from_slice(address.script.as_bytes().get(KEY_SCRIPT_MAX..).unwrap_or_default());
    value
}

/// Reads a row back; `None` if it is none of ours.
pub(crate) fn from_row(key: &[u8], value: &[u8]) -> Option<Address> {
    let (position, rest) = value.split_first_chunk::<8>()?;
    let (birth, tail) = rest.split_first_chunk::<8>()?;
    let mut script = key.strip_prefix(ROWS_FROM)?.to_vec();
    script.extend_from_slice(tail);
    Some(Address {
        script: Script::from_bytes(&script).ok()?,
        position: Position::new(u64::from_be_bytes(*position)),
        birth: Height::new(u64::from_be_bytes(*birth)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_round_trip() {
        for len in [1, 20, 34, 500, 501, 10_000] {
            let script = Script::from_bytes(&vec![7; len]).unwrap();
            let address = Address { script, position: Position::new(9), birth: Height::new(5) };
            let (key, value) = (row_key(&address.script), row_value(&address));
            assert!(key.len() <= 512 && value.len() <= 64 * 1024);
            assert_eq!(from_row(&key, &value), Some(address), "{len}");
        }
        let mined = Told {
            key: DepositKey { txid: TxId::from_display([9; 32]), slot: "0".to_owned() },
            block: BlockRef { height: Height::new(70), hash: BlockHash::from_display([7; 32]) },
            currency: "ETH".parse().unwrap(),
            amount: BaseUnits::from_units(u128::MAX),
            script: Script::from_bytes(&[3; 20]).unwrap(),
            since: None,
        };
        for since in [None, Some(Height::new(0)), Some(Height::new(70))] {
            let mined = Told { since, ..mined.clone() };
            let value = mined_value(&mined);
            assert_eq!(mined_in(&value), Some(mined.block.hash));
            assert_eq!(mined_from(&mined_key(&mined.key), &value), Some(mined));
        }
        let long = Told {
            key: DepositKey { slot: "1_".repeat(400), ..mined.key.clone() },
            script: Script::from_bytes(&[3; 10_000]).unwrap(),
            ..mined.clone()
        };
        assert!(paid_key(&long).len() <= 512 && paid_key(&long).starts_with(&paid_prefix(&long.script)));
        let key = mined_key(&mined.key);
        assert!(key.as_slice() >= MINED_FROM && key.as_slice() < MINED_TO && key.len() <= 500);
        assert_eq!(from_row(b"p", &[0; 16]), None);
        assert_eq!(from_row(b"wx", &[0; 15]), None);
    }
}
