//! What the sandbox's routes move beside the chains: the clock and the prices.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rust_decimal::Decimal;
use tally_feeds::SimulatedPrices;
use tally_ports::{Clock, ReadModel};
use tally_pricing::RateTable;
use tally_projector::Model;
use tally_rates::PollNow;
use tally_sandbox::Controls;
use tally_types::{ChainId, Currency, Span, Timestamp};
use tally_watcher::WatcherHandle;
use tokio::sync::watch;

use crate::clock::WallClock;
use crate::compose::Services;

/// How long an answer waits until what it changed can be seen.
const SETTLE_WITHIN: Duration = Duration::from_secs(3);

/// How often it is looked whether it can be seen.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What a call moves, shared by the routes.
pub(super) struct Hooks {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<WallClock>,
    prices: SimulatedPrices,
    /// Where the clock's offset is kept, if anywhere.
    offset: Option<PathBuf>,
    running: OnceLock<Running>,
}

/// The services that must notice.
struct Running {
    poll: PollNow,
    rates: watch::Receiver<Arc<RateTable>>,
    watchers: Vec<WatcherHandle>,
    model: Arc<Model>,
    chains: Vec<ChainId>,
}

impl Hooks {
    pub(super) fn new(clock: Arc<WallClock>, prices: SimulatedPrices, offset: Option<PathBuf>) -> Self {
        Self { inner: Arc::new(Inner { clock, prices, offset, running: OnceLock::new() }) }
    }

    /// Ties the hooks to the services once those run.
    pub(super) fn attach(&self, services: &Services, chains: Vec<ChainId>) {
        if let (Some(poll), Some(rates), Some(model)) = (&services.poll, &services.rates, &services.model) {
            let (poll, rates, model) = (poll.clone(), rates.clone(), model.clone());
            let running = Running { poll, rates, watchers: services.watchers.clone(), model, chains };
            // Attached once, at the start.
            let _ = self.inner.running.set(running);
        }
    }

    pub(super) fn controls(&self) -> Controls {
        let (clock, prices) = (self.inner.clone(), self.inner.clone());
        Controls {
            advance: Box::new(move |by| clock.advance(by)),
            set_rate: Box::new(move |currency, usd| prices.set_rate(currency, usd)),
        }
    }
}

impl Inner {
    /// Moves the clock on for everything; answers once rates of the new time are published and every chain
    /// was looked at in it, but for those that stand still.
    fn advance(&self, by: Span) -> Result<Timestamp, String> {
        let ahead = self.clock.advance(by);
        let now = self.clock.now();
        if let Some(path) = &self.offset {
            let kept = std::fs::write(path, ahead.millis().to_string());
            kept.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        for watcher in self.running.get().iter().flat_map(|running| &running.watchers) {
            watcher.report_soon();
        }
        self.settle();
        self.settle_chains(now);
        Ok(self.clock.now())
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

    /// Waits until every chain has a report of `now` or later.
    fn settle_chains(&self, now: Timestamp) {
        let Some(running) = self.running.get() else { return };
        let reported = async {
            for chain in &running.chains {
                while !matches!(running.model.chain(chain).await, Ok(Some(view)) if view.observed_at >= now) {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        };
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let _ = tokio::time::timeout(SETTLE_WITHIN, reported).await;
            });
        });
    }
}
