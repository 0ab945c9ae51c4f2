//! One process of the system: every service, put together as the composition root does it, over ports of this test.
//!
//! Not here: the ports; when processes start and end (`world`).

use std::convert::Infallible;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tally_account::PolicyDefaults;
use tally_address::AddressParams;
use tally_events::{Counts, Subject};
use tally_gateway::{ChainInfo, CoinInfo, Gateway};
use tally_notifier::{Announcer, AnnouncerPorts, Deliverer, DelivererOptions, DelivererPorts, RateAnnouncer};
use tally_ports::{
    ChainView, Change, Clock, Deadline, Lease, OrderFilter, Poll, PortError, PriceFeed, ReadModel,
    Undelivered, VersionReached,
};
use tally_pricing::{RateRules, Tick, TickPrice, Venue};
use tally_projector::{Duties, DutyOptions, Model, Options, Projector};
use tally_rates::{RateService, RateSettings};
use tally_sign::MasterKey;
use tally_testkit::{FakeChain, MemoryLease, MemoryStore, SeededEntropy, chain_id, currency};
use tally_types::{
    BaseUnits, ChainId, DepositKey, Face, Fingerprint, MerchantId, OrderId, Position, Script, Span, Timestamp,
};
use tally_watcher::{Part, Watcher, WatcherConfig, WatcherPorts};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::gate::Gate;
use crate::judge::Judge;
use crate::mutation::Mutation;
use crate::ports::{Board, Leases, Line, Node, REQUEST, Road, Server, Shelf, lock};
use crate::shop::{Door, Post, Shops, TOKEN};
use crate::timeline::{Lane, Life, Skewed, Timeline};

/// A chain of the run.
pub(crate) struct Net {
    pub(crate) id: ChainId,
    pub(crate) chain: Arc<FakeChain>,
    pub(crate) cut: Arc<AtomicBool>,
}

/// What a process keeps on disk.
pub(crate) struct Disk {
    pub(crate) model: Arc<MemoryStore>,
    pub(crate) watch: Vec<Arc<MemoryStore>>,
}

/// Everything outside of processes.
pub(crate) struct Outside {
    pub(crate) timeline: Arc<Timeline>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) main: Arc<Server>,
    pub(crate) rates: Arc<Server>,
    pub(crate) lease: Arc<MemoryLease>,
    pub(crate) nets: Vec<Net>,
    pub(crate) shops: Arc<Shops>,
    pub(crate) judge: Arc<Mutex<Judge>>,
    pub(crate) mutation: Mutation,
    pub(crate) policy: PolicyDefaults,
}

/// A process's start.
pub(crate) struct Start {
    pub(crate) outside: Arc<Outside>,
    pub(crate) life: Arc<Life>,
    pub(crate) disk: Disk,
    pub(crate) seed: u64,
    pub(crate) skew_ms: i64,
    /// Which part of each chain's scripts its watchers look after.
    pub(crate) parts: Vec<Vec<Part>>,
    pub(crate) stop: CancellationToken,
}

type Ended = Result<&'static str, String>;

impl Start {
    fn clock(&self, ahead_ms: i64) -> Arc<dyn Clock> {
        Arc::new(Skewed { timeline: self.outside.timeline.clone(), skew_ms: self.skew_ms + ahead_ms })
    }

    fn line(&self, server: &Arc<Server>, work: Option<Lane>, read: Lane) -> Arc<Line> {
        Arc::new(Line {
            life: self.life.clone(),
            server: server.clone(),
            work,
            append: None,
            open: None,
            read,
        })
    }

    fn log(&self, work: Lane, read: Lane) -> Arc<Line> {
        self.line(&self.outside.main, Some(work), read)
    }

    fn lease(&self, lane: Lane) -> Arc<dyn Lease> {
        let (life, lease) = (self.life.clone(), self.outside.lease.clone());
        Arc::new(Leases { life, lane, lease, mutation: self.outside.mutation })
    }

    fn shelf(&self, store: &Arc<MemoryStore>, of_watcher: bool) -> Arc<Shelf> {
        let (life, gate) = (self.life.clone(), self.outside.gate.clone());
        let (judge, mutation) = (self.outside.judge.clone(), self.outside.mutation);
        Arc::new(Shelf { life, gate, store: store.clone(), judge, of_watcher, mutation })
    }

