use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::*;

/// A mail server for one mail: says `answer` to the recipient and returns what it was sent.
async fn server(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let (read, mut write) = socket.into_split();
        let mut read = BufReader::new(read);
        let mut all = String::new();
        write.write_all(b"220 test\r\n").await.unwrap();
        let mut in_data = false;
        loop {
            let mut line = String::new();
            if read.read_line(&mut line).await.unwrap_or(0) == 0 {
                break;
            }
            all.push_str(&line);
            let reply = match (in_data, line.split_whitespace().next().unwrap_or_default()) {
                (true, ".") => {
                    in_data = false;
                    "250 kept"
                }
                (true, _) => continue,
                (_, "RCPT") => answer,
                (_, "DATA") => {
                    in_data = true;
                    "354 go on"
                }
                (_, "QUIT") => "221 bye",
                _ => "250 fine",
            };
            if write.write_all(format!("{reply}\r\n").as_bytes()).await.is_err() {
                break;
            }
            if !in_data && reply == "250 kept" || !answer.starts_with("250") && reply == answer {
                break;
            }
        }
        all
    });
    (port, task)
}

fn options(port: u16) -> SmtpOptions {
    SmtpOptions {
        host: "127.0.0.1".into(),
        port,
        tls: SmtpTls::None,
        credentials: None,
        from: "Shop <shop@example.com>".into(),
        timeout: Span::from_secs(5),
    }
}

fn mail() -> Mail {
    Mail { to: "payer@example.org".into(), subject: "Bezahlt: Tee für zwei".into(), text: "Danke.\n".into() }
}

#[tokio::test]
async fn a_mail_reaches_the_server_whole() {
    let (port, task) = server("250 fine").await;
    SmtpMailer::new(&options(port)).unwrap().send(mail()).await.unwrap();
    let seen = task.await.unwrap();
    for part in
        ["MAIL FROM:<shop@example.com>", "RCPT TO:<payer@example.org>", "Message-ID:", "Date:", "Danke."]
    {
        assert!(seen.contains(part), "{part} in {seen}");
    }
    assert!(seen.contains("Subject: ") && !seen.contains("für"), "the subject is encoded");
}

#[tokio::test]
async fn a_refusal_is_persistent_and_a_full_server_is_not() {
    for (answer, transient) in [("550 no such user", false), ("451 later", true)] {
        let (port, task) = server(answer).await;
        let error = SmtpMailer::new(&options(port)).unwrap().send(mail()).await.unwrap_err();
        assert_eq!(error.is_transient(), transient, "{answer}");
        assert!(!error.to_string().contains("payer"), "{error}");
        task.abort();
    }
    let error = SmtpMailer::new(&options(1)).unwrap().send(mail()).await.unwrap_err();
    assert!(error.is_transient());
}

#[tokio::test]
async fn nonsense_is_refused_before_anything_is_sent() {
    let bad = SmtpOptions { from: "nobody".into(), ..options(1) };
    assert!(!SmtpMailer::new(&bad).unwrap_err().is_transient());
    let clear = SmtpOptions {
        host: "mail.example.com".into(),
        credentials: Some(("user".into(), "hunter2".into())),
        ..options(25)
    };
    assert!(SmtpMailer::new(&clear).is_err());
    assert!(!format!("{clear:?}").contains("hunter2"));
    let injected = Mail { to: "a@example.org\r\nRCPT TO:<b@example.org>".into(), ..mail() };
    assert!(!SmtpMailer::new(&options(1)).unwrap().send(injected).await.unwrap_err().is_transient());
}
