//! Account-level extended public keys, plain or in a simple descriptor, and the addresses they make.
//!
//! Addresses stand at `…/0/i` (BIP 44: the receiving chain), or where the descriptor says. What is read is
//! checked once, so that deriving can fail only for the index. Not here: private keys. They are refused, and
//! no error carries any part of what was given except a public prefix.

use std::fmt;
use std::sync::LazyLock;

use bitcoin::NetworkKind;
use bitcoin::base58;
use bitcoin::bip32::{ChildNumber, Xpub};
use bitcoin::hashes::{Hash, hash160, sha256};
use bitcoin::secp256k1::{Secp256k1, VerifyOnly};
use bitcoin::taproot::TapTweakHash;
use tally_types::{Fingerprint, Script};

use crate::address::{Destination, ethereum};
use crate::params::{Family, Meaning};
use crate::{AddressParams, ScriptKind, address_of};

mod descriptor;
mod prefix;
#[cfg(test)]
mod tests;

static SECP: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);

/// Longer texts than this are no key: a descriptor with origin and checksum has some 200 characters.
const LONGEST: usize = 400;

/// Why a text is not a key that addresses can be made from. Carries nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A private key or a recovery phrase.
    #[error(
        "this is a private key or recovery phrase, which is never accepted (and not shown or kept): \
             give the account's extended public key"
    )]
    Private,
    /// Not an extended public key.
    #[error("not an extended public key: {0}")]
    NotAKey(&'static str),
    /// A key of another coin or network.
    #[error("{found} is not of {params}; taken here: {taken}", taken = prefixes(.params))]
    OtherNetwork {
        /// The prefix or origin.
        found: String,
        /// The chain.
        params: AddressParams,
    },
    /// A key for scripts that need several.
    #[error("{0} keys are for multi-signature wallets, which are not supported")]
    Multisig(String),
    /// The text does not say what kind of script the key is for.
    #[error("{prefix} does not say which kind of address the wallet has: give one of {kinds}",
            kinds = names(.params))]
    TypeNeeded {
        /// The prefix.
        prefix: &'static str,
        /// The chain.
        params: AddressParams,
    },
    /// The text says one kind of script, the caller another.
    #[error("the key is for {implied}, not for {given}")]
    TypeConflict {
        /// What the text says.
        implied: ScriptKind,
        /// What was asked for.
        given: ScriptKind,
    },
    /// The chain has no such scripts.
    #[error("{params} has no {kind}; there is {kinds}", kinds = names(.params))]
    TypeUnknown {
        /// The kind.
        kind: ScriptKind,
        /// The chain.
        params: AddressParams,
    },
    /// A step that needs the private key.
    #[error(
        "hardened steps after the key cannot be derived from a public key \
             (for Ethereum: an account as Ledger Live makes them, m/44'/60'/i'/0/0, has no key that can be used)"
    )]
    Hardened,
    /// Not one of the descriptors that are understood.
    #[error("the descriptor cannot be used: {0}")]
    Descriptor(&'static str),
    /// No key at that index.
    #[error("there is no address at index {0}")]
    Index(u32),
}

/// An extended public key of one chain, and what its addresses look like.
#[derive(Clone, PartialEq, Eq)]
pub struct ExtendedKey {
    params: AddressParams,
    kind: ScriptKind,
    origin: Option<String>,
    account: Xpub,
    path: Vec<u32>,
    /// The key right above the addresses.
    chain: Xpub,
}

/// Where the payment for one index goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derived {
    /// As the chain knows it.
    pub script: Script,
    /// As people know it, the usual form first.
    pub addresses: Vec<String>,
}

impl ExtendedKey {
    /// Reads a key: `xpub…`, `zpub…`, `[fingerprint/84h/0h/0h]xpub…`, `xpub…/0/*`, or one of the descriptors
    /// `pkh(…)`, `wpkh(…)`, `sh(wpkh(…))`, `tr(…)` with or without checksum. `kind` is needed where neither
    /// prefix nor descriptor says it, and must agree where one does.
    ///
    /// # Errors
    /// [`KeyError`], never with any part of a private key in it.
    pub fn parse(text: &str, params: AddressParams, kind: Option<ScriptKind>) -> Result<Self, KeyError> {
        let text = text.trim();
        if prefix::is_private(text) {
            return Err(KeyError::Private);
        }
        if text.len() > LONGEST || !text.is_ascii() {
            return Err(KeyError::NotAKey("too long, or with characters that no key has"));
        }
        let (wrapped, expression) = descriptor::unwrap(text)?;
        let parts = descriptor::key_expression(expression)?;
        if wrapped.is_some() && parts.path.is_none() {
            return Err(KeyError::Descriptor("it names a single key; its key must end in /0/*"));
        }
        check_origin(&parts, params)?;
        let (account, version) = prefix::decode(parts.key, params)?;
        let kind = choose_kind(wrapped, version.prefix, version.meaning, kind, params)?;
        let path = parts.path.unwrap_or_else(|| vec![0]);
        let mut chain = account;
        for step in &path {
            chain = child(&chain, *step)?;
        }
        Ok(Self { params, kind, origin: parts.origin.map(|origin| origin.text), account, path, chain })
    }

    /// What kind of script its addresses have.
    pub fn kind(&self) -> ScriptKind {
        self.kind
    }

    /// The chain it was read for.
    pub fn params(&self) -> AddressParams {
        self.params
    }

    /// The identity of the key whose children the addresses are: the same however prefix, origin, depth or
    /// script type were written, so that one counter guards all wallets that could hand out one address.
    pub fn fingerprint(&self) -> Fingerprint {
        let material = [&self.chain.chain_code[..], &self.chain.public_key.serialize()].concat();
        let hash = sha256::Hash::hash(&material).to_byte_array();
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        Fingerprint::from_bytes(first)
    }

