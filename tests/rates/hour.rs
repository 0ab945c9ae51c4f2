//! An hour of incidents, poll by poll, as fast as it goes.
//!
//! After every poll each asset is asked for over HTTP. What must hold: no answer outside what honest venues
//! said, none without enough venues, and all answers back two polls after an incident is over.

use std::collections::BTreeMap;
use std::sync::Arc;

use rust_decimal::Decimal;
use tally_ports::Clock;
use tally_testkit::{ManualClock, SeededEntropy};
use tally_types::{Span, Timestamp};

use crate::market::Mood::{self, *};
use crate::market::{ASSETS, VENUES};
use crate::stand::{Answer, Stand};

const POLL: Span = Span::from_secs(15);
/// A vote counts so long, beside two that are fresh.
const VOTE_MAX: Span = Span::from_secs(180);
/// A vote is fresh so long; and so long a rate may be answered, or held while a jump is unproven.
const FRESH: Span = Span::from_secs(60);

/// One venue's word on one asset.
#[derive(Clone, Copy)]
struct Word {
    at: Timestamp,
    usd: Decimal,
    honest: bool,
}

struct Hour {
    stand: Stand,
    clock: Arc<ManualClock>,
    seed: SeededEntropy,
    /// By asset and venue, oldest first.
    words: BTreeMap<(&'static str, &'static str), Vec<Word>>,
    answers: BTreeMap<&'static str, (usize, usize)>,
    polls: u32,
}

impl Hour {
    async fn open() -> Self {
        let clock = Arc::new(ManualClock::default());
        let stand = Stand::open(clock.clone()).await;
        let seed = SeededEntropy::new(20_260_105);
        Self { stand, clock, seed, words: BTreeMap::new(), answers: BTreeMap::new(), polls: 0 }
    }

