use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::endpoint::endpoints;
use crate::testing::settings;
use crate::wake::Bell;

fn endpoint(url: &str) -> Endpoint {
    let keys = format!(r#"{{"id": "eth", "kind": "ethereum", "rpc": [{{"url": "{url}"}}]}}"#);
    endpoints(&settings(&keys), &["http", "ws"]).unwrap().remove(0)
}

/// Takes a client in with this for its key.
async fn take_in(listener: &TcpListener, accept: &str) -> WebSocketStream<TcpStream> {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
    let request = String::from_utf8(request).unwrap().to_lowercase();
    assert!(request.starts_with("get / http/1.1\r\n"), "{request}");
    assert!(
        request.contains("\r\nupgrade: websocket\r\n") && request.contains("\r\nconnection: upgrade\r\n")
    );
    let key = request.split("sec-websocket-key: ").nth(1).unwrap().split('\r').next().unwrap().len();
    assert_eq!(key, 24);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
    WebSocketStream::from_raw_socket(stream, Role::Server, None).await
}

/// The same by the library's own server.
async fn serve(listener: &TcpListener) -> WebSocketStream<TcpStream> {
    let (stream, _) = listener.accept().await.unwrap();
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    let subscribe = socket.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(subscribe.contains(r#""method":"eth_subscribe""#) && subscribe.contains(r#"["newHeads"]"#));
    socket
}

async fn rings(bell: &Bell) -> bool {
    timeout(Duration::from_millis(500), bell.rung()).await.is_ok()
}

#[tokio::test]
async fn each_head_rings() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for scheme in ["http", "ws"] {
        let (bell, endpoint) = (Bell::default(), endpoint(&format!("{scheme}://{address}")));
        bell.hang(|ringer| listen(endpoint, Offer::Unknown, ringer));
        let mut node = serve(&listener).await;
        assert!(!bell.is_live());
        node.send(Message::text(r#"{"jsonrpc":"2.0","id":1,"result":"0x1"}"#)).await.unwrap();
        assert!(rings(&bell).await && bell.is_live());
        assert!(!rings(&bell).await);
        let head =
            r#"{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x1","result":{}}}"#;
        node.send(Message::text(head)).await.unwrap();
        assert!(rings(&bell).await);
        node.send(Message::Ping(Default::default())).await.unwrap();
        assert!(!rings(&bell).await);
        drop(node);
        let mut node = serve(&listener).await;
        node.send(Message::text(r#"{"jsonrpc":"2.0","id":1,"result":"0x2"}"#)).await.unwrap();
        assert!(rings(&bell).await, "heard again after the connection broke");
    }
}

#[tokio::test]
async fn a_node_that_refuses_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = endpoint(&format!("ws://{}", listener.local_addr().unwrap()));
    let node = async { take_in(&listener, "bm90IHRoZSByaWdodCBvbmU=").await };
    let (refused, _node) = tokio::join!(connect(&endpoint), node);
    assert!(matches!(refused, Err(HeadsError::Refused(_))), "{refused:?}");
    let node = crate::testing::FakeNode::start();
    let endpoint = self::endpoint(&node.url);
    timeout(Duration::from_secs(5), listen(endpoint, Offer::Unknown, Ringer::default())).await.unwrap();
}
