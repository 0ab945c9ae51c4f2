//! The services as tasks, in one process or apart: the same code paths either way.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tally_courier::{CourierOptions, HttpCourier};
use tally_events::{Price, Shard};
use tally_gateway::{App, Gateway};
use tally_notifier::{Announcer, AnnouncerPorts, Deliverer, DelivererOptions, DelivererPorts, RateAnnouncer};
use tally_order::{Order, QuoteState};
use tally_ports::{Clock, PortError, ReadModel};
use tally_pricing::RateTable;
use tally_projector::{
    Archiver, ArchiverOptions, ArchiverPorts, Duties, DutyOptions, Model, Options, Projector, Reprice,
};
use tally_rates::{PollNow, RateService};
use tally_store::SledStore;
use tally_types::{BaseUnits, ChainId, Span};
use tally_watcher::{Part, Watcher, WatcherConfig, WatcherHandle, WatcherPorts};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Chain, Parts, master};
use crate::rescan::{self, Rescans};
use crate::telemetry::{Health, beside_faces};
use crate::upkeep::{self, ModelFolder, Rebuilder, Upkeep, keep_copy};

/// What sled may cache of a read model, and of a watch set.
const MODEL_CACHE: u64 = 128 * 1024 * 1024;
const WATCH_CACHE: u64 = 64 * 1024 * 1024;

/// How long giving leases back may take.
const RELEASE_MAX: std::time::Duration = std::time::Duration::from_secs(2);

/// How often simulated nodes are looked at: a payment shows at once.
const SANDBOX_POLL: Span = Span::from_millis(200);

/// The pause before a log that failed is read again at the start.
const FOLD_AGAIN: Duration = Duration::from_secs(1);

/// What this process is to do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roles {
    /// The chains it watches.
    pub(crate) watch: Vec<ChainId>,
    /// Which part of their addresses; all of them where none is named.
    pub(crate) shard: Option<Shard>,
    /// Whether it has the projector's duties.
    pub(crate) project: bool,
    /// Whether it polls venues.
    pub(crate) rate: bool,
    /// Whether it answers requests.
    pub(crate) api: bool,
    /// Whether it delivers and publishes.
    pub(crate) notify: bool,
}

impl Roles {
    /// A folder name of its own for the read model, so that processes apart can share `data_dir`.
    fn model_dir(&self) -> &'static str {
        match (self.project, self.api, self.notify) {
            (true, false, false) => "model-project",
            (false, true, false) => "model-api",
            (false, false, true) => "model-notify",
            _ => "model",
        }
    }

    fn needs_model(&self) -> bool {
        self.project || self.api || self.notify
    }

    /// Whether it opens merchants' API keys: to check signatures, or to sign.
    fn opens_keys(&self) -> bool {
        self.api || self.notify
    }

    fn needs_rates(&self) -> bool {
        self.project || self.api || self.notify
    }
}

/// The listeners of the faces.
pub(crate) struct Listeners {
    pub(crate) public: TcpListener,
    pub(crate) admin: TcpListener,
    /// Routes beside the faces' own, on the public listener: the sandbox's.
    pub(crate) beside: axum::Router,
}

/// Running services. The first to end ends them all.
pub(crate) struct Services {
    tasks: JoinSet<anyhow::Result<&'static str>>,
    stop: CancellationToken,
    /// The watchers, to ask for reports.
    pub(crate) watchers: Vec<WatcherHandle>,
    /// The rate service, to ask for a poll; where this process has it.
    pub(crate) poll: Option<PollNow>,
    /// The read model, where this process has one.
    pub(crate) model: Option<Arc<Model>>,
    /// The rates as published, where this process follows them.
    pub(crate) rates: Option<watch::Receiver<Arc<RateTable>>>,
    /// The faces, where this process has them.
    pub(crate) app: Option<App>,
    /// What folds the read model anew, where this process has one.
    rebuilder: Option<Rebuilder>,
}

