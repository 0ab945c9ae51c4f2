//! The suite for publishers.

use std::sync::Arc;

use tally_ports::{Message, Publisher};
use tally_types::Position;

fn message(order: u64, version: u64, position: Option<u64>) -> Message {
    Message {
        subject: format!("tally.v1.status.10001.{order}.paid"),
        id: format!("{order}-{version}"),
        position: position.map(Position::new),
        body: format!("{{\"order\":{order},\"version\":{version}}}").into_bytes(),
    }
}

/// Runs every case on publishers that `open` opens.
///
/// # Panics
/// At the first case that fails.
pub async fn publisher_conformance<F, Fut>(open: F)
where
    F: Fn(&'static str) -> Fut,
    Fut: Future<Output = Arc<dyn Publisher>>,
{
    let publisher = open("publisher").await;
    assert_eq!(publisher.last_position().await.unwrap(), None, "nothing was published yet");
    publisher.publish(Vec::new()).await.expect("nothing to publish");
    let rate = Message { subject: "tally.v1.rate.BTC".to_owned(), ..message(0, 1, None) };
    publisher.publish(vec![rate.clone()]).await.unwrap();
    assert_eq!(publisher.last_position().await.unwrap(), None, "a rate has no position");
    publisher.publish(vec![message(1, 1, Some(5))]).await.unwrap();
    let batch: Vec<_> = (2..1_500).map(|order| message(order, 1, Some(order + 10))).collect();
    publisher.publish(batch.clone()).await.unwrap();
    publisher.publish(vec![Message { id: "rate-2".to_owned(), ..rate }]).await.unwrap();
    let deposit =
        Message { subject: "tally.v1.deposit.btc.10001.7.seen".to_owned(), ..message(7, 2, Some(2_000)) };
    publisher.publish(vec![deposit]).await.unwrap();
    assert_eq!(publisher.last_position().await.unwrap(), Some(Position::new(2_000)));
    publisher.publish(batch[10..20].to_vec()).await.expect("the same messages again");
    assert_eq!(publisher.last_position().await.unwrap(), Some(Position::new(2_000)), "it never goes back");
    drop(publisher);
    let publisher = open("publisher").await;
    assert_eq!(publisher.last_position().await.unwrap(), Some(Position::new(2_000)), "after a restart too");
}
