use rust_decimal::Decimal;
use serde_json::Value;
use tally_events::*;
use tally_testkit::{MemoryLog, chain_id, currency, order_id};
use tally_types::Timestamp;
use tokio::task::JoinHandle;

use super::*;
use crate::world::{Folded, World, block, deposit_key, until};

fn ports(world: &World) -> AnnouncerPorts {
    AnnouncerPorts {
        model: world.model.clone(),
        log: Arc::new(world.log.clone()),
        lease: world.lease.clone(),
        publisher: world.publisher.clone(),
    }
}

fn start(world: &World) -> (CancellationToken, JoinHandle<()>) {
    let stop = CancellationToken::new();
    (stop.clone(), tokio::spawn(Announcer::new(ports(world)).run(stop)))
}

/// The ends of the subjects published, without repeats: `status.1.new`, `deposit.btc.1.seen`.
fn subjects(world: &World) -> Vec<String> {
    let mut subjects: Vec<String> = Vec::new();
    for message in world.publisher.published() {
        let subject = message.subject.strip_prefix("tally.v1.").unwrap().replace(".10001.", ".");
        let key = format!("{subject} {}", message.id);
        if !subjects.contains(&key) {
            subjects.push(key);
        }
    }
    subjects.into_iter().map(|key| key.split(' ').next().unwrap().to_owned()).collect()
}

fn data(world: &World, subject: &str) -> Value {
    let messages = world.publisher.published();
    let message = messages.iter().find(|message| message.subject == subject).unwrap();
    let envelope: Value = serde_json::from_slice(&message.body).unwrap();
    assert_eq!((&envelope["specversion"], &envelope["source"]), (&"1.0".into(), &"/tallystick".into()));
    assert_eq!((&envelope["id"], &envelope["subject"]), (&message.id.as_str().into(), &subject.into()));
    assert!(envelope["time"].as_str().unwrap().parse::<Timestamp>().is_ok());
    envelope["data"].clone()
}

/// An order from its creation to its end, with a reorg in between.
fn tell_a_story(world: &World) {
    world.create(1, "http://ok/");
    world.connect(100);
    world.quote(1);
    world.seen(1);
    world.mined(1, 101);
    world.connect(101);
    let (chain, deposit) = (chain_id("btc"), deposit_key(1));
    world.on_chain(DepositConfirmed {
        chain: chain.clone(),
        deposit: deposit.clone(),
        depth: 1,
        tip: block(101),
        finalized: false,
    });
    let (block_101, prev) = (block(101), block(100).hash);
    world.on_chain(DepositUnmined { chain: chain.clone(), deposit, block: block_101, in_mempool: true });
    world.on_chain(BlockDisconnected { chain, block: block_101, prev });
    world.mined(1, 101);
    for height in 101..=106 {
        world.connect(height);
    }
}

const STORY: [&str; 11] = [
    "status.1.new",
    "status.1.pending",
    "deposit.btc.1.seen",
    "status.1.paid",
    "deposit.btc.1.mined",
    "status.1.confirmed",
    "deposit.btc.1.confirmed",
    "deposit.btc.1.unmined",
    "status.1.paid",
    "deposit.btc.1.mined",
    "status.1.confirmed",
];

