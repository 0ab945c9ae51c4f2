//! Rebuild, backup, restore and the daily copy, on a shop that runs.

use std::path::Path;
use std::time::Duration;

use crate::shop::{Book, Shop, sink};
use crate::stand::{Dev, done, signal, write_config};

fn table(config: &Path) -> String {
    done(config, &["order", "export", "--csv"]) + &done(config, &["deposit", "export", "--csv"])
}

/// A running shop with orders in every state.
async fn busy(dev: &Dev, notify_url: &str) -> Book {
    let shop = Shop::new(&dev.said, notify_url);
    let book = Book::default();
    for (number, coin) in ["BTC", "LTC", "BCH", "ETH"].into_iter().cycle().take(16).enumerate() {
        shop.order(&book, &format!("o{number}"), coin, number % 4 != 3).await.expect("an order");
        if number % 5 == 0 {
            assert!(shop.mine(&coin.to_lowercase(), 3).await);
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    book
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_changes_nothing_and_tells_nobody_again() {
    let _alone = crate::stand::alone().await;
    let dir = tempfile::tempdir().unwrap();
    let (data, config) = (dir.path().join("data"), dir.path().join("tally.toml"));
    let dev = Dev::start(&data);
    let (notify_url, told) = sink().await;
    busy(&dev, &notify_url).await;
    write_config(&config, &data, &data, &dev.text("admin"));
    let before = table(&config);
    let notified = told.lock().unwrap().clone();
    assert!(!notified.is_empty());
    for _ in 0..3 {
        done(&config, &["rebuild"]);
    }
    assert_eq!(table(&config), before);
    // Orders go on over the new one, and a restart finds it.
    let shop = Shop::new(&dev.said, &notify_url);
    shop.order(&Book::default(), "after", "BTC", false).await.expect("an order");
    let after = table(&config);
    assert!(after.contains(",after,"));
    dev.stop();
    assert_eq!(table(&config), after, "offline");
    done(&config, &["rebuild"]);
    assert_eq!(table(&config), after, "rebuilt offline");
    let dev = Dev::start(&data);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let again = told.lock().unwrap().clone();
    for (what, times) in &notified {
        assert_eq!(again.get(what), Some(times), "{what:?} was told again");
    }
    dev.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_read_models_and_copies_do_not_stop_a_start() {
    let _alone = crate::stand::alone().await;
    let dir = tempfile::tempdir().unwrap();
    let (data, config) = (dir.path().join("data"), dir.path().join("tally.toml"));
    let dev = Dev::start(&data);
    let (notify_url, told) = sink().await;
    busy(&dev, &notify_url).await;
    write_config(&config, &data, &data, &dev.text("admin"));
    let before = table(&config);
    let notified = told.lock().unwrap().clone();
    dev.kill();
    for store in ["model", "watch-btc"] {
        std::fs::write(data.join(store).join("conf"), b"not what was written").unwrap();
    }
    // As a loss of power may leave the file that was written last: its length, and not what was in it.
    let mut files: Vec<_> =
        std::fs::read_dir(data.join("copy")).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let last = files.last().unwrap();
    let mut bytes = std::fs::read(last).unwrap();
    let end = bytes.len() - 700;
    bytes[end..].fill(0);
    *bytes.last_mut().unwrap() = b'\n';
    std::fs::write(last, bytes).unwrap();
    let dev = Dev::start(&data);
    write_config(&config, &data, &data, &dev.text("admin"));
    let after = table(&config);
    for line in before.lines() {
        assert!(after.contains(line), "{line}");
    }
    // Payments of the chain whose watch set is new are found as before.
    let shop = Shop::new(&dev.said, &notify_url);
    let book = Book::default();
    shop.order(&book, "after", "BTC", true).await.expect("an order");
    let mut status = String::new();
    for _ in 0..100 {
        status =
            shop.query("after").await.expect("an answer").1["status"].as_str().unwrap_or_default().to_owned();
        if status == "paid" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(status, "paid");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let again = told.lock().unwrap().clone();
    for (what, times) in &notified {
        assert_eq!(again.get(what), Some(times), "{what:?} was told again");
    }
    dev.stop();
    // The copy has what was cut off again, and everything since.
    let (whole, restored) = (table(&config), dir.path().join("restored"));
    let from_copy = dir.path().join("copy.toml");
    write_config(&from_copy, &restored, &data, "127.0.0.1:9");
    done(&from_copy, &["restore", "--from", data.join("copy").to_str().unwrap()]);
    assert_eq!(table(&from_copy), whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_and_the_daily_copy_restore_everything() {
    let _alone = crate::stand::alone().await;
    let dir = tempfile::tempdir().unwrap();
    let (data, config) = (dir.path().join("data"), dir.path().join("tally.toml"));
    let dev = Dev::start(&data);
    let (notify_url, _) = sink().await;
    busy(&dev, &notify_url).await;
    write_config(&config, &data, &data, &dev.text("admin"));
    // While orders come in, a backup is of one moment.
    let shop = Shop::new(&dev.said, &notify_url);
    let load = tokio::spawn(async move {
        let book = Book::default();
        for number in 0.. {
            if shop.order(&book, &format!("during-{number}"), "LTC", false).await.is_none() {
                return;
            }
        }
    });
    let backup = dir.path().join("backup");
    let written = done(&config, &["backup", "--to", backup.to_str().unwrap(), "--json"]);
    let written: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert!(written["facts"].as_u64().unwrap() > 50, "{written}");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    // The daily copy has everything a little later, also when the process is killed.
    signal(dev.id(), "KILL");
    drop(dev);
    load.await.unwrap();
    let whole = table(&config);
    for (name, from) in [("backup", backup.clone()), ("copy", data.join("copy"))] {
        let restored = dir.path().join(format!("restored-{name}"));
        let config = dir.path().join(format!("{name}.toml"));
        write_config(&config, &restored, &data, "127.0.0.1:9");
        let report = done(&config, &["restore", "--from", from.to_str().unwrap(), "--json"]);
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        for key in report["keys"].as_array().unwrap() {
            assert!(key["next_index"].as_u64().unwrap() >= 1_000, "{key}");
        }
        let table = table(&config);
        for line in table.lines().filter(|line| !line.contains("during-")) {
            assert!(whole.contains(line), "{name}: {line}");
        }
        if name == "copy" {
            let lines = |text: &str| text.lines().filter(|line| line.contains(",o")).count();
            assert_eq!(lines(&table), lines(&whole), "all that was there a second before the end");
        }
        let again = crate::stand::command(&config, &["restore", "--from", from.to_str().unwrap()]);
        assert!(!again.status.success(), "only into an empty log");
    }
}
