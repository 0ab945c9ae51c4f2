//! What the sandbox's routes move beside the chains: the clock and the prices.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rust_decimal::Decimal;
use tally_feeds::SimulatedPrices;
use tally_ports::Clock;
use tally_pricing::RateTable;
use tally_rates::PollNow;
use tally_sandbox::Controls;
use tally_types::{Currency, Span, Timestamp};
use tally_watcher::WatcherHandle;
use tokio::sync::watch;

use crate::clock::WallClock;
use crate::compose::Services;

/// How long an answer waits until what it changed can be seen.
const SETTLE_WITHIN: Duration = Duration::from_secs(3);

/// What a call moves, shared by the routes.
pub(super) struct Hooks {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<WallClock>,
    prices: SimulatedPrices,
    running: OnceLock<Running>,
}

/// The services that must notice.
struct Running {
    poll: PollNow,
    rates: watch::Receiver<Arc<RateTable>>,
    watchers: Vec<WatcherHandle>,
}

impl Hooks {
    pub(super) fn new(clock: Arc<WallClock>, prices: SimulatedPrices) -> Self {
        Self { inner: Arc::new(Inner { clock, prices, running: OnceLock::new() }) }
    }

    /// Ties the hooks to the services once those run.
    pub(super) fn attach(&self, services: &Services) {
        if let (Some(poll), Some(rates)) = (&services.poll, &services.rates) {
            let watchers = services.watchers.clone();
            let running = Running { poll: poll.clone(), rates: rates.clone(), watchers };
            // Attached once, at the start.
            let _ = self.inner.running.set(running);
        }
    }

    pub(super) fn controls(&self) -> Controls {
        let (clock, prices) = (self.inner.clone(), self.inner.clone());
        Controls {
            advance: Box::new(move |by| Ok(clock.advance(by))),
            set_rate: Box::new(move |currency, usd| prices.set_rate(currency, usd)),
        }
    }
}

impl Inner {
    /// Moves the clock on for everything; answers once rates of the new time are published.
    fn advance(&self, by: Span) -> Timestamp {
        self.clock.advance(by);
        self.settle();
        for watcher in self.running.get().iter().flat_map(|running| &running.watchers) {
            watcher.report_soon();
        }
        self.clock.now()
    }

    /// Sets a price; answers once it is published.
    fn set_rate(&self, currency: &Currency, usd: Decimal) -> Result<(), String> {
        self.prices.set(currency, usd).map_err(|error| error.to_string())?;
        self.settle();
        Ok(())
    }

    /// Polls until the new state is what everybody reads. The routes call from a runtime's own thread.
    fn settle(&self) {
        let Some(running) = self.running.get() else { return };
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let mut rates = running.rates.clone();
                rates.mark_unchanged();
                let settled = async {
                    if running.poll.settle().await {
                        // The publication comes back over the log.
                        let _ = rates.changed().await;
                    }
                };
                let _ = tokio::time::timeout(SETTLE_WITHIN, settled).await;
            });
        });
    }
}