#[tokio::test]
async fn a_story_is_told_in_order() {
    let world = World::new().await;
    let (stop, task) = start(&world);
    tell_a_story(&world);
    until("it is complete", || subjects(&world).last().is_some_and(|last| last == "status.1.complete")).await;
    let told = subjects(&world);
    assert_eq!(told[..STORY.len()], STORY);
    assert_eq!(told.len(), STORY.len() + 1);
    let order = data(&world, "tally.v1.status.10001.1.pending");
    assert_eq!((&order["version"], &order["status"]), (&2.into(), &"pending".into()));
    assert_eq!((&order["payment_address"], &order["pay_amount"]), (&"address-1".into(), &"0.0016".into()));
    let seen = data(&world, "tally.v1.deposit.btc.10001.1.seen");
    assert_eq!(
        (&seen["stage"], &seen["confirmations"], &seen["block"]),
        (&"mempool".into(), &0.into(), &Value::Null)
    );
    assert_eq!((&seen["amount"], &seen["version"]), (&"0.0016".into(), &3.into()));
    let mined = data(&world, "tally.v1.deposit.btc.10001.1.mined");
    assert_eq!((&mined["stage"], &mined["height"]), (&"mined".into(), &101.into()));
    assert_eq!(mined["address"], "address-1");
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn restarts_and_failures_lose_nothing_and_keep_ids() {
    let world = World::new().await;
    let (_, first) = start(&world);
    world.create(1, "http://ok/");
    world.quote(1);
    until("it began", || subjects(&world).len() == 2).await;
    first.abort();
    world.lease.revoke(LEASE);
    world.publisher.fail_next(2);
    let (_, second) = start(&world);
    for number in 2..=400 {
        world.create(number, "http://ok/");
    }
    world.seen(1);
    until("everything was told", || subjects(&world).len() == 2 + 399 + 2).await;
    let positions: Vec<_> =
        world.publisher.published().iter().filter_map(|message| message.position).collect();
    assert!(
        positions.windows(2).all(|pair| pair[0].get() <= pair[1].get() + 1),
        "in order, but for the restart"
    );
    second.abort();
}

#[tokio::test]
async fn of_two_instances_one_announces_and_the_other_takes_over() {
    let world = World::new().await;
    let (stop, one) = start(&world);
    world.create(1, "http://ok/");
    until("one announces", || subjects(&world).len() == 1).await;
    let (_, two) = start(&world);
    world.create(2, "http://ok/");
    until("still one", || subjects(&world).len() == 2).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.publisher.published().len(), 2);
    stop.cancel();
    one.await.unwrap();
    world.create(3, "http://ok/");
    until("the other goes on", || subjects(&world).len() == 3).await;
    two.abort();
}

#[tokio::test]
async fn many_versions_by_one_fact_are_all_told() {
    let world = World::new().await;
    world.connect(100);
    for number in 1..=300 {
        world.create(number, "http://ok/");
        world.quote(number);
        world.mined(number, 101);
    }
    world.connect(101);
    world.settle().await;
    let (_, task) = start(&world);
    let confirmed = |message: &Message| message.subject.ends_with(".confirmed");
    let told = || world.publisher.published().into_iter().filter(confirmed).count();
    until("all are confirmed", || told() == 300).await;
    task.abort();
}

