//! Listeners: binding them, and serving routes on them until told to stop.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long a client may take to send the head of a request, and how long it may keep a connection without one:
/// else whoever opens many and says nothing keeps everybody else out.
const HEAD: Duration = Duration::from_secs(30);
/// What is being answered at the end may be finished for so long.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Binds a listener; the error names the configuration key.
pub(crate) async fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        crate::config::ConfigError::new(key, format!("cannot listen on {address}: {error}")).into()
    })
}

/// Serves routes until `stop`; each request knows where it comes from.
pub(crate) async fn serve(listener: TcpListener, routes: Router, stop: CancellationToken) -> io::Result<()> {
    serve_within(HEAD, listener, routes, stop).await
}

async fn serve_within(
    head: Duration,
    listener: TcpListener,
    routes: Router,
    stop: CancellationToken,
) -> io::Result<()> {
    let handle = Handle::new();
    // Only HTTP/1: to tell the second version from the first, the first bytes are waited for without a limit.
    let mut server = axum_server::from_tcp(listener.into_std()?)?.handle(handle.clone()).http1_only();
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(head);
    let serving = server.serve(routes.into_make_service_with_connect_info::<SocketAddr>());
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended,
        () = stop.cancelled() => handle.graceful_shutdown(Some(LAST_WORDS)),
    }
    serving.await
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn answered(text: &[u8]) -> Vec<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let routes = Router::new().route("/", get(|| async { "yes" }));
        let serving = tokio::spawn(serve_within(Duration::from_millis(300), listener, routes, stop.clone()));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(text).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), client.read_to_end(&mut answer)).await;
        read.expect("the connection is closed").unwrap();
        stop.cancel();
        serving.await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn who_says_nothing_is_not_waited_for() {
        assert!(answered(b"").await.is_empty());
        let half = answered(b"GET / HTTP/1.1\r\nHost: a").await;
        assert!(!String::from_utf8_lossy(&half).contains("200 OK"), "{half:?}");
        let whole = answered(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(String::from_utf8_lossy(&whole).starts_with("HTTP/1.1 200 OK"), "{whole:?}");
    }
}
