//! Shops: what they ask of whichever process they reach, and how their endpoints answer notifications.
//!
//! Not here: when they do (`schedule`), and whether what they are told is right (`judge`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use serde_json::{Value, json};
use tally_ports::{Answer, Courier, CourierError, Parcel, PortError, ReadModel};
use tally_projector::Model;
use tally_sign::SignType;
use tally_types::OrderId;
use tower::ServiceExt;

use crate::judge::{Fault, Judge, Notice, Told};
use crate::mutation::Mutation;
use crate::ports::{REQUEST, lock};
use crate::timeline::{Lane, Life, mix};

/// The admin token.
pub(crate) const TOKEN: &str = "an admin token of these tests";
/// How long a shop waits for an answer.
const PATIENCE: Duration = Duration::from_secs(40);
/// How long the courier waits for one.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A process as it is reached from outside.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) life: Arc<Life>,
    pub(crate) public: Router,
    pub(crate) admin: Router,
    pub(crate) model: Arc<Model>,
}

/// An order that a shop wants.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) merchant: u64,
    pub(crate) own_id: String,
    pub(crate) price: u64,
    /// Its id, once it was answered.
    pub(crate) id: Option<OrderId>,
}

/// All shops together.
pub(crate) struct Shops {
    pub(crate) judge: Arc<Mutex<Judge>>,
    pub(crate) doors: Mutex<Vec<Option<Door>>>,
    /// The API keys of each merchant, with their numbers, oldest first.
    pub(crate) keys: Mutex<BTreeMap<u64, Vec<(u64, String)>>>,
    pub(crate) wanted: Mutex<Vec<Wanted>>,
    /// The latest version that shops were told of.
    known: Mutex<BTreeMap<OrderId, u32>>,
    seed: u64,
    turns: AtomicU64,
    calm: Arc<AtomicBool>,
    mutation: Mutation,
}

/// An answer over HTTP.
struct Answered {
    status: u16,
    body: Value,
}

impl Shops {
    pub(crate) fn new(
        seed: u64,
        judge: &Arc<Mutex<Judge>>,
        processes: usize,
        calm: &Arc<AtomicBool>,
        mutation: Mutation,
    ) -> Self {
        Self {
            judge: Arc::clone(judge),
            doors: Mutex::new(vec![None; processes]),
            keys: Mutex::default(),
            wanted: Mutex::default(),
            known: Mutex::default(),
            seed,
            turns: AtomicU64::new(0),
            calm: Arc::clone(calm),
            mutation,
        }
    }

    /// The process that the `number`th request reaches; none where that is down.
    pub(crate) fn door(&self, number: u64) -> Option<Door> {
        let doors = lock(&self.doors);
        let open: Vec<&Door> = doors.iter().flatten().collect();
        let at = usize::try_from(number).ok()?.checked_rem(open.len())?;
        open.get(at).map(|door| Door::clone(door))
    }

