use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use async_trait::async_trait;
use tally_events::{MerchantSettings, Subject};
use tally_ports::{Answer, Courier, CourierError, Parcel, PortError};
use tally_sign::verify;
use tokio::task::JoinHandle;

use super::*;
use crate::world::{API_KEY, MERCHANT, World, master, until};

/// A form as it was received.
type Form = Vec<(String, String)>;

/// A courier whose endpoints answer by their host: `ok`, `error`, `down`, `hang`, or what was set last.
#[derive(Default)]
struct Hosts {
    posted: Mutex<Vec<(String, Form)>>,
    answers: Mutex<HashMap<String, String>>,
}

impl Hosts {
    fn set(&self, host: &str, answer: &str) {
        self.answers.lock().unwrap().insert(host.into(), answer.into());
    }

    /// The forms that reached a host, in order.
    fn forms(&self, host: &str) -> Vec<Form> {
        let posted = self.posted.lock().unwrap();
        posted.iter().filter(|(to, _)| to == host).map(|(_, form)| form.clone()).collect()
    }

    fn count(&self, host: &str) -> usize {
        self.forms(host).len()
    }
}

#[async_trait]
impl Courier for Hosts {
    async fn post(&self, parcel: Parcel) -> Result<Answer, CourierError> {
        let host = url::Url::parse(&parcel.url).unwrap().host_str().unwrap().to_owned();
        let form = form_urlencoded::parse(&parcel.body).into_owned().collect();
        self.posted.lock().unwrap().push((host.clone(), form));
        let answer = self.answers.lock().unwrap().get(&host).cloned().unwrap_or_else(|| host.clone());
        match answer.as_str() {
            "hang" => std::future::pending().await,
            "down" => Err(PortError::transient("cannot be reached").into()),
            body => Ok(Answer { status: 200, body: body.as_bytes().to_vec(), retry_after: None }),
        }
    }
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    fn kill(self) {
        self.task.abort();
    }
}

fn ports(world: &World, hosts: &Arc<Hosts>) -> DelivererPorts {
    DelivererPorts {
        model: world.model.clone(),
        log: Arc::new(world.log.clone()),
        lease: world.lease.clone(),
        courier: hosts.clone(),
        clock: world.clock.clone(),
    }
}

fn start(world: &World, hosts: &Arc<Hosts>) -> Running {
    let ports = ports(world, hosts);
    let options = DelivererOptions { in_flight_max: 16, ..DelivererOptions::default() };
    let stop = CancellationToken::new();
    let task = tokio::spawn(Deliverer::new(ports, master(), options).run(stop.clone()));
    Running { stop, task }
}

fn field<'a>(form: &'a [(String, String)], name: &str) -> &'a str {
    form.iter().find(|(key, _)| key == name).map_or("(none)", |(_, value)| value)
}

#[tokio::test]
async fn each_version_is_notified_in_full_and_signed() {
    let world = World::new().await;
    let hosts = Arc::new(Hosts::default());
    let running = start(&world, &hosts);
    let order = world.create(1, "http://ok/n?shop=1");
    until("new", || hosts.count("ok") == 1).await;
    world.quote(1);
    until("pending", || hosts.count("ok") == 2).await;
    world.seen(1);
    until("paid", || hosts.count("ok") == 3).await;
    until("all are recorded", || world.deliveries(&order).len() == 3).await;
    assert_eq!(world.deliveries(&order), ["1.1 ok", "2.1 ok", "3.1 ok"]);
    let facts = world.log.facts_on(&Subject::delivery(&order));
    assert!(facts.iter().all(|fact| fact.event.epoch.get() > 0), "each says under which term it was written");
    let forms = hosts.forms("ok");
    for form in &forms {
        assert!(verify(form, API_KEY, false).is_ok(), "{form:?}");
    }
    assert_eq!((field(&forms[0], "pay_currency"), field(&forms[0], "pay_amount")), ("", "0"));
    let timestamp = world.clock.now().secs().to_string();
    let expected = [
        ("merchant_id", "10001"),
        ("transaction_id", "1"),
        ("out_trade_id", "own-1"),
        ("price_currency", "USD"),
        ("price_amount", "10"),
        ("pay_currency", "BTC"),
        ("pay_amount", "0.0016"),
        ("status", "paid"),
        ("attach", "a=1 ü"),
        ("exception", "none"),
        ("version", "3"),
        ("timestamp", &timestamp),
        ("paid_value", "10"),
    ];
    let found: Vec<_> = forms[2].iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(found[..13], expected);
    assert_eq!((found.len(), found[13].0), (14, "sign"));
    running.stop().await;
}

