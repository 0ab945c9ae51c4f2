//! What is looked for on a chain of the family, read and proved from the settings.

use std::collections::BTreeMap;

use ethers_core::types::Address;
use ethers_core::utils::to_checksum;
use tally_ports::PortError;
use tally_types::{ChainId, Currency};

use crate::settings::{ChainSettings, TokenSettings};

/// 10 to this many still fits the units that amounts are counted in.
const DECIMALS_MAX: u8 = 36;

/// What is looked for on a chain.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) id: ChainId,
    pub(crate) chain_id: u64,
    pub(crate) native: Currency,
    /// The allow-listed contracts.
    pub(crate) tokens: BTreeMap<Address, Token>,
    pub(crate) trace: TraceMode,
}

/// An allow-listed token.
#[derive(Debug)]
pub(crate) struct Token {
    /// Its place in the settings.
    pub(crate) place: usize,
    pub(crate) currency: Currency,
    pub(crate) decimals: u8,
}

/// Whether call traces are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TraceMode {
    /// Where the node offers them.
    Auto,
    /// A node without them is refused.
    Required,
    /// Never.
    Off,
}

impl Plan {
    /// Proves the settings.
    pub(crate) fn of(settings: &ChainSettings) -> Result<Self, PortError> {
        let native = settings.coin.as_deref().unwrap_or("eth").parse::<Currency>();
        let native = native.map_err(|error| settings.refuse(format_args!("coin = {error}")))?;
        let trace = match settings.trace.as_deref() {
            None | Some("auto") => TraceMode::Auto,
            Some("required") => TraceMode::Required,
            Some("off") => TraceMode::Off,
            Some(other) => {
                return Err(
                    settings.refuse(format_args!("trace = {other:?} is not one of auto, required, off"))
                );
            }
        };
        let mut tokens = BTreeMap::new();
        for (place, token) in settings.tokens.iter().enumerate() {
            let refuse = |why: String| settings.refuse(format_args!("token {}: {why}", token.symbol));
            let contract = address(&token.contract).map_err(&refuse)?;
            let twice = |known: &Token| known.currency == token.symbol;
            if token.symbol == native || tokens.values().any(twice) {
                return Err(refuse("symbol stands for two currencies".to_owned()));
            }
            if tokens.insert(contract, read(place, token).map_err(&refuse)?).is_some() {
                return Err(refuse(format!("contract = {:?} stands twice", token.contract)));
            }
        }
        let chain_id = settings.chain_id.ok_or_else(|| settings.refuse("chain_id is missing"))?;
        Ok(Self { id: settings.id.clone(), chain_id, native, tokens, trace })
    }
}

fn read(place: usize, token: &TokenSettings) -> Result<Token, String> {
    if token.decimals > DECIMALS_MAX {
        return Err(format!("decimals = {} is above {DECIMALS_MAX}", token.decimals));
    }
    Ok(Token { place, currency: token.symbol.clone(), decimals: token.decimals })
}

/// Reads an address. Its capitals are a checksum (EIP-55): where there are both cases, it must hold.
fn address(text: &str) -> Result<Address, String> {
    let refuse = |why: &str| Err(format!("contract = {text:?} {why}"));
    let mut bytes = [0; 20];
    let digits = text.strip_prefix("0x").unwrap_or_default();
    if digits.len() != 40 || const_hex::decode_to_slice(digits, &mut bytes).is_err() {
        return refuse("is not an address (0x and 40 hexadecimal digits)");
    }
    let address = Address::from(bytes);
    if address.is_zero() {
        return refuse("is the zero address");
    }
    let has = |case: fn(&u8) -> bool| digits.as_bytes().iter().any(case);
    let mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    if mixed && to_checksum(&address, None) != text {
        return refuse("is mistyped: its checksum (EIP-55) does not hold");
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::settings;

    /// From the examples of EIP-55.
    const CHECKSUMMED: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

    #[test]
    fn addresses_are_twenty_bytes_and_their_checksum_holds() {
        for (name, text, good) in [
            ("checksummed", CHECKSUMMED.to_owned(), true),
            ("lower case", CHECKSUMMED.to_lowercase(), true),
            ("upper case", format!("0x{}", CHECKSUMMED[2..].to_uppercase()), true),
            ("one letter in the other case", CHECKSUMMED.replace("5aA", "5aa"), false),
            ("no prefix", CHECKSUMMED[2..].to_owned(), false),
            ("short", CHECKSUMMED[..41].to_owned(), false),
            ("not hexadecimal", CHECKSUMMED.replace("5aA", "5aG"), false),
            ("zero", format!("0x{}", "0".repeat(40)), false),
        ] {
            assert_eq!(address(&text).is_ok(), good, "{name}: {text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let token = |symbol: &str, contract: &str, decimals: u8| {
            format!(r#"{{"symbol": "{symbol}", "contract": "{contract}", "decimals": {decimals}}}"#)
        };
        let usdt = token("USDT", CHECKSUMMED, 6);
        for (keys, told) in [
            (String::new(), "chain \"eth\": chain_id is missing"),
            (
                r#""chain_id": 1, "coin": "é""#.to_owned(),
                "chain \"eth\": coin = \"é\" is not a currency symbol (2 to 12 letters and digits)",
            ),
            (
                r#""chain_id": 1, "trace": "yes""#.to_owned(),
                "chain \"eth\": trace = \"yes\" is not one of auto, required, off",
            ),
            (
                format!(
                    r#""chain_id": 1, "tokens": [{usdt}, {}]"#,
                    token("DAI", &CHECKSUMMED.to_lowercase(), 18)
                ),
                "chain \"eth\": token DAI: contract = \"0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed\" stands twice",
            ),
            (
                format!(r#""chain_id": 1, "tokens": [{}]"#, token("ETH", CHECKSUMMED, 6)),
                "chain \"eth\": token ETH: symbol stands for two currencies",
            ),
            (
                format!(r#""chain_id": 1, "tokens": [{}]"#, token("USDT", CHECKSUMMED, 37)),
                "chain \"eth\": token USDT: decimals = 37 is above 36",
            ),
            (
                format!(r#""chain_id": 1, "tokens": [{}]"#, token("USDT", "0x12", 6)),
                "chain \"eth\": token USDT: contract = \"0x12\" is not an address (0x and 40 hexadecimal digits)",
            ),
        ] {
            let keys = if keys.is_empty() { keys } else { format!(", {keys}") };
            let error =
                Plan::of(&settings(&format!(r#"{{"id": "eth", "kind": "ethereum"{keys}}}"#))).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.is_transient()), (told, false));
        }
    }
}
