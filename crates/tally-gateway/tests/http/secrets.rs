//! Nothing secret is ever logged, whatever goes wrong.

use std::io;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use crate::world::{Fields, TOKEN, World};

/// Everything that was logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn nothing_secret_is_logged() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(lines.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let world = World::new().await;
    let private = "tprv8ZgxMBicQKsPe5YMU9gHen4Ez3ApihUfykaqUorj9t6FDqy3nP6eoXiAo2ssvpAjoLroQxHqr3R5nE3a5dU3DHTjTgJDd7zrbniJr6nrCzd";
    let wallets = format!("/v1/admin/merchants/{}/wallets", world.merchant);
    let body = json!({ "chain": "btc", "public_key": private });
    world.admin("POST", &wallets, body).await.refused(422, "OrderIsNotValid");
    let signed = Fields::order("E1").set("email", "payer@example.com").signed(world.merchant, &world.key);
    world.log.fail_appends(1);
    world.send("/order/create", &signed).await.refused(503, "ServiceUnavailable");
    assert_eq!(world.send("/order/create", &signed).await.status, 200);
    let wrong = signed.clone().set("title", "other");
    world.send("/order/create", &wrong).await.refused(401, "BadCredentials");
    world.log.fail_appends(1);
    let revoke = format!("/v1/admin/merchants/{}/keys/1", world.merchant);
    world.admin("DELETE", &revoke, Value::Null).await.refused(503, "ServiceUnavailable");
    drop(guard);
    let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("a port failed"), "{logged}");
    let sign = &signed.0.last().unwrap().1;
    for secret in [world.key.as_str(), sign, TOKEN, private, &private[..12], "payer@example.com"] {
        assert!(!logged.contains(secret), "{logged}");
    }
}
