//! What is simulated, as plain data.
//!
//! Not here: configuration files. The composition root decides what runs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tally_ports::Clock;
use tally_types::{ChainId, Currency, NameError, Span};

/// The contract of the token that [`SandboxSettings::four_chains`] puts on its `eth`.
pub const USDT_CONTRACT: &str = "0x5FbDB2315678afecb367f032d93F642f64180aa3";

/// What is simulated.
#[derive(Clone)]
pub struct SandboxSettings {
    /// The chains, each under its own id.
    pub chains: Vec<ChainSettings>,
    /// The time that blocks carry.
    pub clock: Arc<dyn Clock>,
    /// Decides everything that looks random: the same calls after the same seed give the same blocks.
    pub seed: u64,
    /// How many blocks each chain has at the start. Coins can be spent from the block after the hundredth on.
    pub initial_blocks: u32,
    /// Mines a block on each chain each time so much real time has passed; none: only when asked.
    pub auto_mine: Option<Span>,
    /// A file to keep what is done to the chains in: the next start with it has the chains as they were, under
    /// the seed and with the blocks of the first.
    pub journal: Option<PathBuf>,
}

/// Blocks at the start, unless said otherwise: ten of them have coins that can be spent.
const INITIAL_BLOCKS: u32 = 110;

impl SandboxSettings {
    /// The chains of `tally dev`: `btc`, `ltc`, `bch`, and `eth` with chain id 31337 and a token `USDT` of 6
    /// decimals at [`USDT_CONTRACT`].
    ///
    /// # Errors
    /// None in practice: the names are constants.
    pub fn four_chains(clock: Arc<dyn Clock>, seed: u64) -> Result<Self, NameError> {
        let usdt = TokenSettings { symbol: "USDT".parse()?, contract: USDT_CONTRACT.to_owned(), decimals: 6 };
        let chains = vec![
            ChainSettings::new("btc".parse()?, ChainKind::Bitcoin(Coin::Btc)),
            ChainSettings::new("ltc".parse()?, ChainKind::Bitcoin(Coin::Ltc)),
            ChainSettings::new("bch".parse()?, ChainKind::Bitcoin(Coin::Bch)),
            ChainSettings::new("eth".parse()?, ChainKind::Ethereum { chain_id: 31_337, tokens: vec![usdt] }),
        ];
        Ok(Self { chains, clock, seed, initial_blocks: INITIAL_BLOCKS, auto_mine: None, journal: None })
    }
}

impl fmt::Debug for SandboxSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxSettings")
            .field("chains", &self.chains)
            .field("seed", &self.seed)
            .field("initial_blocks", &self.initial_blocks)
            .field("auto_mine", &self.auto_mine)
            .finish_non_exhaustive()
    }
}

/// One simulated chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainSettings {
    /// Its id in calls to the sandbox.
    pub id: ChainId,
    /// What it is like.
    pub kind: ChainKind,
}

impl ChainSettings {
    /// A chain `id` like `kind`.
    pub const fn new(id: ChainId, kind: ChainKind) -> Self {
        Self { id, kind }
    }
}

/// What a simulated chain is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainKind {
    /// A coin of the Bitcoin family, on its network `regtest`.
    Bitcoin(Coin),
    /// Ethereum.
    Ethereum {
        /// What `eth_chainId` answers.
        chain_id: u64,
        /// The token contracts there are.
        tokens: Vec<TokenSettings>,
    },
}

/// A coin of the Bitcoin family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coin {
    /// Bitcoin.
    Btc,
    /// Litecoin.
    Ltc,
    /// Bitcoin Cash.
    Bch,
}

impl Coin {
    /// Its name in configuration: `btc`, `ltc`, `bch`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Btc => "btc",
            Self::Ltc => "ltc",
            Self::Bch => "bch",
        }
    }
}

/// A token contract on a simulated Ethereum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSettings {
    /// Its symbol, unique on its chain.
    pub symbol: Currency,
    /// Its address, `0x` and 40 hexadecimal digits.
    pub contract: String,
    /// Fraction digits of its unit, at most 18.
    pub decimals: u8,
}
