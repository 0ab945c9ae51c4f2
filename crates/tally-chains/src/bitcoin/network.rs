//! The chains of the family and how to tell them apart.
//!
//! The genesis block is not enough: BCH shares that of BTC on three networks, and chipnet that of testnet4. So
//! further blocks are looked at ([`Landmark`]), from the parameters of Bitcoin Core, Litecoin Core and BCHN; and
//! where both chains are private (regtest), what the node calls itself.

use tally_matcher::{Options, Pow};
use tally_ports::PortError;
use tally_types::Currency;

use crate::settings::ChainSettings;

/// A coin of the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coin {
    Btc,
    Ltc,
    Bch,
}

/// A block that tells two chains with one beginning apart.
#[derive(Debug)]
pub(crate) struct Landmark {
    pub(crate) height: u64,
    /// As nodes print it.
    pub(crate) hash: &'static str,
    /// Whether it is of this chain, or of the one to be told from it.
    pub(crate) ours: bool,
}

/// One chain of the family.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) coin: Coin,
    pub(crate) name: &'static str,
    /// The genesis block's hash, as nodes print it.
    pub(crate) genesis: &'static str,
    /// The easiest target that the chain allows, in compact form.
    pub(crate) easiest_bits: u32,
    pub(crate) landmarks: &'static [Landmark],
}

const GENESIS_MAIN: &str = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";
const GENESIS_TESTNET3: &str = "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943";
const GENESIS_REGTEST: &str = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";
const GENESIS_BCH_TESTNET4: &str = "000000001dd410c49a788668ce26751718cc797474d3152a5fc073dd44fd9f7b";

/// The first block of Bitcoin Cash alone (1 August 2017).
const fn bch_split(ours: bool) -> Landmark {
    let hash = "000000000000000000651ef99cb9fcbe0dadde1d424bd9f15ff20136191a5eec";
    Landmark { height: 478_559, hash, ours }
}

/// The same on testnet3.
const fn bch_test_split(ours: bool) -> Landmark {
    let hash = "00000000000e38fef93ed9582a7df43815d5c2ba9fd37ef70c9a0ea4a285b8f5";
    Landmark { height: 1_155_876, hash, ours }
}

/// The first block of chipnet alone, after testnet4.
const fn chipnet_split(ours: bool) -> Landmark {
    let hash = "00000000040ba9641ba98a37b2e5ceead38e4e2930ac8f145c8094f94c708727";
    Landmark { height: 115_252, hash, ours }
}

/// Bitcoin SV left at the first of these, eCash at the second.
const BCH_LATER_SPLITS: [Landmark; 2] = [
    Landmark {
        height: 556_767,
        hash: "0000000000000000004626ff6e3b936941d341c5932ece4357eeccac44e6d56c",
        ours: true,
    },
    Landmark {
        height: 661_648,
        hash: "0000000000000000029e471c41818d24b8b74c911071c4ef0b4a0509f9b5a8ce",
        ours: true,
    },
];

/// A network with the easiest target of the main networks of Bitcoin.
const fn network(
    coin: Coin,
    name: &'static str,
    genesis: &'static str,
    landmarks: &'static [Landmark],
) -> Network {
    Network { coin, name, genesis, easiest_bits: 0x1d00_ffff, landmarks }
}

/// The same with another easiest target.
const fn easier(mut network: Network, easiest_bits: u32) -> Network {
    network.easiest_bits = easiest_bits;
    network
}

static NETWORKS: [Network; 13] = [
    network(Coin::Btc, "mainnet", GENESIS_MAIN, &[bch_split(false)]),
    network(Coin::Btc, "testnet", GENESIS_TESTNET3, &[bch_test_split(false)]),
    network(Coin::Btc, "testnet4", "00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043", &[]),
    easier(
        network(Coin::Btc, "signet", "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6", &[]),
        0x1e03_77ae,
    ),
    easier(network(Coin::Btc, "regtest", GENESIS_REGTEST, &[]), 0x207f_ffff),
    easier(
        network(
            Coin::Ltc,
            "mainnet",
            "12a765e31ffd4059bada1e25190f6e98c99d9714d334efa41a195a7e7e04bfe2",
            &[],
        ),
        0x1e0f_ffff,
    ),
    easier(
        network(
            Coin::Ltc,
            "testnet",
            "4966625a4b2851d9fdee139e56211a0d88575f59ed816ff5e6a63deb4e3e29a0",
            &[],
        ),
        0x1e0f_ffff,
    ),
    easier(
        network(
            Coin::Ltc,
            "regtest",
            "530827f38f93b43ed12af0b3ad25a288dc02ed74d6d7857862df51fc56c416f9",
            &[],
        ),
        0x207f_ffff,
    ),
    network(Coin::Bch, "mainnet", GENESIS_MAIN, &BCH_MAIN_LANDMARKS),
    network(Coin::Bch, "testnet", GENESIS_TESTNET3, &[bch_test_split(true)]),
    network(Coin::Bch, "testnet4", GENESIS_BCH_TESTNET4, &[chipnet_split(false)]),
    network(Coin::Bch, "chipnet", GENESIS_BCH_TESTNET4, &[chipnet_split(true)]),
    easier(network(Coin::Bch, "regtest", GENESIS_REGTEST, &[]), 0x207f_ffff),
];

