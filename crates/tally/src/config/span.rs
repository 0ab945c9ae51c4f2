//! Lengths of time as people write them: `15s`, `20m`, `24h`, `7d`.

use serde::{Deserialize, Deserializer};
use tally_types::Span;

/// Reads a whole number with a unit.
pub(crate) fn parse(text: &str) -> Result<Span, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 0,
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(millis)) {
        Some(total) if total > 0 => Ok(Span::from_millis(total)),
        _ => Err(format!("{text:?} is not a length of time such as 15s, 20m, 24h or 7d")),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

pub(super) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Span>, D::Error> {
    deserialize(deserializer).map(Some)
}