    /// Runs until something ends that should not, or it is told to stop. Dropping the future is its SIGKILL.
    pub(crate) async fn run(self) -> Ended {
        let store = self.shelf(&self.disk.model, false);
        let log = Arc::new(Line {
            life: self.life.clone(),
            server: self.outside.main.clone(),
            work: Some(Lane::Projector),
            append: None,
            open: Some(Lane::Projector),
            read: Lane::ProjectorFacts,
        });
        let projector = loop {
            match Projector::open(log.clone(), store.clone(), Options::default()).await {
                Ok(projector) => break projector,
                Err(error) if error.is_transient() => {
                    tokio::time::sleep(std::time::Duration::from_millis(500)).await
                }
                Err(error) => return Err(format!("the projector cannot start: {error}")),
            }
        };
        let model = projector.model();
        let mut tasks = JoinSet::new();
        self.watch(&mut tasks);
        self.serve(&model);
        self.notify(&model, &mut tasks);
        let stop = self.stop.clone();
        let mut duties = Duties::new(
            self.log(Lane::Duties, Lane::Duties),
            self.lease(Lane::Duties),
            self.clock(0),
            model,
            None,
            DutyOptions::default(),
        );
        let folded = async {
            let Err(error): Result<Infallible, _> = projector.run().await;
            Err(format!("the projector ended: {error}"))
        };
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => Ok("stopped"),
            ended = folded => ended,
            never = duties.run() => match never {},
            Some(ended) = tasks.join_next() => match ended {
                Ok(Ok(name)) => Err(format!("{name} ended by itself")),
                Ok(Err(error)) => Err(error),
                Err(error) => Err(format!("a service broke down: {error}")),
            },
        };
        if ended.is_ok() {
            while tasks.join_next().await.is_some() {}
        }
        ended
    }

    fn watch(&self, tasks: &mut JoinSet<Ended>) {
        for (number, net) in self.outside.nets.iter().enumerate() {
            for part in self.parts.get(number).into_iter().flatten() {
                let watcher = self.watcher(number, net, *part);
                let stop = self.stop.clone();
                tasks.spawn(async move {
                    let ended = watcher.run(stop).await;
                    ended.map(|()| "a watcher").map_err(|error| format!("a watcher ended: {error}"))
                });
            }
        }
    }

    fn watcher(&self, number: usize, net: &Net, part: Part) -> Watcher {
        let of_chain = number as u64;
        let lane = Lane::Watcher(of_chain);
        let mut config = WatcherConfig::new(net.id.clone(), self.seed);
        config.part = part;
        config.native = (!net.chain.has_mempool()).then(|| currency(&net.id.as_str().to_uppercase()));
        config.poll = Span::from_millis(1_000);
        config.lease = Span::from_secs(3);
        let way = Road { life: self.life.clone(), lane, cut: net.cut.clone() };
        let ports = WatcherPorts {
            source: Arc::new(Node { source: net.chain.clone(), way }),
            log: self.log(lane, Lane::Follower(of_chain)),
            lease: self.lease(Lane::WatcherLease(of_chain)),
            store: self.shelf(&self.disk.watch[number], true),
            clock: self.clock(self.outside.mutation.watchers_ahead_ms()),
        };
        Watcher::new(config, ports)
    }

    fn desk(&self, lane: Lane, model: &Arc<Model>) -> Arc<Desk> {
        let (life, mutation) = (self.life.clone(), self.outside.mutation);
        Arc::new(Desk { life, lane, model: model.clone(), mutation })
    }

    fn serve(&self, model: &Arc<Model>) {
        let rates = self.line(&self.outside.rates, Some(Lane::RateFollower), Lane::RateFollower);
        let desk = self.desk(Lane::Request(0), model);
        let gateway = Arc::new(Gateway {
            log: self.line(&self.outside.main, None, Lane::Request(0)),
            model: desk,
            rates: tally_rates::follow(rates, rules()),
            clock: self.clock(0),
            entropy: Arc::new(SeededEntropy::new(self.seed)),
            chains: chains(),
            public_url: "https://pay.example".to_owned(),
            master: master(),
            policy: self.outside.policy.clone(),
            admin_token: Some(TOKEN.to_owned()),
            sandbox: false,
        });
        let door = Door {
            life: self.life.clone(),
            public: tally_gateway::public_until(gateway.clone(), self.stop.clone()),
            admin: tally_gateway::admin(gateway),
            model: model.clone(),
        };
        if let Some(place) = lock(&self.outside.shops.doors).get_mut(self.life.process) {
            *place = Some(door);
        }
    }

    fn notify(&self, model: &Arc<Model>, tasks: &mut JoinSet<Ended>) {
        let desk = |lane| self.desk(lane, model);
        let (life, shops) = (self.life.clone(), self.outside.shops.clone());
        let ports = DelivererPorts {
            model: desk(Lane::Deliver),
            // The keeper asks where the log ends; attempts ask and append.
            log: Arc::new(Attempts {
                keeper: self.log(Lane::DeliverLease, Lane::DeliverLease),
                attempts: self.log(Lane::Deliver, Lane::Deliver),
            }),
            lease: self.lease(Lane::DeliverLease),
            courier: Arc::new(Post { life, lane: Lane::Deliver, shops, model: model.clone() }),
            clock: self.clock(0),
        };
        let deliverer = Deliverer::new(ports, master(), DelivererOptions::default());
        let stop = self.stop.clone();
        tasks.spawn(async move {
            deliverer.run(stop).await;
            Ok("the deliverer")
        });
        let board = |lane| {
            let (judge, mutation) = (self.outside.judge.clone(), self.outside.mutation);
            Arc::new(Board { life: self.life.clone(), lane, judge, mutation })
        };
        let announcer = Announcer::new(AnnouncerPorts {
            model: desk(Lane::Announce),
            log: self.log(Lane::AnnounceLease, Lane::Announce),
            lease: self.lease(Lane::AnnounceLease),
            publisher: board(Lane::Announce),
        });
        let stop = self.stop.clone();
        tasks.spawn(async move {
            announcer.run(stop).await;
            Ok("the announcer")
        });
        let rates = self.line(&self.outside.rates, Some(Lane::AnnounceRates), Lane::AnnounceRates);
        let lease = self.lease(Lane::AnnounceRatesLease);
        let announcer = RateAnnouncer::new(rates, lease, board(Lane::AnnounceRates));
        let stop = self.stop.clone();
        tasks.spawn(async move {
            announcer.run(stop).await;
            Ok("the rate announcer")
        });
        let feeds: Vec<Arc<dyn PriceFeed>> = vec![Arc::new(Venues { life: self.life.clone() })];
        let settings = RateSettings { rules: rules(), ..RateSettings::default() };
        let rates = Arc::new(Line {
            life: self.life.clone(),
            server: self.outside.rates.clone(),
            work: Some(Lane::RateLog),
            append: Some(Lane::RateAppend),
            open: None,
            read: Lane::RateLog,
        });
        let (service, _) =
            RateService::new(feeds, rates, self.lease(Lane::RateLease), self.clock(0), settings);
        let stop = self.stop.clone();
        tasks.spawn(async move {
            service.run(stop.cancelled_owned()).await;
            Ok("the rate service")
        });
    }
}