    fn turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::SeqCst)
    }

    /// Asks, and waits a while; `None` when no answer came.
    async fn ask(&self, door: &Door, admin: bool, request: Request<Body>) -> Option<Answered> {
        let lane = Lane::Request(self.turn());
        let routes = if admin { door.admin.clone() } else { door.public.clone() };
        let asked = REQUEST.scope(lane, async {
            door.life.hop(lane).await;
            let Ok(response) = routes.oneshot(request).await;
            let status = response.status().as_u16();
            let body = to_bytes(response.into_body(), 1 << 20).await.unwrap_or_default();
            door.life.hop(lane).await;
            Answered { status, body: serde_json::from_slice(&body).unwrap_or_default() }
        });
        let answered = tokio::time::timeout(PATIENCE, asked).await.ok()?;
        // To ask again in a moment is an answer; that an instance cannot use its data is a fault.
        let body = answered.body.to_string();
        if answered.status >= 500
            && (answered.status != 503 || body.contains("cannot read or write its data"))
        {
            let text = format!("{} {}", answered.status, answered.body);
            lock(&self.judge).keep(Err(Fault { rule: "answers", text }));
        }
        Some(answered)
    }

    /// A signed form.
    async fn call(&self, door: &Door, merchant: u64, path: &str, pairs: &[(&str, &str)]) -> Option<Answered> {
        let key = lock(&self.keys).get(&merchant)?.last()?.1.clone();
        let id = merchant.to_string();
        let own = [("merchant_id", id.as_str())];
        let all = pairs.iter().chain(&own);
        let mut fields: Vec<(String, String)> =
            all.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let sign = tally_sign::sign(&fields, &key, SignType::Md5);
        fields.push(("sign".to_owned(), sign));
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        self.ask(door, false, request.body(Body::from(body)).ok()?).await
    }

    /// The admin API.
    pub(crate) async fn admin(
        &self,
        door: &Door,
        method: &str,
        path: &str,
        body: Value,
    ) -> Option<(u16, Value)> {
        let request =
            Request::builder().method(method).uri(path).header("authorization", format!("Bearer {TOKEN}"));
        let request = if body.is_null() {
            request.body(Body::empty())
        } else {
            request.header("content-type", "application/json").body(Body::from(body.to_string()))
        };
        self.ask(door, true, request.ok()?).await.map(|answered| (answered.status, answered.body))
    }

    fn fault(&self, rule: &'static str, text: String) {
        lock(&self.judge).keep(Err(Fault { rule, text }));
    }

    fn get(&self, index: usize) -> Option<Wanted> {
        lock(&self.wanted).get(index).cloned()
    }

    /// Creates an order, for the first time or again; `other` asks for another price, which must be refused.
    pub(crate) async fn create(&self, door: Door, index: usize, other: bool) {
        let Some(wanted) = self.get(index) else { return };
        let price = (wanted.price + u64::from(other)).to_string();
        let pairs = [
            ("out_trade_id", wanted.own_id.as_str()),
            ("price_currency", "USD"),
            ("price_amount", price.as_str()),
            ("notify_url", "https://shop.example/notify"),
            ("callback_url", "https://shop.example/back"),
            ("title", "Two tins of tea"),
        ];
        let Some(answered) = self.call(&door, wanted.merchant, "/order/create", &pairs).await else { return };
        let text =
            || format!("{} of {}: {} {}", wanted.own_id, wanted.merchant, answered.status, answered.body);
        match (answered.status, other) {
            (200, false) => {
                let Some(id) =
                    text_of(&answered.body, "transaction_id").and_then(|id| id.parse::<OrderId>().ok())
                else {
                    return self.fault("answers", text());
                };
                let id = if self.mutation == Mutation::AnswersEarly {
                    id.partition().to_string().parse().unwrap()
                } else {
                    id
                };
                lock(&self.judge).created(wanted.merchant, &wanted.own_id, &id);
                if let Some(wanted) = lock(&self.wanted).get_mut(index) {
                    wanted.id = Some(id);
                }
            }
            (200, true) | (422, false) => self.fault("own ids", text()),
            _ => {}
        }
    }

    /// Chooses a coin.
    pub(crate) async fn checkout(&self, door: Door, index: usize, currency: &str) {
        let Some(Wanted { merchant, id: Some(id), .. }) = self.get(index) else { return };
        let pairs = [("transaction_id", id.as_str()), ("pay_currency", currency)];
        let Some(answered) = self.call(&door, merchant, "/order/checkout", &pairs).await else { return };
        if answered.status == 404 {
            self.fault("readable", format!("{id} was answered, and then is {}", answered.body));
        }
        if answered.status == 200 {
            match text_of(&answered.body, "payment_address") {
                Some(address) => lock(&self.judge).checked_out(&id, &self.mutation.address(address)),
                None => self.fault("answers", answered.body.to_string()),
            }
        }
    }

    /// Asks how an order stands: no earlier than what was told before.
    pub(crate) async fn query(&self, door: Door, merchant: u64, id: OrderId) {
        let known = lock(&self.known).get(&id).copied().unwrap_or(1);
        let pairs = [("transaction_id", id.as_str())];
        let Some(answered) = self.call(&door, merchant, "/order/query", &pairs).await else { return };
        if answered.status == 404 {
            self.fault("readable", format!("{id} was told, and then is {}", answered.body));
        }
        if answered.status == 200 {
            let version = answered.body.get("version").and_then(Value::as_u64).unwrap_or_default();
            let told = Told {
                order: id.clone(),
                version: u32::try_from(version).unwrap_or_default(),
                status: self
                    .mutation
                    .status("answers", text_of(&answered.body, "status").unwrap_or_default()),
            };
            lock(&self.judge).answered(&told, known);
            self.learn(id, told.version);
        }
    }

    /// Calls an order off, or lets late money count.
    pub(crate) async fn decide(&self, door: Door, index: usize, what: &str) {
        let Some(Wanted { id: Some(id), .. }) = self.get(index) else { return };
        let body = if what == "accept" { json!({ "by": "a person" }) } else { Value::Null };
        if let Some((404, answer)) =
            self.admin(&door, "POST", &format!("/v1/admin/orders/{id}/{what}"), body).await
        {
            self.fault("readable", format!("{id} was answered, and then is {answer}"));
        }
    }

    /// Another API key, and the oldest revoked once there are three.
    pub(crate) async fn change_key(&self, door: Door, merchant: u64) {
        let path = format!("/v1/admin/merchants/{merchant}/keys");
        let made = self.admin(&door, "POST", &path, json!({ "face": "deepay" })).await;
        if let Some((201, made)) = made
            && let (Some(key), Some(secret)) =
                (made.get("key").and_then(Value::as_u64), text_of(&made, "api_key"))
        {
            lock(&self.keys).entry(merchant).or_default().push((key, secret));
        }
        let old = lock(&self.keys).get(&merchant).filter(|keys| keys.len() > 2).map(|keys| keys[0].0);
        if let Some(old) = old
            && let Some((200, _)) = self.admin(&door, "DELETE", &format!("{path}/{old}"), Value::Null).await
        {
            lock(&self.keys).entry(merchant).or_default().retain(|(key, _)| *key != old);
        }
    }

    fn learn(&self, id: OrderId, version: u32) {
        let mut known = lock(&self.known);
        let last = known.entry(id).or_default();
        *last = (*last).max(version);
    }

    /// A notification as it gets to the shop.
    fn distort(&self, notice: Notice) -> Notice {
        let (version, status) = (self.mutation.version(notice.version), notice.status);
        Notice { version, status: self.mutation.status("notices", status), ..notice }
    }

    /// A notification arrives: the shop looks for itself, at whichever process it reaches.
    fn receive(self: &Arc<Self>, notice: &Notice, readable: Option<u32>) {
        lock(&self.judge).notified(notice, readable);
        self.learn(notice.order.clone(), notice.version);
        let merchant = lock(&self.judge).order(&notice.order).map(|order| order.merchant().get());
        let turn = self.turn();
        if let (Some(merchant), Some(door)) = (merchant, self.door(mix([self.seed, turn, 1]))) {
            let (shops, id) = (Arc::clone(self), notice.order.clone());
            tokio::spawn(async move { shops.query(door, merchant, id).await });
        }
    }
}

