//! Real NATS servers on loopback, single or three in a cluster, in a directory that goes with them.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tally_log::LogName;
use tally_log::nats::{Nats, NatsSettings};
use tempfile::TempDir;

/// Accounts of each server; what one holds the others do not see.
const ACCOUNTS: usize = 40;

/// `NATS_SERVER_BIN`, or `nats-server` on the path.
#[expect(clippy::disallowed_methods, reason = "a test is configured by its environment")]
fn binary() -> PathBuf {
    std::env::var_os("NATS_SERVER_BIN").map_or_else(|| PathBuf::from("nats-server"), PathBuf::from)
}

fn free_ports<const N: usize>() -> [u16; N] {
    // All are held until all are found, so that none is found twice.
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// One server process. Killed when dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    monitor: u16,
    config: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// Starts it, again or for the first time.
    pub(crate) fn start(&mut self) {
        let output =
            std::fs::File::options().create(true).append(true).open(self.config.with_extension("log"));
        let output = output.unwrap();
        let child = Command::new(binary())
            .arg("-c")
            .arg(&self.config)
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{}: {error}; set NATS_SERVER_BIN to a nats-server", binary().display())
            });
        self.child = Some(child);
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One server or several of one cluster.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
    _dir: TempDir,
}

impl Cluster {
    /// Starts `count` servers with `sync_interval` as given, and waits until JetStream answers.
    pub(crate) async fn start(count: usize, sync_interval: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports: Vec<[u16; 3]> = (0..count).map(|_| free_ports()).collect();
        let routes: Vec<String> =
            ports.iter().map(|[_, _, route]| format!("nats://127.0.0.1:{route}")).collect();
        let mut servers = Vec::new();
        for (number, [port, monitor, route]) in ports.iter().enumerate() {
            let name = format!("n{number}");
            let cluster = if count > 1 {
                format!("cluster {{ name: test, listen: \"127.0.0.1:{route}\", routes: {routes:?} }}\n")
            } else {
                String::new()
            };
            let text = config(&name, *port, *monitor, &dir.path().join(&name), sync_interval) + &cluster;
            let config = dir.path().join(format!("{name}.conf"));
            std::fs::write(&config, text).unwrap();
            let mut server = Server { port: *port, monitor: *monitor, config, child: None };
            server.start();
            servers.push(server);
        }
        let cluster = Self { servers, _dir: dir };
        cluster.log(ACCOUNTS - 1, LogName::Main).await;
        cluster
    }

    /// How to reach it, as an account of its own.
    pub(crate) fn settings(&self, account: usize) -> NatsSettings {
        assert!(account < ACCOUNTS);
        let url = |server: &Server| format!("nats://u{account}:secret@127.0.0.1:{}", server.port);
        NatsSettings {
            urls: self.servers.iter().map(url).collect(),
            replicas: self.servers.len(),
            monitors: self.servers.iter().map(|s| format!("http://127.0.0.1:{}", s.monitor)).collect(),
            client_name: "test".to_owned(),
            ..NatsSettings::default()
        }
    }

    /// The client itself, as an account.
    pub(crate) async fn client(&self, account: usize) -> async_nats::Client {
        let options =
            async_nats::ConnectOptions::with_user_and_password(format!("u{account}"), "secret".into());
        options.connect(format!("127.0.0.1:{}", self.servers[0].port)).await.unwrap()
    }

    /// Connects as an account.
    pub(crate) async fn connect(&self, account: usize) -> Nats {
        retry("a connection", || Nats::connect(self.settings(account))).await
    }

    /// A log of an account.
    pub(crate) async fn log(&self, account: usize, name: LogName) -> tally_log::nats::NatsLog {
        let nats = self.connect(account).await;
        retry("a log", || nats.log(name)).await
    }
}

/// Tries for a minute what fails for a time.
pub(crate) async fn retry<T, Fut>(what: &str, attempt: impl Fn() -> Fut) -> T
where
    Fut: Future<Output = Result<T, tally_ports::PortError>>,
{
    let mut last = None;
    for _ in 0..300 {
        match attempt().await {
            Ok(done) => return done,
            Err(error) if error.is_transient() => last = Some(error),
            Err(error) => panic!("{what}: {error}: {:?}", std::error::Error::source(&error)),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("{what} within a minute: {last:?}")
}

fn config(name: &str, port: u16, monitor: u16, store: &Path, sync_interval: &str) -> String {
    let mut text = format!(
        "server_name: {name}\nlisten: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\n\
         jetstream {{ store_dir: {store:?}, sync_interval: {sync_interval} }}\naccounts {{\n"
    );
    for account in 0..ACCOUNTS {
        writeln!(
            text,
            "  A{account}: {{ jetstream: enabled, users: [ {{ user: u{account}, password: secret }} ] }}"
        )
        .unwrap();
    }
    text.push_str("}\n");
    text
}
