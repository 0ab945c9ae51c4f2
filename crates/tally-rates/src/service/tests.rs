//! The publisher and its followers, in simulated time.

use std::sync::Mutex;

use async_trait::async_trait;
use rust_decimal::Decimal;
use tally_events::Fact;
use tally_ports::Poll;
use tally_pricing::{FiatTick, RateError, RateTable, Tick, TickPrice, Venue};
use tally_testkit::{MemoryLease, MemoryLog};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::*;
use crate::follow;

/// The time of the test's runtime, and a distance that can be changed.
struct TestClock {
    start: Instant,
    offset: Mutex<i64>,
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.start.elapsed().as_millis()).unwrap();
        Timestamp::from_millis(1_750_000_000_000 + elapsed + *self.offset.lock().unwrap())
    }
}

/// How a venue answers.
#[derive(Clone)]
enum Mood {
    Price(&'static str),
    Fiat(&'static str),
    Limited(u64),
    Fails,
    Hangs,
}

struct TestFeed {
    name: &'static str,
    mood: Mutex<Mood>,
    asked: Mutex<u32>,
}

#[async_trait]
impl PriceFeed for TestFeed {
    fn venue(&self) -> &str {
        self.name
    }

    async fn poll(&self, now: Timestamp) -> Result<Poll, PortError> {
        *self.asked.lock().unwrap() += 1;
        let mood = self.mood.lock().unwrap().clone();
        let venue = Venue::named(self.name);
        let (usd, eur, btc) = ("USD".parse().unwrap(), "EUR".parse().unwrap(), "BTC".parse().unwrap());
        let mut poll = Poll::default();
        match mood {
            Mood::Price(price) => {
                let price: Decimal = price.parse().unwrap();
                let price = TickPrice::Book { bid: price, ask: price };
                poll.ticks.push(Tick {
                    venue,
                    base: btc,
                    quote: usd,
                    price,
                    venue_time: None,
                    received_at: now,
                });
            }
            Mood::Fiat(rate) => {
                let rate = rate.parse().unwrap();
                poll.fiat.push(FiatTick { venue, base: eur, quote: usd, rate, as_of: now, received_at: now });
            }
            Mood::Limited(secs) => poll.retry_after = Some(Span::from_secs(secs)),
            Mood::Fails => return Err(PortError::transient("out of order")),
            Mood::Hangs => std::future::pending().await,
        }
        Ok(poll)
    }
}

impl TestFeed {
    fn says(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// How often it was asked since the last time this was.
    fn asked(&self) -> u32 {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

struct World {
    clock: Arc<TestClock>,
    lease: Arc<MemoryLease>,
    log: MemoryLog,
    feeds: Vec<Arc<TestFeed>>,
    rates: watch::Receiver<Arc<RateTable>>,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(TestClock { start: Instant::now(), offset: Mutex::new(0) });
        let feed = |(name, mood)| Arc::new(TestFeed { name, mood: Mutex::new(mood), asked: Mutex::new(0) });
        let hundred = Mood::Price("100");
        let feeds =
            [("a", hundred.clone()), ("b", hundred.clone()), ("c", hundred), ("f", Mood::Fiat("1.25"))];
        let log = MemoryLog::new();
        let rates = follow(Arc::new(log.clone()), RateRules::default());
        let lease = Arc::new(MemoryLease::new(clock.clone()));
        Self { clock, lease, log, feeds: feeds.map(feed).to_vec(), rates }
    }

    fn start(&self) -> (PollNow, JoinHandle<()>) {
        self.start_with(RateSettings::default())
    }

    fn start_with(&self, settings: RateSettings) -> (PollNow, JoinHandle<()>) {
        let feeds = self.feeds.iter().map(|feed| feed.clone() as Arc<dyn PriceFeed>).collect();
        let log = Arc::new(self.log.clone());
        let (service, now) = RateService::new(feeds, log, self.lease.clone(), self.clock.clone(), settings);
        (now, tokio::spawn(service.run(std::future::pending())))
    }

    fn all_say(&self, price: &'static str) {
        self.feeds[..3].iter().for_each(|feed| feed.says(Mood::Price(price)));
    }

    fn rate(&self, from: &str, to: &str) -> String {
        match self.rates.borrow().rate_named(from, to, self.clock.now()) {
            Ok(answer) => answer.text,
            Err(RateError::Unavailable { .. }) => "unavailable".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    fn history(&self) -> Vec<String> {
        let table = self.rates.borrow().clone();
        table.history(&"BTC".parse().unwrap()).map(|point| point.usd.normalize().to_string()).collect()
    }

    fn published(&self) -> usize {
        self.log.facts_on(&Subject::rates()).len()
    }
}

async fn secs(secs: u64) {
    sleep(Duration::from_secs(secs)).await;
}

#[tokio::test(start_paused = true)]
async fn rates_are_published_at_once_and_every_poll() {
    let world = World::new();
    assert_eq!(world.rate("BTC", "USD"), "unavailable");
    let (_now, service) = world.start();
    secs(1).await;
    assert_eq!((world.rate("BTC", "USD").as_str(), world.rate("BTC", "EUR").as_str()), ("100", "80"));
    world.all_say("101");
    secs(150).await;
    assert_eq!((world.rate("BTC", "USD").as_str(), world.published()), ("101", 11));
    assert_eq!((world.feeds[0].asked(), world.feeds[3].asked()), (11, 1), "fiat is asked rarely");
    service.abort();
    secs(62).await;
    assert_eq!(world.rate("BTC", "USD"), "unavailable", "nobody publishes any more");
    assert_eq!(world.rate("EUR", "USD"), "1.25", "fiat holds for days");
}

#[tokio::test(start_paused = true)]
async fn a_set_price_settles_at_once() {
    let world = World::new();
    let (now, _service) = world.start();
    secs(1).await;
    world.all_say("250");
    assert!(now.poll().await);
    secs(1).await;
    assert_eq!(world.rate("BTC", "USD"), "100", "a jump");
    world.all_say("30");
    assert!(now.settle().await);
    let mut rates = world.rates.clone();
    rates.changed().await.unwrap();
    secs(1).await;
    assert_eq!(world.rate("BTC", "USD"), "30");
}

#[tokio::test(start_paused = true)]
async fn one_bad_feed_holds_up_none() {
    let world = World::new();
    for (name, mood, asked) in [
        ("limited", Mood::Limited(100), 1..=2),
        ("failing", Mood::Fails, 4..=7),
        ("hanging", Mood::Hangs, 3..=7),
    ] {
        let fourth = Arc::new(TestFeed { name: "d", mood: Mutex::new(mood), asked: Mutex::new(0) });
        let mut world = World { feeds: world.feeds.clone(), ..World::new() };
        world.feeds.push(fourth.clone());
        let (_now, service) = world.start();
        secs(130).await;
        assert_eq!(world.rate("BTC", "USD"), "100", "{name}");
        assert!(asked.contains(&fourth.asked()), "{name}");
        assert!(world.published() >= 5, "{name}");
        service.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_feeds_fail_the_rate_ends_and_comes_back() {
    let world = World::new();
    let (_now, _service) = world.start();
    secs(1).await;
    world.feeds.iter().for_each(|feed| feed.says(Mood::Fails));
    secs(50).await;
    assert_eq!(world.rate("BTC", "USD"), "100");
    secs(30).await;
    assert_eq!(world.rate("BTC", "USD"), "unavailable");
    secs(3_600).await;
    world.all_say("100");
    secs(31).await;
    assert_eq!(world.rate("BTC", "USD"), "100", "two polls later, however long it was");
}

#[tokio::test(start_paused = true)]
async fn a_venue_is_asked_as_often_as_is_set() {
    let world = World::new();
    let secs_of = |(venue, secs): (&str, u64)| (venue.to_owned(), Span::from_secs(secs));
    let intervals = [("a", 30), ("b", 100), ("f", 45)].map(secs_of).into();
    let (_now, _service) = world.start_with(RateSettings { intervals, ..RateSettings::default() });
    secs(299).await;
    let asked: Vec<_> = world.feeds.iter().map(|feed| feed.asked()).collect();
    assert_eq!(asked, [10, 3, 20, 7], "every second poll, every seventh, each, every third");
    assert_eq!(world.rate("BTC", "USD"), "100");
}

#[tokio::test(start_paused = true)]
async fn fiat_waits_a_week_for_its_sources() {
    let world = World::new();
    let (_now, first) = world.start();
    secs(1).await;
    world.feeds[3].says(Mood::Fails);
    let day = 86_400_000;
    for days in 1..=6 {
        *world.clock.offset.lock().unwrap() += day;
        secs(31).await;
        assert_eq!((world.rate("EUR", "USD").as_str(), days), ("1.25", days));
    }
    first.abort();
    let _ = first.await;
    let (_now, _second) = world.start();
    secs(31).await;
    assert_eq!(world.rate("BTC", "EUR"), "80", "a restart knows it too");
    *world.clock.offset.lock().unwrap() += day;
    secs(31).await;
    assert_eq!(world.rate("EUR", "USD"), "unavailable", "a week is over");
    assert_eq!(world.rate("BTC", "USD"), "100");
}

#[tokio::test(start_paused = true)]
async fn a_standby_takes_over_within_two_polls() {
    let world = World::new();
    let (_, first) = world.start();
    secs(1).await;
    let (standby, _second) = world.start();
    secs(100).await;
    let published = world.published();
    assert_eq!(published, 7, "only one publishes");
    assert!(!standby.poll().await, "a standby does not");
    first.abort();
    let _ = first.await;
    secs(30).await;
    assert!(world.published() > published);
    assert_eq!(world.rate("BTC", "USD"), "100");
    let epochs: Vec<_> = world.log.facts().iter().map(|fact| fact.event.epoch.get()).collect();
    assert!(epochs.is_sorted() && epochs.first() < epochs.last());
}

/// The publisher dies at any moment of its poll; its lease must run out by itself.
#[tokio::test(start_paused = true)]
async fn two_polls_suffice_however_often_venues_are_asked() {
    for (poll, dies_after) in [(1, 200), (2, 900), (15, 0), (15, 7_400), (30, 14_900), (30, 29_900)] {
        let world = World::new();
        let settings = RateSettings { poll: Span::from_secs(poll), ..RateSettings::default() };
        let (_, first) = world.start_with(settings.clone());
        secs(3 * poll).await;
        let (_, _second) = world.start_with(settings);
        secs(2 * poll).await;
        sleep(Duration::from_millis(dies_after)).await;
        first.abort();
        let _ = first.await;
        let before = world.published();
        secs(2 * poll).await;
        assert!(world.published() > before, "asked every {poll} s, dead {dies_after} ms after a poll");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_lost_is_not_published_under() {
    let world = World::new();
    let (_one, _first) = world.start();
    secs(1).await;
    let (_two, _second) = world.start();
    world.lease.revoke(LEASE);
    secs(200).await;
    let facts = world.log.facts();
    let epochs: Vec<_> = facts.iter().map(|fact| fact.event.epoch.get()).collect();
    assert!(epochs.is_sorted(), "{epochs:?}");
    assert_eq!(world.rate("BTC", "USD"), "100");
}

#[tokio::test(start_paused = true)]
async fn the_log_may_fail_and_lose_answers() {
    let world = World::new();
    let (_now, _service) = world.start();
    secs(1).await;
    world.log.fail_appends(1);
    secs(15).await;
    world.log.lose_acks(1);
    world.all_say("101");
    secs(31).await;
    assert_eq!(world.rate("BTC", "USD"), "101");
}

#[tokio::test(start_paused = true)]
async fn a_restart_answers_at_once_while_the_rates_are_fresh() {
    let world = World::new();
    let (_now, service) = world.start();
    secs(1).await;
    service.abort();
    secs(40).await;
    let mut restarted = follow(Arc::new(world.log.clone()), RateRules::default());
    restarted.changed().await.unwrap();
    let world = World { rates: restarted, ..world };
    assert_eq!(world.rate("BTC", "USD"), "100");
    assert_eq!(world.history(), ["100"]);
    secs(20).await;
    assert_eq!(world.rate("BTC", "USD"), "unavailable");
}

#[tokio::test(start_paused = true)]
async fn the_history_survives_a_restart() {
    let world = World::new();
    let (_now, _service) = world.start();
    for price in ["100", "101", "102"] {
        world.all_say(price);
        secs(120).await;
    }
    let live = world.history();
    assert_eq!((live.len(), live.last().unwrap().as_str()), (4, "102"), "{live:?}");
    let mut restarted = follow(Arc::new(world.log.clone()), RateRules::default());
    restarted.changed().await.unwrap();
    secs(1).await;
    let world = World { rates: restarted, ..world };
    assert_eq!(world.history(), live);
    world.all_say("103");
    secs(120).await;
    assert_eq!(world.history().last().unwrap(), "103", "and goes on");
}

#[tokio::test(start_paused = true)]
async fn the_clock_may_be_moved() {
    let world = World::new();
    let (_now, _service) = world.start();
    secs(1).await;
    for (name, by) in [("20 minutes on", 1_200_000), ("a day on", 86_400_000), ("and back", -87_600_000)] {
        *world.clock.offset.lock().unwrap() += by;
        secs(6).await;
        assert_eq!(world.rate("BTC", "USD"), "100", "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_published_is_the_whole() {
    let world = World::new();
    let (_now, _service) = world.start();
    secs(1).await;
    let facts = world.log.facts();
    let Fact::RatesPublished(published) = &facts[0].event.fact else { panic!("{facts:?}") };
    assert_eq!(published.assets.len(), RateRules::default().assets.len());
    assert_eq!(published.fiat.len(), 1);
    assert_eq!(facts[0].event.subject, Subject::rates());
}
