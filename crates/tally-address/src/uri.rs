//! Payment URIs: BIP 21 on chains of the Bitcoin family, EIP-681 on Ethereum.
//!
//! Not here: QR codes.

use tally_types::BaseUnits;

use crate::params::Family;
use crate::{AddressError, AddressParams, address_of, parse_address};

/// Base units of a whole coin have this many digits, on every chain of the Bitcoin family.
const COIN_DECIMALS: u8 = 8;

/// A URI that asks a wallet for `amount` of the chain's own coin: `bitcoin:bc1…?amount=0.0016`,
/// `bitcoincash:q…?amount=…`, `ethereum:0x…@1?value=…`. The address is written in its usual form.
///
/// # Errors
/// [`AddressError`] when the address is none of this chain.
pub fn payment_uri(address: &str, amount: BaseUnits, params: AddressParams) -> Result<String, AddressError> {
    let address = usual(address, params)?;
    Ok(match params.family() {
        Family::Utxo(row) => {
            // CashAddr's prefix is the scheme already.
            let scheme = format!("{}:", row.scheme);
            let address = address.strip_prefix(&scheme).unwrap_or(&address);
            format!("{scheme}{address}?amount={}", amount.to_decimal_string(COIN_DECIMALS))
        }
        Family::Ethereum { chain_id } => format!("ethereum:{address}@{chain_id}?value={amount}"),
    })
}

/// A URI that asks a wallet for `amount` base units of the ERC-20 token at `contract`:
/// `ethereum:<contract>@<chain id>/transfer?address=<address>&uint256=<amount>`.
///
/// # Errors
/// [`AddressError`] when contract or address is none of this chain, or the chain has no such tokens.
pub fn token_payment_uri(
    contract: &str,
    address: &str,
    amount: BaseUnits,
    params: AddressParams,
) -> Result<String, AddressError> {
    let Family::Ethereum { chain_id } = params.family() else {
        return Err(AddressError::NotAnAddress { text: crate::address::shown(contract), params });
    };
    let (contract, address) = (usual(contract, params)?, usual(address, params)?);
    Ok(format!("ethereum:{contract}@{chain_id}/transfer?address={address}&uint256={amount}"))
}

fn usual(address: &str, params: AddressParams) -> Result<String, AddressError> {
    let script = parse_address(address, params)?;
    let forms = address_of(&script, params).unwrap_or_default();
    Ok(forms.into_iter().next().unwrap_or_else(|| address.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utxo(coin: &str, network: &str) -> AddressParams {
        AddressParams::bitcoin(coin, network).unwrap()
    }

    #[test]
    fn uris_as_wallets_read_them() {
        let units = BaseUnits::from_units;
        for (params, address, amount, uri) in [
            (
                utxo("btc", "mainnet"),
                "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu",
                160_000,
                "bitcoin:bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu?amount=0.0016",
            ),
            (
                utxo("bch", "mainnet"),
                "1BpEi6DfDAUFd7GtittLSdBeYJvcoaVggu",
                100_000_000,
                "bitcoincash:qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a?amount=1",
            ),
            (
                AddressParams::ethereum(31337),
                "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266",
                10_000_000_000,
                "ethereum:0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266@31337?value=10000000000",
            ),
        ] {
            assert_eq!(payment_uri(address, units(amount), params).unwrap(), uri);
        }
        assert_eq!(
            token_payment_uri(
                "0xdac17f958d2ee523a2206206994597c13d831ec7",
                "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266",
                units(1_500_000),
                AddressParams::ethereum(1),
            )
            .unwrap(),
            "ethereum:0xdAC17F958D2ee523a2206206994597C13D831ec7@1/transfer?\
             address=0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266&uint256=1500000"
        );
    }

    #[test]
    fn what_is_no_address_gets_no_uri() {
        assert!(payment_uri("x", BaseUnits::ZERO, utxo("ltc", "mainnet")).is_err());
        assert!(token_payment_uri("x", "y", BaseUnits::ZERO, AddressParams::ethereum(1)).is_err());
        assert!(token_payment_uri("x", "y", BaseUnits::ZERO, utxo("btc", "mainnet")).is_err());
    }
}
