//! The log on NATS JetStream: for many machines, with one replica or three.
//!
//! What is appended is on the disks of a quorum when the server syncs before it answers (`sync_interval: always`). A
//! client cannot see that setting, so it is read from the servers' monitoring where that is configured.
//!
//! Nobody but this crate makes consumers on the log's stream (one with a wide filter stops all appends for half a
//! second); subscribers read the public subjects. Never a subject transform on the server: expectations would be
//! checked against the transformed subject.

mod append;
mod durability;
mod lease;
mod link;
mod log;
mod publisher;
mod reader;
mod streams;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::ConnectErrorKind;
use tally_events::Epoch;
use tally_ports::PortError;
use tokio::sync::watch;

pub use durability::Durability;
pub use lease::NatsLease;
pub use log::NatsLog;
pub use publisher::NatsPublisher;

use crate::LogName;
use link::Link;

/// The oldest server that has atomic batches and leases that expire.
const OLDEST_SERVER: (u64, u64) = (2, 12);
/// The largest fact with its headers must fit one message.
const PAYLOAD_BYTES_MIN: usize = 640 * 1024;

/// How to reach a NATS server, or several of one cluster.
#[derive(Debug, Clone, Default)]
pub struct NatsSettings {
    /// `nats://host:port` or `tls://host:port`, one or more of one cluster. `user:password@` in the first that has it
    /// is for all of them.
    pub urls: Vec<String>,
    /// The content of a `.creds` file.
    pub credentials: Option<String>,
    /// A file of certificates to trust, in PEM, beside or instead of the system's.
    pub tls_ca: Option<PathBuf>,
    /// Files with our own certificate and its key, in PEM.
    pub tls_client: Option<(PathBuf, PathBuf)>,
    /// Whether to refuse a connection without TLS.
    pub tls_required: bool,
    /// Replicas of each stream: 1, 3 or 5. 0 counts as 1.
    pub replicas: usize,
    /// Where the servers answer monitoring requests, `http://host:8222`, to verify that they sync: one for each replica.
    pub monitors: Vec<String>,
    /// How the connection is named on the server.
    pub client_name: String,
}

/// A connection, from which the log, leases and the publisher are made. Clones share it. It reconnects by itself.
#[derive(Debug, Clone)]
pub struct Nats {
    link: Arc<Link>,
    settings: Arc<NatsSettings>,
}

impl Nats {
    /// Connects.
    ///
    /// # Errors
    /// Persistent where the server is too old, refuses who we are, or a URL or file is wrong; transient where it
    /// cannot be reached.
    pub async fn connect(settings: NatsSettings) -> Result<Self, PortError> {
        let addresses = addresses(&settings.urls)?;
        let (connected, connects) = watch::channel(0_u64);
        let client = options(&settings, &addresses)?
            .event_callback(move |event| {
                if matches!(event, async_nats::Event::Connected) {
                    connected.send_modify(|count| *count = count.wrapping_add(1));
                }
                tracing::debug!(%event, "nats");
                std::future::ready(())
            })
            .connect(without_login(addresses)?)
            .await
            .map_err(|error| unreachable_server(&settings, error))?;
        let info = client.server_info();
        check_version(&info.version)?;
        if info.max_payload < PAYLOAD_BYTES_MIN {
            return Err(PortError::persistent(format!(
                "the NATS server takes messages of {} bytes at most: set its `max_payload` to 1MB",
                info.max_payload
            )));
        }
        Ok(Self { link: Arc::new(Link::new(client, connects)), settings: Arc::new(settings) })
    }

    /// One of the logs. Its stream is made where it is missing, and checked where it is not.
    ///
    /// # Errors
    /// Persistent where a stream of that name is set up otherwise than a log must be.
    pub async fn log(&self, name: LogName) -> Result<NatsLog, PortError> {
        let stream = streams::log(&self.link, name, self.replicas()).await?;
        let durability = durability::verify(&self.settings.monitors, self.replicas()).await;
        if name == LogName::Main {
            durability.note();
        }
        Ok(NatsLog::new(self.link.clone(), name, stream, durability))
    }

    /// Leases among all processes that use this server.
    ///
    /// # Errors
    /// As [`Nats::log`].
    pub async fn lease(&self) -> Result<NatsLease, PortError> {
        let stream = streams::leases(&self.link, self.replicas()).await?;
        Ok(NatsLease::new(self.link.clone(), stream))
    }

    /// Every lease has epochs above `floor` from now on: for a log that was restored. Nobody may hold one meanwhile.
    ///
    /// # Errors
    /// As [`Nats::log`].
    pub async fn raise_epochs(&self, floor: Epoch) -> Result<(), PortError> {
        let stream = streams::leases(&self.link, self.replicas()).await?;
        // An epoch is an entry's sequence: a purge up to one that is not there yet moves the stream there.
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            PortError::transient("the NATS server did not raise the leases' epochs").because(error)
        };
        let state = stream.get_info().await.map_err(|error| failed(error.into()))?.state;
        if state.last_sequence < floor.get() {
            let purge = stream.purge().sequence(floor.get().saturating_add(1));
            purge.await.map_err(|error| failed(error.into()))?;
        }
        Ok(())
    }

    /// The publisher of the public subjects. With the embedded log, too: then on the server of `[publish]`.
    ///
    /// # Errors
    /// As [`Nats::log`].
    pub async fn publisher(&self) -> Result<NatsPublisher, PortError> {
        let public = streams::public(&self.link, self.replicas()).await?;
        let state = streams::state(&self.link, self.replicas()).await?;
        Ok(NatsPublisher::new(self.link.clone(), public, state))
    }

    fn replicas(&self) -> usize {
        self.settings.replicas.max(1)
    }
}

