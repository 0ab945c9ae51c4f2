//! Why bytes are not a block or a transaction. Offsets count from the first byte given.

use thiserror::Error;

/// The bytes are not a well-formed block or transaction.
///
/// All of them are persistent for the same bytes; whether another endpoint gives better ones is
/// the caller's question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WalkError {
    /// The bytes end inside a field.
    #[error("the bytes end inside a field at offset {offset}")]
    Truncated {
        /// Where the field begins.
        offset: usize,
    },
    /// A compact size is longer than it needs to be, which every node refuses.
    #[error("non-canonical compact size at offset {offset}")]
    NonCanonicalSize {
        /// Where the compact size begins.
        offset: usize,
    },
    /// A transaction without inputs, or with optional data of an unknown kind.
    #[error("unknown transaction flag {flag:#04x} at offset {offset}")]
    UnknownFlag {
        /// Where the flag stands.
        offset: usize,
        /// The flag byte.
        flag: u8,
    },
    /// The witness flag is set and every witness is empty (BIP 144 forbids it).
    #[error("witness flag without a witness in the transaction that ends at offset {offset}")]
    SuperfluousWitness {
        /// Where the empty witnesses end.
        offset: usize,
    },
    /// MWEB data that cannot stand here: within a block only the HogEx's `00` can.
    #[error("unexpected mweb data byte {byte:#04x} at offset {offset}")]
    UnexpectedMweb {
        /// Where the data byte stands.
        offset: usize,
        /// The data byte.
        byte: u8,
    },
    /// A HogEx (Litecoin's integrating transaction) without outputs.
    #[error("hogex without outputs at offset {offset}")]
    HogExWithoutOutputs {
        /// Where its data byte stands.
        offset: usize,
    },
    /// Bytes follow a transaction that should stand alone.
    #[error("{count} bytes follow the transaction")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// More bytes than any block of these chains has (offsets are kept in 32 bits).
    #[error("{len} bytes are more than a block can have")]
    TooLarge {
        /// The number of bytes given.
        len: usize,
    },
}
