//! What differs between the coins of the Bitcoin family: one row each.
//!
//! Not here: code that acts on it.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::OP_CHECKSIG;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Witness,
};
use tally_matcher::Pow;

use crate::settings::Coin;

/// The rules of one coin on its network `regtest`.
#[derive(Debug)]
pub(crate) struct CoinRules {
    /// Its name in configuration.
    pub(crate) name: &'static str,
    /// The symbol of its unit.
    pub(crate) symbol: &'static str,
    /// The proof of work of its blocks.
    pub(crate) pow: Pow,
    /// Whether transactions have witnesses (BIP 141).
    pub(crate) segwit: bool,
    /// Whether a transaction in the mempool gives way to one that pays a higher fee.
    pub(crate) rbf: bool,
    /// Whether blocks are ordered by transaction id (BCH's canonical order, since 2018).
    pub(crate) ordered_by_txid: bool,
    /// Whether blocks may carry an MWEB extension block (LIP 0003).
    pub(crate) mweb: bool,
    /// Whether outputs may carry CashTokens.
    pub(crate) tokens: bool,
    /// Seconds between blocks.
    pub(crate) spacing_secs: u32,
    /// What `getnetworkinfo` says.
    pub(crate) node_version: u32,
    /// What `getnetworkinfo` says.
    pub(crate) subversion: &'static str,
    /// Makes the first block.
    pub(crate) genesis: fn() -> Block,
}

/// Every target on the network `regtest`: about every second hash meets it.
pub(crate) const BITS: u32 = 0x207f_ffff;

static BTC: CoinRules = CoinRules {
    name: "btc",
    symbol: "BTC",
    pow: Pow::Sha256d,
    segwit: true,
    rbf: true,
    ordered_by_txid: false,
    mweb: false,
    tokens: false,
    spacing_secs: 600,
    node_version: 280_000,
    subversion: "/Satoshi:28.0.0/",
    genesis: bitcoin_genesis,
};

static LTC: CoinRules = CoinRules {
    name: "ltc",
    symbol: "LTC",
    pow: Pow::Scrypt,
    segwit: true,
    rbf: true,
    ordered_by_txid: false,
    mweb: true,
    tokens: false,
    spacing_secs: 150,
    node_version: 210_201,
    subversion: "/LitecoinCore:0.21.2.1/",
    genesis: litecoin_genesis,
};

static BCH: CoinRules = CoinRules {
    name: "bch",
    symbol: "BCH",
    pow: Pow::Sha256d,
    segwit: false,
    rbf: false,
    ordered_by_txid: true,
    mweb: false,
    tokens: true,
    spacing_secs: 600,
    node_version: 28_000_000,
    subversion: "/Bitcoin Cash Node:28.0.0(EB32.0)/",
    genesis: bitcoin_genesis,
};

impl CoinRules {
    /// The rules of a coin.
    pub(crate) fn of(coin: Coin) -> &'static Self {
        match coin {
            Coin::Btc => &BTC,
            Coin::Ltc => &LTC,
            Coin::Bch => &BCH,
        }
    }
}

/// Bitcoin's, which Bitcoin Cash shares.
fn bitcoin_genesis() -> Block {
    bitcoin::constants::genesis_block(Network::Regtest)
}

/// The public key that Litecoin's first coins were paid to.
const LITECOIN_KEY: [u8; 65] = [
    0x04, 0x01, 0x84, 0x71, 0x0f, 0xa6, 0x89, 0xad, 0x50, 0x23, 0x69, 0x0c, 0x80, 0xf3, 0xa4, 0x9c, 0x8f,
    0x13, 0xf8, 0xd4, 0x5b, 0x8c, 0x85, 0x7f, 0xbc, 0xbc, 0x8b, 0xc4, 0xa8, 0xe4, 0xd3, 0xeb, 0x4b, 0x10,
    0xf4, 0xd4, 0x60, 0x4f, 0xa0, 0x8d, 0xce, 0x60, 0x1a, 0xaf, 0x0f, 0x47, 0x02, 0x16, 0xfe, 0x1b, 0x51,
    0x85, 0x0b, 0x4a, 0xcf, 0x21, 0xb1, 0x79, 0xc4, 0x50, 0x70, 0xac, 0x7b, 0x03, 0xa9,
];

/// Litecoin's first block on `regtest`, as its chain parameters make it: a headline of its day, 50 coins.
fn litecoin_genesis() -> Block {
    // The target of the main network's first block (0x1d00ffff) and a 4, the 4 as a push of one byte.
    const PREFIX: [u8; 7] = [0x04, 0xff, 0xff, 0x00, 0x1d, 0x01, 0x04];
    const HEADLINE: &str = "NY Times 05/Oct/2011 Steve Jobs, Apple\u{2019}s Visionary, Dies at 56";
    let mut script_sig = PREFIX.to_vec();
    script_sig.push(HEADLINE.len() as u8);
    script_sig.extend(HEADLINE.as_bytes());
    let coinbase = Transaction {
        version: bitcoin::transaction::Version::ONE,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::from_bytes(script_sig),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(5_000_000_000),
            script_pubkey: Builder::new().push_slice(LITECOIN_KEY).push_opcode(OP_CHECKSIG).into_script(),
        }],
    };
    let header = Header {
        version: Version::ONE,
        prev_blockhash: BlockHash::all_zeros(),
        merkle_root: TxMerkleNode::from_raw_hash(coinbase.compute_txid().to_raw_hash()),
        time: 1_296_688_602,
        bits: CompactTarget::from_consensus(BITS),
        nonce: 0,
    };
    Block { header, txdata: vec![coinbase] }
}

#[cfg(test)]
mod tests {
    use super::CoinRules;
    use crate::settings::Coin;

    #[test]
    fn first_blocks_are_those_of_the_real_networks() {
        let bitcoin = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";
        let litecoin = "530827f38f93b43ed12af0b3ad25a288dc02ed74d6d7857862df51fc56c416f9";
        for (coin, hash) in [(Coin::Btc, bitcoin), (Coin::Bch, bitcoin), (Coin::Ltc, litecoin)] {
            let rules = CoinRules::of(coin);
            let block = (rules.genesis)();
            assert_eq!(block.block_hash().to_string(), hash, "{}", rules.name);
            assert!(block.check_merkle_root(), "{}", rules.name);
            assert_eq!(coin.as_str(), rules.name);
        }
    }
}
