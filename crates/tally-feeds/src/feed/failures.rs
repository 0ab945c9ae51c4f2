//! Every venue in every way to fail, over real HTTP: a failure costs what it must, and nothing beside it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tally_pricing::{Aggregator, RateRules, Tick, TickPrice};
use tally_types::Span;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::registry::VENUES;

/// A moment after the books of the failures' fixtures were made.
const NOW: Timestamp = Timestamp::from_secs(1_711_700_000);
/// What the feeds of these tests wait for at most.
const TIMEOUT: Duration = Duration::from_millis(400);

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Not at all.
    Good,
    /// An error, with status 200.
    ErrorWith200,
    /// A web page, with status 200.
    WebPage,
    /// No bid and no ask.
    EmptyBook,
    /// The ask below the bid.
    CrossedBook,
    /// One pair is not there.
    MissingPair,
    /// More digits than ever before, or fewer.
    ChangedPrecision,
    /// Status 429, with `Retry-After`.
    TooMany,
    /// Nothing, for longer than anyone waits.
    Slow,
    /// The connection ends within the answer.
    CutOff,
    /// The answer ends within its JSON.
    CutShort,
}

impl Way {
    const ALL: [Self; 11] = [
        Self::Good,
        Self::ErrorWith200,
        Self::WebPage,
        Self::EmptyBook,
        Self::CrossedBook,
        Self::MissingPair,
        Self::ChangedPrecision,
        Self::TooMany,
        Self::Slow,
        Self::CutOff,
        Self::CutShort,
    ];

    /// The name of the fixture of this way, where it is one of the answer itself.
    fn fixture(self) -> Option<&'static str> {
        match self {
            Self::ErrorWith200 => Some("error"),
            Self::EmptyBook => Some("empty"),
            Self::CrossedBook => Some("crossed"),
            Self::MissingPair => Some("missing"),
            Self::ChangedPrecision => Some("precision"),
            Self::Good | Self::WebPage | Self::TooMany | Self::Slow | Self::CutOff | Self::CutShort => None,
        }
    }
}

fn fixture(venue: &str, name: &str) -> String {
    let kind = if venue == "ecb" { "xml" } else { "json" };
    let path = format!("{}/fixtures/{venue}/{name}.{kind}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A good answer, by whichever of the usual names it has.
fn good(venue: &str) -> String {
    let folder = format!("{}/fixtures/{venue}", env!("CARGO_MANIFEST_DIR"));
    let names = ["ticker", "tickers", "book", "level1", "price", "daily", "latest"];
    let there = |name: &&str| {
        ["json", "xml"].iter().any(|kind| std::fs::exists(format!("{folder}/{name}.{kind}")).unwrap())
    };
    fixture(venue, names.into_iter().find(there).unwrap_or_else(|| panic!("{folder}: no good answer")))
}

/// One venue on loopback. Where each pair has its own call, only that for the first pair goes wrong.
async fn serve(spec: &'static VenueSpec, way: Way) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(spec, way, stream));
        }
    });
    url
}

