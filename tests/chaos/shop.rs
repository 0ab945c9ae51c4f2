//! A merchant that orders, checks out and pays over HTTP, keeps what was acknowledged, and takes notifications.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use serde_json::{Value, json};
use tally_sign::SignType;

/// What the product answered with success for one order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Acknowledged {
    pub(crate) order: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) amount: Option<String>,
    pub(crate) paid: bool,
}

/// Everything acknowledged, by the merchant's own id.
pub(crate) type Book = Arc<Mutex<BTreeMap<String, Acknowledged>>>;

/// A client of one running instance.
#[derive(Clone)]
pub(crate) struct Shop {
    client: reqwest::Client,
    http: String,
    merchant: u64,
    key: String,
    notify_url: String,
}

impl Shop {
    pub(crate) fn new(said: &Value, notify_url: &str) -> Self {
        let text = |name: &str| said[name].as_str().unwrap().to_owned();
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        let merchant = said["merchant_id"].as_u64().unwrap();
        Self { client, http: text("http"), merchant, key: text("api_key"), notify_url: notify_url.to_owned() }
    }

    /// A signed request; `None` when no answer came.
    async fn signed(&self, path: &str, more: &[(&str, &str)]) -> Option<(u16, Value)> {
        let mut pairs = vec![("merchant_id".to_owned(), self.merchant.to_string())];
        pairs.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let sign = tally_sign::sign(&pairs, &self.key, SignType::Md5);
        pairs.push(("sign".to_owned(), sign));
        let response =
            self.client.post(format!("{}{path}", self.http)).form_pairs(&pairs).send().await.ok()?;
        let status = response.status().as_u16();
        Some((status, response.json().await.ok()?))
    }

    pub(crate) async fn create(&self, own_id: &str) -> Option<(u16, Value)> {
        let fields = [
            ("out_trade_id", own_id),
            ("price_currency", "USD"),
            ("price_amount", "12.5"),
            ("notify_url", self.notify_url.as_str()),
            ("callback_url", "http://127.0.0.1:9/back"),
            ("title", "tea"),
        ];
        self.signed("/order/create", &fields).await
    }

    pub(crate) async fn checkout(&self, own_id: &str, currency: &str) -> Option<(u16, Value)> {
        self.checkout_for(own_id, currency, "plant.ed@customer.example").await
    }

    /// The same for a customer's address.
    pub(crate) async fn checkout_for(
        &self,
        own_id: &str,
        currency: &str,
        email: &str,
    ) -> Option<(u16, Value)> {
        let fields = [("out_trade_id", own_id), ("pay_currency", currency), ("email", email)];
        self.signed("/order/checkout", &fields).await
    }

    pub(crate) async fn query(&self, own_id: &str) -> Option<(u16, Value)> {
        self.signed("/order/query", &[("out_trade_id", own_id)]).await
    }

    async fn sandbox(&self, path: &str, body: Value) -> Option<Value> {
        let url = format!("{}/sandbox/{path}", self.http);
        let response = self.client.post(url).json(&body).send().await.ok()?;
        if response.status().is_success() { response.json().await.ok() } else { None }
    }

    pub(crate) async fn pay(&self, chain: &str, address: &str, amount: &str) -> bool {
        let body = json!({ "chain": chain, "address": address, "amount": amount });
        self.sandbox("pay", body).await.is_some()
    }

    pub(crate) async fn mine(&self, chain: &str, blocks: u64) -> bool {
        self.sandbox("mine", json!({ "chain": chain, "blocks": blocks })).await.is_some()
    }

    /// Moves the clock of the product and its simulated nodes on.
    pub(crate) async fn advance(&self, by: &str) -> bool {
        self.sandbox("clock", json!({ "advance": by })).await.is_some()
    }