    /// The script and addresses at `index`.
    ///
    /// # Errors
    /// [`KeyError::Index`] from 2^31 on, where public derivation ends.
    pub fn derive(&self, index: u32) -> Result<Derived, KeyError> {
        let key = child(&self.chain, index)?.public_key;
        let hash = hash160::Hash::hash(&key.serialize()).to_byte_array();
        let gone = |()| KeyError::Index(index);
        let script = match self.kind {
            ScriptKind::P2pkh => Destination::P2pkh(hash).to_script(),
            ScriptKind::P2wpkh => Destination::Witness { version: 0, program: hash.to_vec() }.to_script(),
            ScriptKind::P2shP2wpkh => {
                let redeem = Destination::Witness { version: 0, program: hash.to_vec() };
                let redeem = redeem.to_script().map_err(gone)?;
                Destination::P2sh(hash160::Hash::hash(redeem.as_bytes()).to_byte_array()).to_script()
            }
            ScriptKind::P2tr => {
                // BIP 86: no script tree, so the key is tweaked by its own hash alone.
                let internal = key.x_only_public_key().0;
                let tweak = TapTweakHash::from_key_and_tweak(internal, None).to_scalar();
                let (output, _) = internal.add_tweak(&*SECP, &tweak).map_err(|_| KeyError::Index(index))?;
                Destination::Witness { version: 1, program: output.serialize().to_vec() }.to_script()
            }
            ScriptKind::Address => Script::from_bytes(&ethereum::of_public_key(&key)).map_err(|_| ()),
        }
        .map_err(gone)?;
        let addresses = address_of(&script, self.params).ok_or(KeyError::Index(index))?;
        Ok(Derived { script, addresses })
    }

    /// The output descriptor (BIP 380) of the addresses, with its checksum; `None` on Ethereum.
    pub fn descriptor(&self) -> Option<String> {
        let path: String = self.path.iter().map(|step| format!("/{step}")).collect();
        let key = format!("{}{}{path}/*", self.origin_text(), self.account_text());
        let body = match self.kind {
            ScriptKind::P2pkh => format!("pkh({key})"),
            ScriptKind::P2shP2wpkh => format!("sh(wpkh({key}))"),
            ScriptKind::P2wpkh => format!("wpkh({key})"),
            ScriptKind::P2tr => format!("tr({key})"),
            ScriptKind::Address => return None,
        };
        let checksum = descriptor::checksum(&body)?;
        Some(format!("{body}#{checksum}"))
    }

    fn origin_text(&self) -> String {
        self.origin.as_ref().map_or_else(String::new, |origin| format!("[{origin}]"))
    }

    fn account_text(&self) -> String {
        base58::encode_check(&self.account.encode())
    }
}

impl fmt::Display for ExtendedKey {
    /// The normalised form: prefix xpub or tpub, the origin if one was given, and the path unless it is `/0/*`.
    /// Reading it again with [`ExtendedKey::kind`] gives the same key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin_text(), self.account_text())?;
        if self.path != [0] {
            for step in &self.path {
                write!(f, "/{step}")?;
            }
            f.write_str("/*")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ExtendedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExtendedKey({} {} {self})", self.params, self.kind)
    }
}

fn child(key: &Xpub, index: u32) -> Result<Xpub, KeyError> {
    let step = ChildNumber::from_normal_idx(index).map_err(|_| KeyError::Index(index))?;
    key.ckd_pub(&*SECP, step).map_err(|_| KeyError::Index(index))
}

/// An origin such as `84h/2h/0h` names the coin; one that belongs to another coin is a mistake.
fn check_origin(parts: &descriptor::KeyExpression<'_>, params: AddressParams) -> Result<(), KeyError> {
    let Some(descriptor::Origin { coin_type: Some(coin_type), .. }) = parts.origin else { return Ok(()) };
    let taken = params.coin_types();
    if taken.is_empty() || taken.contains(&coin_type) {
        return Ok(());
    }
    Err(KeyError::OtherNetwork { found: format!("a key with coin type {coin_type} in its origin"), params })
}

fn choose_kind(
    wrapped: Option<ScriptKind>,
    prefix: &'static str,
    meaning: Meaning,
    given: Option<ScriptKind>,
    params: AddressParams,
) -> Result<ScriptKind, KeyError> {
    let (only, usually) = match meaning {
        Meaning::Any => (None, None),
        Meaning::Usually(kind) => (None, Some(kind)),
        Meaning::Only(kind) => (Some(kind), None),
    };
    let mut stated = [wrapped, only, given].into_iter().flatten();
    let sole = match params.script_kinds() {
        [sole] => Some(*sole),
        _ => None,
    };
    let kind = stated.next().or(usually).or(sole).ok_or(KeyError::TypeNeeded { prefix, params })?;
    if let Some(given) = stated.find(|other| *other != kind) {
        return Err(KeyError::TypeConflict { implied: kind, given });
    }
    if !params.script_kinds().contains(&kind) {
        return Err(KeyError::TypeUnknown { kind, params });
    }
    Ok(kind)
}

fn network_kind(params: AddressParams) -> NetworkKind {
    match params.family() {
        Family::Utxo(row) if !row.main => NetworkKind::Test,
        Family::Utxo(_) | Family::Ethereum { .. } => NetworkKind::Main,
    }
}

fn prefixes(params: &AddressParams) -> String {
    params.key_versions().iter().map(|version| version.prefix).collect::<Vec<_>>().join(", ")
}

fn names(params: &AddressParams) -> String {
    params.script_kinds().iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
}