#[tokio::test]
async fn what_is_not_acknowledged_is_sent_again_in_its_time_and_given_up_in_the_end() {
    let world = World::new().await;
    let hosts = Arc::new(Hosts::default());
    let running = start(&world, &hosts);
    let order = world.create(1, "http://error/n");
    for attempt in 1..=14 {
        until("an attempt", || world.deliveries(&order).len() == attempt).await;
        world.clock.advance(Span::from_secs(14));
        tokio::time::sleep(Duration::from_millis(120)).await;
        assert_eq!(world.deliveries(&order).len(), attempt, "nothing happens before its time");
        world.clock.advance(Span::from_secs(6 * 3600));
    }
    tokio::time::sleep(Duration::from_millis(250)).await;
    let deliveries = world.deliveries(&order);
    assert_eq!((deliveries.len(), deliveries[13].as_str()), (14, "1.14 abandoned"));
    hosts.set("error", "OK");
    world.quote(1);
    until("a newer version starts over", || world.deliveries(&order).len() == 15).await;
    assert_eq!(world.deliveries(&order)[14], "2.1 ok");
    running.stop().await;
}

#[tokio::test]
async fn a_newer_version_takes_the_place_of_an_older_one() {
    let world = World::new().await;
    let hosts = Arc::new(Hosts::default());
    let running = start(&world, &hosts);
    let order = world.create(1, "http://error/n");
    until("a failure", || world.deliveries(&order) == ["1.1 failed"]).await;
    world.quote(1);
    until("the newer one", || world.deliveries(&order) == ["1.1 failed", "2.1 failed"]).await;
    hosts.set("error", "ok");
    world.clock.advance(Span::from_secs(15));
    until("it again", || world.deliveries(&order).len() == 3).await;
    world.clock.advance(Span::from_secs(86_400));
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(world.deliveries(&order), ["1.1 failed", "2.1 failed", "2.2 ok"]);
    let versions: Vec<_> =
        hosts.forms("error").iter().map(|form| field(form, "version").to_owned()).collect();
    assert_eq!(versions, ["1", "2", "2"]);
    running.stop().await;
}

#[tokio::test]
async fn endpoints_that_hang_delay_nobody() {
    let world = World::new().await;
    let hosts = Arc::new(Hosts::default());
    hosts.set("slow", "hang");
    let running = start(&world, &hosts);
    for number in 1..=50 {
        world.create(number, "http://slow/n");
    }
    until("the slow one has its places", || hosts.count("slow") == 4).await;
    for number in 101..=110 {
        world.create(number, "http://ok/n");
    }
    until("the others are served", || hosts.count("ok") == 10).await;
    assert_eq!(hosts.count("slow"), 4);
    running.kill();
}

