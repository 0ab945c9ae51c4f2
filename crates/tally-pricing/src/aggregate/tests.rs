//! Incidents, poll by poll.

use proptest::prelude::*;

use super::*;
use crate::rules::AssetRule;
use crate::tick::TickPrice;

fn c(name: &str) -> Currency {
    name.parse().unwrap()
}

fn d(text: &str) -> Decimal {
    text.parse().unwrap()
}

/// Venues that are polled every 15 s.
struct Market {
    aggregator: Aggregator,
    now: Timestamp,
}

impl Market {
    fn new() -> Self {
        Self { aggregator: Aggregator::new(RateRules::default()), now: Timestamp::from_secs(1_700_000_000) }
    }

    fn tick(&self, venue: &'static str, pair: &str, mid: Decimal) -> Tick {
        let (base, quote) = pair.split_once('/').unwrap();
        let half = mid * d("0.0001");
        Tick {
            venue: Venue::named(venue),
            base: c(base),
            quote: c(quote),
            price: TickPrice::Book { bid: mid - half, ask: mid + half },
            venue_time: None,
            received_at: self.now,
        }
    }

    /// One poll, 15 s after the last: `kraken BTC/USD 100`, …
    fn poll(&mut self, said: &[(&'static str, &str, &str)]) -> RatesPublished {
        self.now = self.now.plus(Span::from_secs(15));
        let ticks: Vec<_> = said.iter().map(|(venue, pair, mid)| self.tick(venue, pair, d(mid))).collect();
        self.aggregator.aggregate(&ticks, &[], self.now)
    }

    fn btc(&mut self, prices: &[(&'static str, &str)]) -> String {
        let said: Vec<_> = prices.iter().map(|(venue, mid)| (*venue, "BTC/USD", *mid)).collect();
        show(&self.poll(&said), "BTC")
    }
}

/// `100 by a+b`, or why not, and whom it leaves out.
fn show(published: &RatesPublished, asset: &str) -> String {
    let rate = published.assets.iter().find(|rate| rate.asset == c(asset)).unwrap();
    let mut text = match rate.usd {
        Some(usd) => format!("{} by {}", usd.normalize(), rate.sources.join("+")),
        None if rate.inconsistent => "inconsistent".to_owned(),
        None => "unavailable".to_owned(),
    };
    for dropped in &rate.dropped {
        text += &format!(" -{}:{}", dropped.venue, dropped.reason);
    }
    text
}

#[test]
fn an_outlier_comes_back_after_two_polls_near_the_others() {
    let mut market = Market::new();
    let mut said = |d: &str| market.btc(&[("a", "100"), ("b", "100.1"), ("c", "100.2"), ("d", d)]);
    assert_eq!(said("100.1"), "100.1 by a+b+c+d");
    assert_eq!(said("110"), "100.1 by a+b+c -d:outlier");
    assert_eq!(said("100.1"), "100.1 by a+b+c -d:returning");
    assert_eq!(said("110"), "100.1 by a+b+c -d:outlier");
    assert_eq!(said("100.1"), "100.1 by a+b+c -d:returning");
    assert_eq!(said("100.6"), "100.1 by a+b+c -d:returning", "within tau, but not within half of it");
    assert_eq!(said("100.1"), "100.1 by a+b+c -d:returning");
    assert_eq!(said("100.1"), "100.1 by a+b+c+d");
}

#[test]
fn an_old_word_does_not_count_as_a_poll_to_return() {
    let mut market = Market::new();
    let three = [("a", "100"), ("b", "100.1"), ("c", "100.2")];
    let four = |d| [three[0], three[1], three[2], ("d", d)];
    market.btc(&four("110"));
    assert_eq!(market.btc(&four("100.1")), "100.1 by a+b+c -d:returning");
    assert_eq!(market.btc(&three), "100.1 by a+b+c -d:returning", "d said nothing new");
    assert_eq!(market.btc(&four("100.1")), "100.1 by a+b+c+d");
}

#[test]
fn a_silent_venue_votes_for_a_while_beside_two_fresh_ones() {
    let mut market = Market::new();
    market.btc(&[("a", "100"), ("b", "100"), ("c", "100")]);
    for poll in 1..=12 {
        assert_eq!(market.btc(&[("a", "100"), ("b", "100")]), "100 by a+b+c", "{poll}");
    }
    assert_eq!(market.btc(&[("a", "100"), ("b", "100")]), "unavailable -c:stale");
    assert_eq!(market.btc(&[("c", "100")]), "100 by a+b+c");
}

#[test]
fn when_all_go_down_the_rate_ends_after_a_minute() {
    let mut market = Market::new();
    market.btc(&[("a", "100"), ("b", "100"), ("c", "100")]);
    for poll in 1..=4 {
        assert_eq!(market.btc(&[]), "100 by a+b+c", "{poll}");
    }
    assert_eq!(market.btc(&[]), "unavailable -a:stale -b:stale -c:stale");
    assert_eq!(market.btc(&[("a", "100"), ("b", "100")]), "100 by a+b+c", "two fresh ones carry the third");
}

#[test]
fn a_frozen_venue_is_dropped_only_if_the_market_moves() {
    for (name, step, frozen) in [("moving", "0.05", true), ("still", "0", false)] {
        let mut market = Market::new();
        let mut price = d("100");
        let mut last = String::new();
        for _ in 0..=20 {
            let text = price.to_string();
            last = market.btc(&[("a", &text), ("b", &text), ("c", &text), ("d", "100")]);
            price += d(step);
        }
        assert_eq!(last.contains("-d:frozen"), frozen, "{name}: {last}");
        let text = price.to_string();
        let all = market.btc(&[("a", &text), ("b", &text), ("c", &text), ("d", &text)]);
        assert!(!all.contains("frozen"), "{name}: {all}");
    }
}

#[test]
fn frozen_is_five_minutes_while_two_others_move_a_quarter_of_a_percent() {
    for (name, polls, moved, frozen) in [
        ("both moved", 20, ["100.25", "99.7506"], true),
        ("less than 300 s", 19, ["100.25", "99.75"], false),
        ("one moved less", 20, ["100.25", "99.76"], false),
        ("only one moved", 20, ["100.25", "100"], false),
    ] {
        let mut market = Market::new();
        let mut last = String::new();
        for poll in 0..=polls {
            let [b, c] = if poll == polls { moved } else { ["100"; 2] };
            last = market.btc(&[("a", "100"), ("b", b), ("c", c), ("e", "100"), ("f", "100")]);
        }
        assert_eq!(last.contains("-a:frozen"), frozen, "{name}: {last}");
        assert!(!last.contains("-b:frozen"), "{name}: {last}");
    }
}

#[test]
fn each_asset_needs_its_votes() {
    let mut market = Market::new();
    let pairs = ["BTC/USD", "ETH/USD", "LTC/USD", "BCH/USD", "USDT/USD", "USDC/USD"];
    let mut by = |venues: &[&'static str]| {
        let said: Vec<_> =
            pairs.iter().flat_map(|pair| venues.iter().map(|venue| (*venue, *pair, "1"))).collect();
        let published = market.poll(&said);
        let priced: Vec<_> =
            pairs.iter().filter(|pair| !show(&published, &pair[..pair.len() - 4]).contains("un")).collect();
        priced.into_iter().map(|pair| &pair[..pair.len() - 4]).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(by(&["a"]), "");
    assert_eq!(by(&["a", "b"]), "LTC BCH");
    assert_eq!(by(&["a", "b", "c"]), "BTC ETH LTC BCH USDT USDC");
}

#[test]
fn a_vote_through_a_token_is_as_old_and_as_wide_as_both() {
    let mut market = Market::new();
    let peg = ["a", "b", "c"].map(|venue| (venue, "USDT/USD", "0.99"));
    market.poll(&peg);
    let made = market.now;
    let coins = ["d", "e", "f"].map(|venue| (venue, "BTC/USDT", "100"));
    let published = market.poll(&coins);
    let rate = published.assets.iter().find(|rate| rate.asset == c("BTC")).unwrap();
    assert_eq!((rate.usd, rate.at), (Some(d("99")), made), "the token's book is the older one");
    assert_eq!(rate.confidence.unwrap().normalize(), d("0.0099"), "half the spread, in dollars");
}

#[test]
fn a_jump_waits_for_a_second_poll() {
    let mut market = Market::new();
    let mut all = |price: &str| market.btc(&[("a", price), ("b", price), ("c", price)]);
    assert_eq!(all("100"), "100 by a+b+c");
    assert_eq!(all("115"), "115 by a+b+c", "15 % is no jump");
    assert_eq!(all("140"), "115 by a+b+c", "held");
    assert_eq!(all("115"), "115 by a+b+c", "it was a flash");
    assert_eq!(all("140"), "115 by a+b+c", "held again");
    assert_eq!(all("170"), "115 by a+b+c", "another jump, not the same");
    assert_eq!(all("171"), "171 by a+b+c", "two polls agree");
    assert_eq!(all("100"), "171 by a+b+c");
    assert_eq!(all("99"), "99 by a+b+c");
    assert_eq!(all("113.86"), "99 by a+b+c", "15.01 %");
    assert_eq!(all("84.15"), "84.15 by a+b+c", "15 % down is no jump");
    assert_eq!(all("71.5"), "84.15 by a+b+c", "15.03 % down");
}

#[test]
fn a_jump_is_not_confirmed_by_hearing_nothing_new() {
    let mut market = Market::new();
    market.btc(&[("a", "100"), ("b", "100"), ("c", "100")]);
    assert_eq!(market.btc(&[("a", "150"), ("b", "150"), ("c", "150")]), "100 by a+b+c");
    assert_eq!(market.btc(&[]), "100 by a+b+c");
    assert_eq!(market.btc(&[]), "100 by a+b+c");
    assert_eq!(market.btc(&[]), "100 by a+b+c");
    assert_eq!(market.btc(&[]), "unavailable", "the rate before is too old now, and one poll proves nothing");
    let one = [("a", "BTC/USD", "150")];
    assert_eq!(show(&market.poll(&one), "BTC"), "unavailable -b:stale -c:stale");
    assert_eq!(market.btc(&[("a", "150"), ("b", "150"), ("c", "150")]), "150 by a+b+c");
}

#[test]
fn polls_that_never_agree_prove_no_jump() {
    let mut market = Market::new();
    let mut all = |price: &str| market.btc(&[("a", price), ("b", price), ("c", price)]);
    assert_eq!(all("100"), "100 by a+b+c");
    for price in ["140", "170", "140", "170"] {
        assert_eq!(all(price), "100 by a+b+c", "{price}");
    }
    for price in ["140", "170", "140"] {
        assert_eq!(all(price), "unavailable", "{price}: nobody can say, and the last rate is too old");
    }
    assert_eq!(all("141"), "141 by a+b+c");
}

#[test]
fn after_an_outage_no_rate_is_a_jump() {
    let mut market = Market::new();
    market.btc(&[("a", "100"), ("b", "100"), ("c", "100")]);
    market.now = market.now.plus(Span::from_secs(600));
    assert_eq!(market.btc(&[("a", "150"), ("b", "150"), ("c", "150")]), "150 by a+b+c");
}

#[test]
fn what_was_held_against_a_venue_outlives_the_publisher() {
    let mut market = Market::new();
    let mut price = d("100");
    let mut last = None;
    for poll in 0..=20 {
        let text = price.to_string();
        let far = if poll % 2 == 0 { "130" } else { "131" };
        let honest = ["a", "b", "c"].map(|venue| (venue, "BTC/USD", text.as_str()));
        let more = [("x", "BTC/USD", "100"), ("y", "BTC/USD", far)];
        last = Some(market.poll(&[&honest[..], &more].concat()));
        price += d("0.05");
    }
    let last = last.unwrap();
    assert_eq!(show(&last, "BTC"), "101 by a+b+c -x:frozen -y:outlier");
    market.aggregator = Aggregator::new(RateRules::default());
    market.aggregator.resume(&last);
    let mut said = |x: &str| market.btc(&[("a", "101"), ("b", "101"), ("c", "101"), ("x", x), ("y", "101")]);
    assert_eq!(said("100"), "101 by a+b+c -x:frozen -y:returning");
    assert_eq!(said("100"), "101 by a+b+c+y -x:frozen", "two polls near the others");
    assert_eq!(said("100.9"), "101 by a+b+c+x+y", "its book has moved");
}

#[test]
fn who_moves_alone_is_no_majority() {
    let mut market = Market::new();
    let mut last = String::new();
    for poll in 0..=20 {
        let liars = if poll % 2 == 0 { "5" } else { "5.02" };
        let said = [("a", "5"), ("b", "5"), ("c", "5"), ("x", liars), ("y", liars)];
        let said: Vec<_> = said.iter().map(|(venue, price)| (*venue, "LTC/USD", *price)).collect();
        last = show(&market.poll(&said), "LTC");
    }
    assert_eq!(last, "inconsistent -a:frozen -b:frozen -c:frozen");
}

#[test]
fn one_fresh_vote_carries_no_old_one() {
    let mut market = Market::new();
    let ltc = [("a", "LTC/USD", "5"), ("b", "LTC/USD", "5")];
    assert_eq!(show(&market.poll(&ltc), "LTC"), "5 by a+b");
    let mut last = String::new();
    for _ in 0..5 {
        last = show(&market.poll(&ltc[..1]), "LTC");
    }
    assert_eq!(last, "unavailable -b:stale");
}

#[test]
fn a_peg_is_lost_past_two_percent() {
    for (peg, rate) in [
        ("0.98", "98 by a+b+d+e+f"),
        ("1.02", "102 by a+b+d+e+f"),
        ("0.9799", "97.99 by a+e+f -b:depeg -d:depeg"),
        ("1.0201", "102.01 by a+e+f -b:depeg -d:depeg"),
    ] {
        let mut market = Market::new();
        let usd = (d(peg) * d("100")).to_string();
        let direct = ["a", "e", "f"].map(|venue| (venue, "BTC/USD", usd.as_str()));
        let pegs = ["a", "b", "c"].map(|venue| (venue, "USDT/USD", peg));
        let tokens = ["b", "d"].map(|venue| (venue, "BTC/USDT", "100"));
        assert_eq!(show(&market.poll(&[&direct[..], &pegs, &tokens].concat()), "BTC"), rate, "{peg}");
    }
}

#[test]
fn a_restart_knows_jumps_and_fiat() {
    let mut market = Market::new();
    let now = market.now;
    let euro = FiatTick {
        venue: Venue::named("ecb"),
        base: c("EUR"),
        quote: c("USD"),
        rate: d("1.25"),
        as_of: now,
        received_at: now,
    };
    market.aggregator.aggregate(&[], &[euro], now);
    let before = market.poll(&[("a", "BTC/USD", "100"), ("b", "BTC/USD", "100"), ("c", "BTC/EUR", "80")]);
    assert_eq!(show(&before, "BTC"), "100 by a+b+c");
    market.aggregator = Aggregator::new(RateRules::default());
    market.aggregator.resume(&before);
    let jump = [("a", "BTC/USD", "150"), ("b", "BTC/USD", "150"), ("c", "BTC/EUR", "120")];
    assert_eq!(show(&market.poll(&jump), "BTC"), "100 by a+b+c", "held");
    let after = market.poll(&jump);
    assert_eq!(show(&after, "BTC"), "150 by a+b+c");
    assert_eq!(after.fiat, before.fiat);
}

#[test]
fn clocks_may_be_wrong() {
    let mut market = Market::new();
    let mut ahead = market.tick("c", "BTC/USD", d("100"));
    ahead.venue_time = Some(market.now.plus(Span::from_secs(90)));
    let said = [market.tick("a", "BTC/USD", d("100")), market.tick("b", "BTC/USD", d("100")), ahead];
    let published = market.aggregator.aggregate(&said, &[], market.now);
    assert_eq!(show(&published, "BTC"), "unavailable -c:clock", "theirs");

    let all = [("a", "100"), ("b", "100"), ("c", "100")];
    market.now = market.now.plus(Span::from_secs(86_400));
    assert_eq!(market.btc(&all), "100 by a+b+c");
    market.now = market.now.minus(Span::from_secs(86_400));
    assert_eq!(market.btc(&all), "100 by a+b+c", "ours was set back");
}

#[test]
fn a_dollar_token_is_taken_at_its_own_price() {
    let mut market = Market::new();
    let usdt = |price: &'static str| ["a", "b", "c"].map(|venue| (venue, "USDT/USD", price));
    let poll = |market: &mut Market, peg, more: &[(&'static str, &str, &str)]| {
        let said: Vec<_> = usdt(peg).into_iter().chain(more.iter().copied()).collect();
        show(&market.poll(&said), "BTC")
    };
    let three = [("a", "BTC/USD", "99"), ("b", "BTC/USDT", "100"), ("d", "BTC/USDT", "100")];
    assert_eq!(poll(&mut market, "0.99", &three), "99 by a+b+d");

    // Depegged: still the only way for two of the three …
    let mut market = Market::new();
    let three = [("a", "BTC/USD", "96"), ("b", "BTC/USDT", "100"), ("d", "BTC/USDT", "100")];
    assert_eq!(poll(&mut market, "0.96", &three), "96 by a+b+d");
    // … and left out as soon as the direct votes suffice.
    let four = [three[0], three[1], three[2], ("e", "BTC/USD", "96"), ("f", "BTC/USD", "96.1")];
    assert_eq!(poll(&mut market, "0.96", &four), "96 by a+e+f -b:depeg -d:depeg");

    // Without a price of its own it is no way at all.
    let mut market = Market::new();
    assert_eq!(show(&market.poll(&three), "BTC"), "unavailable -b:no_leg -d:no_leg");
}

#[test]
fn each_venue_has_one_vote_by_its_best_way() {
    let mut market = Market::new();
    let said = [
        ("a", "BTC/USD", "100"),
        ("a", "BTC/USDT", "500"),
        ("b", "BTC/USD", "100"),
        ("c", "BTC/USD", "100"),
        ("a", "ETH/USD", "10"),
        ("b", "ETH/BTC", "0.1"),
        ("c", "ETH/BTC", "0.1"),
        ("d", "ETH/JPY", "1000"),
    ];
    let published = market.poll(&said);
    assert_eq!(show(&published, "BTC"), "100 by a+b+c");
    assert_eq!(show(&published, "ETH"), "10 by a+b+c");
}

#[test]
fn one_source_only_where_that_is_allowed() {
    let one = [("a", "BTC/USD", "100")];
    let two = [one[0], ("b", "BTC/USD", "100"), ("a", "LTC/USD", "5"), ("b", "LTC/USD", "5")];
    let mut market = Market::new();
    let published = market.poll(&two);
    assert_eq!(
        (show(&published, "BTC").as_str(), show(&published, "LTC").as_str()),
        ("unavailable", "5 by a+b")
    );
    let rules = RateRules { allow_single_source: true, ..RateRules::default() };
    market.aggregator = Aggregator::new(rules);
    assert_eq!(show(&market.poll(&one), "BTC"), "100 by a");
}

#[test]
fn assets_are_a_setting() {
    let doge = AssetRule { asset: c("DOGE"), votes_min: 1 };
    let rules =
        RateRules { assets: vec![doge], pivot: None, dollar_tokens: Vec::new(), ..RateRules::default() };
    let mut market = Market { aggregator: Aggregator::new(rules), ..Market::new() };
    let published = market.poll(&[("a", "DOGE/USD", "0.1"), ("a", "BTC/USD", "100")]);
    assert_eq!(published.assets.len(), 1);
    assert_eq!(show(&published, "DOGE"), "0.1 by a");
}

#[test]
fn other_names_of_a_currency_are_the_same_currency() {
    let mut market = Market::new();
    let said = [("a", "XBT/USD", "100"), ("b", "BTC/USD", "100"), ("c", "XBT/USD", "100")];
    assert_eq!(show(&market.poll(&said), "BTC"), "100 by a+b+c");
}

proptest! {
    /// Whatever venues say, in whatever order it arrives: the same rates, and none outside what was said.
    #[test]
    fn arrival_order_changes_nothing(
        polls in proptest::collection::vec(
            proptest::collection::vec((0_usize..6, 0_usize..4, 50_u64..200), 0..24), 1..8,
        ),
        turn in 0_usize..24,
    ) {
        let venues = ["a", "b", "c", "d", "e", "f"];
        let pairs = ["BTC/USD", "BTC/USDT", "USDT/USD", "ETH/BTC"];
        let (mut one, mut other) = (Market::new(), Market::new());
        for poll in &polls {
            let said: Vec<_> = poll.iter().map(|(venue, pair, mid)| {
                let mid = if *pair == 2 { Decimal::new(i64::try_from(*mid).unwrap(), 2) } else { Decimal::from(*mid) };
                (venues[*venue], pairs[*pair], mid.to_string())
            }).collect();
            let said: Vec<_> = said.iter().map(|(venue, pair, mid)| (*venue, *pair, mid.as_str())).collect();
            let mut turned = said.clone();
            turned.rotate_left(turn % said.len().max(1));
            turned.reverse();
            let published = one.poll(&said);
            prop_assert_eq!(&published, &other.poll(&turned));
            for rate in &published.assets {
                prop_assert_eq!(rate.usd.is_some(), rate.confidence.is_some());
                prop_assert!(rate.usd.is_none_or(|usd| usd > Decimal::ZERO && !rate.inconsistent));
            }
        }
    }

    /// A minority that says anything, in any poll, or nothing, never moves the rate out of what the honest
    /// said in that poll.
    #[test]
    fn a_minority_never_moves_the_rate_in_any_poll(
        honest in 3_usize..6,
        polls in proptest::collection::vec((
            -30_i64..=30,
            proptest::collection::vec(-240_i64..=240, 6),
            proptest::collection::vec(prop_oneof![Just(0_i64), 1_i64..300_000, 97_000_i64..103_000, 99_400_i64..100_600], 5),
        ), 1..24),
    ) {
        let names = ["a", "b", "c", "d", "e", "f", "v", "w", "x", "y", "z"];
        let mut market = Market::new();
        let mut center = d("50000");
        for (step, offsets, lies) in &polls {
            center += center * Decimal::new(*step, 4);
            let price = |parts: i64| (center * Decimal::new(100_000 + parts, 5)).round_dp(8).to_string();
            let truths: Vec<_> = offsets[..honest].iter().map(|parts| price(*parts)).collect();
            let lies: Vec<_> = lies[..honest - 1].iter().map(|parts| price(*parts - 100_000)).collect();
            let said: Vec<_> = names.iter().zip(&truths).chain(names[6..].iter().zip(&lies))
                .map(|(venue, price)| (*venue, "BTC/USD", price.as_str()))
                .collect();
            let published = market.poll(&said);
            let truths: Vec<Decimal> = truths.iter().map(|price| d(price)).collect();
            let rate = published.assets.iter().find(|rate| rate.asset == c("BTC")).unwrap();
            if let Some(usd) = rate.usd {
                let (low, high) = (truths.iter().min().unwrap(), truths.iter().max().unwrap());
                prop_assert!(*low <= usd && usd <= *high, "{} of {truths:?}", show(&published, "BTC"));
            }
        }
    }
}