fn master() -> MasterKey {
    MasterKey::from_bytes([7; 32])
}

fn rules() -> RateRules {
    RateRules { allow_single_source: true, ..RateRules::default() }
}

fn chains() -> Vec<ChainInfo> {
    let chain = |id: &str, params: AddressParams, decimals: u8, payable: u128, dust: u128| {
        let coin = CoinInfo {
            currency: currency(&id.to_uppercase()),
            decimals,
            payable_unit: BaseUnits::from_units(payable),
            dust: BaseUnits::from_units(dust),
            contract: None,
        };
        ChainInfo {
            id: chain_id(id),
            network: "regtest".to_owned(),
            params,
            coins: vec![coin],
            counts: Counts { confirmed: 1, complete: 4, thresholds: Vec::new(), finalized: false },
        }
    };
    let utxo = |id: &str| chain(id, AddressParams::bitcoin(id, "regtest").unwrap(), 8, 1, 1_000);
    vec![utxo("btc"), utxo("ltc"), chain("eth", AddressParams::ethereum(1_337), 18, 10_u128.pow(10), 0)]
}

/// A venue whose prices move a little.
struct Venues {
    life: Arc<Life>,
}

#[async_trait]
impl PriceFeed for Venues {
    fn venue(&self) -> &str {
        "kraken"
    }

    async fn poll(&self, now: Timestamp) -> Result<Poll, PortError> {
        self.life.hop(Lane::Rates).await;
        if self.life.strikes(Lane::Rates, 10) {
            return Err(PortError::transient("the venue does not answer"));
        }
        let tick = |base: &str, whole: u64| Tick {
            venue: Venue::named("kraken"),
            base: currency(base),
            quote: currency("USD"),
            price: TickPrice::Last(Mutation::price(i64::try_from(whole).unwrap_or(1))),
            venue_time: None,
            received_at: now,
        };
        let moved = self.life.below(Lane::Rates, 300);
        Ok(Poll {
            ticks: vec![tick("BTC", 65_000 + moved), tick("LTC", 80), tick("ETH", 3_500)],
            ..Poll::default()
        })
    }
}