impl Services {
    /// Folds the log, and proves what depends on it. Nobody is served yet, so this may take all there is.
    ///
    /// # Errors
    /// Those of log and store; a [`ConfigError`](crate::config::ConfigError) where the log's API keys were sealed
    /// under another master key.
    pub(crate) async fn begin(parts: &Parts, roles: &Roles, stop: CancellationToken) -> anyhow::Result<Self> {
        let mut services = Self {
            tasks: JoinSet::new(),
            stop,
            watchers: Vec::new(),
            poll: None,
            model: None,
            rates: None,
            app: None,
            rebuilder: None,
        };
        if roles.needs_model() {
            services.start_projector(parts, roles).await?;
        }
        if let (Some(model), true) = (&services.model, roles.opens_keys()) {
            master::prove(&parts.master, &**model).await?;
        }
        Ok(services)
    }

    /// Starts the rest of what `roles` says. `listeners` are needed for the api.
    pub(crate) fn go_on(
        self,
        parts: &Parts,
        roles: &Roles,
        listeners: Option<Listeners>,
        health: Health,
    ) -> anyhow::Result<Self> {
        let mut services = self;
        if roles.needs_rates() {
            services.rates = Some(tally_rates::follow(parts.logs.rates.clone(), parts.rates.rules.clone()));
        }
        if roles.rate {
            services.start_rates(parts);
        }
        for chain in &roles.watch {
            services.start_watcher(parts, parts.chain(chain)?, roles.shard)?;
        }
        health.attach(services.watchers.clone(), parts.clock.clone());
        if roles.project {
            services.start_duties(parts)?;
            services.start_copy(parts);
            services.start_archiver(parts)?;
        }
        if roles.notify {
            services.start_notifier(parts)?;
        }
        if let Some(listeners) = listeners {
            services.start_faces(parts, listeners, health)?;
        }
        Ok(services)
    }

