//! Which logs `eth_getLogs` is asked for.

use serde_json::Value;

use super::{RpcError, invalid, parse_address, parse_hash};
use crate::account::{Address, Hash, Log};

/// A filter over logs.
pub(super) struct Filter {
    /// One block by its hash, in place of a range.
    pub(super) block_hash: Option<Hash>,
    pub(super) from: Option<Value>,
    pub(super) to: Option<Value>,
    /// Empty: any.
    addresses: Vec<Address>,
    /// For each place of a log's topics those that are taken; empty: any.
    topics: Vec<Vec<Hash>>,
}

impl Filter {
    pub(super) fn read(value: &Value) -> Result<Self, RpcError> {
        let field = |name: &str| value.get(name).filter(|value| !value.is_null());
        let block_hash = field("blockHash").map(parse_hash).transpose()?;
        let (from, to) = (field("fromBlock").cloned(), field("toBlock").cloned());
        if block_hash.is_some() && (from.is_some() || to.is_some()) {
            let message = "cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other";
            return Err(invalid(message.to_owned()));
        }
        let addresses =
            one_or_many(field("address")).into_iter().map(parse_address).collect::<Result<_, _>>()?;
        let topics = match field("topics") {
            None => Vec::new(),
            Some(Value::Array(places)) => places
                .iter()
                .map(|place| one_or_many(Some(place)).into_iter().map(parse_hash).collect())
                .collect::<Result<_, _>>()?,
            Some(other) => return Err(invalid(format!("invalid topics {other}"))),
        };
        Ok(Self { block_hash, from, to, addresses, topics })
    }

    pub(super) fn takes(&self, log: &Log) -> bool {
        let address = self.addresses.is_empty() || self.addresses.contains(&log.address);
        let topics = self.topics.len() <= log.topics.len()
            && self
                .topics
                .iter()
                .zip(&log.topics)
                .all(|(some, topic)| some.is_empty() || some.contains(topic));
        address && topics
    }
}

fn one_or_many(value: Option<&Value>) -> Vec<&Value> {
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(values)) => values.iter().collect(),
        Some(value) => vec![value],
    }
}