/// The log of a deliverer, which has two lanes.
struct Attempts {
    keeper: Arc<Line>,
    attempts: Arc<Line>,
}

#[async_trait]
impl tally_ports::EventLog for Attempts {
    async fn append(
        &self,
        expectations: Vec<tally_ports::Expectation>,
        batch: Vec<tally_events::NewEvent>,
    ) -> Result<Vec<Position>, tally_ports::AppendError> {
        self.attempts.append(expectations, batch).await
    }

    async fn read(&self, after: Position) -> Result<tally_ports::EventStream, PortError> {
        self.attempts.read(after).await
    }

    async fn last(&self, subject: &Subject) -> Result<Option<tally_events::Recorded>, PortError> {
        self.attempts.last(subject).await
    }

    async fn head(&self) -> Result<Position, PortError> {
        self.keeper.head().await
    }
}

/// A read model, whose waiters go on one after the other.
struct Desk {
    life: Arc<Life>,
    lane: Lane,
    model: Arc<Model>,
    mutation: Mutation,
}

#[async_trait]
impl ReadModel for Desk {
    fn position(&self) -> Position {
        self.model.position()
    }

    async fn wait_for(&self, position: Position, at_most: Span) -> bool {
        if self.model.position() >= position {
            return true;
        }
        let reached = self.model.wait_for(position, at_most).await;
        self.life.hop(REQUEST.try_get().unwrap_or(self.lane)).await;
        reached
    }

    async fn subject_position(&self, subject: &Subject) -> Result<Position, PortError> {
        self.model.subject_position(subject).await
    }

    async fn order(&self, order: &OrderId) -> Result<Option<tally_order::Order>, PortError> {
        self.mutation.readable(REQUEST.try_get().is_ok())?;
        self.model.order(order).await
    }

    async fn order_by_own_id(
        &self,
        merchant: MerchantId,
        face: Face,
        own_id: &str,
    ) -> Result<Option<OrderId>, PortError> {
        self.model.order_by_own_id(merchant, face, own_id).await
    }

    async fn order_by_script(
        &self,
        chain: &ChainId,
        script: &Script,
    ) -> Result<Option<(OrderId, u32)>, PortError> {
        self.model.order_by_script(chain, script).await
    }

    async fn order_by_deposit(
        &self,
        chain: &ChainId,
        deposit: &DepositKey,
    ) -> Result<Option<OrderId>, PortError> {
        self.model.order_by_deposit(chain, deposit).await
    }

    async fn orders(&self, filter: &OrderFilter, limit: usize) -> Result<Vec<tally_order::Order>, PortError> {
        self.model.orders(filter, limit).await
    }

    async fn merchant(&self, merchant: MerchantId) -> Result<Option<tally_account::Merchant>, PortError> {
        self.model.merchant(merchant).await
    }

    async fn merchants(&self) -> Result<Vec<tally_account::Merchant>, PortError> {
        self.model.merchants().await
    }

    async fn key_counter(&self, key: &Fingerprint) -> Result<Option<tally_account::KeyCounter>, PortError> {
        self.model.key_counter(key).await
    }

    async fn chain(&self, chain: &ChainId) -> Result<Option<ChainView>, PortError> {
        self.model.chain(chain).await
    }

    async fn versions(&self, after: Position, limit: usize) -> Result<Vec<VersionReached>, PortError> {
        self.model.versions(after, limit).await
    }

    async fn undelivered(
        &self,
        partitions: &[u8],
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Undelivered>, PortError> {
        self.model.undelivered(partitions, now, limit).await
    }

    async fn backlog(&self) -> Result<u64, PortError> {
        self.model.backlog().await
    }

    async fn deadlines(&self, now: Timestamp, limit: usize) -> Result<Vec<Deadline>, PortError> {
        self.model.deadlines(now, limit).await
    }

    /// All that one commit changed comes at once: a thread that may block tells it one by one, beside the run's own.
    fn changes(&self) -> broadcast::Receiver<Change> {
        let (sender, receiver) = broadcast::channel(4_096);
        let (mut changes, life) = (self.model.changes(), self.life.clone());
        tokio::spawn(async move {
            while let Ok(first) = changes.recv().await {
                life.hop(Lane::Changes).await;
                let more = std::iter::from_fn(|| changes.try_recv().ok());
                for change in std::iter::once(first).chain(more) {
                    // Nobody may listen any more.
                    let _ = sender.send(change);
                }
            }
        });
        receiver
    }
}
