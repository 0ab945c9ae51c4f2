//! Rounds of SIGKILL at random instants under load, on the embedded log and on NATS.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use tally_ports::Entropy;
use tally_testkit::SeededEntropy;

use crate::shop::{Acknowledged, Book, Shop, reading_sink};
use crate::stand::{Dev, done, setting, write_config};

/// Orders at a time.
const CLIENTS: usize = 12;
/// What orders are paid in.
const COINS: [&str; 3] = ["BTC", "LTC", "ETH"];
/// How long everything may take to settle in the end.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_is_doubled() {
    let _alone = crate::stand::alone().await;
    let dir = tempfile::tempdir().unwrap();
    rounds(dir.path(), 20, &[], async |dev, _, random| {
        tokio::time::sleep(Duration::from_millis(150 + random.below(1_200))).await;
        dev.kill();
    })
    .await;
}

#[cfg(feature = "real-nodes")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_is_doubled_on_nats() {
    let _alone = crate::stand::alone().await;
    let dir = tempfile::tempdir().unwrap();
    let server = std::sync::Mutex::new(crate::nats::Server::start(dir.path()));
    let settings = server.lock().unwrap().settings();
    rounds(dir.path(), 10, &settings, async |dev, round, random| {
        tokio::time::sleep(Duration::from_millis(150 + random.below(1_200))).await;
        match round % 3 {
            // The product alone.
            0 => dev.kill(),
            // Both at once: what was acknowledged is on the server's disk.
            1 => {
                server.lock().unwrap().kill();
                dev.kill();
                server.lock().unwrap().again();
            }
            // The server under it, which comes back while it runs, and then the product.
            _ => {
                server.lock().unwrap().kill();
                tokio::time::sleep(Duration::from_millis(random.below(500))).await;
                server.lock().unwrap().again();
                tokio::time::sleep(Duration::from_millis(random.below(1_500))).await;
                dev.kill();
            }
        }
    })
    .await;
}

/// Rounds of orders, each of which ends as `end` says: with the product killed.
async fn rounds(
    dir: &std::path::Path,
    rounds: u64,
    settings: &[(String, String)],
    end: impl AsyncFn(Dev, u64, &SeededEntropy),
) {
    let rounds = setting("TALLY_CHAOS_ROUNDS", rounds);
    let seed = setting("TALLY_CHAOS_SEED", 7);
    println!("{rounds} rounds, seed {seed}");
    let random = SeededEntropy::new(seed);
    let data = dir.join("data");
    let (notify_url, told, versions) = reading_sink().await;
    let book = Book::default();
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let dev = Dev::start_with(&data, settings);
        slowest = slowest.max(dev.ready_after);
        let shop = Shop::new(&dev.said, &notify_url);
        versions.lock().unwrap().reader = Some(shop.clone());
        let before = book.lock().unwrap().clone();
        check_some(&shop, &before, &random).await;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (shop, book) = (shop.clone(), book.clone());
                tokio::spawn(async move {
                    for number in 0.. {
                        let own_id = format!("r{round}-c{client}-{number}");
                        let coin = COINS[(client + number) % COINS.len()];
                        if shop.order(&book, &own_id, coin, number % 3 != 0).await.is_none() {
                            return;
                        }
                        if client == 0 {
                            shop.mine(&coin.to_lowercase(), 1).await;
                        }
                    }
                })
            })
            .collect();
        end(dev, round, &random).await;
        for client in clients {
            client.await.unwrap();
        }
        assert_eq!(versions.lock().unwrap().wrong, Vec::<String>::new(), "round {round}");
    }
    let dev = Dev::start_with(&data, settings);
    let shop = Shop::new(&dev.said, &notify_url);
    versions.lock().unwrap().reader = Some(shop.clone());
    let known = book.lock().unwrap().clone();
    let acknowledged = known.values().filter(|order| order.order.is_some()).count();
    println!("{} orders, {acknowledged} acknowledged, slowest start {slowest:?}", known.len());
    assert!(acknowledged as u64 > rounds, "there was load");
    for (own_id, order) in &known {
        check(&shop, own_id, order).await;
    }
    settle(&shop, &known).await;
    let told = told.lock().unwrap().clone();
    for (own_id, _) in known.iter().filter(|(_, order)| order.paid) {
        assert!(
            told.contains_key(&(own_id.clone(), "complete".into())),
            "{own_id} was told complete: {told:?}"
        );
    }
    let last = versions.lock().unwrap().last();
    println!("{} orders were notified of", last.len());
    for (own_id, version) in last {
        let (status, answer) = shop.query(&own_id).await.expect("an answer");
        let read = answer["version"].as_u64();
        assert!(status == 200 && read >= Some(version), "{own_id} was told in version {version}: {answer}");
    }
    assert_eq!(versions.lock().unwrap().wrong, Vec::<String>::new());
    check_tables(&dev, dir, &known);
    dev.stop();
}

