//! The addresses of the log: which facts add to the watch set, which take from it, and their rows in the store.
//!
//! Not here: when rows are committed (`persist`) and when facts are read (`replay`, `follower`).

use tally_events::Fact;
use tally_types::{ChainId, Height, Position, Script};

/// A script that is watched since a log position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) script: Script,
    /// The position of the fact that named it.
    pub(crate) position: Position,
    /// No payment to it can be below.
    pub(crate) birth: Height,
}

/// What a fact does to the addresses of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Watch(Address),
    Unwatch(Vec<Script>),
}

pub(crate) fn change_of(chain: &ChainId, position: Position, fact: &Fact) -> Option<Change> {
    match fact {
        Fact::OrderQuoted(quoted) if quoted.chain == *chain => Some(Change::Watch(Address {
            script: quoted.script.clone(),
            position,
            birth: quoted.birth_height,
        })),
        Fact::OrderUnwatched(unwatched) => {
            let ours = unwatched.scripts.iter().filter(|(on, _)| on == chain);
            let scripts: Vec<Script> = ours.map(|(_, script)| script.clone()).collect();
            (!scripts.is_empty()).then_some(Change::Unwatch(scripts))
        }
        _ => None,
    }
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
        assert_eq!(from_row(b"p", &[0; 16]), None);
        assert_eq!(from_row(b"wx", &[0; 15]), None);
    }
}
