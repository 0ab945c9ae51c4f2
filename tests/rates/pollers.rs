//! Two hundred clients at once while venues come and go: each gets a rate, or the documented refusal.
//!
//! Five seconds as a test; `TALLY_POLLERS_SECS=60` for as long as one likes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tally_ports::Clock;
use tally_testkit::SeededEntropy;
use tally_types::{Span, Timestamp};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::market::{Mood, VENUES};
use crate::stand::{Stand, get};

const CLIENTS: usize = 200;
/// How much faster than real time it goes for rates: a poll takes less than a second.
const SPEED: u64 = 20;
/// Between a client's requests.
const PAUSE: Duration = Duration::from_millis(100);

/// A clock that goes fast.
struct FastClock(Instant);

impl Clock for FastClock {
    fn now(&self) -> Timestamp {
        let millis = u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_secs(1_750_000_000).plus(Span::from_millis(millis.saturating_mul(SPEED)))
    }
}

#[allow(clippy::disallowed_methods, reason = "how long a test runs is for who runs it to say")]
fn duration() -> Duration {
    let secs = std::env::var("TALLY_POLLERS_SECS").ok().and_then(|secs| secs.parse().ok());
    Duration::from_secs(secs.unwrap_or(5))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_get_a_rate_or_the_documented_refusal() {
    let stand = Stand::open(Arc::new(FastClock(Instant::now()))).await;
    let end = Instant::now() + duration();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = reqwest::Client::builder().pool_max_idle_per_host(1).build().unwrap();
        let pair = ["BTC/USD", "ETH/CNY", "LTC/BTC", "BCH/EUR"][number % 4];
        let url = format!("{}/rate/{pair}", stand.url);
        clients.spawn(async move {
            let mut seen = BTreeMap::<String, usize>::new();
            while Instant::now() < end {
                let what = match get(&client, &url).await {
                    Ok(answer) if answer.status == 200 => "200".to_owned(),
                    Ok(answer) => {
                        let reason = ["RateUnavailable", "RateInconsistent"]
                            .into_iter()
                            .find(|reason| answer.body.contains(reason) && answer.retry_after);
                        format!("{} {}", answer.status, reason.unwrap_or(&answer.body))
                    }
                    Err(error) => format!("{error:?}"),
                };
                *seen.entry(what).or_default() += 1;
                sleep(PAUSE).await;
            }
            seen
        });
    }
    flap(&stand, end).await;
    let mut seen = BTreeMap::<String, usize>::new();
    while let Some(one) = clients.join_next().await {
        for (what, times) in one.unwrap() {
            *seen.entry(what).or_default() += times;
        }
    }
    println!("{CLIENTS} clients, {:?}: {seen:?}", duration());
    let documented = ["200", "503 RateUnavailable", "503 RateInconsistent"];
    assert!(seen.keys().all(|what| documented.contains(&what.as_str())), "{seen:?}");
    assert!(seen.contains_key("200") && seen.len() > 1, "both were seen: {seen:?}");
}

/// Venues change their mood all the time; now and then too many of them do.
async fn flap(stand: &Stand, end: Instant) {
    let seed = SeededEntropy::new(5);
    let moods = [Mood::Honest, Mood::Down, Mood::Page, Mood::Empty, Mood::CutOff, Mood::Lies(1_080)];
    let mut turn = 0;
    while Instant::now() < end {
        turn += 1;
        for (place, (venue, _)) in VENUES.into_iter().enumerate() {
            let mood = match turn % 8 {
                // Calm, then three in any mood, then half of them far off.
                0..=2 => Mood::Honest,
                3..=5 if place % 3 == 0 => moods[usize::try_from(seed.below(6)).unwrap()],
                6..=7 if place % 2 == 0 => Mood::Lies(1_050),
                _ => Mood::Honest,
            };
            stand.market.set_mood(venue, mood);
        }
        sleep(Duration::from_millis(500)).await;
    }
}
