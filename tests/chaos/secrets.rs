//! Secrets are planted and used, then looked for in everything that the product leaves behind.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::shop::{Book, Shop, sink};
use crate::stand::{Dev, done, write_config};

/// Every file below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// The files below `dir` that hold `text`, in any case, also as hexadecimal digits of its bytes.
fn holding(dir: &Path, text: &str) -> Vec<PathBuf> {
    let bytes = text.to_ascii_lowercase().into_bytes();
    let decoded = (0..text.len() / 2).map(|at| u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok());
    let decoded: Option<Vec<u8>> = decoded.collect();
    let holds = |path: &PathBuf| {
        let mut content = std::fs::read(path).unwrap();
        let raw = decoded.as_ref().filter(|raw| raw.len() >= 8).is_some_and(|raw| contains(&content, raw));
        content.make_ascii_lowercase();
        raw || contains(&content, &bytes)
    };
    files(dir).into_iter().filter(holds).collect()
}

fn contains(content: &[u8], part: &[u8]) -> bool {
    content.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_and_no_mail_address_is_left_anywhere() {
    let _alone = crate::stand::alone().await;
    let dir = tempfile::tempdir().unwrap();
    nothing_is_left(dir.path(), &[], "data/log", &[]).await;
}

#[cfg(feature = "real-nodes")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_and_no_mail_address_is_left_anywhere_on_nats() {
    const PASSWORD: &str = "planted-nats-password";
    let _alone = crate::stand::alone().await;
    let dir = tempfile::tempdir().unwrap();
    let server = crate::nats::Server::start_for(dir.path(), Some(("tally", PASSWORD)));
    let planted = ("the password at the NATS server", PASSWORD.to_owned());
    nothing_is_left(dir.path(), &server.settings(), "nats", &[planted]).await;
}

/// `log` is where the log lies, below `dir`.
async fn nothing_is_left(dir: &Path, settings: &[(String, String)], log: &str, more: &[(&str, String)]) {
    let mut settings = settings.to_vec();
    settings.push(("TALLY_ARCHIVE_DIR".to_owned(), dir.join("data/archive").display().to_string()));
    let (data, config) = (dir.join("data"), dir.join("tally.toml"));
    let dev = Dev::start_with(&data, &settings);
    let (notify_url, _) = sink().await;
    let shop = Shop::new(&dev.said, &notify_url);
    let book = Book::default();
    for (number, coin) in ["BTC", "LTC", "BCH", "ETH"].into_iter().enumerate() {
        shop.order(&book, &format!("planted-{number}"), coin, true).await.expect("an order");
        assert!(shop.mine(&coin.to_lowercase(), 8).await);
    }
    // Half a year and more: what is closed goes into the archive.
    for days in [2, 92, 100] {
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(shop.advance(&format!("{days}d")).await, "{days}");
    }
    let archive = data.join("archive");
    for _ in 0..600 {
        if archive.exists() && !holding(&archive, "planted-1").is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let read = |name: &str| std::fs::read_to_string(data.join(name)).unwrap().trim().to_owned();
    write_config(&config, &data, &data, &dev.text("admin"));
    let made = done(&config, &["key", "create", "--merchant", "10001", "--json"]);
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    done(&config, &["rebuild"]);
    let backup = dir.join("backup");
    done(&config, &["backup", "--to", backup.to_str().unwrap()]);
    let secrets = [
        ("the master key", read("master.key")),
        ("the admin token", read("admin.token")),
        ("the DeePay key", dev.text("api_key")),
        ("the Payscrypt key", dev.text("payscrypt_api_key")),
        ("a key made over the command line", made["api_key"].as_str().unwrap().to_owned()),
        ("a customer's mail address", "plant.ed@customer.example".to_owned()),
        ("the name in it", "plant.ed".to_owned()),
    ];
    let said = wrong_words(&dev, &shop, &secrets).await;
    dev.stop();
    std::fs::write(dir.join("answers"), said).unwrap();
    // Where they are kept on purpose, readable by their owner only.
    for kept in ["data/master.key", "data/admin.token", "data/demo.json", "nats.conf"] {
        let kept = dir.join(kept);
        assert!(!kept.exists() || std::fs::remove_file(&kept).is_ok(), "{}", kept.display());
    }
    for (place, name) in [
        (&dir.join(log), "the log"),
        (&data.join("copy"), "the copy"),
        (&archive, "the archive"),
        (&backup, "the backup"),
    ] {
        assert!(
            !holding(place, "planted-1").is_empty(),
            "{name} holds what is no secret, so the search works"
        );
    }
    for (name, secret) in secrets.iter().chain(more) {
        assert!(secret.len() >= 8, "{name}");
        let found = holding(dir, secret);
        assert!(found.is_empty(), "{name} is in {found:?}");
    }
}

/// What is answered to those who say secrets where they do not belong.
async fn wrong_words(dev: &Dev, shop: &Shop, secrets: &[(&str, String)]) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let (http, admin) = (dev.text("http"), dev.text("admin"));
    let mut said = String::new();
    for (_, secret) in secrets {
        let field = |name: &str| vec![(name.to_owned(), secret.clone())];
        let mut requests = vec![
            client.post(format!("{http}/order/query")).form(&field("sign")),
            client.post(format!("{http}/order/create")).body(secret.clone()),
            client.get(format!("{http}/order/{secret}")),
            client.get(format!("{admin}/v1/admin/merchants")).bearer_auth(format!("{secret}-not")),
        ];
        requests.extend(
            ["merchant_id", "sign_type", "email"]
                .map(|name| client.post(format!("{http}/order/checkout")).form(&field(name))),
        );
        for request in requests {
            let answer = request.send().await.unwrap();
            assert!(!answer.status().is_success());
            said.push_str(&answer.text().await.unwrap());
        }
    }
    // An address that is none, in a request that is signed.
    let (status, answer) =
        shop.checkout_for("planted-1", "BTC", "plant.ed@customer").await.expect("an answer");
    assert_eq!(status, 422, "{answer}");
    said + &answer.to_string()
}
