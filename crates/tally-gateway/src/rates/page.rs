//! The page of rates for people: prices, how they moved, whose word counted, and whose did not and why.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use minijinja::{AutoEscape, Environment, Error, context};
use rust_decimal::Decimal;
use serde::Serialize;
use tally_events::{AssetRate, DroppedSource};
use tally_pricing::{PricePoint, RateError, RateTable};
use tally_types::Timestamp;

use super::spark;

/// What prices are offered in, as far as there is a rate.
const OFFERED: [&str; 6] = ["USD", "EUR", "GBP", "CNY", "JPY", "BTC"];
/// What they are in unless someone chooses.
const USUAL: &str = "USD";

fn templates() -> &'static Environment<'static> {
    static TEMPLATES: OnceLock<Environment<'static>> = OnceLock::new();
    TEMPLATES.get_or_init(|| {
        let mut templates = Environment::new();
        templates.set_auto_escape_callback(|_| AutoEscape::Html);
        // A template that does not parse fails to render, and a test says so before that.
        if let Err(error) = templates.add_template("rates.html", include_str!("../../templates/rates.html")) {
            tracing::error!(%error, "the page of rates does not parse");
        }
        templates
    })
}

#[derive(Debug, Serialize)]
struct AssetView {
    name: String,
    price: Option<String>,
    /// Why there is no price.
    missing: Option<&'static str>,
    band: Option<String>,
    age: Option<String>,
    spark: Option<String>,
    change: Option<String>,
    direction: &'static str,
    sources: Vec<String>,
    dropped: Vec<DroppedView>,
}

#[derive(Debug, Serialize)]
struct DroppedView {
    venue: String,
    why: &'static str,
}

#[derive(Debug, Serialize)]
struct FiatView {
    name: String,
    rate: String,
    day: String,
    sources: Vec<String>,
}

/// The page, in the currency that someone wants, if it is one of those offered.
pub(super) fn render(table: &RateTable, wanted: &str, now: Timestamp) -> Result<String, Error> {
    let priced = |name: &&str| table.rate_named(name, USUAL, now).is_ok();
    let offered: Vec<&str> = OFFERED.into_iter().filter(priced).collect();
    let wanted = wanted.to_ascii_uppercase();
    let currency = offered.iter().find(|name| **name == wanted).copied().unwrap_or(USUAL);
    let assets: Vec<_> = table.assets().map(|rate| asset(table, rate, currency, now)).collect();
    let named = table.fiat_rates().map(|rate| rate.currency.as_str()).chain(["EUR"]);
    let named: BTreeSet<_> = named.filter(|name| *name != USUAL).collect();
    let fiat: Vec<_> = named.into_iter().filter_map(|name| fiat(table, name, now)).collect();
    let published = table.published_at().map(|at| (at.to_string(), ago(at, now)));
    let stale = !assets.iter().any(|asset| asset.price.is_some());
    templates().get_template("rates.html")?.render(context! {
        currency, offered, assets, fiat, stale,
        published_at => published.as_ref().map(|(at, _)| at),
        published_ago => published.as_ref().map(|(_, ago)| ago),
    })
}

fn asset(table: &RateTable, rate: &AssetRate, currency: &str, now: Timestamp) -> AssetView {
    let points: Vec<_> = table.history(&rate.asset).collect();
    let answer = table.rate_named(rate.asset.as_str(), currency, now);
    let own = rate.asset.as_str() == currency;
    let band = answer.as_ref().ok().filter(|_| !own).and_then(|answer| part(answer.confidence, answer.rate));
    let (change, direction) = match change(&points) {
        Some(change) if change.is_zero() => (Some("0.00 %".to_owned()), "flat"),
        Some(change) if change.is_sign_negative() => (Some(format!("\u{2212}{} %", change.abs())), "down"),
        Some(change) => (Some(format!("+{change} %")), "up"),
        None => (None, "flat"),
    };
    AssetView {
        name: rate.asset.to_string(),
        missing: answer.as_ref().err().map(missing),
        age: answer.is_ok().then(|| ago(rate.at, now)),
        price: answer.ok().map(|answer| for_people(answer.rate, &answer.text)),
        band,
        spark: spark::svg(&points, now),
        change,
        direction,
        sources: rate.sources.clone(),
        dropped: rate.dropped.iter().map(dropped).collect(),
    }
}

