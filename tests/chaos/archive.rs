//! Orders that were closed long ago leave the log of a running product, which is killed while it moves them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::shop::{Book, Shop, sink};
use crate::stand::{Dev, done, write_config};

/// How long moving may take.
const MOVED_WITHIN: Duration = Duration::from_secs(60);

fn archive(config: &Path) -> Value {
    serde_json::from_str(&done(config, &["archive", "--json"])).unwrap()
}

fn table(config: &Path) -> String {
    done(config, &["order", "export", "--csv"]) + &done(config, &["deposit", "export", "--csv"])
}

async fn wait_moved(config: &Path, orders: u64) -> Value {
    let begin = Instant::now();
    loop {
        let now = archive(config);
        if now["orders"].as_u64() >= Some(orders) && now["purged_through"] == now["segments"] {
            return now;
        }
        assert!(begin.elapsed() < MOVED_WITHIN, "{now}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The orders that an archive's files name.
fn archived(dir: &Path) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            let text = std::fs::read_to_string(path).unwrap();
            let head: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
            let orders = head["index"]["orders"].as_array().unwrap().iter();
            ids.extend(orders.map(|order| order["order"].as_str().unwrap().to_owned()));
        }
    }
    ids
}

async fn moves(dir: &Path, settings: &[(String, String)]) {
    let (data, config) = (dir.join("data"), dir.join("tally.toml"));
    let mut settings = settings.to_vec();
    settings.push(("TALLY_ARCHIVE_AFTER".to_owned(), "180d".to_owned()));
    settings.push(("TALLY_ARCHIVE_DIR".to_owned(), data.join("archive").display().to_string()));
    let (notify_url, told) = sink().await;
    let dev = Dev::start_with(&data, &settings);
    let shop = Shop::new(&dev.said, &notify_url);
    let book = Book::default();
    for (number, coin) in ["BTC", "LTC", "ETH"].into_iter().cycle().take(24).enumerate() {
        shop.order(&book, &format!("old-{number}"), coin, number % 3 == 0).await.expect("an order");
    }
    for coin in ["btc", "ltc", "eth"] {
        assert!(shop.mine(coin, 8).await);
    }
    // Half a year and more, in steps: paid ones become complete, others expire, all are unwatched after 90 days.
    for days in [2, 92, 100] {
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(shop.advance(&format!("{days}d")).await, "{days}");
    }
    let admin = dev.text("admin");
    write_config(&config, &data, &data, &admin);
    // Killed as soon as the first file is there, wherever that is in the course of it.
    let begin = Instant::now();
    while !data.join("archive").join("segment-00000001.jsonl").exists() {
        assert!(begin.elapsed() < MOVED_WITHIN, "nothing was archived");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    dev.kill();
    let dev = Dev::start_with(&data, &settings);
    let shop = Shop::new(&dev.said, &notify_url);
    write_config(&config, &data, &data, &dev.text("admin"));
    let known = book.lock().unwrap().clone();
    // The demo's own order of the first start goes, too.
    let moved = wait_moved(&config, 25).await;
    let all = moved["orders"].as_u64().unwrap();
    let ids = archived(&data.join("archive"));
    assert_eq!(ids.len() as u64, all, "each once: {moved}");
    let missing: Vec<_> =
        known.values().filter(|known| !ids.contains(known.order.as_ref().unwrap())).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let before = table(&config);
    // Still answered, still the same for the same own id, and the same after a rebuild from archive and log.
    for (own_id, order) in &known {
        let (status, answer) = shop.query(own_id).await.expect("an answer");
        assert_eq!(status, 200, "{own_id}: {answer}");
        let (status, again) = shop.create(own_id).await.expect("an answer");
        assert_eq!((status, again["transaction_id"].as_str()), (200, order.order.as_deref()), "{own_id}");
    }
    let notified = told.lock().unwrap().clone();
    done(&config, &["rebuild"]);
    assert_eq!(table(&config), before, "rebuilt");
    assert_eq!(*told.lock().unwrap(), notified, "nobody was told again");
    // A backup has what left the log; what is restored from it archives again what it says was archived.
    let backup = dir.join("backup");
    done(&config, &["backup", "--to", backup.to_str().unwrap()]);
    dev.stop();
    // And so does the daily copy alone, which was written before anything left the log.
    for (name, from) in [("backup", backup), ("copy", data.join("copy"))] {
        restores(dir, name, &from, &before, all);
    }
}

/// The embedded log of another data folder, filled from a backup or a copy, of whichever log.
fn restores(dir: &Path, name: &str, from: &Path, before: &str, all: u64) {
    let (data, config) = (dir.join(format!("restored-{name}")), dir.join(format!("restored-{name}.toml")));
    write_config(&config, &data, &dir.join("data"), "127.0.0.1:9");
    let report = done(&config, &["restore", "--from", from.to_str().unwrap(), "--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["archive_segments"], archive(&config)["segments"], "{report}");
    assert_eq!(archive(&config)["orders"], all);
    assert_eq!(archive(&config)["purged_through"], 0, "the restored log has everything yet");
    assert_eq!(table(&config), before, "restored from the {name}");
    // Damage is found, and said.
    let path = data.join("archive").join("segment-00000001.jsonl");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let refused = crate::stand::command(&config, &["archive"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("is damaged"), "{said}");
    let rebuilt = crate::stand::command(&config, &["rebuild"]);
    let said = String::from_utf8_lossy(&rebuilt.stderr).into_owned();
    assert!(!rebuilt.status.success() && said.contains("is damaged"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_orders_leave_the_log_whatever_is_killed() {
    let _alone = crate::stand::alone().await;
    let dir = tempfile::tempdir().unwrap();
    moves(dir.path(), &[]).await;
}

#[cfg(feature = "real-nodes")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_orders_leave_the_log_on_nats_whatever_is_killed() {
    let _alone = crate::stand::alone().await;
    let dir = tempfile::tempdir().unwrap();
    let server = crate::nats::Server::start(dir.path());
    moves(dir.path(), &server.settings()).await;
}
