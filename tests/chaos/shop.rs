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
        let fields =
            [("out_trade_id", own_id), ("pay_currency", currency), ("email", "plant.ed@customer.example")];
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

/// Takes notifications; answers where, and what came.
pub(crate) async fn sink() -> (String, Told) {
    let told = Told::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/notify", listener.local_addr().unwrap());
    let take = async |State(told): State<Told>, body: String| {
        let field = |name: &str| {
            let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .into_iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.to_owned())
                .unwrap_or_default()
        };
        *told.lock().unwrap().entry((field("out_trade_id"), field("status"))).or_default() += 1;
        "ok"
    };
    let routes = Router::new().route("/notify", post(take)).with_state(told.clone());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (url, told)
}
