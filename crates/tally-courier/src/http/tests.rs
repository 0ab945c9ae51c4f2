use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;

/// A server that reads each request to its end and answers it with `answer`, byte for byte, and then with
/// `filler` again and again, up to 100 times.
async fn server(answer: String, filler: Vec<u8>) -> (u16, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (answer, filler, seen) = (answer.clone(), filler.clone(), seen.clone());
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !complete(&request) {
                    let mut part = [0; 4096];
                    match socket.read(&mut part).await {
                        Ok(read) if read > 0 => request.extend_from_slice(&part[..read]),
                        _ => return,
                    }
                }
                seen.send(String::from_utf8_lossy(&request).into_owned()).ok();
                socket.write_all(answer.as_bytes()).await.ok();
                for _ in 0..if filler.is_empty() { 0 } else { 100 } {
                    if socket.write_all(&filler).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
        }
    });
    (port, requests)
}

/// Whether a request has come with its whole body.
fn complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.trim().parse().unwrap())
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn courier(allow_private: bool) -> HttpCourier {
    let options = CourierOptions { allow_private, timeout: Span::from_millis(800), ..Default::default() };
    HttpCourier::new(&options).unwrap()
}

fn parcel(url: String) -> Parcel {
    Parcel {
        url,
        content_type: "application/x-www-form-urlencoded",
        headers: vec![("webhook-id".into(), "msg_1".into())],
        body: b"a=1&b=2".to_vec(),
    }
}

#[tokio::test]
async fn a_parcel_arrives_as_it_was_packed() {
    let (port, mut requests) = server(ok(" OK\n"), Vec::new()).await;
    let answer = courier(true).post(parcel(format!("http://127.0.0.1:{port}/n?shop=1"))).await.unwrap();
    assert_eq!(answer, Answer { status: 200, body: b" OK\n".to_vec(), retry_after: None });
    let request = requests.recv().await.unwrap();
    assert!(request.starts_with("POST /n?shop=1 HTTP/1.1\r\n"), "{request}");
    for part in ["content-type: application/x-www-form-urlencoded", "webhook-id: msg_1", "\r\n\r\na=1&b=2"] {
        assert!(request.contains(part), "{part} in {request}");
    }
}

#[tokio::test]
async fn redirects_are_answers_and_are_not_followed() {
    let (target, mut followed) = server(ok("ok"), Vec::new()).await;
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{target}/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let (port, _requests) = server(redirect, Vec::new()).await;
    let answer = courier(true).post(parcel(format!("http://127.0.0.1:{port}/"))).await.unwrap();
    assert_eq!(answer.status, 302);
    assert!(followed.try_recv().is_err());
}

#[tokio::test]
async fn of_a_long_answer_only_the_beginning_is_read() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n".to_owned();
    let (port, _requests) = server(head, vec![b'x'; 50_000]).await;
    let answer = courier(true).post(parcel(format!("http://127.0.0.1:{port}/"))).await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, ANSWER_BYTES_MAX));
}

#[tokio::test]
async fn a_slow_answer_is_given_up() {
    let silent = server(String::new(), Vec::new()).await;
    let dripping = server("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n".into(), vec![b'.']).await;
    // The silent one closes after its empty answer; one that never answers at all:
    let stuck = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (name, port, words) in [
        ("closes", silent.0, "broke off"),
        ("drips", dripping.0, "did not answer in time"),
        ("hangs", stuck.local_addr().unwrap().port(), "did not answer in time"),
    ] {
        let error =
            courier(true).post(parcel(format!("http://127.0.0.1:{port}/?secret=1"))).await.unwrap_err();
        let CourierError::Failed(failed) = &error else { panic!("{name}: {error}") };
        assert!(failed.is_transient() && failed.to_string().ends_with(words), "{name}: {error}");
        assert!(!format!("{error:?}").contains("secret"), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn retry_after_is_read() {
    let answer =
        "HTTP/1.1 429 Slow\r\nRetry-After: 90\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned();
    let (port, _requests) = server(answer, Vec::new()).await;
    let answer = courier(true).post(parcel(format!("http://127.0.0.1:{port}/"))).await.unwrap();
    assert_eq!((answer.status, answer.retry_after), (429, Some(Span::from_secs(90))));
}

#[tokio::test]
async fn what_leads_inside_is_refused_and_never_reached() {
    let (port, mut requests) = server(ok("ok"), Vec::new()).await;
    for url in [
        format!("http://127.0.0.1:{port}/?secret=1"),
        format!("http://localhost:{port}/"),
        format!("http://user:secret@localhost:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://0x7f.1:{port}/"),
        format!("http://0:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://[64:ff9b::7f00:1]:{port}/"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "http://10.0.0.1/".to_owned(),
        "https://192.168.0.1/".to_owned(),
        "ftp://example.com/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "mailto:a@example.com".to_owned(),
        "not a url?secret".to_owned(),
        String::new(),
    ] {
        let error = courier(false).post(parcel(url.clone())).await.unwrap_err();
        assert!(matches!(error, CourierError::Refused { .. }), "{url}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    assert!(requests.try_recv().is_err());
}

#[tokio::test]
async fn nobody_there_and_bad_headers_are_failures_of_their_kind() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let error = courier(true).post(parcel(format!("http://127.0.0.1:{free}/"))).await.unwrap_err();
    assert!(error.to_string().ends_with("cannot be reached"), "{error}");
    let mut bad = parcel(format!("http://127.0.0.1:{free}/"));
    bad.headers.push(("bad name".into(), "x".into()));
    let error = courier(true).post(bad).await.unwrap_err();
    assert!(matches!(&error, CourierError::Failed(failed) if !failed.is_transient()), "{error:?}");
}
