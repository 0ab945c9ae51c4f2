//! The logs: embedded or on NATS, with the leases and the public subjects that go with them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tally_events::Epoch;
use tally_log::LogName;
use tally_log::archive::{ArchivedLog, FileArchive};
use tally_log::copy::Restorable;
use tally_log::embedded::Embedded;
use tally_log::nats::{Nats, NatsSettings};
use tally_ports::{Clock, EventLog, Lease, PortError, Publisher, Purge};

use crate::config::{Config, ConfigError, LogConfig, LogKind, PublishConfig};

/// What sled may cache of the embedded log.
const LOG_CACHE: u64 = 128 * 1024 * 1024;

/// How long NATS servers may take to agree on a leader at the start, and the pause between two questions.
const QUORUM_WITHIN: Duration = Duration::from_secs(20);
const QUORUM_PAUSE: Duration = Duration::from_millis(500);

/// How we are named on a NATS server.
const CLIENT_NAME: &str = "tallystick";

/// The logs of an installation.
pub(crate) struct Logs {
    /// Every fact that a fold reads, those included that were moved into the archive.
    pub(crate) main: Arc<dyn EventLog>,
    /// The same log without its archive, to move facts out of it.
    pub(crate) purge: Arc<dyn Purge>,
    /// Where they go.
    pub(crate) archive: FileArchive,
    /// The rates as they were published.
    pub(crate) rates: Arc<dyn EventLog>,
    /// The same log, to be filled from a copy.
    pub(crate) restorable: Arc<dyn Restorable>,
    /// Leases.
    pub(crate) lease: Arc<dyn Lease>,
    /// Where the public subjects go.
    pub(crate) publisher: Option<Arc<dyn Publisher>>,
    ground: Ground,
}

/// What the logs stand on.
enum Ground {
    Embedded(Embedded),
    Nats(Nats),
}

impl Logs {
    pub(crate) async fn open(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        match config.log.kind {
            LogKind::Embedded => Self::embedded(config, clock).await,
            LogKind::Nats => Self::nats(config).await,
        }
    }

    async fn embedded(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let publisher: Option<Arc<dyn Publisher>> = match publish_settings(&config.publish)? {
            Some(settings) => {
                let nats = connect("publish.nats", settings).await?;
                Some(Arc::new(nats.publisher().await.map_err(|error| refused("publish.nats", error))?))
            }
            None => None,
        };
        let dir = config.data_dir.join("log");
        let embedded = tokio::task::spawn_blocking(move || Embedded::open(&dir, LOG_CACHE)).await??;
        let main = Arc::new(embedded.log(LogName::Main));
        let archive = FileArchive::new(config.archive.dir(&config.data_dir));
        Ok(Self {
            restorable: main.clone(),
            purge: main.clone(),
            main: Arc::new(ArchivedLog::new(main, archive.clone())),
            archive,
            rates: Arc::new(embedded.log(LogName::Rates)),
            lease: Arc::new(embedded.lease(clock)),
            publisher,
            ground: Ground::Embedded(embedded),
        })
    }

    async fn nats(config: &Config) -> anyhow::Result<Self> {
        let nats = connect("log.url", log_settings(&config.log)?).await?;
        let fault = |error| refused("log.url", error);
        let main = Arc::new(patiently(async || nats.log(LogName::Main).await).await.map_err(fault)?);
        let archive = FileArchive::new(config.archive.dir(&config.data_dir));
        Ok(Self {
            restorable: main.clone(),
            purge: main.clone(),
            main: Arc::new(ArchivedLog::new(main, archive.clone())),
            archive,
            rates: Arc::new(patiently(async || nats.log(LogName::Rates).await).await.map_err(fault)?),
            lease: Arc::new(patiently(async || nats.lease().await).await.map_err(fault)?),
            publisher: Some(Arc::new(patiently(async || nats.publisher().await).await.map_err(fault)?)),
            ground: Ground::Nats(nats),
        })
    }

    /// Lifts the leases' epochs above those of facts that were restored.
    pub(crate) async fn raise_epochs(&self, floor: Epoch) -> Result<(), PortError> {
        match &self.ground {
            Ground::Embedded(embedded) => embedded.raise_epochs(floor).await,
            Ground::Nats(nats) => nats.raise_epochs(floor).await,
        }
    }
}

/// Tries again what may pass by itself: servers that start together with us have no quorum for some seconds.
async fn patiently<T>(make: impl AsyncFn() -> Result<T, PortError>) -> Result<T, PortError> {
    let end = tokio::time::Instant::now() + QUORUM_WITHIN;
    loop {
        match make().await {
            Err(error) if error.is_transient() && tokio::time::Instant::now() < end => {
                tracing::warn!(%error, "NATS is not ready yet");
                tokio::time::sleep(QUORUM_PAUSE).await;
            }
            made => return made,
        }
    }
}

async fn connect(key: &str, settings: NatsSettings) -> anyhow::Result<Nats> {
    Nats::connect(settings).await.map_err(|error| refused(key, error))
}

/// What a person must change is a fault of the configuration; what may pass is not.
fn refused(key: &str, error: PortError) -> anyhow::Error {
    if error.is_transient() {
        anyhow::Error::from(error).context(format!("{key}: NATS cannot be used"))
    } else {
        ConfigError::new(key, error).into()
    }
}

fn log_settings(config: &LogConfig) -> anyhow::Result<NatsSettings> {
    let credentials =
        config.credentials.as_ref().map(|secret| secret.resolve("log.credentials")).transpose()?;
    let tls_client = match (&config.tls.cert, &config.tls.key) {
        (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
        (None, None) => None,
        _ => return Err(ConfigError::new("log.tls", "cert and key go together").into()),
    };
    Ok(NatsSettings {
        urls: config.url.clone(),
        credentials,
        tls_ca: config.tls.ca.clone(),
        tls_client,
        tls_required: config.tls.required,
        replicas: config.replicas.unwrap_or(1),
        monitors: config.monitor.iter().map(|url| url.trim_end_matches('/').to_owned()).collect(),
        client_name: CLIENT_NAME.to_owned(),
    })
}

fn publish_settings(config: &PublishConfig) -> anyhow::Result<Option<NatsSettings>> {
    let Some(url) = &config.nats else { return Ok(None) };
    let secret = config.credentials.as_ref();
    let credentials = secret.map(|secret| secret.resolve("publish.credentials")).transpose();
    Ok(Some(NatsSettings {
        urls: vec![url.clone()],
        credentials: credentials.context("the credentials of the public subjects")?,
        tls_ca: None,
        tls_client: None,
        tls_required: false,
        replicas: config.replicas.unwrap_or(1),
        monitors: Vec::new(),
        client_name: CLIENT_NAME.to_owned(),
    }))
}