    fn set(&self, moods: &[(&'static str, Mood)]) {
        for (venue, mood) in moods {
            self.stand.market.set_mood(venue, *mood);
        }
    }

    /// One poll, and the proof of what is answered after it.
    async fn poll(&mut self) -> [bool; ASSETS.len()] {
        for (asset, _) in ASSETS {
            let drift = i64::try_from(self.seed.below(121)).unwrap() - 60;
            self.stand.market.move_by(asset, 100_000 + drift);
        }
        let now = self.clock.advance(POLL);
        self.listen(now);
        assert!(self.stand.poll.poll().await, "the poll is published");
        let mut rates = self.stand.rates.clone();
        rates.wait_for(|table| table.published_at().is_some_and(|at| at >= now)).await.unwrap();
        self.polls += 1;
        let mut there = [false; ASSETS.len()];
        for ((asset, votes_min), there) in ASSETS.into_iter().zip(&mut there) {
            let answer = self.stand.get(&format!("/rate/{asset}/USD")).await;
            self.prove(asset, votes_min, &answer, now);
            *there = answer.status == 200;
            let counts = self.answers.entry(asset).or_default();
            if *there { counts.0 += 1 } else { counts.1 += 1 }
        }
        there
    }

    /// Notes what each venue says in this poll.
    fn listen(&mut self, now: Timestamp) {
        for (venue, _) in VENUES {
            let mood = self.stand.market.mood(venue);
            let (factor, honest) = match mood {
                Honest => (1_000, true),
                // Only one venue shows a time; to the others a wrong clock makes no difference.
                Ahead(_) if venue != "okx" => (1_000, true),
                Delisted | PairHangs => (1_000, true),
                Lies(factor) => (factor, false),
                Frozen => (1_000, false),
                _ => continue,
            };
            let without_cash = matches!(mood, Delisted | PairHangs);
            for (asset, _) in ASSETS.into_iter().filter(|(asset, _)| !without_cash || *asset != "BCH") {
                let usd = self.stand.market.honest(venue, asset) * Decimal::new(factor, 3);
                self.words.entry((asset, venue)).or_default().push(Word { at: now, usd, honest });
            }
        }
        for words in self.words.values_mut() {
            words.retain(|word| now.since(word.at) <= VOTE_MAX);
        }
    }

    fn prove(&self, asset: &'static str, votes_min: usize, answer: &Answer, now: Timestamp) {
        let minute = self.polls / 4;
        let of = |asset| self.words.iter().filter(move |((of, _), _)| *of == asset).map(|(_, words)| words);
        if answer.status != 200 {
            assert_eq!(answer.status, 503, "minute {minute}, {asset}: {answer:?}");
            assert!(answer.retry_after && answer.body.contains("\"Rate"), "{asset}: {answer:?}");
            return;
        }
        let age = |words: &Vec<Word>| words.last().map(|word| now.since(word.at));
        let fresh = of(asset).filter(|words| age(words).is_some_and(|age| age <= FRESH)).count();
        let any = of(asset).filter(|words| !words.is_empty()).count();
        let voices = if fresh >= 2 { any } else { fresh };
        assert!(voices >= votes_min, "minute {minute}, {asset}: {answer:?} by {voices} venues");
        // A venue's last word, and everyone's words of the last minute: a jump is held so long.
        let said = of(asset).flat_map(|words| {
            let last = words.last().map(|word| word.at);
            words.iter().filter(move |word| now.since(word.at) <= FRESH || Some(word.at) == last)
        });
        let honest: Vec<_> = said.filter(|word| word.honest).map(|word| word.usd).collect();
        let rate: Decimal = answer.body.parse().unwrap();
        // Numbers are shown with ten digits, and tokens are priced by votes of their own.
        let (low, high) = (honest.iter().min().unwrap(), honest.iter().max().unwrap());
        let room = rate * Decimal::new(1, 3);
        assert!(
            *low - room <= rate && rate <= *high + room,
            "minute {minute}, {asset}: {rate} is not within {low} and {high}"
        );
    }

    async fn polls(&mut self, polls: u32) {
        for _ in 0..polls {
            self.poll().await;
        }
    }

    /// Nothing is wrong any more: two polls later everything is back.
    async fn recovered(&mut self, from: &str) {
        self.stand.market.all_honest();
        self.poll().await;
        assert_eq!(self.poll().await, [true; ASSETS.len()], "two polls after {from}");
    }
}

/// Moods that one venue may have alone.
const ANY: [Mood; 10] = [Honest, Down, Page, Refuses, Empty, Crossed, CutOff, Frozen, Lies(1_300), Lies(980)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_of_incidents() {
    let mut hour = Hour::open().await;
    hour.polls(8).await;
    assert_eq!(hour.poll().await, [true; 4], "a calm market");

    hour.set(&[("kraken", Down)]);
    hour.polls(12).await;
    hour.recovered("one venue down").await;

    hour.set(&[("gemini", Frozen)]);
    hour.polls(30).await;
    let particulars = hour.stand.get("/v1/rate/BTC/USD").await.body;
    assert!(particulars.contains("\"frozen\""), "{particulars}");
    hour.recovered("a frozen venue").await;

    for _ in 0..6 {
        hour.set(&[("bitstamp", Lies(1_100))]);
        hour.poll().await;
        hour.set(&[("bitstamp", Honest)]);
        assert_eq!(hour.poll().await, [true; 4]);
    }
    hour.recovered("a flapping outlier").await;

    hour.stand.market.set("USDT", "0.94");
    hour.polls(2).await;
    for _ in 0..12 {
        assert_eq!(hour.poll().await, [true; 4], "direct votes suffice");
    }
    hour.stand.market.set("USDT", "1");
    hour.recovered("a lost peg").await;

    hour.set(&[("coinbase", Page), ("bitfinex", Crossed), ("kucoin", Empty), ("kraken", Refuses)]);
    hour.polls(8).await;
    hour.recovered("four that answer nonsense").await;

    hour.set(&[("kraken", Lies(1_020)), ("binance", Lies(1_020)), ("gemini", Lies(1_020))]);
    hour.polls(12).await;
    hour.recovered("a minority of liars").await;

    jumps(&mut hour).await;
    all_down(&mut hour).await;
    two_camps(&mut hour).await;
    few(&mut hour).await;

    hour.set(&[("okx", Ahead(90)), ("binance", Limited(40)), ("coinbase", Limited(40)), ("gemini", CutOff)]);
    hour.polls(12).await;
    hour.recovered("a wrong clock, and limits").await;

    one_pair(&mut hour).await;

    hour.set(&[("bitfinex", Hangs)]);
    hour.polls(3).await;
    hour.recovered("a venue that hangs").await;

    while hour.polls < 240 {
        for _ in 0..3 {
            let venue = VENUES[usize::try_from(hour.seed.below(8)).unwrap()].0;
            let mood = ANY[usize::try_from(hour.seed.below(10)).unwrap()];
            let others = VENUES.iter().filter(|(other, _)| *other != venue);
            let bad = others.filter(|(other, _)| hour.stand.market.mood(other) != Honest).count();
            hour.set(&[(venue, if bad < 3 { mood } else { Honest })]);
        }
        hour.poll().await;
    }
    hour.recovered("anything").await;
    println!("answers, and refusals, of {} polls: {:?}", hour.polls, hour.answers);
    assert!(hour.clock.now() >= Timestamp::from_secs(1_750_000_000 + 3_600));
}

/// The market itself jumps, and one venue's typo does not make it.
async fn jumps(hour: &mut Hour) {
    for (asset, _) in ASSETS {
        hour.stand.market.move_by(asset, 120_000);
    }
    hour.poll().await;
    assert_eq!(hour.poll().await, [true; 4]);
    let rate: Decimal = hour.stand.get("/rate/BTC/USD").await.body.parse().unwrap();
    let price = hour.stand.market.honest("binance", "BTC");
    assert!((rate / price - Decimal::ONE).abs() < Decimal::new(5, 3), "two polls agree: {rate} {price}");
    hour.set(&[("kraken", Lies(100_000))]);
    hour.polls(4).await;
    hour.recovered("a typo").await;
}

async fn all_down(hour: &mut Hour) {
    let ways = [Down, Page, Refuses, CutOff, Empty, Crossed, Down, Limited(15)];
    for ((venue, _), way) in VENUES.into_iter().zip(ways) {
        hour.set(&[(venue, way)]);
    }
    hour.polls(4).await;
    for poll in 0..12 {
        assert_eq!(hour.poll().await, [false; 4], "{poll} polls after a minute without a word");
    }
    assert_eq!(hour.stand.get("/rate/USD/CNY").await.status, 200, "fiat does not need them");
    hour.recovered("all down").await;
}

/// Half of the venues say one thing, half another: nobody knows, so nothing is said.
async fn two_camps(hour: &mut Hour) {
    hour.set(&[
        ("kraken", Lies(1_050)),
        ("gemini", Lies(1_050)),
        ("bitfinex", Lies(1_050)),
        ("okx", Lies(1_050)),
    ]);
    for _ in 0..6 {
        assert_eq!(hour.poll().await, [false; 4]);
        let answer = hour.stand.get("/rate/BTC/USD").await;
        assert!(answer.body.contains("RateInconsistent"), "{answer:?}");
    }
    hour.recovered("two camps").await;
}

/// One pair is gone at three venues, and hangs at two: they count for the others.
async fn one_pair(hour: &mut Hour) {
    let gone = [("kraken", Delisted), ("binance", Delisted), ("bitfinex", Delisted)];
    hour.set(&gone);
    hour.set(&[("coinbase", PairHangs), ("kucoin", PairHangs)]);
    for _ in 0..3 {
        assert_eq!(hour.poll().await, [true; 4]);
    }
    // What they said before counts for three minutes.
    hour.polls(10).await;
    for (asset, counting) in [("BTC", 8), ("ETH", 8), ("LTC", 8), ("BCH", 3)] {
        let answer = hour.stand.get(&format!("/v1/rate/{asset}/USD")).await.body;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let sources = answer["legs"][0]["sources"].as_array().unwrap();
        assert_eq!(sources.len(), counting, "{asset}: {answer}");
    }
    hour.recovered("one pair").await;
}

/// Two venues are enough for some assets only.
async fn few(hour: &mut Hour) {
    for (venue, _) in VENUES.into_iter().skip(2) {
        hour.set(&[(venue, Down)]);
    }
    hour.polls(13).await;
    for _ in 0..6 {
        assert_eq!(hour.poll().await, [false, false, true, true]);
    }
    hour.recovered("two venues left").await;
}