#[tokio::test]
async fn rates_are_told_from_the_latest_on() {
    let world = World::new().await;
    let rates = MemoryLog::new();
    let publish = |usd: i64| {
        let rate = AssetRate {
            asset: currency("BTC"),
            usd: Some(Decimal::from(usd)),
            confidence: None,
            inconsistent: false,
            at: Timestamp::EPOCH,
            sources: vec!["kraken".into()],
            dropped: Vec::new(),
        };
        let fact = RatesPublished { assets: vec![rate], fiat: Vec::new(), at: Timestamp::from_secs(usd) };
        rates.seed(vec![Event::new(Subject::rates(), fact, Timestamp::EPOCH)]);
    };
    publish(1);
    publish(2);
    let stop = CancellationToken::new();
    let announcer = RateAnnouncer::new(Arc::new(rates.clone()), world.lease.clone(), world.publisher.clone());
    let task = tokio::spawn(announcer.run(stop.clone()));
    until("the latest", || world.publisher.published().len() == 1).await;
    publish(3);
    until("the next", || world.publisher.published().len() == 2).await;
    assert_eq!(data(&world, "tally.v1.rate.BTC")["usd"], "2");
    assert!(world.publisher.published().iter().all(|message| message.position.is_none()));
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn deposits_that_pay_no_order_are_not_told() {
    let world = World::new().await;
    world.create(1, "http://ok/");
    world.seen(7);
    world.settle().await;
    let order = world.model.order(&order_id(1)).await.unwrap().unwrap();
    let facts = world.log.facts();
    assert!(messages::deposit(facts.last().unwrap(), &order).unwrap().is_none());
    assert!(deposit_message(&ports(&world), facts.last().unwrap()).await.unwrap().is_none());
}

#[tokio::test]
async fn it_goes_on_at_the_position_that_was_published_last() {
    let world = World::new().await;
    world.create(1, "http://ok/");
    world.connect(100);
    for number in 1..=3 {
        world.create(number, "http://ok/");
        world.quote(number);
        world.mined(number, 101);
    }
    let last = world.connect(101);
    world.create(4, "http://ok/");
    world.settle().await;
    // Of the three orders that the block confirmed, one got through before the end.
    let versions = world.model.versions(Position::START, 100).await.unwrap();
    let first = versions.iter().find(|version| version.position == last).unwrap();
    world.publisher.publish(vec![messages::status(first).unwrap()]).await.unwrap();
    let (_, task) = start(&world);
    until("it is complete", || subjects(&world).last().is_some_and(|told| told == "status.4.new")).await;
    assert_eq!(
        subjects(&world),
        ["status.1.confirmed", "status.2.confirmed", "status.3.confirmed", "status.4.new"],
        "neither what is missing is left out, nor all told again"
    );
    task.abort();
}

#[tokio::test]
async fn nothing_is_told_before_it_is_folded() {
    let world = World::new().await;
    let model = Folded::still();
    let fold = |from: usize| world.log.facts().iter().skip(from).for_each(|fact| model.fold(fact));
    fold(0);
    let folded = world.log.facts().len();
    let ports = AnnouncerPorts { model: model.clone(), ..ports(&world) };
    let stop = CancellationToken::new();
    let task = tokio::spawn(Announcer::new(ports).run(stop.clone()));
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.create(1, "http://ok/");
    // Longer than one wait for the read model.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(subjects(&world), [""; 0]);
    fold(folded);
    until("it is told", || subjects(&world) == ["status.1.new"]).await;
    stop.cancel();
    task.await.unwrap();
}

/// A lease that is granted once; a renewal never answers.
struct Once(std::sync::atomic::AtomicBool);

#[async_trait::async_trait]
impl Lease for Once {
    async fn acquire(&self, name: &str, _: Span) -> Result<Option<tally_ports::Grant>, PortError> {
        let grant = tally_ports::Grant { name: name.to_owned(), epoch: Epoch::new(1), revision: 1 };
        Ok((!self.0.swap(true, std::sync::atomic::Ordering::SeqCst)).then_some(grant))
    }

    async fn renew(&self, _: &tally_ports::Grant, _: Span) -> Result<Option<tally_ports::Grant>, PortError> {
        std::future::pending().await
    }

    async fn release(&self, _: tally_ports::Grant) -> Result<(), PortError> {
        Ok(())
    }
}

/// How often work is done that takes `each`, under a lease that is never renewed. The process is frozen after a second
/// for a minute, and then goes on for another.
async fn done_under_one_term(each: Duration) -> usize {
    let done = Arc::new(std::sync::Mutex::new(0));
    let count = done.clone();
    let task = tokio::spawn(async move {
        let work = || async {
            tokio::time::sleep(each).await;
            *count.lock().unwrap() += 1;
            Ok(())
        };
        while_held("a", Arc::new(Once(false.into())), None, CancellationToken::new(), work).await;
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    task.abort();
    *done.lock().unwrap()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_done_past_a_term() {
    // Frozen in the middle of it: what is ready when the process thaws is not done either.
    for _ in 0..16 {
        assert_eq!(done_under_one_term(Duration::from_secs(2)).await, 0);
    }
    let done = done_under_one_term(Duration::from_millis(90)).await;
    assert!((1..=11).contains(&done), "{done} times in the second before it was frozen");
}
