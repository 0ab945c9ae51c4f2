//! Whether the servers sync before they answer.

use std::collections::HashSet;
use std::time::Duration;

use serde::Deserialize;

/// How long a server's monitoring has to answer.
const MONITOR_WAIT: Duration = Duration::from_secs(3);

/// What is known of whether "appended" means "on disk".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Durability {
    /// As many servers as there are replicas say that they sync before they answer.
    Verified,
    /// It is not known, or known to be not so: why, and what to do.
    Unverified(String),
}

#[derive(Deserialize)]
struct Varz {
    server_id: String,
    #[serde(default)]
    jetstream: JetStream,
}

#[derive(Default, Deserialize)]
struct JetStream {
    #[serde(default)]
    config: Config,
}

#[derive(Default, Deserialize)]
struct Config {
    #[serde(default)]
    sync_always: bool,
}

impl Durability {
    /// Sets the metric, and warns.
    pub(super) fn note(&self) {
        crate::note_durability(*self == Self::Verified);
        if let Self::Unverified(why) = self {
            tracing::warn!(why, "an append may be lost when the power of a NATS server fails");
        }
    }
}

/// Asks each monitor.
pub(super) async fn verify(monitors: &[String], replicas: usize) -> Durability {
    if monitors.is_empty() {
        return Durability::Unverified(
            "no `monitor` is configured, so that `sync_interval: always` cannot be seen".to_owned(),
        );
    }
    let mut servers = HashSet::new();
    for monitor in monitors {
        match ask(monitor).await {
            Ok(Varz { server_id, jetstream }) if jetstream.config.sync_always => {
                servers.insert(server_id);
            }
            Ok(_) => {
                return Durability::Unverified(format!(
                    "the server behind {monitor} answers before it syncs: set `sync_interval: always` in its `jetstream` block"
                ));
            }
            Err(error) => {
                let error = error.without_url();
                return Durability::Unverified(format!("{monitor} does not answer: {error}"));
            }
        }
    }
    if servers.len() < replicas {
        return Durability::Unverified(format!(
            "only {} of {replicas} servers with replicas have a `monitor` configured",
            servers.len()
        ));
    }
    Durability::Verified
}

async fn ask(monitor: &str) -> Result<Varz, reqwest::Error> {
    let client = reqwest::Client::builder().timeout(MONITOR_WAIT).build()?;
    let url = format!("{}/varz", monitor.trim_end_matches('/'));
    client.get(url).send().await?.error_for_status()?.json().await
}