fn text_of(body: &Value, member: &str) -> Option<String> {
    body.get(member).and_then(Value::as_str).map(str::to_owned)
}

/// The way from one process to the shops' endpoints.
pub(crate) struct Post {
    pub(crate) life: Arc<Life>,
    pub(crate) lane: Lane,
    pub(crate) shops: Arc<Shops>,
    pub(crate) model: Arc<Model>,
}

#[async_trait]
impl Courier for Post {
    async fn post(&self, parcel: Parcel) -> Result<Answer, CourierError> {
        let lost = |text: &str| Err(CourierError::Failed(PortError::transient(text)));
        let notice = Notice::read(&parcel.body).map(|notice| self.shops.distort(notice));
        if let Some(notice) = &notice {
            // As many leases as the deliverer has.
            let lease = format!("deliver-{}", notice.order.partition() % 8);
            lock(&self.shops.judge).left(&self.life, &lease);
        }
        self.life.hop(self.lane).await;
        let calm = self.shops.calm.load(Ordering::SeqCst);
        let mood = if calm { u64::MAX } else { self.life.below(self.lane, 20) };
        if mood == 0 {
            return lost("the endpoint is not reached");
        }
        if let Some(notice) = notice {
            let readable = self.model.order(&notice.order).await.ok().flatten().map(|order| order.version());
            self.shops.receive(&notice, readable);
        }
        if mood == 1 {
            tokio::time::sleep(TIMEOUT).await;
            return lost("the endpoint did not answer in time");
        }
        self.life.hop(self.lane).await;
        let (status, body) = match mood {
            2 => return lost("the endpoint's answer got lost"),
            3 => (500, "no"),
            4 => (200, "error"),
            5 => (302, "ok"),
            _ => (200, "ok"),
        };
        Ok(Answer { status, body: body.as_bytes().to_vec(), retry_after: None })
    }
}