fn addresses(urls: &[String]) -> Result<Vec<async_nats::ServerAddr>, PortError> {
    if urls.is_empty() {
        return Err(PortError::persistent("no url of a NATS server is configured"));
    }
    let parse = |url: &String| {
        // The URL may hold a password, so it is not in the message.
        let wrong = || PortError::persistent("a url of a NATS server is not like nats://host:4222");
        url.parse::<async_nats::ServerAddr>().map_err(|error| wrong().because(error))
    };
    urls.iter().map(parse).collect()
}

/// The same without names and passwords: the client is told them apart, and writes addresses into the process's log.
fn without_login(addresses: Vec<async_nats::ServerAddr>) -> Result<Vec<async_nats::ServerAddr>, PortError> {
    let strip = |address: async_nats::ServerAddr| {
        let mut url = address.into_inner();
        let stripped = url.set_username("").and_then(|()| url.set_password(None)).ok();
        let wrong = || PortError::persistent("a url of a NATS server is not like nats://host:4222");
        stripped.and_then(|()| async_nats::ServerAddr::from_url(url).ok()).ok_or_else(wrong)
    };
    addresses.into_iter().map(strip).collect()
}

fn options(
    settings: &NatsSettings,
    addresses: &[async_nats::ServerAddr],
) -> Result<async_nats::ConnectOptions, PortError> {
    let mut options = async_nats::ConnectOptions::new()
        .name(&settings.client_name)
        .connection_timeout(Duration::from_secs(5))
        .ping_interval(Duration::from_secs(10))
        .require_tls(settings.tls_required)
        .reconnect_delay_callback(|attempts| {
            let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
            Duration::from_millis(50).saturating_mul(attempts).min(Duration::from_secs(1))
        });
    // The client itself takes no notice of a user in a URL.
    if let Some((user, password)) = addresses.iter().find_map(|a| Some((a.username()?, a.password()?))) {
        let plain = |text| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        options = options.user_and_password(plain(user), plain(password));
    }
    if let Some(credentials) = &settings.credentials {
        options = options.credentials(credentials).map_err(|error| {
            PortError::persistent("the NATS credentials are not the content of a .creds file").because(error)
        })?;
    }
    if let Some(ca) = &settings.tls_ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let Some((certificate, key)) = &settings.tls_client {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(options)
}

fn unreachable_server(settings: &NatsSettings, error: async_nats::ConnectError) -> PortError {
    let servers = settings.urls.len();
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            PortError::persistent("the NATS server refuses our credentials").because(error)
        }
        ConnectErrorKind::Tls => {
            PortError::persistent("no secure connection to the NATS server: see to the certificates")
                .because(error)
        }
        ConnectErrorKind::ServerParse => {
            PortError::persistent("a url of a NATS server is not like nats://host:4222").because(error)
        }
        _ => PortError::transient(format!("none of {servers} NATS servers can be reached")).because(error),
    }
}

/// Refuses servers without what the log needs.
fn check_version(version: &str) -> Result<(), PortError> {
    let mut numbers = version.split(['.', '-']).map_while(|part| part.parse::<u64>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found >= OLDEST_SERVER {
        return Ok(());
    }
    let (major, minor) = OLDEST_SERVER;
    Err(PortError::persistent(format!(
        "the NATS server is version {version:?}, which has no atomic batches: upgrade it to {major}.{minor} or later"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused() {
        for (version, good) in [
            ("2.15.1", true),
            ("2.12.0", true),
            ("2.12.0-RC.3", true),
            ("3.0.0", true),
            ("2.11.9", false),
            ("2.9.10", false),
            ("1.4.1", false),
            ("", false),
        ] {
            assert_eq!(check_version(version).is_ok(), good, "{version}");
        }
        let error = check_version("2.9.10").unwrap_err();
        assert!(!error.is_transient() && error.to_string().contains("2.9.10"), "{error}");
    }

    #[test]
    fn the_client_is_given_no_password_to_write_down() {
        let urls = ["nats://tally:planted@127.0.0.1:4222", "tls://token@host", "nats://host:1"];
        let plain = without_login(addresses(&urls.map(str::to_owned)).unwrap()).unwrap();
        let plain: Vec<String> = plain.iter().map(|address| format!("{address:?}")).collect();
        assert!(!plain.concat().contains("planted") && !plain.concat().contains("token"), "{plain:?}");
        let hosts = without_login(addresses(&urls.map(str::to_owned)).unwrap()).unwrap();
        let hosts: Vec<(&str, u16)> = hosts.iter().map(|address| (address.host(), address.port())).collect();
        assert_eq!(hosts, [("127.0.0.1", 4222), ("host", 4222), ("host", 1)]);
    }

    #[tokio::test]
    async fn wrong_settings_are_named() {
        let connect = |urls: &[&str], credentials: Option<&str>| {
            Nats::connect(NatsSettings {
                urls: urls.iter().map(ToString::to_string).collect(),
                credentials: credentials.map(str::to_owned),
                ..NatsSettings::default()
            })
        };
        for (name, urls, credentials, transient) in [
            ("no url", &[][..], None, false),
            ("not of a NATS server", &["ftp://127.0.0.1"][..], None, false),
            ("bad credentials", &["nats://127.0.0.1:9"][..], Some("x"), false),
            ("nobody there", &["nats://127.0.0.1:9"][..], None, true),
        ] {
            let error = connect(urls, credentials).await.map(|_| ()).expect_err(name);
            assert_eq!(error.is_transient(), transient, "{name}: {error}");
        }
    }
}