    /// Runs until told to stop or until a service ends, then stops the rest in order.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let ended = tokio::select! {
            // A service that ends because it was told to has not ended by itself.
            biased;
            () = self.stop.cancelled() => Ok(()),
            ended = self.tasks.join_next() => first_end(ended),
        };
        self.stop().await;
        ended
    }

    /// Stops everything and waits for it.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(20), all).await.is_err() {
            tracing::warn!("a service did not stop in 20 s and is left behind");
            self.tasks.abort_all();
        }
    }

    fn start_rates(&mut self, parts: &Parts) {
        let (service, poll) = RateService::new(
            parts.feeds.clone(),
            parts.logs.rates.clone(),
            parts.lease(),
            parts.clock.clone(),
            parts.rates.clone(),
        );
        self.poll = Some(poll);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            service.run(stop.cancelled_owned()).await;
            Ok("rate")
        });
    }

    async fn start_projector(&mut self, parts: &Parts, roles: &Roles) -> anyhow::Result<()> {
        let folder = ModelFolder::new(parts.data_dir.join(roles.model_dir()));
        let store = open_model_store(&folder).await?;
        let projector = Arc::new(Projector::open(parts.log(), store, Options::before_serving()).await?);
        let (model, stop) = (projector.model(), self.stop.clone());
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            folded = fold(&projector) => folded?,
        };
        self.rebuilder = Some(Rebuilder::new(projector.clone(), folder));
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => Ok("projector"),
                failed = projector.run() => match failed {
                    Ok(never) => match never {},
                    Err(error) => Err(anyhow::Error::from(error).context("the projector cannot go on")),
                },
            }
        });
        self.model = Some(model);
        Ok(())
    }

    fn start_watcher(&mut self, parts: &Parts, chain: &Chain, shard: Option<Shard>) -> anyhow::Result<()> {
        let mut seed = [0; 8];
        parts.entropy.fill(&mut seed);
        let mut config = WatcherConfig::new(chain.info.id.clone(), u64::from_le_bytes(seed));
        config.start = chain.start;
        config.part = shard.map_or(Part::All, Part::One);
        config.native = chain.native.clone();
        if parts.sandbox {
            config.poll = SANDBOX_POLL;
        }
        let part = shard.map(|shard| format!("-{}-of-{}", shard.index().saturating_add(1), shard.count()));
        let dir = parts.data_dir.join(format!("watch-{}{}", chain.info.id, part.unwrap_or_default()));
        let ports = WatcherPorts {
            source: chain.source.clone(),
            log: parts.log(),
            lease: parts.lease(),
            store: Arc::new(open_or_anew(&dir, WATCH_CACHE)?),
            clock: parts.clock.clone(),
        };
        let watcher = Watcher::new(config, ports);
        self.watchers.push(watcher.handle());
        let stop = self.stop.clone();
        let id = chain.info.id.clone();
        self.tasks.spawn(async move {
            let ended = watcher.run(stop).await;
            ended.map_err(|error| {
                anyhow::Error::from(error).context(format!("the watcher of {id} cannot go on"))
            })?;
            Ok("watch")
        });
        Ok(())
    }

    fn start_duties(&mut self, parts: &Parts) -> anyhow::Result<()> {
        let (Some(model), Some(rates)) = (self.model.clone(), self.rates.clone()) else {
            anyhow::bail!("duties need a read model and rates");
        };
        let reprice = Arc::new(TodaysRate { rates, clock: parts.clock.clone() });
        let mut duties = Duties::new(
            parts.log(),
            parts.lease(),
            parts.clock.clone(),
            model,
            Some(reprice),
            DutyOptions::default(),
        );
        if !self.watchers.is_empty() {
            let watchers = self.watchers.clone();
            duties = duties.asking(Arc::new(move |chain| {
                for watcher in watchers.iter().filter(|watcher| watcher.chain() == chain) {
                    watcher.report_soon();
                }
            }));
        }
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                never = duties.run() => match never {},
            }
            // Another takes over at once, and need not wait until the leases have run out.
            match tokio::time::timeout(RELEASE_MAX, duties.release()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "the leases of duties run out by themselves"),
                Err(_) => tracing::debug!("the leases of duties run out by themselves"),
            }
            Ok("duties")
        });
        Ok(())
    }

    /// Keeps the daily copy, unless it is turned off.
    fn start_copy(&mut self, parts: &Parts) {
        let Some(dir) = parts.copy_dir.clone() else { return };
        let (log, clock, stop) = (parts.log(), parts.clock.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            keep_copy(log, clock, dir, stop).await?;
            Ok("copy")
        });
    }

    /// Moves closed orders into the archive, unless that is turned off.
    fn start_archiver(&mut self, parts: &Parts) -> anyhow::Result<()> {
        let Some(after) = parts.archive_after else { return Ok(()) };
        let Some(model) = self.model.clone() else { anyhow::bail!("archiving needs a read model") };
        let ports = ArchiverPorts {
            log: parts.logs.purge.clone(),
            archive: Arc::new(parts.logs.archive.clone()),
            lease: parts.lease(),
            clock: parts.clock.clone(),
            model,
        };
        let mut archiver = Archiver::new(ports, ArchiverOptions { after, ..ArchiverOptions::default() });
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => Ok("archiver"),
                never = archiver.run() => match never {},
            }
        });
        Ok(())
    }

    fn start_notifier(&mut self, parts: &Parts) -> anyhow::Result<()> {
        let Some(model) = self.model.clone() else { anyhow::bail!("deliveries need a read model") };
        let courier = HttpCourier::new(&CourierOptions {
            allow_private: parts.allow_private,
            ..CourierOptions::default()
        })?;
        let ports = DelivererPorts {
            model: model.clone(),
            log: parts.log(),
            lease: parts.lease(),
            courier: Arc::new(courier),
            clock: parts.clock.clone(),
        };
        let deliverer = Deliverer::new(ports, parts.master.clone(), DelivererOptions::default());
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            deliverer.run(stop).await;
            Ok("deliveries")
        });
        let Some(publisher) = parts.publisher() else { return Ok(()) };
        let ports =
            AnnouncerPorts { model, log: parts.log(), lease: parts.lease(), publisher: publisher.clone() };
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            Announcer::new(ports).run(stop).await;
            Ok("announcer")
        });
        let rates = RateAnnouncer::new(parts.logs.rates.clone(), parts.lease(), publisher);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            rates.run(stop).await;
            Ok("rate announcer")
        });
        Ok(())
    }

    fn start_faces(&mut self, parts: &Parts, listeners: Listeners, health: Health) -> anyhow::Result<()> {
        let (Some(model), Some(rates)) = (self.model.clone(), self.rates.clone()) else {
            anyhow::bail!("the api needs a read model and rates");
        };
        let app = faces(parts, model, rates);
        self.app = Some(app.clone());
        let public = tally_gateway::public_until(app.clone(), self.stop.clone()).merge(listeners.beside);
        let public = public.layer(axum::middleware::from_fn_with_state(health, beside_faces));
        let upkeep = Upkeep {
            log: parts.log(),
            model: app.model.clone(),
            rebuilder: self.rebuilder.take(),
            token: parts.admin_token.clone(),
        };
        let rescans = Rescans {
            log: parts.log(),
            model: app.model.clone(),
            clock: parts.clock.clone(),
            chains: parts.chains.iter().map(|chain| chain.info.id.clone()).collect(),
            token: parts.admin_token.clone(),
        };
        let admin = tally_gateway::admin(app)
            .merge(upkeep::routes(Arc::new(upkeep)))
            .merge(rescan::routes(Arc::new(rescans)));
        for (listener, routes, name) in
            [(listeners.public, public, "public api"), (listeners.admin, admin, "admin api")]
        {
            let stop = self.stop.clone();
            self.tasks.spawn(async move {
                crate::listen::serve(listener, routes, stop).await?;
                Ok(name)
            });
        }
        Ok(())
    }
}

