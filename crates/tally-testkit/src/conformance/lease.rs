//! The suite for leases.

use std::sync::Arc;

use futures::future::join_all;
use tally_ports::{Grant, Lease};
use tally_types::Span;

/// Leases live this long in the suite; a server counts in seconds.
const TTL: Span = Span::from_secs(2);

/// Runs every case on leases that `open` opens; `elapse` lets time pass, on a manual clock or really. Needs a
/// multi-threaded runtime.
///
/// # Panics
/// At the first case that fails.
pub async fn lease_conformance<F, Fut, E, Wait>(open: F, elapse: E)
where
    F: Fn(&'static str) -> Fut,
    Fut: Future<Output = Arc<dyn Lease>>,
    E: Fn(Span) -> Wait,
    Wait: Future<Output = ()>,
{
    one_holder(open("holder").await).await;
    one_rival_wins(open("rivals").await).await;
    expiry_and_renewal(open("expiry").await, &elapse).await;
    let lease = open("epochs").await;
    let before = granted(&lease, "duty").await;
    lease.release(before.clone()).await.unwrap();
    drop(lease);
    let lease = open("epochs").await;
    let after = granted(&lease, "duty").await;
    assert!(after.epoch > before.epoch, "epochs grow over a restart: {before:?}, {after:?}");
}

async fn granted(lease: &Arc<dyn Lease>, name: &str) -> Grant {
    lease.acquire(name, TTL).await.unwrap().unwrap_or_else(|| panic!("{name} is free"))
}

async fn one_holder(lease: Arc<dyn Lease>) {
    let first = granted(&lease, "shard.btc.0-0").await;
    assert!(first.epoch.get() > 0, "0 means that no lease is involved");
    assert_eq!(lease.acquire("shard.btc.0-0", TTL).await.unwrap(), None, "it is held");
    granted(&lease, "shard.ltc.0-0").await;
    let renewed = lease.renew(&first, TTL).await.unwrap().expect("the holder renews");
    assert_eq!(renewed.epoch, first.epoch, "a renewal is the same term");
    let again = lease.renew(&renewed, TTL).await.unwrap().expect("and again");
    lease.release(again.clone()).await.unwrap();
    let second = granted(&lease, "shard.btc.0-0").await;
    assert!(second.epoch > first.epoch, "a new term is higher: {first:?}, {second:?}");
    assert_eq!(lease.renew(&again, TTL).await.unwrap(), None, "the old term is over");
    lease.release(again).await.unwrap();
    assert_eq!(lease.acquire("shard.btc.0-0", TTL).await.unwrap(), None, "an old term releases nothing");
}

async fn one_rival_wins(lease: Arc<dyn Lease>) {
    let mut last = 0;
    for round in 0..10 {
        let rivals = (0..4).map(|_| {
            let lease = lease.clone();
            tokio::spawn(async move { lease.acquire("duty", TTL).await.unwrap() })
        });
        let outcomes = join_all(rivals).await;
        let won: Vec<Grant> = outcomes.into_iter().filter_map(|outcome| outcome.expect("a task")).collect();
        assert_eq!(won.len(), 1, "round {round}: {won:?}");
        assert!(won[0].epoch.get() > last, "round {round}: {won:?} after {last}");
        last = won[0].epoch.get();
        lease.release(won[0].clone()).await.unwrap();
    }
}

async fn expiry_and_renewal<E, Wait>(lease: Arc<dyn Lease>, elapse: &E)
where
    E: Fn(Span) -> Wait,
    Wait: Future<Output = ()>,
{
    let mut grant = granted(&lease, "duty").await;
    let epoch = grant.epoch;
    for _ in 0..3 {
        elapse(Span::from_millis(1_200)).await;
        grant = lease.renew(&grant, TTL).await.unwrap().expect("renewed in time");
    }
    assert_eq!(lease.acquire("duty", TTL).await.unwrap(), None, "held beyond its first term by renewals");
    elapse(Span::from_millis(4_500)).await;
    let next = granted(&lease, "duty").await;
    assert!(next.epoch > epoch, "a higher term after an expiry");
    assert_eq!(lease.renew(&grant, TTL).await.unwrap(), None, "who slept too long has lost it");
}
