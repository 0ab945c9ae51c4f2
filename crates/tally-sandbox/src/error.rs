//! What the sandbox refuses to do, and why.
//!
//! Not here: the errors of the simulated nodes' own JSON-RPC (`rpc`).

use tally_address::AddressError;
use tally_types::{AmountError, TxId};

/// Why the sandbox did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Two chains of the settings have the same id.
    #[error("chain {0:?} stands twice in the settings")]
    DuplicateChain(String),
    /// A token of the settings is wrong.
    #[error("token {symbol:?}: {why}")]
    Token {
        /// Its symbol.
        symbol: String,
        /// What is wrong.
        why: String,
    },
    /// The file that the sandbox is kept in cannot be read or written.
    #[error("the sandbox cannot be kept in {}: {error}", path.display())]
    Journal {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        #[source]
        error: std::io::Error,
    },
    /// The file that the sandbox is kept in says something that cannot be done again.
    #[error("{} was not made by this sandbox: remove the data folder and start again", _0.display())]
    Replay(std::path::PathBuf),
    /// A port on loopback cannot be opened.
    #[error("cannot listen on 127.0.0.1")]
    Listen(#[source] std::io::Error),
    /// A chain's first blocks cannot be made.
    #[error("the first blocks of chain {0:?} could not be made")]
    Bootstrap(String),
    /// No chain of that id.
    #[error("chain {chain:?} is not one of {known}")]
    UnknownChain {
        /// What was asked for.
        chain: String,
        /// The chains there are.
        known: String,
    },
    /// The chain does not have that asset.
    #[error("asset {asset:?} is not one of {known}")]
    UnknownAsset {
        /// What was asked for.
        asset: String,
        /// What the chain has.
        known: String,
    },
    /// The chain, or the asset, is not paid in that mode.
    #[error("mode {mode:?} is not one of {known} on this chain")]
    Mode {
        /// What was asked for.
        mode: String,
        /// What the chain offers.
        known: String,
    },
    /// Not an address of the chain.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Not an amount of the asset.
    #[error(transparent)]
    Amount(#[from] AmountError),
    /// The faucet has less than that.
    #[error("the faucet has {available} to give, {needed} are needed; mine blocks to fill it")]
    FaucetEmpty {
        /// Base units that are needed, fee included.
        needed: u128,
        /// Base units that can be spent now.
        available: u128,
    },
    /// Nothing that a token could be made from.
    #[error("the faucet has no first output of a transaction to make a token from; mine a block")]
    NoTokenOrigin,
    /// The transaction is not where it must be.
    #[error("transaction {txid} is not {expected}")]
    UnknownTransaction {
        /// The transaction.
        txid: TxId,
        /// Where it was looked for.
        expected: &'static str,
    },
    /// The transaction cannot be replaced.
    #[error("transaction {txid} cannot be replaced: {why}")]
    NotReplaceable {
        /// The transaction.
        txid: TxId,
        /// Why.
        why: &'static str,
    },
    /// The number of blocks is out of range.
    #[error("{found} blocks are not between 1 and {max}")]
    Blocks {
        /// What was asked for.
        found: u64,
        /// The most there can be.
        max: u64,
    },
    /// The clock shows a time that no block header can hold.
    #[error("block headers cannot hold the time {0} (seconds since 1970)")]
    HeaderTime(i64),
    /// The whole range of nonces holds no proof of work.
    #[error("no nonce gives a block at height {0} its proof of work")]
    NoNonce(u64),
    /// What the call was passed on to refused it.
    #[error("{0}")]
    Refused(String),
}

impl SandboxError {
    /// A word for programs, stable over versions.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::DuplicateChain(_) => "duplicate_chain",
            Self::Token { .. } => "bad_token",
            Self::Listen(_) | Self::Bootstrap(_) | Self::Journal { .. } | Self::Replay(_) => "not_started",
            Self::UnknownChain { .. } => "unknown_chain",
            Self::UnknownAsset { .. } => "unknown_asset",
            Self::Mode { .. } => "unknown_mode",
            Self::Address(_) => "bad_address",
            Self::Amount(_) => "bad_amount",
            Self::FaucetEmpty { .. } | Self::NoTokenOrigin => "faucet_empty",
            Self::UnknownTransaction { .. } => "unknown_transaction",
            Self::NotReplaceable { .. } => "not_replaceable",
            Self::Blocks { .. } => "bad_number_of_blocks",
            Self::HeaderTime(_) | Self::NoNonce(_) => "not_mined",
            Self::Refused(_) => "refused",
        }
    }
}