/// Folds what the log has, however often it does not answer meanwhile.
async fn fold(projector: &Projector) -> Result<(), PortError> {
    while let Err(error) = projector.catch_up().await {
        if !error.is_transient() {
            return Err(error);
        }
        tracing::warn!(error = error.in_full(), "the log is read again");
        tokio::time::sleep(FOLD_AGAIN).await;
    }
    Ok(())
}

/// The gateway over a read model.
pub(super) fn faces(parts: &Parts, model: Arc<Model>, rates: watch::Receiver<Arc<RateTable>>) -> App {
    Arc::new(Gateway {
        log: parts.log(),
        model: model as Arc<dyn ReadModel>,
        rates,
        clock: parts.clock.clone(),
        entropy: parts.entropy.clone(),
        chains: parts.directory(),
        public_url: parts.public_url.clone(),
        master: parts.master.clone(),
        policy: parts.policy.clone(),
        admin_token: parts.admin_token.clone(),
        sandbox: parts.sandbox,
    })
}

/// Opens a read model's store, and removes what rebuilds have left beside it.
pub(super) async fn open_model_store(folder: &ModelFolder) -> anyhow::Result<Arc<SledStore>> {
    let folder = folder.clone();
    let store = tokio::task::spawn_blocking(move || {
        let store = open_or_anew(&folder.current(), MODEL_CACHE)?;
        // Only after the one in use could be opened: nobody else has it.
        folder.remove_others()?;
        anyhow::Ok(store)
    });
    Ok(Arc::new(store.await??))
}

/// Opens a store; a damaged one is made again from the log.
fn open_or_anew(dir: &Path, cache_bytes: u64) -> anyhow::Result<SledStore> {
    let (store, damage) = SledStore::open_or_anew(dir, cache_bytes)?;
    if let Some(error) = damage {
        let error = anyhow::Error::from(error);
        tracing::error!(dir = %dir.display(), "a damaged store is made again from the log: {error:#}");
        metrics::counter!("tally_incidents_total", "kind" => "store_damaged").increment(1);
    }
    Ok(store)
}

fn first_end(
    ended: Option<Result<anyhow::Result<&'static str>, tokio::task::JoinError>>,
) -> anyhow::Result<()> {
    match ended {
        Some(Ok(Ok(name))) => anyhow::bail!("the service {name:?} ended by itself"),
        Some(Ok(Err(error))) => Err(error),
        Some(Err(error)) => Err(anyhow::Error::from(error).context("a service broke down")),
        None => Ok(()),
    }
}

/// What an order costs at the published rate of the moment.
struct TodaysRate {
    rates: watch::Receiver<Arc<RateTable>>,
    clock: Arc<dyn Clock>,
}

impl Reprice for TodaysRate {
    fn full_price(&self, order: &Order, quote: &QuoteState) -> Option<BaseUnits> {
        let (price_currency, price) = match order.price() {
            Price::In { currency, amount } => (currency, *amount),
            Price::Exactly { units, .. } => return Some(*units),
        };
        let terms = quote.terms();
        let request = tally_pricing::QuoteRequest {
            price,
            price_currency,
            pay_currency: &terms.currency,
            spread_percent: terms.policy.spread_percent,
            decimals: terms.decimals,
            payable_unit: terms.payable_unit,
        };
        let table = self.rates.borrow().clone();
        tally_pricing::quote(&request, &table, self.clock.now()).ok().map(|quoted| quoted.full)
    }
}