fn missing(error: &RateError) -> &'static str {
    match error {
        RateError::Inconsistent { .. } => "no rate: the venues disagree",
        RateError::Unavailable { .. } | RateError::UnknownCurrency(_) => {
            "no rate: too few venues, or none of them fresh"
        }
    }
}

fn dropped(source: &DroppedSource) -> DroppedView {
    let why = match source.reason.as_str() {
        "empty" => "its book is empty",
        "crossed" => "its ask is below its bid",
        "spread" => "its bid and ask are too far apart",
        "stale" => "its last word is too old",
        "clock" => "its clock is wrong",
        "frozen" => "its book stands still while others move",
        "outlier" => "too far from the others",
        "returning" => "was too far from the others a moment ago",
        "depeg" => "prices in a dollar token that is no dollar now",
        "no_leg" => "prices in something that has no rate now",
        "range" => "not a price that one can reckon with",
        _ => "does not count",
    };
    DroppedView { venue: source.venue.clone(), why }
}

/// One dollar in a fiat currency.
fn fiat(table: &RateTable, name: &str, now: Timestamp) -> Option<FiatView> {
    let answer = table.rate_named(USUAL, name, now).ok()?;
    let day = answer.at.to_utc().date().to_string();
    Some(FiatView { name: name.to_owned(), rate: answer.text, day, sources: answer.sources })
}

/// By how many percent the last point differs from the first.
fn change(points: &[PricePoint]) -> Option<Decimal> {
    let (first, last) = (points.first()?, points.last()?);
    let change = last.usd.checked_sub(first.usd)?.checked_div(first.usd)?;
    let mut percent = change.checked_mul(Decimal::ONE_HUNDRED)?.round_dp(2);
    percent.rescale(2);
    Some(percent)
}

/// `amount` as a part of `whole`, in percent.
fn part(amount: Decimal, whole: Decimal) -> Option<String> {
    let percent = amount.checked_div(whole)?.checked_mul(Decimal::ONE_HUNDRED)?;
    Some(format!("\u{b1}{} %", percent.round_dp(3).normalize()))
}

/// Two decimals and thousands apart where that is enough to tell, else as the rate itself.
fn for_people(rate: Decimal, text: &str) -> String {
    if rate < Decimal::TEN {
        let fraction = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        return match fraction {
            0 => format!("{text}.00"),
            1 => format!("{text}0"),
            _ => text.to_owned(),
        };
    }
    let mut rounded = rate.round_dp(2);
    rounded.rescale(2);
    let rounded = rounded.to_string();
    let (whole, fraction) = rounded.split_once('.').unwrap_or((&rounded, "00"));
    let mut grouped = String::with_capacity(rounded.len() + 8);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{grouped}.{fraction}")
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    match now.since(at).secs() {
        0 => "now".to_owned(),
        secs @ 1..=119 => format!("{secs} s ago"),
        secs @ 120..=7_199 => format!("{} min ago", secs / 60),
        secs @ 7_200..=172_799 => format!("{} h ago", secs / 3_600),
        secs => format!("{} days ago", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        for (rate, text) in [
            ("65000.126", "65,000.13"),
            ("1234567", "1,234,567.00"),
            ("999.999", "1,000.00"),
            ("12", "12.00"),
            ("1.1506", "1.1506"),
            ("1", "1.00"),
            ("9.5", "9.50"),
            ("0.0001512307918", "0.0001512307918"),
        ] {
            assert_eq!(for_people(rate.parse().unwrap(), rate), text);
        }
    }

    #[test]
    fn ages_are_for_people() {
        let at = Timestamp::from_secs(1_000_000);
        for (secs, text) in
            [(0, "now"), (59, "59 s ago"), (600, "10 min ago"), (7_200, "2 h ago"), (400_000, "4 days ago")]
        {
            assert_eq!(ago(at, Timestamp::from_secs(1_000_000 + secs)), text);
        }
    }
}