/// Some of what was acknowledged in the rounds before.
async fn check_some(shop: &Shop, known: &BTreeMap<String, Acknowledged>, random: &SeededEntropy) {
    let all: Vec<_> = known.iter().collect();
    for _ in 0..20.min(all.len()) {
        let mut byte = [0; 8];
        random.fill(&mut byte);
        let (own_id, order) = all[(u64::from_be_bytes(byte) % all.len() as u64) as usize];
        check(shop, own_id, order).await;
    }
}

/// An order is what was acknowledged, and the same request again makes no other.
async fn check(shop: &Shop, own_id: &str, order: &Acknowledged) {
    let (status, again) = shop.create(own_id).await.expect("an answer");
    assert_eq!(status, 200, "{own_id}: {again}");
    if let Some(id) = &order.order {
        assert_eq!(again["transaction_id"], **id, "{own_id} is one order");
    }
    if let Some(address) = &order.address {
        let (status, answer) = shop.query(own_id).await.expect("an answer");
        assert_eq!(status, 200, "{own_id}: {answer}");
        assert_eq!(answer["payment_address"], **address, "{own_id}");
    }
}

/// Every paid order becomes complete, with what was paid for it and no more.
async fn settle(shop: &Shop, known: &BTreeMap<String, Acknowledged>) {
    let mut open: Vec<_> = known.iter().filter(|(_, order)| order.paid).collect();
    let begin = Instant::now();
    while !open.is_empty() {
        assert!(
            begin.elapsed() < SETTLED_WITHIN,
            "{} paid orders are not complete: {:?}",
            open.len(),
            open[0]
        );
        for coin in COINS {
            shop.mine(&coin.to_lowercase(), 3).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut left = Vec::new();
        for (own_id, order) in open {
            let (_, answer) = shop.query(own_id).await.expect("an answer");
            if answer["status"] == "complete" {
                // In a query the amount is what was asked for; what came is checked against the table of deposits.
                assert_eq!(Some(answer["pay_amount"].to_string()), order.amount, "{own_id}: {answer}");
            } else {
                left.push((own_id, order));
            }
        }
        open = left;
    }
}

/// The tables have each order and each payment once, at an address of its own.
fn check_tables(dev: &Dev, dir: &std::path::Path, known: &BTreeMap<String, Acknowledged>) {
    let config = dir.join("tally.toml");
    write_config(&config, &dir.join("data"), &dir.join("data"), &dev.text("admin"));
    let orders = done(&config, &["order", "export", "--csv"]);
    let mut own_ids = HashSet::new();
    let mut addresses = HashSet::new();
    for line in orders.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        assert!(own_ids.insert(fields[3].to_owned()), "{line}: two orders of one own id");
        assert!(
            fields[11].is_empty() || addresses.insert(fields[11].to_owned()),
            "{line}: two at one address"
        );
    }
    for own_id in known.keys() {
        assert!(own_ids.contains(own_id), "{own_id}");
    }
    let deposits = done(&config, &["deposit", "export", "--csv"]);
    let mut paid = HashSet::new();
    let mut of_order: BTreeMap<String, u32> = BTreeMap::new();
    for line in deposits.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        assert!(
            paid.insert((fields[4].to_owned(), fields[5].to_owned(), fields[6].to_owned())),
            "{line}: twice"
        );
        *of_order.entry(fields[2].to_owned()).or_default() += 1;
    }
    for (own_id, order) in known {
        let count = of_order.get(own_id).copied().unwrap_or(0);
        // A payment whose answer was cut off may have been made all the same.
        assert!(if order.paid { count == 1 } else { count <= 1 }, "{own_id} has {count} deposits");
    }
}