static BCH_MAIN_LANDMARKS: [Landmark; 3] = {
    let [sv, ecash] = BCH_LATER_SPLITS;
    [bch_split(true), sv, ecash]
};

impl Coin {
    const ALL: [Self; 3] = [Self::Btc, Self::Ltc, Self::Bch];

    /// The name in the configuration; in capitals it is the currency's symbol.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Btc => "btc",
            Self::Ltc => "ltc",
            Self::Bch => "bch",
        }
    }

    /// The coin that a node is made for, by what it calls itself, where that is known.
    pub(crate) fn of_agent(agent: &str) -> Option<Self> {
        let agent = agent.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| agent.contains(word));
        if says(&["litecoin"]) {
            Some(Self::Ltc)
        } else if says(&["bitcoin cash", "bcash", "bchd", "bch unlimited", "flowee", "knuth"]) {
            Some(Self::Bch)
        } else if says(&["/satoshi:", "bcoin", "btcd", "btcwire"]) {
            Some(Self::Btc)
        } else {
            None
        }
    }
}

impl Network {
    /// The network that the settings name.
    pub(crate) fn of(settings: &ChainSettings) -> Result<&'static Self, PortError> {
        if !settings.tokens.is_empty() {
            return Err(settings.refuse("token does not exist for kind = \"bitcoin\""));
        }
        let coin = settings.coin.as_deref().ok_or_else(|| settings.refuse("coin is missing"))?;
        let coin = Coin::ALL.into_iter().find(|one| one.name() == coin).ok_or_else(|| {
            settings.refuse(format_args!(
                "coin = {coin:?} is not one of {}",
                Coin::ALL.map(Coin::name).join(", ")
            ))
        })?;
        let name = settings.network.as_deref().ok_or_else(|| settings.refuse("network is missing"))?;
        let ours = || NETWORKS.iter().filter(|network| network.coin == coin);
        ours().find(|network| network.name == name).ok_or_else(|| {
            let names: Vec<_> = ours().map(|network| network.name).collect();
            settings.refuse(format_args!(
                "network = {name:?} is not one of {} (coin = {:?})",
                names.join(", "),
                coin.name()
            ))
        })
    }

    /// The symbol of its currency.
    pub(crate) fn currency(&self) -> Result<Currency, PortError> {
        let parsed = self.coin.name().parse::<Currency>();
        parsed.map_err(|error| PortError::persistent(error.to_string()))
    }

    /// The function that its blocks' work is measured by.
    pub(crate) const fn pow(&self) -> Pow {
        match self.coin {
            Coin::Btc | Coin::Bch => Pow::Sha256d,
            Coin::Ltc => Pow::Scrypt,
        }
    }

    /// More bytes than any block of the chain has. Four million weight units are as many bytes at most, and an
    /// extension block stands beside them; Bitcoin Cash began at 32 MB and grows with its use.
    pub(crate) const fn block_bytes_max(&self) -> usize {
        match self.coin {
            Coin::Btc => 4 << 20,
            Coin::Ltc => 16 << 20,
            Coin::Bch => 256 << 20,
        }
    }

    /// How its outputs are compared.
    pub(crate) const fn options(&self) -> Options {
        Options { strip_token_prefix: matches!(self.coin, Coin::Bch) }
    }

    /// Whether bytes may follow a block's last transaction (Litecoin's extension block).
    pub(crate) const fn has_extension_blocks(&self) -> bool {
        matches!(self.coin, Coin::Ltc)
    }
}

#[cfg(test)]
mod tests;
