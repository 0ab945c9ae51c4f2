use super::*;
use crate::endpoint::endpoints;
use crate::testing::{FakeNode, settings};

fn http(url: &str) -> Http {
    let keys = format!(r#"{{"id": "btc", "kind": "bitcoin", "rpc": [{{"url": "{url}"}}]}}"#);
    let endpoint = endpoints(&settings(&keys), &["http"]).unwrap().remove(0);
    Http::new(&endpoint, Duration::from_millis(500)).unwrap()
}

async fn get(http: &Http, url: &str, limit: usize) -> Result<usize, HttpError> {
    http.ask(|client| client.get(url), limit).await.map(|body| body.bytes.len())
}

#[tokio::test]
async fn connections_are_kept_and_answers_limited() {
    let node = FakeNode::start();
    node.serves("/a", vec![7; 3_000]);
    let (http, url) = (http(&node.url), format!("{}/a", node.url));
    for _ in 0..5 {
        assert_eq!(get(&http, &url, 3_000).await.unwrap(), 3_000);
    }
    assert_eq!(node.connections(), 1);
    assert!(matches!(get(&http, &url, 2_999).await, Err(HttpError::TooLarge(2_999))));
}

#[tokio::test]
async fn answers_share_a_budget() {
    let node = FakeNode::start();
    node.serves("/a", vec![7; 1 << 20]);
    let (http, url) = (http(&node.url), format!("{}/a", node.url));
    let first = http.ask(|client| client.get(&url), 2 << 20).await.unwrap();
    assert_eq!(http.budget.available_permits(), BUDGET_PIECES - (1 << 20) / PIECE_BYTES);
    drop(first);
    assert_eq!(http.budget.available_permits(), BUDGET_PIECES);
    // More than the budget has the budget alone.
    drop(http.room(usize::MAX).await.unwrap());
}

#[tokio::test]
async fn answers_that_break_off_or_stop_are_told_apart() {
    let node = FakeNode::start();
    node.serves("/a", vec![7; 1 << 20]);
    let (http, url) = (http(&node.url), format!("{}/a", node.url));
    node.cuts(Some(1_000));
    let cut = get(&http, &url, 2 << 20).await.unwrap_err();
    assert_eq!(cut.kind(), FaultKind::Truncated, "{cut}");
    node.cuts(None);
    node.fails(Some(0));
    let gone = get(&http, &url, 2 << 20).await.unwrap_err();
    assert_eq!(gone.kind(), FaultKind::Unreachable, "{gone}");
    node.fails(Some(1));
    let stalled = get(&http, &url, 2 << 20).await.unwrap_err();
    assert_eq!(stalled.kind(), FaultKind::Unreachable, "{stalled}");
}
