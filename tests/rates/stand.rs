//! The service and the gateway over the market's venues, as `tally up` puts them together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tally_account::PolicyDefaults;
use tally_feeds::Feeds;
use tally_gateway::Gateway;
use tally_ports::{Clock, EventLog, PriceFeed};
use tally_pricing::{RateRules, RateTable};
use tally_projector::{Options, Projector};
use tally_rates::{PollNow, RateService, RateSettings, follow};
use tally_sign::MasterKey;
use tally_testkit::{ManualClock, MemoryLease, MemoryLog, MemoryStore, SeededEntropy};
use tally_types::Span;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::market::{FIAT, Market, VENUES};

/// How long a venue may take: the stand waits in real time.
const VENUE_TIMEOUT: Span = Span::from_millis(1_500);

/// Everything from venue to answer.
pub(crate) struct Stand {
    pub(crate) market: Market,
    pub(crate) poll: PollNow,
    pub(crate) rates: watch::Receiver<Arc<RateTable>>,
    pub(crate) url: String,
    client: reqwest::Client,
    service: JoinHandle<()>,
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) retry_after: bool,
}

impl Stand {
    /// Opens all of it, going by `clock`.
    pub(crate) async fn open(clock: Arc<dyn Clock>) -> Self {
        let market = Market::open(clock.clone()).await;
        let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new());
        // A lease by a clock of its own: the others run faster than it could be renewed.
        let lease = Arc::new(MemoryLease::new(Arc::new(ManualClock::default())));
        let settings = RateSettings { timeout: VENUE_TIMEOUT, ..RateSettings::default() };
        let (service, poll) = RateService::new(feeds(&market), log.clone(), lease, clock.clone(), settings);
        let rates = follow(log, RateRules::default());
        let url = serve(rates.clone(), clock).await;
        let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        let service = tokio::spawn(service.run(std::future::pending()));
        Self { market, poll, rates, url, client, service }
    }

    /// A client with connections of its own.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        get(&self.client, &format!("{}{path}", self.url)).await.expect("an answer")
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.service.abort();
    }
}

/// Asks once.
pub(crate) async fn get(client: &reqwest::Client, url: &str) -> Result<Answer, reqwest::Error> {
    let response = client.get(url).send().await?;
    let (status, retry_after) = (response.status().as_u16(), response.headers().contains_key("retry-after"));
    Ok(Answer { status, retry_after, body: response.text().await? })
}

fn feeds(market: &Market) -> Vec<Arc<dyn PriceFeed>> {
    let feeds = Feeds::new(VENUE_TIMEOUT).unwrap();
    let names = VENUES.iter().map(|(name, _)| *name).chain(FIAT);
    names.map(|name| feeds.open(name, Some(&market.url), None).unwrap()).collect()
}

/// The public listener of a gateway that answers from `rates`.
async fn serve(rates: watch::Receiver<Arc<RateTable>>, clock: Arc<dyn Clock>) -> String {
    let log = Arc::new(MemoryLog::new());
    let store = Arc::new(MemoryStore::new());
    let projector = Projector::open(log.clone(), store, Options::default()).await.unwrap();
    let app = Gateway {
        log,
        model: projector.model(),
        rates,
        clock,
        entropy: Arc::new(SeededEntropy::new(1)),
        chains: Vec::new(),
        public_url: "http://127.0.0.1".to_owned(),
        master: MasterKey::parse(&"07".repeat(32)).unwrap(),
        policy: PolicyDefaults::default(),
        admin_token: None,
        sandbox: false,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = tally_gateway::public(Arc::new(app)).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}
