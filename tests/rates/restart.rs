//! Rates outlive the process that made them: what was published is on disk.

use std::path::Path;
use std::sync::Arc;

use tally_feeds::SimulatedPrices;
use tally_log::LogName;
use tally_log::embedded::Embedded;
use tally_ports::Clock;
use tally_pricing::{RateRules, RateTable};
use tally_rates::{RateService, RateSettings, follow};
use tally_testkit::ManualClock;
use tally_types::Span;
use tokio::sync::watch;

const CACHE: u64 = 16 * 1024 * 1024;

/// One life: publishes `polls` times, then ends.
async fn life(dir: &Path, clock: &Arc<ManualClock>, polls: usize) {
    let log = Embedded::open(dir, CACHE).unwrap();
    let (service, poll) = RateService::new(
        SimulatedPrices::default().feeds(),
        Arc::new(log.log(LogName::Rates)),
        Arc::new(log.lease(clock.clone())),
        clock.clone(),
        RateSettings::default(),
    );
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let service = tokio::spawn(service.run(async move {
        let _ = stopped.await;
    }));
    for _ in 0..polls {
        assert!(poll.poll().await);
        clock.advance(Span::from_secs(15));
    }
    stop.send(()).unwrap();
    service.await.unwrap();
}

fn rate(rates: &watch::Receiver<Arc<RateTable>>, clock: &ManualClock, from: &str) -> Option<String> {
    rates.borrow().rate_named(from, "USD", clock.now()).ok().map(|answer| answer.text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_answers_at_once_while_the_rates_are_fresh() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    life(dir.path(), &clock, 40).await;
    clock.advance(Span::from_secs(30));

    let log = Embedded::open(dir.path(), CACHE).unwrap();
    let mut rates = follow(Arc::new(log.log(LogName::Rates)), RateRules::default());
    rates.changed().await.unwrap();
    assert_eq!(rate(&rates, &clock, "BTC").as_deref(), Some("65000"), "nobody publishes, but it is fresh");
    let points = |table: &Arc<RateTable>| table.history(&"BTC".parse().unwrap()).count();
    rates.wait_for(|table| points(table) >= 5).await.unwrap();
    clock.advance(Span::from_secs(16));
    assert_eq!(rate(&rates, &clock, "BTC"), None, "a minute after it was published");
    assert_eq!(rate(&rates, &clock, "EUR").as_deref(), Some("1.25"), "fiat holds for a week");
    clock.advance(Span::from_secs(7 * 86_400));
    assert_eq!(rate(&rates, &clock, "EUR"), None);
}
