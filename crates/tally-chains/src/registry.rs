//! The families by name, and what the rest of the system must know of a chain.

use std::sync::Arc;

use tally_ports::{BlockSource, PortError};
use tally_types::{BaseUnits, Currency, Script};

use crate::settings::ChainSettings;
use crate::{bitcoin, ethereum};

/// A chain family: what a new one brings.
pub(crate) struct Family {
    /// Its name in `kind`.
    pub(crate) kind: &'static str,
    /// Proves the settings and makes the source; asks no node.
    pub(crate) open: fn(&ChainSettings) -> Result<Arc<dyn BlockSource>, PortError>,
    /// Proves the settings and says what the chain is like; asks no node.
    pub(crate) facts: fn(&ChainSettings) -> Result<ChainFacts, PortError>,
}

/// Every family there is.
const FAMILIES: &[Family] = &[bitcoin::FAMILY, ethereum::FAMILY];

/// What the rest of the system must know of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainFacts {
    /// The chain's own currency.
    pub native: CurrencyFacts,
    /// The tokens that are taken as payment.
    pub tokens: Vec<CurrencyFacts>,
    /// Whether payments show in a mempool before they are mined.
    pub has_mempool: bool,
    /// Confirmations after which a payment is `confirmed`, unless configured.
    pub confirmed: u32,
    /// Confirmations after which a payment is `complete`, unless configured.
    pub complete: u32,
}

impl ChainFacts {
    /// Everything that can be paid with on the chain, its own currency first.
    pub fn currencies(&self) -> impl Iterator<Item = &CurrencyFacts> {
        std::iter::once(&self.native).chain(&self.tokens)
    }

    /// What is known of one of them.
    pub fn currency(&self, currency: &Currency) -> Option<&CurrencyFacts> {
        self.currencies().find(|facts| facts.currency == *currency)
    }
}

/// What the rest of the system must know of something to pay with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrencyFacts {
    /// Its symbol.
    pub currency: Currency,
    /// Fraction digits of its unit: 8 for bitcoin, 18 for ether.
    pub decimals: u8,
    /// Amounts to pay are multiples of this many base units, so that people can type them.
    pub payable_unit: BaseUnits,
    /// The smallest amount that can be asked for: nodes do not pass on less.
    pub dust: BaseUnits,
    /// A token's contract: the 20 bytes of its address.
    pub contract: Option<Script>,
}

/// Makes a chain's block source. No node is asked yet: that is `BlockSource::check`.
///
/// # Errors
/// A persistent error that names the chain and the key, where the settings are wrong.
pub fn open(settings: &ChainSettings) -> Result<Arc<dyn BlockSource>, PortError> {
    (family(settings)?.open)(settings)
}

/// What the rest of the system must know of a chain with these settings.
///
/// # Errors
/// A persistent error that names the chain and the key, where the settings are wrong.
pub fn facts(settings: &ChainSettings) -> Result<ChainFacts, PortError> {
    (family(settings)?.facts)(settings)
}

fn family(settings: &ChainSettings) -> Result<&'static Family, PortError> {
    FAMILIES.iter().find(|family| family.kind == settings.kind).ok_or_else(|| {
        let kinds: Vec<_> = FAMILIES.iter().map(|family| family.kind).collect();
        settings.refuse(format_args!("kind = {:?} is not one of {}", settings.kind, kinds.join(", ")))
    })
}

#[cfg(test)]
mod tests;
