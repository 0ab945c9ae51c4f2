//! *Pure.* Extended public keys to scripts and addresses, address codecs and payment URIs, per chain.
//!
//! What differs between coins and networks stands as one row each in the table of `params/table.rs`; adding
//! a coin of the Bitcoin family is adding rows there. No private key is ever accepted, kept or shown.
//!
//! Not here: counters of handed-out indexes (`tally-account`), block parsing (`tally-matcher`).

mod address;
mod key;
mod params;
mod uri;

pub use address::{AddressError, address_of, parse_address};
pub use key::{Derived, ExtendedKey, KeyError};
pub use params::{AddressParams, ParamsError, ScriptKind, ScriptKindError};
pub use uri::{payment_uri, token_payment_uri};
