//! What a payment names by text: its mode, its asset, its amount, whom it goes to.

use tally_types::{AmountError, BaseUnits, Currency, Script};

use super::ETHER_DECIMALS;
use crate::account::{AccountMode, Address, SimulatedAccountChain};
use crate::error::SandboxError;

/// A mode by its name.
pub(super) fn account_mode(name: &str) -> Result<AccountMode, SandboxError> {
    let found = AccountMode::ALL.into_iter().find(|(known, _)| *known == name);
    found.map(|(_, mode)| mode).ok_or_else(|| {
        let known = AccountMode::ALL.map(|(known, _)| known).join(", ");
        SandboxError::Mode { mode: name.chars().take(40).collect(), known }
    })
}

/// What is paid on Ethereum: a token's contract (none: ether), and its fraction digits.
pub(super) fn asset(
    chain: &SimulatedAccountChain,
    symbol: Option<&str>,
) -> Result<(Option<Address>, u8), SandboxError> {
    const ETHER: &str = "ETH";
    let Some(symbol) = symbol.filter(|symbol| !symbol.eq_ignore_ascii_case(ETHER)) else {
        return Ok((None, ETHER_DECIMALS));
    };
    let token = symbol.parse::<Currency>().ok().and_then(|symbol| chain.token_by_symbol(&symbol));
    match token {
        Some(token) => Ok((Some(token.contract), token.decimals)),
        None => {
            let known: Vec<_> = std::iter::once(ETHER).chain(chain.symbols().map(Currency::as_str)).collect();
            Err(unknown_asset(symbol, &known))
        }
    }
}

pub(super) fn unknown_asset(asset: &str, known: &[&str]) -> SandboxError {
    SandboxError::UnknownAsset { asset: asset.chars().take(40).collect(), known: known.join(", ") }
}

/// A positive amount in base units.
pub(super) fn amount(text: &str, decimals: u8) -> Result<u128, SandboxError> {
    let units = BaseUnits::from_decimal_str(text, decimals)?;
    if units.is_zero() {
        return Err(AmountError::NotPositive(text.chars().take(40).collect()).into());
    }
    Ok(units.units())
}

pub(super) fn address(script: &Script) -> Address {
    Address(script.as_bytes().try_into().unwrap_or_default())
}
