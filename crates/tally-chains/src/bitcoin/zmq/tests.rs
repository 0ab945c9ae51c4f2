use tokio::net::TcpListener;

use super::*;
use crate::endpoint::endpoints;
use crate::testing::settings;
use crate::wake::Bell;

/// Takes a subscriber in as libzmq 4 does.
async fn take_in(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut greeting = [0; 64];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!((greeting[0], greeting[9], &greeting[10..17]), (0xff, 0x7f, &b"\x03\0NULL\0"[..]));
    assert!(greeting[16..].iter().all(|byte| *byte == 0));
    greeting[11] = 1;
    stream.write_all(&greeting).await.unwrap();
    let (flags, ready) = frame(&mut stream).await.unwrap();
    assert_eq!((flags, ready.as_slice()), (COMMAND, &b"\x05READY\x0bSocket-Type\0\0\0\x03SUB"[..]));
    send(&mut stream, COMMAND, b"\x05READY\x0bSocket-Type\0\0\0\x03PUB\x08Identity\0\0\0\0").await.unwrap();
    assert_eq!(frame(&mut stream).await.unwrap(), (0, b"\x01hashblock".to_vec()));
    stream
}

async fn publish(stream: &mut TcpStream, topic: &[u8], long: bool) {
    send(stream, MORE, topic).await.unwrap();
    if long {
        let head = [&[MORE | LONG], &32_u64.to_be_bytes()[..], &[7; 32]].concat();
        stream.write_all(&head).await.unwrap();
    } else {
        send(stream, MORE, &[7; 32]).await.unwrap();
    }
    send(stream, 0, &[0; 4]).await.unwrap();
}

async fn rings(bell: &Bell) -> bool {
    timeout(Duration::from_millis(500), bell.rung()).await.is_ok()
}

#[tokio::test]
async fn each_block_rings_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, bell) = (listener.local_addr().unwrap().to_string(), Bell::default());
    bell.hang(|ringer| listen(address, ringer));
    let mut node = take_in(&listener).await;
    assert!(rings(&bell).await, "once when it begins to hear");
    assert!(bell.is_live());
    for long in [false, true] {
        publish(&mut node, TOPIC, long).await;
        assert!(rings(&bell).await);
    }
    publish(&mut node, b"hashtx", false).await;
    send(&mut node, COMMAND, b"\x04PING\0\0").await.unwrap();
    assert!(!rings(&bell).await);
    drop(node);
    let mut node = take_in(&listener).await;
    assert!(rings(&bell).await);
    publish(&mut node, TOPIC, false).await;
    assert!(rings(&bell).await, "heard again after the connection broke");
}

#[tokio::test]
async fn what_does_not_speak_zmtp_is_left() {
    for (name, said) in [
        ("something else", vec![b'x'; 64]),
        ("an older version", [&[0xff; 1][..], &[0; 8], &[0x7f, 1], &[0; 53]].concat()),
        ("with passwords", [&[0xff][..], &[0; 8], &[0x7f, 3, 0], b"PLAIN", &[0; 47]].concat()),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let node = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&said).await.unwrap();
            stream
        };
        let (outcome, _node) = tokio::join!(connect(&address), node);
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::InvalidData, "{name}");
    }
}

#[test]
fn addresses_are_reached_where_the_node_is() {
    for (node, address, expected) in [
        ("http://10.0.0.5:8332", "tcp://0.0.0.0:28332", Some("10.0.0.5:28332")),
        ("http://10.0.0.5:8332", "tcp://*:28332", Some("10.0.0.5:28332")),
        ("http://10.0.0.5:8332", "tcp://10.0.0.6:28332", Some("10.0.0.6:28332")),
        ("http://10.0.0.5:8332", "tcp://127.0.0.1:28332", None),
        ("http://127.0.0.1:8332", "tcp://127.0.0.1:28332", Some("127.0.0.1:28332")),
        ("http://127.0.0.1:8332", "ipc:///tmp/zmq", None),
    ] {
        let keys = format!(r#"{{"id": "btc", "kind": "bitcoin", "rpc": [{{"url": "{node}"}}]}}"#);
        let endpoint = endpoints(&settings(&keys), &["http"]).unwrap().remove(0);
        assert_eq!(reachable(address, &endpoint).as_deref(), expected, "{node} {address}");
    }
}
