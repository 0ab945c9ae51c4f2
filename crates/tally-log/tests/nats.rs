//! The log, leases and publisher on real NATS servers: one, and three in a cluster.
//!
//! Needs `nats-server` 2.12 or later: on the path, or where `NATS_SERVER_BIN` points.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::large_futures, reason = "tests")]

#[path = "nats/servers.rs"]
mod servers;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use servers::{Cluster, retry};
use tally_events::{Event, RatesPublished, Subject};
use tally_log::LogName;
use tally_log::nats::{Durability, Nats, NatsLog};
use tally_ports::{AppendError, EventLog, Expectation, Lease, Publisher, Purge};
use tally_testkit::conformance::{
    event_log_conformance, lease_conformance, publisher_conformance, purge_conformance,
};
use tally_testkit::expired;
use tally_types::{Position, Timestamp};

/// Gives each case an account of its own.
#[derive(Default)]
struct Accounts(Mutex<HashMap<&'static str, usize>>);

impl Accounts {
    fn of(&self, case: &'static str) -> usize {
        let mut accounts = self.0.lock().unwrap();
        let next = accounts.len();
        *accounts.entry(case).or_insert(next)
    }
}

async fn conformance(servers: usize) {
    let cluster = Cluster::start(servers, "always").await;
    let accounts = Accounts::default();
    publisher_conformance(|case| {
        let (cluster, account) = (&cluster, accounts.of(case));
        async move {
            let nats = cluster.connect(account).await;
            Arc::new(retry("a publisher", || nats.publisher()).await) as Arc<dyn Publisher>
        }
    })
    .await;
    event_log_conformance(|case| {
        let (cluster, account) = (&cluster, accounts.of(case));
        async move { Arc::new(cluster.log(account, LogName::Main).await) as Arc<dyn EventLog> }
    })
    .await;
    purge_conformance(|case| {
        let (cluster, account) = (&cluster, accounts.of(case));
        async move { Arc::new(cluster.log(account, LogName::Main).await) as Arc<dyn Purge> }
    })
    .await;
    lease_conformance(
        |case| {
            let (cluster, account) = (&cluster, accounts.of(case));
            async move {
                let nats = cluster.connect(account).await;
                Arc::new(retry("leases", || nats.lease()).await) as Arc<dyn Lease>
            }
        },
        |span| tokio::time::sleep(span.to_duration()),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_server_conforms() {
    conformance(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_servers_conform() {
    conformance(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_is_what_the_servers_say() {
    let always = Cluster::start(1, "always").await;
    assert_eq!(always.log(0, LogName::Main).await.durability(), &Durability::Verified);
    let mut settings = always.settings(0);
    settings.monitors.clear();
    let log = Nats::connect(settings).await.unwrap().log(LogName::Main).await.unwrap();
    assert!(matches!(log.durability(), Durability::Unverified(why) if why.contains("monitor")));
    let seldom = Cluster::start(1, "\"2m\"").await;
    let log = seldom.log(0, LogName::Main).await;
    assert!(
        matches!(log.durability(), Durability::Unverified(why) if why.contains("sync_interval: always")),
        "{:?}",
        log.durability()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_set_up_wrongly_is_refused() {
    use async_nats::jetstream::stream::{Config, DiscardPolicy, PersistenceMode, StorageType};
    let cluster = Cluster::start(1, "always").await;
    let base = || Config {
        name: "TALLY".to_owned(),
        subjects: vec!["tally.v1.order.>".to_owned()],
        ..Config::default()
    };
    let cases = [
        ("persist_mode async", Config { persist_mode: Some(PersistenceMode::Async), ..base() }),
        ("kept in memory", Config { storage: StorageType::Memory, ..base() }),
        ("max_age", Config { max_age: Duration::from_secs(60), ..base() }),
        ("drops old messages", Config { max_messages: 5, discard: DiscardPolicy::Old, ..base() }),
    ];
    for (account, (word, config)) in cases.into_iter().enumerate() {
        let client = cluster.client(account).await;
        async_nats::jetstream::new(client).create_stream(config).await.unwrap();
        let error = cluster.connect(account).await.log(LogName::Main).await.map(|_| ()).expect_err(word);
        assert!(!error.is_transient() && error.to_string().contains(word), "{word}: {error}");
    }
    let client = cluster.client(9).await;
    async_nats::jetstream::new(client).create_stream(base()).await.unwrap();
    let log = cluster.log(9, LogName::Main).await;
    let batch = vec![expired(1, 1), expired(1, 2)];
    let grown = log.append(vec![Expectation::none(batch[0].subject.clone())], batch).await;
    assert!(grown.is_ok(), "what can be added to a stream is added: {grown:?}");
    let mut three = cluster.settings(9);
    three.replicas = 3;
    let error = Nats::connect(three).await.unwrap().log(LogName::Main).await.map(|_| ()).unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("1 replicas"), "{error}");
    let mut stranger = cluster.settings(0);
    stranger.urls = vec![stranger.urls[0].replace("secret", "guess")];
    let error = Nats::connect(stranger).await.map(|_| ()).unwrap_err();
    assert!(!error.is_transient(), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rates_have_a_stream_of_their_own() {
    let cluster = Cluster::start(1, "always").await;
    let (main, rates) = (cluster.log(0, LogName::Main).await, cluster.log(0, LogName::Rates).await);
    let fact = RatesPublished { assets: vec![], fiat: vec![], at: Timestamp::EPOCH };
    let event = Event::new(Subject::rates(), fact, Timestamp::EPOCH);
    let expect = vec![Expectation::none(Subject::rates())];
    assert_eq!(rates.append(expect.clone(), vec![event.clone()]).await.unwrap(), [Position::new(1)]);
    assert_eq!(rates.read(Position::START).await.unwrap().next().await.unwrap().unwrap().event, event);
    assert_eq!(main.head().await.unwrap(), Position::START);
    let stray = main.append(expect, vec![event]).await.unwrap_err();
    assert!(matches!(stray, AppendError::Port(_)), "no rates on the main log: {stray}");
}

/// Appends a fact after `at`, through whatever happens.
async fn append_through(log: &NatsLog, at: Position, event: Event) -> Position {
    loop {
        let expect = vec![Expectation::new(event.subject.clone(), at)];
        match log.append(expect, vec![event.clone()]).await {
            Ok(appended) => return appended[0],
            Err(AppendError::Port(error)) if error.is_transient() => {}
            Err(error) => panic!("{event:?} after {at}: {error}"),
        }
    }
}

/// Appends facts to one subject, one after the other, until told to stop; answers their positions.
async fn write_through(log: NatsLog, order: u64, stop: Arc<AtomicBool>) -> Vec<Position> {
    let mut positions: Vec<Position> = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let at = positions.last().copied().unwrap_or(Position::START);
        let next = i64::try_from(positions.len()).unwrap();
        positions.push(append_through(&log, at, expired(order, next)).await);
    }
    positions
}

/// Writers and a reader live through `trouble`; then nothing is lost, nothing twice, and the reader is not late.
async fn live_through(cluster: &mut Cluster, trouble: impl AsyncFnOnce(&mut Cluster)) {
    const WRITERS: u64 = 6;
    let log = cluster.log(0, LogName::Main).await;
    let read = Arc::new(Mutex::new(Vec::new()));
    let reader = tokio::spawn({
        let (mut facts, read) = (log.read(Position::START).await.unwrap(), read.clone());
        async move {
            while let Some(fact) = facts.next().await {
                read.lock().unwrap().push(fact.unwrap());
            }
        }
    });
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> =
        (1..=WRITERS).map(|order| tokio::spawn(write_through(log.clone(), order, stop.clone()))).collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    trouble(cluster).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.store(true, Ordering::SeqCst);
    let written: Vec<Vec<Position>> =
        join_all(writers).await.into_iter().map(|written| written.unwrap()).collect();
    let mut positions = written.concat();
    positions.sort();
    let mut waited = 0;
    while read.lock().unwrap().len() < positions.len() {
        assert!(
            waited < 30,
            "the reader is 3 s behind: {} of {}",
            read.lock().unwrap().len(),
            positions.len()
        );
        waited += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    reader.abort();
    let facts = std::mem::take(&mut *read.lock().unwrap());
    let at: Vec<_> = facts.iter().map(|fact| fact.position).collect();
    assert_eq!(at, positions, "each acknowledged fact, once");
    for (order, written) in (1..).zip(&written) {
        let subject = expired(order, 0).subject;
        let own = facts.iter().filter(|fact| fact.event.subject == subject).map(|fact| &fact.event.id);
        let want: Vec<_> = (0..).zip(written).map(|(n, _)| expired(order, n).id).collect();
        assert!(own.eq(&want), "order {order}: in order");
    }
    let again = retry("a reader", || log.read(Position::START)).await;
    let again = again.take(facts.len()).map(Result::unwrap).collect::<Vec<_>>().await;
    assert_eq!(again, facts, "a later reader sees the same");
    println!("{} facts by {WRITERS} writers", facts.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_server_loses_and_repeats_nothing() {
    let mut cluster = Cluster::start(1, "always").await;
    live_through(&mut cluster, async |cluster| {
        for _ in 0..2 {
            cluster.servers[0].kill();
            tokio::time::sleep(Duration::from_millis(300)).await;
            cluster.servers[0].start();
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_that_loses_each_server_in_turn_loses_nothing() {
    let mut cluster = Cluster::start(3, "always").await;
    live_through(&mut cluster, async |cluster| {
        for victim in 0..3 {
            cluster.servers[victim].kill();
            tokio::time::sleep(Duration::from_secs(2)).await;
            cluster.servers[victim].start();
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_reader_has_the_first_fact_after_a_restart_soon() {
    let mut cluster = Cluster::start(1, "always").await;
    let log = cluster.log(0, LogName::Main).await;
    let mut first = Vec::new();
    for n in 0..3 {
        let at = first.last().copied().unwrap_or(Position::START);
        first.push(append_through(&log, at, expired(1, n)).await);
    }
    // One reader in the midst, one that has had nothing yet.
    let mut readers = Vec::new();
    for after in [first[1], first[2]] {
        readers.push(log.read(after).await.unwrap());
    }
    assert_eq!(readers[0].next().await.unwrap().unwrap().position, first[2]);
    cluster.servers[0].kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.servers[0].start();
    let next = append_through(&log, Position::START, expired(2, 0)).await;
    for reader in &mut readers {
        let fact = tokio::time::timeout(Duration::from_secs(3), reader.next()).await.expect("within 3 s");
        assert_eq!(fact.unwrap().unwrap().position, next);
    }
}