#[tokio::test]
async fn nothing_is_sent_twice_by_a_restart_or_a_second_instance() {
    let world = World::new().await;
    let hosts = Arc::new(Hosts::default());
    let (one, two) = (start(&world, &hosts), start(&world, &hosts));
    let orders: Vec<_> = (1..=40).map(|number| world.create(number, "http://ok/n")).collect();
    until("all are sent", || hosts.count("ok") == 40).await;
    until("all are recorded", || orders.iter().all(|order| world.deliveries(order).len() == 1)).await;
    one.stop().await;
    two.stop().await;
    let again = start(&world, &hosts);
    let last = world.create(41, "http://ok/n");
    until("the next one", || !world.deliveries(&last).is_empty()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut sent = BTreeMap::new();
    for form in hosts.forms("ok") {
        *sent.entry(field(&form, "transaction_id").to_owned()).or_insert(0) += 1;
    }
    assert_eq!(sent.len(), 41);
    assert!(sent.values().all(|count| *count == 1), "{sent:?}");
    again.stop().await;
}

#[tokio::test]
async fn what_was_due_while_nobody_ran_is_sent_by_the_next() {
    let world = World::new().await;
    let hosts = Arc::new(Hosts::default());
    hosts.set("shop", "down");
    let order = world.create(1, "http://shop/n");
    let first = start(&world, &hosts);
    until("a failure", || world.deliveries(&order) == ["1.1 failed"]).await;
    first.kill();
    hosts.set("shop", "ok");
    world.clock.advance(Span::from_secs(3600));
    let second = start(&world, &hosts);
    until("the second attempt", || world.deliveries(&order) == ["1.1 failed", "1.2 ok"]).await;
    second.stop().await;
}

#[tokio::test]
async fn an_answer_lost_by_the_log_is_not_a_second_notification() {
    let world = World::new().await;
    let hosts = Arc::new(Hosts::default());
    let running = start(&world, &hosts);
    world.log.lose_acks(1);
    let order = world.create(1, "http://ok/n");
    until("it is recorded", || world.deliveries(&order) == ["1.1 ok"]).await;
    world.log.fail_appends(2);
    world.quote(1);
    until("it is recorded", || world.deliveries(&order) == ["1.1 ok", "2.1 ok"]).await;
    assert_eq!(hosts.count("ok"), 2);
    running.stop().await;
}

#[tokio::test]
async fn keys_take_turns_while_a_shop_changes_them() {
    let world = World::new().await;
    let hosts = Arc::new(Hosts::default());
    world.add_key("another key").await;
    let running = start(&world, &hosts);
    let order = world.create(1, "http://error/n");
    until("the first attempt", || world.deliveries(&order).len() == 1).await;
    world.clock.advance(Span::from_secs(15));
    until("the second attempt", || world.deliveries(&order).len() == 2).await;
    let forms = hosts.forms("error");
    assert!(verify(&forms[0], "another key", false).is_ok());
    assert!(verify(&forms[1], API_KEY, false).is_ok());
    running.stop().await;
}

#[tokio::test]
async fn a_merchant_who_wants_hmac_gets_it() {
    let world = World::new().await;
    let hosts = Arc::new(Hosts::default());
    let merchant = world.model.merchant(MERCHANT).await.unwrap().unwrap();
    let settings = MerchantSettings { require_hmac: Some(true), ..Default::default() };
    world.tell(Subject::merchant(MERCHANT), merchant.change(settings).unwrap());
    let running = start(&world, &hosts);
    world.create(1, "http://ok/n");
    until("it is sent", || hosts.count("ok") == 1).await;
    let form = &hosts.forms("ok")[0];
    assert_eq!(field(form, "sign_type"), "HMAC-SHA256");
    assert!(verify(form, API_KEY, true).is_ok());
    running.stop().await;
}

#[tokio::test]
async fn a_merchant_without_a_key_is_told_once_there_is_one() {
    let world = World::new().await;
    let hosts = Arc::new(Hosts::default());
    let merchant = world.model.merchant(MERCHANT).await.unwrap().unwrap();
    world.tell(Subject::merchant(MERCHANT), merchant.revoke_key(1).unwrap());
    world.settle().await;
    let running = start(&world, &hosts);
    let order = world.create(1, "http://ok/n");
    until("nothing to sign with", || world.deliveries(&order) == ["1.1 failed"]).await;
    assert_eq!(hosts.count("ok"), 0);
    world.add_key("another key").await;
    world.clock.advance(Span::from_secs(15));
    until("it is sent", || world.deliveries(&order) == ["1.1 failed", "1.2 ok"]).await;
    running.stop().await;
}

/// A log and a lease as a process has them that is frozen between a question and its answer: the one answers late, the
/// other is not renewed.
struct Frozen(World);

#[async_trait]
impl EventLog for Frozen {
    async fn append(
        &self,
        expectations: Vec<tally_ports::Expectation>,
        batch: Vec<tally_events::NewEvent>,
    ) -> Result<Vec<tally_types::Position>, tally_ports::AppendError> {
        self.0.log.append(expectations, batch).await
    }

    async fn read(&self, after: tally_types::Position) -> Result<tally_ports::EventStream, PortError> {
        self.0.log.read(after).await
    }

    async fn last(&self, subject: &Subject) -> Result<Option<tally_events::Recorded>, PortError> {
        tokio::time::sleep(Duration::from_secs(7)).await;
        self.0.log.last(subject).await
    }

    async fn head(&self) -> Result<tally_types::Position, PortError> {
        self.0.log.head().await
    }
}

#[async_trait]
impl Lease for Frozen {
    async fn acquire(&self, name: &str, ttl: Span) -> Result<Option<tally_ports::Grant>, PortError> {
        self.0.lease.acquire(name, ttl).await
    }

    async fn renew(&self, _: &tally_ports::Grant, _: Span) -> Result<Option<tally_ports::Grant>, PortError> {
        std::future::pending().await
    }

    async fn release(&self, grant: tally_ports::Grant) -> Result<(), PortError> {
        self.0.lease.release(grant).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_frozen_past_its_lease_sends_nothing() {
    let world = World::new().await;
    world.create(1, "https://ok/");
    world.settle().await;
    let (model, clock) = (world.model.clone(), world.clock.clone());
    let hosts = Arc::new(Hosts::default());
    let frozen = Arc::new(Frozen(world));
    let ports = DelivererPorts { model, log: frozen.clone(), lease: frozen, courier: hosts.clone(), clock };
    let deliverer = Deliverer::new(ports, master(), DelivererOptions::default());
    let task = tokio::spawn(deliverer.run(CancellationToken::new()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(hosts.count("ok"), 0, "its duty was another's by then");
    task.abort();
}

/// All groups under one term, from now on for a minute.
fn term() -> Held {
    let term = Term { epoch: Epoch::new(1), until: Instant::now() + Duration::from_secs(60) };
    (0..GROUPS).map(|group| (lease_name(group), term)).collect()
}

/// A run that holds every group, between two turns.
fn run(ports: DelivererPorts) -> (watch::Sender<Held>, Run) {
    let (sender, tenures) = watch::channel(term());
    let run = Run {
        ports,
        master: Arc::new(master()),
        queue: Queue::new(Limits { all: 16, per_endpoint: 4 }),
        tasks: JoinSet::new(),
        ids: HashMap::new(),
        held: term(),
        tenures,
        refill_at: Instant::now() + REFILL,
        backlog_at: Instant::now() + REFILL,
    };
    (sender, run)
}

#[tokio::test]
async fn an_attempt_looks_at_the_time_itself() {
    let world = World::new().await;
    let hosts = Arc::new(Hosts::default());
    let order = world.create(1, "http://ok/n");
    world.settle().await;
    let now = world.clock.now();
    let next_at = now.plus(Span::from_secs(15));
    // Another instance has tried and failed, and this one heard of the order only.
    let failed = tally_events::DeliveryAttempted {
        order: order.clone(),
        endpoint: NOTIFY.to_owned(),
        version: 1,
        attempt: 1,
        outcome: tally_events::DeliveryOutcome::Failed { reason: "no".into(), next_at },
        at: now,
    };
    world.tell(Subject::delivery(&order), failed);
    let (_sender, run) = run(ports(&world, &hosts));
    let attempt = || {
        let name = lease_name(order.partition() % GROUPS);
        let tenure = Tenure { name, epoch: Epoch::new(1), held: run.tenures.clone() };
        Attempt { order: order.clone(), tenure, ports: run.ports.clone(), master: run.master.clone() }.make()
    };
    let early = attempt().await;
    assert!(matches!(early.next, Next::At(at) if at == next_at), "it is put off until then");
    assert_eq!((hosts.count("ok"), world.deliveries(&order).len()), (0, 1));
    world.clock.set(next_at);
    assert!(matches!(attempt().await.next, Next::Nothing));
    assert_eq!(world.deliveries(&order), ["1.1 failed", "1.2 ok"]);
}

#[tokio::test]
async fn the_queue_keeps_what_is_held_only() {
    let world = World::new().await;
    let (_sender, mut run) = run(ports(&world, &Arc::default()));
    let now = world.clock.now();
    let group = |order: &OrderId| order.partition() % GROUPS;
    let orders: Vec<OrderId> = (1..=40).map(tally_testkit::order_id).collect();
    for order in &orders {
        run.queue.enqueue(order.clone(), "shop:80".into(), now);
    }
    let under_way = run.queue.next(now).unwrap();
    let task = run.tasks.spawn(std::future::ready(Done { next: Next::At(now), healthy: Some(true) }));
    run.ids.insert(task.id(), under_way.clone());
    let kept = (0..GROUPS).find(|kept| *kept != group(&under_way)).unwrap();
    let own = orders.iter().filter(|order| group(order) == kept).count();
    assert!(own > 0 && own < 39);
    let mut held = term();
    held.retain(|name, _| *name == lease_name(kept));
    run.take_over(held);
    assert_eq!(run.queue.len(), own + 1, "what waits under others' leases is dropped");
    assert!(run.refill_at > Instant::now(), "nothing has come");
    let done = run.tasks.join_next_with_id().await.unwrap();
    run.finished(done);
    assert_eq!(run.queue.len(), own, "what was under way does not come back");
    run.take_over(term());
    assert!(run.refill_at <= Instant::now(), "what others left undone is asked for at once");
}

#[test]
fn places_are_shared_by_host_and_port() {
    for (url, endpoint) in [
        ("http://Shop.example/a?b", "shop.example:80"),
        ("https://u:p@shop.example/", "shop.example:443"),
        ("http://[::1]:8080/", "[::1]:8080"),
        ("nonsense", ""),
    ] {
        assert_eq!(endpoint_of(url), endpoint);
    }
}