    /// One order from creation to payment; what is acknowledged goes into the book, wherever it ends.
    pub(crate) async fn order(&self, book: &Book, own_id: &str, coin: &str, pays: bool) -> Option<()> {
        let note = |change: &dyn Fn(&mut Acknowledged)| {
            change(book.lock().unwrap().entry(own_id.to_owned()).or_default());
        };
        note(&|_| {});
        let (status, answer) = self.create(own_id).await?;
        assert!(status == 200 || status == 503, "{status} {answer}");
        let order = answer["transaction_id"].as_str()?.to_owned();
        note(&|known| known.order = Some(order.clone()));
        let (status, answer) = self.checkout(own_id, coin).await?;
        assert!(status == 200 || status == 503, "{status} {answer}");
        let address = answer["payment_address"].as_str()?.to_owned();
        let amount = answer["pay_amount"].to_string();
        note(&|known| known.address = Some(address.clone()));
        note(&|known| known.amount = Some(amount.clone()));
        if pays {
            // Whether it reached the node is not known where the answer is cut off: then it counts as unpaid, and
            // nothing is asked of it.
            if self.pay(&coin.to_lowercase(), &address, &amount).await {
                note(&|known| known.paid = true);
            }
        }
        Some(())
    }
}

/// `form` of reqwest, in the order given.
trait FormPairs {
    fn form_pairs(self, pairs: &[(String, String)]) -> Self;
}

impl FormPairs for reqwest::RequestBuilder {
    fn form_pairs(self, pairs: &[(String, String)]) -> Self {
        self.form(pairs)
    }
}

/// Notifications as they came: how often each status of each order.
pub(crate) type Told = Arc<Mutex<HashMap<(String, String), u32>>>;

/// Versions as they were told: for each order and version the status.
#[derive(Default)]
pub(crate) struct Versions {
    told: BTreeMap<(String, u64), String>,
    /// What must not be: a version that cannot be read, or that is told in two ways.
    pub(crate) wrong: Vec<String>,
    /// Who can read now.
    pub(crate) reader: Option<Shop>,
}

impl Versions {
    fn take(&mut self, own_id: &str, version: u64, status: &str) {
        let known = self.told.entry((own_id.to_owned(), version)).or_insert_with(|| status.to_owned());
        if known != status {
            self.wrong.push(format!("version {version} of {own_id} was told as {known} and as {status}"));
        }
    }

    /// The highest version told of each order.
    pub(crate) fn last(&self) -> BTreeMap<String, u64> {
        let mut last = BTreeMap::new();
        for (own_id, version) in self.told.keys() {
            let known: &mut u64 = last.entry(own_id.clone()).or_default();
            *known = (*known).max(*version);
        }
        last
    }
}

/// Takes notifications; answers where, and what came.
pub(crate) async fn sink() -> (String, Told) {
    let (url, told, _) = reading_sink().await;
    (url, told)
}

/// The same; each version is read back at once, if there is a reader.
pub(crate) async fn reading_sink() -> (String, Told, Arc<Mutex<Versions>>) {
    let told = Told::default();
    let versions = Arc::new(Mutex::new(Versions::default()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/notify", listener.local_addr().unwrap());
    let take = async |State((told, versions)): State<(Told, Arc<Mutex<Versions>>)>, body: String| {
        let field = |name: &str| {
            let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .into_iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.to_owned())
                .unwrap_or_default()
        };
        let (own_id, status) = (field("out_trade_id"), field("status"));
        let version: u64 = field("version").parse().unwrap_or(0);
        *told.lock().unwrap().entry((own_id.clone(), status.clone())).or_default() += 1;
        let reader = {
            let mut versions = versions.lock().unwrap();
            versions.take(&own_id, version, &status);
            versions.reader.clone()
        };
        // No answer, or 503, is a process that dies or starts: then nothing is said of it.
        if let Some(reader) = reader
            && let Some((200, answer)) = reader.query(&own_id).await
            && answer["version"].as_u64().is_none_or(|read| read < version)
        {
            let wrong = format!("version {version} of {own_id} was told, and this was read: {answer}");
            versions.lock().unwrap().wrong.push(wrong);
        }
        "ok"
    };
    let routes = Router::new().route("/notify", post(take)).with_state((told.clone(), versions.clone()));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (url, told, versions)
}