async fn answer(spec: &'static VenueSpec, way: Way, mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let request = String::from_utf8(request).unwrap();
    let first = match spec.calls {
        Calls::Together(_) | Calls::Listed(..) => true,
        Calls::PerPair(before, after) => {
            request.contains(&format!("{before}{}{after} ", spec.pairs[0].symbol))
        }
    };
    let way = if first { way } else { Way::Good };
    let body = match way {
        Way::WebPage => "<!doctype html><title>Maintenance</title>".to_owned(),
        Way::CutShort => {
            let body = good(spec.name);
            body[..body.len() / 2].to_owned()
        }
        way => way.fixture().map_or_else(|| good(spec.name), |name| fixture(spec.name, name)),
    };
    if way == Way::Slow {
        tokio::time::sleep(TIMEOUT * 20).await;
    }
    let (status, more) =
        if way == Way::TooMany { ("429 Too Many Requests", "retry-after: 7\r\n") } else { ("200 OK", "") };
    let length = if way == Way::CutOff { body.len() * 2 } else { body.len() };
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{more}\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// When a venue is asked: a moment after its answer was made, where that is dated.
fn now(spec: &VenueSpec, way: Way) -> Timestamp {
    match (spec.name, way) {
        ("coingecko", Way::Good) => Timestamp::from_secs(1_711_356_310),
        ("okx", Way::Good) => Timestamp::from_secs(1_597_026_390),
        _ => NOW,
    }
}

async fn poll(spec: &'static VenueSpec, way: Way) -> Result<Poll, PortError> {
    let url = serve(spec, way).await;
    let key = spec.key.map(|_| "key");
    HttpFeed::new(spec, Some(&url), key, Http::within(TIMEOUT).unwrap()).poll(now(spec, way)).await
}

/// What the aggregation makes of it, where one venue is enough: `BTC 65010.2`, `BTC -crossed`, …
fn rates(venue: &str, poll: &Poll) -> String {
    let now = poll.ticks.first().map_or(NOW, |tick| tick.received_at);
    let mut aggregator = Aggregator::new(RateRules { allow_single_source: true, ..RateRules::default() });
    let dollar = Tick {
        venue: Venue::named("reference"),
        base: "USDT".parse().unwrap(),
        quote: "USD".parse().unwrap(),
        price: TickPrice::Last(1.into()),
        venue_time: None,
        received_at: now,
    };
    let ticks: Vec<_> = poll.ticks.iter().filter(|tick| tick.base.as_str() != "USDT").cloned().collect();
    let published = aggregator.aggregate(&[&ticks[..], &[dollar]].concat(), &poll.fiat, now);
    let mut words = Vec::new();
    for rate in published.assets.iter().filter(|rate| ["BTC", "ETH"].contains(&rate.asset.as_str())) {
        if let Some(usd) = rate.usd {
            words.push(format!("{} {}", rate.asset, usd.normalize()));
        }
        let own = rate.dropped.iter().filter(|dropped| dropped.venue == venue);
        words.extend(own.map(|dropped| format!("{} -{}", rate.asset, dropped.reason)));
    }
    let fiat = published.fiat.iter().filter(|rate| ["USD", "CNY"].contains(&rate.currency.as_str()));
    words.extend(fiat.map(|rate| format!("{} {}", rate.currency, rate.per_eur)));
    words.join(", ")
}

/// What one venue's call comes to in one way: that the whole poll fails with some words, or what remains.
fn expect(spec: &VenueSpec, way: Way, outcome: Result<Poll, PortError>) {
    let name = format!("{} {way:?}: {outcome:?}", spec.name);
    let together = !matches!(spec.calls, Calls::PerPair(..));
    let words = match way {
        Way::ErrorWith200 => "answered",
        Way::WebPage => "answered",
        Way::CutShort => "answered",
        Way::Slow => "did not answer in time",
        Way::CutOff => "broke off",
        Way::TooMany => "asks to be left alone for 7 s",
        _ => return expect_part(spec, way, outcome.unwrap_or_else(|_| panic!("{name}"))),
    };
    match outcome {
        Ok(poll) => {
            assert!(way == Way::TooMany || !together, "{name}");
            assert_eq!(poll.retry_after, (way == Way::TooMany).then(|| Span::from_secs(7)), "{name}");
            let first = if together { spec.name } else { spec.pairs[0].symbol };
            let fault = poll.faults.iter().find(|fault| fault.starts_with(first));
            assert!(fault.is_some_and(|fault| fault.contains(words)), "{name}");
            assert!(!rates(spec.name, &poll).contains("BTC"), "{name}");
            assert_eq!(rates(spec.name, &poll).contains("ETH"), !together, "{name}: the good pairs");
        }
        Err(error) => {
            assert!(together && error.is_transient() && error.to_string().contains(words), "{name}");
        }
    }
}

/// Answers that can be read, with one pair that cannot be used, or looks new.
fn expect_part(spec: &VenueSpec, way: Way, poll: Poll) {
    let rates = rates(spec.name, &poll);
    let name = format!("{} {way:?}: {rates}; {poll:?}", spec.name);
    assert!(rates.contains("ETH "), "{name}: the good pair");
    let fault = |word: &str| poll.faults.iter().any(|fault| fault.contains(word));
    match way {
        Way::EmptyBook => {
            assert!(!rates.contains("BTC 6"), "{name}");
            assert!(rates.contains("BTC -empty") || fault(spec.pairs[0].symbol), "{name}");
        }
        Way::CrossedBook => assert!(rates.contains("BTC -crossed") && !rates.contains("BTC 6"), "{name}"),
        Way::MissingPair => assert!(fault(spec.pairs[0].symbol) && !rates.contains("BTC"), "{name}"),
        Way::ChangedPrecision if spec.name == "coingecko" => {
            assert!(rates.contains("BTC 65010.123456789012"), "{name}");
        }
        Way::ChangedPrecision => assert!(rates.contains("BTC 65010.561728394506"), "{name}"),
        _ => assert!(rates.contains("BTC 65"), "{name}"),
    }
}

fn exchanges() -> impl Iterator<Item = &'static VenueSpec> {
    VENUES.into_iter().filter(|spec| !spec.pairs.is_empty())
}

