//! States as bytes, and bytes as states.
//!
//! Orders and counters are kept compactly; merchants as JSON, since their settings leave out what is not set.
//! Not here: which row holds what (`rows`).

use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tally_ports::PortError;

fn damaged(what: impl Display, error: impl std::error::Error + Send + Sync + 'static) -> PortError {
    let message = format!("{what} in the read model cannot be read: rebuild it with `tally rebuild`");
    PortError::persistent(message).because(error)
}

fn unwritable(what: impl Display, error: impl std::error::Error + Send + Sync + 'static) -> PortError {
    PortError::persistent(format!("{what} cannot be written to the read model")).because(error)
}

pub(crate) fn to_bytes<T: Serialize>(what: impl Display, value: &T) -> Result<Vec<u8>, PortError> {
    append(what, value, Vec::with_capacity(128))
}

/// Writes a value behind what is in `bytes`.
pub(crate) fn append<T: Serialize>(
    what: impl Display,
    value: &T,
    bytes: Vec<u8>,
) -> Result<Vec<u8>, PortError> {
    postcard::to_extend(value, bytes).map_err(|error| unwritable(what, error))
}

pub(crate) fn from_bytes<T: DeserializeOwned>(what: impl Display, bytes: &[u8]) -> Result<T, PortError> {
    postcard::from_bytes(bytes).map_err(|error| damaged(what, error))
}

pub(crate) fn to_json<T: Serialize>(what: impl Display, value: &T) -> Result<Vec<u8>, PortError> {
    serde_json::to_vec(value).map_err(|error| unwritable(what, error))
}

pub(crate) fn from_json<T: DeserializeOwned>(what: impl Display, bytes: &[u8]) -> Result<T, PortError> {
    serde_json::from_slice(bytes).map_err(|error| damaged(what, error))
}

pub(crate) fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}
