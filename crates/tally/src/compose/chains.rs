//! Chains: a block source for the watcher, and a directory entry for the faces.

use std::sync::Arc;

use tally_address::AddressParams;
use tally_chains::{ChainSettings, CurrencyFacts, EndpointSettings, TokenSettings};
use tally_gateway::{ChainInfo, CoinInfo};
use tally_ports::BlockSource;
use tally_types::{Currency, Height};

use crate::config::{ChainConfig, ConfigError, RpcConfig};

/// A configured chain.
pub(crate) struct Chain {
    pub(crate) info: ChainInfo,
    pub(crate) source: Arc<dyn BlockSource>,
    pub(crate) start: Option<Height>,
    /// Its own currency, where the node's adapter may want sums of what was paid in it.
    pub(crate) native: Option<Currency>,
}

impl Chain {
    /// Proves what is configured. No node is asked.
    pub(crate) fn open(config: &ChainConfig) -> Result<Self, ConfigError> {
        let fault = |error: &dyn std::fmt::Display| ConfigError::new("chain", error);
        let settings = settings(config)?;
        let facts = tally_chains::facts(&settings).map_err(|error| fault(&error))?;
        let source = tally_chains::open(&settings).map_err(|error| fault(&error))?;
        let params = match (&config.coin, &config.network, config.chain_id) {
            (Some(coin), Some(network), None) => AddressParams::bitcoin(coin, network),
            (_, _, Some(chain_id)) => Ok(AddressParams::ethereum(chain_id)),
            _ => {
                return Err(fault(&format_args!("{}: coin and network, or chain_id, are needed", config.id)));
            }
        };
        let params = params.map_err(|error| fault(&format_args!("{}: {error}", config.id)))?;
        let network = match (&config.network, config.chain_id) {
            (Some(network), _) => network.clone(),
            (None, Some(1)) => "mainnet".to_owned(),
            (None, id) => id.unwrap_or_default().to_string(),
        };
        let info = ChainInfo {
            id: config.id.clone(),
            network,
            params,
            coins: facts.currencies().map(coin).collect(),
            counts: config.counts(facts.native.decimals)?,
        };
        // Chains of accounts are told by their chain id.
        let native = config.chain_id.map(|_| facts.native.currency.clone());
        Ok(Self { info, source, start: config.start_height.map(Height::new), native })
    }
}

fn coin(facts: &CurrencyFacts) -> CoinInfo {
    CoinInfo {
        currency: facts.currency.clone(),
        decimals: facts.decimals,
        payable_unit: facts.payable_unit,
        dust: facts.dust,
        contract: facts.contract.as_ref().map(|contract| format!("0x{contract}")),
    }
}

fn settings(config: &ChainConfig) -> Result<ChainSettings, ConfigError> {
    let token = |token: &crate::config::TokenConfig| TokenSettings {
        symbol: token.symbol.clone(),
        contract: token.contract.clone(),
        decimals: token.decimals,
    };
    Ok(ChainSettings {
        id: config.id.clone(),
        kind: config.kind.clone(),
        coin: config.coin.clone(),
        network: config.network.clone(),
        chain_id: config.chain_id,
        rpc: config.rpc.iter().map(|rpc| endpoint(config, rpc)).collect::<Result<_, _>>()?,
        tokens: config.token.iter().map(token).collect(),
        trace: config.trace.clone(),
    })
}

fn endpoint(chain: &ChainConfig, config: &RpcConfig) -> Result<EndpointSettings, ConfigError> {
    let key = chain.key("rpc.password");
    let password = config.password.as_ref().map(|secret| secret.resolve(&key)).transpose()?;
    Ok(EndpointSettings {
        url: config.url.as_str().trim_end_matches('/').to_owned(),
        user: config.user.clone(),
        password: password.map(Into::into),
        cookie: config.cookie.clone(),
    })
}