#[tokio::test]
async fn every_exchange_in_every_way() {
    let tried = AtomicUsize::new(0);
    let each = exchanges().flat_map(|spec| Way::ALL.map(|way| (spec, way)));
    // An average has no book that could be crossed.
    let each = each.filter(|(spec, way)| (spec.name, *way) != ("coingecko", Way::CrossedBook));
    join_all(each.map(async |(spec, way)| {
        expect(spec, way, poll(spec, way).await);
        tried.fetch_add(1, Ordering::Relaxed);
    }))
    .await;
    assert_eq!(tried.into_inner(), exchanges().count() * Way::ALL.len() - 1);
}

#[tokio::test]
async fn every_source_of_fiat_in_every_way() {
    for spec in VENUES.into_iter().filter(|spec| spec.pairs.is_empty()) {
        for (way, expected) in [
            (Way::Good, Ok(["CNY 7.8144, USD 1.0811", "CNY 7.814439"])),
            (Way::ErrorWith200, Err("answered")),
            (Way::WebPage, Err("answered")),
            (Way::EmptyBook, Err("answered without rates")),
            (Way::MissingPair, Ok(["CNY 7.8144", ""])),
            (
                Way::ChangedPrecision,
                Ok(["CNY 8, USD 1.081100000123456789", "CNY 7.814439231251980355250924344"]),
            ),
            (Way::TooMany, Ok(["", ""])),
            (Way::Slow, Err("did not answer in time")),
            (Way::CutOff, Err("broke off")),
            (Way::CutShort, Err("answered")),
        ] {
            let outcome = poll(spec, way).await;
            let name = format!("{} {way:?}: {outcome:?}", spec.name);
            match (outcome, expected) {
                (Ok(poll), Ok([ecb, frankfurter])) => {
                    let rates = rates(spec.name, &poll);
                    let expected = if spec.name == "ecb" { ecb } else { frankfurter };
                    assert!(rates.starts_with(expected), "{name}: {rates}");
                    assert_eq!(poll.retry_after.is_some(), way == Way::TooMany, "{name}");
                }
                // What came before the cut is good; the rest comes next time.
                (Ok(poll), Err(_)) if way == Way::CutShort && spec.name == "ecb" => {
                    assert!(poll.fiat.len() < 4, "{name}");
                }
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{name}"),
                _ => panic!("{name}"),
            }
        }
    }
}
