//! What a configuration may say, and how it is refused.

use super::*;

const GOOD: &str = r#"
public_url = "http://127.0.0.1:8080"
data_dir = "data"
[secrets]
master = "env:TALLY_MASTER_KEY"
[[chain]]
id = "ltc"
kind = "bitcoin"
coin = "ltc"
network = "regtest"
rpc = [{ url = "http://127.0.0.1:19443", user = "user", password = "env:LTC_PASSWORD" }]
"#;

#[test]
fn the_shortest_useful_file_is_read() {
    let config = Config::parse(GOOD).unwrap();
    assert_eq!(config.http.listen.port(), 8080);
    let counts = config.chain(&"ltc".parse().unwrap()).unwrap().counts(8).unwrap();
    assert_eq!((counts.confirmed, counts.complete), (1, 6));
    assert!(config.chain(&"btc".parse().unwrap()).is_err());
}

#[test]
fn a_fault_is_one_line_that_names_the_key() {
    for (name, from, to, expected) in [
        ("unknown key", "data_dir", "data_dri", "data_dri"),
        ("no number", "[secrets]", "[http]\nlisten = \"nowhere\"\n[secrets]", "http.listen"),
        ("secret in the clear", "env:TALLY_MASTER_KEY", "0123456789abcdef", "secrets.master"),
        ("chain id", "id = \"ltc\"", "id = \"LTC!\"", "chain"),
        ("span", "[[chain]]", "[rates]\npoll = \"soon\"\n[[chain]]", "rates.poll"),
        ("never asked", "[[chain]]", "[rates]\npoll = \"31s\"\n[[chain]]", "rates.poll"),
        ("always asked", "[[chain]]", "[rates]\npoll = \"0s\"\n[[chain]]", "rates.poll"),
        (
            "venue twice",
            "[[chain]]",
            "[[rates.feed]]\nvenue = \"kraken\"\n[[rates.feed]]\nvenue = \"kraken\"\n[[chain]]",
            "\"kraken\" stands twice",
        ),
        (
            "venue asked too often",
            "[[chain]]",
            "[[rates.feed]]\nvenue = \"kraken\"\ninterval = \"5s\"\n[[chain]]",
            "rates.feed.interval",
        ),
        ("log without url", "[secrets]", "[log]\nkind = \"nats\"\n[secrets]", "log.url"),
        ("counts", "network =", "confirmed = 7\ncomplete = 6\nnetwork =", "confirmed, complete"),
    ] {
        let error = Config::parse(&GOOD.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{name}: {error}");
        assert!(!error.contains("0123456789abcdef"), "{name}: {error}");
    }
}

#[test]
fn spans_are_whole_numbers_with_a_unit() {
    assert_eq!(span::parse("20m"), Ok(Span::from_secs(1200)));
    for bad in ["", "20", "m", "-1s", "1.5h", "0s", "99999999999999999d"] {
        assert!(span::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn venues_are_those_listed_or_the_usual_ones() {
    let venues = |feeds: &str| {
        let config = Config::parse(&format!("{GOOD}\n{feeds}")).unwrap();
        let venues = config.rates.venues(["kraken", "okx", "ecb"].into_iter());
        let show = |(venue, feed): (&str, Option<&FeedConfig>)| {
            let interval = feed.and_then(|feed| feed.interval);
            interval.map_or(venue.to_owned(), |interval| format!("{venue} {}", interval.secs()))
        };
        venues.into_iter().map(show).collect::<Vec<_>>().join(", ")
    };
    let kraken = "[[rates.feed]]\nvenue = \"kraken\"\n";
    assert_eq!(venues(""), "kraken, okx, ecb");
    assert_eq!(venues(&format!("{kraken}enabled = false")), "okx, ecb");
    assert_eq!(venues(&format!("{kraken}interval = \"30s\"")), "kraken 30");
    let gemini = "[[rates.feed]]\nvenue = \"gemini\"\nurl = \"http://127.0.0.1:9\"\n";
    assert_eq!(venues(&format!("{gemini}{kraken}enabled = false")), "gemini");
}

#[test]
fn a_file_that_is_not_there_is_named_with_the_option_that_names_another() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Config::load(&dir.path().join("shop.toml")).unwrap_err().to_string();
    assert!(missing.contains("shop.toml") && missing.contains("--config"), "{missing}");
    assert!(!missing.contains('\n') && !missing.contains("os error"), "{missing}");
    let unreadable = Config::load(dir.path()).unwrap_err().to_string();
    assert!(unreadable.contains("--config"), "{unreadable}");
}
